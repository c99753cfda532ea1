"""TimeDistributed of anything that works on one image: layers, models, models with such layers in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import edgecnn
import strategies
from edgecnn.converters import to_graph
from edgecnn.converters.layers.reading import NOTHING_AT_INFERENCE

keras = pytest.importorskip("keras")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore")

ONE_INPUT = sorted(
    name
    for name in strategies.LAYERS
    if name not in NOTHING_AT_INFERENCE
    # (TensorFlow 2.21 computes a Conv3D wrongly once it has computed one of other strides.)
    and name not in ("Conv3D", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot")
)


def assert_agrees(model: Any, source: Any = None) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, (3, *(size or 4 for size in model.input_shape[1:]))).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    got = edgecnn.load(to_graph(model if source is None else source))(x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


def with_weights(model: Any) -> Any:
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(0.5, 1.5, w.shape) * rng.choice([1, 1, -1]) ** (w.ndim > 1) for w in model.get_weights()]
    )
    return model


@pytest.mark.parametrize("class_name", ONE_INPUT)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_any_layer_on_each_frame(class_name: str, data: st.DataObject) -> None:
    _, settings_of, (shape,) = data.draw(strategies.LAYERS[class_name]())
    assume(settings_of.get("data_format") != "channels_first")  # (TensorFlow computes few of them on a CPU.)
    x = keras.Input((3, *shape))
    try:
        model = keras.Model(x, layers.TimeDistributed(getattr(layers, class_name)(**settings_of))(x))
    except ValueError:
        assume(False)  # (Keras itself wraps no layer whose output has one axis less than it needs.)
    assert_agrees(with_weights(model))


def _chain() -> Any:
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D(),
        ]
    )


def _graph() -> Any:
    x = keras.Input((16, 16, 3))
    y = layers.BatchNormalization()(layers.Conv2D(6, 3)(x))
    y = layers.SeparableConv2D(6, 3, padding="same")(y)
    y = layers.Concatenate()([y, layers.Conv2DTranspose(2, 3, padding="same")(y)])
    y = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(y))
    y = keras.ops.mean(y * keras.ops.softmax(y, axis=1), axis=(1, 2))
    return keras.Model(x, layers.Dense(3)(layers.GroupNormalization(2)(y)))


def _inside() -> Any:
    x = keras.Input((4, 16, 16, 3))
    return keras.Model(x, layers.Flatten()(layers.TimeDistributed(_chain())(x)))


MODELS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...]]] = {
    "chain": (_chain, (5, 16, 16, 3)),
    "graph": (_graph, (5, 16, 16, 3)),
    "one frame": (_graph, (1, 16, 16, 3)),
    "frames of frames": (_inside, (2, 4, 16, 16, 3)),
    "a model in a model": (
        lambda: keras.Sequential([keras.Input((16, 16, 3)), _graph(), layers.Dense(2)]),
        (5, 16, 16, 3),
    ),
}


@pytest.mark.parametrize("suffix", ["live", ".keras", ".h5"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_on_each_frame(name: str, suffix: str, tmp_path: Path) -> None:
    make, shape = MODELS[name]
    x = keras.Input(shape)
    y = layers.TimeDistributed(make())(x)
    model = with_weights(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(y))))
    if suffix == "live":
        assert_agrees(model)
    else:
        model.save(tmp_path / f"model{suffix}")
        assert_agrees(model, tmp_path / f"model{suffix}")


def test_any_number_of_frames_where_all_of_them_are_computed_at_once() -> None:
    x = keras.Input((None, 9, 9, 3))
    inner = keras.Sequential([keras.Input((9, 9, 3)), layers.Conv2D(4, 3), layers.ReLU(), layers.GlobalMaxPooling2D()])
    model = with_weights(keras.Model(x, layers.TimeDistributed(inner)(x)))
    converted = edgecnn.load(to_graph(model))
    for count in (1, 2, 7):
        given_frames = np.random.default_rng(count).normal(size=(2, count, 9, 9, 3)).astype(np.float32)
        np.testing.assert_allclose(converted(given_frames), np.asarray(model(given_frames)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "inner", [lambda: layers.Flatten(), lambda: layers.Reshape((-1, 4)), lambda: layers.Reshape((8, 2))]
)
def test_any_number_of_frames_that_get_another_shape(inner: Callable[[], Any]) -> None:
    x = layers.Input((None, 4, 4))
    model = keras.Model(x, layers.TimeDistributed(layers.Dense(3))(layers.TimeDistributed(inner())(x)))
    assert_agrees(with_weights(model))


def test_weights_are_stored_once_for_all_frames() -> None:
    x = keras.Input((16, 9, 9, 8))
    inner = keras.Sequential([keras.Input((9, 9, 8)), layers.Conv2D(32, 3), layers.Conv2D(32, 3)])
    graph = to_graph(keras.Model(x, layers.TimeDistributed(inner)(x)))
    assert [node.operator for node in graph.nodes] == ["conv", "conv"]


def test_an_unsupported_layer_in_a_model_in_a_wrapper_is_named_with_its_path() -> None:
    x = keras.Input((5, 16, 16, 3))
    inner = keras.Sequential([keras.Input((16, 16, 3)), layers.Lambda(lambda y: y * 2, name="twice")], name="inner")
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match=r"frames/twice \(Lambda\)"):
        to_graph(keras.Model(x, layers.TimeDistributed(inner, name="frames")(x)))
