"""Which nodes are computed together, band by band of rows, because what passes between them is too large for the cache."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgecnn.graph import OPERATORS, Graph, Node
from edgecnn.graph.operators import effective_kernel, ints, number, resolve_pads
from edgecnn.runtime.cpu import SECOND_LEVEL_BYTES
from edgecnn.runtime.kernels.algorithms import LEAST_CHANNELS, strassen_pays
from edgecnn.runtime.kernels.chain import band_of

LARGE_BYTES = SECOND_LEVEL_BYTES * 3 // 4
"""Of a tensor: what does not stay in the second-level cache beside all else until it is read."""
BUFFER_BYTES = SECOND_LEVEL_BYTES // 2
"""For all rows that pass between the links of a chain."""
WEIGHT_BYTES = SECOND_LEVEL_BYTES // 4
"""Of all links: more do not stay in the cache beside the rows."""
BLOCK_BYTES = SECOND_LEVEL_BYTES * 3 // 8
"""Of the pixels that a convolution alone takes before it reads its weights again; see kernels/convolution.pyx."""
MOST_LINKS = 4
"""Threads compute a few rows twice where their shares meet, the more of them the longer the chain."""
LEAST_ROWS = 14
"""Of the last output: with fewer, these rows weigh too much."""

Shapes = Mapping[str, tuple[int, ...]]
Span = tuple[int, int, int]


def find_chains(graph: Graph, shapes: Shapes) -> list[tuple[Node, ...]]:
    """Chains of at least two nodes, none in two of them.

    What passes from link to link is read by the next one alone. Of all ways to cut a longer row of such nodes, the one
    whose cuts let the fewest bytes of large tensors through memory.
    """
    found: list[tuple[Node, ...]] = []
    taken: set[str] = set()
    spans = Spans(graph, shapes)
    for node in graph.nodes:
        # Without a large tensor inside it a row has nothing to gain.
        if node.name in taken or all(_bytes(shapes[name]) <= LARGE_BYTES for name in node.outputs):
            continue
        row = _row(graph, node, spans)
        taken.update(link.name for link in row)
        if all(_bytes(shapes[link.output]) <= LARGE_BYTES for link in row[:-1]):
            continue
        links = [_link(graph, link, shapes, spans) for link in row]
        found += [chain for chain in _cut(links) if len(chain) > 1]
    return found


class Spans:
    """`span_of` each node that somebody asks for."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self.graph, self.shapes = graph, shapes
        self.known: dict[str, Span | None] = {}

    def __getitem__(self, node: Node) -> Span | None:
        if node.name not in self.known:
            self.known[node.name] = span_of(self.graph, node, self.shapes)
        return self.known[node.name]


def _row(graph: Graph, node: Node, spans: Spans) -> list[Node]:
    """The longest row of nodes around one, each of which alone reads the one before; only the node, where it can be no link."""
    row = [node]
    while (before := graph.producers.get(row[0].inputs[0])) is not None and _next(graph, before, spans) is row[0]:
        row.insert(0, before)
    while (following := _next(graph, row[-1], spans)) is not None:
        row.append(following)
    return row


def span_of(graph: Graph, node: Node, shapes: Shapes) -> Span | None:
    """(rows, stride, pad) of a node's window along the rows; None where it cannot be a link.

    Convolutions that Winograd's or Strassen's algorithm may compute are left out: these have blocks of their own.
    """
    x = node.inputs[0]
    if x not in shapes or len(shapes[x]) != 3 or len(node.outputs) != 1:
        return None
    if node.operator in ("batch_normalization", "activation"):
        return 1, 1, 0
    if node.operator in ("max_pool", "average_pool"):
        kernel: Sequence[int] = ints(node.attributes, "pool_size")
    elif node.operator in ("conv", "depthwise_conv"):
        weights, pixels = graph.constants[node.inputs[1]].shape, math.prod(shapes[node.output][:2])
        kernel = effective_kernel(weights[:2], ints(node.attributes, "dilations"))
        if node.operator == "depthwise_conv" and weights[-1] != 1:
            return None
        if node.operator == "conv" and (
            number(node.attributes, "groups") != 1 or _transformable(node, weights, pixels)
        ):
            return None
    else:
        return None
    pads = resolve_pads(node.attributes, shapes[x][:2], kernel)
    return (kernel[0], ints(node.attributes, "strides")[0], pads[0]) if min(pads) >= 0 else None


def _transformable(node: Node, weights: tuple[int, ...], pixels: int) -> bool:
    """Whether Winograd's algorithm may compute a convolution, or Strassen's would pay."""
    if max(ints(node.attributes, "strides")) > 1:
        return False
    if max(weights[:2]) > 1:
        return weights[2] >= LEAST_CHANNELS
    return strassen_pays(weights[2], weights[3], pixels, bool(node.input("residual")))


def _next(graph: Graph, node: Node, spans: Spans) -> Node | None:
    """The node that alone reads another's output, as its first input, if both can be links."""
    if len(node.outputs) != 1 or node.output in graph.output_tensors or spans[node] is None:
        return None
    readers = graph.readers[node.output]
    if len(readers) != 1:
        return None
    (reader,) = readers
    if reader.inputs.count(node.output) != 1 or reader.inputs[0] != node.output:
        return None
    return reader if spans[reader] is not None else None


def _bytes(shape: tuple[int, ...]) -> int:
    return 4 * math.prod(shape)


class _Link(NamedTuple):
    """What cutting a row needs of a node; sizes in bytes.

    Attributes:
        span: see `span_of`.
        size, rows, row: of its output, all of it, its number of rows, and the floats of one.
        weights: of its weights.
        read: of its input, all channels of the output's pixels.
    """

    node: Node
    span: Span
    size: int
    rows: int
    row: int
    weights: int
    read: int


def _link(graph: Graph, node: Node, shapes: Shapes, spans: Spans) -> _Link:
    span, out = spans[node], shapes[node.output]
    assert span is not None  # it could not stand in a row
    weights = 4 * math.prod(graph.constants[node.inputs[1]].shape) if node.operator.endswith("conv") else 0
    read = 4 * math.prod(out[:2]) * shapes[node.inputs[0]][-1]
    return _Link(node, span, _bytes(out), out[0], math.prod(out[1:]), weights, read)


def _cut(links: Sequence[_Link]) -> list[tuple[Node, ...]]:
    """The cheapest way to cut a row of nodes into chains; single nodes are steps of their own."""
    # For the first i nodes: bytes that pass through the last cache or memory, and where the last chain starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(links) + 1):
        options = []
        for start in range(max(0, end - MOST_LINKS), end):
            cost = _weights_read(links[start:end])
            if cost is None:
                continue
            size = links[start - 1].size if start else 0
            through = 2 * size if size > LARGE_BYTES else 0  # written and read
            options.append((best[start][0] + through + cost, -start))
        cost, start = min(options)
        best.append((cost, -start))
    chains: list[tuple[Node, ...]] = []
    end = len(links)
    while end:
        start = best[end][1]
        chains.append(tuple(link.node for link in links[start:end]))
        end = start
    return chains[::-1]


def _weights_read(chain: Sequence[_Link]) -> int | None:
    """Bytes of weights that a chain reads again for every band, or a node alone for every block of pixels, because they do not
    stay in the cache; None where the chain is not worth it or its buffers do not fit."""
    if len(chain) == 1:
        times = -(-chain[0].read // BLOCK_BYTES)
    else:
        if chain[-1].rows < LEAST_ROWS or all(link.size <= LARGE_BYTES for link in chain[:-1]):
            return None
        bands = band_of(
            [link.span for link in chain],
            [link.rows for link in chain],
            [link.row for link in chain],
            BUFFER_BYTES // 4,
        )
        if bands is None:
            return None
        times = -(-chain[-1].rows // bands[0])
    weights = sum(link.weights for link in chain)
    return times * weights if weights > WEIGHT_BYTES else 0


def macs_of(chain: Sequence[Node], graph: Graph, shapes: Shapes) -> int:
    """Multiply-accumulates of a chain for one image."""
    total = 0
    for node in chain:
        given = [
            None if not n else (None, *shapes[n]) if n in shapes else graph.constants[n].shape for n in node.inputs
        ]
        total += OPERATORS[node.operator].macs(node.attributes, given, [(None, *shapes[node.output])])
    return total
