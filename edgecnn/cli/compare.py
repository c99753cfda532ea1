"""edgecnn compare: the original model's answers beside edgecnn's."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command, file_name
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "first", help="the original: .h5, .hdf5, .keras, .onnx or .tflite, run by its own framework; or .ecnn"
    )
    parser.add_argument("second", help="an .ecnn file")
    parser.add_argument(
        "--data",
        type=file_name,
        metavar="FILE",
        help=".npy, or .npz with the input names (default: a scattered sample)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        metavar="T",
        help="largest error of a layer, as a part of its largest value, that counts as the same (default: 0.001)",
    )
    parser.add_argument("--no-layers", action="store_true", help="compare the outputs alone")
    parser.add_argument(
        "--save",
        action="append",
        default=[],
        type=file_name,
        metavar="FILE",
        help=".html (a page), .png (a picture; needs matplotlib) or .json; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.errors import InputError
    from edgecnn.files import check_free, suffix_of
    from edgecnn.tools.compare import SUFFIXES, compare, save
    from edgecnn.tools.text import joined

    if not arguments.tolerance > 0:
        raise InputError(f"--tolerance {arguments.tolerance}: wanted a number above zero")
    for path in arguments.save:
        suffix_of(path, SUFFIXES, "a comparison")
        check_free(path, arguments.force)
    with progress(f"comparing {arguments.first} and {arguments.second}"):
        result = compare(
            arguments.first, arguments.second, arguments.data, not arguments.no_layers, arguments.tolerance
        )
        for path in arguments.save:
            save(result, path)
    blocks = [*result.blocks(), *(f"written: {path}" for path in arguments.save)]
    record = {**result.to_json(), **({"written": arguments.save} if arguments.save else {})}
    return Answer(record, joined(blocks), blocks=blocks)


COMMAND = Command(
    "compare",
    "Show the largest differences between two models' outputs and layers, and the first layer where they part.",
    "edgecnn compare model.h5 model.ecnn --data x.npz\nedgecnn compare before.ecnn after.ecnn --save apart.html",
    _add_arguments,
    _run,
    "Each node of the second model is held against the layer of the first that gives the same: the largest difference as a part of the\n"
    "layer's largest value. The first one over the tolerance is where the models part. Beside ONNX and LiteRT files only outputs can\n"
    "be seen.",
)
