"""Pictures as a model takes them."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from edgecnn.errors import DataFileError, InputError, MissingPackageError
from edgecnn.files import open_regular
from edgecnn.format.preprocessing import Preprocessing, preprocessing_of

__all__ = ["Preprocessing", "preprocessing_of", "read_image"]

Array = np.ndarray[Any, Any]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for a picture of so many channels."""


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
    return _read(path, str(path), shape)


def decode_image(content: bytes, shape: Sequence[int | None], name: str = "a picture") -> Array:
    """A picture as one image for an input, from the bytes of its file; otherwise as `read_image`.

    Args:
        name: what errors call it.
    """
    return _read(io.BytesIO(content), name, shape)


def _read(source: str | os.PathLike[str] | BinaryIO, name: str, shape: Sequence[int | None]) -> Array:
    if len(shape) != 4 or shape[3] not in MODES:
        raise InputError(f"{name}: an input of shape {tuple(shape)} takes no picture; give a .npy or .npz file")
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError(
            f'{name}: reading pictures needs Pillow, which is not installed: pip install "edgecnn[image]"'
        ) from error
    opened = open_regular(source, DataFileError, "a picture") if isinstance(source, str | os.PathLike) else source
    try:
        with opened as file, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                picture.load()
                if picture.mode[0] in "IF":
                    raise InputError(
                        f"{name}: its values have more than 8 bits (mode {picture.mode}); save it with 8, or as .npy"
                    )
                converted = picture.convert(MODES[shape[3]])
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
