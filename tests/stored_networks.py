"""Keras files that need no Keras to be made: the layout of an .h5 file is stored as text, its weights are drawn.

`tests/networks/stored/NAME.json` holds the attributes and the shapes of a file that Keras wrote, `NAME.npy` what Keras answered
to `image(NAME)` in float64. `python tests/stored_networks.py`, where Keras is installed, writes both anew, for the
networks named or for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "networks" / "stored"
LARGE = ("mobilenet_v2",)
"""Some hundred million multiply-adds: a few seconds on an emulated CPU."""


def names() -> list[str]:
    """All stored networks."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def uniform(generator: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    """float32 numbers by additions and multiplications alone: the same bits on every machine."""
    return (low + (high - low) * generator.random(shape)).astype(np.float32)


def drawn(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """A weight of plausible size, by Keras' name of it."""
    kind = name.split("/")[-1].split(":")[0]
    if kind in ("gamma", "moving_variance"):
        return uniform(generator, 0.5, 1.5, shape)
    if "kernel" not in kind:
        return uniform(generator, -0.1, 0.1, shape)
    terms = math.prod(shape[:-2] if kind == "depthwise_kernel" else shape[:-1])
    limit = math.sqrt(6 / terms)  # He et al. 2015, section 2.2: keeps the size of what passes through
    return uniform(generator, -limit, limit, shape)


def write_h5(name: str, path: Path) -> None:
    """Write the Keras file of a stored network."""
    import h5py

    layout = json.loads((FOLDER / f"{name}.json").read_text())
    generator = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for place, attributes in layout["attributes"].items():
            group = file.require_group(place)
            for key, value in attributes.items():
                group.attrs[key] = np.array([v.encode() for v in value], "S") if isinstance(value, list) else value
        for place, shape in layout["weights"]:
            file[place] = drawn(place, tuple(shape), generator)


def image(name: str) -> np.ndarray:
    """The input that the stored answer belongs to."""
    shape = json.loads((FOLDER / f"{name}.json").read_text())["input"]
    return uniform(np.random.default_rng(2), -1, 1, tuple(shape))


def answer(name: str) -> np.ndarray:
    """What Keras answers, in float64."""
    return np.load(FOLDER / f"{name}.npy")


def _plain(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = keras.Input((26, 23, 3))
    for filters, stride in ((12, 2), (20, 1)):
        x = layers.Conv2D(filters, 3, stride, "same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.ReLU(6.0)(x)
        x = layers.Conv2D(2 * filters, 1, activation="swish")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(37, 3, activation="tanh")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(50, "relu")(x)
    return keras.Model(inputs, layers.Dense(10, "softmax")(x))


def _branches(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((19, 22, 3))
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    parts = [
        layers.Conv2D(16, 1, activation="relu")(x),
        layers.Conv2D(16, 5, padding="same", activation="elu")(x),
        layers.Conv2D(12, (1, 7), padding="same")(x),
        layers.Conv2D(12, (7, 1), padding="same", activation="hard_sigmoid")(x),
        layers.AveragePooling2D(3, 1, "same")(x),
    ]
    x = layers.Concatenate()(parts)
    x = layers.Conv2D(64, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(8, 1, activation="relu")(squeezed)
    x = layers.Multiply()([x, layers.Conv2D(64, 1, activation="sigmoid")(squeezed)])
    y = layers.Conv2D(64, 3, padding="same", activation="hard_swish")(x)
    x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.DepthwiseConv2D(5, 2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(7)(x))


def _decoder(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((13, 12, 5))
    x = layers.Conv2D(16, 3, padding="same", dilation_rate=2, activation="leaky_relu")(inputs)
    x = layers.LayerNormalization()(x)
    x = layers.Conv2D(16, 3, padding="same", groups=4, activation="gelu")(x)
    x = layers.Conv2DTranspose(14, 3, 2, "same", activation="softplus")(x)
    x = layers.SeparableConv2D(10, 3, padding="same", activation="mish")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = layers.Cropping2D(((0, 3), (1, 1)))(x)
    x = layers.PReLU(shared_axes=(1, 2))(x)
    return keras.Model(inputs, layers.Conv2D(3, 1, activation="sigmoid")(x))


def _wide(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = keras.Input((14, 14, 32))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(56, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(256, 1, activation="relu")(x)
    x = layers.Conv2D(256, 1)(x)
    x = layers.LayerNormalization()(x)
    x = layers.Conv2D(40, 3, 2, activation="exponential")(x)
    return keras.Model(inputs, layers.GlobalMaxPooling2D()(x))


def _series(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = keras.Input((96, 4))
    x = layers.Conv1D(20, 9, 2, padding="causal", activation="selu")(x)
    x = layers.Conv1D(24, 3, padding="same", activation="softsign")(x)
    x = layers.MaxPooling1D(3)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def _mobilenet_v2(keras: Any) -> Any:
    return keras.applications.MobileNetV2(weights=None, classifier_activation=None)


def _store(name: str, build: Callable[[Any], Any]) -> None:
    import tempfile

    import h5py
    import keras

    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    keras.config.set_floatx("float32")
    model = build(keras)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.h5")
        model.save(path)
        attributes: dict[str, dict[str, Any]] = {}
        weights: list[tuple[str, list[int]]] = []
        with h5py.File(path) as file:
            attributes["/"] = {key: file.attrs[key] for key in ("keras_version", "backend", "model_config")}
            file.visititems(
                lambda place, item: (
                    weights.append((place, list(item.shape)))
                    if isinstance(item, h5py.Dataset)
                    else attributes.update(
                        {place: {k: v if isinstance(v, str) else [str(x) for x in v] for k, v in item.attrs.items()}}
                    )
                )
            )
        attributes = {place: found for place, found in attributes.items() if found}
        shape = [1, *model.input_shape[1:]]
        layout = {"input": shape, "attributes": attributes, "weights": weights}
        (FOLDER / f"{name}.json").write_text(json.dumps(layout, separators=(",", ":")) + "\n")
        write_h5(name, path)
        keras.backend.clear_session()
        keras.config.set_floatx("float64")
        exact = build(keras)
        exact.load_weights(path)
        found = np.asarray(exact(image(name).astype(np.float64)))
        assert found.dtype == np.float64
        np.save(FOLDER / f"{name}.npy", found)
        keras.config.set_floatx("float32")
        single = np.asarray(keras.models.load_model(path, compile=False)(image(name)))
        print(
            name,
            found.shape,
            "largest",
            np.abs(found).max(),
            "Keras in float32 differs by",
            np.abs(single - found).max(),
        )


if __name__ == "__main__":
    import sys

    FOLDER.mkdir(exist_ok=True)
    for builder in (_plain, _branches, _decoder, _wide, _series, _mobilenet_v2):
        if not sys.argv[1:] or builder.__name__[1:] in sys.argv[1:]:
            _store(builder.__name__[1:], builder)
