"""All of keras.applications and of edgecnn.zoo: converted without TensorFlow, held against Keras.

The few small ones run by default; `pytest -m sweep` runs every network. Each prints a line of the table.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import zoo

pytestmark = pytest.mark.filterwarnings("ignore")

ZOO = ("alexnet", "googlenet", "se_resnet50", "se_resnet101", "se_resnet152", "senet154")
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


def build(name: str) -> Any:
    """A network with random weights and a linear end: a softmax would hide most of what goes before."""
    import keras

    keras.utils.set_random_seed(1)
    if name in ZOO:
        return getattr(zoo, name)()
    return getattr(keras.applications, name)(weights=None, classifier_activation=None)


def calibrate(model: Any, photo: np.ndarray, seed: int) -> None:
    """Random scales, offsets and statistics for every batch normalisation, near those of the photo: with others the values
    of a deep network grow beyond all bounds. Scales are small, and smaller where a shortcut is added, as in trained networks:
    else a network of a hundred layers is chaotic, and no two ways of rounding agree (with scales around 1 Keras is off by
    1e-2 on EfficientNetB4, where the same network in float64 is the truth; we are by 6e-4)."""
    import keras

    rng = np.random.default_rng(seed)
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    position = {id(layer): index for index, layer in enumerate(model.layers)}
    added = set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            before = [tensor._keras_history.operation for tensor in layer.input]
            last = max(before, key=lambda operation: position.get(id(operation), -1))
            while isinstance(last, keras.layers.Dropout | keras.layers.Multiply):
                given = last.input if isinstance(last.input, list) else [last.input]
                last = given[0]._keras_history.operation
            added.add(id(last))
            if isinstance(last, keras.layers.Conv2D):  # of networks that normalise before they convolve
                last.kernel.assign(0.2 * last.kernel)
    for layer in layers:
        if layer.gamma is not None:
            size = 0.06 if id(layer) in added else 0.3
            layer.gamma.assign(size * rng.uniform(0.5, 1.5, layer.gamma.shape))
        if layer.beta is not None:
            layer.beta.assign(rng.normal(0, 0.06, layer.beta.shape))
        layer.momentum = 0.0
    if layers:
        model(photo, training=True)  # each takes the statistics of what it sees
    for layer in layers:
        layer.momentum = 0.99
        deviation = np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
        layer.moving_mean.assign(layer.moving_mean + 0.2 * deviation * rng.normal(size=deviation.shape))
        layer.moving_variance.assign(layer.moving_variance * rng.uniform(0.7, 1.4, deviation.shape) + layer.epsilon)


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
