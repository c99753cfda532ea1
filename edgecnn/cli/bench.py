"""edgecnn bench: how fast a model is here."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import DEVICE_HELP, Answer, Command
from edgecnn.cli.progress import progress


def _counts(text: str) -> list[int]:
    """Numbers with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) >= 1 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted whole numbers of at least 1, such as 1,2,4")
    return [int(part) for part in parts]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file")
    parser.add_argument("--threads", type=_counts, metavar="N,N", help="numbers of threads (default: what it may use)")
    parser.add_argument("--device", default="cpu", metavar="D", help=DEVICE_HELP)
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images in a call (default: 1)")
    parser.add_argument("--runs", type=int, metavar="N", help="calls to time (default: as many as fit in --seconds)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="time for each row (default: 2)")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.bench import bench

    with progress(f"measuring {arguments.model}") as tell:
        result = bench(
            arguments.model,
            arguments.threads,
            arguments.batch,
            arguments.runs,
            arguments.seconds,
            tell,
            arguments.device,
        )
    return Answer(result.to_json(), str(result), blocks=result.blocks())


COMMAND = Command(
    "bench",
    "Measure how fast a model is on this machine, and how close to what its CPU can.",
    "edgecnn bench model.ecnn --threads 1,2,4\nedgecnn bench model.ecnn --device gpu --batch 64",
    _add_arguments,
    _run,
    "Calls are timed one after the other, after one that is told apart. What speaks against the figures (heat, other load, a clock that\n"
    "is held back) is told with them.",
)
