"""Learning a teacher's answers: the loss against arithmetic, what it leaves behind, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.errors import InputError
from training_networks import NETWORKS, images, values

keras = pytest.importorskip("keras")

from edgecnn.training import Pruning, clone, distillation, layer_sparsity, prune  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = 4


def classifier(seed: int, logits: bool = False, rate: float = 0.0, scale: float = 0.5, **options: Any) -> Any:
    """Two convolutions and a dense layer, whose answers in training are those of inference."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    last = keras.initializers.RandomNormal(0, scale)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(8, 3, activation="relu", kernel_regularizer=options.pop("regularizer", None)),
            layers.Flatten(),
            layers.Dense(CLASSES, None if logits else "softmax", kernel_initializer=last),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if logits else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(rate), options.pop("loss", loss), metrics=["accuracy"])
    return model


def other_in_training(seed: int) -> Any:
    """A teacher whose answers in training would be others."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(moving_mean_initializer="ones"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(CLASSES, "softmax"),
        ]
    )


def data(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 6, 6, 3), np.float32), rng.integers(0, CLASSES, count)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def parts(model: Any, teacher: Any, x: Any, y: Any, logits: bool, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """For each sample the loss by labels and the teacher's, by arithmetic."""
    found, wanted = (
        answers if logits else np.log(answers)
        for answers in (values(m(x, training=False)).astype(np.float64) for m in (model, teacher))
    )
    soft, other = log_softmax(wanted / temperature), log_softmax(found / temperature)
    return -log_softmax(found)[np.arange(len(y)), y], temperature**2 * (np.exp(soft) * (soft - other)).sum(-1)


def loss_of_a_step(model: Any, *batch: Any) -> float:
    model.reset_metrics()
    return float(model.train_on_batch(*batch, return_dict=True)["loss"])


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize(("share", "temperature"), [(0.0, 4.0), (0.3, 1.0), (0.5, 4.0), (1.0, 2.0)])
def test_the_loss_is_that_of_labels_and_of_the_teacher(logits: bool, share: float, temperature: float) -> None:
    model, teacher = classifier(0, logits), classifier(1, logits) if logits else other_in_training(1)
    x, y = data()
    own, divergence = (part.mean() for part in parts(model, teacher, x, y, logits, temperature))
    assert loss_of_a_step(model, x, y) == pytest.approx(own, rel=1e-4)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(own, rel=1e-4)
    lesson = distillation(model, teacher, share, temperature)
    for _ in range(2):
        with lesson:
            mixed = (1 - share) * own + share * divergence
            assert loss_of_a_step(model, x, y) == pytest.approx(mixed, rel=1e-4)
            evaluated = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert float(evaluated) == pytest.approx(own, rel=1e-4)
        # Afterwards it is trained by its own loss again, though it has been compiled for the other.
        assert loss_of_a_step(model, x, y) == pytest.approx(own, rel=1e-4)


def test_weights_of_samples_and_regularisers_count_in_full() -> None:
    model, teacher = classifier(0, regularizer=keras.regularizers.L2(0.1)), classifier(1)
    x, y = data()
    weights = np.arange(len(y), dtype=np.float32)
    own, divergence = ((part * weights).mean() for part in parts(model, teacher, x, y, False, 4.0))
    penalty = 0.1 * np.square(values(model.layers[1].kernel).astype(np.float64)).sum()
    with distillation(model, teacher, 0.75):
        found = loss_of_a_step(model, x, y, weights)
    assert found == pytest.approx(0.25 * own + 0.75 * divergence + penalty, rel=1e-4)


def test_the_sum_of_losses_is_mixed_with_a_sum() -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    model, teacher = classifier(0, loss=[loss]), classifier(1)
    x, y = data()
    own, divergence = (part.sum() for part in parts(model, teacher, x, y, False, 4.0))
    with distillation(model, teacher, 0.5):
        assert loss_of_a_step(model, x, y) == pytest.approx(0.5 * own + 0.5 * divergence, rel=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_taught_in_single(policy: str) -> None:
    teacher, (x, y) = classifier(1), data()
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier(0)
    finally:
        keras.config.set_dtype_policy("float32")
    own, divergence = (part.mean() for part in parts(model, teacher, x, y, False, 4.0))
    with distillation(model, teacher):
        # The own loss is Keras', of answers in half precision.
        assert loss_of_a_step(model, x, y) == pytest.approx(0.5 * own + 0.5 * divergence, rel=0.05)


def test_who_is_sure_and_wrong_still_learns() -> None:
    """Of probabilities as small as 1e-30 there is a gradient."""
    model, teacher = classifier(0, scale=6.0, rate=1e-3), classifier(1, scale=6.0)
    x, y = data()
    assert values(model(x)).min() < 1e-12
    before = parts(model, teacher, x, y, False, 4.0)[1].mean()
    with distillation(model, teacher, 1.0):
        for _ in range(20):
            model.train_on_batch(x, y)
    assert parts(model, teacher, x, y, False, 4.0)[1].mean() < 0.8 * before


def test_a_model_with_a_loss_of_its_own_is_taught_in_training_alone() -> None:
    class Old(keras.Model):  # type: ignore[misc, name-defined, unused-ignore]
        """Its loss does not ask whether it is that of training."""

        def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> Any:
            return 2 * super().compute_loss(x, y, y_pred, sample_weight)

    plain, teacher = classifier(0), classifier(1)
    model = Old(plain.inputs, plain.outputs)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x, y = data()
    own, divergence = (part.mean() for part in parts(model, teacher, x, y, False, 4.0))
    with distillation(model, teacher, 0.5):
        assert loss_of_a_step(model, x, y) == pytest.approx(own + 0.5 * divergence, rel=1e-4)
        assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(2 * own, rel=1e-4)
    assert loss_of_a_step(model, x, y) == pytest.approx(2 * own, rel=1e-4)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(2 * own, rel=1e-4)


def test_a_model_learns_its_teachers_answers_and_the_teacher_stays() -> None:
    model, teacher = classifier(0, rate=0.1), other_in_training(1)
    x, y = data(64)
    before = [values(variable) for variable in teacher.variables]
    wanted = values(teacher(x, training=False))
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


def pruned(labels: np.ndarray, distill: float, progress: Any = False, **options: Any) -> list[np.ndarray]:
    x, _ = images(24)
    keras.utils.set_random_seed(0)
    model = NETWORKS["concatenated"](keras)
    found, _ = prune(model, (x, labels), distill=distill, epochs=2, batch_size=8, progress=progress, **options)
    return [values(variable) for variable in found.weights]


def test_what_is_pruned_learns_from_what_it_was() -> None:
    """With the teacher alone to learn from, labels count for nothing."""
    _, y = images(24)
    alone, others, both = pruned(y, 1.0), pruned((y + 1) % 4, 1.0), pruned(y, 0.3)
    assert all(np.array_equal(a, b) for a, b in zip(alone, others, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(alone, both, strict=True))


def test_an_interrupted_lesson_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    _, y = images(24)
    backup = tmp_path / "lesson.npz"

    def interrupted(text: str) -> None:
        if "epoch 2" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pruned(y, 0.5, backup=backup, seed=1, progress=interrupted)
    for other in (0.0, 0.25):
        with pytest.raises(InputError, match=r"a backup of another run: other distill"):
            pruned(y, other, backup=backup, seed=1)
    resumed = pruned(y, 0.5, backup=backup, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(resumed, pruned(y, 0.5, seed=1), strict=True))


def test_what_cannot_be_taught_is_refused() -> None:
    model, teacher = classifier(0), classifier(1)
    for share in (-0.1, 1.5, float("nan"), "0.5", None):
        with pytest.raises(InputError, match="wanted a share of the loss from 0 to 1"):
            distillation(model, teacher, share)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="wanted a share of the loss from 0 to 1"):
            prune(model, data(), distill=share)  # type: ignore[arg-type]
    for temperature in (0.0, -1.0, float("inf"), float("nan"), "4"):
        with pytest.raises(InputError, match="wanted a number above 0"):
            distillation(model, teacher, temperature=temperature)  # type: ignore[arg-type]
    for sharing in (model, keras.Model(model.inputs, model.outputs)):
        with pytest.raises(InputError, match="shares weights with its teacher"):
            distillation(model, sharing)
    with pytest.raises(InputError, match="one gives logits"):
        distillation(model, classifier(1, logits=True))
    with pytest.raises(InputError, match="wanted a model of Keras 3"):
        distillation(model, None)
    layers = keras.layers
    wider = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(7, "softmax")])
    with pytest.raises(InputError, match="wanted the same classes"):
        distillation(model, wider)
    regression = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(4)])
    with pytest.raises(InputError, match="not compiled"):
        distillation(regression, wider)
    losses = keras.losses
    regression.compile("sgd", "SparseCategoricalCrossentropy")  # another name of what is taken
    distillation(regression, clone(regression))
    for loss in ("mse", losses.MeanSquaredError(), {"dense": "mse"}, losses.BinaryCrossentropy()):
        regression.compile("sgd", loss)
        with pytest.raises(InputError, match="wanted a classifier"):
            distillation(regression, wider)
    for loss in (losses.CategoricalCrossentropy(axis=1), losses.SparseCategoricalCrossentropy(ignore_class=3)):
        regression.compile("sgd", loss)
        with pytest.raises(InputError, match="wanted classes on the last axis"):
            distillation(regression, wider)
    regression.compile("sgd", "mse")
    x, _ = data()
    with pytest.raises(InputError, match="wanted a classifier"):
        prune(regression, (x, np.zeros((len(x), 4), np.float32)), distill=0.5, progress=False)
