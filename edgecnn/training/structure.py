"""The same network of cheaper parts: each function gives a new model, ready to fine-tune, and leaves the given one alone.

separable            an ordinary convolution  =>  depthwise, then 1 x 1, from a factorisation of the trained kernel
average_pooling      maximum pooling  =>  average pooling
batch_normalization  convolution -> activation  =>  convolution -> batch normalisation -> activation
activation           one activation function in place of another
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.training.keras_models import (
    REFRESH_BATCHES,
    ArrayBatches,
    Copier,
    again,
    batches,
    check_model,
    import_keras,
    in_order,
    is_graph,
    iterate,
    rebuild,
    to_array,
)

Array = np.ndarray[Any, Any]

REPLACED = (
    "relu",
    "relu6",
    "silu",
    "swish",
    "gelu",
    "elu",
    "selu",
    "leaky_relu",
    "hard_swish",
    "hard_silu",
    "mish",
    "tanh",
)
"""Activations between layers, which `activation` replaces; gates (sigmoid) and answers (softmax) have a meaning of their own."""


def separable(model: Any, layers: Sequence[str] | None = None) -> Any:
    """Turn ordinary convolutions of one or two axes into depthwise-separable ones.

    Each kernel (h, w, in, out), or (w, in, out), becomes a depthwise one (h, w, in, 1) and a pointwise one (1, 1, in, out) whose
    product is nearest to it by least squares: for each input channel, the best approximation of rank 1.

    Args:
        model: functional or sequential.
        layers: names, or patterns of names; None: all convolutions with a window larger than one pixel, but the first one.

    Returns:
        A model whose layers keep their names. It has to be fine-tuned.

    Raises:
        InputError: a model that cannot be followed; a name that is no such layer's; no such layer at all.

    Source: Chollet 2017, arXiv 1610.02357 (the structure); Eckart & Young 1936 (the best approximation, by singular values).
    """
    keras = _check(model)
    kinds = {
        keras.layers.Conv1D: keras.layers.SeparableConv1D,
        keras.layers.Conv2D: keras.layers.SeparableConv2D,
    }
    convolutions = [layer for _, layer in _layers(model) if type(layer) in kinds]
    able = [
        layer
        for layer in convolutions
        if layer.groups == 1 and max(layer.kernel_size) > 1 and len({*layer.strides}) == 1
        and not (max(layer.strides) > 1 and max(layer.dilation_rate) > 1)
    ]  # fmt: skip
    if layers is None:
        able = [layer for layer in able if layer is not convolutions[0]]
    chosen = _named(model, able, layers, "a convolution with a window and one group")

    def replace(path: str, layer: Any, copier: Copier) -> Any:
        config = layer.get_config()
        shared = (
            "filters",
            "kernel_size",
            "strides",
            "padding",
            "data_format",
            "dilation_rate",
            "use_bias",
            "trainable",
        )
        new = kinds[type(layer)](
            name=copier.unique(path),
            activation=config["activation"],
            bias_initializer=config["bias_initializer"],
            bias_regularizer=config["bias_regularizer"],
            activity_regularizer=config["activity_regularizer"],
            bias_constraint=config["bias_constraint"],
            depthwise_regularizer=config["kernel_regularizer"],
            pointwise_regularizer=config["kernel_regularizer"],
            dtype=config["dtype"],
            **{name: config[name] for name in shared},
        )
        kernel = to_array(layer.kernel)
        factors = factorise(kernel.reshape(-1, *kernel.shape[-3:]))  # a window of one axis is a row

        def fill() -> None:
            for variable, factor in zip((new.depthwise_kernel, new.pointwise_kernel), factors, strict=True):
                variable.assign(factor.reshape(tuple(variable.shape)))
            if layer.use_bias:
                new.bias.assign(to_array(layer.bias))

        return new, fill

    return _replaced(model, chosen, replace)


def factorise(kernel: Array) -> tuple[Array, Array]:
    """Depthwise and pointwise kernels whose product is nearest to a kernel.

    Args:
        kernel: (h, w, in, out).

    Returns:
        (h, w, in, 1) and (1, 1, in, out) with the least sum of squares of kernel[h, w, i, o] - depthwise[h, w, i] * pointwise[i, o];
        both factors of a channel have the same norm, so that one learning rate suits them.
    """
    height, width, channels, filters = kernel.shape
    matrices = kernel.astype(np.float64).reshape(height * width, channels, filters).transpose(1, 0, 2)
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    root = np.sqrt(values[:, :1])
    depthwise = (left[:, :, 0] * root).T.reshape(height, width, channels, 1)
    pointwise = (right[:, 0, :] * root).reshape(1, 1, channels, filters)
    return depthwise.astype(kernel.dtype), pointwise.astype(kernel.dtype)


def average_pooling(model: Any, layers: Sequence[str] | None = None) -> Any:
    """Put average pooling where there is maximum pooling (global pooling included), with the same windows and names.

    Args:
        model, layers: as for `separable`; None: all of them.

    Raises:
        InputError: as for `separable`.
    """
    keras = _check(model)
    pairs = {
        getattr(keras.layers, f"{word}Max{rest}"): getattr(keras.layers, f"{word}Average{rest}")
        for word in ("", "Global")
        for rest in ("Pooling1D", "Pooling2D", "Pooling3D")
    }
    chosen = _named(model, [layer for _, layer in _layers(model) if type(layer) in pairs], layers, "maximum pooling")

    def replace(path: str, layer: Any, copier: Copier) -> Any:
        return pairs[type(layer)].from_config({**layer.get_config(), "name": copier.unique(path)}), None

    return _replaced(model, chosen, replace)


def batch_normalization(model: Any, data: Any = None, layers: Sequence[str] | None = None) -> Any:
    """Normalise the outputs of convolutions before their activation.

    Args:
        model: functional or sequential.
        data: as for `prune`; statistics are averaged over it, and scale and shift are set such that the new model answers as the
            old one did. None: statistics of a fresh layer (mean 0, variance 1).
        layers: as for `separable`; None: every convolution of one to three axes that no batch normalisation follows.

    Raises:
        InputError: as for `separable`.
    """
    keras = _check(model)
    kinds = tuple(
        getattr(keras.layers, name) for name in ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D")
    )
    normal = keras.layers.BatchNormalization
    pairs = _pairs(model)
    read = {id(source) for source, _ in pairs}
    followed = {id(source) for source, reader in pairs if isinstance(reader, normal)}
    able = [layer for _, layer in _layers(model) if isinstance(layer, kinds) and id(layer) not in followed]
    chosen = _named(model, able, layers, "a convolution that no batch normalisation follows")
    added: list[Any] = []

    def replace(path: str, layer: Any, copier: Copier) -> Any:
        function = layer.activation
        linear = function is None or function is keras.activations.linear
        # The layer's name is the convolution's; but an output is called as what answers, which comes last.
        parts = ["convolution", "normalization"] if linear else ["convolution", "normalization", "activation"]
        kept = 0 if id(layer) in read else len(parts) - 1
        names = [copier.unique(path if number == kept else f"{path}_{part}") for number, part in enumerate(parts)]
        twin = again(layer, name=names[0], activation=None)
        axis = 1 if layer.data_format == "channels_first" else -1
        between = normal(axis=axis, name=names[1])
        added.append(between)
        after = None if linear else keras.layers.Activation(function, name=names[2])

        def call(x: Any) -> Any:
            x = between(twin(x))
            return x if after is None else after(x)

        def fill() -> None:
            for old, new in zip(layer.variables, twin.variables, strict=True):
                new.assign(to_array(old))
            # A fresh layer divides by the root of 1 + epsilon; this undoes it.
            between.gamma.assign(np.full(between.gamma.shape, np.sqrt(1 + between.epsilon)))

        return call, fill

    new = _replaced(model, chosen, replace)
    if data is not None:
        _settle(new, added, batches(data, 32))
    return new


def _settle(model: Any, added: Sequence[Any], data: Any) -> None:
    """Statistics from data; scale and shift that undo them, so that nothing changes.

    All layers at once: as they were added they change nothing, so what each of them reads is what the model always had there.
    """
    keras = import_keras()
    reads = [[node.input_tensors[0] for node in layer._inbound_nodes] for layer in added]
    probe = keras.Model(model.inputs, [tensor for tensors in reads for tensor in tensors])
    sums = [np.zeros((2, layer.gamma.shape[0])) for layer in added]
    count = 0
    for batch in iterate(data.shuffled(0) if isinstance(data, ArrayBatches) else data, REFRESH_BATCHES):
        found = iter(probe.predict_on_batch(batch[0]) if len(probe.outputs) > 1 else [probe.predict_on_batch(batch[0])])
        for layer, tensors, total in zip(added, reads, sums, strict=True):
            for _ in tensors:  # more than one where the layer is shared
                array = np.asarray(next(found), np.float64)
                axes = tuple(axis for axis in range(array.ndim) if axis != layer.axis % array.ndim)
                total += np.stack([array.mean(axis=axes), array.var(axis=axes)]) / len(tensors)
        count += 1
    for layer, (mean, variance) in zip(added, sums, strict=True):
        layer.moving_mean.assign(mean / count)
        layer.moving_variance.assign(variance / count)
        layer.gamma.assign(np.sqrt(to_array(layer.moving_variance) + layer.epsilon))
        layer.beta.assign(to_array(layer.moving_mean))


def activation(model: Any, name: str, layers: Sequence[str] | None = None) -> Any:
    """Put another activation function between the layers.

    Args:
        model: functional or sequential.
        name: one of keras.activations, such as "relu", "relu6" or "hard_swish".
        layers: as for `separable`; None: all with an activation of a rectifier's kind; not sigmoid, softmax or linear ones, nor those
            whose answer is one of the model's, nor recurrent ones.

    Raises:
        InputError: no such activation; else as for `separable`.
    """
    keras = _check(model)
    try:
        function = keras.activations.get(name)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"activation {name!r}: Keras has none of that name; some are relu, relu6, hard_swish"
        ) from error
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
    able = [
        layer
        for _, layer in _layers(model)
        if isinstance(layer, kinds)
        or (
            getattr(getattr(layer, "activation", None), "__name__", "") in REPLACED
            and not isinstance(layer, keras.layers.RNN)  # its activation is part of how it remembers
        )
    ]
    if layers is None:
        read = {id(source) for source, _ in _pairs(model)}
        able = [layer for layer in able if id(layer) in read]
    chosen = _named(model, able, layers, "an activation that can be replaced")

    def replace(path: str, layer: Any, copier: Copier) -> Any:
        unique = copier.unique(path)
        if isinstance(layer, kinds):
            return keras.layers.Activation(function, name=unique), None
        twin = again(layer, name=unique, activation=name)

        def fill() -> None:
            for old, new in zip(layer.variables, twin.variables, strict=True):
                new.assign(to_array(old))

        return twin, fill

    return _replaced(model, chosen, replace)


def _check(model: Any) -> Any:
    keras = check_model(model)
    if not is_graph(model):
        raise InputError(f"model {model.name!r}: wanted a functional or sequential model; this is a subclass")
    return keras


def _layers(model: Any) -> list[tuple[str, Any]]:
    """Layers in the order in which they compute, each once, with their paths."""
    found: dict[int, tuple[str, Any]] = {}
    for path, layer, _ in in_order(model):
        found.setdefault(id(layer), (path, layer))
    return list(found.values())


def _pairs(model: Any) -> list[tuple[Any, Any]]:
    """(layer, the one that reads its answer), for every connection."""
    return [(source, layer) for _, layer, sources in in_order(model) for source in sources]


def _named(model: Any, able: Sequence[Any], names: Sequence[str] | None, what: str) -> list[Any]:
    """Those of the layers that are asked for."""
    names = (names,) if isinstance(names, str) else names
    for name in names or ():
        if not any(fnmatchcase(layer.name, name) for layer in able):
            known = ", ".join(layer.name for layer in able) or "none"
            raise InputError(f"layers: {name!r} is not {what} of model {model.name!r}; it has: {known}")
    chosen = [layer for layer in able if names is None or any(fnmatchcase(layer.name, name) for name in names)]
    if not chosen:
        raise InputError(f"model {model.name!r} has nothing to replace: wanted {what}")
    return chosen


def _replaced(model: Any, chosen: Sequence[Any], replace: Any) -> Any:
    """The model with other layers in place of the chosen ones.

    Args:
        replace: (path, layer, copier) -> what is called in its place, and what fills its weights once it is built, or None.
    """
    copier, wanted, fills = Copier(), {id(layer) for layer in chosen}, []

    def call(path: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        if id(layer) not in wanted:
            return copier.copy(path, layer, *arguments, **options)
        if id(layer) not in copier.copies:
            copier.copies[id(layer)], fill = replace(path, layer, copier)
            if fill is not None:
                fills.append(fill)
        return copier.copies[id(layer)](*arguments, **options)

    new = rebuild(model, call)
    for fill in fills:
        fill()
    return new
