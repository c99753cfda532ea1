"""An ONNX graph in the making. Each of our tensors exists there in one or several orders of its axes.

ONNX convolves channels first, we channels last. A tensor is turned only when an operator asks for it in an order in which it is
not there yet, and then it is there in both; operators that work element by element take the order that they find.
A transposition of ours turns nothing: it gives the axes other names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn.errors import MissingPackageError
from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import Shape
from edgecnn.graph.reference import values_of

Array = np.ndarray[Any, Any]
Order = tuple[int, ...]
"""Which of our axes lies at each place of ONNX': (0, 3, 1, 2) is channels first. The batch is always at 0."""

UNKNOWN = 64
"""What a size counts that is not known, where the smaller tensor shall be turned."""


class Inexpressible(Exception):
    """A node has no form in ONNX; the text says why."""


def plain(rank: int) -> Order:
    """Our own order."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """(batch, channels, spatial axes)."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 1 else (0,)


class OnnxBuilder:
    """Nodes and constants for a graph.

    Attributes:
        graph: ours.
        nodes: onnx.NodeProto, in order.
        initializers: onnx.TensorProto by name.
    """

    def __init__(self, graph: Graph) -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError as error:
            raise MissingPackageError('writing ONNX needs onnx: pip install "edgecnn[onnx]"') from error
        self._helper, self._numpy_helper = helper, numpy_helper
        self.graph = graph
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken = {port.name for port in (*graph.inputs, *graph.outputs)}
        self._views: dict[str, dict[Order, str]] = {
            port.tensor: {plain(len(graph.shape(port.tensor))): port.name} for port in graph.inputs
        }
        self._label = ""

    def begin(self, node: Node) -> None:
        """What is added from now on belongs to this node."""
        self._label = node.name

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; gives the name of its value."""
        return self.ops(1, kind, *inputs, name=name, **attributes)[0]

    def ops(self, count: int, kind: str, *inputs: str, name: str = "", **attributes: Any) -> list[str]:
        """Add a node of several values."""
        outputs = [name or self._unique(f"{self._label}/{kind}") for _ in range(count)]
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        self.nodes.append(self._helper.make_node(kind, given, outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A constant; the same values are stored once."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        key = (str(array.dtype), array.shape, hashlib.blake2b(array.tobytes()).digest())
        if key not in self._constants:
            name = self._unique(f"{self._label}/constant")
            self.initializers[name] = self._numpy_helper.from_array(array, name)
            self._constants[key] = name
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """A constant of int64: shapes, axes."""
        return self.constant(values, np.int64)

    def weights(self, name: str) -> Array:
        """A constant of ours as float32."""
        return values_of(self.graph.constants[name], np.float32)

    def shape(self, name: str) -> Shape:
        return self.graph.shape(name)

    def rank(self, name: str) -> int:
        return len(self.graph.shape(name))

    def give(self, tensor: str, order: Order, value: str) -> None:
        """Say that a tensor is there."""
        self._views.setdefault(tensor, {})[order] = value

    def orders(self, tensor: str) -> tuple[Order, ...]:
        """The orders in which it is there: first the one in which it was computed."""
        return tuple(self._views[tensor])

    def share(self, source: str, target: str, axes: Sequence[int]) -> None:
        """The target is the source, without anything to compute: its axis i is the source's axes[i]."""
        for order, value in self._views[source].items():
            self.give(target, tuple(axes.index(axis) for axis in order), value)

    def view(self, tensor: str, order: Order) -> str:
        """A tensor in an order, turned if need be."""
        views = self._views[tensor]
        if order in views:
            return views[order]
        shape = self.shape(tensor)
        sizes = [-1 if shape[axis] is None else int(shape[axis] or 0) for axis in order[1:]]
        for there, value in views.items():
            if self._same_memory(shape, there, order) and sizes.count(-1) <= 1:
                views[order] = self.op("Reshape", value, self.integers(0, *sizes))
                return views[order]
        there, value = next(iter(views.items()))
        views[order] = self.op("Transpose", value, perm=[there.index(axis) for axis in order])
        return views[order]

    def operand(self, name: str, order: Order) -> str:
        """A tensor, or a constant, in an order; a constant has as many axes as it needs."""
        if name not in self.graph.constants:
            return self.view(name, order)
        array = self.weights(name)
        array = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
        while array.ndim and array.shape[0] == 1:
            array = array[0]
        return self.constant(array)

    def common_order(self, names: Sequence[str]) -> Order:
        """The order for several tensors of one rank in which the least must be turned; constants cost nothing."""
        tensors = [name for name in names if name in self._views]
        candidates = dict.fromkeys(order for name in tensors for order in self.orders(name))

        def cost(order: Order) -> int:
            return sum(
                math.prod(size or UNKNOWN for size in self.shape(name)[1:])
                for name in dict.fromkeys(tensors)
                if not any(self._same_memory(self.shape(name), there, order) for there in self.orders(name))
            )

        return min(candidates, key=cost)

    @staticmethod
    def _same_memory(shape: Shape, one: Order, other: Order) -> bool:
        """Whether the values lie alike in both orders: axes of size 1 may stand anywhere."""
        return [a for a in one if shape[a] != 1] == [a for a in other if shape[a] != 1]

    def _unique(self, name: str) -> str:
        number, candidate = 1, name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def finish(self) -> None:
        """Give the public outputs, in our order, their names."""
        inputs = {port.name for port in self.graph.inputs}
        ends = [(port.name, self.view(port.tensor, plain(self.rank(port.tensor)))) for port in self.graph.outputs]
        renamed: dict[str, str] = {}
        for name, value in ends:
            if value not in inputs and value not in renamed and value not in self.initializers:
                renamed[value] = name
        for node in self.nodes:
            node.input[:] = [renamed.get(value, value) for value in node.input]
            node.output[:] = [renamed.get(value, value) for value in node.output]
        for name, value in ends:
            if renamed.get(value) != name:
                self.op("Identity", renamed.get(value, value), name=name)
