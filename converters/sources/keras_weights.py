"""Weights without a structure (.weights.h5 of Keras 3, .h5 of save_weights), and the structure as JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgecnn.converters.sources import hdf5
from edgecnn.converters.sources.configuration import describe_model, parse_version
from edgecnn.converters.sources.description import ModelDescription, WeightReader, WeightScope
from edgecnn.converters.sources.keras_h5 import H5Weights
from edgecnn.converters.sources.keras_zip import group_weights
from edgecnn.errors import ConversionError

MOST_TEXT = 64 * 2**20


@contextmanager
def describe(path: Path, structure: Path) -> Iterator[ModelDescription]:
    """The model of a file of weights and the JSON that model.to_json() gave (or a .keras file's config.json)."""
    name = str(path)
    config = _read_json(structure)
    with hdf5.open_file(name, name) as file:
        if "model_config" in file.attrs:
            raise ConversionError(f"{name}: holds the whole model; convert it without --config")
        stored = hdf5.strings(file, "layer_names", name)
        if stored is None and not {"layers", "_layer_checkpoint_dependencies"} & set(file):
            raise ConversionError(f"{name}: an HDF5 file, but no Keras weights; wanted what model.save_weights writes")
        weights: WeightScope = group_weights(file, name) if stored is None else H5Weights(file, name)
        description = describe_model(config, name, _version(config), weights, path.stat().st_size)
        if stored is not None:
            used = [layer for layer in stored if hdf5.strings(hdf5.child(file, layer, name), "weight_names", name)]
            if not set(used) <= {layer.path for layer in description.layers}:
                weights = WeightsInOrder(file, name, used)
                description = describe_model(config, name, _version(config), weights, path.stat().st_size)
        yield description


class WeightsInOrder(H5Weights):
    """Of a model whose layers have got other names than the file's: Keras numbers them anew in each session, and loads
    weights by the order of the layers that have some."""

    def __init__(self, group: Any, source: str, stored: Sequence[str]) -> None:
        super().__init__(group, source)
        self.stored, self.places = stored, dict[str, str]()

    def layer(self, class_name: str, name: str) -> WeightReader:
        """Of a layer; asked for in the model's order."""

        def read(names: Sequence[str]) -> Any:
            if name not in self.places and len(self.places) == len(self.stored):
                raise ConversionError(
                    f"{self.source}: layer {name!r}: the file has weights for {len(self.stored)} layers, and the model more; "
                    f"they belong to another model"
                )
            place = self.places.setdefault(name, self.stored[min(len(self.places), len(self.stored) - 1)])
            return super(WeightsInOrder, self).layer(class_name, place)(names)

        return read

    wrapped = layer


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MOST_TEXT:
            raise ConversionError(f"{path}: has over {MOST_TEXT} bytes; wanted the JSON of model.to_json()")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: is no JSON ({error}); wanted what model.to_json() gives") from error
    # Some write the string that to_json gives as a JSON string once more.
    return json.loads(config) if isinstance(config, str) and config.lstrip().startswith("{") else config


def _version(config: Any) -> tuple[int, int]:
    """Of the Keras that wrote the JSON: Keras 2 says it, Keras 3 names modules."""
    if isinstance(config, Mapping) and "keras_version" not in config and "module" in config:
        return 3, 0
    return parse_version(config.get("keras_version") if isinstance(config, Mapping) else None)
