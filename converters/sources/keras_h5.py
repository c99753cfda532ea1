"""Keras' HDF5 files: the configuration is JSON in an attribute, weights lie in a group for each layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.converters.sources import hdf5
from edgecnn.converters.sources.configuration import describe_model, parse_version
from edgecnn.converters.sources.description import ModelDescription, WeightReader
from edgecnn.errors import ConversionError


@contextmanager
def describe(path: Path) -> Iterator[ModelDescription]:
    """The model in an .h5 file; weights can be read while the context is open."""
    name = str(path)
    with hdf5.open_file(name, name) as file:
        text = hdf5.text(file, "model_config", name)
        if text is None:
            if hdf5.strings(file, "layer_names", name) is not None or "layers" in file:
                raise ConversionError(
                    f"{name}: holds weights only, without the model's structure (save_weights); "
                    f"save the whole model: model.save('model.keras')"
                )
            raise ConversionError(f"{name}: an HDF5 file, but no Keras model; wanted what model.save writes")
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{name}: its configuration is no JSON ({error}); the file is damaged") from error
        weights = hdf5.child(file, "model_weights", name)
        if weights is None:
            raise ConversionError(f"{name}: has no group 'model_weights'; save the whole model with model.save")
        version = hdf5.text(file, "keras_version", name) or hdf5.text(weights, "keras_version", name)

        def reader(index: int, class_name: str, layer: str) -> WeightReader:
            return lambda names: _read(weights, layer, names, name)

        yield describe_model(config, name, parse_version(version), reader, path.stat().st_size)


def _read(weights: Any, layer: str, names: Sequence[str], source: str) -> list[np.ndarray[Any, Any]]:
    """A layer's weights: by their own names where these are there, or else in order."""
    where = f"{source}: layer {layer!r}"
    group = hdf5.child(weights, layer, source)
    stored = None if group is None else hdf5.strings(group, "weight_names", source)
    if stored is None:
        raise ConversionError(f"{where}: its weights {list(names)} are missing; save the whole model again")
    by_name = {path.split("/")[-1].split(":")[0]: path for path in stored}
    if set(names) <= by_name.keys() and len(by_name) == len(stored):
        wanted = [by_name[name] for name in names]
    elif len(stored) == len(names):
        wanted = stored
    else:
        raise ConversionError(f"{where}: has weights {stored}; wanted {list(names)}")
    return [hdf5.array(hdf5.child(group, path, source), f"{where}: {path}") for path in wanted]
