"""MobileNetV2 and ResNet50 of keras.applications, saved by Keras, converted, and run on a photo, against Keras itself.

Weights are random and batch-norm statistics randomised too: zero mean and unit variance would hide folding errors.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.runtime import cpu

# Importing TensorFlow warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

ISAS = [entry.name for entry in cpu.supported()]
SUFFIXES = (".h5", ".keras")

WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None  # an import of it fails
import numpy as np, edgecnn
source, photo, answer = sys.argv[1:]
edgecnn.convert(source, source + ".ecnn", overwrite=True)
np.save(answer, edgecnn.load(source + ".ecnn")(np.load(photo)))
assert not any(name.split(".")[0] in ("tensorflow", "keras", "tf_keras") for name, m in sys.modules.items() if m)
"""


@dataclass(frozen=True)
class Network:
    """A network saved by Keras, the photo given to it, and Keras' answer."""

    name: str
    folder: Path
    photo: np.ndarray
    expected: np.ndarray

    def source(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"


def photograph(size: int) -> np.ndarray:
    """scikit-learn's picture of a flower, in the middle, with the values that these networks take."""
    from sklearn.datasets import load_sample_image

    picture = load_sample_image("flower.jpg")
    top, left = ((length - size) // 2 for length in picture.shape[:2])
    return (picture[None, top : top + size, left : left + size] / 127.5 - 1).astype(np.float32)


def randomise(model: object, seed: int) -> None:
    """Random statistics, scales and offsets for every batch normalisation."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:  # type: ignore[attr-defined]
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, w.shape)
                    if "gamma" in v.name or "variance" in v.name
                    else rng.normal(0, 0.2, w.shape)
                    for v, w in zip(layer.weights, layer.get_weights(), strict=True)
                ]
            )


@pytest.fixture(scope="module", params=["MobileNetV2", "ResNet50"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp(request.param)
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, request.param)(weights=None)
    randomise(model, 2)
    photo = photograph(224)
    for suffix in SUFFIXES:
        model.save(folder / f"{request.param}{suffix}")
    yield Network(request.param, folder, photo, np.asarray(model(photo, training=False)))
    keras.backend.clear_session()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_answers_are_keras_answers(network: Network, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = network.folder / f"{network.name}{suffix}.ecnn"
    edgecnn.convert(network.source(suffix), target)
    for isa in ISAS:
        monkeypatch.setenv("EDGECNN_ISA", isa)
        bits = set()
        for threads in (1, 2):
            answer = edgecnn.load(target, threads=threads)(network.photo)
            error = np.abs(answer - network.expected).max() / np.abs(network.expected).max()
            print(f"{network.name}{suffix} {isa} {threads} threads: {error:.2e} of the largest output")
            assert error <= 1e-5
            bits.add(answer.tobytes())
        assert len(bits) == 1, f"{isa}: 1 and 2 threads give different bits"


def test_both_kinds_of_file_give_the_same_bytes(network: Network) -> None:
    files = []
    for suffix in SUFFIXES:
        target = network.folder / f"same{suffix}.ecnn"
        edgecnn.convert(network.source(suffix), target, overwrite=True)
        files.append(target.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_tensorflow_is_needed(network: Network, suffix: str, tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", network.photo)
    arguments = [network.source(suffix), tmp_path / "photo.npy", tmp_path / "answer.npy"]
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, arguments)], check=True, cwd=tmp_path)
    answer = np.load(tmp_path / "answer.npy")
    assert np.abs(answer - network.expected).max() <= 1e-5 * np.abs(network.expected).max()


def test_the_file_is_no_larger_than_its_parameters_and_a_little(network: Network) -> None:
    target = network.folder / "size.ecnn"
    report = edgecnn.convert(network.source(".keras"), target, overwrite=True)
    assert report.size == target.stat().st_size
    assert report.size <= 4 * report.parameters + 32 * 1024
