"""What a model's metadata say of the values that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Preprocessing:
    """What becomes of a picture's values, 0 to 255: value * scale + offset. Each a number, or one for each channel."""

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0

    def apply(self, pixels: Array) -> Array:
        """float32 values of (..., C) values.

        Raises:
            InputError: scale or offset has another number of entries than there are channels.
        """
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            if isinstance(value, tuple) and len(value) != pixels.shape[-1]:
                raise InputError(f"{name} has {len(value)} entries; the array has {pixels.shape[-1]} channels")
        result = pixels.astype(np.float32)
        if self.scale != 1.0:
            result *= np.asarray(self.scale, np.float32)
        if self.offset != 0.0:
            result += np.asarray(self.offset, np.float32)
        return result


def preprocessing_of(metadata: Mapping[str, Any]) -> Preprocessing:
    """What a model's metadata say: {"preprocessing": {"scale": ..., "offset": ...}}; nothing: values stay as they are.

    Raises:
        InputError: they say something else.
    """
    given = metadata.get("preprocessing", {})
    wanted = 'wanted {"scale": numbers, "offset": numbers}; override it with --scale and --offset'
    if not isinstance(given, Mapping) or set(given) - {"scale", "offset"}:
        raise InputError(f"metadata: preprocessing is {given!r}; {wanted}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        entries = value if isinstance(value, list) else [value]
        if not entries or any(isinstance(v, bool) or not isinstance(v, int | float) for v in entries):
            raise InputError(f"metadata: preprocessing is {given!r}; {wanted}")
        values[name] = tuple(float(v) for v in entries) if isinstance(value, list) else float(value)
    return Preprocessing(**values)
