"""Every registered Keras class against Keras 3 and tf-keras (Keras 2), over its configuration space."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import edgecnn
import strategies
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS, REFUSED
from keras_answers import keras_answers

pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_registered_class_has_a_strategy() -> None:
    classes = {name for name in LAYERS if not name.startswith(("ops.", "tf.", "onnx.", "tflite."))}
    assert classes == strategies.LAYERS.keys() | strategies.SYNONYMS.keys() | strategies.ELSEWHERE


@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_every_layer_of_keras_is_supported_or_refused_with_its_reason(which: str) -> None:
    keras = library(which)
    classes = {name for name, value in vars(keras.layers).items() if inspect.isclass(value)} - {"InputLayer"}
    assert len(classes) > 100
    unknown = sorted(classes - LAYERS.keys() - REFUSED.keys())
    assert not unknown, f"neither supported nor on the list in converters/layers/refused.py: {unknown}"
    assert not LAYERS.keys() & REFUSED.keys()


def library(name: str) -> Any:
    return pytest.importorskip(name)


def model_of(keras: Any, arguments: strategies.Arguments, seed: int) -> Any:
    """A model of the one layer, with random weights (variances positive)."""
    class_name, settings_of, shapes = arguments
    inputs = [keras.layers.Input(shape, name=f"input_{i}") for i, shape in enumerate(shapes)]
    layer = getattr(keras.layers, class_name)(**settings_of)
    outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    model = keras.Model(inputs, outputs)
    # Keras 3.15 adds a channels_first bias along the last axis where that is as long as the channels.
    wrong = settings_of.get("data_format") == "channels_first" and settings_of.get("use_bias")
    assume(not (wrong and model.output_shape[1] == model.output_shape[-1]))
    rng = np.random.default_rng(seed)
    layer.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if "variance" in v.name else rng.uniform(-1, 1, w.shape)
            for v, w in zip(layer.weights, layer.get_weights(), strict=True)
        ]
    )
    return model


def assert_agrees(model: Any, source: Any, shapes: list[tuple[int, ...]], seed: int) -> None:
    """The converted model answers as Keras does. A batch of 19: no other size here is that. (Keras 3.15 takes what is to be
    added for a bias where its batch is as long as the other operand's first axis or last.)"""
    rng = np.random.default_rng(seed)
    xs = [rng.uniform(-2, 2, (19, *shape)).astype(np.float32) for shape in shapes]
    expected = keras_answers(model, xs if len(xs) > 1 else xs[0])
    got = edgecnn.load(to_graph(source))(*xs)
    assert got.shape == expected.shape
    # Sums of up to 4 * 4 * 9 products of values up to 2: errors of some 1e-6, times an activation's slope.
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("class_name", sorted(strategies.LAYERS))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_layer_answers_as_in_keras_3(class_name: str, data: st.DataObject, seed: int) -> None:
    arguments = data.draw(strategies.LAYERS[class_name]())
    model = model_of(library("keras"), arguments, seed)
    assert_agrees(model, model, arguments[2], seed)


@pytest.mark.sweep
@pytest.mark.parametrize("class_name", sorted(strategies.LAYERS))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_layer_answers_as_in_keras_3_in_the_long_run(class_name: str, data: st.DataObject, seed: int) -> None:
    arguments = data.draw(strategies.LAYERS[class_name]())
    model = model_of(library("keras"), arguments, seed)
    assert_agrees(model, model, arguments[2], seed)


@pytest.mark.parametrize("class_name", sorted(strategies.LAYERS))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_layer_answers_as_in_keras_2(class_name: str, data: st.DataObject, seed: int) -> None:
    keras = library("tf_keras")
    if not hasattr(keras.layers, class_name):
        pytest.skip(f"Keras 2 has no {class_name}")
    name, settings_of, shapes = data.draw(strategies.LAYERS[class_name]())
    if class_name in ("Resizing", "CenterCrop", "ZeroPadding1D"):  # of channels_last only, in Keras 2
        assume(settings_of.pop("data_format") == "channels_last")
    for argument in strategies.KERAS_3_ARGUMENTS.get(class_name, ()):
        settings_of.pop(argument, None)
    arguments = (name, settings_of, shapes)
    model = model_of(keras, arguments, seed)
    assert_agrees(model, model, arguments[2], seed)


@pytest.mark.parametrize("function", [*strategies.FUNCTIONS, *strategies.KERAS_3_FUNCTIONS])
@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_activation_of_every_usual_name(function: str, which: str, tmp_path: Path) -> None:
    keras = library(which)
    if not hasattr(keras.activations, function) and which == "tf_keras" and function not in ("relu6", "leaky_relu"):
        pytest.skip(f"Keras 2 has no {function}")
    try:
        model = model_of(keras, ("Activation", {"activation": function}, [(4, 5, 4)]), 0)
    except ValueError:
        pytest.skip(f"Keras 2 has no {function} by name")
    for suffix in (".h5", ".keras"):
        model.save(tmp_path / f"model{suffix}")
        assert_agrees(model, tmp_path / f"model{suffix}", [(4, 5, 4)], 1)


@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_activations_given_as_layers_and_functions(which: str, tmp_path: Path) -> None:
    keras = library(which)
    given = keras.layers.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, activation=keras.layers.LeakyReLU())(given)
    x = keras.layers.Conv2D(4, 3, activation=keras.layers.ReLU(max_value=1.0))(x)
    model = keras.Model(given, keras.layers.Dense(3, activation=keras.activations.softplus)(x))
    assert_agrees(model, model, [(6, 6, 3)], 0)
    for suffix in (".h5", ".keras"):
        model.save(tmp_path / f"model{suffix}")
        assert_agrees(model, tmp_path / f"model{suffix}", [(6, 6, 3)], 0)


def test_a_softmax_over_another_axis() -> None:
    keras = library("keras")
    for axis in (1, 2, 3, -2):
        arguments = ("Softmax", {"axis": axis}, [(4, 5, 3)])
        model = model_of(keras, arguments, 0)
        assert_agrees(model, model, arguments[2], 0)
