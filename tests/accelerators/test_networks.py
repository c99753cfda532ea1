"""Whole networks by TensorFlow against the same files on the CPU runtime, in float32."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from landmark_networks import ZOO, build, calibrate

# Importing TensorFlow warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

TOLERANCE = 2e-5
"""Of the largest output: what whole networks may differ by where both round to float32."""

APPLICATIONS = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "Xception"),
    *("EfficientNetB0", "DenseNet121", "InceptionV3", "NASNetMobile"),
)
SIZES = {"alexnet": 67, "senet154": 32}
"""Of small pictures; 64 for all others."""


def check(name: str, folder: Path, **options: Any) -> None:
    import keras

    model = build(name, **options)
    size = tuple(length or 224 for length in model.input_shape[1:])
    photos = np.random.default_rng(3).uniform(0, 1, (8, *size)).astype(np.float32)
    calibrate(model, photos, 2)  # of small pictures the last layers see a few pixels each: one would have no variance
    photos = photos[:3]
    path = folder / f"{name}.ecnn"
    edgecnn.convert(model, path)
    keras.backend.clear_session()
    cpu, other = edgecnn.load(path), edgecnn.load(path, device="tensorflow")
    expected = cpu(photos)
    other(photos)
    times = []
    for each in (cpu, other):
        started = time.perf_counter()
        found = each(photos)
        times.append(1e3 * (time.perf_counter() - started) / len(photos))
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name:18} error {error:.1e}  ms an image: CPU runtime {times[0]:7.1f}, TensorFlow {times[1]:7.1f}")
    path.unlink()
    assert np.isfinite(expected).all()
    assert error <= TOLERANCE


@pytest.fixture(autouse=True)
def _keras() -> None:
    pytest.importorskip("keras")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_answer_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    size = SIZES.get(name, 64)
    check(name, tmp_path, input_shape=(size, size, 3), classes=7)


@pytest.mark.sweep
@pytest.mark.parametrize("name", [*ZOO, *APPLICATIONS])
def test_networks_of_full_size_answer_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
