"""What every source becomes: layers with their configurations, how they are connected, and a way to their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TensorReference:
    """Output number `index` of call number `call` of a layer."""

    layer: str
    call: int = 0
    index: int = 0


@dataclass(frozen=True)
class Call:
    """One application of a layer.

    Attributes:
        arguments: what it is called with: `TensorReference`s, perhaps in lists and dicts, and plain values.
        keywords: the same by name.
    """

    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorReference, ...]:
        """Every tensor, in order, flattened; a mask is none."""
        given = [*self.arguments, *(value for name, value in self.keywords.items() if name != "mask")]
        return tuple(leaf for leaf in leaves(given) if isinstance(leaf, TensorReference))


def leaves(value: Any) -> Iterator[Any]:
    """All leaves of nested lists and dicts; those of a dict by sorted keys, as Keras flattens it."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from leaves(value[key])
    else:
        yield value


def replaced(value: Any, function: Callable[[Any], Any]) -> Any:
    """A nested value with a function applied to its leaves."""
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, function) for item in value)
    if isinstance(value, Mapping):
        return {key: replaced(item, function) for key, item in value.items()}
    return function(value)


WeightReader = Callable[[Sequence[str]], list[Array]]
"""From names ("kernel", "bias") in Keras' order to float32 arrays. Raises ConversionError.

A reader may have an attribute `stored`, a function without arguments that gives the names of all variables stored for the layer
("conv/kernel:0", "kernel" or "0"): then those that no one has read are refused (layers/reading.py). `StoredWeights` is such a
reader."""


@dataclass(frozen=True)
class StoredWeights:
    """A reader that knows what is stored.

    Attributes:
        read: from names to arrays, as in `WeightReader`.
        stored: the names, or paths, of everything that is stored for the layer.
    """

    read: Callable[[Sequence[str]], list[Array]]
    stored: Callable[[], Sequence[str]]

    def __call__(self, names: Sequence[str]) -> list[Array]:
        return self.read(names)


class WeightScope(Protocol):
    """The weights of one model. Asked once for each of its layers, in the file's order.

    Attributes:
        shares_nothing: whether a layer that two models inside the model share cannot be found in both.
    """

    shares_nothing: bool

    def layer(self, class_name: str, name: str, config: Mapping[str, Any]) -> WeightReader:
        """Of a layer."""

    def wrapped(
        self, class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any]
    ) -> WeightReader:
        """Of the layer inside a wrapper; the wrapper's class, name and configuration, then the inner class and configuration."""

    def model(self, class_name: str, name: str) -> WeightScope:
        """Of a model inside the model."""

    def wrapped_model(self, class_name: str, name: str) -> WeightScope:
        """Of a model inside a wrapper; the wrapper's class and name."""


@dataclass(frozen=True)
class LayerDescription:
    """One layer.

    Attributes:
        path: its name in its model.
        class_name: as the file gives it, with the package of a class that somebody registered ("pack>Attention"); a
            function of keras.ops is "ops.Add", of TensorFlow "tf.nn.relu6".
        config: its configuration.
        calls: every application, in order. An input layer has one call without inputs.
        weights: reads its weights.
        model: what it is made of, if it is a model.
        inner: the layer that it wraps, if it is a wrapper.
    """

    path: str
    class_name: str
    config: Mapping[str, Any]
    calls: tuple[Call, ...]
    weights: WeightReader
    model: ModelDescription | None = None
    inner: LayerDescription | None = None


@dataclass(frozen=True)
class ModelDescription:
    """A model.

    Attributes:
        source: file or object, for messages.
        name: the model's name.
        keras: version of the Keras that wrote it, (2, 15) or (3, 1); (0, 0) where no Keras did.
        layers: in the file's order.
        inputs, outputs: (public name, tensor), in Keras' order.
        input_structure, output_structure: "single", "list" or "dict".
        size: bytes of the file, None for an object.
        metadata: what to keep in the .ecnn file.
        writer: what wrote it, for people ("Keras 3.1").
        notes: what the user should know; the report repeats it.
    """

    source: str
    name: str
    keras: tuple[int, int]
    layers: tuple[LayerDescription, ...]
    inputs: tuple[tuple[str, TensorReference], ...]
    outputs: tuple[tuple[str, TensorReference], ...]
    input_structure: str
    output_structure: str
    size: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    writer: str = ""
    notes: tuple[str, ...] = ()

    def walk(self, prefix: str = "") -> Iterator[tuple[str, LayerDescription]]:
        """Every layer with its path, those of inner models after their model."""
        for layer in self.layers:
            path = f"{prefix}{layer.path}"
            yield path, layer
            model = layer.model or (layer.inner.model if layer.inner is not None else None)
            if model is not None:
                yield from model.walk(f"{path}/")
