"""What every source becomes: layers with their configurations, how they are connected, and a way to their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        inputs: its input tensors, in order, flattened.
        extras: anything else in its arguments that is neither None nor a training flag: constants, by how they are
            given. A layer function that does not read them must not be called.
    """

    inputs: tuple[TensorReference, ...]
    extras: tuple[str, ...] = ()


WeightReader = Callable[[Sequence[str]], list[Array]]
"""From names ("kernel", "bias") in Keras' order to float32 arrays. Raises ConversionError."""


@dataclass(frozen=True)
class LayerDescription:
    """One layer.

    Attributes:
        path: its name in the model.
        class_name: as the file gives it, with the package of a class that somebody registered ("pack>Attention").
        config: its configuration.
        calls: every application, in order. An input layer has one call without inputs.
        weights: reads its weights.
    """

    path: str
    class_name: str
    config: Mapping[str, Any]
    calls: tuple[Call, ...]
    weights: WeightReader


@dataclass(frozen=True)
class ModelDescription:
    """A model.

    Attributes:
        source: file or object, for messages.
        name: the model's name.
        keras: version of the Keras that wrote it, (2, 15) or (3, 1).
        layers: in the file's order.
        inputs, outputs: (public name, tensor), in Keras' order.
        input_structure, output_structure: "single", "list" or "dict".
        size: bytes of the file, None for an object.
        metadata: what to keep in the .ecnn file.
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
