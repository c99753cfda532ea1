"""Arithmetic on shapes. What a model computes from its tensors' shapes is computed at conversion; sizes that are not known
then, the batch first of all, are marked by numbers that no arithmetic keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.reading import Recorded, Unsupported
from edgecnn.converters.layers.registry import LAYERS, Array, Layer, layer
from edgecnn.converters.sources.description import leaves
from edgecnn.graph import Tensor

BATCH = -1987654400
"""Stands in a constant shape for the number of images. Fits 32 bits, and a float32 holds it exactly: some cast shapes."""
UNKNOWN = -1987654528
"""For another size that is known at the call only."""
FIX = "fix the input's sizes: --input-shape, or input_shapes= in Python"
"""What to do where sizes are known at the call only."""
_LONGEST = 64
"""No shape has more values; longer arrays are weights and not looked at."""


def marked(values: Array) -> Array:
    """Where sizes are not known."""
    if values.dtype.kind not in "iuf" or values.size > _LONGEST:
        return np.zeros(values.shape, bool)
    return np.asarray((values == BATCH) | (values == UNKNOWN))


def check_known(values: Array) -> None:
    """Refuses sizes that are not known where they are computed with as numbers."""
    if marked(values).any():
        raise Unsupported("it computes with a size that is known at the call only", FIX)


def arithmetic(function: Callable[[Array, Array], Array], neutral: int | None) -> Callable[[Array, Array], Array]:
    """A function of two sizes; the second one, if it is neutral, leaves even an unknown first one as it is."""

    def compute(x: Array, y: Array) -> Array:
        x, y = np.broadcast_arrays(x, y)
        result = np.where(marked(x) | marked(y), UNKNOWN, function(x, np.where(y == 0, 1, y) if neutral == 1 else y))
        return result if neutral is None else np.where(y == neutral, x, result)

    return compute


def numbers(value: Any) -> list[int] | None:
    """A list of sizes, each a number, None or an array of one; None if one is a tensor or something else."""
    items = list(np.asarray(value).reshape(-1)) if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple):
        return None
    found = []
    for item in items:
        if item is None:
            found.append(-1)
        elif isinstance(item, int | np.integer) or (isinstance(item, np.ndarray) and item.size == 1):
            found.append(int(item))
        else:
            return None
    return found


def known_numbers(value: Any, what: str) -> list[int]:
    """The same, of sizes that are known."""
    found = numbers(value)
    if found is None:
        raise Unsupported(f"its {what} is computed", "give numbers")
    check_known(np.asarray(found))
    return found


@layer("tf.compat.v1.shape")
def convert_shape(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Any:
    """A tensor's shape."""
    x = layer.arguments[0] if len(layer.arguments) else layer.keywords["input"]
    sizes = (UNKNOWN if size is None else size for size in x.shape[1:])
    return np.asarray([BATCH, *sizes], np.int64)


def _item(value: Array, slice_spec: Any) -> Array:
    return np.asarray(value[tuple(slice_spec) if isinstance(slice_spec, list) else slice_spec])


_ON_SIZES: Mapping[str, Callable[..., Any]] = {
    "tf.__operators__.getitem": _item,
    "tf.stack": lambda values, axis=0: np.stack([np.asarray(value) for value in values], axis),
    "tf.concat": lambda values, axis=0: np.concatenate([np.asarray(value).reshape(-1) for value in values], axis),
    "tf.cast": lambda x, dtype=None: np.asarray(x),
    "tf.convert_to_tensor": lambda value, **_: np.asarray(value),
    "tf.math.multiply": arithmetic(np.multiply, 1),
    "tf.math.add": arithmetic(np.add, 0),
    "tf.__operators__.add": arithmetic(np.add, 0),
    "tf.math.subtract": arithmetic(np.subtract, 0),
    "tf.compat.v1.floor_div": arithmetic(np.floor_divide, 1),
    "tf.math.floordiv": arithmetic(np.floor_divide, 1),
    "tf.math.floormod": arithmetic(np.mod, None),
    "tf.math.truediv": arithmetic(np.divide, 1),
    "tf.math.maximum": arithmetic(np.maximum, None),
    "tf.math.minimum": arithmetic(np.minimum, None),
    "tf.math.reduce_prod": lambda input_tensor, axis=None, keepdims=False: (
        np.asarray(UNKNOWN) if marked(input_tensor).any() else np.prod(input_tensor, axis=axis, keepdims=keepdims)
    ),
}
"""Functions that models apply to shapes."""


def fold_sizes() -> None:
    """Lets the functions above compute at conversion where no tensor is among their arguments."""
    for name, function in _ON_SIZES.items():
        LAYERS[name] = _folding(LAYERS.get(name), function)


def _taken(keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    return keywords.taken() if isinstance(keywords, Recorded) else keywords


def _folding(convert: Any, function: Callable[..., Any]) -> Any:
    def either(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Any:
        keywords = layer.keywords if inputs else _taken(layer.keywords)
        if not inputs and any(isinstance(leaf, np.ndarray) for leaf in leaves([*layer.arguments, *keywords.values()])):
            keywords = {key: value for key, value in keywords.items() if key != "name"}
            return np.asarray(function(*layer.arguments, **keywords))
        if convert is None:
            raise Unsupported("it is applied to computed tensors", "use it on shapes only")
        return convert(layer, build, inputs)

    return either
