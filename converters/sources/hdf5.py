"""Reading HDF5 files of strangers: groups, attributes of text, and arrays of numbers, as Keras writes them; nothing else.

The format's own library loops for ever over a heap object of size 0, cannot be interrupted, and follows links out of the file.
This reader takes part after part, each within the file; what it reads and computes in all is bounded by the file's size.
docs/decisions/hdf5.md tells what was measured, and which parts of the format are left out.

Source: HDF5 File Format Specification 3.0, https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, NamedTuple

import numpy as np

from edgecnn.errors import ConversionError
from edgecnn.files import open_regular

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1
FREE_BYTES = 2**20
MOST_RATIO = 1024
"""A compressed array of over a MiB may not claim more than this many times the bytes that it has in the file; deflate cannot."""
LEAST_UNPACKED = 2**26
MOST_UNPACKED = 64
"""All compressed arrays together: 64 MiB, or this many times the file."""
MOST_READ_AGAIN = 64
"""All arrays together, each counted as often as it is read, in sizes of the file."""
MOST_PARSED = 16
"""What tells where things lie may be read this often, in sizes of the file: in sound files each part is read once."""
MOST_DEPTH = 64
MOST_RANK = 32
PIECE = 2**24


class _Damaged(Exception):
    """What is wrong with the file, where the name of file and object are not known."""


class _Refused(_Damaged):
    """What is not read, in a file that may be sound."""


def _error(where: str, problem: _Damaged) -> ConversionError:
    if isinstance(problem, _Refused):
        return ConversionError(f"{where}: {problem}")
    return ConversionError(f"{where}: {problem}; the file is damaged or cut short: copy or save it again")


class _Cursor:
    """Fields one after the other, from bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count < 0 or self.at + count > len(self.data):
            raise _Damaged("a part of it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(count), "little")

    def text(self) -> bytes:
        """Up to the next zero."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise _Damaged("a name in it has no end")
        name = self.data[self.at : end]
        self.at = end + 1
        return name

    def pad(self, start: int, to: int = 8) -> None:
        """Skip to a multiple of `to` bytes behind `start`."""
        self.at += -(self.at - start) % to


class _Message(NamedTuple):
    kind: int
    data: bytes


class _Type(NamedTuple):
    """How one value lies in the file.

    Attributes:
        kind: "number", "bfloat16", "text", "text elsewhere" (in a heap), or what else it is, for messages.
        size: bytes.
        dtype: of numbers.
    """

    kind: str
    size: int
    dtype: str = ""


class _Link(NamedTuple):
    """Where a name leads: an address in the file, or None and what the link is."""

    address: int | None
    kind: str = "hard"


@dataclass(frozen=True)
class _Attribute:
    type: _Type
    shape: tuple[int, ...]
    data: bytes


class File:
    """An open HDF5 file, or a part of a file that is one.

    Args:
        stream: open for reading.
        start, size: the part.
        name: for messages.
    """

    def __init__(self, stream: IO[bytes], start: int, size: int, name: str) -> None:
        self.stream, self.start, self.size, self.name = stream, start, size, name
        self.parsed = MOST_PARSED * size + 2**16
        self.unpacked = max(LEAST_UNPACKED, MOST_UNPACKED * size)
        self.readable = MOST_READ_AGAIN * size + LEAST_UNPACKED
        self.extents: list[tuple[int, int]] = []
        self._objects: dict[int, Group] = {}
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._new_heaps: dict[int, _Heap] = {}

    def object(self, address: int, path: str) -> Group:
        """The object at an address; once for each, so that its parts are read once."""
        if address not in self._objects:
            self._objects[address] = Group(self, address, path)
        return self._objects[address]

    def heap(self, address: int) -> _Heap:
        """The heap of the newer kind at an address."""
        if address not in self._new_heaps:
            self._new_heaps[address] = _Heap(self, address)
        return self._new_heaps[address]

    def at(self, address: int, count: int) -> bytes:
        """A part of the structure.

        Raises:
            _Damaged: it is not within the file, or too much has been read of a file of this size.
        """
        if address < 0 or count < 0 or address + count > self.size:
            raise _Damaged(f"a part of it lies at byte {address}, behind its end")
        self.parsed -= count + 16
        if self.parsed < 0:
            raise _Damaged("its parts refer to each other without end")
        self.stream.seek(self.start + address)
        data = self.stream.read(count)
        if len(data) != count:
            raise _Damaged("it became shorter while it was read")
        return data

    def cursor(self, address: int, count: int, signature: bytes = b"") -> _Cursor:
        """A part of the structure that begins with a signature."""
        cursor = _Cursor(self.at(address, min(count, max(0, self.size - address))))
        if cursor.data[: len(signature)] != signature:
            raise _Damaged(f"byte {address} does not begin with {signature!r}")
        cursor.at = len(signature)
        return cursor

    def fill(self, target: Array, address: int) -> None:
        """An array's bytes from the file."""
        view = memoryview(target)  # type: ignore[arg-type]
        self.stream.seek(self.start + address)
        for begin in range(0, len(view), PIECE):
            part = view[begin : begin + PIECE]
            if self.stream.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise _Damaged("it became shorter while it was read")

    def claim(self, address: int, count: int) -> None:
        """Note that an array lies somewhere.

        Raises:
            _Damaged: another array lies there, too.
        """
        extent = (address, address + count)
        place = bisect_left(self.extents, extent)
        if place < len(self.extents) and self.extents[place] == extent:
            return
        before = self.extents[place - 1] if place else (0, 0)
        after = self.extents[place] if place < len(self.extents) else (self.size, self.size)
        if address + count > self.size or before[1] > address or after[0] < address + count:
            raise _Damaged("its values lie behind the end of the file, or where those of another array are")
        self.extents.insert(place, extent)

    @cached_property
    def root(self) -> Group:
        """The group that holds all others."""
        cursor = self.cursor(0, 112, SIGNATURE)
        version = cursor.number(1)
        if version in (0, 1):
            cursor.take(4)
            sizes = (cursor.number(1), cursor.number(1))
            cursor.take(9 if version == 0 else 13)
            base, _, end = cursor.number(8), cursor.number(8), cursor.number(8)
            cursor.take(8 + 8)
        elif version in (2, 3):
            sizes = (cursor.number(1), cursor.number(1))
            cursor.take(1)
            base, _, end = cursor.number(8), cursor.number(8), cursor.number(8)
        else:
            raise _Refused(f"is written in version {version} of HDF5's superblock, which is not read")
        if sizes != (8, 8) or base != 0:
            raise _Refused(f"has addresses of {sizes} bytes from byte {base}; only 8 from the start are read")
        if end > self.size:
            raise _Damaged(f"has {self.size} of its {end} bytes")
        return self.object(cursor.number(8), "")

    def heap_object(self, address: int, index: int) -> bytes:
        """What a global heap holds under a number."""
        if address not in self._heaps:
            head = self.cursor(address, 16, b"GCOL")
            head.take(4)
            size = head.number(8)
            if not 16 <= size <= self.size - address:
                raise _Damaged(f"a heap at byte {address} claims {size} bytes")
            heap = _Cursor(self.at(address, size), 16)
            places: dict[int, tuple[int, int]] = {}
            while len(heap.data) - heap.at >= 16:
                number = heap.number(2)
                heap.take(6)
                length = heap.number(8)
                if number == 0:
                    break  # the free space at the end
                if length > len(heap.data) - heap.at:
                    raise _Damaged(f"an object of a heap at byte {address} claims {length} bytes")
                places[number] = (address + heap.at, length)
                heap.at += length + -length % 8
            self._heaps[address] = places
        if index not in self._heaps[address]:
            raise _Damaged(f"a heap at byte {address} holds no object {index}")
        return self.at(*self._heaps[address][index])

    def messages(self, address: int) -> list[_Message]:
        """An object's header."""
        if self.at(address, 4) == b"OHDR":
            return list(self._messages_2(address))
        return list(self._messages_1(address))

    def _messages_1(self, address: int) -> Iterator[_Message]:
        head = self.cursor(address, 16)
        if head.number(1) != 1:
            raise _Damaged(f"byte {address} does not begin an object")
        head.take(1)
        count = head.number(2)
        head.take(4)
        waiting, seen = [(address + 16, head.number(4))], {address + 16}
        while waiting and count > 0:
            block = _Cursor(self.at(*waiting.pop(0)))
            while len(block.data) - block.at >= 8 and count > 0:
                kind, size, flags = block.number(2), block.number(2), block.number(1)
                block.take(3)
                data = block.take(size)
                count -= 1
                if kind == 0x10:
                    self._continue(data, waiting, seen)
                elif kind:
                    yield _message(kind, flags, data)

    def _messages_2(self, address: int) -> Iterator[_Message]:
        head = self.cursor(address, 64, b"OHDR")
        if head.number(1) != 2:
            raise _Refused("has an object header of a version that is not read")
        flags = head.number(1)
        head.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        size = head.number(1 << (flags & 3))
        waiting, seen = [(address + head.at, size)], {address + head.at}
        first = True
        while waiting:
            place, size = waiting.pop(0)
            block = _Cursor(self.at(place, size))
            if not first:  # OCHK in front, a checksum behind
                if block.take(4) != b"OCHK" or size < 8:
                    raise _Damaged(f"byte {place} does not continue an object")
                block = _Cursor(block.data[4:-4])
            first = False
            while len(block.data) - block.at >= 4:
                kind, length, of = block.number(1), block.number(2), block.number(1)
                block.take(2 if flags & 4 else 0)
                data = block.take(length)
                if kind == 0x10:
                    self._continue(data, waiting, seen)
                elif kind:
                    yield _message(kind, of, data)

    def _continue(self, data: bytes, waiting: list[tuple[int, int]], seen: set[int]) -> None:
        place = _Cursor(data)
        address, size = place.number(8), place.number(8)
        if address in seen:
            raise _Damaged("an object's header continues in itself")
        seen.add(address)
        waiting.append((address, size))


def _message(kind: int, flags: int, data: bytes) -> _Message:
    # What objects share lies elsewhere: types that were given a name, which Keras never does.
    return _Message(-kind if flags & 2 else kind, data)


@contextmanager
def open_file(source: str | IO[bytes], name: str, start: int = 0, size: int | None = None) -> Iterator[Group]:
    """The root group of an HDF5 file, open for reading.

    Args:
        source: a path, or a file that is open for reading and can seek.
        name: for messages.
        start, size: the part of the file that is the HDF5 file, where it is not all of it.

    Raises:
        ConversionError: it cannot be read, or is damaged.
    """
    stream = open_regular(source, ConversionError, "an HDF5 file") if isinstance(source, str) else source
    try:
        try:
            whole = stream.seek(0, 2)
            file = File(stream, start, whole - start if size is None else size, name)
            root = file.root
        except _Damaged as problem:
            raise _error(name, problem) from problem
        except OSError as error:
            raise ConversionError(f"{name}: cannot be read: {error.strerror or error}") from error
        yield root
    finally:
        if isinstance(source, str):
            stream.close()


class Group:
    """An object of the file: a group, or an array.

    Args:
        file: that it is in.
        address: of its header.
        path: its name in the file, for messages.
    """

    def __init__(self, file: File, address: int, path: str) -> None:
        self.file, self.address, self.path = file, address, path

    @cached_property
    def messages(self) -> list[_Message]:
        """Its header."""
        return self.file.messages(self.address)

    def message(self, kind: int) -> _Cursor | None:
        """The header's part of a kind."""
        for message in self.messages:
            if message.kind == kind:
                return _Cursor(message.data)
            if message.kind == -kind:
                raise _Refused(f"{self.path!r} has a named type; save the model again with Keras")
        return None

    @cached_property
    def is_array(self) -> bool:
        """Whether it is an array, not a group."""
        return any(abs(message.kind) == 8 for message in self.messages)

    @cached_property
    def links(self) -> dict[str, _Link]:
        """What a group holds, by name."""
        found: dict[str, _Link] = {}
        table, info = self.message(0x11), self.message(2)
        if table is not None:
            found |= _old_links(self.file, table.number(8), table.number(8))
        for message in self.messages:
            if message.kind == 6:
                name, link = _link(_Cursor(message.data))
                found[name] = link
        if info is not None:
            info.take(1)
            info.take(8 if info.number(1) & 1 else 0)
            heap, tree = info.number(8), info.number(8)
            if heap != NOWHERE:
                for record in _records(self.file, tree, 5, 11):
                    name, link = _link(_Cursor(self.file.heap(heap).object(record[4:])))
                    found[name] = link
        return found

    @cached_property
    def attributes(self) -> dict[str, bytes]:
        """Messages of its attributes, by name."""
        found = {}
        for message in self.messages:
            if message.kind == 0xC:
                found[_attribute_name(message.data)] = message.data
        info = self.message(0x15)
        if info is not None:
            info.take(1)
            info.take(2 if info.number(1) & 1 else 0)
            heap, tree = info.number(8), info.number(8)
            if heap != NOWHERE:
                for record in _records(self.file, tree, 8, 17):
                    data = self.file.heap(heap).object(record[:8])
                    found[_attribute_name(data)] = data
        return found


def _old_links(file: File, tree: int, heap: int) -> dict[str, _Link]:
    """The links of a group of HDF5 1.0 to 1.6, which is what h5py still writes: a tree of tables, names in a heap."""
    head = file.cursor(heap, 32, b"HEAP")
    head.take(4)
    size = head.number(8)
    head.take(8)
    names = file.at(head.number(8), size)
    found: dict[str, _Link] = {}
    for table in _leaves(file, tree, 0, 8):
        cursor = file.cursor(table, 8, b"SNOD")
        cursor.take(2)
        count = cursor.number(2)
        cursor = _Cursor(file.at(table + 8, 40 * count))
        for _ in range(count):
            place, address, kind = cursor.number(8), cursor.number(8), cursor.number(4)
            cursor.take(20)
            name = _Cursor(names, min(place, len(names))).text()
            found[_name(name)] = _Link(None, "soft") if kind == 2 else _Link(address)
    return found


def _leaves(file: File, root: int, kind: int, key: int) -> Iterator[int]:
    """The children of the lowest nodes of a tree of version 1, in order."""
    for address, _ in _entries(file, root, kind, key):
        yield address


def _entries(file: File, root: int, kind: int, key: int) -> Iterator[tuple[int, bytes]]:
    """The children of the lowest nodes of a tree of version 1, and the keys before them."""
    waiting: list[tuple[int, int | None]] = [(root, None)]
    seen: set[int] = set()
    while waiting:
        address, expected = waiting.pop()
        if address in seen:
            raise _Damaged("a tree in it meets itself")
        seen.add(address)
        head = file.cursor(address, 24, b"TREE")
        found, level, count = head.number(1), head.number(1), head.number(2)
        if found != kind or (expected is not None and level != expected) or level > MOST_DEPTH:
            raise _Damaged(f"a tree at byte {address} is of another kind")
        node = _Cursor(file.at(address + 24, count * (key + 8)))
        children = []
        for _ in range(count):
            before = node.take(key)
            children.append((node.number(8), before))
        if level == 0:
            yield from children
        else:
            waiting += [(child, level - 1) for child, _ in reversed(children)]


def _name(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _link(cursor: _Cursor) -> tuple[str, _Link]:
    """A link as newer files have it."""
    cursor.take(1)
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.take((8 if flags & 4 else 0) + (1 if flags & 0x10 else 0))
    name = _name(cursor.take(cursor.number(1 << (flags & 3))))
    if kind == 0:
        return name, _Link(cursor.number(8))
    return name, _Link(None, "soft" if kind == 1 else "external")


def _records(file: File, address: int, kind: int, size: int) -> Iterator[bytes]:
    """The records of a tree of version 2."""
    head = file.cursor(address, 38, b"BTHD")
    head.take(1)
    found, node, record, depth = head.number(1), head.number(4), head.number(2), head.number(2)
    head.take(2)
    root, count, _ = head.number(8), head.number(2), head.number(8)
    if found != kind or record != size or depth > 8 or not 16 <= node <= file.size:
        raise _Damaged(f"a tree at byte {address} is of another kind")
    if root == NOWHERE:
        return
    # How many records a node of each depth may have decides how many bytes their numbers take.
    most = [(node - 10) // record]
    total = [most[0]]
    for level in range(1, depth + 1):
        pointer = 8 + _bytes_for(most[0]) + (_bytes_for(total[-1]) if level > 1 else 0)
        most.append((node - 10 - pointer) // (record + pointer))
        if most[-1] < 1:
            raise _Damaged(f"a tree at byte {address} has no room")
        total.append((most[-1] + 1) * total[-1] + most[-1])
    waiting, seen = [(root, count, depth)], set()
    while waiting:
        place, entries, level = waiting.pop()
        if place in seen:
            raise _Damaged("a tree in it meets itself")
        seen.add(place)
        cursor = file.cursor(place, node, b"BTIN" if level else b"BTLF")
        cursor.take(2)
        for _ in range(entries):
            yield cursor.take(record)
        for _ in range(entries + 1 if level else 0):
            child, inside = cursor.number(8), cursor.number(_bytes_for(most[0]))
            cursor.take(_bytes_for(total[level - 1]) if level > 1 else 0)
            waiting.append((child, inside, level - 1))


def _bytes_for(most: int) -> int:
    return max(1, (most.bit_length() + 7) // 8)


class _Heap:
    """A heap of the newer kind, in which groups keep many links, and objects many or large attributes."""

    def __init__(self, file: File, address: int) -> None:
        self.file, self.address = file, address
        head = file.cursor(address, 142, b"FRHP")
        head.take(1)
        self.id_size, filters = head.number(2), head.number(2)
        if filters:
            raise _Refused("has a compressed heap, which is not read; save the model again with Keras")
        self.checked = bool(head.number(1) & 2)
        self.longest = head.number(4)
        head.take(8)
        self.huge = head.number(8)
        head.take(10 * 8)
        self.width, self.first, self.largest = head.number(2), head.number(8), head.number(8)
        self.offset_size = (head.number(2) + 7) // 8
        head.take(2)
        self.root, self.rows = head.number(8), head.number(2)
        if not 1 <= self.width <= 1024 or self.first < 1 or not 1 <= self.offset_size <= 8:
            raise _Damaged(f"a heap at byte {address} has impossible sizes")

    def object(self, identifier: bytes) -> bytes:
        """What lies under an identifier."""
        cursor = _Cursor(identifier)
        flags = cursor.number(1)
        kind = flags >> 4 & 3
        if kind == 0:
            offset = cursor.number(self.offset_size)
            length = cursor.number(min(_bytes_for(self.largest), _bytes_for(self.longest)))
            return self._managed(offset, length)
        if kind == 1:
            number = cursor.number(min(8, len(identifier) - cursor.at))
            for record in _records(self.file, self.huge, 1, 24):
                fields = _Cursor(record)
                address, length, key = fields.number(8), fields.number(8), fields.number(8)
                if key == number:
                    return self.file.at(address, length)
            raise _Damaged("a heap lacks an object")
        return cursor.take((flags & 15) + 1)

    def _managed(self, offset: int, length: int) -> bytes:
        address, size, start, rows = self.root, self.first, 0, self.rows
        for _ in range(MOST_DEPTH):
            if rows == 0:
                at = offset - start
                if at < 0 or at + length > size:
                    raise _Damaged("an object of a heap lies outside of its block")
                self.file.cursor(address, 5, b"FHDB")
                return self.file.at(address + at, length)
            address, size, start, rows = self._child(address, start, rows, offset)
        raise _Damaged("a heap is nested without end")

    def _child(self, address: int, start: int, rows: int, offset: int) -> tuple[int, int, int, int]:
        """The block of an indirect one in which an offset lies: address, size, first offset, rows (0: a direct block)."""
        self.file.cursor(address, 5, b"FHIB")
        entries = address + 13 + self.offset_size
        direct_rows = max(0, (self.largest // self.first).bit_length() + 1)
        at, place = start, 0
        for row in range(min(rows, 64)):
            size = self.first * (1 if row == 0 else 2 ** (row - 1))
            if offset < at + size * self.width:
                column = (offset - at) // size
                place += column
                child = int.from_bytes(self.file.at(entries + 8 * place, 8), "little")
                inner = 0 if row < direct_rows else (size // (self.first * self.width)).bit_length()
                return child, size, at + column * size, inner
            at, place = at + size * self.width, place + self.width
        raise _Damaged("an object lies outside of its heap")


def _datatype(cursor: _Cursor) -> _Type:
    """What values are, from their type's description."""
    first = cursor.number(1)
    bits, size = cursor.number(3), cursor.number(4)
    kind = first & 15
    order = ">" if bits & 1 else "<"
    if kind == 0:
        offset, precision = cursor.number(2), cursor.number(2)
        if offset == 0 and precision == 8 * size and size in (1, 2, 4, 8):
            return _Type("number", size, f"{order}{'i' if bits & 8 else 'u'}{size}")
        return _Type(f"integers of {precision} bits", size)
    if kind == 1:
        fields = tuple(cursor.number(count) for count in (2, 2, 1, 1, 1, 1, 4))
        known = {
            (0, 16, 10, 5, 0, 10, 15): "f2",
            (0, 32, 23, 8, 0, 23, 127): "f4",
            (0, 64, 52, 11, 0, 52, 1023): "f8",
        }
        if fields == (0, 16, 7, 8, 0, 7, 127) and size == 2 and order == "<":
            return _Type("bfloat16", size)
        if fields in known and size == int(known[fields][1]) and not bits & 0x40:
            return _Type("number", size, order + known[fields])
        return _Type(f"floating-point numbers of {fields[1]} bits of another kind", size)
    if kind == 3:
        return _Type("text", size)
    if kind == 5 and size == 2:
        return _Type("bfloat16", size)  # Keras' bfloat16, which h5py knows as two bytes: the upper half of a float32
    if kind == 9 and bits & 15 == 1 and size == 16:
        return _Type("text elsewhere", size)
    names = {
        2: "times",
        4: "bit fields",
        5: "bytes",
        6: "records",
        7: "references",
        8: "names of a list",
        9: "sequences",
    }
    return _Type(names.get(kind, "arrays"), size)


def _shape(cursor: _Cursor) -> tuple[int, ...]:
    """A shape, from its description."""
    version, rank = cursor.number(1), cursor.number(1)
    cursor.take(1)  # whether sizes up to which it may grow follow
    if version == 1:
        cursor.take(5)
        null = False
    elif version == 2:
        null = cursor.number(1) == 2
    else:
        raise _Damaged("a shape in it is of another kind")
    if rank > MOST_RANK:
        raise _Damaged(f"it has an array of {rank} axes")
    shape = tuple(cursor.number(8) for _ in range(rank))
    return (0,) if null else shape


def _attribute_name(data: bytes) -> str:
    cursor = _Cursor(data)
    version = cursor.number(1)
    cursor.take(1)
    size = cursor.number(2)
    cursor.take(4 + (1 if version == 3 else 0))
    return _name(cursor.take(size).rstrip(b"\0"))


def _attribute(data: bytes) -> _Attribute:
    cursor = _Cursor(data)
    version, flags = cursor.number(1), cursor.number(1)
    if version not in (1, 2, 3) or (version > 1 and flags & 3):
        raise _Refused("is of a kind that is not read; save the model again with Keras")
    name, type_size, shape_size = cursor.number(2), cursor.number(2), cursor.number(2)
    cursor.take(1 if version == 3 else 0)

    def part(size: int) -> _Cursor:
        start = cursor.at
        taken = cursor.take(size)
        if version == 1:
            cursor.pad(start)
        return _Cursor(taken)

    part(name)
    return _Attribute(_datatype(part(type_size)), _shape(part(shape_size)), cursor.data[cursor.at :])


def _texts(file: File, attribute: _Attribute) -> list[str]:
    """The strings of an attribute, one after the other."""
    count = math.prod(attribute.shape)
    if count == 0:
        return []  # of whatever type: h5py has no empty list of strings
    kind, size = attribute.type.kind, attribute.type.size
    if kind not in ("text", "text elsewhere"):
        raise _Refused(f"holds {kind or 'numbers'}; wanted text")
    if size == 0 or count * size > len(attribute.data):
        raise _Damaged("claims more text than it has")
    found, length = [], 0
    for index in range(count):
        value = attribute.data[index * size : (index + 1) * size]
        if kind == "text elsewhere":
            place = _Cursor(value)
            wanted, address, number = place.number(4), place.number(8), place.number(4)
            value = file.heap_object(address, number)[:wanted] if wanted else b""
            length += wanted
            if length > file.size:
                raise _Damaged("claims more text than the file has")
        found.append(value.split(b"\0", 1)[0].decode("utf-8", "replace"))
    return found


def has_attribute(group: Group, name: str) -> bool:
    """Whether an object has an attribute."""
    try:
        return name in group.attributes
    except _Damaged as problem:
        raise _error(group.file.name, problem) from problem


def strings(group: Group, attribute: str, name: str) -> list[str] | None:
    """A list of strings from an attribute, which Keras cuts into attribute0, attribute1 ... when it is long; None if it is absent.

    Raises:
        ConversionError: it holds something else, or is damaged.
    """
    try:
        held = group.attributes
        if attribute in held:
            return _texts(group.file, _attribute(held[attribute]))
        values: list[str] = []
        index = 0
        while f"{attribute}{index}" in held:
            values += _texts(group.file, _attribute(held[f"{attribute}{index}"]))
            index += 1
        return values if index else None
    except _Damaged as problem:
        raise _error(f"{name}: attribute {attribute!r} of {group.path or '/'!r}", problem) from problem


def text(group: Group, attribute: str, name: str) -> str | None:
    """A string attribute, None if it is absent.

    Raises:
        ConversionError: it holds something else, or is damaged.
    """
    values = strings(group, attribute, name) if has_attribute(group, attribute) else None
    if values is not None and len(values) != 1:
        raise ConversionError(f"{name}: attribute {attribute!r} holds {len(values)} texts; wanted one")
    return None if values is None else values[0]


def child(group: Group, path: str, name: str) -> Group | None:
    """What lies under a path in a group, by hard links only; None if nothing does.

    Raises:
        ConversionError: a link leads out of the file or around in it.
    """
    found = group
    for part in path.split("/"):
        if part:
            try:
                link = None if found.is_array else found.links.get(part)
            except _Damaged as problem:
                raise _error(f"{name}: {path!r}", problem) from problem
            if link is None:
                return None
            found = found.file.object(_followed(link, path, name), f"{found.path}/{part}")
    return found


def _followed(link: _Link, path: str, name: str) -> int:
    if link.address is None:
        raise ConversionError(f"{name}: {path!r} is a {link.kind} link to elsewhere; that is not followed, for safety")
    return link.address


def names(group: Group, name: str) -> set[str]:
    """What a group holds.

    Raises:
        ConversionError: it is damaged.
    """
    try:
        return set() if group.is_array else set(group.links)
    except _Damaged as problem:
        raise _error(name, problem) from problem


class Tree:
    """Everything in a file by its path; "\\" in a name, as Keras wrote it on Windows, counts as "/".

    Args:
        root: of the file.
        name: for messages.

    Raises:
        ConversionError: links lead out of the file or around in it, or two things have one path.
    """

    def __init__(self, root: Group, name: str) -> None:
        self.found: dict[str, Group] = {}
        self.below: dict[str, list[str]] = {}
        self.occupied: set[str] = set()
        waiting, seen = [("", root)], {root.address}
        while waiting:
            path, group = waiting.pop()
            try:
                links = {} if group.is_array else group.links
            except _Damaged as problem:
                raise _error(f"{name}: {path or '/'!r}", problem) from problem
            for key, link in links.items():
                inner = f"{path}/{key}".replace("\\", "/").strip("/")
                address = _followed(link, inner, name)
                if inner in self.found or address in seen or inner.count("/") > MOST_DEPTH:
                    raise ConversionError(f"{name}: {inner!r} is there twice, or in itself; the file is damaged")
                seen.add(address)
                self.found[inner] = root.file.object(address, inner)
                waiting.append((inner, self.found[inner]))
        for path, group in self.found.items():
            around, _, last = path.rpartition("/")
            self.below.setdefault(around, []).append(last)
            while around and group.is_array and around not in self.occupied:
                self.occupied.add(around)
                around = around.rpartition("/")[0]

    def __contains__(self, path: str) -> bool:
        return path in self.found or path in self.below

    def children(self, path: str) -> list[str]:
        """Names of what lies directly under a path."""
        return self.below.get(path, [])

    def holds_arrays(self, path: str) -> bool:
        """Whether there is an array anywhere under a path."""
        return path in self.occupied

    def array(self, path: str, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The values of an array, as of `array`."""
        return array(self.found.get(path), where)


def array(dataset: Group | None, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """An array's values as float32.

    Raises:
        ConversionError: it is no array of numbers, keeps its values elsewhere, or claims more than it holds.
    """
    if dataset is None:
        raise ConversionError(f"{where}: is missing; the file is damaged")
    try:
        if not dataset.is_array:
            raise _Refused("wanted an array, found a group")
        return _array(dataset)
    except _Damaged as problem:
        raise _error(where, problem) from problem


def _array(dataset: Group) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    space, kind, layout = dataset.message(1), dataset.message(3), dataset.message(8)
    if space is None or kind is None or layout is None:
        raise _Damaged("has no shape, no type or no place")
    if dataset.message(7) is not None:
        raise _Refused("keeps its values in another file; that is not followed, for safety")
    shape, of = _shape(space), _datatype(kind)
    if of.kind not in ("number", "bfloat16"):
        raise _Refused(f"holds {of.kind}; wanted numbers")
    count = math.prod(shape)
    file = dataset.file
    file.readable -= count * of.size
    if file.readable < 0:
        raise _Refused(f"claims {count * of.size} bytes, or is read again and again; refused, for safety")
    raw = _values(dataset, shape, of.size, layout).view(np.uint8)
    with np.errstate(over="ignore"):
        if of.kind == "bfloat16":
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return raw.view(of.dtype).reshape(shape).astype(np.float32, copy=False)


def _values(dataset: Group, shape: tuple[int, ...], size: int, layout: _Cursor) -> Array:
    """An array's bytes."""
    file, count = dataset.file, math.prod(shape) * size
    version = layout.number(1)
    if version in (1, 2):
        rank, kind = layout.number(1), layout.number(1)
        layout.take(5)
        place = NOWHERE if kind == 0 else layout.number(8)
        if kind == 0:
            layout.take(4 * rank)
            return _compact(layout.take(layout.number(4)), count)
        if kind == 1:
            return _contiguous(file, place, count, count)
        chunk = [layout.number(4) for _ in range(rank)]
        return _chunked(dataset, shape, size, chunk, _tree_of_chunks(file, place, rank))
    if version not in (3, 4):
        raise _Refused(f"is stored in version {version} of HDF5's layouts, which is not read; save the model again")
    kind = layout.number(1)
    if kind == 0:
        return _compact(layout.take(layout.number(2)), count)
    if kind == 1:
        return _contiguous(file, layout.number(8), layout.number(8), count)
    if kind != 2:
        raise _Refused("keeps its values in another file; that is not followed, for safety")
    if version == 3:
        rank = layout.number(1)
        place = layout.number(8)
        chunk = [layout.number(4) for _ in range(rank)]
        return _chunked(dataset, shape, size, chunk, _tree_of_chunks(file, place, rank))
    flags, rank, width = layout.number(1), layout.number(1), layout.number(1)
    chunk = [layout.number(width) for _ in range(rank)]
    index = layout.number(1)
    counts = [-(-total // max(part, 1)) for total, part in zip(shape, chunk, strict=False)]
    total = math.prod(counts)
    if total * 8 > file.size + 2**16:
        raise _Damaged("claims more parts than the file can hold")
    origins = (_origin(place, counts, chunk) for place in range(total))
    if index == 1:
        packed, mask = (layout.number(8), layout.number(4)) if flags & 2 else (math.prod(chunk), 0)
        chunks: Iterator[_Chunk] = iter([_Chunk((0,) * (rank - 1), layout.number(8), packed, mask)])
    elif index == 2:
        place, step = layout.number(8), math.prod(chunk)
        chunks = (_Chunk(origin, place + i * step, step, 0) for i, origin in enumerate(origins))
    elif index == 3:
        layout.take(1)
        chunks = _array_of_chunks(file, layout.number(8), origins, math.prod(chunk))
    else:
        raise _Refused("can grow, by an index that is not read; save the model again with Keras")
    return _chunked(dataset, shape, size, chunk, chunks)


def _origin(place: int, counts: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Where a part begins, from its number: the last axis runs fastest."""
    at = []
    for count, size in zip(reversed(counts), reversed(chunk[: len(counts)]), strict=True):
        at.append(place % count * size)
        place //= count
    return tuple(reversed(at))


class _Chunk(NamedTuple):
    """A part of an array: where it begins, where and how long it is in the file, and the filters that were left out."""

    origin: tuple[int, ...]
    address: int
    size: int
    mask: int


def _compact(data: bytes, count: int) -> Array:
    if len(data) < count:
        raise _Damaged(f"claims {count} bytes and holds {len(data)}")
    return np.frombuffer(data[:count], np.uint8).copy()


def _contiguous(file: File, address: int, held: int, count: int) -> Array:
    if count and (address == NOWHERE or held < count or address + count > file.size):
        raise _Damaged(f"claims {count} bytes and holds {0 if address == NOWHERE else held}")
    values = np.empty(count, np.uint8)
    if count:
        file.claim(address, count)
        file.fill(values, address)
    return values


def _tree_of_chunks(file: File, root: int, rank: int) -> Iterator[_Chunk]:
    if root == NOWHERE:
        return
    if not 1 <= rank <= MOST_RANK + 1:
        raise _Damaged(f"it has an array of {rank - 1} axes")
    for address, key in _entries(file, root, 1, 8 + 8 * rank):
        cursor = _Cursor(key)
        size, mask = cursor.number(4), cursor.number(4)
        yield _Chunk(tuple(cursor.number(8) for _ in range(rank - 1)), address, size, mask)


def _array_of_chunks(file: File, address: int, origins: Iterator[tuple[int, ...]], whole: int) -> Iterator[_Chunk]:
    if address == NOWHERE:
        return
    head = file.cursor(address, 28, b"FAHD")
    head.take(1)
    kind, width, page = head.number(1), head.number(1), head.number(1)
    count, block = head.number(8), head.number(8)
    if kind > 1 or width < (8 if kind == 0 else 13):
        raise _Damaged("its parts are listed in another way")
    if page < 64 and count > 1 << page:
        raise _Refused("has too many parts for the list of them that is read; save the model again with Keras")
    if block == NOWHERE:
        return
    cursor = file.cursor(block, 14 + count * width, b"FADB")
    cursor.take(10)
    for origin, _ in zip(origins, range(count), strict=False):
        place = cursor.number(8)
        size, mask = (whole, 0) if kind == 0 else (cursor.number(width - 12), cursor.number(4))
        if place != NOWHERE:
            yield _Chunk(origin, place, size, mask)


def _chunked(
    dataset: Group, shape: tuple[int, ...], size: int, chunk: Sequence[int], chunks: Iterator[_Chunk]
) -> Array:
    """An array of parts of equal size, which may be compressed."""
    file, count = dataset.file, math.prod(shape) * size
    if len(chunk) != len(shape) + 1 or chunk[-1] != size or min(chunk) < 1 or not shape:
        raise _Damaged("its parts have another rank or type than it")
    sizes = chunk[:-1]
    whole = math.prod(chunk)
    filters = _filters(dataset)
    if whole > max(FREE_BYTES, 4 * count):
        raise _Damaged(f"has parts of {whole} bytes, and {count} in all")
    found, held = [], 0
    seen = set()
    for part in chunks:
        if part.origin in seen or any(a % b or a >= c for a, b, c in zip(part.origin, sizes, shape, strict=True)):
            raise _Damaged("its parts lie on each other, or outside of it")
        seen.add(part.origin)
        found.append(part)
        held += part.size
    if len(found) != math.prod(-(-length // part) for length, part in zip(shape, sizes, strict=True)):
        raise _Refused("has parts that were never written; save the model again with Keras")
    if count > FREE_BYTES and count > MOST_RATIO * held:
        raise _Damaged(f"claims {count} bytes and holds {held}")
    if filters or count > held:
        file.unpacked -= count
        if file.unpacked < 0:
            raise _Refused("unpacks, with those before it, to far more than the file has; refused, for safety")
    values = np.zeros((*shape, size), np.uint8)
    for part in found:
        file.claim(part.address, part.size)
        packed = np.empty(part.size, np.uint8)
        file.fill(packed, part.address)
        data = _unpacked(packed.tobytes(), filters, part.mask, whole, size)
        block = np.frombuffer(data, np.uint8).reshape(*sizes, size)
        there = tuple(slice(a, min(a + b, c)) for a, b, c in zip(part.origin, sizes, shape, strict=True))
        values[there] = block[tuple(slice(0, s.stop - s.start) for s in there)]
    return values.reshape(-1)


_FILTERS = {4: "szip", 5: "n-bit packing", 6: "scaling", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32015: "zstd"}


def _filters(dataset: Group) -> list[int]:
    """What was done to the parts of an array, first to last."""
    cursor = dataset.message(0xB)
    if cursor is None:
        return []
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2):
        raise _Damaged("its filters are listed in another way")
    cursor.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        kind = cursor.number(2)
        name = cursor.number(2) if version == 1 or kind >= 256 else 0
        cursor.take(2)
        values = cursor.number(2)
        cursor.take(name + (-name % 8 if version == 1 else 0) + 4 * values + (4 if version == 1 and values % 2 else 0))
        found.append(kind)
        if kind not in (1, 2, 3):
            raise _Refused(f"is compressed by {_FILTERS.get(kind, f'filter {kind}')}; save the model again with Keras")
    return found


def _unpacked(data: bytes, filters: Sequence[int], mask: int, whole: int, size: int) -> bytes:
    """A part as it was before the filters."""
    for place in reversed(range(len(filters))):
        if mask >> place & 1:
            continue
        if filters[place] == 1:
            stream = zlib.decompressobj()
            try:
                data = stream.decompress(data, whole + 8)
            except zlib.error as error:
                raise _Damaged(f"cannot be unpacked ({error})") from error
        elif filters[place] == 3:
            data = data[:-4]
        elif size > 1:
            values = len(data) // size
            turned = np.frombuffer(data[: values * size], np.uint8).reshape(size, values).T
            data = turned.tobytes() + data[values * size :]
    if len(data) != whole:
        raise _Damaged(f"has a part of {len(data)} bytes; wanted {whole}")
    return data
