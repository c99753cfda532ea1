"""Models that Keras 1 saved, in Keras 2's words: the only place that knows how Keras 1 called things.

A key that is not listed here is refused by name: what it means is not known, and leaving it out might change the answers.

Source: keras 1.2.2, layers/ and engine/topology.py; keras 2.1.6, legacy/interfaces.py (the new names) and engine/topology.py,
preprocess_weights_for_loading (the new order of the kernels' axes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecnn.converters.sources.variables import variables_of
from edgecnn.errors import ConversionError, UnsupportedLayer, UnsupportedLayerError

Array = np.ndarray[Any, Any]
Config = Mapping[str, Any]

MOST_NESTED = 64
MODELS = ("Sequential", "Model", "Container")

_TRAINING = {"init", "W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint", "b_constraint"}
_TRAINING |= {"gamma_regularizer", "beta_regularizer", "gamma_init", "beta_init", "depthwise_regularizer"}
_TRAINING |= {"pointwise_regularizer", "depthwise_constraint", "pointwise_constraint"}
"""Keys that matter while training only."""

_DENSE = {"activation": "activation", "bias": "use_bias"}
_CONVOLUTION = {**_DENSE, "nb_filter": "filters", "border_mode": "padding"}
_ROWS_AND_COLUMNS = {**_CONVOLUTION, "nb_row": "kernel_size", "nb_col": "kernel_size", "subsample": "strides"}
_POOLING = {"pool_size": "pool_size", "strides": "strides", "border_mode": "padding"}
_POOLING_1D = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding"}


@dataclass(frozen=True)
class _Row:
    """What a class is today.

    Attributes:
        name: its class name.
        keys: its keys and what they are called today; of several with one new name a list is made, in this order.
        places: whether it has rows and columns, so that the order of the axes matters.
    """

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    places: bool = False


_ROWS = {
    "InputLayer": _Row("InputLayer", {"sparse": "sparse"}),
    "Dense": _Row("Dense", {**_DENSE, "output_dim": "units"}),
    "TimeDistributedDense": _Row("Dense", {**_DENSE, "output_dim": "units"}),
    "Convolution1D": _Row(
        "Conv1D", {**_CONVOLUTION, "filter_length": "kernel_size", "subsample_length": "strides"}
    ),
    "AtrousConvolution1D": _Row(
        "Conv1D",
        {**_CONVOLUTION, "filter_length": "kernel_size", "subsample_length": "strides", "atrous_rate": "dilation_rate"},
    ),
    "Convolution2D": _Row("Conv2D", _ROWS_AND_COLUMNS, True),
    "AtrousConvolution2D": _Row("Conv2D", {**_ROWS_AND_COLUMNS, "atrous_rate": "dilation_rate"}, True),
    "SeparableConvolution2D": _Row(
        "SeparableConv2D", {**_ROWS_AND_COLUMNS, "depth_multiplier": "depth_multiplier"}, True
    ),
    "Deconvolution2D": _Row("Conv2DTranspose", {**_ROWS_AND_COLUMNS, "output_shape": "output_shape"}, True),
    "Convolution3D": _Row(
        "Conv3D",
        {**_CONVOLUTION, **dict.fromkeys(("kernel_dim1", "kernel_dim2", "kernel_dim3"), "kernel_size"), "subsample": "strides"},
        True,
    ),
    "MaxPooling1D": _Row("MaxPooling1D", _POOLING_1D),
    "AveragePooling1D": _Row("AveragePooling1D", _POOLING_1D),
    **{f"{kind}Pooling{axes}": _Row(f"{kind}Pooling{axes}", _POOLING, True) for kind in ("Max", "Average") for axes in ("2D", "3D")},
    **{f"Global{kind}Pooling1D": _Row(f"Global{kind}Pooling1D") for kind in ("Max", "Average")},
    **{f"Global{kind}Pooling{axes}": _Row(f"Global{kind}Pooling{axes}", {}, True) for kind in ("Max", "Average") for axes in ("2D", "3D")},
    "UpSampling1D": _Row("UpSampling1D", {"length": "size"}),
    "UpSampling2D": _Row("UpSampling2D", {"size": "size"}, True),
    "UpSampling3D": _Row("UpSampling3D", {"size": "size"}, True),
    "ZeroPadding1D": _Row("ZeroPadding1D", {"padding": "padding"}),
    "ZeroPadding2D": _Row("ZeroPadding2D", {"padding": "padding"}, True),
    "ZeroPadding3D": _Row("ZeroPadding3D", {"padding": "padding"}, True),
    "Cropping1D": _Row("Cropping1D", {"cropping": "cropping"}),
    "Cropping2D": _Row("Cropping2D", {"cropping": "cropping"}, True),
    "Cropping3D": _Row("Cropping3D", {"cropping": "cropping"}, True),
    "BatchNormalization": _Row(
        "BatchNormalization", {"epsilon": "epsilon", "axis": "axis", "momentum": "momentum", "mode": "mode"}
    ),
    "Activation": _Row("Activation", {"activation": "activation"}),
    "LeakyReLU": _Row("LeakyReLU", {"alpha": "alpha"}),
    "ELU": _Row("ELU", {"alpha": "alpha"}),
    "PReLU": _Row("PReLU", {"shared_axes": "shared_axes"}),
    "ThresholdedReLU": _Row("ThresholdedReLU", {"theta": "theta"}),
    "Dropout": _Row("Dropout", {"p": "rate"}),
    "SpatialDropout1D": _Row("SpatialDropout1D", {"p": "rate"}),
    "SpatialDropout2D": _Row("SpatialDropout2D", {"p": "rate"}),
    "SpatialDropout3D": _Row("SpatialDropout3D", {"p": "rate"}),
    "GaussianDropout": _Row("GaussianDropout", {"p": "rate"}),
    "GaussianNoise": _Row("GaussianNoise", {"sigma": "stddev"}),
    "ActivityRegularization": _Row("ActivityRegularization", {"l1": "l1", "l2": "l2"}),
    "Flatten": _Row("Flatten"),
    "Reshape": _Row("Reshape", {"target_shape": "target_shape"}),
    "Permute": _Row("Permute", {"dims": "dims"}),
    "RepeatVector": _Row("RepeatVector", {"n": "n"}),
}  # fmt: skip

_COMMON = {"name": "name", "trainable": "trainable", "batch_input_shape": "batch_input_shape", "input_dtype": "dtype"}
_NO_EFFECT = {
    "input_dim",
    "input_length",
    "input_shape",
    "uses_learning_phase",
    "cache_enabled",
    "custom_name",
    *_TRAINING,
}
"""Keys that say nothing which batch_input_shape and the arrays do not, and those of the training."""

_GONE = {
    "MaxoutDense": "the largest of several dense layers: use Dense layers and Maximum",
    "Highway": "a dense layer with a gate: build it from Dense and Multiply",
    "SReLU": "an activation with four numbers for each value: use PReLU",
    "ParametricSoftplus": "an activation with two numbers for each value: use PReLU",
}
"""Layers that Keras 2 does not have any more."""

_MERGING = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}
_MERGE_KEYS = {"name", "trainable", "mode", "mode_type", "concat_axis", "dot_axes", "output_shape", "output_shape_type"}
_MERGE_KEYS |= {"output_mask", "output_mask_type", "arguments", "layers", "node_indices", "tensor_indices"}
_REFUSED_ANYWAY = ("Lambda", "Masking", "Embedding", "SimpleRNN", "LSTM", "GRU", "ConvLSTM2D", "LocallyConnected1D", "LocallyConnected2D")  # fmt: skip
"""Classes that Keras 1 has and the converter refuses from every source."""
_ORDERS = {"tf": "channels_last", "th": "channels_first"}


def is_keras_1(config: Any, version: str | None) -> bool:
    """Whether a model's configuration speaks as Keras 1 did.

    Args:
        config: as parsed.
        version: what the file says, None if nothing.
    """
    if version is not None:
        return version.split(".")[0] in ("0", "1")
    for entry in _entries(config):
        row = _ROWS.get(str(entry.get("class_name")))
        old = {"dim_ordering"} | {old for old, new in row.keys.items() if old != new} if row is not None else set()
        if entry.get("class_name") == "Merge" or old & _settings(entry).keys():
            return True
    return False


def _settings(entry: Config) -> Config:
    settings = entry.get("config")
    return settings if isinstance(settings, Mapping) else {}


def _entries(config: Any) -> Iterator[Config]:
    """Every layer of a model, those inside wrappers and inner models too."""
    waiting = [(config, 0)]
    while waiting:
        entry, depth = waiting.pop()
        if not isinstance(entry, Mapping) or depth > MOST_NESTED:
            continue
        yield entry
        inside = entry.get("config")
        if isinstance(inside, Mapping):
            layers = inside.get("layers")
            waiting += [(inner, depth + 1) for inner in (layers if isinstance(layers, list) else [])]
            waiting.append((inside.get("layer"), depth + 1))
        elif isinstance(inside, list):
            waiting += [(inner, depth + 1) for inner in inside]


def translate(config: Any, source: str) -> tuple[Any, tuple[str, ...]]:
    """A model's configuration as Keras 2 would have written it, and what the user should know.

    Raises:
        UnsupportedLayerError: naming every layer that cannot be said in today's words.
        ConversionError: it is damaged.
    """
    orders = {str(_settings(entry).get("dim_ordering")) for entry in _entries(config)} & set(_ORDERS)
    translator = _Translator(orders)
    try:
        result = translator.model(config, "", 0)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConversionError(
            f"{source}: its configuration, of Keras 1, is damaged ({type(error).__name__}: {error}); save the model again"
        ) from error
    if translator.problems:
        raise UnsupportedLayerError(source, translator.problems)
    notes: tuple[str, ...] = ()
    if translator.turned:
        about = (
            f"layers {translator.turned[:8]} of Keras 1 have their channels first, as Theano has them; such a file does not say "
            f"whether Theano trained it, whose kernels are turned by 180 degrees. They are taken as Keras 2 takes them, not "
            f"turned: compare an answer with one of the model's own"
        )
        notes = (about,)
    return result, notes


class _Problem(Exception):
    """What of a layer cannot be translated.

    Args:
        reason, hint: for the user.
    """

    def __init__(self, reason: str, hint: str) -> None:
        self.reason, self.hint = reason, hint
        super().__init__(reason)


class _Translator:
    def __init__(self, orders: set[str]) -> None:
        self.orders = orders
        self.problems: list[UnsupportedLayer] = []
        self.turned: list[str] = []

    def model(self, entry: Config, path: str, depth: int) -> dict[str, Any]:
        """A model, and those inside it."""
        if depth > MOST_NESTED:
            raise ValueError(f"models are nested more than {MOST_NESTED} deep")
        config = entry["config"]
        sequential = entry["class_name"] == "Sequential"
        layers = config if isinstance(config, list) else config["layers"]
        if sequential and layers and _plain(layers[0])["class_name"] == "Merge":
            return {**entry, "class_name": "Model", "config": self._branches(entry, path, depth)}
        translated = [self.layer(_plain(layer), path, depth) for layer in layers]
        name = "Sequential" if sequential else "Model"
        whole = {"layers": translated} if isinstance(config, list) else {**config, "layers": translated}
        return {**entry, "class_name": name, "config": whole}

    def layer(self, entry: Config, path: str, depth: int) -> dict[str, Any]:
        """A layer, or a model inside the model."""
        name = str(entry.get("name") or _settings(entry).get("name"))
        here = f"{path}{name}"
        if entry["class_name"] in MODELS:
            return self.model(entry, f"{here}/", depth + 1)
        try:
            class_name, config = self._translated(entry, here, depth)
        except _Problem as problem:
            self.problems.append(UnsupportedLayer(here, str(entry["class_name"]), problem.reason, problem.hint))
            return dict(entry)
        return {**entry, "class_name": class_name, "config": config}

    def _translated(self, entry: Config, here: str, depth: int) -> tuple[str, dict[str, Any]]:
        class_name, config = str(entry["class_name"]), dict(entry["config"])
        if class_name == "Merge":
            return _merging(config)
        if class_name in _GONE:
            what, mend = _GONE[class_name].split(": ")
            raise _Problem(f"is a layer of Keras 1, {what}, which Keras 2 does not have", mend)
        if class_name == "TimeDistributed":
            inner = self.layer(_plain(config["layer"]), f"{here}/", depth + 1)
            kept = {new: config[old] for old, new in _COMMON.items() if old in config}
            return class_name, {**kept, "layer": inner}
        row = _ROWS.get(class_name)
        if row is None:
            if variables_of(class_name, config, 2) is not None and class_name not in _REFUSED_ANYWAY:
                raise _Problem(f"is a {class_name}, which Keras 1 does not have", "save the model again with Keras 2")
            return class_name, config
        keys = {**_COMMON, **row.keys}
        known = {*keys, "dim_ordering", *_NO_EFFECT}
        if config.keys() - known:
            raise _Problem(
                f"has the keys {sorted(config.keys() - known)}, which Keras 1 does not give a {class_name}",
                "load it with Keras 2 and save it again",
            )
        result: dict[str, Any] = {}
        for old, new in keys.items():
            if old in config:
                several = list(keys.values()).count(new) > 1
                result[new] = [*result.get(new, []), config[old]] if several else config[old]
        if row.places:
            result["data_format"] = self._order(config.get("dim_ordering"), row.name)
            if result["data_format"] == "channels_first" and row.name.startswith("Conv"):
                self.turned.append(here)
        return row.name, _checked(row.name, result)

    def _order(self, given: Any, class_name: str) -> str:
        """The order of the axes; layers that do not tell had that of all others."""
        if given in (None, "default"):
            if len(self.orders) != 1:
                raise _Problem(
                    f"is a {class_name} of Keras 1, which does not tell whether channels come first or last, and "
                    f"{'other layers differ' if self.orders else 'no other layer tells'}",
                    "load it with Keras 2 under the same keras.json and save it again",
                )
            given = next(iter(self.orders))
        if given not in _ORDERS:
            raise ValueError(f"dim_ordering is {given!r}")
        return _ORDERS[given]

    def _branches(self, entry: Config, path: str, depth: int) -> dict[str, Any]:
        """A Sequential model that begins by merging others, as a functional one. The file has the layers of these others among
        its own."""
        layers: list[dict[str, Any]] = []
        inputs: list[list[Any]] = []
        output = self._chain(entry, path, depth, layers, inputs)
        return {
            "name": str(entry.get("name", "sequential")),
            "layers": layers,
            "input_layers": inputs,
            "output_layers": [output],
        }

    def _chain(
        self, entry: Config, path: str, depth: int, layers: list[dict[str, Any]], inputs: list[list[Any]]
    ) -> list[Any]:
        """Enter the layers of a Sequential into a functional model's; gives its output."""
        if depth > MOST_NESTED:
            raise ValueError(f"models are nested more than {MOST_NESTED} deep")
        config = entry["config"]
        chain = [_plain(layer) for layer in (config if isinstance(config, list) else config["layers"])]
        before: list[list[Any]] = []
        for place, layer in enumerate(chain):
            settings = _settings(layer)
            if place == 0 and layer["class_name"] == "Merge":
                for branch in map(_plain, settings["layers"]):
                    if branch["class_name"] == "Sequential":
                        before.append(self._chain(branch, path, depth + 1, layers, inputs))
                    elif branch["class_name"] in MODELS:
                        inner = self.model(branch, path, depth + 1)["config"]
                        layers += inner["layers"]
                        inputs += inner["input_layers"]
                        before += inner["output_layers"]
                    else:
                        single = {"class_name": "Sequential", "config": [branch]}
                        before.append(self._chain(single, path, depth + 1, layers, inputs))
            elif place == 0:
                name = f"{settings['name']}_input"
                shape = {"name": name, "batch_input_shape": settings["batch_input_shape"]}
                layers.append({"class_name": "InputLayer", "name": name, "config": shape, "inbound_nodes": []})
                inputs.append([name, 0, 0])
                before = [[name, 0, 0]]
            translated = self.layer(layer, path, depth)
            name = str(settings.get("name") or layer.get("name"))
            layers.append({**translated, "name": name, "inbound_nodes": [before]})
            before = [[name, 0, 0]]
        return before[0]


def _plain(entry: Config) -> Config:
    """A layer's entry; Keras 0.3 put the class's name where its own is."""
    if "class_name" in entry:
        return entry
    return {"class_name": entry["name"], "config": {**entry, "name": entry.get("custom_name")}}


def _merging(config: Config) -> tuple[str, dict[str, Any]]:
    unknown = config.keys() - _MERGE_KEYS
    mode = config.get("mode", "sum")
    if unknown:
        raise _Problem(f"has the keys {sorted(unknown)}, which Keras 1 does not give a Merge", "save it with Keras 2")
    if config.get("mode_type", "raw") != "raw" or not isinstance(mode, str):
        raise _Problem("merges by Python code, which is never run", "replace it by layers of Keras")
    if mode not in _MERGING:
        raise _Problem(f"merges by {mode!r}, which is not supported", "use sum, mul, ave, max, concat or dot")
    result = {"name": config.get("name"), "trainable": config.get("trainable", True)}
    if mode == "concat":
        result["axis"] = config.get("concat_axis", -1)
    if mode == "dot":
        result["axes"] = config.get("dot_axes", -1)
    return _MERGING[mode], result


def _checked(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with values that mean the same today."""
    if config.get("padding") == "full":
        raise _Problem("has border_mode 'full', which Keras 2 does not have", "use 'same' or 'valid'")
    if class_name == "BatchNormalization" and config.pop("mode", 0) != 0:
        raise _Problem("normalises by mode 1 or 2, by the batch's or each image's own statistics", "use mode 0")
    if class_name in ("ZeroPadding1D", "ZeroPadding2D"):
        config["padding"] = _padding(config["padding"], class_name)
    return config


def _padding(value: Any, class_name: str) -> Any:
    """(rows, columns), four numbers or a dict as [[top, bottom], [left, right]]; of one axis as [left, right]."""
    names = (
        ("left_pad", "right_pad") if class_name.endswith("1D") else ("top_pad", "bottom_pad", "left_pad", "right_pad")
    )
    if isinstance(value, Mapping):
        if not value.keys() <= set(names):
            raise _Problem(f"has the padding {dict(value)}", f"use the keys {', '.join(names)}")
        value = [value.get(name, 0) for name in names]
    if class_name.endswith("1D"):
        return [value, value] if isinstance(value, int) else list(value)
    value = list(value)
    return [[a, a] for a in value] if len(value) == 2 else [value[:2], value[2:]]


def today(class_name: str, config: Config, arrays: Mapping[str, Array], where: str) -> dict[str, Array]:
    """A layer's arrays with their axes as Keras 2 orders them.

    Args:
        class_name, config: as translated.
        arrays: by today's names.
        where: for messages.

    Raises:
        ConversionError: an array has another rank than Keras 1 gave it.
    """
    first = config.get("data_format") == "channels_first"
    moves: dict[str, Callable[[Array], Array]] = {}
    if class_name == "Conv1D":
        moves["kernel"] = lambda kernel: _of_one_axis(kernel, config)
    elif class_name in ("Conv2D", "SeparableConv2D") and first:
        moves |= dict.fromkeys(("kernel", "depthwise_kernel", "pointwise_kernel"), _moved((2, 3, 1, 0)))
    elif class_name == "Conv3D" and first:
        moves["kernel"] = _moved((2, 3, 4, 1, 0))
    elif class_name == "Conv2DTranspose":
        moves["kernel"] = _moved((2, 3, 0, 1) if first else (0, 1, 3, 2))
    try:
        return {name: moves[name](array) if name in moves else array for name, array in arrays.items()}
    except ValueError as error:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ConversionError(f"{where}: has arrays of the shapes {shapes}, which Keras 1 does not write") from error


def _moved(order: Sequence[int]) -> Callable[[Array], Array]:
    return lambda array: np.ascontiguousarray(array.transpose(order))


def _of_one_axis(kernel: Array, config: Config) -> Array:
    """[taps, 1, C, filters], or [filters, C, taps, 1] before Keras 1.2, as [taps, C, filters]."""
    taps = config["kernel_size"]
    taps = taps[0] if isinstance(taps, list) else taps
    if kernel.ndim != 4:
        raise ValueError("rank")
    if kernel.shape[:2] != (taps, 1) or kernel.shape[3] != config["filters"]:
        kernel = kernel.transpose(2, 3, 1, 0)
    if kernel.shape[:2] != (taps, 1):
        raise ValueError("shape")
    return np.ascontiguousarray(kernel[:, 0])
