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


def test_tables_hold_means_over_the_seeds_and_no_figure_where_one_lacks(study: Any) -> None:
    page = study.tables([point(study, 0, 0.90, 1.0), point(study, 1, 0.92, 2.0)])
    assert "| block | 80 % | 91.00 % | 1,000 | 2,000 | 0.5000 | 1.5000 | 2 |" in page
    assert "| - | 0.5000 | - | 2 |" in study.tables([point(study, 0, 0.9, 1.0), point(study, 1, 0.9)])


def test_what_has_been_measured_is_not_measured_again(study: Any, tmp_path: Path) -> None:
    made = point(study, 0, 0.9)
    study.Results(tmp_path / "results.json").add(made.key, lambda: made)

    def fail() -> Any:
        raise AssertionError("measured again")

    again = study.Results(tmp_path / "results.json")
    again.add(made.key, fail)
    assert again.points == {made.key: made}


def test_moved_images_keep_their_pixels(study: Any) -> None:
    images = np.zeros((50, 28, 28, 1), np.float32)
    images[:, 10, 12] = 1
    moved = study.Shifted(images, np.zeros(50, int), 8, 0).changed(images)
    places = np.argwhere(moved[..., 0])
    assert (places[:, 0] == np.arange(50)).all()
    assert np.abs(places[:, 1] - 10).max() == 2
    assert set(places[:, 2]) <= {*range(10, 15), *range(13, 18)}
    assert len(set(places[:, 2])) > 5
