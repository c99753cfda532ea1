"""Pruning whole models: zeros that hold, training that goes on where it stopped, and errors before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.errors import DataFileError, InputError
from training_networks import NETWORKS, SIZE, images, seeded, values

keras = pytest.importorskip("keras")

from edgecnn.training import Pruning, Schedule, layer_sparsity, prunable_layers, prune, remove_channels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def kernels(model: Any, names: list[str]) -> list[Any]:
    return [values(model.get_layer(name).kernel) for name in names]


@pytest.mark.parametrize("schedule", ["gradual", "one-shot"])
@pytest.mark.parametrize("pattern", ["weight", "block:4", "2:4"])
def test_zeros_hold_through_training_saving_and_conversion(pattern: str, schedule: str, tmp_path: Path) -> None:
    model = NETWORKS["residual"](keras)
    before = [values(variable) for variable in model.variables]
    x, y = images()
    pruned, report = prune(model, (x, y), pattern=pattern, schedule=schedule, epochs=3, batch_size=8, progress=False)
    assert all((a == values(b)).all() for a, b in zip(before, model.variables, strict=True))
    names = [layer.name for layer in prunable_layers(pruned)]
    for kernel in kernels(pruned, names):
        *_, channels, filters = kernel.shape
        if pattern == "2:4":
            whole = kernel.reshape(-1, channels, filters)[:, : channels // 4 * 4].reshape(-1, 4, filters)
            assert (np.count_nonzero(whole, axis=1) <= 2).all()
            continue
        zeros = kernel == 0
        assert zeros.mean() == pytest.approx(0.8, abs=0.5 / kernel[..., 0].size + 8 / kernel.size)
        if pattern == "block:4":
            whole = zeros[..., : filters // 4 * 4].reshape(-1, 4)
            assert (whole.all(axis=1) | ~whole.any(axis=1)).all()
    found = {layer.name: layer for layer in report.layers}
    assert [found[name].zeros for name in names] == [int((k == 0).sum()) for k in kernels(pruned, names)]
    pruned.save(tmp_path / "pruned.keras")
    again = keras.saving.load_model(tmp_path / "pruned.keras")
    assert all((a == b).all() for a, b in zip(kernels(again, names), kernels(pruned, names), strict=True))
    wanted = values(pruned(x, training=False))
    got = edgecnn.load(to_graph(tmp_path / "pruned.keras"))(x)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)


def test_what_interrupts_pruning_changes_nothing(tmp_path: Path) -> None:
    """Stopped in the second epoch and begun again: the same bits, masks, optimizer and weights, as in one go."""
    x, y = images(32)
    backup = tmp_path / "backup.npz"

    class Stop(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if self.model.optimizer.iterations == 6:
                raise KeyboardInterrupt

    def fitted(**options: Any) -> Any:
        model = NETWORKS["residual"](keras)
        callbacks = [Pruning(0.6, "weight", schedule=Schedule(0, 8, 2), **options.pop("kept", {}))]
        model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=callbacks + options.pop("more", []))
        return [values(variable) for variable in [*model.weights, *model.optimizer.variables]]

    whole = fitted()
    with pytest.raises(KeyboardInterrupt):
        fitted(kept={"backup": backup}, more=[Stop()])
    assert backup.exists()
    resumed = fitted(kept={"backup": backup})
    assert not backup.exists()
    assert all((a == b).all() for a, b in zip(whole, resumed, strict=True))


@seeded
def test_the_same_seed_prunes_to_the_same_bits() -> None:
    x, y = images(24)
    first, second = (
        prune(NETWORKS["plain"](keras), (x, y), epochs=2, batch_size=8, seed=3, progress=False)[0] for _ in range(2)
    )
    assert all((values(a) == values(b)).all() for a, b in zip(first.variables, second.variables, strict=True))


def test_channels_are_gone_and_the_report_says_so() -> None:
    x, y = images(24)
    model = NETWORKS["squeezed"](keras)
    smaller, report = prune(model, (x, y), sparsity=0.5, pattern="channel", epochs=1, batch_size=8, progress=False)
    assert report.parameters == (model.count_params(), smaller.count_params())
    assert smaller.count_params() < 0.75 * model.count_params()
    assert report.layers == layer_sparsity(smaller)
    np.testing.assert_allclose(
        edgecnn.load(to_graph(smaller))(x), values(smaller(x, training=False)), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("pattern", ["weight", "channel"])
def test_dropout_that_was_turned_off_is_no_obstacle(pattern: str) -> None:
    """It keeps the seed that it was made with; a copy made with a rate of zero has none."""
    x, y = images(24)
    model = NETWORKS["plain"](keras)
    (dropout,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    dropout.rate = 0.0
    pruned, report = prune(model, (x, y), sparsity=0.5, pattern=pattern, epochs=1, batch_size=8, progress=False)
    assert any(layer.zeros for layer in report.layers) or report.parameters[1] < report.parameters[0]
    same = remove_channels(model)
    np.testing.assert_allclose(values(same(x, training=False)), values(model(x, training=False)), rtol=0, atol=1e-6)
    assert all(layer.rate == 0 for layer in pruned.layers if isinstance(layer, keras.layers.Dropout))


def untrained(*args: Any, **options: Any) -> str:
    """What prune says, and that it said so before any training."""
    x, y = images(8)
    data = options.pop("data", (x, y))
    model = options.pop("model", None) or NETWORKS["plain"](keras)
    before = [values(variable) for variable in model.variables]
    with pytest.raises(InputError) as error:
        prune(model, data, *args, progress=False, **options)
    assert all((a == values(b)).all() for a, b in zip(before, model.variables, strict=True))
    return str(error.value)


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, float("nan"), "0.8", True])
def test_a_sparsity_out_of_range_is_refused(sparsity: Any) -> None:
    assert "wanted a share of the weights from 0 to below 1" in untrained(sparsity=sparsity)


def test_what_cannot_be_pruned_is_refused_by_name() -> None:
    layers = keras.layers
    bare = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
    bare.compile("adam", "sparse_categorical_crossentropy")
    assert "nothing to prune" in untrained(model=bare)
    assert "'absent'" in untrained(layers=["absent"])
    assert "'bands'" in untrained(pattern="bands")
    assert "epochs" in untrained(epochs=-1)
    uncompiled = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Flatten(), layers.Dense(4)])
    assert "compile" in untrained(model=uncompiled)


def test_data_of_the_wrong_shape_are_refused() -> None:
    x, y = images(8)
    message = untrained(data=(x[:, :, :4], y))
    assert "wants (N, 8, 8, 3), given (N, 8, 4, 3)" in message
    untrained(data=(x, y[:5]))
    untrained(validation_data=(x[..., :2], y))


def test_a_damaged_or_foreign_backup_is_refused(tmp_path: Path) -> None:
    x, y = images(8)
    path = tmp_path / "backup.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(DataFileError, match=r"backup\.npz: no backup of pruning"):
        NETWORKS["plain"](keras).fit(x, y, verbose=0, callbacks=[Pruning(0.5, backup=path)])
    np.savez(path, epoch=1)
    with pytest.raises(InputError, match="a backup of another model"):
        NETWORKS["plain"](keras).fit(x, y, verbose=0, callbacks=[Pruning(0.5, backup=path)])


@pytest.mark.parametrize("size", [1, 100, -1000, -1])
def test_a_backup_that_was_cut_short_is_refused(size: int, tmp_path: Path) -> None:
    x, y = images(8)
    path = tmp_path / "backup.npz"
    with pytest.raises(KeyError, match="stop"):
        NETWORKS["plain"](keras).fit(
            x, y, epochs=2, verbose=0,
            callbacks=[Pruning(0.5, backup=path), keras.callbacks.LambdaCallback(on_epoch_begin=_stop_at_the_second)],
        )  # fmt: skip
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataFileError, match=r"backup\.npz: no backup of pruning"):
        NETWORKS["plain"](keras).fit(x, y, verbose=0, callbacks=[Pruning(0.5, backup=path)])


def _stop_at_the_second(epoch: int, logs: Any) -> None:
    if epoch == 1:
        raise KeyError("stop")


def test_what_cannot_be_saved_is_not_lost(tmp_path: Path) -> None:
    """A full disk at the very end: the second run has nothing left to train, and gives the bits of the first."""
    x, y = images(24)
    backup, saved = tmp_path / "backup.npz", []
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "progress": False, "backup": backup}

    def full(model: Any) -> None:
        raise DataFileError("no space left on device")

    with pytest.raises(DataFileError, match="no space left"):
        prune(NETWORKS["residual"](keras), (x, y), save=full, **options)
    assert backup.exists()
    again, report = prune(NETWORKS["residual"](keras), (x, y), save=saved.append, **options)
    assert saved == [again]
    assert not report.history.get("loss")
    assert not backup.exists()
    del options["backup"]
    whole, _ = prune(NETWORKS["residual"](keras), (x, y), **options)
    assert all((values(a) == values(b)).all() for a, b in zip(whole.weights, again.weights, strict=True))


def test_a_backup_that_is_not_used_is_not_removed(tmp_path: Path) -> None:
    x, y = images(8)
    path = tmp_path / "data.npz"
    np.savez(path, x=x)
    prune(NETWORKS["plain"](keras), (x, y), epochs=0, progress=False, backup=path)
    assert path.exists()
