"""From a model's description to a graph, before any pass: each layer's operators, in an order in which they can run.

A model inside a model is assembled in its place, once for each call, its layers' paths behind its own. What is called again
has the same weights, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

import numpy as np

from edgecnn.budget import charge, charge_work
from edgecnn.converters.builder import Draft
from edgecnn.converters.layers import (
    LAYERS,
    Fault,
    Layer,
    Turned,
    Unsupported,
    apply,
    check_configuration,
    find,
    reason_to_refuse,
)
from edgecnn.converters.layers.frames import Nested
from edgecnn.converters.layers.integers import FLOAT, dtype_after, moves, standard_dtype
from edgecnn.converters.layers.reading import (
    Recorded,
    RecordedArguments,
    RecordedWeights,
    refuse_training,
    refuse_unread_keys,
)
from edgecnn.converters.sources.description import (
    Call,
    LayerDescription,
    ModelDescription,
    TensorReference,
    WeightReader,
    leaves,
    replaced,
)
from edgecnn.errors import ConversionError, GraphError, InputError, UnsupportedLayer, UnsupportedLayerError
from edgecnn.graph import OPERATORS, Constant, Graph, Node, Port, Tensor
from edgecnn.graph.names import node_and_layers

MOST_CALLS = 100_000
"""Layers, each counted as often as it is called: models inside models may multiply beyond any network."""

CALL_WORK = 400
"""Of one call of a layer: units of work (see budget.py)."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)
"""What a layer's function ends in where a configuration, an attribute or an array is not what it is in any sound file."""

Value = Tensor | Turned | np.ndarray[Any, Any] | None
Outputs = Mapping[TensorReference, Value]
"""The tensor of every output; an array where it does not depend on any input (ONNX and LiteRT models compute shapes so); None
where a layer before it cannot be converted. Only ONNX models turn the batch away from the first axis."""


def assemble(description: ModelDescription, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """The graph that says what the model says, operator by operator.

    Args:
        input_shapes: sizes without the batch, by public input name (of a single input "" will do), for inputs whose sizes the model leaves open.

    Raises:
        InputError: such a shape contradicts the model, or names no input.
        UnsupportedLayerError: naming every layer that cannot be converted.
        ConversionError: the model's parts do not fit each other.
    """
    return _Assembler(description, input_shapes or {}).assemble()


class _Assembler:
    def __init__(self, description: ModelDescription, input_shapes: Mapping[str, Sequence[int]]) -> None:
        self.description = description
        names = {name: reference.layer for name, reference in description.inputs}
        if "" in input_shapes and len(names) == 1:
            input_shapes = {next(iter(names)): input_shapes[""]}
        unknown = sorted(input_shapes.keys() - names.keys())
        if unknown:
            raise InputError(f"input_shapes: there is no input {unknown[0]!r}; the model has {sorted(names)}")
        self.shapes = {names[name]: tuple(shape) for name, shape in input_shapes.items()}
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.items: dict[str, UnsupportedLayer] = {}
        self.dtypes: dict[str, str] = {}  # of tensors that hold whole numbers or truth values in Keras
        self.calls = 0
        self.applied: dict[str, int] = {}  # how often a layer has been called already

    def assemble(self) -> Graph:
        found = self._model(self.description, "", None)
        if self.items:
            order = {path: index for index, (path, _) in enumerate(self.description.walk())}
            items = sorted(self.items.values(), key=lambda item: order[item.path])
            raise UnsupportedLayerError(self.description.source, items)
        turned = {name: value.axis for name, r in self.description.outputs if isinstance(value := found.get(r), Turned)}
        graph = Graph(
            self.description.name,
            tuple(Port(name, self._port(found, r)) for name, r in self.description.inputs),
            tuple(Port(name, self._port(found, r)) for name, r in self.description.outputs),
            tuple(self.nodes),
            self.tensors,
            self.constants,
            self.description.input_structure,
            self.description.output_structure,
            {**self.description.metadata, **({"batch_axes": turned} if turned else {})},
        )
        try:
            graph.check()
        except GraphError as error:
            raise ConversionError(f"{self.description.source}: {error}") from error
        return graph

    def _port(self, outputs: Outputs, reference: TensorReference) -> str:
        tensor = self._output(self.description, outputs, reference)
        if isinstance(tensor, Turned):  # a file's outputs have the batch in front; the report tells
            tensor = tensor.tensor
        if not isinstance(tensor, Tensor):
            raise ConversionError(f"{self.description.source}: the output of {reference.layer!r} depends on no input")
        return tensor.name

    def _output(self, model: ModelDescription, outputs: Outputs, reference: TensorReference) -> Value:
        if reference not in outputs:
            if outputs.get(replace(reference, index=0), self) is None:
                return None  # a layer that cannot be converted has no outputs at all
            raise ConversionError(
                f"{model.source}: output {reference.index} of call {reference.call} of layer {reference.layer!r} is not in "
                f"the file; the file is damaged"
            )
        return outputs[reference]

    def _model(self, model: ModelDescription, path: str, given: Sequence[Value] | None, depth: int = 0) -> Outputs:
        """All outputs of a model's layers.

        Args:
            path: of the model, with "/" behind it; names its layers, their nodes and their weights.
            given: a tensor for each of its inputs; None for the outermost, whose input layers make them.
            depth: in how many TimeDistributed wrappers it is: so many axes of the tensors it does not see.
        """
        waiting = [(layer, number, call) for layer in model.layers for number, call in enumerate(layer.calls)]
        self.calls += len(waiting)
        if self.calls > MOST_CALLS:
            raise ConversionError(f"{model.source}: more than {MOST_CALLS} calls of layers; the file is damaged")
        charge_work(CALL_WORK * len(waiting), ("the layers of", path.rstrip("/") or model.name))
        self._check_references(model, waiting)
        outputs: dict[TensorReference, Value] = {}
        if given is not None:
            outputs.update({reference: x for (_, reference), x in zip(model.inputs, given, strict=True)})
        missing: list[int] = []
        """How many calls each call waits for."""
        readers: dict[TensorReference, list[int]] = {}
        ready: list[tuple[int, int]] = []
        """(turn, place in the file): in the file's order, and from its beginning again for those that had to wait."""
        for place, (layer, _, call) in enumerate(waiting):
            skipped = layer.class_name == "InputLayer" and given is not None
            needed = () if skipped else {TensorReference(r.layer, r.call) for r in call.inputs} - outputs.keys()
            missing.append(len(needed))
            for reference in needed:
                readers.setdefault(reference, []).append(place)
            if not needed and not skipped:
                ready.append((0, place))
        while ready:
            turn, place = heappop(ready)
            layer, number, call = waiting[place]
            values = self._apply(model, layer, number, call, path, outputs, depth)
            outputs.update({TensorReference(layer.path, number, i): x for i, x in enumerate(values)})
            for reader in readers.pop(TensorReference(layer.path, number), ()) if values else ():
                missing[reader] -= 1
                if not missing[reader]:
                    heappush(ready, (turn + (reader < place), reader))
        if any(missing):
            names = sorted({layer.path for (layer, _, _), left in zip(waiting, missing, strict=True) if left})
            raise ConversionError(f"{model.source}: layers {names} wait for each other; the file is damaged")
        return outputs

    def _check_references(self, model: ModelDescription, waiting: Sequence[tuple[LayerDescription, int, Call]]) -> None:
        known = {(layer.path, number) for layer, number, _ in waiting}
        for layer, _, call in waiting:
            for reference in call.inputs:
                if (reference.layer, reference.call) not in known:
                    raise ConversionError(
                        f"{model.source}: layer {layer.path!r} reads layer {reference.layer!r}, call {reference.call}, "
                        f"which is not in the file; the file is damaged"
                    )

    def _apply(
        self,
        model: ModelDescription,
        layer: LayerDescription,
        number: int,
        call: Call,
        path: str,
        outputs: Outputs,
        depth: int,
    ) -> list[Value]:
        """The outputs of one call of a layer."""
        here = f"{path}{layer.path}"
        seen: Layer | None = None
        try:
            if layer.class_name == "InputLayer":
                port = self._add_tensor(layer.path, self._fixed(layer.path, _input_shape(layer)))
                return [self._of_dtype(port, standard_dtype(layer.config.get("dtype")))]
            if any(leaf is not None for leaf in leaves(call.keywords.get("mask"))):
                raise Unsupported("it is called with a mask", "call it without")
            if layer.model is not None:
                return self._inner_model(layer, layer.model, call, here, outputs, depth)
            if layer.class_name == "TimeDistributed" and layer.inner is not None and layer.inner.model is not None:
                refuse_unread_keys(layer.class_name, Recorded(layer.config))
                return self._inner_model(layer, layer.inner.model, call, here, outputs, depth + 1)
            inputs = [self._output(model, outputs, reference) for reference in call.inputs]
            function = find(layer.class_name)
            if function is None:
                raise Unsupported(*reason_to_refuse(layer.class_name, layer.config))
            nested = Nested(depth)
            seen, dtypes = self._seen(model, layer, call, here, outputs, nested)
            tensors = [nested.frame(x) for x in inputs if isinstance(x, Tensor)]  # all of them, in models of Keras
            if model.keras != (0, 0):
                refuse_training(layer.class_name, call.keywords)
            if any(x is None for x in inputs):
                check_configuration(seen)
                return [None]
            dtype = FLOAT
            if model.keras != (0, 0) and tensors:
                dtype = dtype_after(seen, tensors, lambda x: self.dtypes.get(nested.whole(x).name, FLOAT))
            result = apply(seen, function, nested.build, tensors, dtypes if moves(seen) else ())
            own, layers = node_and_layers(layer.path)
            call_number = self.applied[here] = self.applied.get(here, -1) + 1
            node = f"{path}{own}" if call_number == 0 else f"{path}{own}:{call_number}"
            results: list[Any] = list(result) if isinstance(result, list | tuple) else [result]
            plain = [result.tensor if isinstance(result, Turned) else result for result in results]
            plain = [nested.whole(result) if isinstance(result, Tensor) else result for result in plain]
            accepted = self._accept(nested.plain.drafts, plain, node, here, tuple(f"{path}{name}" for name in layers))
            accepted = [self._of_dtype(x, dtype) if isinstance(x, Tensor) else x for x in accepted]
            return [
                Turned(value, result.axis) if isinstance(result, Turned) and isinstance(value, Tensor) else value
                for value, result in zip(accepted, results, strict=True)
            ]
        except Unsupported as problem:
            self.items[here] = UnsupportedLayer(here, layer.class_name, problem.reason, problem.hint)
            return [None]
        except Fault as fault:
            message = f"{model.source}: layer {here!r} ({layer.class_name}): {fault}"
            raise ConversionError(message) from fault.__cause__
        except GraphError as error:
            if model.keras == (0, 0) or (seen is not None and not _reads_weights(seen)):
                # No weights stored apart from the model, which might belong to another.
                hint = self._open_input() or "change it where the model is made"
                self.items[here] = UnsupportedLayer(here, layer.class_name, str(error), hint)
                return [None]
            raise ConversionError(
                f"{model.source}: layer {here!r} ({layer.class_name}): {error}; the file is damaged, or its weights belong "
                f"to another model"
            ) from error
        except InputError:
            raise
        except DAMAGE as error:
            raise ConversionError(
                f"{model.source}: layer {here!r} ({layer.class_name}): its configuration is damaged "
                f"({type(error).__name__}: {error})"
            ) from error

    def _seen(
        self,
        model: ModelDescription,
        layer: LayerDescription,
        call: Call,
        here: str,
        outputs: Outputs,
        nested: Nested,
    ) -> tuple[Layer, tuple[str, ...]]:
        """The layer as its function sees it, and the dtypes of its inputs that are no floats.

        What a function of ours reads is recorded. Of a class that a user has registered, only the call's arguments are.
        """

        def tensor(leaf: Any) -> Any:
            value = self._output(model, outputs, leaf) if isinstance(leaf, TensorReference) else leaf
            return nested.frame(value) if isinstance(value, Tensor) else value

        arguments: Sequence[Any] = tuple(replaced(value, tensor) for value in call.arguments)
        keywords: Mapping[str, Any] = {k: replaced(v, tensor) for k, v in call.keywords.items() if k != "mask"}
        config, weights = layer.config, _charged(layer.weights, here)
        found = [x for x in leaves([*arguments, *keywords.values()]) if isinstance(x, Tensor)]
        names = {nested.whole(x).name for x in found}
        dtypes = tuple({self.dtypes[name] for name in names if name in self.dtypes})
        if model.keras != (0, 0):
            arguments, keywords = RecordedArguments(arguments), Recorded(keywords)
            if layer.class_name in LAYERS:
                config, weights = Recorded(config), RecordedWeights(weights)
        return Layer(here, layer.class_name, config, model.keras, weights, arguments, keywords, layer.inner), dtypes

    def _of_dtype(self, tensor: Tensor, dtype: str) -> Tensor:
        """The tensor, which holds numbers of a dtype in Keras."""
        if dtype != FLOAT:
            self.dtypes[tensor.name] = dtype
        return tensor

    def _open_input(self) -> str:
        """What to do where an input of an ONNX or LiteRT model has sizes that are known at the call only; "" if none has."""
        for name, reference in self.description.inputs:
            tensor = self.tensors.get(reference.layer)
            shape = tensor.shape if tensor else ()
            if None in shape[1:]:
                sizes = ",".join("?" if size is None else str(size) for size in shape[1:])
                return f"fix the sizes of input {name!r}, ({sizes}): --input-shape, or input_shapes= in Python"
        return ""

    def _fixed(self, path: str, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """An input's shape with the sizes that the user has fixed."""
        wanted = self.shapes.get(path)
        if wanted is None:
            return shape
        fits = len(wanted) == len(shape) - 1 and all(a in (None, b) for a, b in zip(shape[1:], wanted, strict=False))
        if not fits or any(type(size) is not int or size < 1 for size in wanted):
            raise InputError(f"input_shapes: {path!r} has the shape {shape[1:]} without its batch; given {wanted}")
        return (None, *wanted)

    def _inner_model(
        self,
        layer: LayerDescription,
        model: ModelDescription,
        call: Call,
        here: str,
        outputs: Outputs,
        depth: int,
    ) -> list[Value]:
        """The outputs of a model that is called as a layer."""
        refuse_training(layer.class_name, call.keywords)
        others = [*call.arguments, *(v for k, v in call.keywords.items() if k not in ("mask", "training"))]
        extra = [leaf for leaf in leaves(others) if leaf is not None and not isinstance(leaf, TensorReference)]
        if extra:
            raise Unsupported(f"it is called with {', '.join(map(repr, extra))}", "call a model with tensors only")
        first = call.arguments[0] if call.arguments else None
        references = list(call.inputs)
        if isinstance(first, Mapping) and model.input_structure == "dict":
            references = [first[name] for name, _ in model.inputs]
        if len(references) != len(model.inputs):
            raise Unsupported(
                f"it is a model of {len(model.inputs)} inputs, called with {len(references)} tensors",
                "call it with one tensor for each input",
            )
        given = [
            self._converted(self._output(self.description, outputs, r), model, port.layer, here)
            for r, (_, port) in zip(references, model.inputs, strict=True)
        ]
        found = self._model(model, f"{here}/", given, depth)
        names = model.outputs if model.output_structure != "dict" else sorted(model.outputs)
        return [self._output(model, found, reference) for _, reference in names]

    def _converted(self, given: Value, model: ModelDescription, name: str, here: str) -> Value:
        """A tensor as the input of an inner model: Keras casts it to that input's dtype."""
        port = next((layer for layer in model.layers if layer.path == name), None)
        if port is None or not isinstance(given, Tensor) or port.config.get("dtype") is None:
            return given
        wanted, dtype = standard_dtype(port.config["dtype"]), self.dtypes.get(given.name, FLOAT)
        if wanted == dtype:
            return given
        if wanted != FLOAT:
            raise Unsupported(
                f"its input is of {wanted}, and it is called with {dtype}", "give its input a float dtype"
            )
        copy = self._add_tensor(f"{here}/{name}", given.shape)
        self.nodes.append(Node("identity", copy.name, (given.name,), (copy.name,), {}, ()))
        return copy

    def _accept(
        self, drafts: Sequence[Draft], results: Sequence[Value], name: str, path: str, layers: tuple[str, ...]
    ) -> list[Value]:
        """Nodes for a layer's drafts. The one that gives the first output is called like the layer, the others like it and
        their operator; constants like their node's layer and role, so that a second call finds them."""
        made = {id(draft.output) for draft in drafts}
        taken: set[int] = set()
        final: list[Draft] = list(drafts)
        outputs: list[Value] = []
        for result in results:
            if isinstance(result, Tensor) and (id(result) not in made or id(result) in taken):
                copy = Draft("identity", (result,), {}, Tensor("<copy>", result.shape))
                final.append(copy)
                result = copy.output
            taken.add(id(result))
            outputs.append(result)
        names: dict[int, Tensor] = {}
        for index, draft in enumerate(final):
            is_first = draft.output is outputs[0]
            suffix = "" if is_first else f"/{index}_{draft.operator}"
            row = OPERATORS[draft.operator]
            inputs = []
            for position, value in enumerate(draft.inputs):
                role = row.roles[min(position, len(row.roles) - 1)].name
                if isinstance(value, Tensor):
                    inputs.append(names.get(id(value), value).name)
                else:
                    inputs.append("" if value is None else self._add_constant(f"{path}{suffix}/{role}", value))
            tensor = self._add_tensor(f"{name}{suffix}", draft.output.shape)
            names[id(draft.output)] = tensor
            self.nodes.append(
                Node(draft.operator, tensor.name, tuple(inputs), (tensor.name,), draft.attributes, layers)
            )
        return [names[id(output)] if isinstance(output, Tensor) else output for output in outputs]

    def _add_tensor(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        wanted, number = name, 2
        while name in self.tensors or name in self.constants:
            name, number = f"{wanted} {number}", number + 1
        self.tensors[name] = Tensor(name, shape)
        return self.tensors[name]

    def _add_constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        wanted, number = name, 2
        while name in self.constants or name in self.tensors:
            known = self.constants.get(name)
            if known is not None and known.array.shape == values.shape and known.array.tobytes() == values.tobytes():
                return name  # a layer that is called again brings the same weights
            name, number = f"{wanted} {number}", number + 1
        self.constants[name] = Constant(name, values)
        return name


def _charged(read: WeightReader, path: str) -> WeightReader:
    """Reads weights, and charges them to the conversion's budget."""

    def reader(names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
        arrays = read(names)
        charge(sum(array.nbytes for array in arrays), ("the weights of layer", path))
        return arrays

    return reader


def _reads_weights(layer: Layer) -> bool:
    """Whether a layer's function has asked for weights; it may have where that is not recorded."""
    return layer.inner is not None or not isinstance(layer.weights, RecordedWeights) or bool(layer.weights.read)


def _input_shape(layer: LayerDescription) -> tuple[int | None, ...]:
    shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if not isinstance(shape, list | tuple) or not shape:
        raise ValueError("it has no shape")
    if any(size is not None and (not isinstance(size, int) or size < 1) for size in shape[1:]):
        raise ValueError(f"it has the shape {shape}")
    if layer.config.get("sparse") or layer.config.get("ragged"):
        raise Unsupported("it takes sparse or ragged tensors", "use a dense input")
    if layer.config.get("dtype") == "string":
        raise Unsupported("it takes strings", "use numbers")
    return (None, *shape[1:])
