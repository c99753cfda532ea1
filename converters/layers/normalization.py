"""BatchNormalization and Rescaling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.converters.layers.registry import PREVIOUS, Layer, Step, Unsupported, layer, only
from edgecnn.graph import Tensor


@layer("BatchNormalization", "SyncBatchNormalization")
def convert_batch_normalization(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """BatchNormalization with its moving statistics, over the last axis; absent gamma is one, absent beta zero."""
    x = only(inputs)
    axis = layer.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != 1 or axes[0] not in (-1, len(x.shape) - 1):
        raise Unsupported(f"it normalises axis {axis}", "normalise the last axis, the channels")
    scale, center = bool(layer.get("scale", True)), bool(layer.get("center", True))
    names = ["gamma"] * scale + ["beta"] * center + ["moving_mean", "moving_variance"]
    values = dict(zip(names, layer.weights(names), strict=True))
    mean = values["moving_mean"]
    gamma = values.get("gamma", np.ones_like(mean))
    beta = values.get("beta", np.zeros_like(mean))
    attributes = {"epsilon": float(layer.get("epsilon", 1e-3))}
    return [Step("batch_normalization", (x, gamma, beta, mean, values["moving_variance"]), attributes)]


@layer("Rescaling")
def convert_rescaling(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Rescaling: x * scale + offset; each a number, or one for each channel."""
    x = only(inputs)
    steps: list[Step] = []
    for operator, name, neutral in (("multiply", "scale", 1.0), ("add", "offset", 0.0)):
        value = layer.get(name, neutral)
        values = np.asarray(value, np.float32).reshape(-1)
        if values.size not in (1, x.shape[-1]):
            raise Unsupported(f"its {name} {value!r} is not one number, nor one for each channel", "give one of these")
        if (values != neutral).any():
            steps.append(Step(operator, (PREVIOUS if steps else x, values)))
    return steps or [Step("identity", (x,))]
