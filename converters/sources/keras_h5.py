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
                    f"save the whole model: model.save('model.keras'), or give its JSON (model.to_json()) with --config"
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

        yield describe_model(config, name, parse_version(version), H5Weights(weights, name), path.stat().st_size)


class H5Weights:
    """The groups of a model's layers; a model inside the model has one group, which holds all its weights."""

    def __init__(self, group: Any, source: str, outer: str | None = None, path: tuple[str, ...] = ()) -> None:
        self.group, self.source, self.outer, self.path = group, source, outer, path

    def layer(self, class_name: str, name: str) -> WeightReader:
        """Of a layer."""
        if self.outer is None:
            return lambda names: _read(self.group, name, names, self.source)
        outer = self.outer
        return lambda names: _read_inner(self.group, outer, (*self.path, name), names, self.source)

    wrapped = layer
    """Of the layer inside a wrapper, whose group is the wrapper's."""

    def model(self, class_name: str, name: str) -> H5Weights:
        """Of a model inside the model."""
        if self.outer is None:
            return H5Weights(self.group, self.source, name)
        return H5Weights(self.group, self.source, self.outer, (*self.path, name))


def _stored(weights: Any, layer: str, names: Sequence[str], source: str) -> tuple[Any, list[str]]:
    """A layer's group and the paths of its weights in it."""
    group = hdf5.child(weights, layer, source)
    stored = None if group is None else hdf5.strings(group, "weight_names", source)
    if stored is None:
        raise ConversionError(
            f"{source}: layer {layer!r}: its weights {list(names)} are missing; save the whole model again"
        )
    return group, stored


def _last(path: str) -> str:
    """kernel, from conv/kernel:0."""
    return path.split("/")[-1].split(":")[0]


def _read(weights: Any, layer: str, names: Sequence[str], source: str) -> list[np.ndarray[Any, Any]]:
    """A layer's weights: by their own names where these are there, or else in order."""
    where = f"{source}: layer {layer!r}"
    group, stored = _stored(weights, layer, names, source)
    by_name = {_last(path): path for path in stored}
    if set(names) <= by_name.keys() and len(by_name) == len(stored):
        wanted = [by_name[name] for name in names]
    elif len(stored) == len(names):
        wanted = stored
    else:
        raise ConversionError(f"{where}: has weights {stored}; wanted {list(names)}")
    return [hdf5.array(hdf5.child(group, path, source), f"{where}: {path}") for path in wanted]


def _read_inner(
    weights: Any, outer: str, path: tuple[str, ...], names: Sequence[str], source: str
) -> list[np.ndarray[Any, Any]]:
    """The weights of a layer of an inner model: by the longest part of its path that the stored names have."""
    where = f"{source}: layer {'/'.join((outer, *path))!r}"
    group, stored = _stored(weights, outer, names, source)
    for start in range(len(path)):
        wanted = path[start:]
        own = [p for p in stored if _holds(p.split("/")[:-1], wanted)]
        by_name = {_last(p): p for p in own}
        if set(names) <= by_name.keys() and len(by_name) == len(own):
            return [hdf5.array(hdf5.child(group, by_name[n], source), f"{where}: {n}") for n in names]
        if len(own) == len(names):
            return [hdf5.array(hdf5.child(group, p, source), f"{where}: {p}") for p in own]
    raise ConversionError(f"{where}: its weights {list(names)} are not among {stored[:20]}; save the model as .keras")


def _holds(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the names of `wanted` follow each other among the parts of a path."""
    return any(tuple(parts[i : i + len(wanted)]) == tuple(wanted) for i in range(len(parts) - len(wanted) + 1))
