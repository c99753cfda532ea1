"""edgecnn info: CPU, build and versions, for a bug report."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.info import info

    found = info()
    return Answer(found.to_json(), str(found))


COMMAND = Command(
    "info",
    "Show CPU, build and versions: the block for a bug report.",
    "edgecnn info",
    _add_arguments,
    _run,
    "Paste it into a bug report.",
)
