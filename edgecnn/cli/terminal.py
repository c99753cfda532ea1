"""What a person at a terminal sees: tables and colours by rich, where it is installed. A pipe gets plain text.

NO_COLOR (https://no-color.org) and TERM=dumb are respected: rich then leaves colours, or everything, away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TextIO

from edgecnn.tools.text import BAR, Bar, Block, Table, printable


def console(stream: TextIO | None) -> Any:
    """A rich console for a stream; None where the stream is no terminal for people, or rich is not installed."""
    try:
        if stream is None or not stream.isatty() or os.environ.get("TERM", "") == "dumb":
            return None
        from rich.console import Console
    except (ImportError, ValueError, OSError):
        return None
    return Console(file=stream, highlight=False)


def show(target: Any, blocks: Sequence[Block]) -> None:
    """Print a command's answer.

    Args:
        target: of `console`.
        blocks: lines, and tables.
    """
    from rich.text import Text

    for block in blocks:
        if isinstance(block, Table):
            target.print(_table(block))
        else:
            for line in str(block).split("\n"):
                # Never as markup: names come from files of strangers.
                target.print(Text(printable(line), style=_style(line)), soft_wrap=True)


def _style(line: str) -> str:
    if line.startswith(("warning", "over budget", "they part")):
        return "bold yellow"
    return "green" if line.startswith(("written: ", "no layer differs", "this CPU reproduces")) else ""


def _table(given: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, header_style="bold cyan", pad_edge=False, show_edge=False)
    sides = given.right.ljust(len(given.header), "l")
    bars = {i for row in given.rows for i, cell in enumerate(row) if isinstance(cell, Bar)}
    for index, (name, side) in enumerate(zip(given.header, sides, strict=True)):
        whole = side == "r" or index in bars
        drawn.add_column(
            printable(name),
            justify="right" if side == "r" else "left",
            overflow="fold",
            no_wrap=whole,
            min_width=BAR if index in bars else None,
        )
    for row in given.rows:
        drawn.add_row(*(_cell(cell) for cell in row))
    return drawn


def _cell(cell: str | Bar) -> Any:
    from rich.text import Text

    if not isinstance(cell, Bar):
        return Text(printable(cell))
    colour = ("red", "dark_orange3", "yellow", "cyan", "blue")[min(4, int(5 * cell.quality))]
    return Text(str(cell), style=colour)
