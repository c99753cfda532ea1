"""One module a kind of source: each turns it into a `ModelDescription`, executing nothing.

keras_h5.py    .h5, .hdf5: written by Keras 2, tf-keras and Keras 3
keras_zip.py   .keras: the zip that Keras 3 and tf-keras write
keras_weights.py  .weights.h5 and a JSON configuration
keras_live.py  a model object
onnx.py        .onnx: what PyTorch and others export
tflite.py      .tflite: what LiteRT runs
configuration.py  Keras' JSON configuration, which all four share
keras_1.py     what Keras 1 called things
variables.py   which variables Keras' layers have, in Keras' order
operation_names.py  the classes of keras.ops
hdf5.py        reading arrays from HDF5 files of strangers
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from edgecnn.budget import Budget, charged_to
from edgecnn.converters.sources.description import ModelDescription
from edgecnn.errors import ConversionError, InputError

_OTHERS = {
    ".tflite": "named like a LiteRT model, but is none",
    ".pb": "a TensorFlow graph",
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".ecnn": "an .ecnn file, converted already",
    ".json": "a configuration without weights",
}


LIVE_BYTES = 2**40
"""The size of a model that is no file, for its budget: it is in memory already, and the user's own."""


GENERATED_BYTES = 2**31
"""What ONNX models may ask for beyond their size: they may say of weights that all have one value, as onnx' own tests do."""


@contextmanager
def open_source(model: Any, config: str | os.PathLike[str] | None = None) -> Iterator[ModelDescription]:
    """The description of a model, whatever it comes as; weights are read while the context is open, and what is made of them is
    charged to a budget that the file's size sets (see budget.py).

    Args:
        model: path of an .h5, .hdf5, .keras, .onnx or .tflite file, or a Keras model.
        config: for a file of weights alone, the JSON of its structure (model.to_json()).

    Raises:
        ConversionError: no such file, no model, damaged, or unsafe; also in the context, where it asks for more than its size
            allows for.
    """
    with _describe(model, config) as description:
        budget = Budget(error=ConversionError)
        budget.open(description.source, LIVE_BYTES if description.size is None else description.size)
        if description.writer.startswith("ONNX"):
            budget.most_bytes += GENERATED_BYTES
        with charged_to(budget):
            yield description


def _describe(model: Any, config: str | os.PathLike[str] | None) -> AbstractContextManager[ModelDescription]:
    from edgecnn.converters.sources import keras_h5, keras_live, keras_weights, keras_zip

    if not isinstance(model, str | os.PathLike):
        if config is not None:
            raise InputError("config: a model object has its structure; give a file of weights, or leave config out")
        return keras_live.describe(model)
    path = Path(model)
    start = _beginning(path)
    if config is not None:
        _beginning(Path(config))
    if start.startswith(b"PK"):
        return keras_zip.describe(path)
    if config is not None:
        if start != b"\x89HDF\r\n\x1a\n":
            raise ConversionError(f"{path}: holds no HDF5 weights; --config goes with what model.save_weights writes")
        return keras_weights.describe(path, Path(config))
    if start == b"\x89HDF\r\n\x1a\n":
        return keras_h5.describe(path)
    if not start:
        raise ConversionError(f"{path}: is empty; save the model again")
    if start[4:] == b"TFL3":
        from edgecnn.converters.sources import tflite

        return tflite.describe(path)
    if path.suffix.lower() == ".onnx":  # these have no magic number
        from edgecnn.converters.sources import onnx

        return onnx.describe(path)
    what = _OTHERS.get(path.suffix.lower())
    found = f"it is {what}" if what else f"it starts with {start!r}"
    raise ConversionError(f"{path}: neither an HDF5 nor a .keras file ({found}); wanted what Keras' model.save writes")


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _beginning(path: Path) -> bytes:
    """The first bytes of a regular file. What is none is not opened: reading a pipe would wait for whoever writes.

    Raises:
        ConversionError: there is no such file, it cannot be read, or is no regular file.
    """
    _check_kind(path)
    try:
        # Another file may take its place between the look at it and the opening: not even then does this wait.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            _check_kind(path, os.fstat(handle).st_mode)
            return os.read(handle, 8)
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise ConversionError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _check_kind(path: Path, mode: int | None = None) -> None:
    try:
        mode = path.stat().st_mode if mode is None else mode
    except (OSError, ValueError):
        return  # opening it tells
    kind = next((name for test, name in _KINDS if test(mode)), None)
    if kind == "a folder" and (path / "saved_model.pb").exists():
        kind = "a SavedModel folder"
    if kind:
        raise ConversionError(
            f"{path}: is {kind}; wanted a file, as Keras' model.save('x.keras') writes it: save the model to one"
        )
