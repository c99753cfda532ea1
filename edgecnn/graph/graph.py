"""The portable graph: what the converter produces, the file stores and every backend executes.

Layout is channels last (N, H, W, C); the first dimension of every tensor is the batch and is None. A graph is
immutable: a rewrite makes a new one (see rewrite.py). Every rule that a graph must keep is checked by `Graph.check`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgecnn.errors import GraphError
from edgecnn.graph.operators import OPERATORS, AttributeValue, Shape

if TYPE_CHECKING:
    import numpy as np

MOST_RANK = 8
"""Axes of a tensor, the batch counted, and of a constant: kernels have room for that many, and so has the file."""
MAX_ELEMENTS = 2**40
"""Largest number of elements that any tensor may have: far above any CNN, far below overflow of 64-bit byte counts."""


@dataclass(frozen=True)
class Tensor:
    """A value that flows between nodes.

    Attributes:
        name: unique in the graph.
        shape: batch first, always None; any other None is a size known only when the model is called.
        dtype: "float32".
    """

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = (stored - zero_point) * scale, per tensor (axis None) or per index along `axis`.

    Attributes:
        scales: float32, shape (1,) or (size of axis,).
        zero_points: int32, the same shape as `scales`.
        axis: the axis of the constant along which the scales run, or None.
    """

    scales: np.ndarray
    zero_points: np.ndarray
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Constant:
    """A weight.

    Attributes:
        name: unique among tensors and constants.
        array: C-contiguous values in the neutral (Keras) layout; float32, or int8 with `quantization`.
        encoding: how the file stores the values: "float32", "float16", "int8", or a float one without its zeros as
            "sparse_float32" / "sparse_float16". It never changes what `array` holds, but for the rounding of float16.
        quantization: scales and zero points of an int8 array.
    """

    name: str
    array: np.ndarray
    encoding: str = "float32"
    quantization: Quantization | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.array.nbytes


class ReleasableConstant(Constant):
    """A constant whose array need not be kept in memory once something else can give it back: each look at it then makes it
    anew.

    It is a `Constant` to everybody; only who owns the graph alone may release it (see runtime/planner.py).
    """

    _array: np.ndarray | None
    _again: Callable[[], np.ndarray]
    _shape: tuple[int, ...]

    @property
    def array(self) -> np.ndarray:
        return self._again() if self._array is None else self._array

    @array.setter
    def array(self, value: np.ndarray) -> None:
        object.__setattr__(self, "_array", value)
        object.__setattr__(self, "_shape", value.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def nbytes(self) -> int:
        return math.prod(self._shape) * 4  # it is float32

    def release(self, again: Callable[[], np.ndarray]) -> np.ndarray:
        """Give the array up, to the caller.

        Args:
            again: makes the same values anew.
        """
        array = self.array
        object.__setattr__(self, "_again", again)
        object.__setattr__(self, "_array", None)
        return array

    def __reduce__(self) -> tuple[Any, ...]:
        return Constant, (self.name, self.array, self.encoding, self.quantization)


@dataclass(frozen=True)
class Node:
    """One application of an operator.

    Attributes:
        operator: a key of `OPERATORS`.
        name: unique among nodes; the path of the source layer ("block_1_expand"), with a suffix where one layer makes
            several nodes.
        inputs: names of tensors or constants in the order of the operator's roles; "" where an optional one is absent.
        outputs: names of the tensors produced.
        attributes: a value for every attribute of the operator's row.
        layers: paths of all source layers that this node computes, in the model's order.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def input(self, role: str) -> str:
        """The name given for an input role, "" if absent."""
        index = OPERATORS[self.operator].places[role]
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """The only output."""
        (name,) = self.outputs
        return name


@dataclass(frozen=True)
class Port:
    """A public input or output: the user's name (Keras' own) for a tensor of the graph."""

    name: str
    tensor: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A model.

    Attributes:
        name: the Keras model's name.
        inputs, outputs: the public ones, in Keras' order.
        nodes: in an order in which each is computed after what it reads.
        tensors: every tensor by name.
        constants: every constant by name.
        input_structure, output_structure: "single", "list" or "dict": how Keras takes and gives them.
        metadata: strings for the user: labels (a list), preprocessing, provenance, whatever JSON can hold.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    input_structure: str = "single"
    output_structure: str = "single"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor or constant."""
        if name in self.tensors:
            return self.tensors[name].shape
        return self.constants[name].shape

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that produces each tensor (graph inputs have none)."""
        return {output: node for node in self.nodes for output in node.outputs}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor or constant, once per reading input; graph outputs are no node."""
        table: dict[str, list[Node]] = {name: [] for name in (*self.tensors, *self.constants)}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    table[name].append(node)
        return {name: tuple(nodes) for name, nodes in table.items()}

    @cached_property
    def output_tensors(self) -> frozenset[str]:
        """Tensors that a public output names."""
        return frozenset(port.tensor for port in self.outputs)

    def macs_of(self, node: Node) -> int | None:
        """Multiply-accumulates of one node for one image; None if a size is unknown."""
        row = OPERATORS[node.operator]
        shapes = [self.shape(name) if name else None for name in node.inputs]
        outputs = [self.tensors[name].shape for name in node.outputs]
        if any(None in shape[1:] for shape in outputs):
            return None
        return row.macs(node.attributes, shapes, outputs)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one image; None if a size is unknown."""
        total = 0
        for node in self.nodes:
            macs = self.macs_of(node)
            if macs is None:
                return None
            total += macs
        return total

    def check(self) -> None:
        """Hold the graph against every rule: names, order, roles, attributes, shapes.

        Raises:
            GraphError: naming the node or tensor, what was wanted and what was found.
        """
        for complaint in self._complaints():
            raise GraphError(f"graph {self.name!r}: {complaint}")

    def _complaints(self) -> Iterator[str]:
        both = self.tensors.keys() & self.constants.keys()
        if both:
            yield f"{sorted(both)[0]!r} is both a tensor and a constant"
        yield from self._tensor_complaints()
        if not self.inputs or not self.outputs:
            yield "a model needs at least one input and one output"
        for kind, structure, ports in (
            ("input", self.input_structure, self.inputs),
            ("output", self.output_structure, self.outputs),
        ):
            if structure not in ("single", "list", "dict"):
                yield f"{kind} structure {structure!r}: wanted single, list or dict"
            if structure == "single" and len(ports) != 1:
                yield f"{kind} structure 'single' with {len(ports)} {kind}s"
            if len({port.name for port in ports}) != len(ports):
                yield f"two {kind}s have the same name"
            for port in ports:
                if port.tensor not in self.tensors:
                    yield f"{kind} {port.name!r}: there is no tensor {port.tensor!r}"
        if len({port.tensor for port in self.inputs}) != len(self.inputs):
            yield "two inputs name the same tensor"
        yield from self._node_complaints()

    def _tensor_complaints(self) -> Iterator[str]:
        for name, tensor in self.tensors.items():
            if name != tensor.name or not name:
                yield f"tensor {tensor.name!r} is filed under {name!r}"
            if tensor.dtype != "float32":
                yield f"tensor {name!r} has dtype {tensor.dtype!r}; wanted float32"
            if not isinstance(tensor.shape, tuple):
                yield f"tensor {name!r} has shape {tensor.shape!r}; wanted a tuple"
            if not tensor.shape or tensor.shape[0] is not None:
                yield f"tensor {name!r} has shape {tensor.shape}; its first dimension, the batch, must be None"
            if len(tensor.shape) > MOST_RANK:
                yield f"tensor {name!r} has shape {tensor.shape}, of rank {len(tensor.shape)}; wanted at most {MOST_RANK}"
            sizes = [size for size in tensor.shape if size is not None]
            if sizes and min(sizes) < 1:
                yield f"tensor {name!r} has shape {tensor.shape}; every size must be at least 1"
            if math.prod(sizes) > MAX_ELEMENTS:
                yield f"tensor {name!r} has shape {tensor.shape}: more than {MAX_ELEMENTS} elements"
        for name, constant in self.constants.items():
            if name != constant.name or not name:
                yield f"constant {constant.name!r} is filed under {name!r}"
            array = constant.array  # once: what was released is made anew at each look
            dtype = array.dtype
            if dtype.char not in "fb" or not dtype.isnative:  # its name takes microseconds
                yield f"constant {name!r} has dtype {dtype}; wanted float32 or int8"
            if array.ndim > MOST_RANK:
                yield f"constant {name!r} has shape {constant.shape}, of rank {array.ndim}; wanted at most {MOST_RANK}"
            if not array.flags.c_contiguous:
                yield f"constant {name!r} is not C-contiguous"
            if (dtype.char == "b") != (constant.quantization is not None):
                yield f"constant {name!r}: int8 values and a quantization go together"

    def _node_complaints(self) -> Iterator[str]:
        known = {port.tensor for port in self.inputs}
        names: set[str] = set()
        shapes: dict[str, Shape | None] = {"": None}
        shapes |= {name: constant.shape for name, constant in self.constants.items()}
        shapes |= {name: tensor.shape for name, tensor in self.tensors.items()}
        # Networks repeat themselves, and nodes of a file share equal attributes: what was right once is not looked at again.
        # Constants are told from tensors by their shapes, which do not begin with None.
        right: dict[tuple[Any, ...], list[Shape]] = {}
        for node in self.nodes:
            where = f"node {node.name!r} ({node.operator})"
            if node.name in names or not node.name:
                yield f"{where}: its name is empty or taken"
            names.add(node.name)
            row = OPERATORS.get(node.operator)
            if row is None:
                yield f"{where}: no such operator"
                return
            for name in node.inputs:
                if name and name not in self.constants and name not in known:
                    yield f"{where} reads {name!r}, which is not produced before it"
                    return
            for name in node.outputs:
                if name not in self.tensors:
                    yield f"{where} produces {name!r}, which is not among the tensors"
                    return
                if name in known:
                    yield f"{where} produces {name!r}, which is produced already"
                known.add(name)
            sizes = tuple([shapes.get(name) for name in node.inputs])
            kind = (node.operator, id(node.attributes), sizes)
            inferred = right.get(kind)
            if inferred is None:
                complaint = row.complaint(node.attributes, node.inputs, self.constants)
                if complaint:
                    yield f"{where}: {complaint}"
                    return
                try:
                    inferred = right[kind] = list(row.shapes(node.attributes, sizes))
                except GraphError as error:
                    yield f"{where}: {error}"
                    return
            given = [self.tensors[name].shape for name in node.outputs]
            if inferred != given:
                yield f"{where}: its output has shape {given}; by the shape rule it is {inferred}"
        for name in self.tensors:
            if name not in known:
                yield f"tensor {name!r} is produced by no node and is no input"
        for port in self.outputs:
            if port.tensor not in known:
                yield f"output {port.name!r} is not produced"
