"""Networks of keras.applications and of edgecnn.zoo, with weights that make their answers tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecnn import zoo

ZOO = ("alexnet", "googlenet", "se_resnet50", "se_resnet101", "se_resnet152", "senet154")


def build(name: str, **options: Any) -> Any:
    """A network with random weights and a linear end: a softmax would hide most of what goes before.

    Args:
        options: of its builder, such as input_shape.
    """
    import keras

    keras.utils.set_random_seed(1)
    if name in ZOO:
        return getattr(zoo, name)(**options)
    return getattr(keras.applications, name)(weights=None, classifier_activation=None, **options)


def calibrate(model: Any, photo: np.ndarray, seed: int) -> None:
    """Random scales, offsets and statistics for every batch normalisation, near those of the photo: with others the values
    of a deep network grow beyond all bounds. Scales are small, and smaller where a shortcut is added, as in trained networks:
    else a network of a hundred layers is chaotic, and no two ways of rounding agree (with scales around 1 Keras is off by
    1e-2 on EfficientNetB4, where the same network in float64 is the truth; we are by 6e-4)."""
    import keras

    rng = np.random.default_rng(seed)
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    position = {id(layer): index for index, layer in enumerate(model.layers)}
    added = set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            before = [tensor._keras_history.operation for tensor in layer.input]
            last = max(before, key=lambda operation: position.get(id(operation), -1))
            while isinstance(last, keras.layers.Dropout | keras.layers.Multiply):
                given = last.input if isinstance(last.input, list) else [last.input]
                last = given[0]._keras_history.operation
            added.add(id(last))
            if isinstance(last, keras.layers.Conv2D):  # of networks that normalise before they convolve
                last.kernel.assign(0.2 * last.kernel)
    for layer in layers:
        if layer.gamma is not None:
            size = 0.06 if id(layer) in added else 0.3
            layer.gamma.assign(size * rng.uniform(0.5, 1.5, layer.gamma.shape))
        if layer.beta is not None:
            layer.beta.assign(rng.normal(0, 0.06, layer.beta.shape))
        layer.momentum = 0.0
    if layers:
        model(photo, training=True)  # each takes the statistics of what it sees
    for layer in layers:
        layer.momentum = 0.99
        deviation = np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
        layer.moving_mean.assign(layer.moving_mean + 0.2 * deviation * rng.normal(size=deviation.shape))
        layer.moving_variance.assign(layer.moving_variance * rng.uniform(0.7, 1.4, deviation.shape) + layer.epsilon)
