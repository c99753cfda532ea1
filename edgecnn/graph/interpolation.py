"""What `resize` takes from where: for each output place of one axis the input places and their weights.

Resizing is separable: an output value is the sum over rows and columns of weight x weight x input. The kernel, the
reference and the accelerators share this table; it is held against Keras, LiteRT and ONNX Runtime.

Which pixel is nearest to a place, and which two lie around it, hangs on the last bit of that place: TensorFlow and ONNX Runtime
compute places in float32, each in its own order, and so does this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CUBIC_STEPS = 1024
"""TensorFlow reads cubic weights from a table with this many entries between two pixels (resize_bicubic_op.cc)."""

TIE = 1e-6
"""How near to the middle between two pixels a place counts as the middle, for ONNX Runtime 1.32, whose float32 places are
not exact: of 7 pixels made 8, place 4 is 3.4999998 there, and 3.5 by the sizes."""

ENTRY_BYTES = 64
"""A place and a weight of a table, with what they are computed from."""

KERNELS = {
    "linear": 1.0,
    "cubic": 2.0,
    "cubic_table": 2.0,
    "lanczos3": 3.0,
    "lanczos5": 5.0,
    "gaussian": 1.5,
    "mitchell": 2.0,
}
"""How far each method's kernel reaches, in input pixels where nothing is stretched."""


def _past_half(places: Array) -> Array:
    """How far behind the middle between two pixels places lie."""
    return places - np.floor(places) - 0.5


NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.floor(x) + (_past_half(x) > TIE),
    "round_prefer_ceil": lambda x: np.floor(x) + (_past_half(x) > -TIE),
}
"""The pixel that counts as the nearest to a place, for each rounding."""


def axis_table(attributes: Mapping[str, Any], axis: int, length: int, size: int) -> tuple[Array, Array]:
    """Places and weights for a `resize` node's attributes along the height (0) or the width (1); see below."""
    scale = _scale(attributes, axis, length, size)
    names = ("method", "coordinates", "rounding", "cubic_coefficient", "exclude_outside", "antialias")
    return interpolation_table(length, size, scale, **{name: attributes[name] for name in names})


def table_entries(attributes: Mapping[str, Any], axis: int, length: int, size: int) -> int:
    """How many entries `axis_table` gives, at most; it takes `ENTRY_BYTES` of memory for each while it works."""
    method = attributes["method"]
    if method == "area":
        return size * min(length, -(-length // size) + 1)
    if method == "nearest":
        return size
    if method not in KERNELS:
        return size * (4 if method.startswith("cubic") else 2)
    if not attributes["antialias"]:
        return size * (4 if method.startswith("cubic") else 2 if method == "linear" else _taps(method, 1.0))
    taps = _taps(method, max(1.0, 1.0 / _scale(attributes, axis, length, size)))
    return size * (min(length, taps) if attributes["exclude_outside"] else taps)


def _scale(attributes: Mapping[str, Any], axis: int, length: int, size: int) -> float:
    """Output pixels for one input pixel."""
    return size / length if attributes["sizes"][axis] else float(attributes["scales"][axis])


def _taps(method: str, stretch: float) -> int:
    """Places that a stretched kernel reaches."""
    return 2 * math.ceil(KERNELS[method] * stretch) + 1


def interpolation_table(
    length: int,
    size: int,
    scale: float,
    *,
    method: str,
    coordinates: str,
    rounding: str,
    cubic_coefficient: float,
    exclude_outside: bool,
    antialias: bool,
) -> tuple[Array, Array]:
    """Places and weights along one axis.

    Args:
        length, size: pixels of the input and of the output.
        scale: output pixels for one input pixel, as the model states it (size / length, but for rounding).
        method, coordinates, rounding, cubic_coefficient, exclude_outside, antialias: as the operator's attributes. A
            rounding "tensorflow" stands for places, and for a choice of the nearest, as TensorFlow and LiteRT compute them;
            the others are ONNX' words.
            "cubic_table" is TensorFlow's cubic: exclude_outside, with places between pixels rounded to its table.

    Returns:
        places (size, taps), integers in 0 .. length - 1, and weights (size, taps), float64.
    """
    if method == "area":
        return _area(length, size)
    if rounding == "tensorflow":
        centers = _tensorflow_centers(length, size, coordinates, method == "nearest")
        rounding = "floor"
    else:
        centers = _centers(length, size, scale, coordinates)
    if method == "nearest":
        places = np.clip(NEAREST[rounding](centers), 0, length - 1).astype(np.int64)
        return places[:, None], np.ones((size, 1))
    if method == "linear" and not antialias:
        first = np.floor(centers)
        share = centers - first
        places = np.stack([first, first + 1], 1)
        return np.clip(places, 0, length - 1).astype(np.int64), np.stack([1 - share, share], 1)
    if method == "cubic_table" and not antialias:
        return _cubic(centers, length, cubic_coefficient, True, CUBIC_STEPS)
    if method == "cubic" and not antialias:
        return _cubic(centers, length, cubic_coefficient, exclude_outside, 0)
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    return _windowed(centers, length, stretch, method, exclude_outside, cubic_coefficient)


def _centers(length: int, size: int, scale: float, coordinates: str) -> Array:
    """Where in the input each output pixel lies, in float32 as ONNX Runtime computes it (upsamplebase.h)."""
    one, half = np.float32(1), np.float32(0.5)
    places, factor = np.arange(size, dtype=np.float32), np.float32(scale)
    if factor == 1 and size == length:
        return places.astype(np.float64)
    if coordinates == "align_corners":
        found = places * np.float32(length - 1) / np.float32(max(size - 1, 1))
    elif coordinates == "asymmetric":
        found = places / factor
    elif coordinates == "pytorch_half_pixel" and size == 1:
        found = np.zeros(1, np.float32)
    else:
        found = (places + half) / factor - half
        if coordinates == "half_pixel_symmetric":  # what a rounded size leaves over is shared by both ends
            offset = np.float32(length) / np.float32(2) * (one - np.float32(size) / (factor * np.float32(length)))
            found = offset + (places + half) / factor - half
    return found.astype(np.float64)


def _tensorflow_centers(length: int, size: int, coordinates: str, nearest: bool) -> Array:
    """The same as TensorFlow and LiteRT compute it (image_resizer_state.h, resize_nearest_neighbor.h): by the inverse scale.

    Args:
        nearest: whether the pixel of which they take the floor is wanted.
    """
    half, aligned = np.float32(0.5), coordinates == "align_corners" and size > 1
    inverse = np.float32(length - aligned) / np.float32(size - aligned)
    places = np.arange(size, dtype=np.float32)
    if coordinates == "half_pixel":
        places = (places + half) * inverse if nearest else (places + half) * inverse - half
    else:
        places = places * inverse + (half if aligned and nearest else np.float32(0))
    return places.astype(np.float64)


def _cubic(centers: Array, length: int, coefficient: float, exclude: bool, steps: int) -> tuple[Array, Array]:
    """Keys' cubic convolution (Keys 1981, equation 4): coefficient -0.5 in TensorFlow, -0.75 in PyTorch.

    Args:
        exclude: leave out places beyond the ends, the others scaled up; else the end pixels count again.
        steps: between two pixels, to which places are rounded; 0 for none.
    """
    first = np.floor(centers)
    share = centers - first
    if steps:
        share = np.rint(share * steps) / steps
    weights = np.stack([_keys(np.abs(share - k), coefficient) for k in (-1, 0, 1, 2)], 1)
    places = first[:, None] + np.arange(-1, 3)
    if exclude:
        weights = np.where((places < 0) | (places > length - 1), 0.0, weights)
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, length - 1).astype(np.int64), weights


def _keys(x: Array, a: float) -> Array:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _mitchell(x: Array) -> Array:
    """Mitchell & Netravali 1988, B = C = 1/3."""
    near = (7 * x - 12) * x * x + 16 / 3
    far = ((-7 / 3 * x + 12) * x - 20) * x + 32 / 3
    return np.where(x < 1, near, np.where(x < 2, far, 0.0)) / 6


def _lanczos(radius: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


def _gaussian(x: Array) -> Array:
    return np.where(x < 1.5, np.exp(-2 * x * x), 0.0)  # sigma 0.5, cut at 1.5: TensorFlow's sampling_kernels.h


def _windowed(
    centers: Array, length: int, stretch: float, method: str, exclude: bool, coefficient: float
) -> tuple[Array, Array]:
    """A kernel function around each centre, stretched where an image shrinks and antialias asks for it. All weights add up to
    one, or, where places outside are excluded, those of the places inside the image."""
    functions: dict[str, Callable[[Array], Array]] = {
        "linear": lambda x: np.maximum(0.0, 1 - x),
        "cubic": lambda x: _keys(x, coefficient),
        "cubic_table": lambda x: _keys(x, coefficient),
        "lanczos3": _lanczos(3.0),
        "lanczos5": _lanczos(5.0),
        "gaussian": _gaussian,
        "mitchell": _mitchell,
    }
    radius, function = KERNELS[method], functions[method]
    taps = _taps(method, stretch)
    first = np.ceil(centers - radius * stretch)
    if exclude:
        taps = min(length, taps)
        first = np.clip(first, 0, length - taps)
    places = first.astype(np.int64)[:, None] + np.arange(taps)
    weights = function(np.abs(places - centers[:, None]) / stretch)
    total = weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, length - 1), weights / np.where(total == 0, 1.0, total)


def _area(length: int, size: int) -> tuple[Array, Array]:
    """The mean of the pixels from floor(i * length / size) to ceil((i + 1) * length / size): adaptive average pooling."""
    i = np.arange(size, dtype=np.int64 if length * (size + 1) < 2**62 else object)
    starts = (i * length // size).astype(np.int64)
    counts = (-(-(i + 1) * length // size)).astype(np.int64) - starts
    taps = np.arange(counts.max(initial=0))
    places = np.minimum(starts[:, None] + taps, length - 1)
    return places, np.where(taps < counts[:, None], 1 / counts[:, None], 0.0)
