"""Keras' JSON configuration of a model, of Keras 2 and 3, Sequential and Functional, as a description."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgecnn.converters.sources.description import (
    Call,
    LayerDescription,
    ModelDescription,
    TensorReference,
    WeightReader,
)
from edgecnn.errors import ConversionError

FUNCTIONAL = ("Functional", "Model")
"""Class names of functional models; "Model" up to Keras 2.3."""


def parse_version(text: Any) -> tuple[int, int]:
    """(3, 1) from "3.1.0"; Keras 2 where there is none, as in its oldest files."""
    try:
        major, minor = str(text).split("-")[0].split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return 2, 0


def describe_model(
    config: Any, source: str, keras: tuple[int, int], weights: Callable[[int, str, str], WeightReader], size: int | None
) -> ModelDescription:
    """A model's description.

    Args:
        config: the parsed JSON: {"class_name": ..., "config": ...}.
        source: for messages.
        keras: version that wrote it.
        weights: from a layer's position among the layers, class name and name to its weight reader.
        size: bytes of the file.

    Raises:
        ConversionError: it is no Sequential or Functional model, or damaged.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping | list):
        raise ConversionError(f"{source}: its configuration is no Keras model's; save the model again with model.save")
    kind = config.get("class_name")
    try:
        if kind == "Sequential":
            return _encodable(_sequential(config["config"], source, keras, weights, size))
        if kind in FUNCTIONAL:
            return _encodable(_functional(config["config"], source, keras, weights, size))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ConversionError(
            f"{source}: its configuration is damaged ({type(error).__name__}: {error}); save the model again"
        ) from error
    raise ConversionError(
        f"{source}: holds a {kind!r}, a model written as a class, whose structure only its own code knows; "
        f"rebuild it with keras.Sequential or the functional API and save that"
    )


def _encodable(description: ModelDescription) -> ModelDescription:
    """The description, whose names must be writable as UTF-8 (JSON can hold halves of characters)."""
    for name in (description.name, *(layer.path for layer in description.layers)):
        name.encode("utf-8")
    for name, _ in (*description.inputs, *description.outputs):
        name.encode("utf-8")
    return description


def _class_name(layer: Mapping[str, Any]) -> str:
    """The class name; a class that is not Keras' own is given with its module or registered name in front."""
    name, module, registered = str(layer["class_name"]), layer.get("module"), layer.get("registered_name")
    if registered and registered != name:
        return f"{registered}"
    root = str(module).split(".")[0] if module else "keras"
    if root in ("keras", "tf_keras", "tensorflow"):
        return name
    return f"{module}>{name}"


def _sequential(
    config: Any, source: str, keras: tuple[int, int], weights: Callable[[int, str, str], WeightReader], size: int | None
) -> ModelDescription:
    entries = config if isinstance(config, list) else config["layers"]
    whole = {} if isinstance(config, list) else config
    layers: list[LayerDescription] = []
    previous: TensorReference | None = None
    input_name = ""
    for index, entry in enumerate(entries):
        settings, class_name = entry["config"], _class_name(entry)
        name = str(settings.get("name") or entry.get("name"))
        if index == 0 and class_name != "InputLayer":
            shape = settings.get("batch_input_shape") or settings.get("batch_shape") or whole.get("build_input_shape")
            if shape is None:
                raise ConversionError(
                    f"{source}: does not say what input it takes; add keras.Input(shape) as the first layer, or call the "
                    f"model once, and save it again"
                )
            input_name = f"{name}_input"
            layers.append(
                LayerDescription(input_name, "InputLayer", {"batch_shape": shape}, (Call(()),), _no_weights(input_name))
            )
            previous = TensorReference(input_name)
        inputs = () if previous is None else (previous,)
        layers.append(LayerDescription(name, class_name, settings, (Call(inputs),), weights(index, class_name, name)))
        previous = TensorReference(name)
        input_name = input_name or name
    if previous is None:
        raise ConversionError(f"{source}: has no layers")
    return ModelDescription(
        source,
        str(whole.get("name", "sequential")),
        keras,
        tuple(layers),
        ((input_name, TensorReference(input_name)),),
        ((previous.layer, previous),),
        "single",
        "single",
        size,
    )


def _no_weights(path: str) -> WeightReader:
    def read(names: Any) -> list[Any]:
        raise ConversionError(f"layer {path!r} has no weights")

    return read


def _functional(
    config: Any, source: str, keras: tuple[int, int], weights: Callable[[int, str, str], WeightReader], size: int | None
) -> ModelDescription:
    layers = []
    for index, entry in enumerate(config["layers"]):
        settings, class_name = entry["config"], _class_name(entry)
        name = str(entry.get("name") or settings["name"])
        calls = tuple(_call(node) for node in entry.get("inbound_nodes", []))
        if class_name == "InputLayer":
            calls = (Call(()),)
        layers.append(LayerDescription(name, class_name, settings, calls, weights(index, class_name, name)))
    if len({layer.path for layer in layers}) != len(layers):
        raise ConversionError(f"{source}: two layers have the same name")
    input_structure, inputs = _ports(config["input_layers"])
    output_structure, outputs = _ports(config["output_layers"])
    return ModelDescription(
        source,
        str(config.get("name", "model")),
        keras,
        tuple(layers),
        inputs,
        outputs,
        input_structure,
        output_structure,
        size,
    )


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


def _call(node: Any) -> Call:
    """One entry of inbound_nodes, of either Keras."""
    inputs: list[TensorReference] = []
    extras: list[str] = []
    if isinstance(node, Mapping):
        for where, value in _leaves(node.get("args", []), "argument"):
            _sort(where, value, inputs, extras)
        for key, value in node.get("kwargs", {}).items():
            if key in ("training", "mask"):
                continue
            for where, leaf in _leaves(value, str(key)):
                _sort(where, leaf, inputs, extras)
        return Call(tuple(inputs), tuple(extras))
    if isinstance(node, list) and _is_reference(node):
        node = [node]
    entries = node.values() if isinstance(node, Mapping) else node
    for entry in entries:
        if not _is_reference(entry):
            extras.append(f"argument {entry!r}")
            continue
        inputs.append(_reference(entry))
        for key, value in (entry[3] if len(entry) > 3 else {}).items():
            if key not in ("training", "mask") and value is not None:
                extras.append(f"{key}={value!r}")
    return Call(tuple(inputs), tuple(extras))


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """All leaves of nested lists, with the way they were given; tensors are leaves."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item, where)
    else:
        yield where, value


def _sort(where: str, value: Any, inputs: list[TensorReference], extras: list[str]) -> None:
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        inputs.append(_reference(value["config"]["keras_history"]))
    elif value is not None:
        extras.append(f"{where} {value!r}")
