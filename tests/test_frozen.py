"""A program that PyInstaller froze converts, loads and answers, without options: compiled modules import what PyInstaller cannot see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stored_networks

PROGRAM = """
import sys
import edgecnn
import numpy as np

source, x, answer = sys.argv[1:]
edgecnn.convert(source, source + ".ecnn")
assert edgecnn.info()
np.save(answer, edgecnn.load(source + ".ecnn")(np.load(x)))
"""

UNUSED = (
    "dask",
    "keras",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "PIL",
    "ray",
    "sklearn",
    "tensorflow",
    "tf_keras",
)
"""What is installed beside the project would be taken along where an import names it."""


@pytest.mark.slow
def test_a_frozen_program_answers(tmp_path: Path) -> None:
    for module in ("PyInstaller", "h5py"):
        pytest.importorskip(module)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-P", "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "program.py"]
    left_out = [option for name in UNUSED for option in ("--exclude-module", name)]
    made = subprocess.run([*command, *left_out], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    stored_networks.write_h5("plain", tmp_path / "plain.h5")
    np.save(tmp_path / "x.npy", stored_networks.image("plain"))
    arguments = [str(tmp_path / name) for name in ("plain.h5", "x.npy", "answer.npy")]
    ran = subprocess.run(
        [tmp_path / "dist" / "program" / "program", *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    expected = stored_networks.answer("plain")
    assert np.abs(np.load(tmp_path / "answer.npy") - expected).max() <= 2e-5 * np.abs(expected).max()
