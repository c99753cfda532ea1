"""edgecnn run: a model's answers for a picture or an array file."""

from __future__ import annotations

import argparse
import math

from edgecnn.cli.command import DEVICE_HELP, Answer, Command, file_name
from edgecnn.cli.progress import progress


def _number(text: str) -> float:
    """A number, also as a fraction ("1/255", "1/127.5")."""
    above, slash, below = text.partition("/")
    try:
        number = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0.5 or 1/255")
    return number


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number of at least 1")
    return int(text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file")
    parser.add_argument(
        "data",
        help="a picture (resized to the model's input; needs Pillow), .npy, or .npz with the model's input names",
    )
    parser.add_argument("--top", type=_count, default=5, metavar="N", help="classes to show (default: 5)")
    parser.add_argument(
        "--scale",
        type=_number,
        metavar="X",
        help="multiply the values by this, e.g. 1/255 (default for pictures: as the model's metadata say, else values "
        "stay 0 to 255)",
    )
    parser.add_argument("--offset", type=_number, metavar="X", help="then add this, e.g. -1")
    parser.add_argument("--threads", type=_count, metavar="N", help="default: what the process may use")
    parser.add_argument("--device", default="cpu", metavar="D", help=DEVICE_HELP)
    parser.add_argument("--output", type=file_name, metavar="FILE", help="write the answers to this .npy or .npz file")
    parser.add_argument("--force", action="store_true", help="replace the output file if it exists")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.runtime.model import load
    from edgecnn.tools.arrays import check_output, write_arrays
    from edgecnn.tools.images import Preprocessing
    from edgecnn.tools.run import answer_file

    given = {name: value for name in ("scale", "offset") if (value := getattr(arguments, name)) is not None}
    with progress(f"running {arguments.model}"):
        model = load(arguments.model, threads=arguments.threads, device=arguments.device)
        if arguments.output:
            check_output(arguments.output, len(model.outputs), arguments.force)
        answers = answer_file(model, arguments.data, Preprocessing(**given) if given else None, arguments.top)
        if arguments.output:
            write_arrays(arguments.output, answers.outputs, arguments.force)
    record = {"model": arguments.model, "data": arguments.data, **answers.to_json()}
    text = str(answers)
    if arguments.output:
        record["written"] = arguments.output
        text += f"\nwritten: {arguments.output}"
    return Answer(record, text)


COMMAND = Command(
    "run",
    "Run a model on a picture or an array and show the classes of the highest values.",
    "edgecnn run model.ecnn photo.jpg --top 5\n"
    "edgecnn run model.ecnn photo.jpg --scale 1/127.5 --offset -1\n"
    "edgecnn run model.ecnn images.npy --output answers.npy",
    _add_arguments,
    _run,
    "The classes of the highest values are shown, with their names if the file has them. A picture is resized to the model's input and\n"
    "scaled as the model's metadata say.",
)
