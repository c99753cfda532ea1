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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from edgecnn.budget import Budget, charged_to
from edgecnn.converters.sources.description import ModelDescription
from edgecnn.errors import ConversionError, InputError
from edgecnn.files import open_regular
from edgecnn.format.foreign import HDF5, LITERT, ZIP

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
    if start.startswith(ZIP):
        return keras_zip.describe(path)
    if config is not None:
        if start != HDF5:
            raise ConversionError(f"{path}: holds no HDF5 weights; --config goes with what model.save_weights writes")
        return keras_weights.describe(path, Path(config))
    if start == HDF5:
        return keras_h5.describe(path)
    if not start:
        raise ConversionError(f"{path}: is empty; save the model again")
    if start[4:] == LITERT:
        from edgecnn.converters.sources import tflite

        return tflite.describe(path)
    if path.suffix.lower() == ".onnx":  # these have no magic number
        from edgecnn.converters.sources import onnx

        return onnx.describe(path)
    what = _OTHERS.get(path.suffix.lower())
    found = f"it is {what}" if what else f"it starts with {start!r}"
    raise ConversionError(f"{path}: neither an HDF5 nor a .keras file ({found}); wanted what Keras' model.save writes")


_WANTED = "a file, as Keras' model.save('x.keras') writes it: save the model to one"


def _beginning(path: Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        ConversionError: there is no such file, it cannot be read, or is no regular file.
    """
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        raise ConversionError(f"{path}: is a SavedModel folder; wanted {_WANTED}")
    with open_regular(path, ConversionError, _WANTED) as file:
        try:
            return file.read(8)
        except OSError as error:
            raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from error
