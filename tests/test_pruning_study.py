"""The study's own arithmetic and files. Nothing is trained here."""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(name="study")
def _study(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/pruning_study.py, imported as it is when run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("pruning_study")
    for name in ("pruning_study", "engines"):
        sys.modules.pop(name, None)


def point(study: Any, seed: int, accuracy: float, litert: float | None = None) -> Any:
    return study.Point(
        "ordinary", "block", 0.8, seed, accuracy, 10, 1000, 0.5, None if litert is None else 2000, litert
    )


def test_idx_files_are_read_compressed_or_not(study: Any, tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in images.shape) + images.tobytes()
    (tmp_path / "images").write_bytes(content)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content))
    assert (study.read_idx(tmp_path / "images") == images).all()
    assert (study.read_idx(tmp_path / "images.gz") == images).all()


def test_a_folder_without_the_files_ends_in_a_sentence(study: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no train-images"):
        study.read_data(tmp_path, None)


def test_channels_leave_the_share_of_weights_that_is_asked_for(study: Any) -> None:
    """A kernel between two layers of which a share c of the channels stays keeps c * c of its weights."""
    for sparsity in (0.0, 0.5, 0.8, 0.95):
        assert (1 - study.channels_for(sparsity)) ** 2 == pytest.approx(1 - sparsity)


def test_points_of_different_networks_and_seeds_are_files_of_their_own(study: Any, tmp_path: Path) -> None:
    study.Results(tmp_path).keep(point(study, 0, 0.9), point(study, 1, 0.8))
    one, other = sorted(tmp_path.glob("*.json"))
    assert (one.name, other.name) == ("results-ordinary-0.json", "results-ordinary-1.json")
    assert [p.accuracy for p in study.Results(tmp_path).points.values()] == [0.9, 0.8]


def test_a_network_that_is_not_there_is_refused(study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main([str(tmp_path), "--output", str(tmp_path / "out"), "--networks", "ordinary,wide"])
    assert "--networks wide: wanted some of ordinary, depthwise, plain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tables_hold_means_over_the_seeds_and_no_figure_where_one_lacks(study: Any) -> None:
    page = study.tables([point(study, 0, 0.90, 1.0), point(study, 1, 0.92, 2.0)])
    assert "| block | 80 % | 91.00 % | 1,000 | 2,000 | 0.5000 | 1.5000 | 2 |" in page
    assert "| - | 0.5000 | - | 2 |" in study.tables([point(study, 0, 0.9, 1.0), point(study, 1, 0.9)])


@pytest.mark.filterwarnings("ignore")
def test_what_has_been_trained_is_not_trained_again(study: Any, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    x, y = np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, np.int64)
    data = study.Data((x, y), (x, y))

    def make() -> Any:
        return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])

    key = study.key_of("plain", "all five", 0.8, 1)
    made = study.Results(tmp_path).network(key, data, make)

    def fail() -> Any:
        raise AssertionError("trained again")

    again = study.Results(tmp_path)
    weights = again.network(key, data, fail).get_weights()
    assert all((a == b).all() for a, b in zip(weights, made.get_weights(), strict=True))
    (kept,) = again.points.values()
    assert (kept.key, kept.parameters, kept.ms) == (key, 7850, None)


@pytest.mark.filterwarnings("ignore")
def test_all_networks_of_a_kind_are_measured_together(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = pytest.importorskip("keras")
    monkeypatch.setattr(study, "ROUNDS", 1)
    monkeypatch.setattr(study, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(study, "load_litert", lambda path, threads: lambda x: keras.saving.load_model(kept[path])(x))
    monkeypatch.setattr(study, "as_tflite", lambda model: b"lite")
    x = np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype(np.float32)
    data = study.Data(*[(x, np.zeros(4, np.int64))] * 2)
    results, kept = study.Results(tmp_path), {}
    for technique in ("dense", "block"):
        key = study.key_of("ordinary", technique, 0, 0)
        results.network(key, data, study.ordinary)
        kept[results.model_path(key).with_suffix(".tflite")] = results.model_path(key)
    study.measure(results, data)
    for point in study.Results(tmp_path).points.values():
        assert point.bytes == results.model_path(point.key).with_suffix(".ecnn").stat().st_size
        assert point.litert_bytes == 4
        assert point.ms > 0
        assert point.litert_ms > 0


def test_processes_of_different_seeds_share_a_folder(study: Any, tmp_path: Path) -> None:
    one, other = study.Results(tmp_path), study.Results(tmp_path)
    one.keep(point(study, 0, 0.9))
    other.keep(point(study, 1, 0.8))
    one.keep(point(study, 0, 0.95))
    assert {p.seed: p.accuracy for p in study.Results(tmp_path).points.values()} == {0: 0.95, 1: 0.8}
