"""What an .ecnn file holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.format import describe
from edgecnn.graph import Graph, Node
from edgecnn.runtime.model import Model, TensorSpec, load
from edgecnn.tools.text import Block, Table, count_text, joined, printable, shape_text, size_text


@dataclass(frozen=True)
class NodeRow:
    """One node. `parameters` and `stored_bytes` count the constants it reads, shared ones at each of their readers; `sparsity`
    is the share of these parameters that is zero, None where there are none."""

    operator: str
    name: str
    shape: tuple[int | None, ...]
    parameters: int
    macs: int | None
    stored_bytes: int
    activation: str
    sparsity: float | None


@dataclass(frozen=True)
class EncodingRow:
    """All constants that are stored one way."""

    encoding: str
    constants: int
    parameters: int
    stored_bytes: int
    dense_bytes: int


@dataclass(frozen=True)
class ConstantRow:
    """One constant, as the file stores it."""

    name: str
    shape: tuple[int, ...]
    encoding: str
    stored_bytes: int
    sparsity: float


@dataclass(frozen=True)
class SectionRow:
    """One section of the file."""

    name: str
    offset: int
    length: int
    checksum: int


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        sparsity: share of all parameters that are zero, 0 to 1.
        macs: multiply-accumulates for one image; None if a size is unknown.
        weight_memory, arena_memory, scratch_memory: bytes that computing takes on this CPU: weights (packed, or where they are
            read in place), every intermediate tensor of one image, and what the threads work in; None if a size is unknown.
    """

    path: str
    name: str
    version: tuple[int, int]
    size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: tuple[NodeRow, ...]
    constants: tuple[ConstantRow, ...]
    encodings: tuple[EncodingRow, ...]
    sections: tuple[SectionRow, ...]
    parameters: int
    sparsity: float
    macs: int | None
    weight_memory: int | None
    arena_memory: int | None
    scratch_memory: int | None
    metadata: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return joined(self.blocks())

    def blocks(self) -> list[Block]:
        """What is said of it, for people."""
        version = ".".join(map(str, self.version))
        parts: list[Block] = [
            f"{printable(self.path)}: {printable(self.name)}, {size_text(self.size)}, format {version}",
            *(f"input   {printable(spec.name)}: {spec.dtype} {shape_text(spec.shape)}" for spec in self.inputs),
            *(f"output  {printable(spec.name)}: {spec.dtype} {shape_text(spec.shape)}" for spec in self.outputs),
            "",
            self._node_table(),
            "",
            f"{len(self.nodes)} nodes, {count_text(self.macs)} MACs for one image",
            f"{self.parameters:,} parameters, {100 * self.sparsity:.1f} % of them zero",
            f"peak memory on this CPU for one image: {self._memory_text()}",
            "",
            *((self._encoding_table(), "") if self.encodings else ()),
            Table(
                ("section", "offset", "bytes", "CRC-32"),
                [(row.name, f"{row.offset:,}", f"{row.length:,}", f"{row.checksum:08x}") for row in self.sections],
                "lrrl",
            ),
        ]
        if self.metadata:
            parts += ["", "metadata", *(f"  {printable(key)}: {_value(value)}" for key, value in self.metadata.items())]
        return parts

    def _memory_text(self) -> str:
        if self.weight_memory is None or self.arena_memory is None or self.scratch_memory is None:
            return "unknown until the image's size is"
        parts = (("weights", self.weight_memory), ("arena", self.arena_memory), ("scratch", self.scratch_memory))
        told = ", ".join(f"{what} {size_text(size)}" for what, size in parts)
        return f"{size_text(sum(size for _, size in parts))} ({told})"

    def _node_table(self) -> Table:
        rows = [
            (
                row.operator,
                row.name,
                shape_text(row.shape),
                f"{row.parameters:,}",
                count_text(row.macs),
                f"{row.stored_bytes:,}",
                "" if row.sparsity is None else f"{100 * row.sparsity:.1f} %",
                "" if row.activation == "linear" else row.activation,
            )
            for row in self.nodes
        ]
        head = ("operator", "name", "output", "parameters", "MACs", "bytes", "zeros", "activation")
        return Table(head, rows, "lllrrrrl")

    def _encoding_table(self) -> Table:
        rows = [
            (row.encoding, str(row.constants), f"{row.parameters:,}", f"{row.stored_bytes:,}", f"{row.dense_bytes:,}")
            for row in self.encodings
        ]
        return Table(("encoding", "constants", "parameters", "bytes", "bytes dense"), rows, "lrrrr")


def _value(value: Any) -> str:
    """Metadata in one line, cut where it is long."""
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 100 else f"{text[:97]}..."


def inspect(source: str | os.PathLike[str] | bytes, name: str | None = None) -> Inspection:
    """Read a file and say what it holds.

    Args:
        source: an .ecnn file, or its bytes.
        name: what to call it; None: the path.

    Raises:
        ModelFileError: the file cannot be read.
    """
    info = describe(source)
    model = load(source)
    graph = model.graph
    stored = {constant.name: constant for constant in info.constants}
    parameters = {name: int(constant.array.size) for name, constant in graph.constants.items()}
    encodings: dict[str, list[str]] = {}
    for constant in info.constants:
        encodings.setdefault(constant.encoding, []).append(constant.name)
    total = sum(parameters.values())
    weight_memory, arena_memory, scratch_memory = _memory(model)
    return Inspection(
        path=name or ("bytes" if isinstance(source, bytes) else os.fspath(source)),
        name=graph.name,
        version=info.version,
        size=info.size,
        inputs=model.inputs,
        outputs=model.outputs,
        nodes=tuple(
            _row(graph, node, parameters, {name: (e.stored_bytes, e.sparsity) for name, e in stored.items()})
            for node in graph.nodes
        ),
        constants=tuple(
            ConstantRow(e.name, graph.constants[e.name].shape, e.encoding, e.stored_bytes, e.sparsity)
            for e in info.constants
        ),
        encodings=tuple(
            EncodingRow(
                encoding,
                len(names),
                sum(parameters[name] for name in names),
                sum(stored[name].stored_bytes for name in names),
                sum(stored[name].dense_bytes for name in names),
            )
            for encoding, names in encodings.items()
        ),
        sections=tuple(SectionRow(s.name, s.offset, s.length, s.checksum) for s in info.sections),
        parameters=total,
        sparsity=sum(entry.sparsity * parameters[name] for name, entry in stored.items()) / total if total else 0.0,
        macs=model.macs,
        weight_memory=weight_memory,
        arena_memory=arena_memory,
        scratch_memory=scratch_memory,
        metadata=model.metadata,
    )


def _memory(model: Model) -> tuple[int | None, int | None, int | None]:
    if any(None in spec.shape[1:] for spec in model.inputs):
        return None, None, None
    memory = model.memory
    return memory.weights + memory.in_place, memory.arena, memory.scratch


def _row(graph: Graph, node: Node, parameters: Mapping[str, int], stored: Mapping[str, tuple[int, float]]) -> NodeRow:
    """stored: bytes and share of zeros of each constant."""
    constants = dict.fromkeys(name for name in node.inputs if name in parameters)
    count = sum(parameters[name] for name in constants)
    zeros = sum(parameters[name] * stored[name][1] for name in constants)
    return NodeRow(
        node.operator,
        node.name,
        graph.shape(node.output),
        count,
        graph.macs_of(node),
        sum(stored[name][0] for name in constants),
        str(node.attributes.get("activation", "linear")),
        zeros / count if count else None,
    )
