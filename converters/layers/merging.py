"""Add, Multiply, Concatenate."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.layers.registry import PREVIOUS, Layer, Step, Unsupported, layer
from edgecnn.graph import Tensor


@layer("Add", "Multiply")
def convert_binary(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Add and Multiply, of two tensors or more: a chain."""
    if len(inputs) < 2:
        raise Unsupported(f"it is applied to {len(inputs)} tensors", "apply it to two or more")
    if len({len(x.shape) for x in inputs}) != 1:
        raise Unsupported(f"its inputs have the shapes {[x.shape for x in inputs]}", "give them the same rank")
    operator = "add" if layer.class_name == "Add" else "multiply"
    steps = [Step(operator, (inputs[0], inputs[1]))]
    steps += [Step(operator, (PREVIOUS, x)) for x in inputs[2:]]
    return steps


@layer("Concatenate")
def convert_concatenate(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Concatenate along any axis but the batch."""
    if not inputs:
        raise Unsupported("it is applied to no tensor", "apply it to one or more")
    rank = len(inputs[0].shape)
    axis = layer.get("axis", -1)
    axis = axis + rank if axis < 0 else axis
    if not 1 <= axis < rank:
        raise Unsupported(f"it joins tensors of rank {rank} along axis {axis}", "join along an axis after the batch")
    return [Step("concatenate", tuple(inputs), {"axis": axis})]
