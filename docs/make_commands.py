"""Writes docs/commands.md from the parser: python docs/make_commands.py."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from edgecnn.cli import COMMANDS, build_parser

PAGE = Path(__file__).resolve().parent / "commands.md"


def page() -> str:
    """The page."""
    with mock.patch.dict(os.environ, COLUMNS="120"):  # argparse breaks its lines by the terminal's width
        return _page()


def _page() -> str:
    parser = build_parser()
    (commands,) = (
        action.choices for action in parser._actions if hasattr(action, "choices") and action.dest == "==SUPPRESS=="
    )
    parts = [
        "# Commands",
        "",
        "Every command has `--json` for one record on stdout, says on stderr what it is doing when that takes over a second, and never",
        'overwrites a file without `--force`. On a terminal tables and colours come with `pip install "edgecnn[terminal]"`.',
        "This page is what `--help` prints.",
    ]
    for command in COMMANDS:
        text = commands[command.name].format_help().rstrip()
        parts += ["", f"## edgecnn {command.name}", "", "```text", text.partition("\n\nenvironment:")[0], "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
