"""Whole numbers and truth values: Keras' own answers, or a refusal; nothing is computed in floats that Keras computes otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS
from edgecnn.converters.layers.integers import (
    ARITHMETIC,
    CASTS,
    CASTS_IN_KERAS_2,
    CHOOSES,
    COMPARES,
    MOVES,
    QUOTIENTS,
    TRUTHS,
)

keras = pytest.importorskip("keras")
layers, ops = keras.layers, keras.ops
pytestmark = pytest.mark.filterwarnings("ignore")

Function = Callable[[Any], Any]
SHAPE = (12, 18, 4)


def model_of(function: Function, dtype: str) -> Any:
    x = keras.Input(SHAPE, dtype=dtype)
    return keras.Model(x, function(x))


def values(dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.integers(0, 2, (3, *SHAPE)).astype(bool)
    low, high = (0, 256) if dtype == "uint8" else (-128, 128) if dtype == "int8" else (-1000, 1000)
    return rng.integers(low, high, (3, *SHAPE)).astype(dtype)


EXACT: dict[str, tuple[Function, tuple[str, ...]]] = {
    "nearest": (lambda x: layers.Resizing(5, 7, interpolation="nearest")(x), ("uint8", "int32")),
    "nearest function": (lambda x: ops.image.resize(x, (5, 7), interpolation="nearest"), ("uint8", "int32")),
    "rescaling": (lambda x: layers.Rescaling(1 / 127.5, -1)(x), ("uint8", "int8", "int32", "bool")),
    "rescaling after moves": (
        lambda x: layers.Rescaling(1 / 255)(
            layers.ZeroPadding2D(1)(layers.Cropping2D(2)(layers.Permute((2, 1, 3))(x)))
        ),
        ("uint8", "int32"),
    ),
    "normalization": (lambda x: layers.Normalization(mean=3.0, variance=2.0)(x), ("uint8", "int32")),
    "batch normalization": (lambda x: layers.BatchNormalization()(x), ("uint8", "int32")),
    "dense": (lambda x: layers.Dense(3)(x), ("uint8", "int32")),
    "cast": (lambda x: ops.cast(x, "float32") / 255.0, ("uint8", "int8", "int32", "bool")),
    "cast to wider": (lambda x: ops.cast(ops.cast(x, "int32"), "float32"), ("uint8", "int8", "bool")),
    "cast to truth": (lambda x: ops.cast(ops.cast(x, "bool"), "float32"), ("uint8", "int32")),
    "quotient": (lambda x: x / 255, ("uint8", "int32")),
    "difference to a float": (lambda x: x - 127.5, ("uint8", "int32")),
    "product with a float": (lambda x: x * 0.5, ("uint8", "int32")),
    "product with an array of floats": (lambda x: x * np.full(4, 0.5, "float32"), ("uint8", "int32")),
    "sum with a float tensor": (lambda x: ops.cast(x, "float32") + x, ("uint8", "int32")),
    "largest": (lambda x: ops.max(x, axis=-1), ("uint8", "int32")),
    "larger": (lambda x: ops.maximum(x, 100), ("uint8", "int32")),
    "mean": (lambda x: ops.mean(x, axis=(1, 2)), ("uint8", "int32")),
    "pooled": (lambda x: layers.Rescaling(1 / 255)(layers.MaxPooling2D(2, padding="same")(x)), ("uint8", "int32")),
    "pooled mean": (lambda x: layers.GlobalAveragePooling2D()(x), ("uint8", "int32")),
    "compared": (lambda x: ops.cast(x > 100, "float32"), ("uint8", "int32")),
    "chosen": (lambda x: ops.where(x > 100, x, 0), ("uint8", "int32")),
    "truths": (lambda x: ops.logical_and(x > 3, ops.logical_not(x > 100)), ("uint8", "int32")),
    "joined": (lambda x: ops.concatenate([x, x[:, :, ::-1]], axis=1), ("uint8", "int32", "bool")),
    "padded": (lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=3), ("uint8", "int32")),
    "dropout": (lambda x: layers.Dropout(0.5)(x), ("uint8", "int32")),
    "augmentation": (lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x)), ("uint8", "int32")),
    "enlarged": (lambda x: layers.UpSampling2D(2)(x), ("uint8", "int32")),
    "inner model of floats": (
        lambda x: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3)])(x),
        ("uint8", "int32"),
    ),
    "each frame": (lambda x: layers.TimeDistributed(layers.Rescaling(1 / 255))(x), ("uint8",)),
}
REFUSED: dict[str, tuple[Function, tuple[str, ...]]] = {
    "linear resizing": (lambda x: layers.Resizing(5, 7)(x), ("uint8", "int32")),
    "linear resizing function": (lambda x: ops.image.resize(x, (5, 7)), ("uint8", "int32")),
    "linear enlarging": (lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x), ("uint8", "int32")),
    "difference": (lambda x: x - 128, ("uint8", "int32")),
    "sum": (lambda x: x + 1, ("uint8", "int32")),
    "product": (lambda x: x * 2, ("uint8", "int32")),
    "sum with an array": (lambda x: x + np.full(4, 200, "uint8"), ("uint8",)),
    "sum of two": (lambda x: layers.Add()([x, x]), ("uint8", "int32")),
    "sum of all": (lambda x: ops.sum(x, axis=(1, 2)), ("uint8", "int32")),
    "floor of a quotient": (lambda x: x // 16, ("uint8", "int32")),
    "remainder": (lambda x: x % 16, ("uint8", "int32")),
    "negative": (lambda x: -x, ("uint8", "int32")),
    "square": (lambda x: ops.square(x), ("uint8", "int32")),
    "size": (lambda x: ops.abs(x), ("int8", "int32")),
    "cut": (lambda x: ops.cast(x, "int8"), ("uint8", "int32")),
    "an inner model of whole numbers": (
        lambda x: keras.Model(y := keras.Input(SHAPE, dtype="int32"), layers.Rescaling(0.5)(y))(x),
        ("uint8",),
    ),
    "each frame": (lambda x: layers.TimeDistributed(layers.UpSampling1D(2))(x - 3), ("int32",)),
}
CASES = [(name, dtype) for name, (_, dtypes) in EXACT.items() for dtype in dtypes]
REFUSED_CASES = [(name, dtype) for name, (_, dtypes) in REFUSED.items() for dtype in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_whole_numbers_are_computed_as_keras_does(name: str, dtype: str) -> None:
    model = model_of(EXACT[name][0], dtype)
    x = values(dtype)
    expected = np.asarray(model(x, training=False)).astype(np.float32)
    got = edgecnn.load(to_graph(model))(x.astype(np.float32))
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize(("name", "dtype"), REFUSED_CASES)
def test_arithmetic_of_whole_numbers_is_refused_by_name(name: str, dtype: str) -> None:
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match=r"whole numbers|it casts|its input is of"):
        to_graph(model_of(REFUSED[name][0], dtype))


def test_floats_are_not_cast_to_whole_numbers() -> None:
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="float32 to uint8"):
        to_graph(model_of(lambda x: ops.cast(ops.cast(x * 255.0, "uint8"), "float32"), "float32"))


def test_a_truth_value_is_a_float_once_it_is_cast() -> None:
    model = model_of(lambda x: ops.cast(x > 0.5, "float32") * x + ops.cast(ops.cast(x, "bool"), "float32"), "float32")
    x = np.random.default_rng(0).integers(-2, 3, (3, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(edgecnn.load(to_graph(model))(x), np.asarray(model(x)))


def test_keras_2_averages_whole_numbers_to_whole_numbers() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    x = tf_keras.layers.Input(SHAPE, dtype="uint8")
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="whole numbers"):
        to_graph(tf_keras.Model(x, tf_keras.layers.GlobalAveragePooling2D()(x)))
    model = tf_keras.Model(x, tf_keras.layers.Rescaling(1 / 255)(tf_keras.layers.MaxPooling2D(2)(x)))
    given = values("uint8")
    np.testing.assert_allclose(
        edgecnn.load(to_graph(model))(given.astype(np.float32)), np.asarray(model(given)), rtol=2e-6
    )


def test_each_name_in_the_tables_is_of_a_function_that_is_supported() -> None:
    tables = MOVES | CASTS | CASTS_IN_KERAS_2 | COMPARES | TRUTHS | QUOTIENTS | ARITHMETIC | CHOOSES
    assert not tables - LAYERS.keys()
