"""edgecnn tune: the fastest algorithm for each convolution, by measurement."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file")
    parser.add_argument("--threads", type=int, metavar="N", help="how many to tune for (default: what it may use)")
    parser.add_argument("--again", action="store_true", help="measure even if it has been done here")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.tune import tune

    with progress(f"tuning {arguments.model}") as tell:
        result = tune(
            arguments.model, arguments.threads, arguments.again, lambda done, most: tell(f"tuning: {done} of {most}")
        )
    return Answer(result.to_json(), str(result))


COMMAND = Command(
    "tune",
    "Measure which algorithm is the fastest for each convolution here, for load(tune=True).",
    "edgecnn tune model.ecnn --threads 2",
    _add_arguments,
    _run,
    "The result is kept in EDGECNN_CACHE, or the user's cache folder, for edgecnn.load(..., tune=True).",
)
