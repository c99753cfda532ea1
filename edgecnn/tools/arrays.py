"""Arrays from .npy and .npz files, and to them."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.errors import DataFileError, InputError
from edgecnn.files import open_regular, replacing

Array = np.ndarray[Any, Any]

SUFFIXES = (".npy", ".npz")


def read_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, Array]:
    """The arrays of a .npy or .npz file, by input name.

    Args:
        path: a .npy file for a model with one input, or a .npz file. Pickled objects in it are refused.
        names: the model's inputs. A .npz file has an array for each of them, or, for one input, a single array of any
            name.

    Raises:
        DataFileError: the file is missing, no regular one, damaged, or holds objects.
        InputError: it does not hold the arrays wanted.
    """
    source = Path(path)
    try:
        # Opened here: np.load leaves a file that it opened and could not read to the garbage collector.
        with open_regular(source, DataFileError, "an .npy or .npz file") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _name_single(source, loaded, names)
            with loaded:
                return _pick(source, loaded, names)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if isinstance(error, InputError | DataFileError):
            raise
        raise DataFileError(f"{source}: cannot be read as {source.suffix}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "pickle" in str(error).lower():
        return "it holds no plain array of numbers (pickled data is refused: it could run code)"
    return str(error)


def _name_single(source: Path, array: Array, names: Sequence[str]) -> dict[str, Array]:
    if len(names) != 1:
        raise InputError(
            f"{source}: holds one array; the model has {len(names)} inputs: give a .npz with {list(names)}"
        )
    return {names[0]: array}


def _pick(source: Path, archive: Any, names: Sequence[str]) -> dict[str, Array]:
    found = list(archive.files)
    if set(names) <= set(found):
        return {name: archive[name] for name in names}
    if len(names) == len(found) == 1:
        return {names[0]: archive[found[0]]}
    raise InputError(f"{source}: holds arrays {found}; wanted {list(names)}, the names of the model's inputs")


def check_output(path: str | os.PathLike[str], outputs: int, overwrite: bool) -> None:
    """Say before the work what would stop `write_arrays` after it.

    Raises:
        InputError: another suffix, several outputs for .npy, or the file exists.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(f"{target}: answers are written as .npy or .npz; given {target.suffix or 'no suffix'}")
    if target.suffix.lower() == ".npy" and outputs != 1:
        raise InputError(f"{target}: a .npy file holds one array; the model has {outputs} outputs: write a .npz")
    if target.exists() and not overwrite:
        raise InputError(f"{target}: exists already; allow its replacement with --force or name another file")


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array], overwrite: bool = False) -> None:
    """Write arrays beside the target and rename: no half file is ever left.

    Args:
        path: .npy (one array) or .npz.

    Raises:
        InputError: see `check_output`.
        DataFileError: it cannot be written.
    """
    check_output(path, len(arrays), overwrite)
    target = Path(path)
    with replacing(target) as file:
        if target.suffix.lower() == ".npy":
            np.save(file, next(iter(arrays.values())))
        else:
            _save_archive(file, arrays)


def _save_archive(file: Any, arrays: Mapping[str, Array]) -> None:
    # np.savez takes the names as keyword arguments: an output called "file" would meet its own parameter.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                # Not np.ascontiguousarray, which makes an array of one axis of a single number.
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
