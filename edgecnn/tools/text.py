"""Text for people: tables, sizes, and names made safe for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.errors import printable as printable

BAR = 10
"""Characters of a full bar."""


@dataclass(frozen=True)
class Bar:
    """A share as a bar in a table's cell.

    Attributes:
        share: of the full length, 0 to 1.
        quality: 0 (bad) to 1 (good), for its colour.
    """

    share: float
    quality: float

    def __str__(self) -> str:
        eighths = round(8 * BAR * min(1.0, max(0.0, self.share)))
        last: str = " ▏▎▍▌▋▊▉"[eighths % 8]
        return "█" * (eighths // 8) + last.strip()


@dataclass(frozen=True)
class Table:
    """Columns with a header; `right` as for `table`. Bars are for terminals: plain text leaves their columns out."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Bar]]
    right: str = ""

    def __str__(self) -> str:
        drawn = {i for row in self.rows for i, cell in enumerate(row) if isinstance(cell, Bar)}
        kept = [i for i in range(len(self.header)) if i not in drawn]
        sides = self.right.ljust(len(self.header), "l")
        rows = [[str(row[i]) for i in kept] for row in self.rows]
        return table([self.header[i] for i in kept], rows, "".join(sides[i] for i in kept))


Block = str | Table


def joined(blocks: Sequence[Block]) -> str:
    """Lines and tables as plain text."""
    return "\n".join(map(str, blocks))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Columns, two spaces apart.

    Args:
        right: "r" or "l" for each column: aligned right or left; left where it is too short.
    """
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    sides = right.ljust(len(header), "l")
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in cells
    )


def size_text(size: int | None) -> str:
    """A number of bytes in the unit that suits it: "812 bytes", "14.2 kB"."""
    if size is None:
        return "unknown"
    if size < 1000:
        return f"{size} bytes"
    value = float(size)
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} GB"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape with the batch as N and other unknown sizes as ?: "N x 224 x 224 x 3"."""
    return " x ".join("N" if i == 0 and s is None else "?" if s is None else str(s) for i, s in enumerate(shape))


def count_text(count: int | None) -> str:
    """A count with separators, "unknown" for None."""
    return "unknown" if count is None else f"{count:,}"
