"""Which numbers Keras' tensors hold: floats, whole numbers or truth values. edgecnn computes all in float32.

A whole number of up to 24 bits is a float32, too: a layer that moves such numbers, chooses among them or casts them to floats gives
in float32 exactly what Keras gives. Arithmetic of whole numbers wraps around, truncates and rounds: it is refused. What is not in
these tables is refused when it is given whole numbers.

Source: keras.backend.result_type and each layer's `call` (Keras 3.15); TensorFlow's functions convert nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from edgecnn.converters.layers.reading import NOTHING_AT_INFERENCE, Recorded, Unsupported
from edgecnn.converters.layers.registry import Layer, inner_of
from edgecnn.graph import Tensor

FLOAT = "float32"
"""Stands for all float types."""
BOOL = "bool"
RANGES: Mapping[str, tuple[int, int]] = {
    "bool": (0, 1),
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
"""The smallest and the largest value of each dtype that is no float."""

HINT = "cast it to floats first: keras.ops.cast(x, 'float32'), or a Rescaling layer"


def standard_dtype(value: Any) -> str:
    """A dtype of a configuration: `FLOAT` for any float type and where it says none."""
    if isinstance(value, Mapping):
        config = value.get("config")
        value = config.get("name") if isinstance(config, Mapping) else None
    name = str(value or FLOAT)
    return name if name in RANGES else FLOAT


def _names(text: str, prefix: str = "") -> frozenset[str]:
    return frozenset(f"{prefix}{name}" for name in text.split())


def _of_axes(text: str) -> frozenset[str]:
    return frozenset(f"{name}{axes}D" for name in text.split() for axes in (1, 2, 3))


MOVES = (
    _names("Flatten Reshape Permute RepeatVector Concatenate RandomCrop")
    | _of_axes("ZeroPadding Cropping MaxPooling MaxPool GlobalMaxPooling GlobalMaxPool")
    | _names("UpSampling1D UpSampling3D Maximum Minimum")
    | _names(
        "Reshape Transpose Moveaxis Swapaxes GetItem Split Unstack Flip Tile Repeat BroadcastTo Take Roll ExpandDims Squeeze "
        "StopGradient Copy ConvertToTensor Max Amax Min Amin Concatenate Stack MaxPool ZerosLike OnesLike",
        "ops.",
    )
    | _names(
        "reshape transpose compat.v1.transpose __operators__.getitem split unstack reverse tile repeat broadcast_to roll "
        "compat.v1.gather expand_dims squeeze compat.v1.squeeze stop_gradient identity convert_to_tensor math.reduce_max "
        "math.reduce_min concat stack nn.max_pool2d compat.v1.nn.max_pool slice image.flip_left_right image.flip_up_down "
        "keras.backend.batch_flatten zeros_like ones_like",
        "tf.",
    )
)
"""What moves values or chooses among them: its output has its inputs' dtype."""
CASTS = (
    _names("Rescaling Normalization BatchNormalization SyncBatchNormalization CenterCrop Dense LeakyReLU")
    | _of_axes("GlobalAveragePooling GlobalAvgPool")
    | _names("Mean Average Var Std Moments", "ops.")
    | _names(
        "Exp Expm1 Log Log1p Log2 Log10 Sqrt Rsqrt Sin Cos Tan Tanh Sinh Cosh Sigmoid Softplus",
        "ops.",
    )
)
"""What casts its inputs to floats before it computes, in Keras 3."""
CASTS_IN_KERAS_2 = _names("Rescaling Normalization CenterCrop Dense")
"""The same in Keras 2, whose functions are TensorFlow's: a mean of whole numbers is one."""
COMPARES = _names("Equal NotEqual Less Greater LessEqual GreaterEqual", "ops.") | _names(
    "math.equal math.not_equal math.less math.greater math.less_equal math.greater_equal", "tf."
)
"""Gives truth values, of two operands."""
TRUTHS = _names("LogicalAnd LogicalOr LogicalXor LogicalNot Isnan", "ops.") | _names(
    "math.logical_and math.logical_or math.logical_xor math.logical_not math.is_nan", "tf."
)
"""Gives truth values, of operands of any dtype."""
QUOTIENTS = _names("ops.Divide ops.TrueDivide tf.math.truediv")
"""Gives floats, even of two whole numbers."""
ARITHMETIC = _names("Add Subtract Multiply Power Mod FloorDivide Logaddexp DivideNoNan Matmul", "ops.") | _names(
    "Add Subtract Multiply Average"
)
"""Computes in floats if one of its operands is a float, which whole numbers are then cast to."""
CHOOSES = _names("ops.Maximum ops.Minimum ops.Fmax ops.Fmin tf.math.maximum tf.math.minimum tf.maximum tf.minimum")
"""One of two operands."""


def moves(layer: Layer) -> bool:
    """Whether a layer only moves values: it may then have a policy of whole numbers, too."""
    return layer.class_name in MOVES or layer.class_name in NOTHING_AT_INFERENCE


def dtype_after(layer: Layer, tensors: Iterable[Tensor], dtype_of: Callable[[Tensor], str]) -> str:
    """The dtype of a layer's outputs.

    Args:
        tensors: its inputs.
        dtype_of: the dtype of a tensor of the graph.

    Raises:
        Unsupported: it computes with whole numbers, which float32 does not do as Keras does.
    """
    name = layer.class_name
    if name == "TimeDistributed" and layer.inner is not None:
        return dtype_after(inner_of(layer), tensors, dtype_of)
    if name in ("ops.Cast", "tf.cast"):
        return _cast(layer, dtype_of)
    if name in TRUTHS:
        return BOOL
    found = [dtype_of(x) for x in tensors]
    whole = sorted({dtype for dtype in found if dtype != FLOAT})
    if name in COMPARES:
        _operands_fit(layer, whole, dtype_of)
        return BOOL
    if not whole:
        return FLOAT
    if moves(layer):
        return _one(whole, found)
    if name in (CASTS if layer.keras[0] >= 3 else CASTS_IN_KERAS_2) or name in QUOTIENTS:
        return FLOAT
    if name in CHOOSES:
        return _operands_fit(layer, whole, dtype_of)
    if name in ("ops.Where", "tf.where"):
        return _operands_fit(layer, whole, dtype_of, first=1)
    if name in ARITHMETIC and (FLOAT in found or _has_float_constant(layer)):
        return FLOAT
    if name == "UpSampling2D" and layer.get("interpolation", "nearest") == "nearest":
        return _one(whole, found)
    if name in ("Resizing", "ops.Resize", "tf.image.resize") and _interpolation(layer) == "nearest":
        return _one(whole, found)
    if name in ("ops.Pad", "tf.pad", "tf.compat.v1.pad"):
        value = _argument(layer, 2, "constant_values")
        if value is None or _fits(value, whole):
            return _one(whole, found)
    if isinstance(layer.config, Recorded):
        raise Unsupported(
            f"it computes with whole numbers ({', '.join(whole)}), which float32 does not do as Keras does", HINT
        )
    return FLOAT  # a class that the user has registered, whose function says what it computes


def _one(whole: list[str], found: list[str]) -> str:
    """The dtype of values from several tensors: Keras' widest."""
    if FLOAT in found:
        return FLOAT
    if len(whole) > 1:
        raise Unsupported(f"it joins tensors of {' and '.join(whole)}", "cast them to one dtype")
    return whole[0]


def _argument(layer: Layer, place: int, *names: str) -> Any:
    """An argument, looked at without its counting as read."""
    arguments = getattr(layer.arguments, "values", layer.arguments)
    if place < len(arguments):
        return arguments[place]
    for source in (layer.keywords, layer.config):
        plain = source.values_by_key if isinstance(source, Recorded) else source
        for name in names:
            if plain.get(name) is not None:
                return plain[name]
    return None


def _interpolation(layer: Layer) -> str:
    return str(_argument(layer, 99, "interpolation", "method") or "bilinear").lower()


def _operands(layer: Layer, first: int) -> tuple[Any, Any]:
    x = _argument(layer, first, "x1", "x", "value")
    return x, _argument(layer, first + 1, "x2", "y", "bias")


def _is_float(value: Any) -> bool:
    return not isinstance(value, Tensor) and np.asarray(value).dtype.kind == "f"


def _has_float_constant(layer: Layer) -> bool:
    return any(value is not None and _is_float(value) for value in _operands(layer, 0))


def _fits(value: Any, whole: Iterable[str]) -> bool:
    """Whether a constant is a value of all these dtypes."""
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        return False
    return all(RANGES[d][0] <= array.min() and array.max() <= RANGES[d][1] for d in whole)


def _operands_fit(layer: Layer, whole: list[str], dtype_of: Callable[[Tensor], str], first: int = 0) -> str:
    """The dtype to which Keras takes two operands; floats take whole numbers with them, constants follow tensors."""
    operands = [x for x in _operands(layer, first) if x is not None]
    dtypes = {dtype_of(x) for x in operands if isinstance(x, Tensor)}
    constants = [x for x in operands if not isinstance(x, Tensor)]
    if FLOAT in dtypes or any(_is_float(x) for x in constants):
        return FLOAT
    if not dtypes:
        return FLOAT if not constants else "int32"
    if len(dtypes) > 1:
        raise Unsupported(f"its operands are of {' and '.join(sorted(dtypes))}", "cast them to one dtype")
    if not all(_fits(x, dtypes) for x in constants):
        raise Unsupported(f"a constant is no value of {min(dtypes)}", "give one that is, or cast the tensor first")
    return min(dtypes)


def _cast(layer: Layer, dtype_of: Callable[[Tensor], str]) -> str:
    x = _argument(layer, 0, "x", "inputs")
    wanted = str(_argument(layer, 1, "dtype"))
    if "float" in wanted:
        return FLOAT
    given = dtype_of(x) if isinstance(x, Tensor) else "int64"
    if wanted == BOOL:
        return BOOL
    if wanted not in RANGES:
        raise Unsupported(f"it casts to {wanted}", "keep to float types")
    if given != FLOAT and RANGES[wanted][0] <= RANGES[given][0] and RANGES[given][1] <= RANGES[wanted][1]:
        return wanted
    raise Unsupported(
        f"it casts {given} to {wanted}, which cuts off fractions and wraps around",
        "keep to float types, or round: keras.ops.round",
    )
