"""A Keras model object, of Keras 3 or tf-keras: asked for its configuration and weights. Keras is not imported here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgecnn.converters.sources.configuration import describe_model, parse_version
from edgecnn.converters.sources.description import ModelDescription, WeightReader
from edgecnn.errors import ConversionError


@contextmanager
def describe(model: Any) -> Iterator[ModelDescription]:
    """The description of a model object."""
    name = f"model {getattr(model, 'name', type(model).__name__)!r}"
    if not hasattr(model, "to_json") or not hasattr(model, "get_layer"):
        raise ConversionError(f"{type(model).__name__}: neither a path nor a Keras model; wanted one of them")
    try:
        config = json.loads(model.to_json())
    except (NotImplementedError, ValueError, TypeError) as error:
        raise ConversionError(
            f"{name}: gives no configuration ({error}); rebuild it with keras.Sequential or the functional API"
        ) from error

    yield describe_model(config, name, _version(model), LiveWeights(model, name), None)


class LiveWeights:
    """The weights of a model's layers."""

    shares_nothing = False

    def __init__(self, model: Any, source: str) -> None:
        self.owner, self.source = model, source

    def layer(self, class_name: str, name: str, config: Mapping[str, Any]) -> WeightReader:
        """Of a layer."""
        return lambda names: _read(self.owner.get_layer(name), name, names, self.source)

    def wrapped(
        self, class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any]
    ) -> WeightReader:
        """Of the layer inside a wrapper."""

        def read(names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
            wrapper = self.owner.get_layer(name)
            arrays = _read(wrapper.layer, name, names, self.source)
            if class_name != "PruneLowMagnitude":
                return arrays
            masks = {_name(weight): np.asarray(_numpy(mask)) for weight, mask, _ in wrapper.pruning_vars}
            return [a * masks[n] if n in masks else a for n, a in zip(names, arrays, strict=True)]

        return read

    def model(self, class_name: str, name: str) -> LiveWeights:
        """Of a model inside the model."""
        return LiveWeights(self.owner.get_layer(name), self.source)

    def wrapped_model(self, class_name: str, name: str) -> LiveWeights:
        """Of a model inside a wrapper."""
        return LiveWeights(self.owner.get_layer(name).layer, self.source)


def _version(model: Any) -> tuple[int, int]:
    """Of the Keras that the model's class comes from."""
    for base in type(model).__mro__:
        root = sys.modules.get(base.__module__.split(".")[0])
        if base.__module__.split(".")[0] in ("keras", "tf_keras") and root is not None:
            return parse_version(getattr(root, "__version__", None))
    return 3, 0


def _read(owner: Any, layer: str, names: Sequence[str], source: str) -> list[np.ndarray[Any, Any]]:
    variables = owner.weights
    by_name = {_name(variable): variable for variable in variables}
    if len(variables) != len(names):
        raise ConversionError(f"{source}: layer {layer!r} has the weights {sorted(by_name)}; wanted {list(names)}")
    if set(names) == by_name.keys():
        variables = [by_name[name] for name in names]
    return [np.asarray(_numpy(variable)).astype(np.float32) for variable in variables]


def _name(variable: Any) -> str:
    """kernel, of "conv/kernel:0"."""
    return str(variable.name).split("/")[-1].split(":")[0]


def _numpy(variable: Any) -> Any:
    """The values of a variable of any Keras backend."""
    value = variable.numpy() if hasattr(variable, "numpy") else variable
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
