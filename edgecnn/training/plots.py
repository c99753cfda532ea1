"""Pictures, by matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecnn.errors import InputError, MissingPackageError
from edgecnn.files import replacing

SUFFIXES = (".png", ".svg", ".pdf")


def figure() -> Any:
    """An empty figure that needs no display.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError('plots need matplotlib: pip install "edgecnn[train]"') from error
    return Figure(figsize=(7, 4.5), layout="constrained")


def save(drawn: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure beside the target and rename.

    Raises:
        InputError: another suffix than .png, .svg or .pdf.
        DataFileError: it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(f"{target}: pictures are written as .png, .svg or .pdf")
    with replacing(target) as file:
        drawn.savefig(file, format=target.suffix[1:].lower(), dpi=150)


def draw_history(history: Mapping[str, Sequence[float]], path: str | os.PathLike[str]) -> None:
    """Loss and metrics against epochs."""
    drawn = figure()
    axes = drawn.subplots()
    for name, values in history.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", label=name)
    axes.set_xlabel("epoch")
    if history:
        axes.legend()
    save(drawn, path)
