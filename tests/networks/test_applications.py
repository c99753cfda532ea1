"""All of keras.applications and of edgecnn.zoo: converted without TensorFlow, held against Keras.

The few small ones run by default; `pytest -m sweep` runs every network. Each prints a line of the table.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from landmark_networks import ZOO, build, calibrate

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny", "googlenet")
SUFFIXES = (".keras", ".h5")
TOLERANCE = 2e-5

CONVERT = """
import json, sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None  # importing them fails
import time
import numpy as np, h5py, edgecnn, edgecnn.converters
source, photo, answer = sys.argv[1:]
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
before = peak()
started = time.perf_counter()
report = edgecnn.convert(source, source + ".ecnn", overwrite=True)
seconds = time.perf_counter() - started
memory = peak() - before
np.save(answer, edgecnn.load(source + ".ecnn")(np.load(photo)))
print(json.dumps({"seconds": seconds, "memory": memory, "source": report.source_size, "steps": report.steps}))
"""


def landmarks() -> list[str]:
    """Every network of the installed keras.applications, and the zoo's."""
    keras = pytest.importorskip("keras")
    found = [n for n, v in vars(keras.applications).items() if inspect.isfunction(v) and n[0].isupper()]
    assert len(found) >= 38
    return [*sorted(found), *ZOO]


def check(name: str, folder: Path) -> None:
    import keras

    model = build(name)
    size = tuple(length or 224 for length in model.input_shape[1:])
    inside = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    photo = np.random.default_rng(3).uniform(0, 255 if inside else 1, (1, *size)).astype(np.float32)
    calibrate(model, photo, 2)
    expected = np.asarray(model(photo, training=False))
    np.save(folder / "photo.npy", photo)
    for suffix in SUFFIXES:
        source = folder / f"{name}{suffix}"
        model.save(source)
        run = [sys.executable, "-c", CONVERT, str(source), str(folder / "photo.npy"), str(folder / "answer.npy")]
        result = json.loads(subprocess.run(run, check=True, capture_output=True, text=True, cwd=folder).stdout)
        error = np.abs(np.load(folder / "answer.npy") - expected).max() / np.abs(expected).max()
        print(
            f"{name + suffix:26} error {error:.1e}  converted in {result['seconds']:4.1f} s with "
            f"{result['memory'] / result['source']:.2f} of the file in memory  {result['steps']} steps"
        )
        assert np.isfinite(expected).all()
        assert error <= TOLERANCE
        # Under three times the file; small files beside what any conversion takes.
        assert result["memory"] < max(3 * result["source"], 96 * 2**20)
        source.unlink()
        source.with_name(source.name + ".ecnn").unlink()
    keras.backend.clear_session()


@pytest.mark.parametrize("name", SMALL)
def test_landmark_answers_as_in_keras(name: str, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    check(name, tmp_path)


@pytest.mark.sweep
def test_every_landmark_answers_as_in_keras(tmp_path: Path) -> None:
    failed = {}
    for name in landmarks():
        try:
            check(name, tmp_path)
        except (AssertionError, subprocess.CalledProcessError) as error:
            failed[name] = str(error)
    assert not failed
