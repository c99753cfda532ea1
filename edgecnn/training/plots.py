"""Pictures, by matplotlib."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecnn.errors import DataFileError, InputError, MissingPackageError

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
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        drawn.savefig(beside, format=target.suffix[1:].lower(), dpi=150)
        os.replace(beside, target)
    except OSError as error:
        raise DataFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


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
