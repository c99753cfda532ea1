"""Whole channels: the smaller model answers what the masked one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn.training import remove_channels
from edgecnn.training.pruner import Pruner, settings
from training_networks import NETWORKS, SIZE, compiled, images, values

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")


def masked(model: Any, sparsity: float, layers: Any = None) -> Any:
    pruner = Pruner(model, settings(sparsity, "channel", layers=layers))
    pruner.zero(pruner.choose(1.0))
    return model


def answers(model: Any, x: Any) -> Any:
    return values(model(x, training=False))


@pytest.mark.parametrize("sparsity", [0.3, 0.75])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_model_answers_what_the_masked_one_does(name: str, sparsity: float) -> None:
    model = masked(NETWORKS[name](keras), sparsity)
    smaller = remove_channels(model)
    x, _ = images(8)
    wanted = answers(model, x)
    assert np.abs(wanted - wanted[:1]).max() > 1e-4
    np.testing.assert_allclose(answers(smaller, x), wanted, rtol=0, atol=2e-6)
    assert smaller.count_params() < (1 - 0.5 * sparsity) * model.count_params()
    assert smaller.compiled


def test_channels_go_on_both_sides_of_a_sum() -> None:
    smaller = remove_channels(masked(NETWORKS["residual"](keras), 0.5))
    shapes = [layer.output.shape[-1] for layer in smaller.layers if isinstance(layer, keras.layers.Conv2D)]
    # The first convolution stays; 12 channels of the sum become 6 in all that are added; 10, 6 and 9 become 5, 3 and 4 or 5.
    assert shapes[0] == 8
    assert shapes.count(6) == 3
    assert 5 in shapes and 3 in shapes  # noqa: PT018


def test_a_model_without_dead_channels_stays_as_it_is() -> None:
    model = NETWORKS["squeezed"](keras)
    same = remove_channels(model)
    assert same.count_params() == model.count_params()
    x, _ = images(4)
    assert (answers(same, x) == answers(model, x)).all()


def test_channels_that_an_activation_makes_one_of_zero_stay() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Conv2D(4, 3),
            layers.Conv2D(8, 3, activation="sigmoid", name="half"),
            layers.Conv2D(8, 3, padding="same", activation="tanh", name="odd"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(4),
        ]
    )
    model = compiled(model)
    with pytest.raises(InputError, match="nothing to prune by whole channels"):
        masked(model, 0.5, layers=["half"])
    smaller = remove_channels(masked(model, 0.5, layers=["half", "odd"]))
    assert [layer.filters for layer in smaller.layers[1:4]] == [4, 8, 4]


def test_outputs_and_the_first_convolution_keep_their_channels() -> None:
    smaller = remove_channels(masked(NETWORKS["plain"](keras), 0.5))
    assert smaller.output.shape == (None, 4)
    assert smaller.get_layer("stem").filters == 8
    assert smaller.get_layer("second").filters == 10
    assert smaller.get_layer("hidden").units == 12


def test_the_smaller_model_is_saved_loaded_and_trained(tmp_path: Any) -> None:
    smaller = remove_channels(masked(NETWORKS["squeezed"](keras), 0.5))
    smaller.save(tmp_path / "smaller.keras")
    again = keras.saving.load_model(tmp_path / "smaller.keras")
    x, y = images(16)
    assert (answers(again, x) == answers(smaller, x)).all()
    assert np.isfinite(again.fit(x, y, verbose=0).history["loss"]).all()


@pytest.mark.sweep
@pytest.mark.parametrize(
    "name",
    [
        "MobileNet",
        "MobileNetV2",
        "MobileNetV3Small",
        "EfficientNetB0",
        "ResNet50",
        "ResNet50V2",
        "DenseNet121",
        "InceptionV3",
    ],
)
def test_networks_of_keras_lose_channels(name: str) -> None:
    smallest(name, 96)


def test_mobilenet_v2_loses_channels() -> None:
    smallest("MobileNetV2", 32)


def smallest(name: str, size: int) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "gamma" in variable.path or "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "beta" in variable.path or "mean" in variable.path:
            variable.assign(rng.uniform(-0.3, 0.3, variable.shape))
    masked(model, 0.5)
    smaller = remove_channels(model)
    assert smaller.count_params() < 0.6 * model.count_params()
    x = rng.uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    wanted = answers(model, x)
    np.testing.assert_allclose(answers(smaller, x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
