"""File -> graph. Files come from strangers: nothing in them is believed before it is checked, nothing is executed."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edgecnn.budget import Budget
from edgecnn.errors import CorruptFileError, GraphError
from edgecnn.format import encodings
from edgecnn.format import metadata as metadata_section
from edgecnn.format.container import (
    CONSTANTS,
    GRAPH,
    METADATA,
    MOST_ITEMS,
    WEIGHTS,
    Checksums,
    Section,
    align,
    parse_head,
)
from edgecnn.format.mapping import address_of
from edgecnn.format.primitives import Input
from edgecnn.format.source import ROOM, PrivateCopy, open_source
from edgecnn.format.writer import SMALL_BLOB, STRUCTURES
from edgecnn.graph import Constant, Graph, Node, Port, Quantization, ReleasableConstant, Tensor
from edgecnn.graph.graph import MAX_ELEMENTS, MOST_RANK


@dataclass(frozen=True)
class ConstantInfo:
    """How one constant is stored.

    Attributes:
        name, shape: the constant's.
        encoding: as in `Constant.encoding`, with "bitmask" or "gaps" where sparse and "zlib" where compressed.
        stored_bytes, dense_bytes: in the file, and as dense float32 (or int8).
        sparsity: share of values that are zero, 0 to 1.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    stored_bytes: int
    dense_bytes: int
    sparsity: float


@dataclass(frozen=True)
class FileInfo:
    """What an .ecnn file is made of.

    Attributes:
        version: of the format, (major, minor).
        size: bytes.
        sections: in order, with offsets, lengths and checksums.
        constants: in order.
    """

    version: tuple[int, int]
    size: int
    sections: tuple[Section, ...]
    constants: tuple[ConstantInfo, ...]


MOST_REMEMBERED = 16
"""Different attributes of an operator that are looked for among the bytes before these are read."""
WORTH_RELEASING = 2**16
"""Bytes of a constant whose pages may be given back one day."""


class _Record(NamedTuple):
    """One entry of the directory of constants."""

    name: str
    tag: int
    raw_length: int
    shape: tuple[int, ...]
    blobs: tuple[tuple[int, int], ...]
    axis: int | None
    file: str

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes that decoding keeps, and bytes that it takes besides, for a while."""
        return encodings.memory(self.tag, self.raw_length, math.prod(self.shape))


def read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    max_bytes: int | None = None,
    budget: Budget | None = None,
) -> Graph:
    """Read an .ecnn file.

    Dense float32 constants are read-only views of the file's bytes; others are decoded.

    Args:
        source: a path, or the file's bytes.
        max_bytes: most bytes that decoding may allocate; None: 64 MiB and 512 for each byte of the file.
        budget: the account that the file is charged to, in place of one with max_bytes.

    Raises:
        CorruptFileError: the bytes contradict themselves or the format.
        VersionError: the file needs a newer reader.
        ModelFileError: no such file, no right to read it, or it exceeds max_bytes.
    """
    with reading(source, budget or Budget(max_bytes)) as graph:
        return graph


@contextlib.contextmanager
def reading(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    budget: Budget | None = None,
    *,
    mapped: bool = False,
) -> Iterator[Graph]:
    """As `read`, for work that may begin before the checksums of large sections are known: the block ends when they are.

    Args:
        budget: the account that the file is charged to; None: a new one.
        mapped: whether a file is mapped into memory, and not read: whoever changes it then changes the weights.

    Raises:
        CorruptFileError: at the block's end, too, whatever else was raised in it.
    """
    budget = budget or Budget()
    data, name = open_source(source, mapped, budget)
    _, sections = parse_head(data, name)
    checksums = Checksums(data, sections, name)
    try:
        yield _read(data, sections, name, budget)
    finally:
        checksums.wait()


def _read(data: memoryview, sections: list[Section], name: str, budget: Budget) -> Graph:
    parts = _parts(data, sections, name)
    graph_input = Input(parts[GRAPH], f"{name}: section graph")
    strings = _strings(graph_input)
    records = _directory(parts, strings, name)
    _charge(records, budget)
    try:
        constants = {record.name: _constant(record, parts[WEIGHTS], budget) for record in records}
    except MemoryError as error:
        raise budget.run_out() from error
    if len(constants) != len(records):
        raise CorruptFileError(f"{name}: section constants: two constants have the same name")
    metadata: dict[str, Any] = {}
    if METADATA in parts:
        metadata = metadata_section.decode(parts[METADATA], f"{name}: section metadata")
    graph = _graph(graph_input, strings, constants, metadata)
    try:
        graph.check()
    except (GraphError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{name}: {error}") from error
    return graph


def _charge(records: list[_Record], budget: Budget) -> None:
    """Charge what decoding takes, before anything is decoded."""
    kept, besides, largest = 0, 0, ""
    for record in records:
        stays, passes = record.memory
        kept += stays
        if passes > besides:
            besides, largest = passes, record.name
        if kept > budget.most_bytes - budget.held:
            budget.borrow(kept, ("the weights up to constant", record.name))
    budget.hold(kept, "the weights")
    budget.borrow(besides, ("decoding constant", largest))


def describe(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> FileInfo:
    """What a file is made of: sections, and how each constant is stored. Reads the whole file and checks it."""
    graph = read(source)
    data, name = open_source(source, False, Budget())
    version, sections = parse_head(data, name)
    parts = _parts(data, sections, name)
    records = _directory(parts, _strings(Input(parts[GRAPH], name)), name)
    constants = []
    for record in records:
        array = graph.constants[record.name].array
        detail = {encodings.BITMASK32: " bitmask", encodings.BITMASK16: " bitmask"}
        detail |= {encodings.GAPS32: " gaps", encodings.GAPS16: " gaps"}
        constants.append(
            ConstantInfo(
                record.name,
                record.shape,
                encodings.NAMES[record.tag] + detail.get(record.tag, "") + (" zlib" if record.raw_length else ""),
                sum(length for _, length in record.blobs),
                array.nbytes,
                1 - np.count_nonzero(array) / array.size if array.size else 0.0,
            )
        )
    return FileInfo(version, len(data), tuple(sections), tuple(constants))


def _parts(data: memoryview, sections: list[Section], name: str) -> dict[int, memoryview]:
    parts = {s.kind: data[s.offset : s.offset + s.length] for s in sections}
    for kind, what in ((GRAPH, "graph"), (CONSTANTS, "constants"), (WEIGHTS, "weights")):
        if kind not in parts:
            raise CorruptFileError(f"{name}: there is no section {what}")
    return parts


def _strings(source: Input) -> list[str]:
    strings = [source.text() for _ in range(source.count("strings"))]
    if len(set(strings)) != len(strings):
        raise source.fail("a string is there twice")
    return strings


def _string(source: Input, strings: list[str]) -> str:
    return source.item(strings, "the index of a string")


def _directory(parts: dict[int, memoryview], strings: list[str], name: str) -> list[_Record]:
    """The directory of constants. Blobs must follow each other in order, with nothing but zeros between them."""
    source = Input(parts[CONSTANTS], f"{name}: section constants")
    weights = parts[WEIGHTS]
    records: list[_Record] = []
    end = 0
    for _ in range(source.count("constants")):
        constant = _string(source, strings)
        tag = source.varint(len(encodings.NAMES), ("the encoding of {!r}", constant))
        raw_length = source.varint(what=("the raw length of {!r}", constant))
        shape = _known_shape(source, constant)
        blobs = []
        for _ in range(3 if tag == encodings.INT8 else 1):
            offset, length = source.varint(what="an offset"), source.varint(what="a length")
            wanted = align(end, 4 if length < SMALL_BLOB else 64)
            if offset != wanted or length > len(weights) - offset:
                raise source.fail(
                    f"{constant!r} has {length} bytes at {offset} of the weights; wanted offset {wanted} and an end "
                    f"within {len(weights)}"
                )
            if offset > end and any(weights[end:offset]):
                raise source.fail(f"bytes {end} to {offset} of the weights, between blobs, must be zero")
            blobs.append((offset, length))
            end = offset + length
        axis = None
        if tag == encodings.INT8:
            axis = source.varint(len(shape) + 1, ("the quantised axis of {!r}", constant)) - 1
            axis = None if axis < 0 else axis
        records.append(_Record(constant, tag, raw_length, shape, tuple(blobs), axis, name))
    source.end()
    if end != len(weights):
        raise CorruptFileError(f"{name}: section weights has {len(weights)} bytes; its constants take {end}")
    return records


def _known_shape(source: Input, constant: str) -> tuple[int, ...]:
    shape = _shape(source, constant)
    if math.prod([size or 1 for size in shape]) > MAX_ELEMENTS:  # NumPy refuses such sizes beside a 0, too
        raise source.fail(f"{constant!r} has shape {shape}: more than {MAX_ELEMENTS} values")
    return shape


def _shape(source: Input, name: str) -> tuple[int, ...]:
    return source.varints(MOST_RANK + 1, ("the rank of {!r}", name), MAX_ELEMENTS + 1, ("a size of {!r}", name))


def _with_room(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array behind which there is memory: itself, or a copy if it ends with a page, behind which there may be none.

    Kernels load whole vectors, of which the lanes beyond an array are masked; where these have no memory that costs a
    microcode assist (and older emulators fault)."""
    if -(address_of(array) + array.nbytes) % mmap.PAGESIZE >= ROOM:
        return array
    copy = np.zeros(array.size + ROOM // array.itemsize, array.dtype)[: array.size].reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = False
    return copy


def _constant(record: _Record, weights: memoryview, budget: Budget) -> Constant:
    if budget.deadline is not None:
        budget.look(("constant", record.name))

    def fail(message: str) -> CorruptFileError:
        return CorruptFileError(f"{record.file}: constant {record.name!r}: {message}")

    offset, length = record.blobs[0]
    array = encodings.decode(record.tag, record.raw_length, weights[offset : offset + length], record.shape, fail)
    if len(weights) - offset - length < ROOM and not isinstance(weights.obj, PrivateCopy):
        array = _with_room(array)
    if record.tag == encodings.FLOAT32 and array.nbytes >= WORTH_RELEASING and isinstance(weights.obj, PrivateCopy):
        return ReleasableConstant(record.name, array)
    if record.tag != encodings.INT8:
        return Constant(record.name, array, encodings.NAMES[record.tag])
    channels = 1 if record.axis is None else record.shape[record.axis]
    scales, zero_points = (
        encodings.decode(encodings.FLOAT32, 0, weights[o : o + n], (channels,), fail) for o, n in record.blobs[1:]
    )
    return Constant(
        record.name, array, "int8", Quantization(scales, np.asarray(zero_points.view("<i4"), np.int32), record.axis)
    )


def _graph(source: Input, strings: list[str], constants: dict[str, Constant], metadata: dict[str, Any]) -> Graph:
    name = _string(source, strings)
    tensors: dict[str, Tensor] = {}
    for _ in range(source.count("tensors")):
        tensor = _string(source, strings)
        if tensor in tensors:
            raise source.fail(f"tensor {tensor!r} is there twice")
        tensors[tensor] = Tensor(tensor, tuple([size or None for size in _shape(source, tensor)]))
    order = list(tensors)
    input_structure, inputs = _ports(source, strings, order)
    output_structure, outputs = _ports(source, strings, order)
    names = list(constants)
    # By operator: networks repeat themselves, and one look is enough for attributes that are the same.
    read: defaultdict[str, list[tuple[bytes, dict[str, Any]]]] = defaultdict(list)
    nodes = [_node(source, strings, order, names, read) for _ in range(source.count("nodes"))]
    source.end()
    return Graph(name, inputs, outputs, tuple(nodes), tensors, constants, input_structure, output_structure, metadata)


def _ports(source: Input, strings: list[str], tensors: list[str]) -> tuple[str, tuple[Port, ...]]:
    structure = STRUCTURES[source.varint(len(STRUCTURES), "a structure")]
    ports = []
    for _ in range(source.count("ports")):
        name = _string(source, strings)
        ports.append(Port(name, source.item(tensors, "the index of a tensor")))
    return structure, tuple(ports)


def _node(
    source: Input,
    strings: list[str],
    tensors: list[str],
    constants: list[str],
    read: dict[str, list[tuple[bytes, dict[str, Any]]]],
) -> Node:
    operator = source.item(strings, "the index of a string")
    name = source.item(strings, "the index of a string")
    inputs = source.references(tensors, constants, name)
    outputs = source.items(tensors, "outputs", "the index of a tensor")
    before = read[operator]
    attributes = source.again(before)
    if attributes is None:
        begin = source.at
        attributes = _attributes(source, strings, name)
        if len(before) < MOST_REMEMBERED:
            before.append((source.since(begin), attributes))
    layers = source.items(strings, "layers", "the index of a string")
    return Node(operator, name, inputs, outputs, attributes, layers)


def _attributes(source: Input, strings: list[str], node: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    previous = ""
    for _ in range(source.count("attributes")):
        key = _string(source, strings)
        if attributes and key <= previous:
            raise source.fail(f"node {node!r}: its attributes are not in order")
        attributes[key], previous = _attribute(source, strings), key
    return attributes


_ATTRIBUTES: tuple[Callable[[Input, list[str]], Any], ...] = (
    lambda source, strings: source.signed(),
    lambda source, strings: source.double(),
    _string,
    lambda source, strings: source.signeds(MOST_ITEMS + 1, "the number of integers"),
    lambda source, strings: source.doubles(MOST_ITEMS + 1, "the number of floats"),
)
"""Reads an attribute of each kind."""


def _attribute(source: Input, strings: list[str]) -> Any:
    return _ATTRIBUTES[source.varint(len(_ATTRIBUTES), "the kind of an attribute")](source, strings)
