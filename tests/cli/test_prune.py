"""edgecnn prune: a Keras file in, a pruned one out, and what it brought."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.cli import main
from edgecnn.training import layer_sparsity
from training_networks import NETWORKS, images

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with model.keras and data.npz."""
    NETWORKS["plain"](keras).save(tmp_path / "model.keras")
    (x, y), (other_x, other_y) = images(64), images(32, 1)
    np.savez(tmp_path / "data.npz", x=x, y=y, x_val=other_x, y_val=other_y)
    np.savez(tmp_path / "grey.npz", x=x[..., 0], y=y)
    np.savez(tmp_path / "names.npz", pictures=x, y=y)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PRUNE = ["prune", "model.keras", "--data", "data.npz"]


def test_the_report_has_accuracy_size_and_latency_before_and_after(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--sparsity", "0.75", "--pattern", "block:4", "--epochs", "1", "--ecnn", "small.ecnn", "--json"]
    assert main([*PRUNE, *options]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["output"] == "model_pruned.keras"
    assert record["images"] == 32
    for side in ("before", "after"):
        assert set(record[side]) == {"accuracy", "loss", "bytes", "ms"}
        assert record[side]["bytes"] > 0
        assert record[side]["ms"] > 0
    pruned = keras.saving.load_model("model_pruned.keras")
    assert record["pruning"]["layers"] == [vars(layer) for layer in layer_sparsity(pruned)]
    x, _ = images(4, 2)
    np.testing.assert_allclose(edgecnn.load("small.ecnn")(x), np.asarray(pruned(x)), rtol=0, atol=1e-5)
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.npz", "grey.npz", "model.keras", "model_pruned.keras", "names.npz", "small.ecnn"
    ]  # fmt: skip


def test_removed_channels_make_the_file_smaller(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PRUNE, "--sparsity", "0.5", "--pattern", "channel", "--epochs", "0", "-o", "small.keras"]) == 0
    page = capsys.readouterr().out
    for word in ("accuracy", ".ecnn file", "one image, one thread", "before", "after", "hidden"):
        assert word in page
    assert keras.saving.load_model("small.keras").count_params() < 20_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "grey.npz"], 2, "grey pictures? add the channel axis"),
        (["--data", "names.npz"], 2, "wanted arrays x and y"),
        (["--layers", "third"], 2, "name no layer"),
        (["--sparsity", "-0.5"], 2, "from 0 to below 1"),
        (["-o", "model.keras", "--force"], 2, "the same file"),
        (["-o", "data.keras"], 2, "exists already"),
        (["--ecnn", "small.tflite"], 2, "ends with .ecnn"),
        (["--resume", "data.npz"], 2, "a backup of another model"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    arguments: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data.keras").write_bytes(b"of somebody else")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([*PRUNE, *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_without_a_loss_is_given_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.saving.load_model("model.keras", compile=False)
    model.save("bare.keras")
    line = ["prune", "bare.keras", "--data", "data.npz", "--epochs", "0", "-o", "new.keras"]
    assert main(line) == 2
    assert "--loss" in capsys.readouterr().err
    assert main([*line, "--loss", "sparse_categorical_crossentropy"]) == 0


def test_a_layer_that_cannot_be_converted_is_told_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dense(8)(keras.layers.LSTM(4)(keras.layers.Reshape((8, 24))(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(4, "softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save("recurrent.keras")

    def fail(*given: Any, **options: Any) -> None:
        raise AssertionError("training has begun")

    monkeypatch.setattr(keras.Model, "fit", fail)
    assert main(["prune", "recurrent.keras", "--data", "data.npz"]) == 4
    assert "LSTM" in capsys.readouterr().err


def test_without_keras_the_line_that_installs_it_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    assert main(PRUNE) == 7
    assert 'pip install "edgecnn[train]"' in capsys.readouterr().err
