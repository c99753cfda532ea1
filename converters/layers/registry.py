"""The registry of layer functions, and what these take and give.

A layer function gets a `Layer` and the tensors that it is applied to, and returns `Step`s: operators in order, the last of
which gives the layer's output. It changes nothing and knows nothing of the graph. To add a layer, write one such function
under `@layer("ClassName")` in the module of its family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecnn.converters.sources.description import WeightReader
from edgecnn.graph import OPERATORS, Tensor

Array = np.ndarray[Any, Any]

PREVIOUS = "<previous>"
"""As an input of a step: the output of the step before."""


class Unsupported(Exception):
    """Raised by a layer function for a configuration that cannot be converted: collected with all others, never seen by
    users as such.

    Args:
        reason: what cannot be done.
        hint: what the user can do.
    """

    def __init__(self, reason: str, hint: str) -> None:
        self.reason, self.hint = reason, hint
        super().__init__(reason)


@dataclass(frozen=True)
class Step:
    """One operator that a layer becomes.

    Attributes:
        operator: a key of `OPERATORS`.
        inputs: for each role a tensor, `PREVIOUS`, an array (which becomes a constant) or None where it is absent.
        attributes: of the operator; activation attributes may be left out and mean "linear".
    """

    operator: str
    inputs: tuple[Tensor | str | Array | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def filled_attributes(self) -> dict[str, Any]:
        """The attributes with a linear activation where the operator takes one and none is given."""
        if not OPERATORS[self.operator].activated or "activation" in self.attributes:
            return dict(self.attributes)
        return {**self.attributes, "activation": "linear", "activation_parameters": ()}


@dataclass(frozen=True)
class Layer:
    """One layer of the source model, as its function sees it.

    Attributes:
        path: its name in the model.
        class_name, config: as the file gives them.
        keras: version of Keras that wrote the file.
        weights: reads its weights by Keras' names, in Keras' order, as float32.
    """

    path: str
    class_name: str
    config: Mapping[str, Any]
    keras: tuple[int, int]
    weights: WeightReader

    def get(self, name: str, default: Any = None) -> Any:
        """A configuration value; `default` where the file, being older than it, has none (or None)."""
        value = self.config.get(name)
        return default if value is None else value


LayerFunction = Callable[[Layer, Sequence[Tensor]], Sequence[Step]]

LAYERS: dict[str, LayerFunction] = {}
"""Every supported class by name."""


def layer(*class_names: str) -> Callable[[LayerFunction], LayerFunction]:
    """Registers a function for Keras classes."""

    def register(function: LayerFunction) -> LayerFunction:
        for name in class_names:
            if name in LAYERS:
                raise ValueError(f"two functions for the class {name!r}")
            LAYERS[name] = function
        return function

    return register


def pair(value: Any) -> tuple[int, int]:
    """2, [2] or [2, 3] as (2, 2) or (2, 3)."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) == 1:
        items *= 2
    if len(items) != 2 or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise Unsupported(f"{value!r} is given where one or two whole numbers belong", "check the layer's arguments")
    return items[0], items[1]


def only(inputs: Sequence[Tensor], rank: int | None = None) -> Tensor:
    """The only input, of a rank if given (the batch counted)."""
    if len(inputs) != 1:
        raise Unsupported(f"it is applied to {len(inputs)} tensors", "apply it to one")
    if rank is not None and len(inputs[0].shape) != rank:
        raise Unsupported(f"its input has shape {inputs[0].shape}", f"give it an input of rank {rank}")
    return inputs[0]


def channels_last(layer: Layer) -> None:
    """Refuses data_format channels_first."""
    if layer.get("data_format", "channels_last") == "channels_first":
        raise Unsupported(
            "data_format is channels_first",
            "build the model with channels_last (Keras' default); the weights are the same",
        )
