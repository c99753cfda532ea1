"""Files taken apart into trees and put together again, so that a mutation changes a record and leaves what surrounds it sound.

A tree is a list of leaves (int, bytes, str) and of trees. A `Counted` list is written with its length in front.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

HEAD, ENTRY = struct.Struct("<8s4HQII28xI"), struct.Struct("<IIQQII")
GRAPH, CONSTANTS = 1, 2


class Counted(list[Any]):
    """A list whose length stands before it."""


# --- .ecnn: docs/format.md


class Reader:
    """The primitives of the graph and constants sections."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def list(self, item: Any) -> Counted:
        return Counted(item() for _ in range(self.varint()))


def varint(value: int) -> bytes:
    out = bytearray()
    value &= 2**70 - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def pack_tree(tree: Any) -> bytes:
    """A tree as the sections hold it."""
    if isinstance(tree, int):
        return varint(tree)
    if isinstance(tree, str):
        data = tree.encode("utf-8", "surrogatepass")
        return varint(len(data)) + data
    if isinstance(tree, bytes):
        return tree
    packed = b"".join(map(pack_tree, tree))
    return varint(len(tree)) + packed if isinstance(tree, Counted) else packed


def graph_tree(data: bytes) -> list[Any]:
    """The graph section."""
    r = Reader(data)

    def value() -> list[Any]:
        kind = r.varint()
        return [
            kind,
            (r.varint, lambda: r.take(8), r.varint, lambda: r.list(r.varint), lambda: r.list(lambda: r.take(8)))[
                kind
            ](),
        ]

    tree = [r.list(r.text), r.varint(), r.list(lambda: [r.varint(), r.list(r.varint)])]
    tree += [[r.varint(), r.list(lambda: [r.varint(), r.varint()])] for _ in range(2)]
    tree.append(
        r.list(
            lambda: [
                r.varint(),
                r.varint(),
                r.list(r.varint),
                r.list(r.varint),
                r.list(lambda: [r.varint(), value()]),
                r.list(r.varint),
            ]
        )
    )
    return tree


def constants_tree(data: bytes) -> list[Any]:
    """The constants section."""
    r = Reader(data)

    def constant() -> list[Any]:
        head = [r.varint(), r.varint(), r.varint(), r.list(r.varint)]
        blobs = [[r.varint(), r.varint()] for _ in range(3 if head[1] == 2 else 1)]
        return [*head, blobs, [r.varint()] if head[1] == 2 else []]

    return [r.list(constant)]


def read_ecnn(data: bytes) -> dict[int, Any]:
    """The sections by their numbers: trees of those that have records, bytes of the others."""
    (count,) = struct.unpack_from("<I", data, 24)
    sections: dict[int, Any] = {}
    for i in range(count):
        kind, _, offset, length, _, _ = ENTRY.unpack_from(data, 64 + 32 * i)
        sections[kind] = data[offset : offset + length]
    sections[GRAPH] = graph_tree(sections[GRAPH])
    sections[CONSTANTS] = constants_tree(sections[CONSTANTS])
    return sections


def write_ecnn(sections: dict[int, Any]) -> bytes:
    """A file with sound checksums, whatever its records say."""
    parts = {kind: pack_tree(part) for kind, part in sections.items()}
    end = HEAD.size + ENTRY.size * len(parts)
    table, body = b"", bytearray(bytes(end))
    for kind, part in parts.items():
        body += bytes(-len(body) % 64)
        table += ENTRY.pack(kind, 1 if kind < 4 else 0, len(body), len(part), zlib.crc32(part), 0)
        body += part
    head = HEAD.pack(b"\x89ECNN\r\n\x1a", 1, 0, 1, 0, len(body), len(parts), zlib.crc32(table), 0)
    body[:end] = head[:-4] + struct.pack("<I", zlib.crc32(head[:-4])) + table
    return bytes(body)


# --- .onnx: any protocol buffer, without its schema


def read_message(data: bytes, depth: int = 0) -> list[Any] | None:
    """Fields as [number, wire type, value], where a value of bytes that is a message itself is its fields; None: no message."""
    r, fields = Reader(data), []
    try:
        while r.at < len(data):
            number, wire = divmod(r.varint(), 8)
            if number == 0 or wire not in (0, 1, 2, 5):
                return None
            value: Any
            if wire == 0:
                value = r.varint()
            else:
                size = {1: 8, 5: 4}.get(wire) or r.varint() * (wire == 2)
                value = r.take(size)
                if len(value) < size:
                    return None
            if wire == 2 and depth < 12 and 1 < len(value) < 4096:
                value = read_message(value, depth + 1) or value
            fields.append([number, wire, value])
    except IndexError:
        return None
    return fields


def write_message(fields: list[Any]) -> bytes:
    out = bytearray()
    for number, wire, value in fields:
        out += varint(number * 8 + wire)
        if isinstance(value, int):
            out += varint(value)
            continue
        data = write_message(value) if isinstance(value, list) else value
        out += (varint(len(data)) if wire == 2 else b"") + data
    return bytes(out)
