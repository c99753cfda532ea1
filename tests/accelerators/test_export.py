"""Other formats from the command line: files that their own readers read, with the CPU runtime's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.accelerators.export import FORMATS, write_keras
from edgecnn.cli import convert_main
from edgecnn.cli.convert import COMMAND
from edgecnn.errors import DataFileError, InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

WRITTEN_BY = {"keras": "keras", "saved_model": "tensorflow"}
"""The package that writes a format; the others need none."""


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits.ecnn"
    edgecnn.convert(EXAMPLES / "digits.h5", path)
    return path


def images() -> np.ndarray:
    with np.load(EXAMPLES / "digits_test.npz") as kept:
        return kept["images"][:3].astype(np.float32)[..., None]


def read(kind: str, path: Path) -> Any:
    """A function from images to classes, by the format's own reader."""
    if kind == "keras":
        keras = pytest.importorskip("keras")
        model = keras.saving.load_model(path)
        return lambda x: keras.ops.convert_to_numpy(model(x))
    if kind == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path.read_bytes())
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]
    tf = pytest.importorskip("tensorflow")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    return lambda x: next(iter(served(**{name: tf.constant(x)}).values())).numpy()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_each_format_answers_as_the_file(kind: str, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(WRITTEN_BY.get(kind, "numpy"))
    assert convert_main([str(digits), "--to", kind, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    output = Path(record["output"])
    assert output.name == f"digits{FORMATS[kind].ending}"
    assert record["format"] == kind
    assert record["size"] > 30_000
    np.testing.assert_allclose(read(kind, output)(images()), edgecnn.load(digits)(images()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_is_there_stays_without_force(kind: str, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = digits.with_name(f"digits{FORMATS[kind].ending}")
    target.write_bytes(b"precious")
    assert convert_main([str(digits), "--to", kind]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"


def test_a_keras_file_becomes_onnx_at_once(tmp_path: Path, digits: Path) -> None:
    assert convert_main([str(EXAMPLES / "digits.h5"), "--to", "onnx", "-o", str(tmp_path / "d.onnx")]) == 0
    np.testing.assert_allclose(read("onnx", tmp_path / "d.onnx")(images()), edgecnn.load(digits)(images()), atol=1e-6)


def test_formats_are_those_that_the_command_offers() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    (choices,) = [action.choices for action in parser._actions if action.dest == "to"]
    assert set(choices or ()) == set(FORMATS)


@pytest.mark.parametrize("option", [["--weights", "float16"], ["--compress"], ["--verify"], ["--labels", "x.txt"]])
def test_options_of_ecnn_files_are_refused(option: list[str], digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert_main([str(digits), "--to", "onnx", *option]) == 2
    assert option[0] in capsys.readouterr().err
    assert not digits.with_suffix(".onnx").exists()


def test_an_ecnn_file_without_a_format_names_them(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digits.read_bytes()
    assert convert_main([str(digits), "--force"]) == 2
    assert "--to keras, saved_model or onnx" in capsys.readouterr().err
    assert digits.read_bytes() == before


def test_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.ecnn").write_bytes(b"nothing")
    assert convert_main([str(tmp_path / "bad.ecnn"), "--to", "onnx"]) == 3
    assert "bad.ecnn" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ecnn"]


def test_keras_files_end_in_keras(digits: Path) -> None:
    with pytest.raises(InputError, match=r"saved as \.keras"):
        write_keras(digits, digits.with_suffix(".h5"))


def test_a_folder_that_is_not_there(digits: Path) -> None:
    pytest.importorskip("keras")
    with pytest.raises(DataFileError, match="cannot be written"):
        write_keras(digits, digits.parent / "no" / "m.keras")
