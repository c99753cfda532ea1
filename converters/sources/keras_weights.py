"""Weights without a structure (.weights.h5 of Keras 3, .h5 of save_weights), and the structure as JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgecnn.converters.sources import hdf5, keras_1
from edgecnn.converters.sources.configuration import describe_model, parse_version
from edgecnn.converters.sources.description import ModelDescription, WeightScope
from edgecnn.converters.sources.keras_h5 import H5Weights, Unit, written_by
from edgecnn.converters.sources.keras_zip import OLD_ROOT, group_weights
from edgecnn.errors import ConversionError
from edgecnn.files import open_regular

MOST_TEXT = 64 * 2**20


@contextmanager
def describe(path: Path, structure: Path) -> Iterator[ModelDescription]:
    """The model of a file of weights and the JSON that model.to_json() gave (or a .keras file's config.json)."""
    name = str(path)
    config = _read_json(structure)
    with hdf5.open_file(name, name) as file:
        if hdf5.has_attribute(file, "model_config"):
            raise ConversionError(f"{name}: holds the whole model; convert it without --config")
        stored = hdf5.strings(file, "layer_names", name)
        if stored is None and not {"layers", OLD_ROOT} & {key.split("\\")[0] for key in hdf5.names(file, name)}:
            raise ConversionError(f"{name}: an HDF5 file, but no Keras weights; wanted what model.save_weights writes")
        said = config.get("keras_version") if isinstance(config, Mapping) else None
        version, notes = _version(config), tuple[str, ...]()
        if keras_1.is_keras_1(config, said):
            version = (1, version[1] if said else 0)
            config, notes = keras_1.translate(config, name)
        size = path.stat().st_size
        weights: WeightScope
        if stored is None:
            weights = group_weights(file, name)
        else:
            backend = written_by(file, file, name)
            used = [layer for layer in stored if _weights_of(file, layer, name)]
            weights = WeightsInOrder(file, name, version[0], backend, used)
        yield describe_model(config, name, version, weights, size, notes)


def _weights_of(file: hdf5.Group, layer: str, name: str) -> list[str] | None:
    group = hdf5.child(file, layer, name)
    return None if group is None else hdf5.strings(group, "weight_names", name)


class WeightsInOrder(H5Weights):
    """Of a model whose layers may have got other names than the file's: Keras numbers them anew in each session, and loads
    weights by the order of the layers that have some.

    Args:
        stored: the file's layers that have weights, in order.
    """

    def __init__(self, group: hdf5.Group, source: str, keras: int, backend: str | None, stored: Sequence[str]) -> None:
        super().__init__(group, source, keras, backend)
        self.stored = stored
        self.units: list[Unit] = []

    def unit(self, name: str) -> Unit:
        """The group of a layer, or of a model inside the model, whose place in the file is known once all are."""
        unit = Unit(lambda: self.places()[name], self.group, self.source, self.keras, self.backend)
        unit.name = name
        self.units.append(unit)
        return unit

    def places(self) -> dict[str, str]:
        """The file's name of each layer that has weights."""
        names = [unit.name for unit in self.units]
        if set(self.stored) <= set(names):
            return {name: name for name in names}
        with_weights = [unit.name for unit in self.units if unit.has_weights() is not False]
        if len(with_weights) != len(self.stored):
            raise ConversionError(
                f"{self.source}: has weights for {len(self.stored)} layers, and the model has {len(with_weights)} layers with "
                f"weights; they belong to another model"
            )
        return {**{name: name for name in names}, **dict(zip(with_weights, self.stored, strict=True))}


def _read_json(path: Path) -> Any:
    try:
        with open_regular(path, ConversionError, "the JSON of model.to_json()") as file:
            text = file.read(MOST_TEXT + 1)
        if len(text) > MOST_TEXT:
            raise ConversionError(f"{path}: has over {MOST_TEXT} bytes; wanted the JSON of model.to_json()")
        config = json.loads(text.decode("utf-8"))
        # Some write the string that to_json gives as a JSON string once more.
        return json.loads(config) if isinstance(config, str) and config.lstrip().startswith("{") else config
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: is no JSON ({error}); wanted what model.to_json() gives") from error


def _version(config: Any) -> tuple[int, int]:
    """Of the Keras that wrote the JSON: Keras 2 says it, Keras 3 names modules."""
    if isinstance(config, Mapping) and "keras_version" not in config and "module" in config:
        return 3, 0
    return parse_version(config.get("keras_version") if isinstance(config, Mapping) else None)
