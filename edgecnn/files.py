"""Files that people asked for: beside the target and renamed, so that no half file is ever left."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgecnn.errors import DataFileError, InputError


def suffix_of(path: str | os.PathLike[str], suffixes: Sequence[str], what: str) -> str:
    """Which of some suffixes a path ends with; the longest that fits.

    Args:
        what: is written, for the error ("a profile").

    Raises:
        InputError: it ends with none.
    """
    name = Path(path).name.lower()
    fitting = [suffix for suffix in suffixes if name.endswith(suffix) and name != suffix]
    if not fitting:
        raise InputError(
            f"{path}: {what} is saved as {', '.join(suffixes)}; given {Path(path).suffix or 'a name without suffix'}"
        )
    return max(fitting, key=len)


def check_free(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Say before the work that a file would be replaced.

    Raises:
        InputError: it exists, and may not be replaced.
    """
    if Path(path).exists() and not overwrite:
        raise InputError(f"{path}: exists already; allow its replacement with --force or name another file")


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, in place of one that may be there.

    Raises:
        DataFileError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file beside the target to write into; it takes the target's place at the end, and leaves nothing after an error.

    Raises:
        DataFileError: it cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise DataFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
