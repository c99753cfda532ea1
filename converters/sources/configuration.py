"""Keras' JSON configuration of a model, of Keras 2 and 3, Sequential and Functional, as a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgecnn.converters.sources.description import (
    Call,
    LayerDescription,
    ModelDescription,
    TensorReference,
    WeightScope,
    replaced,
)
from edgecnn.converters.sources.operation_names import KERAS_OPERATIONS
from edgecnn.errors import ConversionError, UnsupportedLayer, UnsupportedLayerError

FUNCTIONAL = ("Functional", "Model")
"""Class names of functional models; "Model" up to Keras 2.3."""
WRAPPERS = ("TimeDistributed", "SpectralNormalization")
OLD_CLASSES = {
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2"), "BatchNormalization"),
    **dict.fromkeys(("LSTMV1", "LSTMV2", "UnifiedLSTM"), "LSTM"),
    **dict.fromkeys(("GRUV1", "GRUV2", "UnifiedGRU"), "GRU"),
    "DenseFeaturesV2": "DenseFeatures",
}
"""What tf.keras of TensorFlow 1.13 to 2.0 called its classes: one was chosen at import, and its own name was written."""
REMOVED_AFTER_TRAINING = {
    "PruneLowMagnitude": {"pruning_schedule", "block_size", "block_pooling_type", "sparsity_m_by_n"},
    "QuantizeAnnotate": {"quantize_config"},
}
"""Wrappers of tensorflow_model_optimization that compute what the layer inside does, and what they keep for the training. Source:
tfmot 0.8, sparsity/keras/pruning_wrapper.py and quantization/keras/quantize_annotate.py."""
MOST_NESTED = 64
"""Models inside models: more are no model's, and would exhaust the stack."""


def parse_version(text: Any) -> tuple[int, int]:
    """(3, 1) from "3.1.0"; Keras 2 where there is none, as in its oldest files."""
    try:
        major, minor = str(text).split("-")[0].split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return 2, 0


def describe_model(
    config: Any,
    source: str,
    keras: tuple[int, int],
    weights: WeightScope,
    size: int | None,
    notes: tuple[str, ...] = (),
) -> ModelDescription:
    """A model's description.

    Args:
        config: the parsed JSON: {"class_name": ..., "config": ...}.
        source: for messages.
        keras: version that wrote it.
        weights: the model's.
        size: bytes of the file.
        notes: what the user should know.

    Raises:
        ConversionError: it is no Sequential or Functional model, or damaged.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping | list):
        raise ConversionError(f"{source}: its configuration is no Keras model's; save the model again with model.save")
    try:
        description = _Reader(source, keras, size).model(config, weights, 0)
        if description is not None:
            return replace(_encodable(description), notes=notes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ConversionError(
            f"{source}: its configuration is damaged ({type(error).__name__}: {error}); save the model again"
        ) from error
    own, class_name = config["config"], str(config.get("class_name"))
    name = str(own.get("name") or class_name) if isinstance(own, Mapping) else class_name
    reason = "a model written as a class, whose structure only its own code knows"
    hint = "rebuild it with keras.Sequential or the functional API and save that"
    raise UnsupportedLayerError(source, [UnsupportedLayer(name, class_name, reason, hint)])


def _encodable(description: ModelDescription) -> ModelDescription:
    """The description, whose names must be writable as UTF-8 (JSON can hold halves of characters)."""
    for name in (description.name, *(path for path, _ in description.walk())):
        name.encode("utf-8")
    for name, _ in (*description.inputs, *description.outputs):
        name.encode("utf-8")
    return description


def class_name_of(layer: Mapping[str, Any]) -> str:
    """The class name; a class that is not Keras' own is given with its module or registered name in front."""
    name, module, registered = str(layer["class_name"]), layer.get("module"), layer.get("registered_name")
    if registered and registered != name:
        return f"{registered}"
    if not module and _is_operation(layer):
        return f"ops.{name}"
    parts = str(module).split(".") if module else ["keras"]
    if parts[0] in ("keras", "tf_keras", "tensorflow", "tensorflow_model_optimization"):
        return f"ops.{name}" if "ops" in parts[:-1] else OLD_CLASSES.get(name, name)
    return f"{module}>{name}"


def _is_operation(layer: Mapping[str, Any]) -> bool:
    """Whether an entry without a module, as Keras 3 writes it to .h5, is a function of keras.ops.

    The configuration of each of Keras' own layers has `trainable`; that of a function never does, but may well have a dtype
    (`cast`, `one_hot`). A layer of somebody's own may leave `trainable` out: it is told by its class.
    """
    config, nodes = layer.get("config"), layer.get("inbound_nodes")
    in_keras_3 = isinstance(nodes, list) and nodes and isinstance(nodes[0], Mapping) and "args" in nodes[0]
    return bool(
        in_keras_3
        and isinstance(config, Mapping)
        and not {"trainable", "layers"} & config.keys()
        and layer.get("class_name") in KERAS_OPERATIONS
    )


class _Reader:
    """Reads the configuration of a model and of those inside it."""

    def __init__(self, source: str, keras: tuple[int, int], size: int | None) -> None:
        self.source, self.keras, self.size = source, keras, size

    def model(self, entry: Mapping[str, Any], weights: WeightScope, depth: int) -> ModelDescription | None:
        """A model's description; None if its class is neither Sequential nor Functional."""
        if depth > MOST_NESTED:
            raise ValueError(f"models are nested more than {MOST_NESTED} deep")
        kind, config = entry.get("class_name"), entry["config"]
        if kind == "Sequential":
            return self._sequential(config, weights, depth)
        if kind in FUNCTIONAL and "layers" in config:
            return self._functional(config, weights, depth)
        return None

    def _layer(
        self, entry: Mapping[str, Any], name: str, calls: tuple[Call, ...], weights: WeightScope, depth: int
    ) -> LayerDescription:
        settings, class_name = entry["config"], class_name_of(entry)
        if entry.get("shared_object_id") is not None and weights.shares_nothing:
            raise ConversionError(
                f"{self.source}: layer {name!r} belongs to two models inside this one; Keras cannot read such a .keras file "
                f"back either: save the model as .h5"
            )
        if class_name in (*FUNCTIONAL, "Sequential"):
            model = self.model(entry, weights.model(class_name, name), depth + 1)
            return LayerDescription(name, class_name, {}, calls, weights_of_nothing(name), model)
        if not isinstance(settings, Mapping):
            raise TypeError(f"layer {name!r} has the configuration {settings!r}")
        if class_name in ("TFOpLambda", "SlicingOpLambda"):
            class_name = f"tf.{settings['function']}"
        inner = settings.get("layer")
        if class_name in WRAPPERS and isinstance(inner, Mapping):
            inside = class_name_of(inner)
            if inside in (*FUNCTIONAL, "Sequential"):
                model = self.model(inner, weights.wrapped_model(class_name, name), depth + 1)
                wrapped = LayerDescription(name, inside, {}, (), weights_of_nothing(name), model)
            else:
                reader = weights.wrapped(class_name, name, settings, inside, inner["config"])
                wrapped = LayerDescription(name, inside, inner["config"], (), reader)
            return LayerDescription(name, class_name, settings, calls, weights_of_nothing(name), None, wrapped)
        if class_name in REMOVED_AFTER_TRAINING and isinstance(inner, Mapping):
            inside = class_name_of(inner)
            unknown = settings.keys() - REMOVED_AFTER_TRAINING[class_name] - {"name", "trainable", "dtype", "layer"}
            unknown -= {"batch_input_shape", "build_config"}
            if unknown or inside in (*FUNCTIONAL, "Sequential", *WRAPPERS, *REMOVED_AFTER_TRAINING):
                about = f"{inside} with {', '.join(sorted(unknown))}" if unknown else inside
                raise ConversionError(
                    f"{self.source}: layer {name!r}: a {class_name} around a {about} is not known; take the wrappers off with "
                    f"tensorflow_model_optimization (strip_pruning) and save the model again"
                )
            reader = weights.wrapped(class_name, name, settings, inside, inner["config"])
            return LayerDescription(name, inside, inner["config"], calls, reader)
        return LayerDescription(name, class_name, settings, calls, weights.layer(class_name, name, settings))

    def _sequential(self, config: Any, weights: WeightScope, depth: int) -> ModelDescription:
        entries = config if isinstance(config, list) else config["layers"]
        whole = {} if isinstance(config, list) else config
        layers: list[LayerDescription] = []
        previous: TensorReference | None = None
        input_name = ""
        for index, entry in enumerate(entries):
            settings, class_name = entry["config"], class_name_of(entry)
            name = str((settings.get("name") if isinstance(settings, Mapping) else None) or entry.get("name"))
            if index == 0 and class_name != "InputLayer":
                shape = _first_shape(entry) or whole.get("build_input_shape")
                if shape is None and depth == 0:
                    raise ConversionError(
                        f"{self.source}: does not say what input it takes; add keras.Input(shape) as the first layer, or "
                        f"call the model once, and save it again"
                    )
                input_name = f"{name}_input"
                layers.append(input_layer(input_name, shape or [None]))
                previous = TensorReference(input_name)
            call = Call() if previous is None else Call((previous,))
            layers.append(self._layer(entry, name, (call,), weights, depth))
            previous = TensorReference(name)
            input_name = input_name or name
        if previous is None:
            raise ConversionError(f"{self.source}: has no layers")
        return ModelDescription(
            self.source,
            str(whole.get("name", "sequential")),
            self.keras,
            _distinct(layers),
            ((input_name, TensorReference(input_name)),),
            ((previous.layer, previous),),
            "single",
            "single",
            self.size,
        )

    def _functional(self, config: Any, weights: WeightScope, depth: int) -> ModelDescription:
        layers = []
        entries = config["layers"]
        names = {str(entry.get("name") or entry["config"]["name"]) for entry in entries}
        for entry in entries:
            name = str(entry.get("name") or entry["config"]["name"])
            calls = tuple(_call(node, entry["class_name"], names) for node in entry.get("inbound_nodes", []))
            if class_name_of(entry) == "InputLayer":
                calls = (Call(),)
            layers.append(self._layer(entry, name, calls, weights, depth))
        input_structure, inputs = _ports(config["input_layers"])
        output_structure, outputs = _ports(config["output_layers"])
        layers, outputs = _counted_from_zero(layers, outputs)
        return ModelDescription(
            self.source,
            str(config.get("name", "model")),
            self.keras,
            _distinct(layers),
            inputs,
            outputs,
            input_structure,
            output_structure,
            self.size,
        )


def _counted_from_zero(
    layers: list[LayerDescription], outputs: tuple[tuple[str, TensorReference], ...]
) -> tuple[list[LayerDescription], tuple[tuple[str, TensorReference], ...]]:
    """References to the calls of inner models, which Keras 2 counts from 1: call 0 is the one that made the model."""
    used = [reference for layer in layers for call in layer.calls for reference in call.inputs]
    used += [reference for _, reference in outputs]
    models = {layer.path: len(layer.calls) for layer in layers if layer.model is not None}
    late = {reference.layer for reference in used if reference.call >= models.get(reference.layer, reference.call + 1)}
    if not late:
        return layers, outputs

    def moved(leaf: Any) -> Any:
        return replace(leaf, call=leaf.call - 1) if isinstance(leaf, TensorReference) and leaf.layer in late else leaf

    counted = [
        replace(
            layer, calls=tuple(Call(replaced(c.arguments, moved), replaced(c.keywords, moved)) for c in layer.calls)
        )
        for layer in layers
    ]
    return counted, tuple((name, moved(reference)) for name, reference in outputs)


def _distinct(layers: list[LayerDescription]) -> tuple[LayerDescription, ...]:
    if len({layer.path for layer in layers}) != len(layers):
        raise ValueError("two layers have the same name")
    return tuple(layers)


def _first_shape(entry: Mapping[str, Any]) -> Any:
    """The input's shape that a Sequential's first layer tells, batch first; of a model, its own first layer."""
    settings = entry["config"]
    for _ in range(MOST_NESTED):
        if isinstance(settings, Mapping) and "layers" not in settings:
            shape = settings.get("batch_input_shape") or settings.get("batch_shape")
            if (
                shape is None
                and isinstance(settings.get("layer"), Mapping)
                and entry["class_name"] in REMOVED_AFTER_TRAINING
            ):
                entry, settings = settings["layer"], settings["layer"]["config"]
                continue
            return shape
        layers = settings["layers"] if isinstance(settings, Mapping) else settings
        settings = layers[0]["config"]
    return None


def input_layer(name: str, shape: Any) -> LayerDescription:
    """A model's input that no layer of the file stands for."""
    return LayerDescription(name, "InputLayer", {"batch_shape": shape}, (Call(),), weights_of_nothing(name))


def weights_of_nothing(path: str) -> Callable[[Any], list[Any]]:
    """The reader of a layer that has no weights."""

    def read(names: Any) -> list[Any]:
        raise ConversionError(f"layer {path!r} has no weights")

    return read


def _reference(history: Any) -> TensorReference:
    layer, call, index = history[:3]
    if isinstance(call, bool) or not isinstance(call, int) or not isinstance(index, int):
        raise ValueError(f"a tensor is given as {history!r}")
    return TensorReference(str(layer), call, index)


def _is_reference(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _ports(value: Any) -> tuple[str, tuple[tuple[str, TensorReference], ...]]:
    """A model's inputs or outputs: [layer, call, index], a list of these, or a dict."""
    if isinstance(value, Mapping):
        return "dict", tuple((str(name), _reference(history)) for name, history in value.items())
    structure = "single" if _is_reference(value) else "list"
    references = [_reference(value)] if structure == "single" else [_reference(history) for history in value]
    if len(references) == 1:
        # Keras 2 gives a list of one for a single input; a Keras 3 model of one listed output is rare and takes both.
        structure = "single"
    names: list[str] = []
    for reference in references:
        count = sum(1 for name in names if name == reference.layer or name.startswith(f"{reference.layer}_"))
        name = reference.layer
        while name in names:
            count += 1
            name = f"{reference.layer}_{count}"
        names.append(name)
    return structure, tuple(zip(names, references, strict=True))


def _call(node: Any, class_name: str, layers: set[str]) -> Call:
    """One entry of inbound_nodes, of either Keras."""
    if isinstance(node, Mapping) and "args" in node:
        return Call(
            tuple(_keras_3_value(value) for value in node.get("args", [])),
            {str(key): _keras_3_value(value) for key, value in node.get("kwargs", {}).items()},
        )
    if class_name in ("TFOpLambda", "SlicingOpLambda"):
        return _operation(node, layers)
    if isinstance(node, list) and _is_reference(node):
        node = [node]
    if isinstance(node, Mapping):
        return Call(({key: _reference(entry) for key, entry in node.items()},))
    keywords: dict[str, Any] = {}
    arguments: list[Any] = []
    for entry in node:
        arguments.append(_reference(entry) if _is_reference(entry) else entry)
        if isinstance(entry, list) and len(entry) > 3:
            keywords.update(_keras_2_value(entry[3], layers))
    return Call(tuple(arguments), keywords)


def _operation(node: Any, layers: set[str]) -> Call:
    """A TensorFlow function of Keras 2: its first argument (a tensor, a list of them, or a constant), and the others by
    name."""
    entries = [node] if _is_reference(node) else list(node)
    keywords: dict[str, Any] = {}
    values: list[Any] = []
    for entry in entries:
        # A list among them ([[64], [6]] in tf.concat([shape, [64, 6]], 0)) is one of such entries.
        nested = isinstance(entry[0], list)
        found = [
            item[2] if item[0] == "_CONSTANT_VALUE" else _reference(item) for item in (entry if nested else [entry])
        ]
        for item in entry if nested else [entry]:
            keywords.update(_keras_2_value(item[3], layers) if len(item) > 3 else {})
        values.append(found if nested else found[0])
    return Call((values[0] if _is_reference(node) else values,), keywords)


def _keras_2_value(value: Any, layers: set[str]) -> Any:
    """An argument with tensors, which Keras 2 gives as [layer, call, index]."""
    if _is_reference(value) and len(value) == 3 and value[0] in layers:
        return _reference(value)
    if isinstance(value, list):
        return [_keras_2_value(item, layers) for item in value]
    if isinstance(value, Mapping):
        if value.keys() == {"start", "stop", "step"}:
            return slice(value["start"], value["stop"], value["step"])
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
            return [_keras_2_value(item, layers) for item in value["items"]]
        return {str(key): _keras_2_value(item, layers) for key, item in value.items()}
    return value


def _keras_3_value(value: Any) -> Any:
    """An argument with tensors, arrays and slices, which Keras 3 marks by class names."""
    if isinstance(value, list):
        return [_keras_3_value(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__keras_tensor__":
        return _reference(value["config"]["keras_history"])
    if kind in ("__tensor__", "__numpy__"):
        whole = str(value["config"].get("dtype")).removeprefix("u").startswith(("int", "bool"))
        return np.asarray(value["config"]["value"], np.int64 if whole else np.float64)
    if kind == "__tuple__":
        return [_keras_3_value(item) for item in value["items"]]
    if kind == "__slice__" and isinstance(config, Mapping):
        return slice(config["start"], config["stop"], config["step"])
    if kind == "__ellipsis__":
        return Ellipsis
    return {str(key): _keras_3_value(item) for key, item in value.items()}
