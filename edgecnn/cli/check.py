"""edgecnn check: what a model will cost on a device, before it is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgecnn.cli.command import Answer, Command
from edgecnn.cli.convert import named_shapes, parse_input_shape
from edgecnn.cli.progress import progress
from edgecnn.errors import InputError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from edgecnn.tools.devices import DEVICES

    parser.add_argument("model", help="a Keras (.h5, .keras), ONNX or LiteRT model, trained or not, or an .ecnn file")
    parser.add_argument(
        "--target", choices=("here", *DEVICES), default="here", help="for which device (default: here, measured)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="default: here what the process may use, else all cores"
    )
    parser.add_argument("--max-ms", type=float, metavar="MS", help="budget for the latency of one image")
    parser.add_argument("--max-mb", type=float, metavar="MB", help="budget for weights and intermediate tensors")
    parser.add_argument("--max-kb", type=float, metavar="KB", help="budget for the file")
    parser.add_argument("--measure", action="store_true", help="measure the latency here as well, to compare")
    parser.add_argument(
        "--input-shape",
        action="append",
        type=parse_input_shape,
        metavar="[NAME=]SIZE,SIZE,...",
        help="sizes of an input that the model leaves open, without the batch",
    )


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn import format as file_format
    from edgecnn.tools.check import check

    for name in ("max_ms", "max_mb", "max_kb"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: wanted a number above zero")
    if arguments.measure and arguments.target != "here":
        raise InputError(f"--measure: only this machine can be measured; leave --target {arguments.target} out")
    shapes = named_shapes(arguments.input_shape or [])
    with progress(f"checking {arguments.model}"):
        if Path(arguments.model).suffix.lower() == ".ecnn":
            graph = file_format.read(arguments.model)
            shapes = {name if name else graph.inputs[0].name: shape for name, shape in shapes.items()}
        else:
            from edgecnn.converters import to_graph

            graph, shapes = to_graph(arguments.model, input_shapes=shapes), {}
        result = check(
            graph,
            arguments.model,
            arguments.target,
            arguments.threads,
            shapes,
            max_ms=arguments.max_ms,
            max_mb=arguments.max_mb,
            max_kb=arguments.max_kb,
            measure=arguments.measure,
        )
    complaint = f"over budget: {'; '.join(result.over)}" if result.over else ""
    return Answer(result.to_json(), str(result), complaint, 6 if result.over else 0, result.blocks())


COMMAND = Command(
    "check",
    "Predict latency, memory and file of a model on a device, and which technique would help most where.",
    "edgecnn check model.keras\nedgecnn check model.keras --target pi-zero-2w --max-ms 100 --max-mb 50 --max-kb 4000",
    _add_arguments,
    _run,
    "The time is predicted by the cost model of docs/cost-model.md: on this machine from what it is measured to do in half a second,\n"
    "for a Raspberry Pi from its data sheet, as an estimate. File and memory are exact. With a budget that is exceeded the command\n"
    "ends with 6, so that continuous integration can hold it.",
)
