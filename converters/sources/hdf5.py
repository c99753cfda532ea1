"""Reading arrays from HDF5 files of strangers: plain datasets of the file itself, of sizes that it really holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from edgecnn.errors import ConversionError, MissingPackageError

FREE_BYTES = 2**20
MOST_RATIO = 1024
"""A dataset of over a MiB may not claim more than this many times the bytes that it has in the file."""


@contextmanager
def open_file(source: str | BinaryIO, name: str) -> Iterator[Any]:
    """An HDF5 file, open for reading."""
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(
            f"{name}: reading it needs h5py: pip install h5py (on 32-bit ARM, where it has no wheels: apt install python3-h5py)"
        ) from error
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise ConversionError(f"{name}: is damaged or cut short ({error}); copy or save it again") from error
    with file:
        yield file


def child(group: Any, path: str, name: str) -> Any:
    """What lies under a path in a group, by hard links only; None if nothing does.

    Raises:
        ConversionError: a link leads out of the file or around in it.
    """
    import h5py

    found = group
    for part in path.split("/"):
        if not part:
            continue
        try:
            link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise ConversionError(f"{name}: {path!r} is a link to elsewhere; that is not followed, for safety")
            found = found[part]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ConversionError(f"{name}: {path!r} cannot be read ({error}); the file is damaged") from error
    return found


def strings(group: Any, attribute: str, name: str) -> list[str] | None:
    """A list of strings from an attribute, which Keras cuts into attribute0, attribute1 ... when it is long."""
    try:
        if attribute in group.attrs:
            values = list(group.attrs[attribute])
        else:
            values, index = [], 0
            while f"{attribute}{index}" in group.attrs:
                values += list(group.attrs[f"{attribute}{index}"])
                index += 1
            if not index:
                return None
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConversionError(f"{name}: attribute {attribute!r} cannot be read ({error})") from error
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def text(group: Any, attribute: str, name: str) -> str | None:
    """A string attribute, None if it is absent."""
    try:
        value = group.attrs.get(attribute)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConversionError(f"{name}: attribute {attribute!r} cannot be read ({error})") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def array(dataset: Any, where: str) -> np.ndarray[Any, Any]:
    """A dataset's values as float32.

    Raises:
        ConversionError: it is no dataset of numbers, keeps its values elsewhere, or claims more than it holds.
    """
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise ConversionError(f"{where}: wanted an array, found {type(dataset).__name__}")
    if dataset.is_virtual or dataset.external:
        raise ConversionError(f"{where}: keeps its values in another file; that is not followed, for safety")
    if dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2 and dataset.dtype.fields is None:
        dtype = np.uint16  # Keras' bfloat16: the upper half of a float32
    elif dataset.dtype.kind in "fiu":
        dtype = None
    else:
        raise ConversionError(f"{where}: has dtype {dataset.dtype}; wanted numbers")
    if dataset.nbytes > FREE_BYTES and dataset.nbytes > MOST_RATIO * dataset.id.get_storage_size():
        raise ConversionError(
            f"{where}: claims {dataset.nbytes} bytes and holds {dataset.id.get_storage_size()}; the file is damaged"
        )
    try:
        if dtype is not None:
            return (np.asarray(dataset[()]).view(dtype).astype(np.uint32) << 16).view(np.float32)
        return np.asarray(dataset[()], np.float32)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConversionError(f"{where}: cannot be read ({error}); the file is damaged or cut short") from error
