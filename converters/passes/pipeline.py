"""The order of the passes, and why each stands before the next.

Now and then a later pass makes work for an earlier one (padding -> normalisation -> convolution: the padding is absorbed
once the normalisation is folded), so the whole row is gone through until nothing more is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps

from edgecnn.budget import charge, charge_work
from edgecnn.converters.passes.absorb_slice import absorb_slice
from edgecnn.converters.passes.absorb_transpose import absorb_transpose
from edgecnn.converters.passes.absorb_zero_padding import absorb_zero_padding
from edgecnn.converters.passes.drop_identity import drop_identity
from edgecnn.converters.passes.fold_batch_normalization import fold_batch_normalization
from edgecnn.converters.passes.fold_scale import fold_scale
from edgecnn.converters.passes.fuse_activation import fuse_activation
from edgecnn.converters.passes.fuse_bias import fuse_bias
from edgecnn.converters.passes.fuse_residual import fuse_residual
from edgecnn.converters.passes.merge_reshapes import merge_reshapes
from edgecnn.converters.passes.merge_scale_and_shift import merge_scale_and_shift
from edgecnn.converters.passes.merge_slices import merge_slices
from edgecnn.converters.passes.merge_transposes import merge_transposes
from edgecnn.converters.passes.remove_dead_nodes import remove_dead_nodes
from edgecnn.converters.passes.share_constants import share_constants
from edgecnn.converters.passes.share_nodes import share_nodes
from edgecnn.converters.passes.sink_transposes import sink_transposes
from edgecnn.errors import GraphError
from edgecnn.graph import Graph
from edgecnn.graph.canonical import in_order, named_after_nodes
from edgecnn.graph.rewrite import SPARE_ROUNDS, Pass, Patch, TraceRow, run_pass

PASSES: tuple[Pass, ...] = (
    # A node without use is a reader too, and would keep its input from being folded into.
    remove_dead_nodes,
    # Neighbours must meet: a dropout between a convolution and its normalisation would hide them from each other.
    drop_identity,
    # The layout before all that looks at neighbours: transpositions of channels_first layers would stand between them.
    merge_transposes,
    sink_transposes,
    absorb_transpose,
    # Shapes before values: these passes look at neighbours only, and are quick where they find nothing.
    merge_reshapes,
    # Slices before padding: what is sliced first leaves the padding to the convolution.
    merge_slices,
    absorb_slice,
    # Padding before the foldings: a shift may only pass into a convolution whose padding is known.
    absorb_zero_padding,
    # One scale and shift in place of several: the two halves of a Rescaling go into a convolution together or not at all.
    merge_scale_and_shift,
    # Once no two of their nodes touch, the three foldings do not depend on each other's order.
    fold_batch_normalization,
    fold_scale,
    fuse_bias,
    # Sums after biases: what is left of them adds two tensors. Sums before activations: a convolution that ends in an
    # activation can no longer take a residual.
    fuse_residual,
    # Activations last of what changes nodes: a scale behind one could not be folded.
    fuse_activation,
    # Folding makes new constants; equal ones are looked for when all are there.
    share_constants,
    # Nodes after constants: only then do equal layers of different weights' names read the same.
    share_nodes,
)


PASS_WORK = 4
"""Of a pass that looks at a node: units of work (see budget.py)."""


def _charged(rewrite: Pass) -> Pass:
    """A pass whose looks and new constants are charged to the conversion's budget: many layers may share weights, and a pass
    that changes these gives each layer its own."""

    @wraps(rewrite)
    def charged(graph: Graph) -> Iterator[Patch]:
        charge_work(PASS_WORK * len(graph.nodes), f"pass {rewrite.__name__}")
        for patch in rewrite(graph):
            for constant in patch.constants:
                charge(constant.array.nbytes, ("constant", constant.name))
            yield patch

    return charged


def run(graph: Graph) -> tuple[Graph, tuple[TraceRow, ...]]:
    """The graph after all passes, in the form of graph/canonical.py, and what each pass did.

    Raises:
        GraphError: the graph breaks a rule, or a pass breaks one; the message then names the pass.
    """
    graph.check()
    # Which of two convolutions takes a sum, which of two equal constants stays: such choices go by the order.
    graph = in_order(graph)
    trace: list[TraceRow] = []
    rounds = len(graph.nodes) + SPARE_ROUNDS
    for _ in range(rounds):
        found = len(trace)
        for rewrite in PASSES:
            graph, rows = run_pass(graph, _charged(rewrite))
            trace += rows
        if len(trace) == found:
            graph = named_after_nodes(in_order(graph))
            graph.check()
            return graph, tuple(trace)
    raise GraphError(f"the passes find no end after {rounds} rounds: they undo each other's work")
