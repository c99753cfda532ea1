"""Nothing unread: each key, argument and variable is read, without effect at inference, or refused by name.

Expected answers are Keras'; that a refused model would have been computed wrongly follows from what Keras' documentation says of the
argument (training=True normalises by the batch, quantised weights have scales, LoRA adds to the kernel).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import edgecnn
import strategies
from edgecnn.converters import register, to_graph
from edgecnn.converters.layers import LAYERS, REGISTERED
from edgecnn.converters.layers.reading import (
    _ENDINGS,
    NEUTRAL,
    NOTHING_AT_INFERENCE,
    WITHOUT_EFFECT,
    WITHOUT_EFFECT_OF,
    Recorded,
)

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore")

Model = Any


def altered(model: Model, change: Callable[[dict[str, Any]], None]) -> Model:
    """The model, whose configuration says something else of its last layer."""
    config = json.loads(model.to_json())
    change(config["config"]["layers"][-1])
    model.to_json = lambda: json.dumps(config)
    return model


def random_weights(model: Model) -> Model:
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def single(layer: Any, shape: tuple[int, ...] = (6, 6, 4)) -> Model:
    x = keras.Input(shape)
    return keras.Model(x, layer(x))


LAYER_EXAMPLES: dict[str, Callable[[], Model]] = {
    "Conv2D": lambda: single(keras.layers.Conv2D(3, 3)),
    "Dense": lambda: single(keras.layers.Dense(3)),
    "BatchNormalization": lambda: single(keras.layers.BatchNormalization()),
    "LayerNormalization": lambda: single(keras.layers.LayerNormalization()),
    "MaxPooling2D": lambda: single(keras.layers.MaxPooling2D()),
    "Resizing": lambda: single(keras.layers.Resizing(3, 3)),
    "Softmax": lambda: single(keras.layers.Softmax()),
    "Add": lambda: single(lambda x: keras.layers.Add()([x, x])),
    "ops.Mean": lambda: single(lambda x: keras.ops.mean(x, axis=1)),
    "TimeDistributed": lambda: single(keras.layers.TimeDistributed(keras.layers.Dense(2))),
}


@pytest.mark.parametrize("name", sorted(LAYER_EXAMPLES))
def test_a_key_that_nothing_reads_is_refused_with_its_value(name: str) -> None:
    def change(entry: dict[str, Any]) -> None:
        entry["config"]["folding"] = {"by": 3}

    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match=r"folding=\{'by': 3\}"):
        to_graph(altered(LAYER_EXAMPLES[name](), change))
    to_graph(altered(LAYER_EXAMPLES[name](), lambda entry: entry["config"].update(folding=None)))


@pytest.mark.parametrize("name", sorted(LAYER_EXAMPLES))
def test_an_argument_of_a_call_that_nothing_reads_is_refused(name: str) -> None:
    def change(entry: dict[str, Any]) -> None:
        entry["inbound_nodes"][0]["kwargs"]["folding"] = 3

    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="folding=3"):
        to_graph(altered(LAYER_EXAMPLES[name](), change))


def test_a_key_inside_a_wrapper_and_inside_an_activation_is_refused() -> None:
    def wrapped(entry: dict[str, Any]) -> None:
        entry["config"]["layer"]["config"]["folding"] = 3

    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="folding=3"):
        to_graph(altered(LAYER_EXAMPLES["TimeDistributed"](), wrapped))

    def activation(entry: dict[str, Any]) -> None:
        entry["config"]["activation"]["config"]["folding"] = 3

    model = single(keras.layers.Conv2D(3, 3, activation=keras.layers.LeakyReLU(0.1)))
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="folding=3"):
        to_graph(altered(model, activation))


def test_sizes_that_are_not_those_of_the_weights_are_refused() -> None:
    with pytest.raises(edgecnn.ConversionError, match="filters is 7, and its weights have 3"):
        to_graph(altered(LAYER_EXAMPLES["Conv2D"](), lambda entry: entry["config"].update(filters=7)))
    with pytest.raises(edgecnn.ConversionError, match="units is 7"):
        to_graph(altered(LAYER_EXAMPLES["Dense"](), lambda entry: entry["config"].update(units=7)))


def _generator() -> Model:
    x = keras.Input((8, 8, 3))
    return keras.Model(x, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x)), name="inner")


def _chain() -> Model:
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Dropout(0.5)], name="inner"
    )


CALLED: dict[str, Callable[[bool | None], Model]] = {
    "BatchNormalization": lambda training: single(lambda x: keras.layers.BatchNormalization()(x, training=training)),
    "Dropout": lambda training: single(lambda x: keras.layers.Dropout(0.5)(x, training=training)),
    "GaussianNoise": lambda training: single(lambda x: keras.layers.GaussianNoise(0.5)(x, training=training)),
    "Functional": lambda training: single(lambda x: _generator()(x, training=training), (8, 8, 3)),
    "Sequential": lambda training: single(lambda x: _chain()(x, training=training), (8, 8, 3)),
    "nested twice": lambda training: single(
        lambda x: single(lambda y: _generator()(y, training=training), (8, 8, 3))(x), (8, 8, 3)
    ),
    "TimeDistributed": lambda training: single(
        lambda x: keras.layers.TimeDistributed(keras.layers.BatchNormalization())(x, training=training)
    ),
    "SpectralNormalization": lambda training: single(
        lambda x: keras.layers.SpectralNormalization(keras.layers.Conv2D(2, 1))(x, training=training)
    ),
}


@pytest.mark.parametrize("suffix", ["live", ".keras", ".h5"])
@pytest.mark.parametrize("name", sorted(CALLED))
def test_a_call_with_training_is_refused_and_one_without_answers_as_keras_does(
    name: str, suffix: str, tmp_path: Path
) -> None:
    def source(model: Model) -> Any:
        if suffix == "live":
            return model
        model.save(tmp_path / f"model{suffix}")
        return tmp_path / f"model{suffix}"

    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="training=True"):
        to_graph(source(random_weights(CALLED[name](True))))
    for training in (False, None):
        model = random_weights(CALLED[name](training))
        x = np.random.default_rng(1).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
        expected = np.asarray(model(x, training=False))
        np.testing.assert_allclose(edgecnn.load(to_graph(source(model)))(x), expected, rtol=2e-5, atol=2e-4)


def _chain_of_dense() -> Model:
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential(layers)


def _quantised(mode: str) -> Model:
    model = _chain_of_dense()
    model.quantize(mode)
    return model


def _with_lora(index: int) -> Model:
    model = _chain_of_dense()
    model.layers[index].enable_lora(2)
    return model


@pytest.mark.parametrize("suffix", ["live", ".keras", ".h5"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: _quantised("int8"), "quantised .*int8.*before model.quantize"),
        (lambda: _quantised("int4"), "quantised .*int4"),
        (lambda: _quantised("float8"), "quantised .*float8"),
        (lambda: _with_lora(-1), "LoRA"),
        (lambda: _with_lora(0), "LoRA"),
    ],
    ids=["int8", "int4", "float8", "lora of dense", "lora of conv"],
)
def test_a_model_that_is_quantised_or_has_lora_is_refused(
    make: Callable[[], Model], reason: str, suffix: str, tmp_path: Path
) -> None:
    model = make()
    if suffix != "live":
        model.save(tmp_path / f"model{suffix}")
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match=reason):
        to_graph(model if suffix == "live" else tmp_path / f"model{suffix}")


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64"])
def test_float_policies_are_computed_in_float32(policy: str) -> None:
    model = single(keras.layers.Conv2D(3, 3, dtype=policy))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 4)).astype(np.float32)
    expected = np.asarray(model(x)).astype(np.float32)
    np.testing.assert_allclose(edgecnn.load(to_graph(model))(x), expected, atol=0.05)  # 8 bits of bfloat16


def test_a_policy_of_whole_numbers_is_refused() -> None:
    with pytest.raises(edgecnn.errors.UnsupportedLayerError, match="computes in int32"):
        to_graph(single(keras.layers.Rescaling(2, dtype="int32")))


def test_a_function_that_a_user_has_registered_reads_what_it_likes_but_no_call_argument_is_lost() -> None:
    class Scaled(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any, factor: float = 1.0) -> Any:
            return x * factor

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "mine": 3}

    try:
        register("Scaled", lambda layer, build, inputs: build("identity", inputs[0]))
        to_graph(single(Scaled()))
        with pytest.raises(edgecnn.errors.UnsupportedLayerError, match=r"factor=2\.0"):
            to_graph(single(lambda x: Scaled()(x, factor=2.0)))
    finally:
        REGISTERED.pop("Scaled")


FROM_THE_WEIGHTS = {"shared_axes"}
"""Drawn arguments apart, those whose effect the shapes of the weights tell."""
CLASSES = sorted(set(strategies.LAYERS) - NOTHING_AT_INFERENCE)


@pytest.mark.parametrize("class_name", CLASSES)
def test_each_argument_of_a_layer_is_drawn_or_without_effect(class_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a new version of Keras gives a layer an argument that nobody has looked at."""
    drawn: dict[str, Any] = {}

    @given(strategies.LAYERS[class_name]())
    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def draw(arguments: strategies.Arguments) -> None:
        drawn.update(dict.fromkeys(arguments[1], arguments))

    draw()
    asked: set[str] = set()
    plain = Recorded.__getitem__

    def recorded(self: Recorded, key: str) -> Any:
        asked.add(key)
        return plain(self, key)

    monkeypatch.setattr(Recorded, "__getitem__", recorded)
    layer_class = getattr(keras.layers, class_name)
    configs = {}
    for _, settings_of, shapes in drawn.values():
        inputs = [keras.Input(shape) for shape in shapes]
        layer = layer_class(**settings_of)
        model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
        configs.update(layer.get_config())
        to_graph(model)
    parameters = set(inspect.signature(layer_class.__init__).parameters) - {"self", "args", "kwargs"}
    parameters |= configs.keys()
    idle = WITHOUT_EFFECT | WITHOUT_EFFECT_OF.get(class_name, frozenset()) | {"dtype"}
    rest = {name for name in parameters - idle if not name.endswith(_ENDINGS)}
    unknown = sorted(rest - asked - NEUTRAL.keys() - {"lora_alpha"})
    assert not unknown, f"neither read nor listed in converters/layers/reading.py: {unknown}"
    not_drawn = sorted(rest - drawn.keys() - NEUTRAL.keys() - {"lora_alpha"})
    assert not not_drawn, f"read, but never drawn by tests/strategies.py: {not_drawn}"


def test_what_is_listed_is_of_a_class_that_is_supported() -> None:
    assert set(WITHOUT_EFFECT_OF) <= set(LAYERS)


@pytest.mark.parametrize("suffix", ["live", ".keras", ".h5"])
def test_an_activation_of_ones_own_is_refused_until_it_is_registered(suffix: str, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    def mean_of_three(x: Any) -> Any:
        return (x + keras.ops.relu(x) + keras.ops.tanh(x)) / 3

    def plainly(x: Any) -> Any:
        return x * 2

    class Tripled(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 3 * x

    def source() -> Any:
        if suffix == "live":
            return model
        model.save(tmp_path / f"model{suffix}")
        return tmp_path / f"model{suffix}"

    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, activation=mean_of_three)(x)
    y = keras.layers.Activation(plainly)(keras.layers.Dense(3, activation=Tripled())(y))
    y = keras.layers.Lambda(lambda t: t - 1, name="less")(y)
    model = keras.Model(x, keras.layers.Lambda(lambda t: t * 5, name="more")(y))
    with pytest.raises(edgecnn.errors.UnsupportedLayerError) as caught:
        to_graph(source())
    assert len(caught.value.items) == 5
    for name in ("mean_of_three", "plainly", "Tripled", "Lambda"):
        assert f"register('{name}'" in str(caught.value)
    thirds, one = np.full(1, 1 / 3), np.full(1, -1.0)
    try:
        register(
            "mine>mean_of_three",
            lambda layer, build, inputs: build(
                "multiply",
                build(
                    "add",
                    build("add", inputs[0], build.activation(inputs[0], "relu")),
                    build.activation(inputs[0], "tanh"),
                ),
                thirds,
            ),
        )
        register("plainly", lambda layer, build, inputs: build("add", inputs[0], inputs[0]))
        register("Tripled", lambda layer, build, inputs: build("multiply", inputs[0], np.full(1, 3.0)))
        register(
            "Lambda",
            lambda layer, build, inputs: (
                build("add", inputs[0], one) if layer.path == "less" else build("multiply", inputs[0], np.full(1, 5.0))
            ),
        )
        given_images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
        got = edgecnn.load(to_graph(source()))(given_images)
        np.testing.assert_allclose(got, np.asarray(model(given_images)), rtol=2e-5, atol=2e-5)
    finally:
        for name in ("mine>mean_of_three", "plainly", "Tripled", "Lambda"):
            REGISTERED.pop(name, None)
