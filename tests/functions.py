"""Every element-wise function in float64, the floats at which it is tried, and what Keras gives where there is no number.

The definitions are arithmetic of their own, written without cancellation: nothing here comes from `edgecnn`. `.ci/mutate_kernels.py`
uses them, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""What a function may be wrong by: RELATIVE of the value, and ABSOLUTE."""
SHARES = {"log": 0.3}
"""Shares of that which a function keeps to, where its constants would have room otherwise."""
LARGEST = float(np.finfo(np.float32).max)
INF, NAN = math.inf, math.nan
_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _tanh_shrink(x: Array) -> Array:
    # x - tanh(x) = (x cosh(x) - sinh(x)) / cosh(x); the numerator is the sum of 2 k x^(2 k + 1) / (2 k + 1)!
    terms = sum(2 * k * x ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(1, 9))
    return np.where(np.abs(x) < 1, terms / np.cosh(np.minimum(np.abs(x), 1)), x - np.tanh(x))


def _squareplus(x: Array, b: float) -> Array:
    root = np.sqrt(x * x + b)
    return np.where(x < 0, b / 2 / (root - x), (x + root) / 2)


def _relu(x: Array, slope: float, largest: float, threshold: float) -> Array:
    return np.where(x > threshold, np.minimum(x, largest), np.minimum(slope * (x - threshold), largest))


def _soft_shrink(x: Array, threshold: float) -> Array:
    return np.where(np.abs(x) > threshold, x - np.copysign(threshold, x), 0)


DEFINITIONS: Mapping[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": _relu,
    "clip": lambda x, low, high: np.clip(x, low, high),
    "elu": _elu,
    "celu": lambda x, alpha: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x, slope, offset: np.clip(slope * x + offset, 0, 1),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "log_sigmoid": lambda x: -_softplus(-x),
    "tanh": np.tanh,
    "tanh_shrink": _tanh_shrink,
    "softplus": _softplus,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x)),
    "squareplus": _squareplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_shrink": lambda x, threshold: np.where(np.abs(x) > threshold, x, 0),
    "soft_shrink": _soft_shrink,
    "threshold": lambda x, threshold, default: np.where(x > threshold, x, default),
    "swish": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "gelu": lambda x: x / 2 * _erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
    "exponential": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "square": np.square,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sin": np.sin,
    "cos": np.cos,
    "erf": _erf,
}

PARAMETERS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "relu": (
        (0.0, INF, 0.0), (0.25, INF, 0.0), (0.0, 6.0, 0.0), (0.0, INF, 1.5), (0.0, 6.0, -0.5), (0.125, 4.0, 0.5),
        (-0.5, INF, 0.0),
    ),
    "clip": ((-1.0, 1.0), (0.0, INF), (-0.5, 3.0)),
    "elu": ((1.0,), (0.5,)),
    "celu": ((1.0,), (2.0,), (0.25,)),
    "hard_sigmoid": ((1 / 6, 0.5), (0.2, 0.5), (0.3, 0.7), (-0.3, 0.1), (0.0, 0.25)),
    "squareplus": ((4.0,), (0.0,), (0.25,), (1e6,)),
    "hard_shrink": ((0.5,), (0.0,)),
    "soft_shrink": ((0.5,), (3.0,)),
    "threshold": ((0.0, 5.0), (1.0, 0.0), (-2.0, -3.0)),
}  # fmt: skip
"""Parameters at which a function is tried; floats but for slopes. Functions that are not here have none."""

VARIANTS = [(name, parameters) for name in DEFINITIONS for parameters in PARAMETERS.get(name, ((),))]

WITHOUT_NUMBER: Mapping[str, tuple[float, float, float]] = {
    "linear": (INF, -INF, NAN),
    "relu": (INF, 0.0, NAN),
    "clip": (1.0, -1.0, NAN),
    "elu": (INF, -1.0, NAN),
    "celu": (INF, -1.0, NAN),
    "selu": (INF, -1.7580993408473766, NAN),
    "sigmoid": (1.0, 0.0, NAN),
    "hard_sigmoid": (1.0, 0.0, NAN),
    "sparse_sigmoid": (1.0, 0.0, NAN),
    "log_sigmoid": (0.0, -INF, NAN),
    "tanh": (1.0, -1.0, NAN),
    "tanh_shrink": (INF, -INF, NAN),
    "softplus": (INF, 0.0, NAN),
    "sparse_plus": (INF, 0.0, NAN),
    "squareplus": (INF, NAN, NAN),
    "softsign": (NAN, NAN, NAN),
    "hard_shrink": (INF, -INF, 0.0),
    "soft_shrink": (INF, -INF, 0.0),
    "threshold": (INF, 0.0, 0.0),
    "swish": (INF, NAN, NAN),
    "hard_swish": (INF, NAN, NAN),
    "mish": (INF, NAN, NAN),
    "gelu": (INF, NAN, NAN),
    "gelu_tanh": (INF, NAN, NAN),
    "exponential": (INF, 0.0, NAN),
    "expm1": (INF, -1.0, NAN),
    "log": (INF, NAN, NAN),
    "log1p": (INF, NAN, NAN),
    "sqrt": (INF, NAN, NAN),
    "rsqrt": (0.0, NAN, NAN),
    "reciprocal": (0.0, 0.0, NAN),
    "square": (INF, INF, NAN),
    "abs": (INF, INF, NAN),
    "sign": (1.0, -1.0, NAN),
    "floor": (INF, -INF, NAN),
    "ceil": (INF, -INF, NAN),
    "round": (INF, -INF, NAN),
    "sin": (NAN, NAN, NAN),
    "cos": (NAN, NAN, NAN),
    "erf": (1.0, -1.0, NAN),
}
"""What Keras 3.15 on TensorFlow 2.21 gives for infinity, -infinity and NaN, at Keras' default parameters."""

WITHOUT_NUMBER_AT: Mapping[tuple[str, tuple[float, ...]], tuple[float, float, float]] = {
    ("relu", (0.25, INF, 0.0)): (INF, -INF, NAN),  # LeakyReLU
    ("relu", (0.0, 6.0, 0.0)): (6.0, 0.0, NAN),
    ("relu", (0.0, INF, 1.5)): (INF, 0.0, 0.0),  # a threshold chooses
    ("relu", (0.125, 4.0, 0.5)): (4.0, -INF, NAN),
    ("threshold", (0.0, 5.0)): (INF, 5.0, 5.0),
}
"""The same, at other parameters."""


def points() -> Array:
    """Floats of both signs and all exponents, subnormal ones included, and many where functions bend."""
    rng = np.random.default_rng(1)
    mantissas = np.concatenate([[0, 1, 0x3504F3, 0x400000, 0x7FFFFE, 0x7FFFFF], rng.integers(0, 1 << 23, 26)])
    bits = ((np.arange(255)[:, None] << 23) | mantissas).astype(np.uint32).ravel()
    every = np.concatenate([bits, bits | np.uint32(1 << 31)]).view(np.float32)
    dense = [
        np.linspace(-12, 12, 12_001),
        np.linspace(-1.6, 1.6, 4_001),
        np.linspace(-110, 110, 4_401),
        *(center + np.linspace(-1e-3, 1e-3, 41) for center in (-3, -2.5, -1, 1, 3)),
    ]
    return np.concatenate([every, *(part.astype(np.float32) for part in dense)])


def exact(name: str, parameters: tuple[float, ...], x: Array) -> Array:
    """The function's value in float64 at floats."""
    with np.errstate(all="ignore"):
        return np.asarray(DEFINITIONS[name](x.astype(np.float64), *parameters))


def excess(got: Array, wanted: Array) -> Array:
    """The error of each value as a share of what it may be: above 1 is wrong. What no float holds is infinity."""
    with np.errstate(all="ignore"):
        allowed = RELATIVE * np.abs(wanted) + ABSOLUTE
        share = np.abs(got.astype(np.float64) - wanted) / allowed
        beyond = np.abs(wanted) > LARGEST
        share = np.where(beyond | (np.abs(wanted) + allowed > LARGEST) & np.isinf(got), 0.0, share)
        share = np.where(beyond & (np.sign(got) != np.sign(wanted)), INF, share)
        share = np.where(beyond & (np.abs(got) < LARGEST * (1 - RELATIVE)), INF, share)
    share = np.where(np.isnan(wanted) & np.isnan(got), 0.0, share)
    return np.where(np.isnan(wanted) != np.isnan(got), INF, share)
