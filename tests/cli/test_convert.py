"""edgecnn convert: files in, file out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.cli import convert_main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    path.write_bytes((EXAMPLES / "digits.h5").read_bytes())
    return path


def test_the_output_lies_beside_the_model_and_answers_as_keras_did(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert_main([str(model)]) == 0
    with np.load(EXAMPLES / "digits_test.npz") as kept:
        images, expected = kept["images"].astype(np.float32)[..., None], kept["keras_answers"]
    assert np.abs(edgecnn.load(model.with_suffix(".ecnn"))(images) - expected).max() < 1e-5
    page = capsys.readouterr().out
    for word in ("DepthwiseConv2D", "block_1_depthwise", "peak memory", "125,048"):
        assert word in page


def test_an_existing_output_is_kept_without_force(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = model.with_suffix(".ecnn")
    target.write_bytes(b"precious")
    assert convert_main([str(model)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert convert_main([str(model), "--force"]) == 0
    assert edgecnn.load(target).outputs[0].shape == (None, 10)


def test_an_existing_output_survives_a_failed_conversion(model: Path) -> None:
    target = model.with_suffix(".ecnn")
    target.write_bytes(b"precious")
    model.write_bytes(model.read_bytes()[:50_000])
    assert convert_main([str(model), "--force"]) == 3
    assert target.read_bytes() == b"precious"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.ecnn", "model.h5"]


def test_a_full_disk_leaves_the_old_output_and_no_half_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = model.with_suffix(".ecnn")
    target.write_bytes(b"precious")

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert convert_main([str(model), "--force"]) == 3
    assert target.read_bytes() == b"precious"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.ecnn", "model.h5"]


def test_labels_go_into_the_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(
        "\ufeffnull\r\neins\nzwei\n\nvier\nfünf\n6\n7\n8\n neun \n\n", encoding="utf-8"
    )
    assert convert_main([str(model), "--labels", str(tmp_path / "labels.txt")]) == 0
    labels = edgecnn.load(model.with_suffix(".ecnn")).labels
    assert labels == ("null", "eins", "zwei", "", "vier", "fünf", "6", "7", "8", "neun")


def test_float16_and_compression_make_the_file_smaller(model: Path, tmp_path: Path) -> None:
    sizes = []
    for options in ([], ["--compress"], ["--weights", "float16"], ["--weights", "float16", "--compress"]):
        target = tmp_path / f"{len(sizes)}.ecnn"
        assert convert_main([str(model), "-o", str(target), *options]) == 0
        sizes.append(target.stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]


def test_the_record_tells_sizes_layers_and_memory(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert_main([str(model), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["source_size"] == model.stat().st_size
    assert record["size"] == model.with_suffix(".ecnn").stat().st_size
    assert record["warnings"] == []
    assert record["peak_memory"] == edgecnn.load(model.with_suffix(".ecnn")).memory.total
    assert {row["path"] for row in record["layers"]} >= {"stem", "stem_bn", "dropout", "digit"}


def test_a_wrong_number_of_labels_is_warned_of(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert convert_main([str(model), "--labels", str(tmp_path / "labels.txt")]) == 0
    assert "warning: 2 labels" in capsys.readouterr().out
