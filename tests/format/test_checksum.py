"""Checksums are zlib's, by whatever instructions."""

from __future__ import annotations

import random
import zlib

import pytest

from edgecnn.format.checksum import checksum_of


@pytest.mark.parametrize("portable", [False, True])
def test_checksums_are_zlibs(portable: bool) -> None:
    data = memoryview(random.Random(0).randbytes(10**6))
    for size in (*range(300), 1023, 1024, 65537, len(data) - 16):
        for skip in (0, 1, 7, 16):
            part = data[skip : skip + size]
            assert checksum_of(part, portable) == zlib.crc32(part), (size, skip)
