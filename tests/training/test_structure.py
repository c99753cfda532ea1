"""Networks of cheaper parts: what can be exact is exact, and the rest is the nearest there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import InputError
from edgecnn.training import activation, average_pooling, batch_normalization, sensitivity, separable
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
