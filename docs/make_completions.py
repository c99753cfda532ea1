"""Writes edgecnn/cli/completions/ from the parser: python docs/make_completions.py (needs shtab)."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgecnn.cli import build_parser
from edgecnn.cli.completion import SHELLS

FOLDER = Path(__file__).resolve().parents[1] / "edgecnn" / "cli" / "completions"
FILES = {"model", "data", "first", "second"}
"""Positional arguments that are files; options are where their value is called FILE."""


def script(shell: str) -> str:
    """The script for a shell."""
    import shtab

    parser = build_parser()
    for single in _parsers(parser):
        for action in single._actions:
            if action.metavar == "FILE" or action.dest in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell)).rstrip("\n") + "\n"


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in SHELLS:
        (FOLDER / f"edgecnn.{name}").write_text(script(name), encoding="utf-8")
