"""Activation functions, as layers and as arguments of other layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.reading import Recorded, Unsupported, refuse_unread_keys
from edgecnn.converters.layers.registry import LAYERS, Layer, axis_of, find_registered, layer, only
from edgecnn.graph import ACTIVATIONS, Tensor

_SYNONYMS = {
    "silu": "swish",
    "hard_silu": "hard_swish",
    "relu6": "relu",
    "leaky_relu": "relu",
    "hard_tanh": "clip",
}
_PARAMETERS = {
    "relu6": (0.0, 6.0, 0.0),
    # Both Kerases' function has 0.2 here; the layer LeakyReLU has a slope of its own.
    "leaky_relu": (0.2, math.inf, 0.0),
}
_OF_AN_AXIS = ("softmax", "log_softmax", "sparsemax", "glu")
_ELEMENTWISE = (
    "linear", "relu", "elu", "celu", "selu", "sigmoid", "hard_sigmoid", "sparse_sigmoid", "log_sigmoid", "tanh",
    "tanh_shrink", "softplus", "sparse_plus", "squareplus", "softsign", "hard_shrink", "soft_shrink", "threshold", "swish",
    "hard_swish", "mish", "gelu", "exponential",
)  # fmt: skip
LAYER_CLASSES = ("ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU")


@dataclass(frozen=True)
class Function:
    """An element-wise activation, a function along an axis (counted with the batch), or one that a user has registered."""

    name: str
    parameters: tuple[float, ...] = ()
    axis: int | None = None
    own: Callable[[Builder, Tensor], Tensor] | None = None

    @property
    def is_separate(self) -> bool:
        """Whether it needs steps of its own, on the tensor as Keras sees it."""
        return self.axis is not None or self.own is not None

    @property
    def attributes(self) -> dict[str, Any]:
        """As attributes of an operator; a separate one leaves the operator linear and comes after it."""
        if self.is_separate:
            return {"activation": "linear", "activation_parameters": ()}
        return {"activation": self.name, "activation_parameters": self.parameters}

    def after(self, build: Builder, x: Tensor) -> Tensor:
        """What is left to do after an operator that carries `attributes`."""
        return self.apply(build, x) if self.is_separate else x

    def apply(self, build: Builder, x: Tensor) -> Tensor:
        """The function as steps of its own."""
        if self.own is not None:
            return self.own(build, x)
        if self.axis is None:
            return x if self.name == "linear" else build("activation", x, **self.attributes)
        if self.name == "glu":
            return _gated(build, x, self.axis)
        if self.name == "sparsemax":
            return _over_last_axis(build, x, self.axis)
        return build("softmax", x, axis=self.axis, log=int(self.name == "log_softmax"))


def _gated(build: Builder, x: Tensor, axis: int) -> Tensor:
    """One half times the sigmoid of the other: Dauphin et al. 2017 (arXiv 1612.08083)."""
    size = x.shape[axis]
    if size is None or size % 2:
        raise Unsupported(f"glu of an axis of {size} values", "use it along an axis of a known, even size")
    gate = build.activation(build.slice(x, axis, size // 2), "sigmoid")
    return build("multiply", build.slice(x, axis, 0, size // 2), gate)


def _over_last_axis(build: Builder, x: Tensor, axis: int) -> Tensor:
    """Sparsemax, the axis moved to the end and back."""
    order = [a for a in range(1, len(x.shape)) if a != axis] + [axis]
    y = build("sparsemax", build.transpose(x, *order))
    return build.transpose(y, *(order.index(a) + 1 for a in range(1, len(x.shape))))


def function_of(value: Any, keras: tuple[int, int], rank: int) -> Function:
    """The function that a configuration names.

    Args:
        value: a name, None, or the configuration of a function or of an activation layer.
        keras: version that wrote it: hard_sigmoid is max(0, min(1, 0.2 x + 0.5)) in Keras 2, relu6(x + 3) / 6 in 3.
        rank: of the tensor, for softmax.
    """
    if isinstance(value, Mapping):
        class_name, config = value.get("class_name"), value.get("config")
        if class_name in LAYER_CLASSES and isinstance(config, Mapping):
            own = Recorded(config)
            function = layer_function(str(class_name), own, rank)
            refuse_unread_keys(str(class_name), own)
            return function
        if class_name in ("function", "Function", "builtin_function_or_method") and isinstance(config, str):
            value = config
        elif class_name == "Activation" and isinstance(config, Mapping):
            value = config.get("activation")
        else:
            if not value.get("registered_name") and class_name in (None, "__lambda__"):
                raise _nameless()
            full = str(value.get("registered_name") or class_name)
            return _registered(full, config if isinstance(config, Mapping) else {}, keras)
    name = "linear" if value is None else str(value)
    if name == "<lambda>":
        raise _nameless()
    if name in _OF_AN_AXIS:
        return Function(name, axis=rank - 1)
    if name == "hard_sigmoid" and 0 < keras[0] < 3:
        return Function(name, (0.2, 0.5))
    known = _SYNONYMS.get(name, name)
    if name not in _ELEMENTWISE and name not in _SYNONYMS:
        return _registered(name, {}, keras)
    return Function(known, _PARAMETERS.get(name, ACTIVATIONS[known].defaults))


def _nameless() -> Unsupported:
    return Unsupported(
        "its activation is a Python function without a name (a lambda), which is never run",
        "write it with def and a name, and say what it is made of with edgecnn.converters.register(that name, ...), or use one of "
        f"{', '.join(sorted(names()))}",
    )


def _registered(name: str, config: Mapping[str, Any], keras: tuple[int, int]) -> Function:
    """An activation that a user has registered, a function or a layer without weights."""
    convert = find_registered(name)
    if convert is None:
        raise Unsupported(
            f"the activation {name!r} is not one of Keras'",
            f"say what it is made of with edgecnn.converters.register({name.split('>')[-1]!r}, ...), or use one of "
            f"{', '.join(sorted(names()))}",
        )

    def read(names: Sequence[str]) -> list[Any]:
        raise Unsupported(f"the activation {name!r} has weights", "make it a layer of its own in the model")

    def own(build: Builder, x: Tensor) -> Tensor:
        y = convert(Layer(name, name, config, keras, read), build, [x])
        if not isinstance(y, Tensor):
            raise Unsupported(f"the function registered for {name!r} gives {type(y).__name__}", "give back one tensor")
        return y

    return Function(name, own=own)


def names() -> set[str]:
    """Every name that a configuration may give."""
    return {*_ELEMENTWISE, *_SYNONYMS, *_OF_AN_AXIS}


def layer_function(class_name: str, config: Mapping[str, Any], rank: int) -> Function:
    """The function of an activation layer."""

    def number(default: float, *keys: str) -> float:
        for key in keys:
            value = config.get(key)
            if isinstance(value, Mapping):
                value = value.get("value", value)  # a NumPy scalar, as some versions wrote it
            if value is not None:
                return float(value)
        return default

    if class_name == "ReLU":
        return Function(
            "relu", (number(0.0, "negative_slope"), number(math.inf, "max_value"), number(0.0, "threshold"))
        )
    if class_name == "LeakyReLU":
        return Function("relu", (number(0.3, "negative_slope", "alpha"), math.inf, 0.0))
    if class_name == "ELU":
        return Function("elu", (number(1.0, "alpha"),))
    if class_name == "ThresholdedReLU":
        return Function("threshold", (number(1.0, "theta"), 0.0))
    axis = config.get("axis", -1)
    if isinstance(axis, list):
        if len(axis) != 1:
            raise Unsupported(f"a softmax over the axes {axis}", "use one axis")
        axis = axis[0]
    return Function("softmax", axis=axis_of(axis, rank, "it is a softmax"))


def check_configuration(layer: Layer) -> None:
    """Refuses what can be seen without the input: for layers behind one that cannot be converted, so that the user learns
    of all of them at once."""
    if layer.class_name in LAYERS:
        function_of(layer.config.get("activation"), layer.keras, 4)


@layer("Activation")
def convert_activation(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Activation(function)."""
    x = only(inputs)
    return function_of(layer.config.get("activation"), layer.keras, len(x.shape)).apply(build, x)


@layer(*LAYER_CLASSES)
def convert_activation_layer(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """ReLU, LeakyReLU, ELU, Softmax and ThresholdedReLU."""
    x = only(inputs)
    return layer_function(layer.class_name, layer.config, len(x.shape)).apply(build, x)


@layer("PReLU")
def convert_prelu(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """PReLU: slopes for each value of an image, one for all along `shared_axes`.

    Source: He et al. 2015 (arXiv 1502.01852), section 2.1.
    """
    x = only(inputs)
    (slopes,) = layer.weights(["alpha"])
    return build("prelu", x, slopes)
