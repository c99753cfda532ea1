"""One function a layer, found by class name in one registry. Importing this package fills the registry."""

from edgecnn.converters.layers import (
    activation,
    choosing,
    convolution,
    core,
    dense,
    merging,
    normalization,
    onnx_operators,
    operations,
    pooling,
    reshaping,
    resizing,
    sizes,
    tensorflow_functions,
    tflite_operators,
    wrapping,
)
from edgecnn.converters.layers.activation import check_configuration
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.refused import ONNX_REFUSED, REFUSED, reason_to_refuse
from edgecnn.converters.layers.registry import LAYERS, REGISTERED, Fault, Layer, Turned, apply, find, layer, register

sizes.fold_sizes()

__all__ = [
    "LAYERS",
    "ONNX_REFUSED",
    "REFUSED",
    "REGISTERED",
    "Fault",
    "Layer",
    "Turned",
    "Unsupported",
    "activation",
    "apply",
    "check_configuration",
    "choosing",
    "convolution",
    "core",
    "dense",
    "find",
    "layer",
    "merging",
    "normalization",
    "onnx_operators",
    "operations",
    "pooling",
    "reason_to_refuse",
    "register",
    "reshaping",
    "resizing",
    "sizes",
    "tensorflow_functions",
    "tflite_operators",
    "wrapping",
]
