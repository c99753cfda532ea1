"""Header, section table, checksums: what docs/format.md calls the container. Everything is little-endian."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from edgecnn.errors import CorruptFileError, VersionError
from edgecnn.format.checksum import Checksum
from edgecnn.format.foreign import foreign_kind
from edgecnn.format.source import PrivateCopy

MAGIC = b"\x89ECNN\r\n\x1a"
VERSION = (1, 0)
"""Of the format written here. A reader takes every file whose least reader version is not above its own."""

HEADER = struct.Struct("<8s4HQII28xI")
ENTRY = struct.Struct("<IIQQII")
ALIGNMENT = 64

GRAPH, CONSTANTS, WEIGHTS, METADATA = 1, 2, 3, 4
SECTION_NAMES = {GRAPH: "graph", CONSTANTS: "constants", WEIGHTS: "weights", METADATA: "metadata"}
REQUIRED = 1
"""Flag: a reader that does not know the section must refuse the file."""

LARGE_SECTION = 2**21
"""Bytes that take longer to sum up than a thread to start."""

MOST_SECTIONS = 1024
MOST_ITEMS = 64
"""Most numbers in one attribute. The operator table needs two for each axis; without a limit the checker would multiply
millions of sizes into one integer, which takes the square of their number."""


class Section(NamedTuple):
    """One entry of the section table: what it is, where it lies in the file, and its CRC-32."""

    kind: int
    flags: int
    offset: int
    length: int
    checksum: int

    @property
    def name(self) -> str:
        """Its name, or its number where this version knows none."""
        return SECTION_NAMES.get(self.kind, f"number {self.kind}")


def align(offset: int, alignment: int = ALIGNMENT) -> int:
    """The next multiple of an alignment."""
    return -(-offset // alignment) * alignment


def place_sections(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Offsets of sections of these lengths in a file, one after another at multiples of 64, and the file's length."""
    end = HEADER.size + ENTRY.size * len(lengths)
    offsets = []
    for length in lengths:
        offsets.append(align(end))
        end = offsets[-1] + length
    return offsets, end


def pack_head(sections: Sequence[Section], length: int) -> bytes:
    """Header and section table."""
    table = b"".join(ENTRY.pack(s.kind, s.flags, s.offset, s.length, s.checksum, 0) for s in sections)
    fields = (MAGIC, *VERSION, *(VERSION[0], 0), length, len(sections), zlib.crc32(table))
    head = HEADER.pack(*fields, 0)
    return head[:-4] + struct.pack("<I", zlib.crc32(head[:-4])) + table


def parse_head(data: memoryview, name: str) -> tuple[tuple[int, int], list[Section]]:
    """Version and sections of a file; every byte outside the sections is checked, those inside are `Checksums`' task.

    Raises:
        CorruptFileError, VersionError
    """
    if bytes(data[:8]) != MAGIC[: min(8, len(data))] or not len(data):
        kind = foreign_kind(bytes(data[:8]), name)
        found = f"starts with {bytes(data[:8])!r}, wanted {MAGIC!r}"
        if kind:
            path = "" if name == "<bytes>" else f" {name}"
            found = f"is {kind}; convert it first: edgecnn-convert{path}"
        raise CorruptFileError(f"{name}: not an .ecnn file: it {found}")
    if len(data) < HEADER.size:
        raise CorruptFileError(f"{name}: file is truncated: {len(data)} bytes, the header alone has {HEADER.size}")
    _, major, minor, least_major, least_minor, length, count, table_sum, head_sum = HEADER.unpack(data[: HEADER.size])
    if zlib.crc32(data[: HEADER.size - 4]) != head_sum or any(data[32:60]):
        raise CorruptFileError(f"{name}: header: its checksum does not match; the file was changed or damaged")
    if (least_major, least_minor) > VERSION:
        raise VersionError(
            f"{name}: needs a reader of format {least_major}.{least_minor}, this edgecnn reads up to "
            f"{VERSION[0]}.{VERSION[1]}; upgrade with: pip install --upgrade edgecnn"
        )
    if len(data) < length:
        raise CorruptFileError(f"{name}: file is truncated: {len(data)} of {length} bytes; copy it again")
    if len(data) > length:
        raise CorruptFileError(f"{name}: {len(data) - length} bytes follow the end of the file at byte {length}")
    if count > MOST_SECTIONS or HEADER.size + ENTRY.size * count > length:
        raise CorruptFileError(f"{name}: header: {count} sections cannot fit in {length} bytes")
    table = data[HEADER.size : HEADER.size + ENTRY.size * count]
    if zlib.crc32(table) != table_sum:
        raise CorruptFileError(f"{name}: section table: its checksum does not match; the file was changed or damaged")
    sections: list[Section] = []
    kinds: set[int] = set()
    end = HEADER.size + ENTRY.size * count
    for index in range(count):
        kind, flags, offset, size, checksum, zero = ENTRY.unpack_from(table, ENTRY.size * index)
        where = f"{name}: section table, entry {index} ({SECTION_NAMES.get(kind, f'number {kind}')})"
        if zero or flags & ~REQUIRED:
            raise CorruptFileError(f"{where}: unknown flags {flags:#x} or a reserved field that is not zero")
        if offset != align(end) or size > length - offset:
            raise CorruptFileError(
                f"{where}: {size} bytes at {offset}; wanted offset {align(end)} and an end within {length}"
            )
        if any(data[end:offset]):
            raise CorruptFileError(f"{name}: bytes {end} to {offset}, between sections, must be zero")
        if kind in kinds:
            raise CorruptFileError(f"{where}: the section is there twice")
        kinds.add(kind)
        if kind not in SECTION_NAMES and flags & REQUIRED:
            raise VersionError(f"{where}: this edgecnn must know the section and does not; upgrade edgecnn")
        sections.append(Section(kind, flags, offset, size, checksum))
        end = offset + size
    if end != length:
        raise CorruptFileError(f"{name}: the sections end at byte {end}, the file at {length}")
    return (major, minor), sections


class Checksums:
    """Holds all sections against their checksums: a large one while the caller goes on, the others at once."""

    def __init__(self, data: memoryview, sections: Sequence[Section], name: str) -> None:
        self.name = name
        self.copy: PrivateCopy | None = None
        self.beside: tuple[Section, Checksum] | None = None
        """The largest section, if it is a large one: in sound files the weights."""
        largest = max(sections, key=lambda section: section.length, default=None)
        for section in sections:
            if section is not largest or section.length <= LARGE_SECTION:
                self._compare(section, Checksum(_part(data, section)))
        if largest is not None and largest.length > LARGE_SECTION:
            self.beside = largest, Checksum(_part(data, largest), beside=True)
            if isinstance(data.obj, PrivateCopy):
                self.copy = data.obj
                self.copy.checksum = self.beside[1]

    def _compare(self, section: Section, checksum: Checksum) -> None:
        if checksum.value != section.checksum:
            raise CorruptFileError(
                f"{self.name}: section {section.name}: its checksum does not match; the file was changed or damaged"
            )

    def wait(self) -> None:
        """Until all are known.

        Raises:
            CorruptFileError: one is wrong.
        """
        try:
            if self.beside:
                self._compare(*self.beside)
        finally:
            if self.copy is not None:
                self.copy.checksum = None


def _part(data: memoryview, section: Section) -> memoryview:
    return data[section.offset : section.offset + section.length]
