"""One function a Keras layer, found by class name in one registry. Importing this package fills the registry."""

from edgecnn.converters.layers import activation, convolution, core, dense, merging, normalization, pooling, reshaping
from edgecnn.converters.layers.registry import LAYERS, PREVIOUS, Layer, Step, Unsupported, layer

__all__ = [
    "LAYERS",
    "PREVIOUS",
    "Layer",
    "Step",
    "Unsupported",
    "activation",
    "convolution",
    "core",
    "dense",
    "layer",
    "merging",
    "normalization",
    "pooling",
    "reshaping",
]
