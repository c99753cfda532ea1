"""What a network costs on a machine, before it runs there: a model of time that docs/cost-model.md describes.

A step takes as long as its work at the machine's peak, and its bytes at the bandwidth of where they lie, each times a
coefficient of what kind of work it is; and something for the step itself. The work of convolutions is that of
kernels/algorithms.py: what the planner chooses by is what is predicted by.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.graph import Constant, Graph, Node, Port, Tensor
from edgecnn.graph.operators import ints
from edgecnn.runtime import cpu
from edgecnn.runtime.kernels.algorithms import ROWS, algorithms
from edgecnn.runtime.machine import measure_bandwidth, measure_machine
from edgecnn.runtime.model import Model
from edgecnn.runtime.planner import Placed, outline

NEAR_BYTES = cpu.SECOND_LEVEL_BYTES
"""Of a step's tensors: what lies in the second-level cache; more comes from farther away."""

LAST_CACHE_BYTES = 16 << 20
"""Weights of a network that are larger together come from memory in every call."""

FUNCTIONS = ("linear", "relu", "clip", "hard_sigmoid", "hard_swish", "abs", "square")
"""Activations that cost nothing beside what reads and writes their values."""

COEFFICIENTS: Mapping[str, float] = {
    # Multiply-adds as the algorithms' own estimates count them.
    "direct": 0.99,
    "grouped": 2.3,
    "winograd": 0.89,
    "strassen": 0.93,
    "blocks": 1.0,
    "single": 1.0,
    "product": 2.0,
    # Multiply-adds for each multiply-add, value of a window, or value.
    "depthwise": 1.0,
    "window": 2.0,
    "function": 14.0,
    "power": 66.0,
    # Bytes.
    "near": 1.4,
    "far": 2.0,
    "weights": 1.1,
    "stored": 1.4,
}
"""Of each kind of work, beside the machine's own figures: the least squares fit to the steps of eighteen networks on one thread of
Zen 4 with AVX-512. Without each network in turn the others predict it within 17 % (SmallCNN, of 55 us, within 60 %). No network has
matrix products of tensors; their coefficient is a guess, and zeros are counted by what kernels/algorithms.py was fitted to."""


LEAST_MS = 1e-5
"""Of a step, however fast: some thirty cycles."""


@dataclass(frozen=True)
class Rates:
    """What a machine can.

    Attributes:
        macs: multiply-accumulates a second of all threads together.
        memory, far, cache: bytes a second that all threads together copy in memory, in what lies behind the second-level
            cache, and in that.
        step, serial_step: seconds that a step takes beside its work: shared by the threads, or too small for that.
        call: seconds of a call beside its steps.
        instruction_set: by whose tiles the work is counted.
    """

    macs: float
    memory: float
    far: float
    cache: float
    step: float
    serial_step: float
    call: float
    instruction_set: cpu.InstructionSet


@dataclass(frozen=True)
class StepCost:
    """A step's prediction.

    Attributes:
        node, operator: the last node's.
        layers: source layers that it computes.
        kind: what most of its time is ("winograd", "memory", ...).
        seconds: predicted.
        macs, weight_bytes: its own.
    """

    node: str
    operator: str
    layers: tuple[str, ...]
    kind: str
    seconds: float
    macs: int
    weight_bytes: int


def predict(graph: Graph, rates: Rates, inputs: Mapping[str, tuple[int, ...]] | None = None) -> tuple[StepCost, ...]:
    """What each step will take, in order.

    Args:
        inputs: sizes without the batch, by input name, where the graph leaves them open.

    Raises:
        InputError: a size is not known.
    """
    steps = []
    stored = sum(constant.nbytes for constant in graph.constants.values()) > LAST_CACHE_BYTES
    for placed in outline(graph, sizes_of(graph, inputs), rates.instruction_set).steps:
        work = work_of(placed, stored)
        if not work:
            continue
        times = seconds_of(work, rates)
        serial = all(one.serial for one in placed)
        nodes = [one.node for one in placed]
        steps.append(
            StepCost(
                nodes[-1].name,
                " > ".join(node.operator for node in nodes),
                tuple(dict.fromkeys(layer for node in nodes for layer in node.layers)),
                max(times, key=lambda kind: times[kind]),
                sum(times.values()) + (rates.serial_step if serial else rates.step),
                sum(one.macs for one in placed),
                sum(c.nbytes for one in placed for c in one.constants if c is not None),
            )
        )
    return tuple(steps)


def total(steps: Sequence[StepCost], rates: Rates) -> float:
    """Seconds of a call."""
    return rates.call + sum(step.seconds for step in steps)


def sizes_of(graph: Graph, inputs: Mapping[str, tuple[int, ...]] | None) -> dict[str, tuple[int, ...]]:
    """The inputs' sizes without the batch, by tensor."""
    found = {}
    for port in graph.inputs:
        given = (inputs or {}).get(port.name)
        sizes = tuple(size for size in graph.shape(port.tensor)[1:] if size is not None) if given is None else given
        if len(sizes) != len(graph.shape(port.tensor)) - 1:
            raise InputError(
                f"input {port.name!r} has shape {graph.shape(port.tensor)}; name its sizes with --input-shape"
            )
        found[port.tensor] = sizes
    return found


def _rate(kind: str, rates: Rates) -> float:
    return {"stored": rates.memory, "weights": rates.far, "far": rates.far, "near": rates.cache}.get(kind, rates.macs)


def work_of(placed: Sequence[Placed], stored: bool = False) -> Counter[str]:
    """A step's work by kind: multiply-adds at the peak, or bytes; see docs/cost-model.md. Empty where nothing is left to do.

    Args:
        stored: whether the network's weights are so large that they come from memory in every call.
    """
    work: Counter[str] = Counter()
    for index, one in enumerate(placed):
        _add_work(one, work)
        # What passes between the links of a chain stays in the cache; only ends are read and written.
        moved = 0
        if index == 0:
            moved += 4 * math.prod(one.shapes[0] or ())
        moved += sum(
            4 * math.prod(s) for s, v in zip(one.shapes[1:], one.views[1:], strict=True) if s and v is not None
        )
        if index == len(placed) - 1:
            moved += 4 * math.prod(one.out_shape)
        if one.node.operator == "concatenate":
            moved = _copied(one)
        if stored:
            work["stored"] += work.pop("weights", 0)
        work["near" if moved <= NEAR_BYTES else "far"] += moved
    return +work


def seconds_of(work: Mapping[str, float], rates: Rates) -> dict[str, float]:
    """Time of each kind of work."""
    return {kind: COEFFICIENTS[kind] * amount / _rate(kind, rates) for kind, amount in work.items()}


def _copied(one: Placed) -> int:
    """Bytes that a concatenation moves: inputs that are no slices of its output already."""
    loose = [s for s, v in zip(one.shapes, one.views, strict=True) if s and v is not None and not _inside(v, one.out)]
    return 2 * 4 * sum(math.prod(shape) for shape in loose)


def _inside(view: Any, out: Any) -> bool:
    return bool((view.buffer, view.pixel) == (out.buffer, out.pixel))


def _add_work(one: Placed, work: Counter[str]) -> None:
    """Of one node, beside the bytes of its tensors."""
    node, values = one.node, math.prod(one.out_shape)
    operator, lanes = node.operator, int(one.instruction_set.lanes)
    weights = one.constant("weights") if operator in ("conv", "depthwise_conv", "dense", "conv_transpose") else None
    if operator == "conv" and weights is not None:
        if math.prod(one.out_shape[:-1]) == math.prod(weights.shape[:-2]) == 1 and node.attributes["groups"] == 1:
            work["weights"] += weights.nbytes
        else:
            possible = algorithms(one)
            chosen = next(a for a in possible if a.rows) if one.algorithm == ROWS else possible[0]
            kind = chosen.name.split()[0]
            if kind == "direct" and node.attributes["groups"] != 1:
                kind = "grouped"
            work[kind] += round(chosen.cost)
    elif operator == "dense" and weights is not None:
        rows = math.prod(one.out_shape[:-1])
        if rows == 1:
            work["weights"] += weights.nbytes
        else:
            work["direct"] += one.macs
    elif operator == "conv_transpose":
        work["direct"] += one.macs
    elif operator == "matmul":
        work["product"] += one.macs
    elif operator == "depthwise_conv" and weights is not None:
        channels = one.out_shape[-1]
        work["depthwise"] += one.macs // channels * -(-channels // lanes) * lanes
    elif operator in ("max_pool", "average_pool"):
        work["window"] += values * math.prod(ints(node.attributes, "pool_size"))
    elif operator == "local_response_normalization":
        work["power"] += values
    elif operator in ("softmax", "sparsemax", "layer_normalization", "group_normalization"):
        work["function"] += 2 * values
    elif operator in ("resize", "power"):
        work["function"] += values
    if str(node.attributes.get("activation", "linear")) not in FUNCTIONS:
        work["function"] += values


FAR_BYTES = 4 << 20
"""Copied to see what lies behind the second-level cache: the third level where there is one, else memory."""
PROBES = 32
"""Steps of the networks that show what a step takes beside its work."""


def rates_here(threads: int, instruction_set: str | None = None) -> Rates:
    """What this machine can, measured in half a second.

    Args:
        threads: of a call.
        instruction_set: as for `Model`; None: the best.
    """
    chosen = cpu.choose(instruction_set)
    machine = measure_machine(threads, chosen.name)
    serial, call = _probe(_additions(), 1, chosen.name)
    step = serial
    call += _python_call(chosen.name)
    if threads > 1:
        # What threads lose by waiting for each other is what their share of the time leaves.
        alone, together = (_probe(_convolutions(), count, chosen.name)[0] for count in (1, threads))
        step = max(serial, together - (alone - serial) / threads)
    return Rates(
        machine.peak_gflops * 5e8,
        1e9 * machine.bandwidth,
        1e9 * min(measure_bandwidth(threads, 0.05, FAR_BYTES), machine.cache_bandwidth),
        1e9 * machine.cache_bandwidth,
        step,
        serial,
        call,
        chosen,
    )


def _probe(graph: Graph, threads: int, instruction_set: str) -> tuple[float, float]:
    """Seconds of a step, and of a call beside its steps."""
    found = Model(graph, threads=threads, isa=instruction_set).profile(runs=60)
    # Differences of measured times: on a busy machine they may come out below zero.
    step = (found.total_ms - found.call_ms) / (len(found.steps) - 1)
    return 1e-3 * max(step, LEAST_MS), 1e-3 * max(found.call_ms, 0.0)


def _python_call(instruction_set: str) -> float:
    """Seconds that a call from Python takes beside the executor's."""
    model = Model(_additions(), threads=1, isa=instruction_set)
    x, times = np.zeros((1, 2, 2, 64), np.float32), []
    for _ in range(60):
        started = time.perf_counter()
        model.run({"x": x})
        times.append(time.perf_counter() - started)
    return max(0.0, float(np.median(times)) - 1e-3 * model.profile(runs=60).total_ms)


def _chain(
    operator: str, attributes: Mapping[str, Any], shape: tuple[int, ...], constant: np.ndarray[Any, Any]
) -> Graph:
    """One node after another, all of the same shape."""
    names = ["x", *(f"y{index}" for index in range(PROBES))]
    rest = ("",) * (2 if operator == "conv" else 0)
    return Graph(
        "probe",
        (Port("x", "x"),),
        (Port("y", names[-1]),),
        tuple(Node(operator, y, (x, "c", *rest), (y,), attributes) for x, y in itertools.pairwise(names)),
        {name: Tensor(name, (None, *shape)) for name in names},
        {"c": Constant("c", constant)},
    )


def _additions() -> Graph:
    """Steps of next to no work."""
    attributes = {"activation": "linear", "activation_parameters": ()}
    return _chain("add", attributes, (2, 2, 64), np.ones(64, np.float32))


def _convolutions() -> Graph:
    """Steps of some work, which threads share."""
    attributes = {
        "strides": (1, 1),
        "padding": "same",
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "groups": 1,
        "activation": "linear",
        "activation_parameters": (),
    }
    return _chain("conv", attributes, (28, 28, 48), np.full((1, 1, 48, 48), 1 / 48, np.float32))
