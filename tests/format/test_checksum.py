"""Checksums are zlib's, by whatever instructions, on whatever thread."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zlib

import pytest

from edgecnn.format.checksum import Checksum, checksum_of

DATA = memoryview(random.Random(0).randbytes(10**6))


@pytest.mark.parametrize("portable", [False, True])
def test_checksums_are_zlibs(portable: bool) -> None:
    for size in (*range(300), 1023, 1024, 65537, len(DATA) - 16):
        for skip in (0, 1, 7, 16):
            part = DATA[skip : skip + size]
            assert checksum_of(part, portable) == zlib.crc32(part), (size, skip)


def test_many_are_added_up_at_once() -> None:
    parts = [DATA[skip : skip + size] for size in (0, 1, 65537, len(DATA) - 7) for skip in range(7)]
    checksums = [Checksum(part, beside=True) for part in parts]
    assert [checksum.value for checksum in checksums] == [zlib.crc32(part) for part in parts]
    assert [checksum.value for checksum in checksums] == [zlib.crc32(part) for part in parts]


def test_bytes_are_not_let_go_before_they_are_added_up() -> None:
    for _ in range(20):
        data = bytearray(len(DATA))
        checksum = Checksum(memoryview(data), beside=True)
        with pytest.raises(BufferError):
            data.extend(b"more")  # which would move them
        del checksum
        data.extend(b"more")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_adds_up_by_itself() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    data = bytes(DATA) * 100
    checksum, dropped = Checksum(data, beside=True), Checksum(data, beside=True)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends it if it waits
        del dropped
        os._exit(0 if checksum.value == checksum.value == zlib.crc32(data) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert checksum.value == dropped.value == zlib.crc32(data)


WITHOUT_ROOM = """
import resource, _thread, zlib
from edgecnn.format.checksum import Checksum
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
data = bytes(range(256)) * 1000
resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 20), resource.RLIM_INFINITY))
try:
    _thread.start_new_thread(print, ("a thread",))
except RuntimeError:
    print("no thread")
print(*(Checksum(data, beside=True).value == zlib.crc32(data) for _ in range(3)))
"""


def test_without_memory_for_a_thread_they_are_added_up_all_the_same() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells how much memory a process has mapped")
    if "EDGECNN_PYTHON" in os.environ:
        pytest.skip("an emulator does not hold its programs to such a limit")
    run = subprocess.run([sys.executable, "-c", WITHOUT_ROOM], capture_output=True, text=True, cwd="/", check=False)
    assert run.stdout.splitlines() == ["no thread", "True True True"], run.stderr
