"""Dense."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.layers.activation import finished, function_of
from edgecnn.converters.layers.registry import Layer, Step, layer, only
from edgecnn.graph import Tensor


@layer("Dense")
def convert_dense(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Dense, over the last axis of a tensor of any rank: weights [C, units]."""
    x = only(inputs)
    function = function_of(layer.config.get("activation"), layer.keras, len(x.shape))
    use_bias = bool(layer.get("use_bias", True))
    weights = layer.weights(("kernel", "bias") if use_bias else ("kernel",))
    return finished("dense", (x, weights[0], weights[1] if use_bias else None, None), {}, function)
