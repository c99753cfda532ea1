"""edgecnn convert: a model's file becomes an .ecnn file."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgecnn import format as file_format
from edgecnn.cli.command import Answer, Command, file_name
from edgecnn.cli.progress import progress
from edgecnn.errors import DataFileError, InputError
from edgecnn.files import check_free, open_regular
from edgecnn.runtime.model import load
from edgecnn.tools.text import size_text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        help="a Keras (.h5, .hdf5, .keras), ONNX (.onnx) or LiteRT model (.tflite); with --to also an .ecnn file",
    )
    parser.add_argument(
        "-o", "--output", type=file_name, metavar="FILE", help="default: beside the model, with the suffix .ecnn"
    )
    parser.add_argument(
        "--to",
        choices=("keras", "saved_model", "onnx"),
        metavar="FORMAT",
        help="write another format in place of .ecnn: keras (.keras, to train on), saved_model (a folder for TensorFlow Serving and "
        "Triton), onnx",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "float16", "int8"),
        help="how the .ecnn file stores weights (default: float32; float16 halves the file and rounds; int8 is yet to come)",
    )
    parser.add_argument("--compress", action="store_true", help="compress the weights without loss, where that helps")
    parser.add_argument("--labels", type=file_name, metavar="FILE", help="names of the classes, UTF-8, one a line")
    parser.add_argument(
        "--config", type=file_name, metavar="FILE", help="for weights alone (.weights.h5): the JSON of model.to_json()"
    )
    parser.add_argument(
        "--input-shape",
        action="append",
        type=parse_input_shape,
        metavar="[NAME=]SIZE,SIZE,...",
        help="fix the sizes of an input that the model leaves open, without the batch, in the model's own order",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compute a golden sample, check it on this CPU and keep it in the file for `edgecnn verify`",
    )
    parser.add_argument("--force", action="store_true", help="replace the output file if it exists")


def parse_input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """("photo", (224, 224, 3)) from "photo=224,224,3"; the name may be left out."""
    name, _, sizes = text.rpartition("=")
    try:
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted sizes such as 224,224,3 or photo=224,224,3") from None


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.converters import convert

    if arguments.to:
        return _export(arguments)
    if arguments.weights == "int8":
        raise InputError(
            "--weights int8: this version does not quantize; use --weights float16 for a file half as large"
        )
    source = Path(arguments.model)
    if not source.name:
        raise InputError(f"{arguments.model!r}: wanted a model's file (.h5, .hdf5, .keras, .onnx or .tflite)")
    if source.suffix == ".ecnn" and source.exists():
        raise InputError(
            f"{source}: is an .ecnn file already; --to keras, saved_model or onnx writes it as another format"
        )
    output = Path(arguments.output) if arguments.output else source.with_suffix(".ecnn")
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"{output}: output and model are the same file; name another one with -o")
    labels = None if arguments.labels is None else _read_labels(Path(arguments.labels))
    with progress(f"converting {source}"):
        report = convert(
            source,
            output,
            weights=arguments.weights or "float32",
            compress=arguments.compress,
            labels=labels,
            overwrite=arguments.force,
            verify=arguments.verify,
            config=arguments.config,
            input_shapes=named_shapes(arguments.input_shape or []),
        )
        memory = _peak_memory(output)
    text = f"{report}\npeak memory on this CPU for one image: {size_text(memory)}"
    return Answer({**report.to_json(), "peak_memory": memory}, text)


def _export(arguments: argparse.Namespace) -> Answer:
    """Another format than ours."""
    from edgecnn.accelerators.export import FORMATS, size_of
    from edgecnn.converters import to_graph

    wrong = [name for name in ("weights", "compress", "labels", "config", "verify") if getattr(arguments, name)]
    if wrong:
        raise InputError(f"--{wrong[0]} is for .ecnn files; leave it out beside --to {arguments.to}")
    source = Path(arguments.model)
    if not source.name:
        raise InputError(f"{arguments.model!r}: wanted a model's file")
    wanted = FORMATS[arguments.to]
    output = Path(arguments.output) if arguments.output else source.with_name(f"{source.stem}{wanted.ending}")
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"{output}: output and model are the same file; name another one with -o")
    check_free(output, arguments.force)
    with progress(f"converting {source}"):
        shapes = named_shapes(arguments.input_shape or [])
        if source.suffix == ".ecnn" and shapes:
            raise InputError(f"--input-shape: {source} has its sizes already; leave it out")
        graph = file_format.read(source) if source.suffix == ".ecnn" else to_graph(source, input_shapes=shapes)
        wanted.write(graph, output, arguments.force)
    size = size_of(output)
    record = {
        "source": str(source),
        "output": str(output),
        "format": arguments.to,
        "nodes": len(graph.nodes),
        "size": size,
    }
    return Answer(record, f"{source} -> {output} ({arguments.to}): {len(graph.nodes)} nodes, {size:,} bytes")


def named_shapes(given: list[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Shapes by name. (A nameless one is for a model of one input: the converter finds its name.)"""
    shapes = dict(given)
    if len(shapes) != len(given):
        raise InputError("--input-shape: two shapes for the same input")
    return shapes


def _peak_memory(path: Path) -> int | None:
    """Bytes of weights, arena and scratch; None if they depend on the size of the images."""
    model = load(path)
    return None if any(None in spec.shape[1:] for spec in model.inputs) else model.memory.total


def _read_labels(path: Path) -> list[str]:
    """The lines of a file, without empty ones at its end."""
    try:
        with open_regular(path, DataFileError, "a text file of labels, one a line") as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: labels must be UTF-8; byte {error.start} is not") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataFileError(f"{path}: holds no labels; wanted one a line")
    return [line.strip() for line in lines]


COMMAND = Command(
    "convert",
    "Convert a Keras, ONNX or LiteRT model to an .ecnn file. Needs no TensorFlow.",
    "edgecnn convert model.h5\nedgecnn convert model.keras -o small.ecnn --weights float16 --compress --labels labels.txt\n"
    "edgecnn convert model.ecnn --to onnx",
    _add_arguments,
    _run,
    "The file is read, never run: no TensorFlow is needed, and nothing in it is executed. What stands between layers is folded into\n"
    "them, the graph is checked after every pass, and the .ecnn file is written beside its place and renamed. Layers that cannot be\n"
    "converted are listed all at once. --to writes another format: for keras that needs Keras, for saved_model TensorFlow, for onnx the\n"
    "package onnx.",
)
