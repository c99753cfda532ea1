"""Activation functions, as layers and as arguments of other layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.converters.layers.registry import PREVIOUS, Array, Layer, Step, Unsupported, channels_last, layer, only
from edgecnn.graph import ACTIVATIONS, Tensor

_SYNONYMS = {
    "silu": "swish",
    "hard_silu": "hard_swish",
    "relu6": "relu",
    "leaky_relu": "relu",
}
_PARAMETERS = {
    "relu6": (0.0, 6.0, 0.0),
    # Both Kerases' function has 0.2 here; the layer LeakyReLU has a slope of its own.
    "leaky_relu": (0.2, math.inf, 0.0),
}
LAYER_CLASSES = ("ReLU", "LeakyReLU", "ELU", "Softmax")


@dataclass(frozen=True)
class Function:
    """An element-wise activation, or a softmax (axis counted with the batch)."""

    name: str
    parameters: tuple[float, ...] = ()
    softmax_axis: int | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """As attributes of an operator; a softmax leaves the operator linear and needs a step of its own."""
        if self.softmax_axis is not None:
            return {"activation": "linear", "activation_parameters": ()}
        return {"activation": self.name, "activation_parameters": self.parameters}


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
            return layer_function(str(class_name), config, rank)
        if class_name in ("function", "Function", "builtin_function_or_method") and isinstance(config, str):
            value = config
        elif class_name == "Activation" and isinstance(config, Mapping):
            value = config.get("activation")
        else:
            raise Unsupported(
                f"the activation {class_name!r} is not one of Keras'", "use a function of keras.activations"
            )
    name = "linear" if value is None else str(value)
    if name == "softmax":
        return Function("softmax", softmax_axis=rank - 1)
    if name == "hard_sigmoid" and keras[0] < 3:
        return Function(name, (0.2, 0.5))
    known = _SYNONYMS.get(name, name)
    if known not in ACTIVATIONS or known == "gelu_tanh":
        raise Unsupported(f"the activation {name!r} is not supported", f"use one of {', '.join(sorted(names()))}")
    return Function(known, _PARAMETERS.get(name, ACTIVATIONS[known].defaults))


def names() -> set[str]:
    """Every name that a configuration may give."""
    return ({*ACTIVATIONS} - {"gelu_tanh"}) | _SYNONYMS.keys() | {"softmax"}


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
    axis = config.get("axis", -1)
    if isinstance(axis, list):
        if len(axis) != 1:
            raise Unsupported(f"a softmax over the axes {axis}", "use one axis")
        axis = axis[0]
    axis = axis + rank if axis < 0 else axis
    if not 1 <= axis < rank:
        raise Unsupported(f"a softmax over axis {axis} of a tensor of rank {rank}", "use an axis after the batch")
    return Function("softmax", softmax_axis=axis)


def activation_steps(function: Function, x: Tensor | str) -> list[Step]:
    """The function as a step of its own."""
    if function.softmax_axis is not None:
        return [Step("softmax", (x,), {"axis": function.softmax_axis})]
    if function.name == "linear":
        return [Step("identity", (x,))]
    return [Step("activation", (x,), function.attributes)]


def finished(
    operator: str, inputs: tuple[Tensor | str | Array | None, ...], attributes: Mapping[str, Any], function: Function
) -> list[Step]:
    """An operator that ends in a function: within it, or in a step after it where it is a softmax."""
    steps = [Step(operator, inputs, {**attributes, **function.attributes})]
    if function.softmax_axis is not None:
        steps += activation_steps(function, PREVIOUS)
    return steps


def check_configuration(layer: Layer) -> None:
    """Refuses what can be seen without the input: for layers behind one that cannot be converted, so that the user learns
    of all of them at once."""
    channels_last(layer)
    function_of(layer.config.get("activation"), layer.keras, 4)


@layer("Activation")
def convert_activation(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Activation(function)."""
    x = only(inputs)
    return activation_steps(function_of(layer.config.get("activation"), layer.keras, len(x.shape)), x)


@layer(*LAYER_CLASSES)
def convert_activation_layer(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """ReLU, LeakyReLU, ELU and Softmax."""
    x = only(inputs)
    return activation_steps(layer_function(layer.class_name, layer.config, len(x.shape)), x)
