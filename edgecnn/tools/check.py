"""Before a network runs on a device: how long it will take, what memory and what file, and what would help most."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgecnn.format import encode
from edgecnn.graph import Graph
from edgecnn.runtime.kernels.algorithms import TILE_SHARE, blocks_cost
from edgecnn.runtime.kernels.zeros import block_counts
from edgecnn.runtime.model import Model
from edgecnn.runtime.planner import Placed, outline
from edgecnn.runtime.threads import choose
from edgecnn.tools.costs import FUNCTIONS, Rates, StepCost, predict, rates_here, seconds_of, sizes_of, total, work_of
from edgecnn.tools.devices import DEVICES, rates_of
from edgecnn.tools.text import Bar, Block, Table, count_text, joined, printable, size_text

PRUNED = 0.8
"""Share of weights that pruning is assumed to take, in blocks of 16 filters."""
BLOCK = 16
NAMED = 3
"""Layers that are named for each technique: those where it saves most."""
LONGEST = 8
"""Steps that are listed."""


@dataclass(frozen=True)
class Saving:
    """What a technique would save in one layer: milliseconds, and bytes of the file."""

    layer: str
    milliseconds: float
    bytes: int


@dataclass(frozen=True)
class Technique:
    """What a technique would save.

    Attributes:
        name: "weight pruning", "average pooling", "batch normalisation", "activation", "depthwise-separable structure".
        how: what would be done.
        milliseconds, bytes: saved in all.
        layers: where it saves most.
    """

    name: str
    how: str
    milliseconds: float
    bytes: int
    layers: tuple[Saving, ...]


@dataclass(frozen=True)
class Check:
    """The result of `check`.

    Attributes:
        model, target, threads: of what.
        estimate: whether the target's figures are estimates; else they were measured here, now.
        latency_ms: predicted, for one image.
        measured_ms: median of real calls, where they were asked for.
        memory: bytes of weights, arena and scratch memory; Python and NumPy need some 30 MB beside that.
        file: bytes of the .ecnn file.
        macs, parameters: of the network.
        steps: predictions, the longest first.
        techniques: the one that saves most time first.
        over: a sentence for each budget that is exceeded.
    """

    model: str
    target: str
    threads: int
    estimate: bool
    latency_ms: float
    measured_ms: float | None
    memory: int
    file: int
    macs: int
    parameters: int
    steps: tuple[StepCost, ...]
    techniques: tuple[Technique, ...]
    over: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def __str__(self) -> str:
        return joined(self.blocks())

    def blocks(self) -> list[Block]:
        """What is said of it, for people."""
        sure = "an estimate" if self.estimate else "calibrated here, now"
        measured = "" if self.measured_ms is None else f"; measured {self.measured_ms:.3g} ms"
        steps = [
            (
                f"{1e3 * step.seconds:.3g}",
                f"{100e3 * step.seconds / self.latency_ms:.0f} %",
                Bar(step.seconds / self.steps[0].seconds, 0.8),
                step.kind,
                count_text(step.macs),
                step.operator,
                step.node,
            )
            for step in self.steps[:LONGEST]
        ]
        advice = [
            (
                f"{technique.milliseconds:.3g}",
                f"{100 * technique.milliseconds / self.latency_ms:.0f} %",
                Bar(technique.milliseconds / self.latency_ms, 0.8),
                size_text(technique.bytes),
                technique.name,
                ", ".join(saving.layer for saving in technique.layers) or "nowhere",
            )
            for technique in self.techniques
        ]
        return [
            f"{printable(self.model)} on {self.target}, {self.threads} thread{'s' if self.threads != 1 else ''}",
            f"latency  {self.latency_ms:.3g} ms predicted ({sure}){measured}",
            f"memory   {size_text(self.memory)} at the peak",
            f"file     {size_text(self.file)}",
            f"network  {count_text(self.macs)} MACs, {count_text(self.parameters)} parameters, {len(self.steps)} steps",
            "",
            "the longest steps",
            Table(("ms", "share", "", "by its", "MACs", "operator", "node"), steps, "rrllrll"),
            "",
            "what would help, by the same model (try it: edgecnn prune, edgecnn.training)",
            Table(("saves ms", "share", "", "and in the file", "technique", "most in"), advice, "rrlrll"),
            *(f"over budget: {sentence}" for sentence in self.over),
        ]


def check(
    graph: Graph,
    name: str,
    target: str = "here",
    threads: int | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    *,
    max_ms: float | None = None,
    max_mb: float | None = None,
    max_kb: float | None = None,
    measure: bool = False,
) -> Check:
    """Predict what a network costs.

    Args:
        graph: the network's.
        name: what to call it.
        target: "here", or a name of `devices.DEVICES`.
        threads: None: here as for `load`, on a device all cores.
        inputs: sizes without the batch, by input name, where the graph leaves them open.
        max_ms, max_mb, max_kb: budgets of latency, memory (10^6 bytes) and file (10^3 bytes).
        measure: whether to measure the latency here as well.

    Raises:
        InputError: an unknown target, a size that is not known.
    """
    here = target == "here"
    count = choose(threads) if here else (DEVICES[target].cores if threads is None and target in DEVICES else threads)
    rates = rates_here(choose(threads)) if here else rates_of(target, threads)
    steps = predict(graph, rates, inputs)
    sizes = sizes_of(graph, inputs)
    model = Model(graph, threads=1, isa=rates.instruction_set.name)
    found = Check(
        model=name,
        target="this machine" if here else DEVICES[target].title,
        threads=int(count or 1),
        estimate=not here,
        latency_ms=1e3 * total(steps, rates),
        measured_ms=measured(graph, sizes, choose(threads)) if measure and here else None,
        memory=peak_memory(model, sizes, int(count or 1)),
        file=len(encode(graph)),
        macs=sum(step.macs for step in steps),
        parameters=sum(int(constant.array.size) for constant in graph.constants.values()),
        steps=tuple(sorted(steps, key=lambda step: -step.seconds)),
        techniques=techniques(graph, sizes, rates),
    )
    budgets = (
        (max_ms, found.latency_ms, "ms", "predicted latency"),
        (max_mb, found.memory / 1e6, "MB", "peak memory"),
        (max_kb, found.file / 1e3, "kB", "file"),
    )
    over = tuple(
        f"{what} {value:,.3f} {unit}, more than {most:g} {unit}"
        for most, value, unit, what in budgets
        if most is not None and value > most
    )
    return replace(found, over=over)


def measured(graph: Graph, sizes: Mapping[str, tuple[int, ...]], threads: int, seconds: float = 1.0) -> float:
    """Median milliseconds of a call here."""
    model = Model(graph, threads=threads)
    images = {port.name: np.zeros((1, *sizes[port.tensor]), np.float32) for port in graph.inputs}
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 13 or time.perf_counter() < end:
        started = time.perf_counter()
        model.run(images)
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times[3:]))


def peak_memory(model: Model, sizes: Mapping[str, tuple[int, ...]], threads: int) -> int:
    """What a model of one thread says of itself for images of some sizes, with scratch for so many threads."""
    model.run({port.name: np.zeros((1, *sizes[port.tensor]), np.float32) for port in model.graph.inputs})
    memory = model.memory
    return memory.total + (threads - 1) * memory.scratch


def techniques(graph: Graph, sizes: Mapping[str, tuple[int, ...]], rates: Rates) -> tuple[Technique, ...]:
    """What each of the five techniques would save, the one that saves most time first."""
    nodes = [one for step in outline(graph, sizes, rates.instruction_set).steps for one in step]
    convolutions = [one for one in nodes if one.node.operator == "conv"]
    later = convolutions[1:]
    found = [
        _technique(
            "weight pruning",
            f"zero {100 * PRUNED:.0f} % of the weights in blocks of {BLOCK} filters",
            [_pruned(one, rates) for one in (*later, *(one for one in nodes if one.node.operator == "dense"))],
        ),
        _technique(
            "average pooling",
            "average each channel before the dense layer, in place of flattening the image",
            [saving for one in nodes if (saving := _pooled(one, graph, sizes, rates)) is not None],
        ),
        _technique(
            "batch normalisation",
            "normalise by batches, directly behind a convolution: it is folded into its weights and costs nothing",
            [_removed(one, rates) for one in nodes if "normalization" in one.node.operator],
        ),
        _technique(
            "activation", "ReLU in place of a function that must be computed", [_plain(one, rates) for one in nodes]
        ),
        _technique(
            "depthwise-separable structure",
            "a depthwise convolution and one of single pixels in place of a window over all channels",
            [_separated(one, rates) for one in later if _window(one) > 1 and one.node.attributes["groups"] == 1],
        ),
    ]
    return tuple(sorted(found, key=lambda technique: -technique.milliseconds))


def _technique(name: str, how: str, savings: Sequence[Saving]) -> Technique:
    useful = sorted(
        (saving for saving in savings if saving.milliseconds > 0 or saving.bytes > 0),
        key=lambda saving: (-saving.milliseconds, -saving.bytes),
    )
    spared = sum(max(saving.milliseconds, 0.0) for saving in useful)
    return Technique(name, how, spared, sum(saving.bytes for saving in useful), tuple(useful[:NAMED]))


def _seconds(work: Mapping[str, float], rates: Rates) -> float:
    return sum(seconds_of(work, rates).values())


def _layer(one: Placed) -> str:
    return one.node.layers[0] if one.node.layers else one.node.name


def _window(one: Placed) -> int:
    weights = one.constant("weights")
    return 1 if weights is None else math.prod(weights.shape[:-2])


def _pruned(one: Placed, rates: Rates) -> Saving:
    """Of blocks of filters that are zero. Vectors by matrices are read whole, zeros or not: only the file gets smaller."""
    weights = one.constant("weights")
    assert weights is not None  # convolutions and dense layers have them
    dense = int(np.count_nonzero(weights)) * 4
    spared = round(dense * PRUNED - weights.size / 8)
    work = work_of([one])
    kinds = [kind for kind in ("direct", "winograd", "strassen") if work[kind]]
    if one.node.operator != "conv" or not kinds or one.node.attributes["groups"] != 1:
        return Saving(_layer(one), 0.0, max(spared, 0))
    filters = weights.shape[-1]
    rng = np.random.default_rng(0)
    blocks = rng.random((weights.size // filters, -(-filters // BLOCK))) >= PRUNED
    kept = np.repeat(blocks, BLOCK, axis=1)[:, :filters].astype(np.float32)
    counts = block_counts(kept, 1, one.instruction_set.lanes)
    cost = min(blocks_cost(counts, vectors, one) for vectors in (1, 2))
    before = sum(seconds_of({kind: work[kind] for kind in kinds}, rates).values())
    return Saving(_layer(one), 1e3 * max(0.0, before - _seconds({"blocks": cost}, rates)), max(spared, 0))


def _pooled(one: Placed, graph: Graph, sizes: Mapping[str, tuple[int, ...]], rates: Rates) -> Saving | None:
    """Of a dense layer behind a flattened image; None for all others."""
    if one.node.operator != "dense":
        return None
    before = graph.producers.get(one.node.inputs[0])
    if before is None or before.operator != "reshape":
        return None
    shape = graph.shape(before.inputs[0])
    pixels = math.prod(size or 1 for size in shape[1:-1])
    weights = one.constant("weights")
    if len(shape) < 3 or pixels < 2 or weights is None:
        return None
    spared = weights.nbytes - weights.nbytes // pixels
    kind = "stored" if weights.nbytes > 16 << 20 else "weights"
    return Saving(_layer(one), 1e3 * _seconds({kind: spared}, rates), spared)


def _removed(one: Placed, rates: Rates) -> Saving:
    return Saving(_layer(one), 1e3 * (_seconds(work_of([one]), rates) + rates.serial_step), 0)


def _plain(one: Placed, rates: Rates) -> Saving:
    if (
        str(one.node.attributes.get("activation", "linear")) in FUNCTIONS
        or one.node.attributes["activation"] == "sigmoid"
    ):
        return Saving(_layer(one), 0.0, 0)
    return Saving(_layer(one), 1e3 * _seconds({"function": math.prod(one.out_shape)}, rates), 0)


def _separated(one: Placed, rates: Rates) -> Saving:
    weights = one.constant("weights")
    assert weights is not None  # a convolution
    channels, filters = weights.shape[-2:]
    pixels, taps, lanes = math.prod(one.out_shape[:-1]), _window(one), int(rates.instruction_set.lanes)
    wide = [-(-size // lanes) * lanes for size in (channels, filters)]
    after = {
        "depthwise": pixels * taps * wide[0],
        "near": 2 * 4 * pixels * channels,
        "direct": channels * wide[1] * (pixels / TILE_SHARE + lanes),
    }
    work = {kind: amount for kind, amount in work_of([one]).items() if kind not in ("near", "far")}
    spared = 4 * (weights.size - channels * (taps + filters))
    gained = _seconds(work, rates) - _seconds(after, rates) - rates.step
    return Saving(_layer(one), 1e3 * max(gained, 0.0), max(0, spared) if gained > 0 else 0)
