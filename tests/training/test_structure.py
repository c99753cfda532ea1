"""Networks of cheaper parts: what can be exact is exact, and the rest is the nearest there is."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.errors import InputError
from edgecnn.training import (
    activation,
    average_pooling,
    batch_normalization,
    prune,
    refresh_statistics,
    remove_channels,
    sensitivity,
    separable,
)
from edgecnn.training.keras_models import batches
from edgecnn.training.structure import factorise
from training_networks import NETWORKS, images, values

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")

X, Y = images(16)


def answers(model: Any) -> Any:
    return values(model(X, training=False))


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 50))
def test_a_product_of_depthwise_and_pointwise_is_factored_exactly(
    size: int, inputs: int, filters: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((size, size, inputs, 1)) * rng.standard_normal((1, 1, inputs, filters))
    depthwise, pointwise = factorise(kernel)
    assert (depthwise.shape, pointwise.shape) == ((size, size, inputs, 1), (1, 1, inputs, filters))
    np.testing.assert_allclose(depthwise * pointwise, kernel, atol=1e-12)


def test_no_small_change_brings_the_factors_nearer() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 4, 6))
    factors = factorise(kernel)
    best = np.square(factors[0] * factors[1] - kernel).sum()
    # Each channel's error is what its first singular value leaves.
    left = [np.square(np.linalg.svd(kernel[:, :, i].reshape(9, 6))[1][1:]).sum() for i in range(4)]
    assert np.isclose(best, sum(left))
    for _ in range(20):
        moved = [factor + 0.01 * rng.standard_normal(factor.shape) for factor in factors]
        assert np.square(moved[0] * moved[1] - kernel).sum() > best


def test_convolutions_of_rank_one_stay_what_they_are_as_separable_ones() -> None:
    model = NETWORKS["residual"](keras)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            depthwise, pointwise = factorise(values(layer.kernel))
            layer.kernel.assign(depthwise * pointwise)
    new = separable(model)
    assert kinds(new).count("SeparableConv2D") == 5
    assert kinds(new).count("Conv2D") == 2  # the first one, and one of 1 x 1
    np.testing.assert_allclose(answers(new), answers(model), rtol=0, atol=1e-5)
    assert np.isfinite(new.fit(X, Y, verbose=0).history["loss"]).all()


def test_maximum_pooling_becomes_average_pooling_of_the_same_windows() -> None:
    model = NETWORKS["concatenated"](keras)
    new = average_pooling(model)
    assert "MaxPooling2D" not in kinds(new)
    pooled = next(layer for layer in new.layers if layer.name.startswith("max_pooling"))
    assert (type(pooled).__name__, pooled.pool_size, pooled.strides, pooled.padding) == (
        "AveragePooling2D", (3, 3), (1, 1), "same"
    )  # fmt: skip
    assert new.count_params() == model.count_params()


@pytest.mark.parametrize("data", [None, (X, Y)], ids=["fresh", "settled"])
def test_batch_normalisation_starts_without_changing_an_answer(data: Any) -> None:
    model = NETWORKS["plain"](keras)
    new = batch_normalization(model, data)
    # The second convolution has one already.
    assert kinds(new)[1:4] == ["Conv2D", "BatchNormalization", "Activation"]
    assert kinds(new).count("BatchNormalization") == 2
    np.testing.assert_allclose(answers(new), answers(model), rtol=0, atol=1e-5)
    layer = new.layers[2]
    assert all(one.trainable for one in new.layers)
    if data is not None:
        made = keras.Model(new.inputs, new.layers[1].output)(X)
        np.testing.assert_allclose(values(layer.moving_mean), values(made).mean(axis=(0, 1, 2)), rtol=1e-4)


def test_another_activation_stands_in_layers_and_as_layers_but_not_in_the_answer() -> None:
    model = NETWORKS["plain"](keras)
    new = activation(model, "hard_swish")
    names = [layer.activation.__name__ for layer in new.layers if hasattr(layer, "activation")]
    assert names == ["hard_silu", "linear", "hard_silu", "hard_silu", "softmax"]
    back = activation(new, "relu")
    np.testing.assert_allclose(answers(back), answers(model), rtol=0, atol=1e-6)


def test_gates_keep_their_activation() -> None:
    new = activation(NETWORKS["squeezed"](keras), "relu6")
    names = [layer.activation.__name__ for layer in new.layers if hasattr(layer, "activation")]
    assert names.count("sigmoid") == 1
    assert not {"relu", "silu"} & set(names)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_rewritten_and_learns(name: str) -> None:
    model = NETWORKS[name](keras)
    before = [values(variable).tobytes() for variable in model.weights]
    new = activation(separable(model), "hard_swish")
    assert np.isfinite(new.fit(X, Y, verbose=0).history["loss"]).all()
    assert [values(variable).tobytes() for variable in model.weights] == before


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (lambda m: separable(m, ["stem", "hidden"]), "'hidden' is not a convolution with a window"),
        (lambda m: average_pooling(m, ["second"]), "'second' is not maximum pooling"),
        (lambda m: activation(m, "magic"), "Keras has none of that name"),
        (lambda m: average_pooling(average_pooling(m)), "nothing to replace: wanted maximum pooling"),
        (lambda m: separable("model.keras"), "wanted a model of Keras 3"),
    ],
)
def test_what_cannot_be_replaced_is_told(rewrite: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rewrite(NETWORKS["plain"](keras))


def test_sensitivity_measures_each_layer_alone_and_leaves_the_model_alone(tmp_path: Any) -> None:
    model = NETWORKS["plain"](keras)
    before = [values(variable).tobytes() for variable in model.weights]
    found = sensitivity(model, (X, Y), sparsities=(0.0, 0.9), pattern="block:4")
    assert list(found.layers) == ["second", "hidden", "answer"]
    assert [row[0] for row in found.layers.values()] == [found.base] * 3
    assert found.measure == "accuracy"
    assert [values(variable).tobytes() for variable in model.weights] == before
    assert "90 %" in str(found)
    found.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("options", [{"pattern": "channel"}, {"sparsities": ()}, {"sparsities": (1.0,)}])
def test_sensitivity_refuses_what_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        sensitivity(NETWORKS["plain"](keras), (X, Y), **options)


def heads(loss: Any) -> Any:
    """Two answers of models inside, whose losses go by the models' names."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(layers.Conv2D(8, 3, activation="relu")(inputs))
    x = layers.GlobalMaxPooling2D()(layers.MaxPooling2D()(x))
    answers = [keras.Sequential([layers.Dense(8, "relu"), layers.Dense(4, "softmax")], name=name)(x) for name in loss]
    model = keras.Model(inputs, answers)
    model.compile("adam", loss=loss, metrics=dict.fromkeys(loss, "accuracy"))
    return model


LOSS = {"head_a": "sparse_categorical_crossentropy", "head_b": "sparse_categorical_crossentropy"}


@pytest.mark.parametrize(
    "rewrite",
    [separable, average_pooling, batch_normalization, lambda model: activation(model, "elu"), remove_channels],
)
def test_outputs_keep_their_names(rewrite: Any, tmp_path: Path) -> None:
    model = rewrite(heads(LOSS))
    assert model.output_names == list(LOSS)
    model.save(tmp_path / "saved.keras")
    for found in (model, keras.saving.load_model(tmp_path / "saved.keras")):
        metrics = found.evaluate(X, {"head_a": Y, "head_b": Y}, verbose=0, return_dict=True)
        assert {"head_a_accuracy", "head_b_accuracy"} <= set(metrics)


def test_heads_inside_are_pruned_by_channels() -> None:
    model = heads(LOSS)
    smaller, report = prune(
        model, (X, {"head_a": Y, "head_b": Y}), sparsity=0.5, pattern="channel", epochs=1, batch_size=8, progress=False
    )
    assert smaller.output_names == list(LOSS)
    assert {"head_a_accuracy", "head_b_accuracy"} <= set(report.after)
    assert smaller.count_params() < model.count_params()


def test_an_output_that_is_normalised_keeps_its_name() -> None:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    y = layers.Conv2D(2, 3, activation="sigmoid", name="mask")(x)
    z = layers.Conv2D(2, 3, name="score")(x)
    found = batch_normalization(keras.Model(inputs, [y, z]))
    assert found.output_names == ["mask", "score"]
    assert found.get_layer("first").activation is keras.activations.linear


def test_functions_as_layers_are_copied() -> None:
    """Keras makes no function again from a file's settings; a live model has the function itself."""
    layers, factor = keras.layers, 2.0
    model = keras.Sequential([
        keras.Input((8, 8, 3)),
        layers.Conv2D(8, 3),
        layers.Lambda(lambda x: x * factor, name="doubled"),
        layers.Conv2D(8, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4, "softmax"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    np.testing.assert_allclose(answers(remove_channels(model)), answers(model), atol=1e-6)
    pruned, _ = prune(model, (X, Y), sparsity=0.5, pattern="weight", epochs=0, progress=False)
    assert pruned.get_layer("doubled").function is model.get_layer("doubled").function


def test_a_layer_that_cannot_be_made_again_is_named() -> None:
    class Scaled(keras.layers.Layer):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self, by: float) -> None:
            super().__init__(name="scaled")
            self.by = by

        def call(self, x: Any) -> Any:
            return x * self.by

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(Scaled(2.0)(inputs))))
    with pytest.raises(InputError, match=r"layer 'scaled' \(Scaled\) cannot be made again from its settings"):
        separable(model)


def test_regularisers_stay_where_a_kernel_is_factored() -> None:
    layers = keras.layers
    l2 = keras.regularizers.L2(0.01)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, kernel_regularizer=l2, bias_constraint="non_neg")(layers.Conv2D(4, 3)(inputs))
    found = separable(keras.Model(inputs, x)).layers[-1]
    assert found.depthwise_regularizer.l2 == found.pointwise_regularizer.l2 == l2.l2
    assert isinstance(found.bias_constraint, keras.constraints.NonNeg)


def test_answers_and_memories_keep_their_activation() -> None:
    layers = keras.layers
    inputs = keras.Input((8, 3))
    x = layers.LSTM(6)(layers.Conv1D(4, 3, activation="relu", name="inner")(inputs))
    model = keras.Model(inputs, layers.Dense(2, "tanh", name="answer")(x))
    found = activation(model, "elu")
    assert found.get_layer("inner").activation is keras.activations.elu
    assert found.get_layer("answer").activation is keras.activations.tanh
    assert activation(model, "elu", ["answer"]).get_layer("answer").activation is keras.activations.elu


def test_candidates_with_new_statistics_are_refreshed() -> None:
    """Statistics average over the training data before a candidate is judged, as `prune` has it."""
    module, data = importlib.import_module("edgecnn.training.explore"), batches((X, Y), 8)
    search = module._Search(data, data, "cpu", 1, 1, 8, 0, Path(), math.inf)
    made = search._rewritten(NETWORKS["residual"](keras), ("relu",))
    layers = [layer for layer in made.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [values(layer.moving_variance) for layer in layers]
    refresh_statistics(made, data)
    for layer, variance in zip(layers, before, strict=True):
        np.testing.assert_allclose(variance, values(layer.moving_variance), rtol=1e-3)


def test_convolutions_of_one_axis_are_factored_too() -> None:
    """A kernel that is a product already answers the same, and converts."""
    layers = keras.layers
    inputs = keras.Input((20, 3))
    x = layers.Conv1D(5, 3, strides=2, padding="same", activation="relu", name="second")(layers.Conv1D(4, 3)(inputs))
    model = keras.Model(inputs, layers.Conv1D(2, 1)(x))
    rng = np.random.default_rng(0)
    kernel = rng.uniform(-1, 1, (3, 4, 1)) * rng.uniform(-1, 1, (1, 4, 5))
    model.get_layer("second").kernel.assign(kernel)
    model.get_layer("second").bias.assign(rng.uniform(-1, 1, 5))
    found, x = separable(model), rng.uniform(-1, 1, (2, 20, 3)).astype(np.float32)
    assert type(found.get_layer("second")) is layers.SeparableConv1D
    np.testing.assert_allclose(values(found(x)), values(model(x)), atol=1e-5)
    np.testing.assert_allclose(edgecnn.load(to_graph(found))(x), values(found(x)), atol=1e-5)


class Doubling(keras.Model):  # type: ignore[misc, name-defined, unused-ignore]
    """Trains with twice the loss."""

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        return 2 * super().compute_loss(*arguments, **options)


class Sized(Doubling):
    """Made of something else than inputs and outputs."""

    def __init__(self, filters: int) -> None:
        layers = keras.layers
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(filters, 3, activation="relu")(layers.Conv2D(filters, 3, activation="relu")(inputs))
        super().__init__(inputs, layers.Dense(4, "softmax")(layers.GlobalMaxPooling2D()(layers.MaxPooling2D()(x))))


REWRITES = [separable, average_pooling, batch_normalization, lambda model: activation(model, "elu"), remove_channels]


@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_way_of_training_survives_or_is_refused(rewrite: Any) -> None:
    made = Sized(8)
    model = Doubling(made.inputs, made.outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    found = rewrite(model)
    plain = keras.Model(found.inputs, found.outputs)
    plain.compile("adam", "sparse_categorical_crossentropy")
    assert found.evaluate(X, Y, verbose=0) == pytest.approx(2 * plain.evaluate(X, Y, verbose=0), rel=1e-5)
    with pytest.raises(InputError, match=r"its class Sized has its own compute_loss and is not made of inputs"):
        rewrite(made)


def test_pruning_trains_as_the_model_does_or_refuses() -> None:
    made = Sized(8)
    model = Doubling(made.inputs, made.outputs)
    for each in (made, model):
        each.compile("adam", "sparse_categorical_crossentropy")
    pruned, report = prune(model, (X, Y), sparsity=0.5, pattern="channel", epochs=1, batch_size=8, progress=False)
    assert type(pruned) is Doubling
    plain = keras.Model(pruned.inputs, pruned.outputs)
    plain.compile("adam", "sparse_categorical_crossentropy")
    assert report.after["loss"] == pytest.approx(2 * plain.evaluate(X, Y, verbose=0), rel=1e-4)
    with pytest.raises(InputError, match=r"its class Sized has its own compute_loss"):
        prune(made, (X, Y), sparsity=0.5, epochs=1, progress=False)
