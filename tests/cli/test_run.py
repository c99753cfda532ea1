"""edgecnn run: a picture or arrays in, classes or a file out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.cli import main
from small_models import dense_pair, mean_classifier, save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with model.ecnn (mean of each channel of a 4 x 4 picture), pair.ecnn and photo.png."""
    save(mean_classifier(metadata={"labels": ["red", "green", "blue"]}), tmp_path)
    save(dense_pair(), tmp_path, "pair.ecnn")
    Image.new("RGB", (40, 30), (51, 204, 102)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_picture_s_best_classes_are_shown_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.ecnn", "photo.png", "--top", "2"]) == 0
    assert capsys.readouterr().out == "  1 green  204.000000\n  2 blue   102.000000\n"


@pytest.mark.parametrize(
    ("options", "green"),
    [(["--scale", "1/255"], 0.8), (["--scale", "0.5"], 102.0), (["--scale", "1/102", "--offset", "-1"], 1.0)],
)
def test_scale_and_offset(options: list[str], green: float, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.ecnn", "photo.png", "--json", *options]) == 0
    top = json.loads(capsys.readouterr().out)["outputs"]["means"]["top"]
    assert top[0][0]["label"] == "green"
    assert top[0][0]["score"] == pytest.approx(green, abs=1e-6)


def test_answers_are_written_to_npy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.ecnn", "photo.png", "--output", "y.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == "y.npy"
    assert np.load("y.npy").tolist() == [[51.0, 204.0, 102.0]]


def test_answers_of_several_outputs_are_written_to_npz(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", left=np.ones((1, 3)), right=np.ones((1, 3)))
    assert main(["run", "pair.ecnn", "x.npz", "--output", "y.npz"]) == 0
    with np.load("y.npz") as loaded:
        assert {name: loaded[name].tolist() for name in loaded.files} == {"sum": [[2.0] * 3], "double": [[2.0] * 3]}


def test_an_existing_file_is_kept_without_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "y.npy").write_bytes(b"precious")
    assert main(["run", "model.ecnn", "photo.png", "--output", "y.npy"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (folder / "y.npy").read_bytes() == b"precious"
    assert main(["run", "model.ecnn", "photo.png", "--output", "y.npy", "--force"]) == 0
    assert np.load("y.npy").shape == (1, 3)


def test_an_array_of_the_wrong_shape_is_2_with_the_likely_mend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", np.ones((1, 3, 4, 4)))
    assert main(["run", "model.ecnn", "x.npy"]) == 2
    assert "looks like NCHW" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [5, "abc", {"a": 1}, [[1], {}, None]])
def test_labels_of_a_hostile_file_do_no_harm(labels: object, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(mean_classifier(metadata={"labels": labels}), folder, "odd.ecnn")
    code = main(["run", "odd.ecnn", "photo.png"])
    assert code in (0, 3)
    assert "bug" not in capsys.readouterr().err


def test_tensorflow_computes_where_it_is_asked_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorflow")
    assert main(["run", "model.ecnn", "photo.png", "--top", "2", "--device", "tensorflow"]) == 0
    assert capsys.readouterr().out == "  1 green  204.000000\n  2 blue   102.000000\n"


def test_an_unknown_device_ends_with_its_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.ecnn", "photo.png", "--device", "tpu"]) == 7
    assert "'tpu'" in capsys.readouterr().err
