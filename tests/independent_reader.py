"""A reader of .ecnn files written from docs/format.md alone: it imports nothing of edgecnn. It proves that the page suffices."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np


class Bytes:
    """Varints and what is made of them."""

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

    def signed(self) -> int:
        n = self.varint()
        return n // 2 if n % 2 == 0 else -(n + 1) // 2

    def double(self) -> float:
        self.at += 8
        return float(struct.unpack("<d", self.data[self.at - 8 : self.at])[0])

    def text(self) -> str:
        n = self.varint()
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def list(self, item: Any) -> list[Any]:
        return [item() for _ in range(self.varint())]


def read(data: bytes) -> dict[str, Any]:
    """Everything in a file, as plain Python and NumPy."""
    assert data[:8] == b"\x89ECNN\r\n\x1a"
    version = struct.unpack("<4H", data[8:16])
    length, count, table_sum = struct.unpack("<QII", data[16:32])
    assert length == len(data)
    assert data[32:60] == bytes(28)
    assert struct.unpack("<I", data[60:64])[0] == zlib.crc32(data[:60])
    table = data[64 : 64 + 32 * count]
    assert zlib.crc32(table) == table_sum
    sections = {}
    for i in range(count):
        kind, _, offset, size, checksum, _ = struct.unpack("<IIQQII", table[32 * i : 32 * i + 32])
        sections[kind] = data[offset : offset + size]
        assert zlib.crc32(sections[kind]) == checksum
    graph = Bytes(sections[1])
    strings = graph.list(graph.text)
    constants = _constants(Bytes(sections[2]), sections[3], strings)

    def string() -> str:
        return strings[graph.varint()]

    name = string()
    tensors = graph.list(lambda: (string(), [size or None for size in graph.list(graph.varint)]))
    ports = []
    for _ in range(2):
        structure = ("single", "list", "dict")[graph.varint()]
        ports.append((structure, graph.list(lambda: (string(), tensors[graph.varint()][0]))))

    def value() -> Any:
        kinds = (graph.signed, graph.double, string, lambda: graph.list(graph.signed), lambda: graph.list(graph.double))
        return kinds[graph.varint()]()

    def given() -> str:
        k = graph.varint()
        return "" if not k else tensors[(k - 1) // 2][0] if k % 2 else list(constants)[k // 2 - 1]

    nodes = graph.list(
        lambda: {
            "operator": string(),
            "name": string(),
            "inputs": graph.list(given),
            "outputs": graph.list(lambda: tensors[graph.varint()][0]),
            "attributes": dict(graph.list(lambda: (string(), value()))),
            "layers": graph.list(string),
        }
    )
    assert graph.at == len(graph.data)
    return {
        "version": version,
        "name": name,
        "tensors": dict(tensors),
        "inputs": ports[0],
        "outputs": ports[1],
        "nodes": nodes,
        "constants": constants,
        "metadata": json.loads(sections[4]) if 4 in sections else {},
    }


def _constants(directory: Bytes, weights: bytes, strings: list[str]) -> dict[str, Any]:
    found = {}
    for _ in range(directory.varint()):
        name, encoding, raw = strings[directory.varint()], directory.varint(), directory.varint()
        shape = directory.list(directory.varint)
        blobs = []
        for _ in range(3 if encoding == 2 else 1):
            offset, length = directory.varint(), directory.varint()
            blobs.append(weights[offset : offset + length])
        axis = directory.varint() if encoding == 2 else 0
        data = zlib.decompress(blobs[0]) if raw else blobs[0]
        assert not raw or len(data) == raw
        n = int(np.prod(shape, dtype=np.int64))
        if encoding < 3:
            values = np.frombuffer(data, ("<f4", "<f2", "i1")[encoding]).astype(np.float32 if encoding < 2 else np.int8)
        else:
            values = np.zeros(n, np.float32)
            dtype = "<f4" if encoding in (3, 5) else "<f2"
            if encoding in (3, 4):
                size = -(-n // 32) * 4
                places = [i for i in range(n) if data[i // 8] >> i % 8 & 1]
            else:
                (gaps,) = struct.unpack("<I", data[:4])
                size = 4 + -(-gaps // 4) * 4
                place, places = 0, []
                for g in data[4 : 4 + gaps]:
                    place += g
                    if g < 255:
                        places.append(place)
                        place += 1
            values[places] = np.frombuffer(data[size:], dtype)
        scales = np.frombuffer(blobs[1], "<f4") if encoding == 2 else None
        zeros = np.frombuffer(blobs[2], "<i4") if encoding == 2 else None
        found[name] = (values.reshape(shape), scales, zeros, axis - 1 if axis else None)
    return found
