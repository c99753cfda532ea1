"""Pictures as a model takes them."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgecnn.errors import DataFileError, InputError, MissingPackageError

Array = np.ndarray[Any, Any]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for a picture of so many channels."""


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


def read_image(path: str | os.PathLike[str], shape: Sequence[int | None]) -> Array:
    """A picture as one image for an input.

    Args:
        path: any file that Pillow reads.
        shape: of the input, (N, H, W, C); C of 1, 3 or 4 makes it gray, RGB or RGBA. The picture is resized to H x W
            (Pillow's bilinear filter, as `keras.utils.load_img(..., interpolation="bilinear")`); a size of None is the
            picture's own.

    Returns:
        uint8, shape (1, H, W, C).

    Raises:
        MissingPackageError: Pillow is not installed.
        DataFileError: the file is missing, no picture, damaged, or of a size that would exhaust the memory.
        InputError: the input is none for pictures, or the picture's values have more than 8 bits.
    """
    return _read(Path(path), str(path), shape)


def decode_image(content: bytes, shape: Sequence[int | None], name: str = "a picture") -> Array:
    """A picture as one image for an input, from the bytes of its file; otherwise as `read_image`.

    Args:
        name: what errors call it.
    """
    return _read(io.BytesIO(content), name, shape)


def _read(source: Path | BinaryIO, name: str, shape: Sequence[int | None]) -> Array:
    if len(shape) != 4 or shape[3] not in MODES:
        raise InputError(f"{name}: an input of shape {tuple(shape)} takes no picture; give a .npy or .npz file")
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError(
            f'{name}: reading pictures needs Pillow, which is not installed: pip install "edgecnn[image]"'
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as picture:
                picture.load()
                if picture.mode[0] in "IF":
                    raise InputError(
                        f"{name}: its values have more than 8 bits (mode {picture.mode}); save it with 8, or as .npy"
                    )
                converted = picture.convert(MODES[shape[3]])
    except FileNotFoundError as error:
        raise DataFileError(f"{name}: no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataFileError(f"{name}: refused: {error}") from error
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "no picture that Pillow knows, or a damaged one"
        raise DataFileError(f"{name}: cannot be read: {reason}") from error
    height, width = shape[1] or converted.height, shape[2] or converted.width
    if (converted.width, converted.height) != (width, height):
        converted = converted.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(1, height, width, shape[3])
