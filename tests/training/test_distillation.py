"""Learning a teacher's answers: the loss against arithmetic, what it leaves behind, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn.training import Pruning, clone, distillation, layer_sparsity, prune
from training_networks import NETWORKS, images, values

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = 4


def classifier(seed: int, logits: bool = False, rate: float = 0.0) -> Any:
    """One convolution and a dense layer, whose answers in training are those of inference."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(
                CLASSES, None if logits else "softmax", kernel_initializer=keras.initializers.RandomNormal(0, 0.5)
            ),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if logits else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return model


def data(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 6, 6, 3), np.float32), rng.integers(0, CLASSES, count)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize(("share", "temperature"), [(0.0, 4.0), (0.3, 1.0), (0.5, 4.0), (1.0, 2.0)])
def test_the_loss_is_that_of_labels_and_of_the_teacher(logits: bool, share: float, temperature: float) -> None:
    model, teacher = classifier(0, logits), classifier(1, logits)
    x, y = data()
    found, wanted = (
        answers if logits else np.log(answers) for answers in (values(m(x, training=False)) for m in (model, teacher))
    )
    own = -log_softmax(found)[np.arange(len(y)), y].mean()
    soft, other = log_softmax(wanted / temperature), log_softmax(found / temperature)
    divergence = (np.exp(soft) * (soft - other)).sum(-1).mean()
    with distillation(model, teacher, share, temperature):
        trained = model.train_on_batch(x, y, return_dict=True)["loss"]
        evaluated = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert float(trained) == pytest.approx((1 - share) * own + share * temperature**2 * divergence, rel=1e-4)
    assert float(evaluated) == pytest.approx(own, rel=1e-4)
    # Afterwards it is trained by its own loss again, though it has been compiled for the other.
    model.reset_metrics()
    assert float(model.train_on_batch(x, y, return_dict=True)["loss"]) == pytest.approx(own, rel=1e-4)


def test_a_model_learns_its_teachers_answers_and_the_teacher_stays() -> None:
    model, teacher = classifier(0, rate=0.1), classifier(1)
    x, y = data(64)
    before = [values(variable) for variable in teacher.variables]
    wanted = values(teacher(x))
    apart = np.abs(values(model(x)) - wanted).mean()
    with distillation(model, teacher, share=1.0):
        model.fit(x, y, epochs=60, batch_size=16, verbose=0)
    assert np.abs(values(model(x)) - wanted).mean() < 0.5 * apart
    assert all((a == values(b)).all() for a, b in zip(before, teacher.variables, strict=True))


def test_zeros_hold_while_a_teacher_is_heard() -> None:
    model = classifier(0, rate=0.01)
    with distillation(model, clone(model)):
        model.fit(*data(), epochs=2, batch_size=4, verbose=0, callbacks=[Pruning(0.75, "weight")])
    zeros = {layer.name: layer.zeros / layer.weights for layer in layer_sparsity(model)}
    assert list(zeros.values())[1:] == pytest.approx([0.75, 0.75], abs=0.01)


def test_what_is_pruned_learns_from_what_it_was() -> None:
    """With the teacher alone to learn from, labels count for nothing."""
    x, y = images(24)
    results = []
    for labels in (y, (y + 1) % 4):
        keras.utils.set_random_seed(0)
        model = NETWORKS["plain"](keras)
        results.append(prune(model, (x, labels), distill=1.0, epochs=2, batch_size=8, progress=False)[0])
    assert all(
        np.array_equal(values(a), values(b)) for a, b in zip(*(result.weights for result in results), strict=True)
    )


def test_what_cannot_be_taught_is_refused() -> None:
    model, teacher = classifier(0), classifier(1)
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="wanted a share of the loss from 0 to 1"):
            distillation(model, teacher, share)
        with pytest.raises(InputError, match="wanted a share of the loss from 0 to 1"):
            prune(model, data(), distill=share)
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="wanted a number above 0"):
            distillation(model, teacher, temperature=temperature)
    with pytest.raises(InputError, match="cannot teach itself"):
        distillation(model, model)
    wider = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(7, "softmax")])
    with pytest.raises(InputError, match="wanted the same classes"):
        distillation(model, wider)
    regression = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    with pytest.raises(InputError, match="not compiled"):
        distillation(regression, wider)
    regression.compile("sgd", "mse")
    with pytest.raises(InputError, match="wanted a classifier"):
        distillation(regression, wider)
    x, _ = data()
    with pytest.raises(InputError, match="wanted a classifier"):
        prune(regression, (x, np.zeros((len(x), 4), np.float32)), distill=0.5, progress=False)
