"""edgecnn on a GPU against Keras' own compiled predict_on_batch on the same one: images a second, in alternating rounds, medians.

python benchmarks/gpu.py                                       # skipped, and says so, where nothing finds a GPU
python benchmarks/gpu.py --device tensorflow --batches 1,8     # to try it on the CPU

Answers are held against edgecnn's CPU kernels first. Where TensorFlow finds no GPU but JAX or PyTorch does, what is measured is the network
that `edgecnn.to_keras` makes of the file, in Keras on that backend, and the table says so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgecnn

NETWORKS = ("MobileNetV2", "ResNet50")
TOLERANCES = {"float32": 1e-4, "tf32": 2e-3, "float16": 2e-3, "bfloat16": 2e-2}
"""Of the largest output, by precision."""

WARM_UP = 2
"""Untimed calls of each, the first of which compiles."""

LEAST_SECONDS = 0.05
"""Calls are timed so many at a time that a sample takes as long, for what surrounds them to weigh little."""

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]


@dataclass(frozen=True)
class Row:
    """One network in one precision with one batch.

    Attributes:
        ours, keras: images a second at the median round.
        errors: of both, the largest difference from the CPU kernels as a share of the largest output.
    """

    network: str
    precision: str
    batch: int
    ours: float
    keras: float
    errors: tuple[float, float]

    @property
    def right(self) -> bool:
        """Whether ours is within the tolerance; Keras' may be off by its own roundings."""
        return self.errors[0] <= TOLERANCES[self.precision]

    def __str__(self) -> str:
        wrong = "" if self.right else "  WRONG"
        return (
            f"{self.network:<12} {self.precision:<9} {self.batch:>5} {self.ours:>12,.1f} {self.keras:>12,.1f} "
            f"{self.ours / self.keras:>7.2f}x  {self.errors[0]:.1e} {self.errors[1]:.1e}{wrong}"
        )


def backend_for(device: str) -> tuple[str, str]:
    """Keras' backend that can use the device ("" for none), and what to say of it."""
    try:
        edgecnn.load(_nothing(), device=device)
    except (edgecnn.DeviceError, edgecnn.MissingPackageError) as error:
        reason = str(error)
    else:
        return "tensorflow", f"through TensorFlow, device={device!r}"
    for backend, module in (("jax", "jax"), ("torch", "torch")):
        try:
            found = importlib.import_module(module)
            there = any(d.platform == "gpu" for d in found.devices()) if backend == "jax" else found.cuda.is_available()
        except (ImportError, RuntimeError):
            continue
        if there:
            return backend, f"through edgecnn.to_keras, Keras on {backend}: for TensorFlow, {reason}"
    return "", reason


def _nothing() -> Any:
    """The smallest graph: what it takes to ask for a device."""
    from edgecnn.graph import Graph, Node, Port, Tensor

    tensors = {name: Tensor(name, (None, 1)) for name in ("x", "y")}
    return Graph("nothing", (Port("x", "x"),), (Port("y", "y"),), (Node("identity", "y", ("x",), ("y",)),), tensors)


def build(name: str) -> Any:
    """A network of keras.applications with a linear end, and batch normalisations that do something."""
    import keras

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(2)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.4, 0.8, layer.gamma.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.gamma.shape))
    return model


def keras_run(model: Any, precision: str, compiled: bool) -> Run:
    """Keras' predict_on_batch, in a precision."""
    import keras

    if precision in ("float16", "bfloat16"):
        keras.config.set_dtype_policy(f"mixed_{precision}")
        try:
            other = type(model).from_config(_without_policies(model.get_config()))
        finally:
            keras.config.set_dtype_policy("float32")
        other.set_weights(model.get_weights())
        model = other
    model.compile(jit_compile=compiled)

    def run(x: Array) -> Array:
        with rounding(precision):
            return np.asarray(model.predict_on_batch(x), np.float32)

    return run


def _without_policies(config: Any) -> Any:
    """A configuration whose layers take the policy that is set when they are made."""
    if isinstance(config, dict):
        return {key: _without_policies(value) for key, value in config.items() if key != "dtype"}
    return [_without_policies(value) for value in config] if isinstance(config, list) else config


def rounding(precision: str) -> Any:
    """Keras computes float32 in float32, as we do, and not in TensorFlow's default of TF32."""
    if "tensorflow" not in sys.modules:
        import contextlib

        return contextlib.nullcontext()
    from edgecnn.accelerators.tensorflow import tensor_float_32

    return tensor_float_32(sys.modules["tensorflow"], precision == "tf32")


def sample(run: Run, x: Array, calls: int) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    for _ in range(calls):
        run(x)
    return (time.perf_counter() - started) / calls


def compare(ours: Run, keras: Run, x: Array, rounds: int) -> tuple[float, float]:
    """Median seconds of a call of each, in alternating rounds."""
    calls = []
    for run in (ours, keras):
        for _ in range(WARM_UP):
            run(x)
        calls.append(max(1, round(LEAST_SECONDS / sample(run, x, 1))))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, count, column in zip((ours, keras), calls, times, strict=True):
            column.append(sample(run, x, count))
    return statistics.median(times[0]), statistics.median(times[1])


def difference(answer: Array, expected: Array) -> float:
    """Largest difference as a share of the largest output; infinite for NaN."""
    error = float(np.abs(answer - expected).max() / np.abs(expected).max())
    return error if np.isfinite(error) else float("inf")


def rows(arguments: argparse.Namespace, backend: str, folder: Path) -> Iterator[Row]:
    """Every row of the table, as it is measured."""
    rng = np.random.default_rng(3)
    on_gpu = (
        arguments.device != "tensorflow" or "compiled by XLA" in edgecnn.load(_nothing(), device="tensorflow").summary()
    )
    for name in arguments.networks:
        model, path = build(name), folder / f"{name}.ecnn"
        edgecnn.convert(model, path)
        photos = rng.uniform(0, 1, (max(arguments.batches), 224, 224, 3)).astype(np.float32)
        expected = edgecnn.load(path)(photos[: min(8, len(photos))])
        for precision in arguments.precisions if backend == "tensorflow" else ["float32"]:
            if backend == "tensorflow":
                ours: Run = edgecnn.load(path, device=arguments.device, precision=precision)
            else:
                rebuilt: Any = edgecnn.to_keras(path)
                ours = keras_run(rebuilt, precision, True)
            keras = keras_run(model, precision, on_gpu)
            errors = tuple(difference(run(photos[: len(expected)]), expected) for run in (ours, keras))
            for batch in arguments.batches:
                seconds = compare(ours, keras, photos[:batch], arguments.rounds)
                yield Row(name, precision, batch, batch / seconds[0], batch / seconds[1], (errors[0], errors[1]))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(given: Sequence[str] | None = None) -> int:
    """Print the table; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu", help="as for edgecnn.load (default: gpu)")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(NETWORKS))
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 64, 256])
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["float32", "tf32", "float16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args(given)
    backend, how = backend_for(arguments.device)
    if not backend:
        print(f"skipped: nothing here computes on device={arguments.device!r}, and nothing was measured. {how}")
        return 0
    os.environ["KERAS_BACKEND"] = backend
    print(f"{how}; Keras: predict_on_batch, compiled by XLA on GPUs")
    print(
        f"{'network':<12} {'precision':<9} {'batch':>5} {'edgecnn im/s':>12} {'Keras im/s':>12} {'':>8}  errors: ours, Keras'"
    )
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(arguments, backend, Path(folder)):
            print(row, flush=True)
            found.append(row)
    if arguments.json:
        record = {"how": how, "rows": [asdict(row) for row in found]}
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0 if all(row.right for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
