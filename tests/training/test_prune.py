"""The masks step by step, prune() argument by argument, and everything that it refuses before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn.training.keras_models import batches, seed_random_layers
from training_networks import NETWORKS, SIZE, compiled, images, seeded, values

keras = pytest.importorskip("keras")

from edgecnn.training import Pruning, Schedule, layer_sparsity, prunable_layers, prune, refresh_statistics, sensitivity  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

PRUNED = ["second", "hidden", "answer"]


def plain() -> Any:
    return NETWORKS["plain"](keras)


def zeros(model: Any) -> dict[str, Any]:
    """Of each kernel, where it is zero."""
    return {layer.name: values(layer.kernel) == 0 for layer in prunable_layers(model)}


def share(where: Any) -> float:
    return float(np.mean(where))


class Watch(keras.callbacks.Callback):
    """Sparsity of the second convolution after each batch; placed behind the pruning callback."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(share(values(self.model.get_layer("second").kernel) == 0))


def test_by_default_the_first_convolution_and_depthwise_ones_stay() -> None:
    assert [layer.name for layer in prunable_layers(plain())] == PRUNED
    kinds = {type(layer).__name__ for layer in prunable_layers(NETWORKS["depthwise"](keras))}
    assert kinds == {"Conv2D", "SeparableConv2D", "Dense"}
    assert [layer.name for layer in prunable_layers(plain(), ["s*"])] == ["stem", "second"]


def test_a_schedule_in_steps_is_followed_and_zeros_never_come_back() -> None:
    model, watch = plain(), Watch()
    x, y = images(48)
    pruning = Pruning(0.75, "weight", schedule=Schedule(begin=2, end=6, frequency=2))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[pruning, watch])
    kernel = 3 * 3 * 8 * 20
    wanted = [0, 0, 0, 0.75 * (1 - 0.5**3), 0.75 * (1 - 0.5**3), 0.75, 0.75]
    assert [round(kernel * value) for value in watch.seen] == [
        round(kernel * value) for value in [*wanted, *[0.75] * 5]
    ]


@pytest.mark.parametrize("optimizer", ["sgd", keras.optimizers.Adam(0.01, use_ema=True), keras.optimizers.AdamW(0.01)])
@pytest.mark.parametrize("pattern", ["weight", "block:4", "2:4", "channel"])
def test_masked_weights_are_exactly_zero_after_training_and_in_the_file(
    pattern: str, optimizer: Any, tmp_path: Path
) -> None:
    model = plain()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    if not isinstance(optimizer, str):
        model.optimizer = type(optimizer).from_config(optimizer.get_config())
    pruning = Pruning(None if pattern == "2:4" else 0.5, pattern)
    model.fit(*images(32), batch_size=8, epochs=2, verbose=0, callbacks=[pruning])
    model.save(tmp_path / "pruned.keras")
    saved = keras.saving.load_model(tmp_path / "pruned.keras")
    masks = pruning.pruner.masks()
    assert any(not mask.all() for mask in masks.values())
    for again in (model, saved):
        variables = {_short(variable.path): values(variable) for variable in again.variables}
        for path, mask in masks.items():
            path = _short(path)
            held = variables[path][~mask]
            assert held.tobytes() == bytes(held.nbytes)  # positive zeros
            assert variables[path][mask].all() or "normal" in path or "bias" in path


def _short(path: str) -> str:
    """Layer and variable; a loaded model has another name than a new one."""
    return "/".join(path.split("/")[-2:])


def test_other_weights_go_on_learning() -> None:
    model = plain()
    before = values(model.get_layer("second").kernel).copy()
    pruning = Pruning(0.5, "weight")
    model.fit(*images(32), batch_size=8, verbose=0, callbacks=[pruning])
    mask = pruning.pruner.masks()[model.get_layer("second").kernel.path]
    after = values(model.get_layer("second").kernel)
    assert (after[mask] != before[mask]).mean() > 0.9


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch's trainer takes one step at a time")
def test_several_steps_in_one_execution_end_at_the_whole_sparsity() -> None:
    model = plain()
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=4)
    pruning = Pruning(0.8, "weight", schedule=Schedule(0, 5, 1))
    model.fit(*images(64), batch_size=8, verbose=0, callbacks=[pruning])
    assert pruning.step == 8
    assert share(zeros(model)["second"]) == 0.8


class Interrupted(Exception):
    """In place of a lost machine."""


class Interrupt(keras.callbacks.Callback):
    """Fails in the second batch of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.now == self.epoch and batch == 1:
            raise Interrupted


def weights_of(model: Any) -> list[bytes]:
    return [values(variable).tobytes() for variable in model.weights]


@seeded
@pytest.mark.parametrize("pattern", ["weight", "block:8", "channel"])
def test_interrupted_and_resumed_pruning_ends_with_the_same_bits(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, backup = images(40), tmp_path / "backup.npz"
    arguments: dict[str, Any] = {
        "sparsity": 0.6, "pattern": pattern, "epochs": 4, "batch_size": 8, "seed": 3, "progress": False
    }  # fmt: skip
    whole, report = prune(plain(), data, **arguments)
    assert len(report.history["loss"]) == 4

    from edgecnn.training import pruning as module

    numbered = module.numbered_epochs
    with monkeypatch.context() as context:
        context.setattr(module, "numbered_epochs", lambda *given: _both(numbered(*given), Interrupt(2)))
        with pytest.raises(Interrupted):
            prune(plain(), data, backup=backup, **arguments)
    monkeypatch.setattr(module, "numbered_epochs", numbered)
    assert backup.exists()
    resumed, report = prune(plain(), data, backup=backup, **arguments)
    assert len(report.history["loss"]) == 2
    assert weights_of(resumed) == weights_of(whole)
    assert not backup.exists()


def _both(first: Any, second: Any) -> Any:
    return keras.callbacks.CallbackList([first, second])


@seeded
def test_another_seed_ends_elsewhere_and_the_same_one_does_not() -> None:
    data = images(40)
    found = [
        weights_of(prune(plain(), data, epochs=2, batch_size=8, seed=seed, progress=False)[0]) for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("rate", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 10)])
def test_the_learning_rate_is_that_of_fine_tuning_whatever_the_model_had(rate: Any) -> None:
    model = plain()
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), "sparse_categorical_crossentropy")
    pruned, _ = prune(model, images(16), learning_rate=1e-30, pattern="weight", epochs=1, progress=False)
    assert (pruned.optimizer.momentum, float(pruned.optimizer.learning_rate)) == (0.5, np.float32(1e-30))
    old, new = (values(m.get_layer("hidden").kernel) for m in (model, pruned))
    assert (new[new != 0] == old[new != 0]).all()


def test_one_call_prunes_a_copy_and_reports() -> None:
    model = plain()
    before = weights_of(model)
    pruned, report = prune(
        model,
        images(64),
        sparsity=0.75,
        pattern="block:4",
        epochs=3,
        batch_size=8,
        validation_data=images(32, 1),
        progress=False,
    )
    assert weights_of(model) == before
    by_name = {layer.name: layer for layer in report.layers}
    assert by_name["stem"].zeros == 0
    assert {name: by_name[name].zeros / by_name[name].weights for name in PRUNED[:2]} == {
        "second": 0.75,
        "hidden": 0.75,
    }
    assert report.layers == layer_sparsity(pruned)
    assert set(report.before) == set(report.after) == {"accuracy", "loss"}
    assert "accuracy:" in str(report)
    assert report.to_json()["sparsity"] == report.sparsity > 0.7


def test_whole_channels_leave_the_model() -> None:
    pruned, report = prune(plain(), images(32), sparsity=0.5, pattern="channel", epochs=1, batch_size=8, progress=False)
    assert (pruned.get_layer("second").filters, pruned.get_layer("hidden").units) == (10, 12)
    assert report.parameters[1] < 0.5 * report.parameters[0]


def test_one_shot_without_fine_tuning_zeroes_the_smallest() -> None:
    model = plain()
    pruned, _ = prune(model, images(16), sparsity=0.5, pattern="weight", epochs=0, progress=False)
    old, new = (values(m.get_layer("hidden").kernel) for m in (model, pruned))
    gone = new == 0
    assert gone.mean() == 0.5
    assert (new[~gone] == old[~gone]).all()
    assert np.abs(old[gone]).max() <= np.abs(old[~gone]).min()


def test_a_threshold_is_of_the_normalised_magnitude() -> None:
    model = plain()
    pruned, _ = prune(model, images(16), threshold=0.3, normalise="max", pattern="weight", epochs=0, progress=False)
    kernel = np.abs(values(model.get_layer("second").kernel))
    assert (zeros(pruned)["second"] == (kernel / kernel.max() < 0.3)).all()


def test_over_the_network_all_layers_together_have_the_sparsity() -> None:
    pruned, _ = prune(plain(), images(16), sparsity=0.7, scope="network", pattern="weight", epochs=0, progress=False)
    found = zeros(pruned)
    assert abs(sum(z.sum() for z in found.values()) / sum(z.size for z in found.values()) - 0.7) < 1e-3
    assert len({round(share(z), 2) for z in found.values()}) > 1


def test_refreshed_statistics_are_averages_over_the_batches() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    x = np.random.default_rng(0).normal(3, 2, (32, 2)).astype(np.float32)
    assert refresh_statistics(model, batches((x, x), 8)) == 1
    parts = x.reshape(4, 8, 2)
    layer = model.layers[1]
    np.testing.assert_allclose(values(layer.moving_mean), x.mean(axis=0), rtol=1e-5)
    assert layer.momentum == 0.99
    # Batches are drawn in another order; their variances are those of eight images.
    assert (values(layer.moving_variance) < x.var(axis=0) * 1.05).all()
    assert (values(layer.moving_variance) > 0.5 * parts.var(axis=1).min(axis=0)).all()


@seeded
def test_random_layers_are_seeded_alike() -> None:
    models = [plain(), plain()]
    for model in models:
        seed_random_layers(model, 5)
    x, _ = images(8)
    first, second = (values(model(x, training=True)) for model in models)
    assert (first == second).all()


X, Y = images(16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, "from 0 to below 1"),
        ({"sparsity": -0.1}, "from 0 to below 1"),
        ({"sparsity": float("nan")}, "from 0 to below 1"),
        ({"sparsity": "half"}, "from 0 to below 1"),
        ({"sparsity": 0.5, "threshold": 0.1}, "give one of them"),
        ({"threshold": -1}, "threshold=-1"),
        ({"sparsity": 0.8, "pattern": "2:4"}, "sparsity of its own, 0.5"),
        ({"pattern": "rows"}, "wanted weight, block"),
        ({"normalise": "mean"}, "wanted 'rms'"),
        ({"scope": "world"}, "wanted 'layer'"),
        ({"schedule": "slowly"}, "wanted 'gradual'"),
        ({"epochs": -1}, "epochs=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"layers": ["third"]}, "name no layer with a kernel.*it has: stem, second, hidden, answer"),
        ({"backup": "backup.h5"}, "wanted an .npz file"),
        ({"backup": "no/such/folder/b.npz"}, "there is no folder"),
        ({"train_data": (X[..., 0], Y)}, r"wants \(N, 8, 8, 3\), given \(N, 8, 8\); grey"),
        ({"train_data": (X.transpose(0, 3, 1, 2), Y)}, "looks like NCHW"),
        ({"train_data": (X[:, :7], Y)}, r"wants \(N, 8, 8, 3\), given \(N, 7, 8, 3\)"),
        ({"train_data": (X, Y[:5])}, "differ in number"),
        ({"train_data": (X[:0], Y[:0])}, "no images"),
        ({"train_data": (X, Y + 1)}, "labels from .* 0 to 3"),
        ({"train_data": (X, np.zeros((16, 2, 2)))}, "do not fit loss"),
        ({"train_data": (X * np.nan, Y)}, "sample 0 holds NaN"),
        ({"train_data": (np.where(np.arange(16)[:, None, None, None] == 11, np.inf, X), Y)}, "sample 11 holds NaN or inf"),
        ({"validation_data": (X, np.where(Y == 0, np.nan, Y))}, "validation_data: sample .* holds NaN"),
        ({"seed": -1}, "seed=-1: wanted a whole number, 0 or more"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"batch_size": "32"}, "batch_size='32'"),
        ({"epochs": 2.0}, "epochs=2.0"),
        ({"train_data": iter([(X, Y)])}, "a generator can be used once only"),
        ({"train_data": []}, "no batch"),
        ({"train_data": [(X,)]}, "without labels"),
        ({"train_data": 3}, "wanted arrays"),
        ({"validation_data": (X[..., :1], Y)}, "validation_data: input"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_before_training(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = plain()

    def fail(*given: Any, **options: Any) -> None:
        raise AssertionError("training has begun")

    monkeypatch.setattr(keras.Model, "fit", fail)
    with pytest.raises(InputError, match=message):
        prune(model, **{"train_data": (X, Y), "progress": False, **arguments})


def test_models_that_cannot_be_pruned_are_told_so() -> None:
    layers = keras.layers
    with pytest.raises(InputError, match="nothing to prune"):
        prune(compiled(keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Conv2D(4, 3), layers.Flatten()])), (X, Y))
    with pytest.raises(InputError, match="no weights yet"):
        prune(keras.Sequential([layers.Dense(4)]), (X, Y))
    with pytest.raises(InputError, match="wanted a model of Keras 3, given builtins"):
        prune("model.keras", (X, Y))
    with pytest.raises(InputError, match="not compiled"):
        prune(keras.Sequential([keras.Input((3,)), layers.Dense(4)]), (X, Y))
    answer = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Flatten(), layers.Dense(4)])
    with pytest.raises(InputError, match="nothing to prune by whole channels"):
        prune(compiled(answer), (X, Y), pattern="channel")


def test_a_subclassed_model_is_pruned_in_place_but_not_copied() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.flat = keras.layers.Flatten()
            self.dense = keras.layers.Dense(32, name="dense")
            self.answer = keras.layers.Dense(4)

        def call(self, x: Any) -> Any:
            return self.answer(self.dense(self.flat(x)))

    model = Own()
    model(X)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, verbose=0, callbacks=[Pruning(0.5, "block")])
    assert share(values(model.dense.kernel) == 0) == 0.5
    with pytest.raises(InputError, match="channels are removed from functional and sequential models"):
        model.fit(X, Y, verbose=0, callbacks=[Pruning(0.5, "channel")])


def several(outputs: int) -> Any:
    """Two inputs, one answer or more."""
    layers = keras.layers
    inputs = [keras.Input((SIZE, SIZE, 3), name=name) for name in ("left", "right")]
    x = layers.Concatenate()([layers.Conv2D(8, 3)(given) for given in inputs])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
    answers = [layers.Dense(4, "softmax", name=f"answer_{i}")(x) for i in range(outputs)]
    model = keras.Model(inputs, answers if outputs > 1 else answers[0])
    model.compile(
        "adam", ["sparse_categorical_crossentropy"] * outputs if outputs > 1 else "sparse_categorical_crossentropy"
    )
    return model


@pytest.mark.parametrize(
    ("outputs", "data"),
    [
        (1, ([X, X], Y)),
        (1, ((X, X), Y)),
        (1, ({"left": X, "right": X}, Y)),
        (1, ([X, X], Y, np.ones(16, np.float32))),
        (2, ([X, X], [Y, Y])),
        (2, ((X, X), (Y, Y))),
    ],
)
def test_data_of_several_inputs_and_outputs(outputs: int, data: Any) -> None:
    pruned, _ = prune(several(outputs), data, sparsity=0.5, pattern="weight", epochs=1, batch_size=8, progress=False)
    assert all(share(where) == 0.5 for where in zeros(pruned).values())
    found = sensitivity(several(outputs), data, sparsities=[0.5])
    assert len(found.layers) == len(zeros(pruned))


def test_weights_of_samples_and_classes_count() -> None:
    """A sample of weight zero teaches nothing, nor does a class."""
    only, options = (
        (Y == 1).astype(np.float32),
        {"epochs": 1, "batch_size": 16, "progress": False, "learning_rate": 0.01},
    )
    by_sample = prune(plain_without_chance(), (X, Y, only), **options)[0]
    by_class = prune(plain_without_chance(), (X, Y), class_weight={0: 0.0, 1: 1.0, 2: 0.0, 3: 0.0}, **options)[0]
    unweighted = prune(plain_without_chance(), (X, Y), **options)[0]
    kernels = [values(model.get_layer("answer").kernel) for model in (by_sample, by_class, unweighted)]
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-6)
    assert np.abs(kernels[0] - kernels[2]).max() > 1e-3


def plain_without_chance() -> Any:
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((SIZE, SIZE, 3)), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(4, "softmax", name="answer")
    ])  # fmt: skip
    return compiled(model)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the data are TensorFlow's")
def test_data_without_end_and_with_nan_are_refused() -> None:
    import tensorflow as tf

    options = {"epochs": 1, "progress": False}
    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()
    with pytest.raises(InputError, match=r"train_data: it has no end; give data.take"):
        prune(plain(), endless, **options)
    pruned, _ = prune(plain(), endless.take(2), **options)
    assert zeros(pruned)
    damaged = X.copy()
    damaged[13, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="the loss became nan at batch 2"):
        prune(plain(), tf.data.Dataset.from_tensor_slices((damaged, Y)).batch(8), **options)


def test_a_list_of_two_batches_is_no_pair_of_arrays() -> None:
    pruned, _ = prune(plain(), [(X[:8], Y[:8]), (X[8:], Y[8:])], epochs=1, progress=False)
    assert zeros(pruned)


def test_frozen_layers_and_those_with_lora_stay() -> None:
    model = plain()
    model.get_layer("second").trainable = False
    assert "second" not in [layer.name for layer in prunable_layers(model)]
    assert [layer.name for layer in prunable_layers(model, ["second"])] == ["second"]
    model.get_layer("hidden").enable_lora(2)
    assert [layer.name for layer in prunable_layers(model)] == ["answer"]
    with pytest.raises(InputError, match=r"\['hidden'\] have LoRA weights"):
        prunable_layers(model, ["hidden"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data": (X + 0.5, Y)}, "data"),
        ({"seed": 4}, "seed"),
        ({"learning_rate": 0.5}, "optimizer or learning rate"),
        ({"batch_size": 4}, "number of epochs or batches, batch_size"),
        ({"epochs": 3}, "number of epochs or batches"),
        ({"sparsity": 0.5}, "settings of pruning"),
        ({"schedule": "one-shot"}, "schedule"),
        ({"model": "other"}, "weights to begin with"),
    ],
)
def test_a_backup_of_another_run_is_refused_by_what_differs(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.npz"

    def fail(model: Any) -> None:
        raise OSError("no space left")

    given: dict[str, Any] = {"epochs": 2, "batch_size": 8, "seed": 3, "progress": False, "backup": backup}
    with pytest.raises(OSError, match="no space left"):
        prune(plain(), (X, Y), save=fail, **given)
    model, data = plain(), change.pop("data", (X, Y))
    if change.pop("model", None):
        model.get_layer("hidden").bias.assign(np.ones(24))
    with pytest.raises(InputError, match=rf"a backup of another run: other {what}; remove it"):
        prune(model, data, **{**given, **change})
    assert backup.exists()


def test_each_layer_has_a_sparsity_of_its_own() -> None:
    """The first pattern that fits a name counts; what has no name stays."""
    options = {"pattern": "weight", "epochs": 2, "batch_size": 8, "progress": False}
    _, report = prune(plain(), (X, Y), sparsity={"second": 0.25, "s*": 0.9, "hidden": 0.75}, **options)
    found = {layer.name: layer.zeros / layer.weights for layer in report.layers}
    assert (found["second"], found["hidden"], found["answer"]) == (0.25, 0.75, 0.0)
    assert found["stem"] == pytest.approx(0.9, abs=0.01)
    weights = {layer.name: layer.weights for layer in report.layers if layer.name != "answer"}
    wanted = sum(found[name] * size for name, size in weights.items()) / sum(weights.values())
    assert report.history["sparsity"][-1] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": {}}, "wanted names of layers"),
        ({"sparsity": {1: 0.5}}, "wanted names of layers"),
        ({"sparsity": {"second": 1.0}}, "from 0 to below 1"),
        ({"sparsity": {"third": 0.5}}, "name no layer with a kernel"),
        ({"sparsity": {"second": 0.5}, "layers": ["second"]}, "leave layers"),
        ({"sparsity": {"second": 0.5}, "pattern": "channel"}, "leave layers"),
        ({"sparsity": {"second": 0.5}, "pattern": "2:4"}, "leave layers"),
        ({"sparsity": {"second": 0.5}, "scope": "network"}, "leave layers"),
    ],
)
def test_sparsities_of_layers_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(plain(), (X, Y), progress=False, **arguments)


@pytest.mark.parametrize("pattern", ["block", "2:4", "channel"])
def test_the_sparsity_is_in_the_logs(pattern: str) -> None:
    sparsity = None if pattern == "2:4" else 0.6
    _, report = prune(plain(), (X, Y), sparsity=sparsity, pattern=pattern, epochs=3, batch_size=4, progress=False)
    shown = report.history["sparsity"]
    assert len(shown) == 3
    assert shown == sorted(shown)
    assert shown[-1] == pytest.approx(0.5 if pattern == "2:4" else 0.6, abs=0.06)
