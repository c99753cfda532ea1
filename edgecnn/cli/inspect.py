"""edgecnn inspect: what an .ecnn file holds."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.inspect import inspect

    with progress(f"reading {arguments.model}"):
        inspection = inspect(arguments.model)
    return Answer(inspection.to_json(), str(inspection))


COMMAND = Command(
    "inspect",
    "Show what an .ecnn file holds: graph, shapes, encodings, sparsity, MACs, peak memory, metadata.",
    "edgecnn inspect model.ecnn",
    _add_arguments,
    _run,
)
