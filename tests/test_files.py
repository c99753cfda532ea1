"""Writing a file: the old one or the new one whatever happens, nothing left beside it, and nothing replaced but files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgecnn
from edgecnn import files, format
from edgecnn.errors import DataFileError, InputError, ModelFileError
from edgecnn.files import check_free, open_regular, replacing, replacing_by_name, suffix_of, write_file
from small_models import mean_classifier

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes, links and pipes are POSIX'")

KILLED = """
import fcntl, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from edgecnn import files, format
from small_models import mean_classifier

folder, exists, unnamed = Path(sys.argv[1]), sys.argv[2] == "exists", sys.argv[3] == "unnamed"
graph, old = mean_classifier(), b"precious"
new = format.encode(graph)
if not unnamed:
    del os.O_TMPFILE

def write_until(last):
    # Ends like a process that is killed before its call number `last` of the system.
    count = 0

    def counted(function):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == last:
                os._exit(9)
            return function(*arguments, **options)
        return call

    for name in ("open", "link", "replace", "unlink", "fsync", "fchmod", "fchown", "close", "fstat", "lstat", "scandir"):
        setattr(os, name, counted(getattr(os, name)))
    fcntl.flock = counted(fcntl.flock)
    write = format.writer._write_to
    format.writer._write_to = counted(write)

    def half(file, *arguments):
        size = write(file, *arguments)
        file.flush()
        for cut in (0, size // 2, size):
            os.ftruncate(file.fileno(), cut)
            counted(lambda: None)()
        file.seek(0)
        return write(file, *arguments)

    format.writer._write_to = half
    format.write(graph, folder / "model.ecnn", overwrite=True)
    os._exit(0)

target, last, code = folder / "model.ecnn", 0, 9
while code == 9:
    last += 1
    if exists:
        target.write_bytes(old)
    elif target.exists():
        target.unlink()
    child = os.fork()
    if child == 0:
        write_until(last)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = target.read_bytes() if target.exists() else None
    assert found in ((old if exists else None), new), (last, found)
    beside = [p.name for p in folder.iterdir() if p != target]
    assert len(beside) <= 1 and all(name.endswith(".part") for name in beside), (last, beside)
assert code == 0, code
assert found == new
assert [p.name for p in folder.iterdir()] == ["model.ecnn"]
print(last)
"""


@pytest.mark.parametrize("exists", ["exists", "new"])
@pytest.mark.parametrize("unnamed", ["unnamed", "named"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="O_TMPFILE is Linux'")
def test_killed_at_any_call_of_the_system_it_leaves_the_old_file_or_the_new(
    exists: str, unnamed: str, tmp_path: Path
) -> None:
    arguments = [str(tmp_path), exists, unnamed, str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-P", "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    target = tmp_path / "model.ecnn"
    left = [tmp_path / f".model.ecnn.{'0a' * 6}{ending}" for ending in (".part", ".part.keras")]
    others = [
        tmp_path / name
        for name in (
            ".other.ecnn.0a0a0a0a0a0a.part",
            ".model.ecnn.part",
            ".model.ecnn.zzzzzzzzzzzz.part",
            "model.ecnn.part",
        )
    ]
    for path in (*left, *others):
        path.write_bytes(b"half")
    format.write(mean_classifier(), target)
    assert sorted(tmp_path.iterdir()) == sorted([target, *others])


def test_what_another_writer_is_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    target = tmp_path / "model.ecnn"
    with replacing(target) as slow:
        slow.write(b"slow")
        write_file(target, b"fast")
        assert target.read_bytes() == b"fast"
    assert target.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("age", [0.0, 2 * files.FORGOTTEN_SECONDS])
def test_without_locks_the_age_tells(age: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = tmp_path / f".model.ecnn.{'0a' * 6}.part"
    left.write_bytes(b"half")
    now = left.stat().st_mtime
    os.utime(left, (now - age, now - age))
    write_file(tmp_path / "model.ecnn", b"whole")
    assert left.exists() == (age == 0.0)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "model.ecnn", tmp_path / "link.ecnn"
    for exists in (False, True):
        if not exists:
            link.symlink_to(Path("real", "model.ecnn"))
        format.write(mean_classifier(), link, overwrite=True)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert edgecnn.load(target).name == mean_classifier().name
    assert [path.name for path in target.parent.iterdir()] == ["model.ecnn"]


def test_links_that_lead_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataFileError, match=r"a: (cannot be written|is no file)"):
        write_file(tmp_path / "a", b"")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755, 0o400])
def test_the_mode_of_a_file_that_is_replaced_stays(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    path.write_bytes(b"old")
    path.chmod(mode)
    format.write(mean_classifier(), path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_file_that_is_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write_file(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_rights_are_lent_by_nobody_but_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "tool"
    path.write_bytes(b"old")
    path.chmod(0o4755)
    stranger = os.stat_result((path.stat().st_mode, 0, 0, 1, 12345, 12345, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(files, "_replaceable", lambda *_: stranger)
    write_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o705  # nor are the group's rights lent to another group


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "new", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is a pipe"),
        (lambda path: path.symlink_to("/dev/null"), "is a device"),  # refused by its kind: nothing is written to it
    ],
)
def test_what_is_no_file_is_never_replaced(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    make(path)
    before = path.lstat()
    with pytest.raises(ModelFileError, match=words):
        format.write(mean_classifier(), path, overwrite=True)
    for attempt in (lambda: write_file(path, b""), lambda: check_free(path, True)):
        with pytest.raises(DataFileError, match=words):
            attempt()
    with pytest.raises(InputError, match="exists already"):
        check_free(path, False)
    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket"),
    ],
)
@pytest.mark.parametrize(
    "looked", [True, False]
)  # the look before it is opened; False: it took the place of a file after it
def test_what_is_no_file_is_refused_by_its_kind(
    make: Callable[[Path], object], words: str, looked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    make(path)
    if not looked:
        file = tmp_path.stat()[1:]
        monkeypatch.setattr(files.os, "stat", lambda path: os.stat_result((stat.S_IFREG | 0o600, *file)))
        words = {"a folder": "Is a directory", "a socket": "cannot be read"}.get(words, words)
    with pytest.raises(DataFileError, match=rf"x\.npy: .*{words}"):
        open_regular(path, DataFileError, "an .npy file")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none: no such file$"):
        open_regular(tmp_path / "none", ModelFileError, "a model")
    with pytest.raises(DataFileError, match=r"cannot be read: .*null"):
        open_regular("a\0b", DataFileError, "a model")
    (tmp_path / "file").write_bytes(b"all of it")
    with pytest.raises(DataFileError, match="file/x: cannot be read: Not a directory"):
        open_regular(tmp_path / "file" / "x", DataFileError, "a model")
    with open_regular(tmp_path / "file", DataFileError, "a model") as file:
        assert file.read() == b"all of it"


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("name", ["n" * 250, "é" * 125, "n" * 255])
def test_long_names_can_be_written(name: str, unnamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    for content in (b"one", b"two"):
        write_file(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
    with replacing_by_name(tmp_path / name, ".keras") as beside:
        Path(beside).write_bytes(b"three")
    assert (tmp_path / name).read_bytes() == b"three"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_a_disk_that_is_full_costs_an_error_and_nothing_else(
    exists: bool, unnamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "large"
    if exists:
        path.write_bytes(b"precious")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataFileError, match="large: cannot be written: File too large"):
            write_file(path, bytes(10**6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"precious"] if exists else [])


@pytest.mark.parametrize("write", [replacing, lambda path: replacing_by_name(path, ".keras")])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_while_writing_leaves_the_old_file(write: Callable, error: type, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), write(path):
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_where_there_are_no_files_without_a_name_there_are_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: object, flags: int, *rest: object, **options: object) -> int:
        if flags & getattr(os, "O_TMPFILE", 0) == getattr(os, "O_TMPFILE", -1):
            raise OSError(95, "Operation not supported")
        return real(path, flags, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    write_file(tmp_path / "file", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]


@pytest.mark.parametrize("old", [None, b"precious"])
def test_where_no_links_may_be_made_a_copy_takes_the_place(
    old: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Android, whose security policy forbids them."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
        path.chmod(0o640)
    monkeypatch.setattr(os, "link", forbidden)
    content = os.urandom(files.COPIED + 17)
    write_file(path, content)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]
    if old is not None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_suffixes_are_those_of_the_name() -> None:
    assert suffix_of("a/b.HTML", (".html", ".json"), "a page") == ".html"
    with pytest.raises(InputError, match=r"a page is saved as .html; given .txt"):
        suffix_of("a.txt", (".html",), "a page")
