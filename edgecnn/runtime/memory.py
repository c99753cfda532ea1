"""Where every tensor of one image lies: lifetimes to places, so that memory is small and nothing is copied in vain.

Tensors share storage where they can: a reshape is its input; the inputs of a concatenation along the channels are slices
of its output, written there by their producers; an element-wise node, or a convolution with a residual, writes over an
operand that nobody reads afterwards. What remains are blocks with a size and a lifetime, placed in one arena greedily by
size. Source of the placement: Pisarchyk & Lee 2020 (arXiv 2001.03288), section 4.2, "greedy by size".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

from edgecnn.budget import Budget
from edgecnn.graph import Graph, Node
from edgecnn.runtime.arena import place

ALIGNMENT = 16
"""Floats: blocks start at multiples of 64 bytes."""

PLACED_IN_A_UNIT = 64
"""Pairs of blocks that are looked at in a unit of work (see budget.py)."""

ARENA = 0
"""The buffer number of the arena; inputs follow, then outputs."""

BINARY = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "prelu"),
    *("equal", "less", "keep"),
)
_POINTWISE = (
    "activation",
    "batch_normalization",
    "layer_normalization",
    "group_normalization",
    "softmax",
    "sparsemax",
)
IN_PLACE = {**dict.fromkeys(BINARY, (0, 1)), **dict.fromkeys(_POINTWISE, (0,))}
"""Operators whose output may overwrite an input, and which ones (convolutions: the residual)."""


class View(NamedTuple):
    """A tensor of one image in a buffer, as [height, width, channels]; all numbers count floats.

    Attributes:
        buffer: 0 the arena, then the inputs, then the outputs.
        offset: of the first value.
        row, pixel: from one row or pixel to the next; channels are contiguous.
    """

    buffer: int
    offset: int
    height: int
    width: int
    channels: int
    row: int
    pixel: int

    @property
    def contiguous(self) -> bool:
        """Whether all values follow each other."""
        return self.pixel == self.channels and self.row == self.width * self.channels


class Placement(NamedTuple):
    """Storage in the arena and when it is in use.

    Attributes:
        tensors: names of those that share it.
        offset, size: bytes.
        first, last: indices of the nodes that write it first and read it last.
    """

    tensors: tuple[str, ...]
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """The result.

    Attributes:
        views: a view of every tensor that a step reads or writes.
        copies: (tensor, view) pairs to copy at the end: outputs that could not be computed in place.
        skipped: names of nodes that need no step.
        arena: bytes.
        find_placements: gives `placements`, which few ask for.
    """

    views: Mapping[str, View]
    copies: tuple[tuple[str, View], ...]
    skipped: frozenset[str]
    arena: int
    find_placements: Callable[[], tuple[Placement, ...]]

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """What lies in the arena, in the order of first use."""
        return self.find_placements()


def as_image(shape: Sequence[int]) -> tuple[int, int, int]:
    """A tensor's shape without its batch as (height, width, channels): leading sizes make up the height."""
    channels = shape[-1] if shape else 1
    width = shape[-2] if len(shape) > 1 else 1
    return math.prod(shape[:-2]), width, channels


@dataclass
class _Block:
    """Storage shared by tensors. `root` is the tensor whose shape the block has."""

    root: str
    first: int
    last: int
    buffer: int = ARENA
    members: deque[str] = field(default_factory=deque)
    offset: int = 0
    sliced: bool = False
    """Whether a member lies inside another tensor, or another in it: such blocks are not merged any more."""


class _Layouter:
    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        chains: Sequence[Sequence[Node]],
        budget: Budget | None,
    ) -> None:
        self.graph = graph
        self.budget = budget
        self.shapes = shapes
        self.order = {node.name: index for index, node in enumerate(graph.nodes)}
        # The links of a chain work at the same time, which is that of the last.
        self.order |= {node.name: self.order[chain[-1].name] for chain in chains for node in chain}
        self.linked = {node.name for chain in chains for node in chain}
        self.inner = {node.output for chain in chains for node in chain[:-1]}
        """Tensors that pass between links: they live in scratch memory."""
        self.slices: dict[str, tuple[str, int]] = {}
        """A tensor that lies inside another: (the other, first channel)."""
        self.outer: set[str] = set()
        """Those that others lie in."""
        self.roots: dict[str, tuple[str, int]] = {}
        """What `_root` found, once all slices are known."""
        self.blocks: dict[str, _Block] = {}
        self.skipped: set[str] = set()
        self.fixed = {port.tensor: 1 + index for index, port in enumerate(graph.inputs)}
        self.copies: list[tuple[str, int]] = []

    def layout(self) -> Layout:
        self._make_blocks()
        self._fix_outputs()
        for node in self.graph.nodes:
            if node.operator == "reshape":
                self._share_reshape(node)
        for node in reversed(self.graph.nodes):
            if node.operator == "concatenate":
                self._slice_concatenation(node)
        for name in (*self.slices, *self.outer):
            self.blocks[name].sliced = True
        for node in self.graph.nodes:
            self._share_in_place(node)
        arena, placed = self._place()
        views = {name: self._view(name) for name in self.blocks}
        views |= {name: self._output_view(name, ARENA) for name in self.inner}
        copies = tuple((name, self._output_view(name, buffer)) for name, buffer in self.copies)
        return Layout(views, copies, frozenset(self.skipped), arena * 4, partial(self._placements, placed))

    def _placements(self, placed: Sequence[_Block]) -> tuple[Placement, ...]:
        members = {id(block): list(block.members) for block in placed}
        for name in self.slices:
            outer = id(self.blocks[self._root(name)[0]])
            if outer in members:  # else it lies in an output
                members[outer].append(name)
        found = [
            Placement(
                tuple(dict.fromkeys(members[id(block)])),
                4 * block.offset,
                4 * self._block_size(block),
                block.first,
                block.last,
            )
            for block in placed
        ]
        return tuple(sorted(found, key=lambda p: (p.first, p.offset)))

    def _make_blocks(self) -> None:
        end = len(self.graph.nodes)
        for name in self.shapes.keys() - self.inner:
            producer = self.graph.producers.get(name)
            first = self.order[producer.name] if producer else -1
            reads = [self.order[node.name] for node in self.graph.readers[name]]
            last = max([first, *reads])
            if name in self.graph.output_tensors:
                last = end
            self.blocks[name] = _Block(name, first, last, self.fixed.get(name, ARENA), deque([name]))

    def _fix_outputs(self) -> None:
        """Outputs are computed where the caller wants them, but for those that are inputs or appear twice."""
        for index, port in enumerate(self.graph.outputs):
            buffer = 1 + len(self.graph.inputs) + index
            if port.tensor in self.fixed:
                self.copies.append((port.tensor, buffer))
            else:
                self.fixed[port.tensor] = buffer
                self.blocks[port.tensor].buffer = buffer

    def _merge(self, kept: str, other: str) -> None:
        """The tensors of both blocks share one, whose root is that of `kept`'s."""
        a, b = self.blocks[kept], self.blocks[other]
        if a is b:
            return
        # The fewer tensors move, so that a long row of nodes is not gone through once for each of them.
        into, gone = (a, b) if len(a.members) >= len(b.members) else (b, a)
        into.root, into.buffer = a.root, a.buffer or b.buffer
        into.first, into.last = min(a.first, b.first), max(a.last, b.last)
        into.sliced = a.sliced or b.sliced
        if into is a:
            into.members.extend(gone.members)
        else:
            into.members.extendleft(reversed(gone.members))
        for name in gone.members:
            self.blocks[name] = into

    def _share_reshape(self, node: Node) -> None:
        x, y = node.inputs[0], node.output
        a, b = self.blocks[x], self.blocks[y]
        if a.buffer and b.buffer:
            return  # an input that is also an output: a copy
        self._merge(x, y)
        self.skipped.add(node.name)

    def _slice_concatenation(self, node: Node) -> None:
        """Producers write into the concatenation's output where they can; the kernel copies the other inputs.

        Later concatenations come first, so that a slice may hold slices.
        """
        out = node.output
        if node.attributes["axis"] != len(self.shapes[out]):
            return
        channel = 0
        for name in node.inputs:
            if self._can_be_slice(name) and self._strides_welcome(name):
                self.slices[name] = (out, channel)
                self.outer.add(out)
            channel += self.shapes[name][-1]

    def _can_be_slice(self, name: str) -> bool:
        block = self.blocks[name]
        return (
            name in self.graph.producers
            and block.buffer == ARENA
            and len(block.members) == 1
            and name not in self.slices
        )

    def _strides_welcome(self, name: str) -> bool:
        """Whether all nodes around a tensor can leave gaps between its pixels."""
        around = [*self.graph.readers[name], self.graph.producers[name]]
        return not any(self._wants_contiguous(node) for node in around)

    def _wants_contiguous(self, node: Node) -> bool:
        if node.operator in ("matmul", "resize"):
            return True
        rank = len(self.shapes[node.inputs[0]]) if node.inputs[0] in self.shapes else 0
        if node.operator == "softmax":
            return node.attributes["axis"] != rank
        return node.operator.startswith("reduce_") and node.attributes["axes"] != tuple(range(1, rank))

    def _share_in_place(self, node: Node) -> None:
        if node.name in self.linked:
            return  # threads still read rows at the edge of their neighbours' shares
        if node.operator in ("conv", "dense"):
            residual = node.input("residual")
            operands = [residual] if residual and residual != node.inputs[0] else []
        else:
            operands = [node.inputs[index] for index in IN_PLACE.get(node.operator, ())]
        out = node.output if len(node.outputs) == 1 else ""
        if not out or self.blocks[out].sliced:
            return
        now = self.order[node.name]
        for name in operands:
            if name not in self.blocks or self.shapes[name] != self.shapes[out]:
                continue
            block, target = self.blocks[name], self.blocks[out]
            others = [other for other in node.inputs if other in self.blocks and other != name]
            if (
                block is not target
                and block.buffer == ARENA
                and block.last == now
                and not block.sliced
                and all(self.blocks[other] is not block for other in others)
            ):
                self._merge(out, name)
                return

    def _root(self, name: str) -> tuple[str, int]:
        """The tensor in whose storage this one lies in the end, and the channel where it starts."""
        if name not in self.slices:
            return name, 0
        if name not in self.roots:
            # From the outermost inwards, so that nothing is gone through twice, however deep slices lie in slices.
            inwards = [name]
            while (outer := self.slices[inwards[-1]][0]) in self.slices and outer not in self.roots:
                inwards.append(outer)
            for inner in reversed(inwards):
                outer, channel = self.slices[inner]
                root, first = self.roots.get(outer, (outer, 0))
                self.roots[inner] = root, first + channel
        return self.roots[name]

    def _place(self) -> tuple[int, list[_Block]]:
        """Offsets of all arena blocks; gives the floats needed, and the blocks."""
        blocks: list[_Block] = []
        known: set[int] = set()
        for name, block in self.blocks.items():
            root, _ = self._root(name)
            if root != name:
                outer = self.blocks[root]
                outer.first, outer.last = min(outer.first, block.first), max(outer.last, block.last)
            elif block.buffer == ARENA and id(block) not in known:
                known.add(id(block))
                blocks.append(block)
        sizes = {id(block): self._block_size(block) for block in blocks}
        blocks.sort(key=lambda b: (-sizes[id(b)], b.first, b.root))
        if self.budget is not None:
            self.budget.work(len(blocks) ** 2 // PLACED_IN_A_UNIT, "placing so many tensors")
        offsets, total = place([(sizes[id(block)], block.first, block.last) for block in blocks])
        for block, offset in zip(blocks, offsets, strict=True):
            block.offset = offset
        return total, blocks

    def _block_size(self, block: _Block) -> int:
        return max(self._size(name) for name in block.members)

    def _size(self, name: str) -> int:
        size = math.prod(self.shapes[name])
        return -(-size // ALIGNMENT) * ALIGNMENT

    def _view(self, name: str) -> View:
        root, channel = self._root(name)
        block = self.blocks[root]
        height, width, channels = as_image(self.shapes[name])
        pixel = self.shapes[root][-1] if root != name else channels
        return View(block.buffer, block.offset + channel, height, width, channels, width * pixel, pixel)

    def _output_view(self, name: str, buffer: int) -> View:
        height, width, channels = as_image(self.shapes[name])
        return View(buffer, 0, height, width, channels, width * channels, channels)


def layout(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    chains: Sequence[Sequence[Node]] = (),
    budget: Budget | None = None,
) -> Layout:
    """Place the tensors of one image.

    Args:
        graph: a checked graph.
        shapes: every tensor's shape without the batch, all sizes known.
        chains: nodes that are computed together; what passes between them gets no place.
        budget: what placing may cost; None: no bound.
    """
    return _Layouter(graph, shapes, chains, budget).layout()
