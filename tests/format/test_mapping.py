"""Letting go of a mapped file's pages changes no value, and leaves other arrays alone."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

import numpy as np
import pytest

from edgecnn.format.checksum import CHUNK, checksum_of
from edgecnn.format.mapping import forget
from edgecnn.format.source import MappedFile


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if "-" in fields[0]:
            found = line.endswith(str(path))
        elif found and fields[0] == "Rss:":
            total += int(fields[1]) * 1024
    return total


@pytest.fixture
def mapped(tmp_path: Path) -> tuple[Path, memoryview, bytes]:
    data = np.random.default_rng(0).bytes(2 * CHUNK + 12345)
    path = tmp_path / "data"
    path.write_bytes(data)
    with open(path, "rb") as file:
        return path, memoryview(MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)), data


def test_a_checksum_is_that_of_all_bytes_and_keeps_few_of_them(mapped: tuple[Path, memoryview, bytes]) -> None:
    path, view, data = mapped
    assert checksum_of(view) == zlib.crc32(data)
    assert checksum_of(memoryview(data)) == zlib.crc32(data)
    if Path("/proc/self/smaps").exists():
        assert resident(path) < CHUNK // 16


def test_forgotten_values_come_back(mapped: tuple[Path, memoryview, bytes]) -> None:
    path, view, data = mapped
    array = np.frombuffer(view[64 : 64 + 8 * 2**20], np.float32).reshape(1024, -1)
    expected = np.frombuffer(data[64 : 64 + 8 * 2**20], np.float32).reshape(1024, -1)
    assert array.tobytes() == expected.tobytes()
    before = resident(path) if Path("/proc/self/smaps").exists() else 0
    forget([array])
    if before:
        assert before >= array.nbytes
        assert resident(path) <= before - array.nbytes // 2  # large pages may reach over its ends
    assert array.tobytes() == expected.tobytes()


def test_arrays_of_other_origin_are_left_alone() -> None:
    array = np.arange(5000.0)
    for given in (array, array[::2], np.frombuffer(bytes(8192), np.uint8), np.zeros(0)):
        kept = given.copy()
        forget([given])
        np.testing.assert_array_equal(given, kept)


def test_neighbours_are_let_go_together_and_what_lies_far_apart_is_not(mapped: tuple[Path, memoryview, bytes]) -> None:
    path, view, _ = mapped
    if not Path("/proc/self/smaps").exists():
        pytest.skip("only Linux tells what is in memory")
    whole = np.frombuffer(view, np.uint8)
    whole.max()
    before = resident(path)
    megabyte = 2**20
    forget([whole[5 * megabyte : 6 * megabyte], whole[:megabyte], whole[megabyte + 4096 : 2 * megabyte]])
    gone = before - resident(path)
    assert 2.75 * megabyte <= gone <= 5 * megabyte  # large pages may reach over the ends
