"""edgecnn against LiteRT: one process, alternating rounds, medians, answers checked first.

python benchmarks/litert.py MobileNetV2 ResNet50 --threads 1 --rounds 60
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import edgecnn
from edgecnn.runtime import cpu

TOLERANCE = 1e-4
"""Of the largest output: LiteRT's own rounding included."""


@dataclass(frozen=True)
class Result:
    """Medians in milliseconds, and what they stand on."""

    network: str
    threads: int
    instruction_set: str
    edgecnn_ms: float
    litert_ms: float
    ratio: float
    peak_share: float
    edgecnn_load_ms: float
    litert_load_ms: float
    edgecnn_bytes: int
    litert_bytes: int
    rounds: int


def build(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray, Path, Path]:
    """Input, Keras' answer, .ecnn and .tflite of a network with random weights and batch-norm statistics."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(weights=None)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, w.shape)
                    if "gamma" in v.name or "variance" in v.name
                    else rng.normal(0, 0.2, w.shape)
                    for v, w in zip(layer.weights, layer.get_weights(), strict=True)
                ]
            )
    x = rng.uniform(-1, 1, (1, *model.input_shape[1:])).astype(np.float32)
    ecnn, tflite = folder / f"{name}.ecnn", folder / f"{name}.tflite"
    edgecnn.convert(model, ecnn)
    tflite.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return x, np.asarray(model(x, training=False)), ecnn, tflite


def litert(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(made))

    return run


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Milliseconds, and what the function gave."""
    started = time.perf_counter()
    value = function()
    return 1e3 * (time.perf_counter() - started), value


def compare(name: str, threads: int, rounds: int, folder: Path) -> Result:
    """Measure one network."""
    x, expected, ecnn, tflite = build(name, folder)

    def first_edgecnn() -> edgecnn.Model:
        model = edgecnn.load(ecnn, threads=threads)
        model(x)
        return model

    def first_litert() -> Callable[[np.ndarray], np.ndarray]:
        run = litert(tflite, threads)
        run(x)
        return run

    ours_load, model = timed(first_edgecnn)
    theirs_load, other = timed(first_litert)
    for engine, run in (("edgecnn", model), ("LiteRT", other)):
        error = np.abs(run(x) - expected).max() / np.abs(expected).max()  # type: ignore[operator]
        if error > TOLERANCE:
            raise SystemExit(f"{name}: {engine} differs from Keras by {error:.1e} of the largest output")
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: model(x))[0])  # type: ignore[operator]
        theirs.append(timed(lambda: other(x))[0])  # type: ignore[operator]
    mine, peer = statistics.median(ours), statistics.median(theirs)
    macs = model.macs  # type: ignore[attr-defined]
    peak = cpu.measure_peak(0.2, cpu.choose(model.instruction_set)) * threads  # type: ignore[attr-defined]
    return Result(
        name,
        threads,
        model.instruction_set,  # type: ignore[attr-defined]
        mine,
        peer,
        peer / mine,
        2e-6 * macs / mine / peak,
        ours_load,
        theirs_load,
        ecnn.stat().st_size,
        tflite.stat().st_size,
        rounds,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="names in keras.applications")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    print(
        f"{'network':<16} {'threads':>7} {'edgecnn ms':>11} {'LiteRT ms':>10} {'LiteRT / edgecnn':>17} {'of peak':>8}  kernels"
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            result = compare(name, arguments.threads, arguments.rounds, Path(folder))
            results.append(result)
            print(
                f"{name:<16} {result.threads:>7} {result.edgecnn_ms:>11.3f} {result.litert_ms:>10.3f} {result.ratio:>17.3f} "
                f"{100 * result.peak_share:>7.0f}%  {result.instruction_set}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
