"""The registry of layer functions, and what these take and give.

A layer function gets a `Layer`, a `Builder` and the tensors that it is applied to; it builds operators and gives back the
layer's output (or outputs). It changes nothing and knows nothing of the graph. To add a layer, write one such function under
`@layer("ClassName")` in the module of its family. Users add their own classes with `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.reading import (
    Recorded,
    RecordedWeights,
    Unsupported,
    refuse_policy,
    refuse_unread,
)
from edgecnn.converters.sources.description import LayerDescription, WeightReader
from edgecnn.errors import Error, GraphError, InputError
from edgecnn.graph import Tensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Turned:
    """A tensor whose batch the source has at another axis than the first; here it stays in front.

    Attributes:
        tensor: the values, the batch first, the other axes in the source's order.
        axis: where the source has the batch.
    """

    tensor: Tensor
    axis: int

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in the source's order; the batch is None."""
        rest = list(self.tensor.shape[1:])
        return (*rest[: self.axis], None, *rest[self.axis :])


@dataclass(frozen=True)
class Layer:
    """One call of a layer of the source model, as its function sees it.

    Attributes:
        path: its name in the model, with those of the models around it.
        class_name, config: as the file gives them. What a function does not ask of the configuration, of the call and of
            the weights is refused after it (see reading.py), but for classes that users register.
        keras: version of Keras that wrote the file; (0, 0) for other sources.
        weights: reads its weights by Keras' names, in Keras' order, as float32.
        arguments, keywords: of the call, tensors in their places; what a call of a `keras.ops` function says.
        inner: the layer that it wraps, of a wrapper.
    """

    path: str
    class_name: str
    config: Mapping[str, Any]
    keras: tuple[int, int]
    weights: WeightReader
    arguments: Sequence[Any] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    inner: LayerDescription | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """A configuration value; `default` where the file, being older than it, has none (or None)."""
        value = self.config.get(name)
        return default if value is None else value

    def changed(self, class_name: str = "", weights: WeightReader | None = None, **config: Any) -> Layer:
        """The same layer for another function, with other values in its configuration. What that one reads counts here."""
        own = self.config
        changed = own.changed(**config) if isinstance(own, Recorded) else {**own, **config}
        return replace(self, class_name=class_name or self.class_name, config=changed, weights=weights or self.weights)

    def expect(self, **sizes: Any) -> None:
        """Compares what the configuration says of the weights' shapes with what they have.

        Raises:
            GraphError: a value is another one.
        """
        for name, size in sizes.items():
            value = self.config.get(name)
            own = value if not isinstance(value, list | tuple) else tuple(value)
            if own is not None and own != size and own != (size,) and (own,) * np.size(size) != size:
                raise GraphError(f"its {name} is {value!r}, and its weights have {size!r}")


Output = Tensor | Sequence[Tensor]
LayerFunction = Callable[[Layer, Builder, Sequence[Tensor]], Output]

LAYERS: dict[str, LayerFunction] = {}
"""Every supported class by name; `keras.ops` functions as "ops.Add"."""

REGISTERED: dict[str, LayerFunction] = {}
"""Classes that users have added."""


class Fault(Exception):
    """Raised where a function of a user's own fails: its fault is neither the file's nor the converter's."""


def layer(*class_names: str) -> Callable[[LayerFunction], LayerFunction]:
    """Registers a function for classes."""

    def enter(function: LayerFunction) -> LayerFunction:
        for name in class_names:
            if name in LAYERS:
                raise ValueError(f"two functions for the class {name!r}")
            LAYERS[name] = function
        return function

    return enter


def register(class_name: str, function: LayerFunction | None = None) -> Any:
    """Teach the converter a layer that you wrote, by a function that says how it is made of known operators.

    The function gets (layer, build, inputs): `layer.config` is what your class's get_config gave, `layer.weights(["a", "b"])`
    reads the weights that it made in this order, `build("add", x, y)` adds an operator of the table (edgecnn.graph.OPERATORS)
    and gives its output, which the function returns. The class itself is never run.

        @edgecnn.converters.register("MyScale")
        def my_scale(layer, build, inputs):
            (factor,) = layer.weights(["factor"])
            return build("multiply", inputs[0], factor)

    An activation function of your own is registered by its name; its function gets a layer without weights, and one tensor. A
    `Lambda` is registered as "Lambda"; `layer.path` tells which one it is. Keys of your class's configuration that the function
    does not read are no error, as only it knows what they mean; arguments of a call (`layer.keywords`) that it does not read are.

    Args:
        class_name: the class's name; with its package in front ("mine>MyScale") where two packages use one name.
        function: the function; without it, a decorator is given back.

    Raises:
        InputError: the name is that of a layer of Keras, or the function is none.
    """
    if not isinstance(class_name, str) or not class_name:
        raise InputError(f"register: wanted the name of a class, given {class_name!r}")
    if class_name in LAYERS:
        raise InputError(f"register: {class_name!r} is a layer that the converter knows; give your class another name")
    if function is None:
        return lambda given: register(class_name, given)
    if not callable(function):
        raise InputError(f"register: {class_name!r}: wanted a function of (layer, build, inputs), given {function!r}")
    REGISTERED[class_name] = function
    return function


def inner_of(layer: Layer) -> Layer:
    """The layer that a wrapper wraps, with the call's keywords."""
    if layer.inner is None:
        raise ValueError("it wraps no layer")
    inner = layer.inner
    own: Mapping[str, Any] = inner.config
    weights: WeightReader = inner.weights
    if inner.class_name in LAYERS:
        own, weights = Recorded(own), RecordedWeights(weights)
    return Layer(layer.path, inner.class_name, own, layer.keras, weights, (), layer.keywords)


def apply(
    layer: Layer, function: LayerFunction, build: Builder, inputs: Sequence[Tensor], integers: Sequence[str] = ()
) -> Any:
    """What a layer's function makes of its inputs.

    Args:
        integers: dtypes of its inputs that are no floats; the layer's own may be such a one.

    Raises:
        Unsupported: by the function, or because it left something unread.
    """
    if isinstance(layer.config, Recorded) and not layer.class_name.startswith(("ops.", "tf.")):
        refuse_policy(layer.config, integers)
    result = function(layer, build, inputs)
    refuse_unread(layer)
    return result


def find(class_name: str) -> LayerFunction | None:
    """The function for a class, a user's own by its full or its plain name."""
    if class_name in LAYERS:
        return LAYERS[class_name]
    return find_registered(class_name)


def find_registered(class_name: str) -> LayerFunction | None:
    """A user's own function for a class, by its full or its plain name. What goes wrong in it is told as its fault."""
    name = class_name if class_name in REGISTERED else class_name.split(">")[-1]
    return partial(_own, name, REGISTERED[name]) if name in REGISTERED else None


def _own(name: str, function: LayerFunction, layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """What a user's function gives.

    Raises:
        Fault: it raised an error.
        Unsupported: it gave something else than tensors.
    """
    try:
        result = function(layer, build, inputs)
    except GraphError as error:  # of an operator, as the function builds it
        raise Fault(f"the function registered for {name!r} raised GraphError: {error}") from error
    except (Unsupported, Error, MemoryError):
        raise
    except Exception as error:
        raise Fault(f"the function registered for {name!r} raised {type(error).__name__}: {error}") from error
    items = result if isinstance(result, list | tuple) else [result]
    kinds = (Tensor, Turned, np.ndarray) if layer.keras == (0, 0) else (Tensor,)
    wrong = [item for item in items if not isinstance(item, kinds)]
    if wrong or not items:
        given = repr(result) if not items or wrong[0] is None else type(wrong[0]).__name__
        raise Unsupported(
            f"the function registered for {name!r} gives {given}",
            "give back a tensor, as build(...) gives it, or a list of them",
        )
    return result


def sizes_of(value: Any, axes: int) -> tuple[int, ...]:
    """2, [2] or [2, 3] as (2, 2) or (2, 3): one whole number for each spatial axis."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) == 1:
        items *= axes
    if len(items) != axes or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        numbers = "a whole number" if axes == 1 else f"one or {axes} whole numbers"
        raise Unsupported(f"{value!r} is given where {numbers} belong", "check the layer's arguments")
    return tuple(items)


def pairs_of(value: Any, axes: int) -> tuple[tuple[int, int], ...]:
    """2, [2, 3] or [[1, 2], [3, 4]] as (before, after) for each spatial axis; of one axis [1, 2] is such a pair."""
    if axes == 1:
        before, after = sizes_of(value, 2)
        pairs: tuple[tuple[int, int], ...] = ((before, after),)
    elif isinstance(value, list | tuple) and any(isinstance(item, list | tuple) for item in value):
        if len(value) != axes:
            raise Unsupported(f"{value!r} is given where {axes} pairs belong", "check the layer's arguments")
        pairs = tuple((sizes_of(item, 2)[0], sizes_of(item, 2)[1]) for item in value)
    else:
        pairs = tuple((size, size) for size in sizes_of(value, axes))
    if any(size < 0 for pair in pairs for size in pair):
        raise Unsupported(f"{value!r} holds a negative number", "give no negative numbers")
    return pairs


def only(inputs: Sequence[Tensor], rank: int | None = None) -> Tensor:
    """The only input, of a rank if given (the batch counted)."""
    if len(inputs) != 1:
        raise Unsupported(f"it is applied to {len(inputs)} tensors", "apply it to one")
    if rank is not None and len(inputs[0].shape) != rank:
        raise Unsupported(f"its input has shape {inputs[0].shape}", f"give it an input of rank {rank}")
    return inputs[0]


def axis_of(value: Any, rank: int, what: str = "it works") -> int:
    """An axis counted from the front (batch 0) from one that may be counted from the end; not the batch."""
    if isinstance(value, bool) or not isinstance(value, int) or not -rank <= value < rank:
        raise Unsupported(f"{what} along axis {value!r} of a tensor of rank {rank}", "give an axis that is there")
    if value % rank == 0:
        raise Unsupported(f"{what} along the batch", "use an axis after the batch; each image is computed alone")
    return value % rank


def is_channels_first(layer: Layer) -> bool:
    """Whether its data_format is channels_first."""
    return bool(layer.get("data_format", "channels_last") == "channels_first")


def to_channels_last(layer: Layer, build: Builder, x: Tensor) -> Tensor:
    """The input with its channels last. What is added for a channels_first layer, passes/sink_transposes.py takes away
    between two such layers."""
    return build.transpose(x, *range(2, len(x.shape)), 1) if is_channels_first(layer) else x


def from_channels_last(layer: Layer, build: Builder, x: Tensor) -> Tensor:
    """An output of a layer with its channels where its data_format wants them."""
    rank = len(x.shape)
    return build.transpose(x, rank - 1, *range(1, rank - 1)) if is_channels_first(layer) else x
