"""From a graph to steps for this machine: a kernel family for each operator, weights packed, every tensor placed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from edgecnn.budget import Budget
from edgecnn.errors import GraphError, InputError
from edgecnn.format.mapping import forget, give_back
from edgecnn.graph import OPERATORS, Constant, Graph, Node, ReleasableConstant
from edgecnn.graph.graph import MAX_ELEMENTS
from edgecnn.runtime.bands import BUFFER_BYTES, Shapes, find_chains, macs_of
from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Executor, Step
from edgecnn.runtime.kernels import FAMILIES
from edgecnn.runtime.kernels.algorithms import ROWS
from edgecnn.runtime.kernels.algorithms import algorithms as algorithms_of
from edgecnn.runtime.kernels.chain import prepare_chain
from edgecnn.runtime.kernels.filling import fill_all
from edgecnn.runtime.kernels.packing import Shelf
from edgecnn.runtime.memory import Layout, View, layout

SERIAL_MACS, SERIAL_VALUES = 65536, 8192
"""Steps of fewer multiply-adds and values read or written than these run on one thread: meeting costs more than sharing. What is
read counts since the threads have it in their own caches: a pooling of 32 x 32 x 16 values that two threads have computed takes
0.7 us shared, and 1.5 on one."""

PORTION_MACS, VALUE_MACS = 2**24, 16
"""Multiply-adds between two looks at signals, for each lane of a vector: some milliseconds on a CPU with AVX-512, a third of a second on
one without vectors. Reading or writing a value counts as so many."""

WAITING_BYTES = 2**21
"""Of weights that wait for being packed: what of the file is in memory beside what is packed already."""

DEQUANTIZED_BYTES = 12
"""For each value of an int8 constant: as float32, and what the arithmetic takes on the way."""

SHARED_BYTES = 2**18
"""Weights of fewer bytes are packed by one thread."""


Unpack = Callable[[Any, tuple[int, ...]], np.ndarray]
"""From what is packed and the shape of a constant to that constant's array, bit by bit."""


@dataclass
class PackedWeights:
    """Packed weights by (node, purpose), shared by all plans of a model: packing does not depend on the input's size.

    Attributes:
        threads: how many may pack.
        release: whether constants are given up that can be had again from what is packed: of a model that has its graph for
            itself, and one plan.
    """

    threads: int = 1
    release: bool = False
    store: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all packed arrays."""
        return sum(map(_nbytes, tuple(self.store.values())))  # other threads may add to it

    def nbytes_of(self, node: str) -> int:
        """Bytes of one node's, for all purposes together."""
        return sum(_nbytes(value) for (name, _), value in tuple(self.store.items()) if name == node)


def read_in_place(graph: Graph, nodes: Sequence[Node], weights: PackedWeights) -> dict[str, int]:
    """Bytes of the constants that nodes read where they lie: of those nodes for which nothing is packed."""
    packed = {name for name, _ in tuple(weights.store)}
    names = {name for node in nodes if node.name not in packed for name in node.inputs if name in graph.constants}
    return {name: graph.constants[name].nbytes for name in sorted(names)}


def _nbytes(packed: Any) -> int:
    return sum(a.nbytes for a in (packed if isinstance(packed, tuple) else (packed,)) if isinstance(a, np.ndarray))


class Packing:
    """What a plan packs. Nothing of it is seen by other plans before it is done, so that plans can be made at once."""

    def __init__(self, weights: PackedWeights, expected: int = 0, budget: Budget | None = None) -> None:
        self.weights = weights
        self.budget = budget or Budget()
        self.packed: dict[tuple[str, str], Any] = {}
        self.shelf = Shelf(expected, self.budget)
        self.tables: dict[Any, np.ndarray] = {}
        """Tables of indices, which nodes share; see kernels/copying.pyx."""
        self.sources: list[np.ndarray] = []
        self.waiting = 0
        self.releasable: Mapping[str, ReleasableConstant] = {}
        self.packed_constants: list[tuple[ReleasableConstant, Callable[[], np.ndarray]]] = []
        self.released: list[list[np.ndarray]] = []

    def get(
        self,
        key: tuple[str, str],
        sources: Sequence[np.ndarray],
        pack: Callable[[Shelf], Any],
        name: str = "",
        unpack: Unpack | None = None,
    ) -> Any:
        """What `pack` gives for some constants, once. Its values may be filled in later, by `finish` at the latest; then the
        constants are not needed in memory any more.

        Args:
            name: the constant that `unpack` gives back from what is packed.
        """
        known = self.weights.store if key in self.weights.store else self.packed
        if key not in known:
            self.shelf.node = key[0]
            known[key] = pack(self.shelf)
            constant = self.releasable.get(name)
            if constant is not None and unpack is not None:
                self.packed_constants.append((constant, partial(unpack, known[key], constant.shape)))
        self.sources += sources
        self.waiting += sum(source.nbytes for source in sources)
        if self.waiting > WAITING_BYTES:
            self._fill()
        return known[key]

    def _fill(self) -> None:
        fill_all(self.shelf.fillings, self.weights.threads if self.waiting > SHARED_BYTES else 1)
        forget(self.sources)
        self.sources, self.waiting = [], 0
        self.shelf.fillings.clear()
        # What is packed just now may still be held by its node's `Placed`: then it is given back the next time.
        self.released += [[constant.release(again)] for constant, again in self.packed_constants]
        self.packed_constants.clear()
        self.released = [box for box in self.released if not give_back(box)]

    def finish(self) -> None:
        """Fill in what waits, and let other plans see it."""
        self._fill()
        for box in self.released:
            give_back(box, wait=True)
        for key, value in self.packed.items():
            self.weights.store.setdefault(key, value)


class Placed(NamedTuple):
    """What a kernel family's `prepare` gets: a node with its tensors placed and its constants at hand.

    Attributes:
        node: the node.
        roles: the place of each role among its inputs.
        views: views of its inputs, None for constants and absent ones.
        out: view of its output.
        constants: float32 arrays of its constant inputs, None for tensors and absent ones.
        shapes: of its inputs without the batch (a constant's whole shape), None where absent.
        out_shape: without the batch.
        instruction_set: whose micro-kernels to use.
        packing: where packed weights come from.
        algorithm: the name of the one to use where several are possible; "": the one of least estimated cost.
        compared: whether its channels are the model's answers, which are compared with each other: equal filters must then
            give equal values, and so all must be computed in the same way.
    """

    node: Node
    roles: Mapping[str, int]
    views: tuple[View | None, ...]
    out: View
    constants: tuple[np.ndarray | None, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    out_shape: tuple[int, ...]
    instruction_set: InstructionSet
    packing: Packing
    algorithm: str = ""
    compared: bool = False

    def view(self, role: str) -> View | None:
        """View of an input by role; None if it is a constant, absent, or no role of the operator."""
        index = self.roles.get(role)
        return None if index is None else self.views[index]

    def constant(self, role: str) -> np.ndarray | None:
        """A constant input by role; None if it is a tensor, absent, or no role of the operator."""
        index = self.roles.get(role)
        return None if index is None else self.constants[index]

    def packed(self, purpose: str, pack: Callable[[Shelf], Any], unpack: Unpack | None = None) -> Any:
        """This node's packed weights for a purpose; see `Packing.get`."""
        sources = [constant for constant in self.constants if constant is not None]
        weights = self.node.inputs[self.roles["weights"]] if unpack is not None else ""
        key = (self.node.name, f"{purpose} {self.instruction_set.name}")
        return self.packing.get(key, sources, pack, weights, unpack)

    def hold(self, size: int, what: str) -> None:
        """Charge bytes that preparing this node is about to allocate; what: for the error, before "node"."""
        self.packing.budget.hold(size, (f"{what} node", self.node.name))

    def work(self, units: int, what: str) -> None:
        """Charge work that preparing this node is about to do; see `Budget.work`."""
        self.packing.budget.work(units, (f"{what} node", self.node.name))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        shapes = [
            shape if shape is None or constant is not None else (None, *shape)
            for shape, constant in zip(self.shapes, self.constants, strict=True)
        ]
        return OPERATORS[self.node.operator].macs(self.node.attributes, shapes, [(None, *self.out_shape)])

    @property
    def portion(self) -> float:
        """The step's work as a part of what may be done between two looks at signals; too much where it is small."""
        most = PORTION_MACS * self.instruction_set.lanes
        values = math.prod(self.out_shape)
        weights = 0
        for shape, constant in zip(self.shapes, self.constants, strict=True):
            if constant is not None:
                weights += constant.size
            elif shape is not None:
                values += math.prod(shape)
        bound = (math.prod(self.out_shape[:-1]) * weights if weights else VALUE_MACS * values) + VALUE_MACS * values
        # The operator's own count takes too long to ask for it where it cannot matter.
        return (bound if bound < most else self.macs + VALUE_MACS * values) / most

    @property
    def serial(self) -> bool:
        """Whether the step is too small to share."""
        if math.prod(self.out_shape) >= SERIAL_VALUES:
            return False
        if self.node.operator != "slice":  # which may leave most of it alone
            for shape, constant in zip(self.shapes, self.constants, strict=True):
                if shape is not None and constant is None and math.prod(shape) >= SERIAL_VALUES:
                    return False
        return self.macs < SERIAL_MACS


@dataclass(frozen=True)
class Plan:
    """A graph prepared for one size of input.

    Attributes:
        shapes: of every tensor, without the batch.
        steps: in order; several for one node, or none, are possible.
        step_nodes: the nodes of each step: several of a chain, none of a copy to an output.
        layout: where tensors lie.
        executor: runs it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    steps: tuple[Step, ...]
    step_nodes: tuple[tuple[Node, ...], ...]
    layout: Layout
    executor: Executor


def infer_shapes(graph: Graph, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for inputs (tensor names) of known shapes; both without the batch.

    Raises:
        InputError: the network does not take that size.
    """
    shapes: dict[str, tuple[int | None, ...]] = {name: (None, *shape) for name, shape in inputs.items()}
    checked = {name: tensor.shape for name, tensor in graph.tensors.items()}
    if shapes.items() <= checked.items() and not any(None in shape[1:] for shape in checked.values()):
        return {name: shape[1:] for name, shape in checked.items()}  # type: ignore[misc]
    for node in graph.nodes:
        given = [
            None if not name else shapes[name] if name in shapes else graph.constants[name].shape
            for name in node.inputs
        ]
        try:
            outputs = OPERATORS[node.operator].shapes(node.attributes, given)
        except GraphError as error:
            sizes = ", ".join(str(shape) for shape in inputs.values())
            raise InputError(f"inputs of shape {sizes} do not fit the network: at {node.name!r}, {error}") from error
        for shape in outputs:
            if math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
                raise InputError(f"node {node.name!r} would give the shape {shape}: more than {MAX_ELEMENTS} values")
        shapes.update(zip(node.outputs, outputs, strict=True))
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        sizes_known = tuple(size for size in shape[1:] if size is not None)
        if len(sizes_known) != len(shape) - 1 or min(sizes_known, default=1) < 1:
            raise InputError(f"tensor {name!r} gets the shape {shape}; every size must be known and at least 1")
        result[name] = sizes_known
    return result


def plan(
    graph: Graph,
    inputs: Mapping[str, tuple[int, ...]],
    instruction_set: InstructionSet,
    weights: PackedWeights,
    algorithms: Mapping[str, str] | None = None,
    budget: Budget | None = None,
) -> Plan:
    """Prepare a graph for inputs (tensor names) of known shapes, without the batch.

    Args:
        algorithms: by node, where the one of least estimated cost is not wanted.
        budget: what the plan may allocate and do; None: what is usual for such a graph.

    Raises:
        ModelFileError: the plan exceeds the budget.
    """
    budget = budget or budget_of(graph)
    try:
        return _plan(graph, inputs, instruction_set, weights, algorithms or {}, budget)
    except (MemoryError, OverflowError) as error:  # the latter: sizes that addresses of 32 bits do not reach
        raise budget.run_out() from error


def budget_of(graph: Graph, max_bytes: int | None = None) -> Budget:
    """The account of a graph that comes from no file."""
    budget = Budget(max_bytes)
    open_for(graph, budget)
    return budget


def open_for(graph: Graph, budget: Budget) -> None:
    """Have an account be that of a graph: what it holds already counts as its file."""
    budget.open(f"graph {graph.name!r}", sum(constant.nbytes for constant in graph.constants.values()))


def _plan(
    graph: Graph,
    inputs: Mapping[str, tuple[int, ...]],
    instruction_set: InstructionSet,
    weights: PackedWeights,
    algorithms: Mapping[str, str],
    budget: Budget,
) -> Plan:
    shapes = infer_shapes(graph, inputs)
    budget.allow(lambda: macs_of(graph.nodes, graph, shapes))
    chains = find_chains(graph, shapes)
    chain_of = {node.name: chain for chain in chains for node in chain}
    places = layout(graph, shapes, chains, budget)
    compared = _compared(graph)
    packing = Packing(weights, sum(constant.nbytes for constant in graph.constants.values()), budget)
    if weights.release:
        packing.releasable = _releasable(graph)
    steps: list[Step] = []
    nodes: list[tuple[Node, ...]] = []

    def prepared(node: Node) -> tuple[Placed, Step | None]:
        # Of a chain one that computes rows.
        algorithm = ROWS if node.name in chain_of else algorithms.get(node.name, "")
        if budget.deadline is not None:
            budget.look(("node", node.name))
        placed = _place(graph, node, shapes, places, instruction_set, packing, algorithm, node.name in compared)
        step = FAMILIES[node.operator](placed)
        if step is not None:
            step.portion = placed.portion
        return placed, step

    for node in graph.nodes:
        chain = chain_of.get(node.name, (node,))
        if node.name in places.skipped or node is not chain[-1]:
            continue
        if len(chain) > 1:
            step: Step | None = _chained(chain, [prepared(link) for link in chain])
        else:
            step = prepared(node)[1]
        if step is not None:
            step.name = node.name
            steps.append(step)
            nodes.append(chain)
    for name, view in places.copies:
        step = FAMILIES["identity"](_copy(name, places.views[name], view, shapes[name], instruction_set, packing))
        assert step is not None  # a copy to an output is never in place already
        step.name = f"copy of {name}"
        steps.append(step)
        nodes.append(())
    packing.finish()
    _charge_call(graph, shapes, places, steps, weights.threads, budget)
    executor = Executor(
        steps,
        places.arena,
        [shapes[port.tensor] for port in graph.inputs],
        [shapes[port.tensor] for port in graph.outputs],
        _widest_zeros(graph, places),
    )
    return Plan(shapes, tuple(steps), tuple(nodes), places, executor)


def _releasable(graph: Graph) -> dict[str, ReleasableConstant]:
    """Constants that a single node reads."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    return {
        name: constant
        for name, constant in graph.constants.items()
        if isinstance(constant, ReleasableConstant) and readers[name] == 1
    }


def _charge_call(
    graph: Graph, shapes: Shapes, places: Layout, steps: Sequence[Step], threads: int, budget: Budget
) -> None:
    """Hold what one image asks for, outputs, arena and each thread's scratch, against the budget."""
    outputs = 4 * sum(math.prod(shapes[port.tensor]) for port in graph.outputs)
    scratch = threads * max((step.scratch for step in steps), default=0)

    def what() -> tuple[str, str]:
        if scratch > places.arena + outputs:
            widest = max(steps, key=lambda step: step.scratch)
            return f"computing one image, most of it scratch for {threads} threads at node", widest.name
        largest = max(shapes, key=lambda name: math.prod(shapes[name]))
        return f"computing one image, whose largest tensor has the shape {shapes[largest]},", largest

    budget.compute(outputs + places.arena + scratch, what)


_WINDOWED = ("conv", "conv_transpose", "depthwise_conv", "dense")
"""Operators whose kernels may read a pixel of zeros."""


def _widest_zeros(graph: Graph, places: Layout) -> int:
    """Channels, at most, of what those operators read."""
    read = [node.inputs[0] for node in graph.nodes if node.operator in _WINDOWED]
    read += [node.input("residual") for node in graph.nodes if node.operator in ("conv", "dense")]
    return max((places.views[name].channels for name in read if name in places.views), default=1)


@dataclass(frozen=True)
class Outline:
    """What a plan would do, with nothing packed: enough to estimate its costs.

    Attributes:
        shapes: of every tensor, without the batch.
        layout: where tensors lie.
        steps: the nodes of each step, placed; several of a chain.
    """

    shapes: Mapping[str, tuple[int, ...]]
    layout: Layout
    steps: tuple[tuple[Placed, ...], ...]


def outline(graph: Graph, inputs: Mapping[str, tuple[int, ...]], instruction_set: InstructionSet) -> Outline:
    """The steps that `plan` would prepare; copies to outputs are left out."""
    shapes = infer_shapes(graph, inputs)
    chains = find_chains(graph, shapes)
    chain_of = {node.name: chain for chain in chains for node in chain}
    budget = budget_of(graph)
    budget.allow(lambda: macs_of(graph.nodes, graph, shapes))
    places, compared = layout(graph, shapes, chains, budget), _compared(graph)
    steps = []
    for node in graph.nodes:
        chain = chain_of.get(node.name, (node,))
        if node.name not in places.skipped and node is chain[-1]:
            algorithm = ROWS if len(chain) > 1 else ""
            packing = Packing(PackedWeights(), 0, budget)
            steps.append(
                tuple(
                    _place(graph, link, shapes, places, instruction_set, packing, algorithm, link.name in compared)
                    for link in chain
                )
            )
    return Outline(shapes, places, tuple(steps))


_BEHIND_THE_LAST = (
    "activation",
    "average_pool",
    "identity",
    "max_pool",
    "reduce_mean",
    "reshape",
    "softmax",
    "transpose",
)
"""Operators that leave channels apart, between a model's last layer and its outputs."""


def _compared(graph: Graph) -> set[str]:
    """Names of the nodes whose channels are a model's answers."""
    found: set[str] = set()
    waiting = [port.tensor for port in graph.outputs]
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            if node.operator in _BEHIND_THE_LAST:
                waiting.append(node.inputs[0])
    return found


def possible_algorithms(
    graph: Graph, inputs: Mapping[str, tuple[int, ...]], instruction_set: InstructionSet
) -> dict[str, tuple[str, ...]]:
    """Names of the algorithms that can compute a node, where there are several: the one of least estimated cost first."""
    shapes = infer_shapes(graph, inputs)
    chains = find_chains(graph, shapes)
    linked = {node.name for chain in chains for node in chain}
    budget = budget_of(graph)
    places, compared = layout(graph, shapes, chains, budget), _compared(graph)
    found = {}
    for node in graph.nodes:
        if node.operator in ("conv", "dense") and node.name not in linked:
            packing = Packing(PackedWeights(), 0, budget)
            placed = _place(graph, node, shapes, places, instruction_set, packing, "", node.name in compared)
            names = tuple(algorithm.name for algorithm in algorithms_of(placed) if algorithm.cost < math.inf)
            if len(names) > 1:
                found[node.name] = names
    return found


def _chained(chain: Sequence[Node], links: Sequence[tuple[Placed, Step | None]]) -> Step:
    """One step for a chain's."""
    steps = []
    for placed, step in links:
        x = placed.view("x")
        assert step is not None
        assert x is not None
        steps.append((step, x, placed.out))
    chained = prepare_chain(links[-1][0], steps, [step.span for step, _, _ in steps], BUFFER_BYTES)
    chained.portion = sum(step.portion for step, _, _ in steps)
    return chained


def _place(
    graph: Graph,
    node: Node,
    shapes: Mapping[str, tuple[int, ...]],
    places: Layout,
    instruction_set: InstructionSet,
    packing: Packing,
    algorithm: str,
    compared: bool,
) -> Placed:
    views, constants, given = [], [], []
    for name in node.inputs:
        constant = graph.constants.get(name)
        if constant is not None and constant.quantization is not None:
            packing.budget.hold(DEQUANTIZED_BYTES * constant.array.size, ("the float32 values of constant", name))
        values = None if constant is None else _dense(constant)
        views.append(places.views.get(name))
        constants.append(values)
        given.append(shapes.get(name) if values is None else values.shape)
    return Placed(
        node,
        OPERATORS[node.operator].places,
        tuple(views),
        places.views[node.output],
        tuple(constants),
        tuple(given),
        shapes[node.output],
        instruction_set,
        packing,
        algorithm,
        compared,
    )


def _copy(
    name: str,
    x: View,
    out: View,
    shape: tuple[int, ...],
    instruction_set: InstructionSet,
    packing: Packing,
) -> Placed:
    node = Node("identity", f"copy of {name}", (name,), (name,))
    roles = OPERATORS[node.operator].places
    return Placed(node, roles, (x,), out, (None,), (shape,), shape, instruction_set, packing)


def _dense(constant: Constant) -> np.ndarray:
    """A constant's values as float32."""
    if constant.quantization is None:
        return constant.array
    scales, zero_points = constant.quantization.scales, constant.quantization.zero_points
    if constant.quantization.axis is not None:
        shape = [1] * constant.array.ndim
        shape[constant.quantization.axis] = -1
        scales, zero_points = scales.reshape(shape), zero_points.reshape(shape)
    return np.asarray((constant.array.astype(np.float32) - zero_points.astype(np.float32)) * scales)
