"""Header, section table, and the primitives that sections are made of: what docs/format.md calls the container.

Everything is little-endian. Integers in sections are unsigned LEB128 ("varints"), in their shortest form.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.errors import CorruptFileError, GraphError, VersionError
from edgecnn.format.mapping import checksum_of

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

LARGE_SECTION = 2**20
"""Bytes that take longer to sum up than a thread to start."""

MOST_SECTIONS = 1024
MOST_RANK = 8
MOST_ITEMS = 64
"""Most numbers in one attribute. The operator table needs two for each axis; without a limit the checker would multiply
millions of sizes into one integer, which takes the square of their number."""


@dataclass(frozen=True)
class Section:
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
        raise CorruptFileError(f"{name}: not an .ecnn file: it starts with {bytes(data[:8])!r}, wanted {MAGIC!r}")
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
    """Holds all sections against their checksums: small ones at once, the others while the caller goes on."""

    def __init__(self, data: memoryview, sections: Sequence[Section], name: str) -> None:
        self.data, self.name = data, name
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None
        for section in sections:
            if section.length <= LARGE_SECTION:
                self._hold(section)
        large = [section for section in sections if section.length > LARGE_SECTION]
        if large:
            thread = threading.Thread(target=self._hold_beside, args=(large,), daemon=True)
            try:
                thread.start()
                self.thread = thread
            except RuntimeError:  # no more threads are to be had
                self._hold_beside(large)

    def _hold(self, section: Section) -> None:
        if checksum_of(self.data[section.offset : section.offset + section.length]) != section.checksum:
            raise CorruptFileError(
                f"{self.name}: section {section.name}: its checksum does not match; the file was changed or damaged"
            )

    def _hold_beside(self, sections: Sequence[Section]) -> None:
        try:
            for section in sections:
                self._hold(section)
        except BaseException as error:  # whatever it is: what could not be checked must not pass
            self.error = error

    def wait(self) -> None:
        """Until all are known.

        Raises:
            CorruptFileError: one is wrong.
        """
        if self.thread:
            self.thread.join()
        if self.error:
            raise self.error


class Output:
    """Builds a section from primitives. What a reader would refuse is a GraphError."""

    def __init__(self) -> None:
        self.data = bytearray()

    def varint(self, value: int) -> None:
        """An unsigned integer, seven bits a byte, the lowest first."""
        if not 0 <= value < 2**64:
            raise GraphError("a number is negative or longer than the 64 bits that the file has for it")
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """A signed integer, zigzag: 0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
        self.varint(value << 1 if value >= 0 else (-value << 1) - 1)

    def double(self, value: float) -> None:
        """IEEE 754 binary64."""
        self.data += struct.pack("<d", value)

    def text(self, value: str) -> None:
        """Length in bytes, then UTF-8."""
        try:
            encoded = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise GraphError(f"name {value!r} is not Unicode text: it holds half of a surrogate pair") from error
        self.varint(len(encoded))
        self.data += encoded


class Input:
    """Reads a section's primitives; every way of being wrong is a CorruptFileError that says where."""

    def __init__(self, data: memoryview, where: str) -> None:
        self.data = data
        self.size = len(data)
        self.where = where
        self.at = 0

    def fail(self, message: str) -> CorruptFileError:
        """The error for the present position."""
        return CorruptFileError(f"{self.where}, byte {self.at}: {message}")

    def varint(self, below: int | None = None, what: str = "a number") -> int:
        """An unsigned integer, less than `below` if given."""
        if self.at < self.size:
            value = self.data[self.at]
            if value < 0x80 and (below is None or value < below):  # nearly all are: worth a short way
                self.at += 1
                return value
        value = shift = 0
        while True:
            if self.at >= self.size:
                raise self.fail(f"the section ends inside {what}")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 63:
                break
        if value >= 2**64 or byte >= 0x80:
            raise self.fail(f"{what} is longer than 64 bits")
        if byte == 0 and shift > 7:
            raise self.fail(f"{what} is not in its shortest form")
        if below is not None and value >= below:
            raise self.fail(f"{what} is {value}; wanted less than {below}")
        return value

    def signed(self) -> int:
        """A zigzag integer."""
        value = self.varint()
        return value >> 1 if value & 1 == 0 else -(value >> 1) - 1

    def count(self, what: str) -> int:
        """A number of items that follow; each takes a byte at least, so that it can never exceed what is left."""
        return self.varint(self.size - self.at + 1, f"the number of {what}")

    def raw(self, size: int, what: str) -> memoryview:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise self.fail(f"{what} takes {size} bytes; {len(self.data) - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def double(self) -> float:
        """IEEE 754 binary64."""
        (value,) = struct.unpack("<d", self.raw(8, "a float"))
        return float(value)

    def text(self) -> str:
        """Length in bytes, then UTF-8."""
        encoded = self.raw(self.varint(what="a string's length"), "a string")
        try:
            return str(encoded, "utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"a string is not UTF-8: {error.reason}") from error

    def end(self) -> None:
        """Nothing may follow."""
        if self.at != len(self.data):
            raise self.fail(f"{len(self.data) - self.at} bytes follow the section's last record")
