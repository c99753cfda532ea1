"""From a model's description to a graph, before any pass: each layer's steps, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn.converters.layers import LAYERS, PREVIOUS, Layer, Step, Unsupported
from edgecnn.converters.layers.activation import check_configuration
from edgecnn.converters.sources.description import Call, LayerDescription, ModelDescription, TensorReference
from edgecnn.errors import ConversionError, GraphError, UnsupportedLayer, UnsupportedLayerError
from edgecnn.graph import OPERATORS, Constant, Graph, Node, Port, Tensor

HINTS = {
    "Lambda": ("holds Python code, which is never run", "replace it by layers of Keras"),
    "Functional": ("is a model inside the model", "call its layers directly in the outer model; nesting comes later"),
    "Sequential": ("is a model inside the model", "call its layers directly in the outer model; nesting comes later"),
    "Model": ("is a model inside the model", "call its layers directly in the outer model; nesting comes later"),
}


def assemble(description: ModelDescription) -> Graph:
    """The graph that says what the model says, operator by operator.

    Raises:
        UnsupportedLayerError: naming every layer that cannot be converted.
        ConversionError: the model's parts do not fit each other.
    """
    return _Assembler(description).assemble()


class _Assembler:
    def __init__(self, description: ModelDescription) -> None:
        self.description = description
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.outputs: dict[TensorReference, str] = {}
        """The tensor of every layer's call, once it is there."""
        self.failed: dict[TensorReference, None] = {}
        """Outputs of layers that cannot be converted, and all that needs them."""
        self.items: dict[str, UnsupportedLayer] = {}

    def assemble(self) -> Graph:
        waiting = [
            (layer, number, call) for layer in self.description.layers for number, call in enumerate(layer.calls)
        ]
        self._check_references(waiting)
        while waiting:
            later = []
            for layer, number, call in waiting:
                if all(r in self.outputs or r in self.failed for r in call.inputs):
                    self._apply(layer, number, call)
                else:
                    later.append((layer, number, call))
            if len(later) == len(waiting):
                names = sorted({layer.path for layer, _, _ in later})
                raise ConversionError(
                    f"{self.description.source}: layers {names} wait for each other; the file is damaged"
                )
            waiting = later
        if self.items:
            order = {layer.path: index for index, layer in enumerate(self.description.layers)}
            items = sorted(self.items.values(), key=lambda item: order[item.path])
            raise UnsupportedLayerError(self.description.source, items)
        graph = Graph(
            self.description.name,
            tuple(Port(name, self._output(reference)) for name, reference in self.description.inputs),
            tuple(Port(name, self._output(reference)) for name, reference in self.description.outputs),
            tuple(self.nodes),
            self.tensors,
            self.constants,
            self.description.input_structure,
            self.description.output_structure,
            dict(self.description.metadata),
        )
        try:
            graph.check()
        except GraphError as error:
            raise ConversionError(f"{self.description.source}: {error}") from error
        return graph

    def _output(self, reference: TensorReference) -> str:
        if reference not in self.outputs:
            raise ConversionError(
                f"{self.description.source}: output {reference.index} of call {reference.call} of layer "
                f"{reference.layer!r} is not in the file; the file is damaged"
            )
        return self.outputs[reference]

    def _check_references(self, waiting: Sequence[tuple[LayerDescription, int, Call]]) -> None:
        known = {TensorReference(layer.path, number) for layer, number, _ in waiting}
        for layer, _, call in waiting:
            for reference in call.inputs:
                if reference not in known and reference.index == 0:
                    raise ConversionError(
                        f"{self.description.source}: layer {layer.path!r} reads layer {reference.layer!r}, call "
                        f"{reference.call}, which is not in the file; the file is damaged"
                    )
                if reference.index:
                    self.failed[reference] = None

    def _apply(self, layer: LayerDescription, number: int, call: Call) -> None:
        here = TensorReference(layer.path, number)
        try:
            if layer.class_name == "InputLayer":
                self.outputs[here] = self._add_tensor(layer.path, _input_shape(layer))
                return
            function = LAYERS.get(layer.class_name)
            if function is None:
                raise Unsupported(*HINTS.get(layer.class_name, _unknown(layer.class_name)))
            if call.extras:
                raise Unsupported(f"it is called with {', '.join(call.extras)}", "use layers on tensors only")
            given = Layer(layer.path, layer.class_name, layer.config, self.description.keras, layer.weights)
            if any(reference in self.failed for reference in call.inputs):
                self.failed[here] = None
                check_configuration(given)
                return
            inputs = [self.tensors[self.outputs[reference]] for reference in call.inputs]
            self.outputs[here] = self._add_steps(layer, number, function(given, inputs))
        except Unsupported as problem:
            self.failed[here] = None
            self.items[layer.path] = UnsupportedLayer(layer.path, layer.class_name, problem.reason, problem.hint)
        except GraphError as error:
            raise ConversionError(
                f"{self.description.source}: layer {layer.path!r} ({layer.class_name}): {error}; the file is damaged, or "
                f"its weights belong to another model"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ConversionError(
                f"{self.description.source}: layer {layer.path!r} ({layer.class_name}): its configuration is damaged "
                f"({type(error).__name__}: {error})"
            ) from error

    def _add_tensor(self, name: str, shape: tuple[int | None, ...]) -> str:
        self.tensors[name] = Tensor(name, shape)
        return name

    def _add_steps(self, layer: LayerDescription, number: int, steps: Sequence[Step]) -> str:
        """Nodes for a layer's steps; the last is called like the layer, constants like the layer and their role."""
        last = layer.path if number == 0 else f"{layer.path}:{number}"
        previous = ""
        for index, step in enumerate(steps):
            ends = index == len(steps) - 1
            name = last if ends else f"{last}/{index}_{step.operator}"
            row = OPERATORS[step.operator]
            names = []
            for position, value in enumerate(step.inputs):
                role = row.roles[min(position, len(row.roles) - 1)].name
                base = layer.path if ends else f"{layer.path}/{index}_{step.operator}"
                names.append(self._input_name(value, previous, f"{base}/{role}"))
            attributes = step.filled_attributes()
            complaint = row.complaint(attributes, names, self.constants)
            if complaint:
                raise GraphError(complaint)
            shapes = [self._shape(n) if n else None for n in names]
            (shape,) = row.shapes(attributes, shapes)
            previous = self._add_tensor(name, shape)
            self.nodes.append(Node(step.operator, name, tuple(names), (previous,), attributes, (layer.path,)))
        return previous

    def _input_name(self, value: Any, previous: str, name: str) -> str:
        if value is None:
            return ""
        if isinstance(value, Tensor):
            return value.name
        if isinstance(value, str):
            if value != PREVIOUS or not previous:
                raise GraphError(f"there is no {value} here")
            return previous
        # A layer that is called again brings the same weights.
        self.constants[name] = Constant(name, np.ascontiguousarray(value, np.float32))
        return name

    def _shape(self, name: str) -> tuple[int | None, ...]:
        return self.tensors[name].shape if name in self.tensors else self.constants[name].shape


def _input_shape(layer: LayerDescription) -> tuple[int | None, ...]:
    shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if not isinstance(shape, list | tuple) or not shape:
        raise ValueError("it has no shape")
    if any(size is not None and (not isinstance(size, int) or size < 1) for size in shape[1:]):
        raise ValueError(f"it has the shape {shape}")
    if layer.config.get("sparse") or layer.config.get("ragged"):
        raise Unsupported("it takes sparse or ragged tensors", "use a dense input")
    return (None, *shape[1:])


def _unknown(class_name: str) -> tuple[str, str]:
    if ">" in class_name:
        return "is a class of your own, whose code is never run", "build it from layers of Keras"
    return "is not supported by this version", "replace it by supported layers (see the README's list)"
