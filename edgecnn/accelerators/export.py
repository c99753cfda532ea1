"""A graph as a file of another format: Keras, SavedModel, ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.accelerators.onnx import write_onnx
from edgecnn.accelerators.saved_model import write_saved_model
from edgecnn.accelerators.to_keras import to_keras
from edgecnn.errors import InputError
from edgecnn.files import check_free, replacing_by_name


@dataclass(frozen=True)
class Format:
    """What a model can be exported to.

    Attributes:
        ending: of its files' or folders' names.
        write: (source, path, whether what is there may be replaced).
    """

    ending: str
    write: Callable[[Any, Path, bool], None]


def write_keras(source: Any, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a model as a .keras file, beside the target, and rename.

    Args:
        source: as for `to_keras`.
        path: ends with .keras.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: another suffix; the file exists and may not be replaced.
        DataFileError: it cannot be written.
        ModelFileError, MissingPackageError, UnsupportedLayerError: as `to_keras`.
    """
    target = Path(path)
    if target.suffix != ".keras":
        raise InputError(
            f"{target}: a Keras model is saved as .keras; given {target.suffix or 'a name without suffix'}"
        )
    check_free(target, overwrite)
    model = to_keras(source)
    with replacing_by_name(target, ".keras") as beside:
        model.save(beside)


FORMATS: Mapping[str, Format] = {
    "keras": Format(".keras", write_keras),
    "saved_model": Format("_saved_model", write_saved_model),
    "onnx": Format(".onnx", write_onnx),
}
"""By the names that `edgecnn convert --to` takes."""


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else path.stat().st_size
