"""Layers that do nothing at inference."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.layers.registry import Layer, Step, layer, only
from edgecnn.graph import Tensor


@layer(
    "Dropout",
    "SpatialDropout2D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
)
def convert_identity(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Dropout, noise and regularisation: at inference the input itself."""
    return [Step("identity", (only(inputs),))]
