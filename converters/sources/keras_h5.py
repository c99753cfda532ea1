"""Keras' HDF5 files: the configuration is JSON in an attribute, weights lie in a group for each layer.

A model inside the model has one group, which holds its arrays as one list: first all that are trained, then all others, each in
the order of its layers (Keras 1, 2 and 3 alike). Keras reads that list by its order, and so does this module. Names of arrays only
confirm the order: layers may be called "conv1/conv", two models inside may have layers of the same name, and TensorFlow
numbers names that come again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.converters.sources import hdf5, keras_1
from edgecnn.converters.sources.configuration import describe_model, parse_version
from edgecnn.converters.sources.description import ModelDescription, WeightReader
from edgecnn.converters.sources.variables import (
    CONVOLUTIONS,
    TRANSPOSED,
    around_of,
    is_called,
    masked,
    misfit,
    variables_of,
)
from edgecnn.errors import ConversionError

Array = np.ndarray[Any, Any]

MOST_TRIED = 6
"""Models inside models whose own `trainable` is tried both ways: 64 orders."""


@contextmanager
def describe(path: Path) -> Iterator[ModelDescription]:
    """The model in an .h5 file; weights can be read while the context is open."""
    name = str(path)
    with hdf5.open_file(name, name) as file:
        text = hdf5.text(file, "model_config", name)
        if text is None:
            if hdf5.strings(file, "layer_names", name) is not None or "layers" in hdf5.names(file, name):
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
        said = hdf5.text(file, "keras_version", name) or hdf5.text(weights, "keras_version", name)
        version = parse_version(said)
        notes: tuple[str, ...] = ()
        if keras_1.is_keras_1(config, said):
            version = (1, version[1] if said else 0)
            config, notes = keras_1.translate(config, name)
        scope = H5Weights(weights, name, version[0], written_by(file, weights, name))
        yield describe_model(config, name, version, scope, path.stat().st_size, notes)


def written_by(file: hdf5.Group, weights: hdf5.Group, name: str) -> str | None:
    """What computed when the model was saved: "tensorflow", "theano", "cntk" and others; None where no one says."""
    said = {hdf5.text(file, "backend", name), hdf5.text(weights, "backend", name)} - {None}
    if len(said) > 1:
        raise ConversionError(
            f"{name}: says that it was written by {' and by '.join(sorted(map(repr, said)))}; save the model again"
        )
    return next(iter(said), None)


@dataclass
class _Leaf:
    """A layer of the model, or of a model inside it.

    Attributes:
        name, class_name, config: of the layer; of the one inside for a wrapper.
        where: its path, for messages.
        trainable: whether Keras counts its trainable variables as such.
        more: variables of the wrapper around it.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    where: str
    trainable: bool = True
    more: tuple[str, ...] = ()

    def variables(self, keras: int) -> tuple[list[str], list[str]] | None:
        """Its variables, those that are trained first; None if its class is not known."""
        found = variables_of(self.class_name, self.config, keras)
        if found is None:
            return None
        trained, others = list(found[0]), list(found[1])
        if not self.trainable:
            trained, others = [], trained + others
        return trained, [*others, *self.more] if "pruning_step" in self.more else [*self.more, *others]


@dataclass
class _Model:
    """A model inside the model: what its group in the file holds, one list for all of its layers."""

    children: list[_Leaf | _Model] = field(default_factory=list)

    def leaves(self) -> Iterator[_Leaf]:
        """All layers."""
        for child in self.children:
            yield from child.leaves() if isinstance(child, _Model) else (child,)

    def models(self) -> Iterator[_Model]:
        """All models inside it."""
        for child in self.children:
            if isinstance(child, _Model):
                yield child
                yield from child.models()


Slot = tuple[_Leaf, str]
"""A layer and the name of a variable."""


def _slots(model: _Model, keras: int, frozen: Sequence[_Model]) -> tuple[list[Slot], list[Slot]]:
    """What a model trains and what else it has, in Keras' order. A frozen model trains nothing, whatever its layers say."""
    trained: list[Slot] = []
    others: list[Slot] = []
    for child in model.children:
        if isinstance(child, _Model):
            first, second = _slots(child, keras, frozen)
        else:
            first, second = ([(child, v) for v in names] for names in child.variables(keras) or ((), ()))
        trained, others = trained + first, others + second
    return ([], trained + others) if any(model is one for one in frozen) else (trained, others)


class Unit:
    """The arrays of one group, given to the layers that they belong to.

    Args:
        place: gives the group's name.
        weights: the group around it.
        source, keras, backend: as of `H5Weights`.
    """

    def __init__(
        self, place: Callable[[], str], weights: hdf5.Group, source: str, keras: int, backend: str | None
    ) -> None:
        self.place, self.weights, self.source, self.keras, self.backend = place, weights, source, keras, backend
        self.name = ""
        self.model = _Model()
        self._found: tuple[hdf5.Group, list[str]] | None = None
        self._order: list[Slot] | None = None
        self._decided = False

    def has_weights(self) -> bool | None:
        """Whether any of its layers has a variable; None if that is not known."""
        known = [leaf.variables(self.keras) for leaf in self.model.leaves()]
        if any(variables and (variables[0] or variables[1]) for variables in known):
            return True
        return None if None in known else False

    def reader(self, leaf: _Leaf) -> WeightReader:
        """A reader of one layer's variables."""
        return lambda names: self.read(leaf, names)

    def read(self, leaf: _Leaf, names: Sequence[str]) -> list[Array]:
        """A layer's arrays, as its names are asked for."""
        where = f"{self.source}: layer {leaf.where!r}"
        group, stored = self.stored(leaf, names)
        own = self._own(leaf, names, stored)
        if "mask" in leaf.more:
            own["mask"] = self._own(leaf, ["mask"], stored, partly=True)["mask"]
        arrays = {v: hdf5.array(hdf5.child(group, path, self.source), f"{where}: {path}") for v, path in own.items()}
        if self.keras == 1:
            arrays = keras_1.today(leaf.class_name, leaf.config, arrays, where)
        if self.backend == "theano":
            arrays = _turned(leaf, arrays, where)
        problem = misfit(leaf.class_name, leaf.config, arrays)
        if problem:
            raise ConversionError(f"{where}: {problem}; the file is damaged, or its weights belong to another model")
        if "mask" in arrays:
            arrays = masked(leaf.class_name, arrays, arrays["mask"])
        return [arrays[name] for name in names]

    def stored(self, leaf: _Leaf, names: Sequence[str]) -> tuple[hdf5.Group, list[str]]:
        """The group and the paths of its arrays."""
        if self._found is None:
            group = hdf5.child(self.weights, self.place(), self.source)
            stored = None if group is None else hdf5.strings(group, "weight_names", self.source)
            if group is None or stored is None:
                raise ConversionError(
                    f"{self.source}: layer {leaf.where!r}: its weights {list(names)} are missing; save the whole model again"
                )
            self._found = group, stored
        return self._found

    def _own(self, leaf: _Leaf, names: Sequence[str], stored: list[str], partly: bool = False) -> dict[str, str]:
        """The paths of a layer's arrays by variable."""
        where = f"{self.source}: layer {leaf.where!r}"
        if not self._decided:
            self._order, self._decided = self._decide(stored), True
        if self._order is not None:
            own = {v: path for (one, v), path in zip(self._order, stored, strict=True) if one is leaf}
            unread = set() if partly else own.keys() - set(names) - set(leaf.more)
            if unread or not own.keys() >= set(names):
                raise ConversionError(f"{where}: has the variables {sorted(own)}; wanted {list(names)}")
            return {name: own[name] for name in names}
        leaves = list(self.model.leaves())
        if len(leaves) == 1:
            if len(stored) != len(names):
                raise ConversionError(f"{where}: has weights {stored}; wanted {list(names)}")
            exact = [_exact(leaf.name, name, stored) for name in names]
            return dict(zip(names, exact if all(exact) and len(set(exact)) == len(names) else stored, strict=True))  # type: ignore[arg-type]
        # A class that is not known may have any number of variables: only names that can mean one layer decide then. Where all
        # are known, names that contradict the order leave two answers.
        unknown = any(one.variables(self.keras) is None for one in leaves)
        alike = sum(1 for one in leaves if one.name == leaf.name)
        mine = [path for path in stored if path.rsplit("/", 1)[0] == leaf.name]
        exact = [_exact(leaf.name, name, stored) for name in names]
        if not unknown or alike != 1 or not all(exact) or sorted(mine) != sorted(map(str, exact)):
            raise ConversionError(
                f"{where}: which of the arrays {stored[:20]} are its own ({list(names)}) cannot be told; "
                f"save the model as .keras"
            )
        return dict(zip(names, map(str, exact), strict=True))

    def _decide(self, stored: list[str]) -> list[Slot] | None:
        """For each stored array the layer and variable that it is; None if the order cannot be told."""
        if any(leaf.variables(self.keras) is None for leaf in self.model.leaves()):
            return None
        inner = list(self.model.models())[:MOST_TRIED]
        for count in range(len(inner) + 1):
            # A model's own `trainable` is in the file of few versions; it matters where models are inside models.
            for frozen in combinations(inner, count):
                trained, others = _slots(self.model, self.keras, frozen)
                if self._agrees(trained + others, stored):
                    return trained + others
        return None

    def _agrees(self, slots: Sequence[Slot], stored: Sequence[str]) -> bool:
        """Whether no stored name contradicts an order."""
        if len(slots) != len(stored) or len(set(stored)) != len(stored):
            return False
        names = Counter(leaf.name for leaf in self.model.leaves())
        for (leaf, variable), path in zip(slots, stored, strict=True):
            head = path.rsplit("/", 1)[0]
            if not is_called(path, variable) or (head != leaf.name and names[head] == 1 and names[leaf.name] == 1):
                return False
        return True


def _exact(layer: str, variable: str, stored: Sequence[str]) -> str | None:
    """The stored name that Keras makes of a layer's and a variable's."""
    found = [path for path in stored if path in (f"{layer}/{variable}:0", f"{layer}/{variable}", variable)]
    return found[0] if len(found) == 1 else None


def _turned(leaf: _Leaf, arrays: dict[str, Array], where: str) -> dict[str, Array]:
    """Kernels that Theano trained, for everybody else: it turns them by 180 degrees when it convolves, others do not.

    Source: keras 2.3.1, engine/saving.py, preprocess_weights_for_loading, and backend/theano_backend.py, which turns the kernels
    of depthwise and separable convolutions itself.
    """
    if leaf.class_name == "Conv3DTranspose":
        raise ConversionError(
            f"{where}: a Conv3DTranspose trained by Theano, which Keras loads with its kernel turned the wrong way; load it with "
            f"Theano and compare"
        )
    if "kernel" not in arrays or leaf.class_name not in (*CONVOLUTIONS, *TRANSPOSED):
        return arrays
    kernel = arrays["kernel"]
    turn = (slice(None, None, -1),) * (kernel.ndim - 2)
    return {**arrays, "kernel": np.ascontiguousarray(kernel[turn])}


class H5Weights:
    """The groups of a model's layers; a model inside the model has one group, which holds all its weights.

    Args:
        group: that holds the layers' groups.
        source: for messages.
        keras: major version of the Keras that wrote the file.
        backend: what trained it, if the file says so.
    """

    shares_nothing = False

    def __init__(self, group: hdf5.Group, source: str, keras: int, backend: str | None = None) -> None:
        self.group, self.source, self.keras, self.backend = group, source, keras, backend

    def unit(self, name: str) -> Unit:
        """The group of a layer, or of a model inside the model."""
        return Unit(lambda: name, self.group, self.source, self.keras, self.backend)

    def layer(self, class_name: str, name: str, config: Mapping[str, Any]) -> WeightReader:
        """Of a layer."""
        group = self.unit(name)
        return _enter(group, group.model, _Leaf(name, class_name, config, name, _trains(config)))

    def wrapped(
        self, class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any]
    ) -> WeightReader:
        """Of the layer inside a wrapper, whose group is the wrapper's."""
        group = self.unit(name)
        return _enter(group, group.model, _wrapped(class_name, name, config, inner, inner_config, name))

    def model(self, class_name: str, name: str) -> H5InnerWeights:
        """Of a model inside the model."""
        group = self.unit(name)
        return H5InnerWeights(group, group.model, name)

    wrapped_model = model
    """Of a model inside a wrapper, whose group is the wrapper's."""


class H5InnerWeights:
    """The weights of a model inside the model, in whose group those of all its layers lie."""

    shares_nothing = False

    def __init__(self, group: Unit, model: _Model, path: str) -> None:
        self.group, self.inside, self.path = group, model, path

    def layer(self, class_name: str, name: str, config: Mapping[str, Any]) -> WeightReader:
        """Of a layer."""
        leaf = _Leaf(name, class_name, config, f"{self.path}/{name}", _trains(config))
        return _enter(self.group, self.inside, leaf)

    def wrapped(
        self, class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any]
    ) -> WeightReader:
        """Of the layer inside a wrapper."""
        leaf = _wrapped(class_name, name, config, inner, inner_config, f"{self.path}/{name}")
        return _enter(self.group, self.inside, leaf)

    def model(self, class_name: str, name: str) -> H5InnerWeights:
        """Of a model inside it."""
        inner = _Model()
        self.inside.children.append(inner)
        return H5InnerWeights(self.group, inner, f"{self.path}/{name}")

    wrapped_model = model
    """Of a model inside a wrapper."""


def _enter(group: Unit, model: _Model, leaf: _Leaf) -> WeightReader:
    model.children.append(leaf)
    return group.reader(leaf)


def _wrapped(
    class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any], where: str
) -> _Leaf:
    trains = _trains(config) and _trains(inner_config)
    inside = str(inner_config.get("name", name))
    return _Leaf(inside, inner, inner_config, where, trains, around_of(class_name, inner) or ())


def _trains(config: Mapping[str, Any]) -> bool:
    return config.get("trainable") is not False
