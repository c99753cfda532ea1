"""Golden samples and comparisons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.cli import main
from edgecnn.converters import convert
from edgecnn.format import read, write
from edgecnn.graph import Graph
from edgecnn.runtime import cpu
from edgecnn.tools.compare import compare
from edgecnn.tools.verify import KEY, golden_sample, relative_error, sample_inputs, verify
from small_models import convolution, dense_pair, mean_classifier, save

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.h5"
ISAS = [entry.name for entry in cpu.supported()]


def with_sample(graph: Graph, **changes: Any) -> Graph:
    sample = {**golden_sample(graph), **changes}
    return replace(graph, metadata={**graph.metadata, KEY: sample})


def test_sample_inputs_are_the_same_everywhere() -> None:
    inputs = sample_inputs(dense_pair())
    # By hand: (1 * 2654435761 mod 2^32) / 2^31 - 1, and so on.
    expected = [(i * 2654435761 % 2**32) / 2**31 - 1 for i in (1, 2, 3)]
    np.testing.assert_allclose(inputs["left"], [expected], rtol=1e-6)
    assert not np.array_equal(inputs["left"], inputs["right"])
    assert all(x.dtype == np.float32 and np.abs(x).max() <= 1 for x in inputs.values())


def test_a_golden_sample_holds_the_right_answers() -> None:
    graph = mean_classifier()
    answers = sample_inputs(graph)["image"].mean(axis=(1, 2), dtype=np.float64)
    sample = golden_sample(graph)["outputs"]["means"]
    import base64

    np.testing.assert_allclose(np.frombuffer(base64.b64decode(sample["values"]), "<f4"), answers[0], rtol=1e-6)
    assert (sample["shape"], sample["step"]) == ([1, 3], 1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("make", [mean_classifier, dense_pair, convolution, lambda: mean_classifier(size=None)])
def test_every_instruction_set_reproduces_it(
    isa: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(with_sample(make()), tmp_path)
    monkeypatch.setenv("EDGECNN_ISA", isa)
    result = verify(path)
    assert result.passed
    assert result.instruction_set == isa
    assert len(result.checks) == len(make().outputs)


def test_a_large_output_is_sampled(tmp_path: Path) -> None:
    path = save(with_sample(convolution(filters=64, size=48)), tmp_path)
    (check,) = verify(path).checks
    assert 8192 < check.values <= 16384


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    graph = with_sample(convolution())
    bias = graph.constants["bias"]
    wrong = {**graph.constants, "bias": replace(bias, array=bias.array + np.float32(0.01))}
    path = save(replace(graph, constants=wrong), tmp_path)
    with pytest.raises(edgecnn.errors.VerificationError, match="NOT"):
        verify(path)
    assert main(["verify", str(path)]) == 5


def test_a_file_without_a_sample_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(mean_classifier(), tmp_path)
    with pytest.raises(edgecnn.InputError, match="--verify"):
        verify(path)
    assert main(["verify", str(path)]) == 2
    assert "--verify" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sample",
    [
        None,
        7,
        [],
        {},
        {"tolerance": "x", "outputs": {}},
        {"tolerance": 1e-4, "outputs": {}},
        {"tolerance": 1e-4, "outputs": {"means": {}}},
        {"tolerance": 1e-4, "outputs": {"means": {"shape": [1, 3], "step": 0, "values": ""}}},
        {"tolerance": 1e-4, "outputs": {"means": {"shape": [1, 3], "step": 1, "values": "?"}}},
        {"tolerance": 1e-4, "outputs": {"means": {"shape": [1, 3], "step": 1, "values": "AAAAAA=="}}},
        {"tolerance": 1e-4, "outputs": {"means": {"shape": [2, 3], "step": 1, "values": "AAAAAAAAAAAAAAAA"}}},
    ],
)
def test_damaged_samples_are_named(sample: Any, tmp_path: Path) -> None:
    graph = mean_classifier()
    path = save(replace(graph, metadata={KEY: sample}), tmp_path)
    with pytest.raises((edgecnn.errors.CorruptFileError, edgecnn.InputError)):
        verify(path)


@pytest.mark.parametrize(
    ("found", "wanted", "error"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([np.nan, 2.0], [np.nan, 2.0], 0.0),
        ([0.0, 0.5], [0.0, 0.0], 0.5),
        ([np.inf], [np.inf], 0.0),
    ],
)
def test_relative_error(found: list[float], wanted: list[float], error: float) -> None:
    assert relative_error(np.array(found), np.array(wanted)) == error
    assert np.isnan(relative_error(np.array([np.nan]), np.array([1.0])))


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_conversion_with_verify(weights: str, tmp_path: Path) -> None:
    target = tmp_path / "digits.ecnn"
    convert(DIGITS, target, weights=weights, verify=True)
    assert verify(target).passed
    again = tmp_path / "again.ecnn"
    convert(DIGITS, again, weights=weights, verify=True)
    assert target.read_bytes() == again.read_bytes()


def test_two_files_are_compared(tmp_path: Path) -> None:
    one = save(convolution(), tmp_path, "one.ecnn")
    graph = convolution()
    bias = graph.constants["bias"]
    moved = {**graph.constants, "bias": replace(bias, array=bias.array + np.float32(0.5))}
    two = save(replace(graph, constants=moved), tmp_path, "two.ecnn")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 4)))
    same = compare(one, one, tmp_path / "x.npy")
    assert (same.images, same.outputs[0].largest, same.outputs[0].same_class) == (3, 0.0, 1.0)
    (other,) = compare(one, two, tmp_path / "x.npy").outputs
    assert 0.49 < other.largest <= 0.5001
    assert other.shape == (3, 16, 16, 8)


@pytest.mark.filterwarnings("ignore")
def test_keras_and_its_conversion_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    target = tmp_path / "digits.ecnn"
    convert(DIGITS, target)
    (row,) = compare(DIGITS, target).outputs
    assert row.error < 2e-5
    assert main(["compare", str(DIGITS), str(target), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["outputs"][0]["error"] == row.error


def test_onnx_and_its_conversion_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_squeezenet.onnx"
    convert(source, tmp_path / "m.ecnn")
    assert compare(source, tmp_path / "m.ecnn").outputs[0].error < 2e-5


def test_models_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    one = save(convolution(), tmp_path, "one.ecnn")
    pair = save(dense_pair(), tmp_path, "pair.ecnn")
    with pytest.raises(edgecnn.InputError):
        compare(one, pair)
    with pytest.raises(edgecnn.errors.DataFileError, match="no such file"):
        compare(tmp_path / "none.keras", one)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(edgecnn.InputError, match="wanted"):
        compare(tmp_path / "x.txt", one)
    assert main(["compare", str(tmp_path / "none.onnx"), str(one)]) == 3


def test_a_written_sample_comes_back(tmp_path: Path) -> None:
    graph = with_sample(dense_pair())
    write(graph, tmp_path / "m.ecnn")
    assert read(tmp_path / "m.ecnn").metadata[KEY] == graph.metadata[KEY]
