"""Where the time of a call goes: seconds by step, beside what the step had to compute and to move."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.errors import printable
from edgecnn.graph import Graph
from edgecnn.runtime import cpu
from edgecnn.runtime.bands import macs_of
from edgecnn.runtime.planner import PackedWeights, read_in_place

if TYPE_CHECKING:
    from edgecnn.runtime.machine import Machine
    from edgecnn.runtime.planner import Plan

RECORDED = 8
"""Runs whose every step is kept for a trace."""

CALL = "call"
"""The operator of the last row of a profile."""

save_profile: Callable[[Profile, str | os.PathLike[str]], None] | None = None
"""What writes profiles. It lives on a higher floor, and the package puts it here (see edgecnn/__init__.py)."""


@dataclass(frozen=True)
class Profile:
    """Time by step, from `Model.profile`.

    Attributes:
        steps: for each step a dict, and one of operator "call" for what lies outside the steps (entering the call, waking
            the threads, leaving), so that their times sum to that of the call:
            node, operator, kernel, instruction_set, shape (of its output, without the batch);
            macs: multiply-accumulates of the plain sums (Winograd's and Strassen's algorithms do fewer);
            bytes, weight_bytes: what it reads and writes, and the weights among that, as packed for this machine;
            median_ms, low_ms, high_ms: its time, with the 10th and the 90th percentile;
            share: of the call's time, 0 to 1;
            gflops, share_of_peak; bandwidth (GB/s), share_of_bandwidth: at the median;
            efficiency: how near it comes to the nearest roof, the peak or the cache's bandwidth, 0 to 1.
        total_ms: median time of the whole call, measured with profiling off.
        runs, threads: how it was measured.
        model, instruction_set: what was measured.
        peak_gflops, bandwidth, cache_bandwidth: what as many threads reach here with multiply-adds in registers alone
            (GFLOP/s), and copying in memory and in the second-level cache (GB/s).
        arena: bytes of the arena.
        placements: what lies in the arena, as dicts: tensors, offset and size (bytes), first and last (indices of steps).
        memory: bytes of file (None if unknown), weights (packed) and scratch (of each thread).
        recorded: milliseconds of each of `steps` in some runs.
    """

    steps: tuple[dict[str, Any], ...]
    total_ms: float
    runs: int
    threads: int
    model: str = ""
    instruction_set: str = ""
    peak_gflops: float = 0.0
    bandwidth: float = 0.0
    cache_bandwidth: float = 0.0
    arena: int = 0
    placements: tuple[dict[str, Any], ...] = ()
    memory: Mapping[str, int | None] = field(default_factory=dict)
    recorded: tuple[tuple[float, ...], ...] = ()

    @property
    def steps_ms(self) -> float:
        """The sum of the steps' medians."""
        return float(sum(step["median_ms"] for step in self.steps))

    @property
    def call_ms(self) -> float:
        """The median of what lies outside the network's steps."""
        return float(sum(step["median_ms"] for step in self.steps if step["operator"] == CALL))

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return {**vars(self), "steps_ms": self.steps_ms, "memory": dict(self.memory)}

    def table(self) -> str:
        """A line a step, for people."""
        head = f"{'ms':>9} {'%':>5} {'GFLOP/s':>8} {'of peak':>7} {'GB/s':>6} {'of memory':>9}  "
        lines = [f"{head}{'operator':<22} {'kernel':<30} node"]
        lines += [
            f"{step['median_ms']:9.4f} {100 * step['share']:5.1f} {step['gflops']:8.1f} "
            f"{100 * step['share_of_peak']:5.0f} % {step['bandwidth']:6.1f} {100 * step['share_of_bandwidth']:7.0f} %  "
            f"{step['operator']:<22} {step['kernel']:<30} {printable(step['node'])}"
            for step in self.steps
        ]
        lines.append(f"{self.total_ms:9.4f} 100.0 {'':34} the whole call, measured with profiling off")
        lines.append(
            f"{self.instruction_set}, {self.threads} thread{'s' if self.threads != 1 else ''}, medians of {self.runs} runs; "
            f"peak {self.peak_gflops:.0f} GFLOP/s, memory {self.bandwidth:.1f} GB/s (more comes from the caches)"
        )
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile beside the target, and rename; an existing file is replaced.

        Args:
            path: .json, .html (a page that needs nothing else), .png (needs matplotlib), or .trace.json (for Perfetto and
                chrome://tracing).

        Raises:
            InputError: another suffix.
            MissingPackageError: a picture without matplotlib.
            DataFileError: it cannot be written.
        """
        assert save_profile is not None  # the package has put it there
        save_profile(self, path)


def summarise(
    graph: Graph,
    plan: Plan,
    weights: PackedWeights,
    times: np.ndarray[Any, Any],
    total_ms: float,
    machine: Machine,
) -> tuple[dict[str, Any], ...]:
    """The steps of a `Profile`.

    Args:
        times: seconds of every step, and of what lies outside them: a row a run.
    """
    names = {entry.name for entry in cpu.INSTRUCTION_SETS}
    rows: list[dict[str, Any]] = []
    for step, nodes in zip(plan.steps, plan.step_nodes, strict=True):
        weight_bytes = _weight_bytes(graph, nodes, weights)
        last = step.kernel.rsplit(" ", 1)[-1]
        rows.append(
            {
                "node": step.name,
                "operator": " > ".join(node.operator for node in nodes) or "copy",
                "kernel": step.kernel,
                "instruction_set": last if last in names else "portable",
                "shape": list(plan.shapes[nodes[-1].output] if nodes else ()),
                "macs": macs_of(nodes, graph, plan.shapes),
                "bytes": weight_bytes + _tensor_bytes(plan, nodes, step.name),
                "weight_bytes": weight_bytes,
            }
        )
    nothing = {"kernel": "", "instruction_set": "", "shape": [], "macs": 0, "bytes": 0, "weight_bytes": 0}
    rows.append({"node": "entering and leaving", "operator": CALL, **nothing})
    for row, column in zip(rows, 1e3 * times.T, strict=True):
        median = float(np.median(column))
        row |= {
            "median_ms": median,
            "low_ms": float(np.percentile(column, 10)),
            "high_ms": float(np.percentile(column, 90)),
            "share": median / total_ms if total_ms else 0.0,
        }
        gflops, bandwidth = (1e-6 * amount / median if median else 0.0 for amount in (2 * row["macs"], row["bytes"]))
        row |= {
            "gflops": gflops,
            "share_of_peak": gflops / machine.peak_gflops,
            "bandwidth": bandwidth,
            "share_of_bandwidth": bandwidth / machine.bandwidth,
            "efficiency": min(1.0, max(gflops / machine.peak_gflops, bandwidth / machine.cache_bandwidth)),
        }
    return tuple(rows)


def _weight_bytes(graph: Graph, nodes: Sequence[Any], weights: PackedWeights) -> int:
    """Of all constants that a step reads, as they are packed, or as they are where they are read in place."""
    return sum(weights.nbytes_of(node.name) for node in nodes) + sum(read_in_place(graph, nodes, weights).values())


def _tensor_bytes(plan: Plan, nodes: Sequence[Any], name: str) -> int:
    """Of all tensors that a step reads and writes. What passes between the nodes of a step stays in the cache."""
    if not nodes:  # a copy to an output
        return 2 * 4 * int(np.prod(plan.shapes[name.removeprefix("copy of ")]))
    made = {output for node in nodes for output in node.outputs}
    read = {tensor for node in nodes for tensor in node.inputs if tensor in plan.shapes} - made
    written = {nodes[-1].output}
    if nodes[-1].operator == "concatenate":  # its inputs are slices of its output already, where they can be
        views = plan.layout.views
        out = views[nodes[-1].output]
        read = {t for t in read if (views[t].buffer, views[t].pixel) != (out.buffer, out.pixel)}
        return 2 * 4 * sum(int(np.prod(plan.shapes[tensor])) for tensor in read)
    return 4 * sum(int(np.prod(plan.shapes[tensor])) for tensor in read | written)


def placements_of(graph: Graph, plan: Plan) -> tuple[dict[str, Any], ...]:
    """The arena's, their times as indices of steps."""
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    last_nodes = [order[nodes[-1].name] if nodes else len(order) for nodes in plan.step_nodes]

    def step_at(node: int) -> int:
        """The first step that is done no earlier than a node."""
        found = next((index for index, last in enumerate(last_nodes) if last >= node), len(last_nodes) - 1)
        return max(found, 0)

    return tuple(
        {
            "tensors": list(placement.tensors),
            "offset": placement.offset,
            "size": placement.size,
            "first": step_at(placement.first),
            "last": step_at(placement.last),
        }
        for placement in plan.layout.placements
    )
