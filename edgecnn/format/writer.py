"""Graph -> file. The same graph gives the same bytes."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from edgecnn.errors import GraphError, InputError, ModelFileError
from edgecnn.files import replacing
from edgecnn.format import encodings
from edgecnn.format import metadata as metadata_section
from edgecnn.format.container import (
    CONSTANTS,
    GRAPH,
    METADATA,
    MOST_ITEMS,
    REQUIRED,
    WEIGHTS,
    Section,
    align,
    pack_head,
    place_sections,
)
from edgecnn.format.primitives import Output
from edgecnn.graph import Constant, Graph, Port
from edgecnn.graph.graph import MOST_RANK

STRUCTURES = ("single", "list", "dict")
SMALL_BLOB = 256
"""Blobs of fewer bytes start at a multiple of 4 instead of 64: a bias of eight floats shall not cost a cache line."""


def encode(graph: Graph, *, compress: bool = False) -> bytes:
    """The file's bytes; see `write`."""
    target = io.BytesIO()
    _write_to(target, graph, compress)
    return target.getvalue()


def write(graph: Graph, path: str | os.PathLike[str], *, compress: bool = False, overwrite: bool = False) -> int:
    """Write a graph to an .ecnn file, whole or not at all: no half file is ever left, and none is lost (see files.py).

    Args:
        compress: compress each constant losslessly (zlib) where that makes it smaller.
        overwrite: whether an existing file may be replaced.

    Returns:
        Bytes written.

    Raises:
        GraphError: the graph breaks a rule.
        InputError: the file exists and may not be replaced.
        ModelFileError: it cannot be written (no such folder, no right, disk full), or there is a folder, a device or a pipe.
    """
    graph.check()
    if os.path.exists(path) and not overwrite:
        raise InputError(f"{path}: exists already; allow to replace it (overwrite=True, --force) or name another file")
    with replacing(path, ModelFileError) as file:
        return _write_to(file, graph, compress)


def _write_to(file: BinaryIO, graph: Graph, compress: bool) -> int:
    strings = _Strings(graph)
    blobs: list[tuple[int, memoryview]] = []
    directory = _constants(graph, strings, compress, blobs)
    parts: list[tuple[int, int, Sequence[tuple[int, memoryview]]]] = [
        (GRAPH, REQUIRED, [(0, memoryview(_graph(graph, strings)))]),
        (CONSTANTS, REQUIRED, [(0, memoryview(directory))]),
        (WEIGHTS, REQUIRED, blobs),
    ]
    if graph.metadata:
        parts.append((METADATA, 0, [(0, memoryview(metadata_section.encode(graph.metadata)))]))
    lengths = [max((offset + len(blob) for offset, blob in items), default=0) for _, _, items in parts]
    offsets, length = place_sections(lengths)
    sections = []
    for (kind, flags, items), offset, size in zip(parts, offsets, lengths, strict=True):
        checksum = 0
        for chunk in _chunks(items):
            checksum = zlib.crc32(chunk, checksum)
        sections.append(Section(kind, flags, offset, size, checksum))
    head = pack_head(sections, length)
    file.write(head)
    end = len(head)
    for (_, _, items), section in zip(parts, sections, strict=True):
        file.write(bytes(section.offset - end))
        for chunk in _chunks(items):
            file.write(chunk)
        end = section.offset + section.length
    return length


def _chunks(items: Sequence[tuple[int, memoryview]]) -> Iterator[memoryview]:
    """A section's bytes: its blobs, and zeros between them."""
    end = 0
    for offset, blob in items:
        yield memoryview(bytes(offset - end))
        yield blob
        end = offset + len(blob)


class _Strings:
    """Every name once, in the order of first use."""

    def __init__(self, graph: Graph) -> None:
        names = [graph.name, *graph.tensors, *graph.constants]
        names += [port.name for port in (*graph.inputs, *graph.outputs)]
        for node in graph.nodes:
            names += [node.operator, node.name, *sorted(node.attributes), *node.layers]
            names += [value for _, value in sorted(node.attributes.items()) if isinstance(value, str)]
        self.index = {name: i for i, name in enumerate(dict.fromkeys(names))}

    def __getitem__(self, name: str) -> int:
        return self.index[name]


def _graph(graph: Graph, strings: _Strings) -> bytes:
    out = Output()
    out.varint(len(strings.index))
    for name in strings.index:
        out.text(name)
    out.varint(strings[graph.name])
    tensors = {name: i for i, name in enumerate(graph.tensors)}
    constants = {name: i for i, name in enumerate(graph.constants)}
    out.varint(len(tensors))
    for tensor in graph.tensors.values():
        out.varint(strings[tensor.name])
        _shape(out, tensor.shape)
    for structure, ports in ((graph.input_structure, graph.inputs), (graph.output_structure, graph.outputs)):
        _ports(out, structure, ports, strings, tensors)
    out.varint(len(graph.nodes))
    for node in graph.nodes:
        out.varint(strings[node.operator])
        out.varint(strings[node.name])
        out.varint(len(node.inputs))
        for name in node.inputs:
            out.varint(0 if not name else 1 + 2 * tensors[name] if name in tensors else 2 + 2 * constants[name])
        out.varint(len(node.outputs))
        for name in node.outputs:
            out.varint(tensors[name])
        out.varint(len(node.attributes))
        for name, value in sorted(node.attributes.items()):
            out.varint(strings[name])
            _attribute(out, value, strings)
        out.varint(len(node.layers))
        for layer in node.layers:
            out.varint(strings[layer])
    return bytes(out.data)


def _shape(out: Output, shape: Sequence[int | None]) -> None:
    if len(shape) > MOST_RANK:
        raise GraphError(f"a shape of rank {len(shape)}: {tuple(shape)}; the file has room for {MOST_RANK}")
    out.varint(len(shape))
    for size in shape:
        out.varint(size or 0)


def _ports(out: Output, structure: str, ports: Sequence[Port], strings: _Strings, tensors: Mapping[str, int]) -> None:
    out.varint(STRUCTURES.index(structure))
    out.varint(len(ports))
    for port in ports:
        out.varint(strings[port.name])
        out.varint(tensors[port.tensor])


def _attribute(out: Output, value: Any, strings: _Strings) -> None:
    """Tag, then the value: 0 int, 1 float, 2 string, 3 ints, 4 floats (an empty tuple is 4)."""
    if isinstance(value, tuple) and len(value) > MOST_ITEMS:
        raise GraphError(f"an attribute of {len(value)} numbers; the file has room for {MOST_ITEMS}")
    if isinstance(value, str):
        out.varint(2)
        out.varint(strings[value])
    elif isinstance(value, int):
        out.varint(0)
        out.signed(value)
    elif isinstance(value, float):
        out.varint(1)
        out.double(value)
    elif value and isinstance(value[0], int):
        out.varint(3)
        out.varint(len(value))
        for item in value:
            out.signed(item)
    else:
        out.varint(4)
        out.varint(len(value))
        for item in value:
            out.double(item)


def _constants(graph: Graph, strings: _Strings, compress: bool, blobs: list[tuple[int, memoryview]]) -> bytes:
    """The directory of constants; their bytes are put into `blobs`, as (offset in the weights section, bytes)."""
    out = Output()
    out.varint(len(graph.constants))
    end = 0
    for constant in graph.constants.values():
        tag, raw_length, data = encodings.encode(constant, compress)
        out.varint(strings[constant.name])
        out.varint(tag)
        out.varint(raw_length)
        _shape(out, constant.shape)
        for blob in (data, *_quantization(constant)):
            offset = align(end, 4 if len(blob) < SMALL_BLOB else 64)
            out.varint(offset)
            out.varint(len(blob))
            blobs.append((offset, blob))
            end = offset + len(blob)
        if constant.quantization is not None:
            axis = constant.quantization.axis
            out.varint(0 if axis is None else axis + 1)
    return bytes(out.data)


def _quantization(constant: Constant) -> list[memoryview]:
    """Scales and zero points of an int8 constant."""
    if constant.quantization is None:
        return []
    scales = constant.quantization.scales.astype("<f4").tobytes()
    return [memoryview(scales), memoryview(constant.quantization.zero_points.astype("<i4").tobytes())]
