"""edgecnn inspect: what an .ecnn file holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgecnn.cli.command import Answer, Command, file_name
from edgecnn.cli.progress import progress

SOURCES = (".h5", ".hdf5", ".keras", ".onnx", ".tflite")
"""What is converted on the way, in memory."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        help=f"an .ecnn file, or a model to convert in memory ({', '.join(SOURCES)}): then the passes are told as well",
    )
    parser.add_argument(
        "--html",
        type=file_name,
        metavar="FILE",
        help="write a page for the browser: the graph drawn, histograms of the weights, maps of their zeros, the passes",
    )
    parser.add_argument("--onnx", type=file_name, metavar="FILE", help="write the graph for Netron (needs onnx)")
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn import format as file_format
    from edgecnn.files import check_free, suffix_of, write_file
    from edgecnn.graph import Graph
    from edgecnn.tools.anatomy import anatomy
    from edgecnn.tools.inspect import inspect
    from edgecnn.tools.onnx import write_onnx
    from edgecnn.tools.page import render
    from edgecnn.tools.text import joined

    written = [path for path in (arguments.html, arguments.onnx) if path is not None]
    for path, suffix, what in ((arguments.html, ".html", "a page"), (arguments.onnx, ".onnx", "an ONNX graph")):
        if path is not None:
            suffix_of(path, (suffix,), what)
            check_free(path, arguments.force)
    with progress(f"reading {arguments.model}"):
        trace = passes = layers = None
        if Path(arguments.model).suffix.lower() in SOURCES:
            from edgecnn.converters import explain

            conversion = explain(arguments.model)
            graph: Graph | None = conversion.graph
            trace, passes = conversion.trace, conversion.passes
            layers = [vars(layer) for layer in conversion.layers]
            inspection = inspect(file_format.encode(conversion.graph), arguments.model)
        else:
            inspection = inspect(arguments.model)
            graph = file_format.read(arguments.model) if written else None
        if graph is not None and arguments.html is not None:
            data = anatomy(graph, inspection, trace, passes, layers)
            write_file(arguments.html, render("inspect", f"{inspection.name}: inspect", data).encode())
        if graph is not None and arguments.onnx is not None:
            write_onnx(graph, arguments.onnx)
    blocks = [*inspection.blocks(), *(f"written: {path}" for path in written)]
    return Answer({**inspection.to_json(), **({"written": written} if written else {})}, joined(blocks), blocks=blocks)


COMMAND = Command(
    "inspect",
    "Show what an .ecnn file holds: graph, shapes, encodings, sparsity, MACs, peak memory, metadata.",
    "edgecnn inspect model.ecnn\nedgecnn inspect model.keras --html model.html\nedgecnn inspect model.ecnn --onnx graph.onnx",
    _add_arguments,
    _run,
    "Of an .ecnn file: every node with its shape, parameters, MACs, bytes and share of zeros, how constants are encoded, the file's\n"
    "sections, and the memory that computing takes here. A Keras, ONNX or LiteRT file is converted in memory on the way.",
)
