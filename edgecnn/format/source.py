"""The bytes of an .ecnn file: a copy of its own for each reader, or the file mapped into memory."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from edgecnn.budget import Budget
from edgecnn.errors import CorruptFileError, ModelFileError
from edgecnn.files import open_regular

if TYPE_CHECKING:
    from edgecnn.format.checksum import Checksum

CHUNK = 2**23
"""Bytes that are read at a time: between two of them signals are handled, and the deadline is looked at."""

LARGE_PAGE = 2**21


ROOM = 64
"""Bytes of the widest vector: kernels load whole ones, and mask the lanes beyond an array."""


class MappedFile(mmap.mmap):
    """A file mapped into memory: pages that are let go come back from the file. Of other mappings they would come back as zeros."""


class PrivateCopy(mmap.mmap):
    """Memory that holds a copy of a file, with room for a vector behind it. It gives the pages of what is released back to the
    system.

    Attributes:
        checksum: what is still adding it up, while it must not change.
    """

    checksum: Checksum | None = None


def open_source(source: Any, mapped: bool, budget: Budget) -> tuple[memoryview, str]:
    """A file's bytes, and how to call it in errors.

    Args:
        source: a path, or the bytes. What the caller can still change is copied.
        mapped: whether a path's file is mapped, and not read.
        budget: becomes the account of the file; memory for its bytes is charged to it.

    Raises:
        CorruptFileError: the file is empty, or was cut short while it was read.
        ModelFileError: there is no such file, it is no regular one, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        budget.open("<bytes>", memoryview(source).nbytes)
        return memoryview(source if isinstance(source, bytes) else bytes(source)), "<bytes>"
    path = os.fspath(source)  # no pathlib: importing it takes as long as reading a small network
    try:
        with open_regular(path, ModelFileError, "an .ecnn file", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CorruptFileError(f"{path}: not an .ecnn file: it is empty")
            budget.open(str(path), size)
            if mapped:
                return memoryview(MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)), str(path)
            budget.hold(size, "the file's own bytes")
            return _read(file, size, path, budget), str(path)
    except ModelFileError:
        raise
    except (MemoryError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            raise ModelFileError(f"{path}: cannot be read: there is no memory for its bytes; try mmap=True") from error
        raise ModelFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _read(file: BinaryIO, size: int, path: str, budget: Budget) -> memoryview:
    """The whole of an open file, copied into memory that nobody else has."""
    if sys.platform == "linux":
        copy = PrivateCopy(-1, size + ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without large pages
                copy.madvise(mmap.MADV_HUGEPAGE)
    else:
        copy = PrivateCopy(-1, size + ROOM)
    target = memoryview(copy)[:size]
    filled = 0
    while filled < size:
        count = file.readinto(target[filled : filled + CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise CorruptFileError(
                f"{path}: file is truncated: it ended after {filled} of {size} bytes while it was read"
            )
        filled += count
        if budget.deadline is not None:
            budget.look(f"byte {filled} of {size}")
    return target.toreadonly()
