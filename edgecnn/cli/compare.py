"""edgecnn compare: the original model's answers beside edgecnn's."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "first", help="the original: .h5, .hdf5, .keras, .onnx or .tflite, run by its own framework; or .ecnn"
    )
    parser.add_argument("second", help="an .ecnn file")
    parser.add_argument(
        "--data", metavar="FILE", help=".npy, or .npz with the input names (default: a scattered sample)"
    )


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.compare import compare

    with progress(f"comparing {arguments.first} and {arguments.second}"):
        result = compare(arguments.first, arguments.second, arguments.data)
    return Answer(result.to_json(), str(result))


COMMAND = Command(
    "compare",
    "Show the largest differences between two models' outputs.",
    "edgecnn compare model.h5 model.ecnn --data x.npz",
    _add_arguments,
    _run,
)
