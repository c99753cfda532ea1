"""The order of the passes, and why each stands before the next."""

from __future__ import annotations

from edgecnn.converters.passes.absorb_zero_padding import absorb_zero_padding
from edgecnn.converters.passes.drop_identity import drop_identity
from edgecnn.converters.passes.fold_batch_normalization import fold_batch_normalization
from edgecnn.converters.passes.fold_scale import fold_scale
from edgecnn.converters.passes.fuse_activation import fuse_activation
from edgecnn.converters.passes.fuse_bias import fuse_bias
from edgecnn.converters.passes.fuse_residual import fuse_residual
from edgecnn.converters.passes.remove_dead_nodes import remove_dead_nodes
from edgecnn.converters.passes.share_constants import share_constants
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Pass, TraceRow, run_pass

PASSES: tuple[Pass, ...] = (
    # A node without use is a reader too, and would keep its input from being folded into.
    remove_dead_nodes,
    # Neighbours must meet: a dropout between a convolution and its normalisation would hide them from each other.
    drop_identity,
    # Padding first: a shift may only pass into a convolution whose padding is known.
    absorb_zero_padding,
    # Normalisations before single scales and shifts: they are both, and leave a bias that these add to.
    fold_batch_normalization,
    fold_scale,
    fuse_bias,
    # The sum before the activation: a convolution that ends in an activation can no longer take a residual.
    fuse_residual,
    fuse_activation,
    # Folding makes new constants; equal ones are looked for when all are there.
    share_constants,
)


def run(graph: Graph) -> tuple[Graph, tuple[TraceRow, ...]]:
    """The graph after all passes, and what each did."""
    graph.check()
    trace: list[TraceRow] = []
    for rewrite in PASSES:
        graph, rows = run_pass(graph, rewrite)
        trace += rows
    return graph, tuple(trace)
