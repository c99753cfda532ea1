"""Pruning beside Keras' own callbacks, in either order, and in every way of training: exact zeros at the end and in every file
that is written after the wanted sparsity is reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.errors import InputError
from training_networks import NETWORKS, images, values

keras = pytest.importorskip("keras")

from edgecnn.training import Pruning, Schedule, prunable_layers, prune, release  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

EPOCHS, BATCHES, SPARSITY = 5, 4, 0.75
"""Of each run. Gradual pruning ends after half of the steps: in the third epoch."""


def network(optimizer: Any = "adam", **options: Any) -> Any:
    model = NETWORKS["plain"](keras)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def shares(model: Any) -> list[float]:
    """Zeros in each pruned kernel."""
    return [float(np.mean(values(layer.kernel) == 0)) for layer in prunable_layers(model)]


def wanted(model: Any) -> list[float]:
    """As exactly as the number of weights allows."""
    sizes = [int(np.prod(layer.kernel.shape)) for layer in prunable_layers(model)]
    return [round(SPARSITY * size) / size for size in sizes]


class Worsening(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
    """Gives each epoch a worse `judged` than the one before, so that the first one that counts is the best."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["judged"] = float(epoch)


def stock(folder: Path) -> dict[str, Callable[[], list[Any]]]:
    """Keras' callbacks, by what they do."""
    kinds = keras.callbacks
    best = {"monitor": "judged", "mode": "min"}

    def checkpoint(name: str, **options: Any) -> Any:
        return kinds.ModelCheckpoint(folder / name, **options)

    return {
        "restores the best": lambda: [kinds.EarlyStopping(**best, patience=1, restore_best_weights=True)],
        "stops early": lambda: [kinds.EarlyStopping(**best, patience=0)],
        "saves the best": lambda: [checkpoint("best.keras", save_best_only=True, **best)],
        "saves the best weights": lambda: [
            checkpoint("best.weights.h5", save_best_only=True, save_weights_only=True, **best)
        ],
        "saves each epoch": lambda: [checkpoint("{epoch}.keras")],
        "saves between batches": lambda: [checkpoint("batches.keras", save_freq=3)],
        "backs up": lambda: [kinds.BackupAndRestore(folder / "backup")],
        "averages": lambda: [kinds.SwapEMAWeights()],
        "saves averages": lambda: [kinds.SwapEMAWeights(swap_on_epoch=True), checkpoint("averages.keras")],
        "lowers the rate": lambda: [kinds.ReduceLROnPlateau(**best, patience=1)],
        "watch": lambda: [
            kinds.CSVLogger(folder / "log.csv"),
            kinds.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            kinds.TerminateOnNaN(),
            kinds.LambdaCallback(),
        ],
    }


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", list(stock(Path())))
def test_zeros_beside_a_stock_callback(name: str, order: str, tmp_path: Path) -> None:
    x, y = images(8 * BATCHES)
    averaging = "average" in name
    model = network(keras.optimizers.Adam(use_ema=True) if averaging else "adam")
    pruning, others = Pruning(SPARSITY, "weight"), stock(tmp_path)[name]()
    given = [*others, pruning] if order == "before" else [pruning, *others]
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, validation_data=(x, y), callbacks=[Worsening(), *given])
    assert shares(model) == pytest.approx(wanted(model), abs=1e-6)
    for path in tmp_path.glob("*.keras"):
        if path.stem not in ("1", "2"):  # epochs before the sparsity is reached
            assert shares(keras.saving.load_model(path)) == pytest.approx(wanted(model), abs=1e-6)
    for path in tmp_path.glob("*.weights.h5"):
        other = network()
        other.load_weights(path)
        assert shares(other) == pytest.approx(wanted(model), abs=1e-6)
    assert any(tmp_path.iterdir()) == (name.startswith("saves") or name == "watch")


WAYS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)},
    "decay": {"optimizer": lambda: keras.optimizers.AdamW(weight_decay=0.01)},
    "clipped": {"optimizer": lambda: keras.optimizers.RMSprop(clipnorm=1.0)},
    "accumulated": {"optimizer": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2)},
    "averaged": {"optimizer": lambda: keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)},
    "overwritten by averages": {"optimizer": lambda: keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=3)},
    "scaled loss": {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(use_ema=True))},
    "eager": {"run_eagerly": True},
    "compiled by XLA": {"jit_compile": True},
    "several steps at once": {"steps_per_execution": 3},
}


@pytest.mark.parametrize("way", list(WAYS))
def test_zeros_in_every_way_of_training(way: str, tmp_path: Path) -> None:
    options = dict(WAYS[way])
    x, y = images(8 * BATCHES)
    model = network(options.pop("optimizer", lambda: "adam")(), **options)
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "batches.keras", save_freq=1)
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=[saved, Pruning(SPARSITY, "weight")])
    for found in (model, keras.saving.load_model(tmp_path / "batches.keras")):
        assert shares(found) == pytest.approx(wanted(model), abs=1e-6)


class OwnStep(keras.Model):  # type: ignore[misc, name-defined, unused-ignore]
    """Trains by plain TensorFlow: no optimizer of Keras is asked."""

    def train_step(self, data: Any) -> dict[str, Any]:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, self(x, training=True)))
        variables = [variable.value for variable in self.trainable_variables]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.01 * gradient)
        return {"loss": loss}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its training step is TensorFlow's")
def test_a_training_step_without_optimizer_is_counted_and_held() -> None:
    x, y = images(8 * BATCHES)
    plain = NETWORKS["plain"](keras)
    model = OwnStep(plain.inputs, plain.outputs)
    model.compile(optimizer=None, loss=None)
    pruning = Pruning(SPARSITY, "weight")
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=[pruning])
    assert pruning.step == EPOCHS * BATCHES
    assert shares(model) == pytest.approx(wanted(model), abs=1e-6)


def batches_of_unknown_number(x: Any, y: Any) -> Any:
    for start in range(0, len(x), 8):
        yield x[start : start + 8], y[start : start + 8]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the data are TensorFlow's")
def test_data_that_do_not_know_their_length() -> None:
    import tensorflow as tf

    x, y = images(8 * BATCHES)
    signature = tf.TensorSpec((None, *x.shape[1:])), tf.TensorSpec((None,), tf.int64)
    data = tf.data.Dataset.from_generator(lambda: batches_of_unknown_number(x, y), output_signature=signature)
    model, pruning = network(), Pruning(SPARSITY, "weight")
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[pruning])
    assert pruning.schedule == Schedule(BATCHES, EPOCHS * BATCHES // 2, 1)
    assert shares(model) == pytest.approx(wanted(model), abs=1e-6)
    once = network()
    with pytest.warns(UserWarning, match="do not say how many batches"):
        once.fit(data, epochs=1, verbose=0, callbacks=[Pruning(SPARSITY, "weight")])
    assert shares(once) == pytest.approx(wanted(once), abs=1e-6)


@pytest.mark.parametrize("callback", [True, False])
@pytest.mark.parametrize("anew", [True, False])
def test_zeros_hold_in_later_training_until_they_are_released(anew: bool, callback: bool) -> None:
    """With the same callback or without any; compiled anew, with averages that know nothing of the past, or not."""
    x, y = images(8 * BATCHES)
    model, pruning = network(), Pruning(SPARSITY, "weight")
    model.fit(x, y, batch_size=8, verbose=0)  # a training step compiled before
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=[pruning])
    before = [values(layer.kernel) for layer in prunable_layers(model)]
    if anew:
        optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)
        model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[pruning] if callback else [])
    for layer, kernel in zip(prunable_layers(model), before, strict=True):
        assert ((values(layer.kernel) == 0) == (kernel == 0)).all()
        assert (values(layer.kernel) != kernel).any()
    assert release(model) == len(prunable_layers(model))
    assert all(layer.kernel.constraint is None for layer in prunable_layers(model))
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert max(shares(model)) < 0.3
    pruning.release()


def test_what_prune_gives_stays_pruned_and_goes_further() -> None:
    data = images(8 * BATCHES)
    pruned, _ = prune(network(), data, sparsity=0.5, pattern="weight", epochs=1, batch_size=8, progress=False)
    before = [values(layer.kernel) == 0 for layer in prunable_layers(pruned)]
    pruned.fit(*data, batch_size=8, verbose=0)
    assert all(
        ((values(la.kernel) == 0) == zero).all() for la, zero in zip(prunable_layers(pruned), before, strict=True)
    )
    pruned.fit(*data, batch_size=8, epochs=2, verbose=0, callbacks=[Pruning(SPARSITY, "weight")])
    assert shares(pruned) == pytest.approx(wanted(pruned), abs=1e-6)
    assert all((values(la.kernel) == 0)[zero].all() for la, zero in zip(prunable_layers(pruned), before, strict=True))


def test_a_constraint_of_the_user_is_kept() -> None:
    layers, (x, y) = keras.layers, images(32)
    model = keras.Sequential([
        keras.Input(x.shape[1:]),
        layers.Flatten(),
        layers.Dense(16, "relu", kernel_constraint=keras.constraints.MaxNorm(0.5), name="hidden"),
        layers.Dense(4, "softmax"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    own = model.get_layer("hidden").kernel.constraint
    model.fit(x, y, epochs=4, verbose=0, callbacks=[Pruning(SPARSITY, "weight")])
    kernel = values(model.get_layer("hidden").kernel)
    assert np.linalg.norm(kernel, axis=0).max() <= 0.5 + 1e-6
    assert np.mean(kernel == 0) == pytest.approx(SPARSITY, abs=1e-3)
    release(model)
    assert model.get_layer("hidden").kernel.constraint is own


@pytest.mark.parametrize("schedule", [Schedule(0, 100000, 10), Schedule(5000, 6000, 10)])
def test_a_schedule_that_ends_after_the_run_is_told_before_training(schedule: Schedule) -> None:
    x, y = images(16)
    with pytest.raises(
        InputError, match=r"schedule: .* reaches .* % of the wanted sparsity in the 2 steps of this run"
    ):
        prune(network(), (x, y), schedule=schedule, epochs=1, batch_size=8, progress=False)
    told: list[int] = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: told.append(batch))
    with pytest.warns(UserWarning, match="of the wanted sparsity in the 2 steps"):
        network().fit(x, y, batch_size=8, verbose=0, callbacks=[Pruning(0.5, schedule=schedule), count])
    assert told == [0, 1]


@pytest.mark.parametrize("schedule", ["sudden", 3, None, ("gradual",)])
def test_a_schedule_of_another_name_is_refused(schedule: Any) -> None:
    with pytest.raises(InputError, match="wanted 'gradual', 'one-shot' or a Schedule"):
        Pruning(0.5, schedule=schedule)
