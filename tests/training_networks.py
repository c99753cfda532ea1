"""Small Keras networks and data for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

SIZE = 8
CLASSES = 4


def seeded(test: Any) -> Any:
    """Marks a test that needs random layers to follow their seeds."""
    keras = pytest.importorskip("keras")
    reason = "Keras' PyTorch backend draws dropout from PyTorch's own generator, whatever a layer's seed"
    return pytest.mark.skipif(keras.backend.backend() == "torch", reason=reason)(test)


def values(variable: Any) -> Any:
    """A variable's or a tensor's values, whatever Keras computes with."""
    from keras import ops

    return np.array(ops.convert_to_numpy(variable))


def images(count: int = 48, seed: int = 0) -> tuple[Any, Any]:
    """(count, 8, 8, 3) and labels of 4 classes that can be learnt: which quarter is the brightest."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.uniform(0, 0.5, (count, SIZE, SIZE, 3)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        image[4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 1
    return x, y


def compiled(model: Any, seed: int = 0) -> Any:
    """With random weights, and statistics of batch normalisation that are not those of a fresh layer."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        positive = any(word in variable.path for word in ("variance", "gamma"))
        span = 3 / np.sqrt(np.prod(variable.shape[:-1]))  # activations keep their size, and answers differ
        low, high = (0.5, 1.5) if positive else (-span, span) if len(variable.shape) > 1 else (-0.5, 0.5)
        variable.assign(rng.uniform(low, high, variable.shape).astype(np.float32))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _ends(keras: Any, x: Any, inputs: Any, flat: bool = False) -> Any:
    layers = keras.layers
    x = layers.Flatten()(x) if flat else layers.GlobalAveragePooling2D()(x)
    return compiled(keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="answer")(x)))


def _normal(keras: Any, x: Any, filters: int, activation: str | None = "relu", **options: Any) -> Any:
    layers = keras.layers
    x = layers.Conv2D(filters, options.pop("size", 3), padding="same", **options)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def plain(keras: Any) -> Any:
    """Convolutions, dropout, flatten, two dense layers."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="stem"),
            layers.Conv2D(20, 3, padding="same", use_bias=False, name="second"),
            layers.BatchNormalization(name="normal"),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(CLASSES, activation="softmax", name="answer"),
        ]
    )
    return compiled(model)


def residual(keras: Any) -> Any:
    """Two residual blocks; the second one's sum is normalised after it (pre-activation)."""
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = _normal(keras, inputs, 8)
    shortcut = _normal(keras, x, 12, None, size=1)
    x = layers.Add()([_normal(keras, _normal(keras, x, 10), 12, None), shortcut])
    x = layers.ReLU()(x)
    x = x + _normal(keras, _normal(keras, x, 6, "swish"), 12, None)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return _ends(keras, _normal(keras, x, 9), inputs)


def concatenated(keras: Any) -> Any:
    """Two branches side by side, flattened into a dense layer."""
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = _normal(keras, inputs, 8)
    x = layers.Concatenate()([_normal(keras, x, 7), x, layers.MaxPooling2D(3, 1, "same")(_normal(keras, x, 5, size=1))])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(2)(_normal(keras, x, 6, strides=2))
    return _ends(keras, x, inputs, flat=True)


def depthwise(keras: Any) -> Any:
    """Depthwise with a multiplier and a bias, separable, transposed."""
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = _normal(keras, _normal(keras, inputs, 8), 10)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = _normal(keras, x, 12, size=1)
    x = layers.SeparableConv2D(11, 3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return _ends(keras, layers.Conv2DTranspose(7, 3, 2, activation="relu")(x), inputs)


def squeezed(keras: Any) -> Any:
    """Squeeze and excite around an inverted residual."""
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = trunk = _normal(keras, _normal(keras, inputs, 6), 8)
    x = _normal(keras, x, 16, "swish", size=1)
    s = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(x))
    s = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(6, 1, activation="relu")(s))
    x = layers.Multiply()([x, s])
    x = layers.Add()([trunk, _normal(keras, x, 8, None, size=1)])
    return _ends(keras, _normal(keras, x, 9), inputs)


def nested(keras: Any) -> Any:
    """A model inside the model, and a convolution that is called twice."""
    layers = keras.layers
    given = keras.Input((SIZE, SIZE, 8))
    inner = keras.Model(given, _normal(keras, _normal(keras, given, 10), 8), name="inner")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inner(_normal(keras, _normal(keras, inputs, 6), 8))
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    return _ends(keras, shared(shared(x)), inputs)


NETWORKS: dict[str, Callable[[Any], Any]] = {
    build.__name__: build for build in (plain, residual, concatenated, depthwise, squeezed, nested)
}
