"""Files, read and written: what is read is a regular file, what is written goes beside the target, then in its place, so that no half
file is ever left.

Where the system can, what is written has no name before it is whole (Linux' O_TMPFILE), so that a process that is killed leaves
nothing. Elsewhere, and for a moment where a file is replaced, it is a `.part` file beside the target, which its writer holds
locked: the next write to the same target removes those that nobody holds. docs/decisions/writing_files.md has the reasons.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from edgecnn.errors import DataFileError, Error, InputError, ModelFileError

# No pathlib: `import edgecnn` reads this module, and pathlib takes a sixth of that time.

Failure = type[DataFileError] | type[ModelFileError]

RANDOM, PART = 6, ".part"
"""Random bytes in the name of a file beside the target, written in hexadecimal; what the name ends with."""

LONGEST_NAME = 255
"""Bytes of a file's name, where the system does not tell."""

COPIED = 2**20
"""Bytes that are copied at a time."""

FORGOTTEN_SECONDS = 86400.0
"""Age of a `.part` file from which on it is removed where locks cannot tell whether its writer lives."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(
    path: str | os.PathLike[str], failure: Callable[[str], Error], wanted: str, buffering: int = -1
) -> BinaryIO:
    """A regular file, open for reading. What is none is refused at once: a pipe would keep its reader for ever, a device may never end.

    Args:
        failure: makes what is raised of a message.
        wanted: what should be there, for the error ("an .ecnn file").
        buffering: as for `open`.

    Raises:
        What `failure` makes: there is no such file, it is a folder, a pipe, a device or a socket, or it cannot be opened.
    """
    name = os.fspath(path)
    try:
        _check_regular(name, os.stat(name).st_mode, failure, wanted)  # before it is opened: devices may heed that
        file = open(name, "rb", buffering=buffering, opener=_open_without_waiting)  # noqa: SIM115
    except Error:
        raise
    except FileNotFoundError as error:
        raise failure(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        raise failure(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        _check_regular(name, os.fstat(file.fileno()).st_mode, failure, wanted)  # another may have taken its place
    except BaseException:
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    """A file descriptor, at once: a pipe that nobody writes to would keep the reader for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(name: str, mode: int, failure: Callable[[str], Error], wanted: str) -> None:
    if not stat.S_ISREG(mode):
        raise failure(f"{name}: is {_kind(mode)}; wanted {wanted}")


def _kind(mode: int) -> str:
    """What no regular file is."""
    return next((what for is_one, what in _KINDS if is_one(mode)), "no file")


def suffix_of(path: str | os.PathLike[str], suffixes: Sequence[str], what: str) -> str:
    """Which of some suffixes a path ends with; the longest that fits.

    Args:
        what: is written, for the error ("a profile").

    Raises:
        InputError: it ends with none.
    """
    name = os.path.basename(os.fspath(path)).lower()
    fitting = [suffix for suffix in suffixes if name.endswith(suffix) and name != suffix]
    if not fitting:
        raise InputError(
            f"{path}: {what} is saved as {', '.join(suffixes)}; given "
            f"{os.path.splitext(os.fspath(path))[1] or 'a name without suffix'}"
        )
    return max(fitting, key=len)


def check_free(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Say before the work that a file would be replaced, or that what is there cannot be.

    Raises:
        InputError: it exists, and may not be replaced.
        DataFileError: it is no file (a folder, a device, a pipe): such things are never replaced.
    """
    target = os.fspath(path)
    if os.path.exists(target) and not overwrite:
        raise InputError(
            f"{target}: exists already; allow its replacement with --force (overwrite=True), or name another file"
        )
    with _reported(target, DataFileError):
        _replaceable(os.path.realpath(target), DataFileError)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, in place of one that may be there.

    Raises:
        DataFileError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: str | os.PathLike[str], failure: Failure = DataFileError) -> Iterator[BinaryIO]:
    """A file to write into; it takes the target's place at the end, whole and on the disk, and leaves nothing after an error.

    A link stays, and what it leads to is replaced. The mode of a file that is replaced stays, and its owner where this process
    may give files away.

    Args:
        failure: what is raised.

    Raises:
        DataFileError, or `failure`: it cannot be written, or what is there is a folder, a device, a pipe or a socket.
    """
    with _reported(os.fspath(path), failure):
        target = os.path.realpath(path)
        before = _replaceable(target, failure)
        folder, name = os.path.split(target)
        _remove_forgotten(folder, name)
        descriptor, beside = _unnamed(folder), ""
        if descriptor is None:
            descriptor, beside = _named(folder, name, PART)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                if before is not None:
                    _take_after(descriptor, before)
                os.fsync(descriptor)
                if not beside:
                    try:
                        beside = _give_name(descriptor, folder, name, before is None)
                    except PermissionError:  # Android lets no program make links
                        _put_copy(descriptor, target, before)
                if beside and os.name != "nt":  # while it is locked
                    os.replace(beside, target)
            if beside and os.name == "nt":  # which moves no file that is open
                os.replace(beside, target)
            _keep_names(folder)
        finally:
            _remove(beside)


@contextmanager
def replacing_by_name(path: str | os.PathLike[str], suffix: str) -> Iterator[str]:
    """As `replacing`, for libraries that write to a path: gives the path of an empty file beside the target.

    Args:
        suffix: that the path must end with, for the library.

    Raises:
        DataFileError: as `replacing`.
    """
    with _reported(os.fspath(path), DataFileError):
        target = os.path.realpath(path)
        before = _replaceable(target, DataFileError)
        folder, name = os.path.split(target)
        _remove_forgotten(folder, name)
        descriptor, beside = _named(folder, name, PART + suffix)
        try:
            if os.name == "nt":  # which lets nobody else write to a file that is open
                os.close(descriptor)
                descriptor = -1
            yield beside
            with open(beside, "rb+") as written:  # the library may have made another file of that name
                if before is not None:
                    _take_after(written.fileno(), before)
                os.fsync(written.fileno())
            os.replace(beside, target)
            _keep_names(folder)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            _remove(beside)


@contextmanager
def _reported(target: str, failure: Failure) -> Iterator[None]:
    """Says of an error of the system what could not be written."""
    try:
        yield
    except (DataFileError, ModelFileError):
        raise
    except OSError as error:
        raise failure(f"{target}: cannot be written: {error.strerror or error}") from error


def _replaceable(target: str, failure: Failure) -> os.stat_result | None:
    """What is known of the file that will be replaced; None if there is none."""
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        return found
    raise failure(f"{target}: is {_kind(found.st_mode)}, which is never replaced; name a file")


def _unnamed(folder: str) -> int | None:
    """A file without a name, on the disk of a folder; None where there are none."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        # What a system, or a file system, says that does not know it; all else is said of a named file, too.
        if error.errno in (errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
            return None
        raise


def _give_name(descriptor: int, folder: str, name: str, free: bool) -> str:
    """Gives a file its name: at once where it replaces nothing, else one beside the target, which is given back."""
    _lock(descriptor)
    source, place = f"/proc/self/fd/{descriptor}", os.open(folder or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if free:
            with contextlib.suppress(FileExistsError):  # somebody else was faster: it is replaced
                os.link(source, name, dst_dir_fd=place, follow_symlinks=True)
                return ""
        beside = _name_beside(folder, name, PART)
        os.link(source, os.path.basename(beside), dst_dir_fd=place, follow_symlinks=True)
        return beside
    finally:
        os.close(place)


def _put_copy(descriptor: int, target: str, before: os.stat_result | None) -> None:
    """Puts a copy of a file that cannot be given a name in the target's place."""
    folder, name = os.path.split(target)
    copy, beside = _named(folder, name, PART)
    try:
        with os.fdopen(copy, "wb") as file:
            os.lseek(descriptor, 0, os.SEEK_SET)
            while chunk := os.read(descriptor, COPIED):
                file.write(chunk)
            file.flush()
            if before is not None:
                _take_after(copy, before)
            os.fsync(copy)
            os.replace(beside, target)
    except BaseException:
        _remove(beside)
        raise


def _named(folder: str, name: str, ending: str) -> tuple[int, str]:
    """A new file beside a target, locked, and its path."""
    while True:
        beside = _name_beside(folder, name, ending)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return descriptor, beside
        os.close(descriptor)  # another writer came between, and took it for a forgotten one


def _name_beside(folder: str, name: str, ending: str) -> str:
    return os.path.join(folder, f"{_stem(folder, name)}{os.urandom(RANDOM).hex()}{ending}")


def _stem(folder: str, name: str) -> str:
    """What the names of all files beside a target begin with; short enough for any file system."""
    try:
        longest = os.pathconf(folder or ".", "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # no POSIX system
        longest = LONGEST_NAME
    if len(os.fsencode(name)) + len("..") + 2 * RANDOM + len(f"{PART}.keras") > longest:
        import hashlib  # here: few need it

        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}."


def _remove_forgotten(folder: str, name: str) -> None:
    """Remove what writers of the same target have left that were killed."""
    stem = _stem(folder, name)
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            random, dot, ending = entry.name.removeprefix(stem).partition(".")
            if (
                entry.name.startswith(stem)
                and len(random) == 2 * RANDOM
                and set(random) <= set("0123456789abcdef")
                and f"{dot}{ending}".startswith(PART)
                and entry.is_file(follow_symlinks=False)
                and _is_forgotten(entry.path)
            ):
                _remove(entry.path)


def _is_forgotten(path: str) -> bool:
    """Whether the writer of a `.part` file is gone."""
    try:
        import fcntl
    except ImportError:
        return True  # Windows removes no file that somebody holds open
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS locks only what is open for writing
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return time.time() - os.fstat(descriptor).st_mtime > FORGOTTEN_SECONDS
    else:
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Tell other writers that this one lives."""
    try:
        import fcntl
    except ImportError:
        return
    with contextlib.suppress(OSError):  # a file system without locks: its age tells
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _take_after(descriptor: int, before: os.stat_result) -> None:
    """Give a file the owner and the mode of the one that it replaces."""
    if not hasattr(os, "fchown"):
        return
    mode = stat.S_IMODE(before.st_mode)
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except OSError:  # it stays this process' own, and must lend nobody its rights
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
            try:
                os.fchown(descriptor, -1, before.st_gid)
            except OSError:  # nor give another group those of the one before
                mode &= ~stat.S_IRWXG
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, mode)


def _keep_names(folder: str) -> None:
    """Have a folder's names reach the disk, where the system can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    if path:
        with contextlib.suppress(OSError):
            os.unlink(path)
