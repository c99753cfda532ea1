"""Sums, products and other functions of several tensors, and concatenation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.converters.builder import Builder, known
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, axis_of, layer
from edgecnn.graph import Tensor

_OPERATORS = {"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Average": "add"}
_OPERATORS |= {"Maximum": "maximum", "Minimum": "minimum"}


def same_rank(build: Builder, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one rank: those of a lower one get axes of size 1 after the batch, as Keras' merging layers do it."""
    rank = max(len(x.shape) for x in inputs)
    result = []
    for x in inputs:
        if len(x.shape) < rank:
            if not known(x.shape):
                raise Unsupported(f"its inputs have the shapes {[x.shape for x in inputs]}", "give them the same rank")
            x = build.reshape(x, *(1,) * (rank - len(x.shape)), *(size or 1 for size in x.shape[1:]))
        result.append(x)
    return result


@layer(*_OPERATORS)
def convert_merge(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Add, Subtract, Multiply, Average, Maximum and Minimum of tensors that may be broadcast: a chain."""
    if len(inputs) < 2:
        raise Unsupported(f"it is applied to {len(inputs)} tensors", "apply it to two or more")
    y, *others = same_rank(build, inputs)
    for x in others:
        y = build(_OPERATORS[layer.class_name], y, x)
    return build("multiply", y, np.full(1, 1 / len(inputs))) if layer.class_name == "Average" else y


@layer("CustomScaleLayer")
def convert_custom_scale(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """CustomScaleLayer of keras.applications' InceptionResNetV2: x + scale * y."""
    x, y = inputs
    return build("add", x, build("multiply", y, np.full(1, float(layer.config["scale"]))))


@layer("Concatenate")
def convert_concatenate(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Concatenate along any axis but the batch."""
    if not inputs:
        raise Unsupported("it is applied to no tensor", "apply it to one or more")
    return build("concatenate", *inputs, axis=axis_of(layer.get("axis", -1), len(inputs[0].shape), "it joins tensors"))
