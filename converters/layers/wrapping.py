"""Layers around another layer: TimeDistributed, SpectralNormalization."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.frames import Frames
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.refused import reason_to_refuse
from edgecnn.converters.layers.registry import Layer, LayerFunction, Output, apply, find, inner_of, layer, only
from edgecnn.graph import Tensor


def _function(inner: Layer) -> LayerFunction:
    """The wrapped layer's."""
    function = find(inner.class_name)
    if function is None:
        reason, hint = reason_to_refuse(inner.class_name, inner.config)
        raise Unsupported(f"it wraps a {inner.class_name}, which {reason}", hint)
    return function


@layer("SpectralNormalization")
def convert_spectral_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """SpectralNormalization: at inference the wrapped layer, whose stored kernel is normalised already."""
    inner = inner_of(layer)
    output: Output = apply(inner, _function(inner), build, inputs)
    return output


@layer("TimeDistributed")
def convert_time_distributed(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """TimeDistributed: the wrapped layer on each frame alone. A wrapped model is assembled so, layer by layer."""
    inner, frames = inner_of(layer), Frames(build)
    output = apply(inner, _function(inner), frames, [frames.frame(only(inputs))])
    if isinstance(output, Tensor):
        return frames.whole(output)
    return [frames.whole(y) for y in output]
