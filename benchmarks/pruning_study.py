"""What pruning costs in accuracy and saves in bytes and milliseconds, on Fashion-MNIST; see docs/pruning.md.

    python benchmarks/pruning_study.py FOLDER --output DIR

FOLDER holds the four IDX files (train-images-idx3-ubyte.gz and so on). A small CNN of ordinary convolutions and a
depthwise-separable one are trained, then pruned to each sparsity by each pattern, for each seed; the five techniques are tried one by
one and together on a CNN without batch normalisation. LiteRT, if it is installed, runs the same pruned models. Every point is kept in
DIR/results.json as soon as it is there: a study that was interrupted goes on where it was. Tables go to stdout, plots to DIR.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from engines import load_edgecnn, load_litert

Array = np.ndarray[Any, Any]

PATTERNS = ("weight", "block", "block:8", "2:4", "channel")
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
OWN_SPARSITY = 0.5
"""That of 2:4."""

VALIDATION = 5000
"""Training images that decide nothing but when the learning rate falls; accuracy is of the test images."""

ROUNDS, ROUND_SECONDS = 40, 0.02


@dataclass(frozen=True)
class Point:
    """One measured network. `litert_ms` and `litert_bytes` are None where LiteRT is not installed."""

    network: str
    technique: str
    sparsity: float
    seed: int
    accuracy: float
    parameters: int
    bytes: int
    ms: float
    litert_bytes: int | None
    litert_ms: float | None

    @property
    def key(self) -> str:
        return f"{self.network}/{self.technique}/{self.sparsity:g}/{self.seed}"


@dataclass(frozen=True)
class Data:
    """Images (N, 28, 28, 1), 0 to 1, and classes (N,)."""

    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]


def read_idx(path: Path) -> Array:
    """An IDX file of bytes, compressed or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    axes = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_data(folder: Path, most: int | None) -> Data:
    """Fashion-MNIST from a folder; `most` images of each part."""

    def part(name: str) -> tuple[Array, Array]:
        files = [next(iter(sorted(folder.glob(f"{name}-{kind}*"))), None) for kind in ("images", "labels")]
        if None in files:
            sys.exit(f"{folder}: there is no {name}-images-idx3-ubyte[.gz] with its labels")
        images, labels = (read_idx(path) for path in files if path is not None)
        return images[..., None].astype(np.float32) / 255, labels.astype(np.int64)

    (x, y), test = part("train"), part("t10k")
    split = [(x[VALIDATION:], y[VALIDATION:]), (x[:VALIDATION], y[:VALIDATION]), test]
    return Data(*((images[:most], labels[:most]) for images, labels in split))


def ordinary(normal: bool = True, function: str = "relu") -> Any:
    """Six 3 x 3 convolutions, maximum pooling."""
    from keras import Input, Model, layers

    x = inputs = Input((28, 28, 1))
    for number, filters in enumerate((32, 32, 64, 64, 128, 128)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=not normal)(x)
        x = layers.BatchNormalization()(x) if normal else x
        x = layers.Activation(function)(x)
        if number in (1, 3):
            x = layers.Dropout(0.2)(layers.MaxPooling2D()(x))
    x = layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Dense(10, "softmax")(x), name="ordinary")


def depthwise() -> Any:
    """One ordinary convolution, then depthwise-separable ones."""
    from keras import Input, Model, layers

    x = inputs = Input((28, 28, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(32, 3, padding="same", use_bias=False)(x)))
    for filters, stride in ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 1)):
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x)))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Dense(10, "softmax")(x), name="depthwise")


NETWORKS: dict[str, Callable[[], Any]] = {"ordinary": ordinary, "depthwise": depthwise}


def fit(model: Any, data: Data, epochs: int, rate: float, seed: int) -> Any:
    """Train with Adam, the learning rate falling along a cosine; images are shifted and mirrored."""
    import keras

    keras.utils.set_random_seed(seed)
    batch = 128
    steps = max(1, epochs * -(-len(data.train[0]) // batch))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(Shifted(*data.train, batch, seed).dataset(), epochs=epochs, verbose=0)
    return model


class Shifted:
    """Batches of images, each moved by up to two pixels and half of them mirrored, in another order each epoch."""

    def __init__(self, x: Array, y: Array, batch: int, seed: int) -> None:
        self.x, self.y, self.batch, self.rng = x, y, batch, np.random.default_rng(seed)

    def dataset(self) -> Any:
        import keras

        source = self

        class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.order = source.rng.permutation(len(source.x))

            def __len__(self) -> int:
                return -(-len(source.x) // source.batch)

            def __getitem__(self, index: int) -> tuple[Array, Array]:
                places = self.order[index * source.batch : (index + 1) * source.batch]
                return source.changed(source.x[places]), source.y[places]

            def on_epoch_end(self) -> None:
                self.order = source.rng.permutation(len(source.x))

        return Batches()

    def changed(self, images: Array) -> Array:
        """The images, moved and mirrored."""
        size = images.shape[1]
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        out = np.empty_like(images)
        for i, (dy, dx, mirrored) in enumerate(zip(*self.rng.integers(0, (5, 5, 2), (len(images), 3)).T, strict=True)):
            image = padded[i, dy : dy + size, dx : dx + size]
            out[i] = image[:, ::-1] if mirrored else image
        return out


def measured(model: Any, network: str, technique: str, sparsity: float, seed: int, data: Data, folder: Path) -> Point:
    """Accuracy on the test images; bytes and milliseconds of edgecnn and LiteRT, which take turns, on one thread."""
    import edgecnn

    accuracy = float(model.evaluate(*data.test, batch_size=256, verbose=0, return_dict=True)["accuracy"])
    path, lite = folder / "study.ecnn", folder / "study.tflite"
    edgecnn.convert(model, path, overwrite=True)
    runs = [load_edgecnn(path, 1)]
    try:
        lite.write_bytes(as_tflite(model))
        runs.append(load_litert(lite, 1))
    except ImportError:
        pass
    x = data.test[0][:1]
    medians = turns([lambda run=run: run(x) for run in runs])
    return Point(
        network, technique, sparsity, seed, accuracy, int(model.count_params()), path.stat().st_size, medians[0],
        lite.stat().st_size if len(runs) > 1 else None, medians[1] if len(runs) > 1 else None,
    )  # fmt: skip


def as_tflite(model: Any) -> bytes:
    """The model for LiteRT, one image at a time; its converter keeps zeros dense unless told that they are many."""
    import tensorflow as tf

    fixed = tf.function(
        lambda x: model(x, training=False), input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([fixed.get_concrete_function()], model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return bytes(converter.convert())


def turns(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Median milliseconds of each."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, found in zip(calls, samples, strict=True):
            call()
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < ROUND_SECONDS:
                call()
                count += 1
            found.append(1e3 * (time.perf_counter() - started) / count)
    return [statistics.median(found) for found in samples]


class Results:
    """Points by key, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = json.loads(path.read_text()) if path.exists() else []
        self.points = {point.key: point for point in (Point(**row) for row in rows)}

    def add(self, key: str, make: Callable[[], Point]) -> None:
        """Measure a point unless it is there."""
        if key in self.points:
            return
        point = make()
        assert point.key == key
        self.points[key] = point
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps([asdict(p) for p in self.points.values()], indent=1))
        os.replace(beside, self.path)
        print(
            f"{key}: {100 * point.accuracy:.2f} %, {point.bytes} bytes, {point.ms:.3f} ms", file=sys.stderr, flush=True
        )


def trained(network: str, seed: int, data: Data, epochs: int, folder: Path) -> Any:
    """The network as trained before, or now."""
    import keras

    path = folder / f"{network}-{seed}.keras"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        build = NETWORKS[network] if network in NETWORKS else lambda: ordinary(normal=False, function="swish")
        model = fit(build(), data, epochs, 2e-3, seed)
        model.save(folder / "part.keras")
        os.replace(folder / "part.keras", path)
    return keras.saving.load_model(path)


def study_patterns(results: Results, data: Data, arguments: argparse.Namespace) -> None:
    """Accuracy, bytes and milliseconds against sparsity."""
    from edgecnn.training import prune

    for seed in range(arguments.seeds):
        for network in NETWORKS:
            model = trained(network, seed, data, arguments.epochs, arguments.output)
            given = (model, network, data, arguments.output)
            results.add(
                f"{network}/dense/0/{seed}", lambda g=given, s=seed: measured(g[0], g[1], "dense", 0.0, s, g[2], g[3])
            )
            for pattern in arguments.patterns:
                for sparsity in [OWN_SPARSITY] if ":" in pattern and "block" not in pattern else arguments.sparsities:

                    def point(g: Any = given, p: str = pattern, s: float = sparsity, seed: int = seed) -> Point:
                        pruned, _ = prune(
                            g[0], data.train, sparsity=s, pattern=p, epochs=arguments.fine_tune, batch_size=128,
                            learning_rate=5e-4, seed=seed, validation_data=data.validation, progress=False,
                        )  # fmt: skip
                        return measured(pruned, g[1], p, s, seed, data, g[3])

                    results.add(f"{network}/{pattern}/{sparsity:g}/{seed}", point)


def study_techniques(results: Results, data: Data, arguments: argparse.Namespace) -> None:
    """The five techniques, one by one and together, each fine-tuned as long."""
    from edgecnn.training import activation, average_pooling, batch_normalization, prune, separable

    rewrites: dict[str, Callable[[Any], Any]] = {
        "average pooling": average_pooling,
        "batch normalisation": batch_normalization,
        "activation": lambda model: activation(model, "relu"),
        "separable": separable,
    }
    for seed in range(arguments.seeds):
        base = trained("plain", seed, data, arguments.epochs, arguments.output)
        for name in ("none", "pruning", *rewrites, "all five"):

            def point(name: str = name, seed: int = seed, base: Any = base) -> Point:
                model = base
                chosen = list(rewrites.values()) if name == "all five" else [rewrites[name]] if name in rewrites else []
                for rewrite in chosen:
                    model = rewrite(model)
                if chosen:
                    fit(model, data, arguments.fine_tune, 1e-3, seed)
                sparsity = 0.8 if name in ("pruning", "all five") else 0.0
                if sparsity:
                    model, _ = prune(
                        model, data.train, sparsity=sparsity, epochs=arguments.fine_tune, batch_size=128,
                        learning_rate=5e-4, seed=seed, validation_data=data.validation, progress=False,
                    )  # fmt: skip
                return measured(model, "plain", name, sparsity, seed, data, arguments.output)

            results.add(f"plain/{name}/{0.8 if name in ('pruning', 'all five') else 0:g}/{seed}", point)


def rows(points: Sequence[Point], network: str) -> Iterator[tuple[str, float, list[Point]]]:
    """Technique, sparsity and the points of all seeds, in the order in which they were measured."""
    for key in dict.fromkeys((p.technique, p.sparsity) for p in points if p.network == network):
        yield *key, [p for p in points if p.network == network and (p.technique, p.sparsity) == key]


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def tables(points: Sequence[Point]) -> str:
    """Markdown, means over the seeds."""
    lines = []
    for network in dict.fromkeys(p.network for p in points):
        lines += [
            f"### {network}",
            "",
            "| technique | sparsity | accuracy | edgecnn bytes | LiteRT bytes | edgecnn ms | LiteRT ms | seeds |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for technique, sparsity, found in rows(points, network):
            cells = [
                technique,
                f"{100 * sparsity:g} %",
                f"{100 * statistics.fmean(p.accuracy for p in found):.2f} %",
                f"{statistics.fmean(p.bytes for p in found):,.0f}",
                "-" if (size := mean([p.litert_bytes for p in found])) is None else f"{size:,.0f}",
                f"{statistics.fmean(p.ms for p in found):.4f}",
                "-" if (ms := mean([p.litert_ms for p in found])) is None else f"{ms:.4f}",
                str(len(found)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def draw(points: Sequence[Point], folder: Path) -> None:
    """For each network accuracy, bytes and milliseconds against sparsity, a line a pattern."""
    from matplotlib.figure import Figure

    for network in NETWORKS:
        drawn = Figure(figsize=(12, 4), layout="constrained")
        axes = drawn.subplots(1, 3)
        means: dict[str, list[tuple[float, float, float, float]]] = {}
        for technique, sparsity, found in rows(points, network):
            accuracy, size, ms = (statistics.fmean(getattr(p, n) for p in found) for n in ("accuracy", "bytes", "ms"))
            means.setdefault(technique, []).append((sparsity, accuracy, size, ms))
        dense = means.pop("dense", [])
        for technique, line in means.items():
            columns = list(zip(*sorted(dense + line), strict=True))
            for one, column in zip(axes, columns[1:], strict=True):
                one.plot(columns[0], column, marker="o", label=technique)
        for one, label in zip(
            axes, ("test accuracy", "bytes of the .ecnn file", "milliseconds, one thread"), strict=True
        ):
            one.set_xlabel("sparsity")
            one.set_ylabel(label)
            one.set_ylim(*((None, None) if label == "test accuracy" else (0, None)))
        if means:
            axes[0].legend(fontsize="small")
        drawn.savefig(folder / f"{network}.png", dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """The study; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="Fashion-MNIST's IDX files")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/output/pruning"), help="results, models, plots")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of training")
    parser.add_argument("--fine-tune", type=int, default=6, help="epochs after pruning or rewriting")
    parser.add_argument("--images", type=int, help="use so many of each part only, to try the script")
    parser.add_argument("--patterns", type=lambda text: text.split(","), default=PATTERNS)
    parser.add_argument("--sparsities", type=lambda text: [float(s) for s in text.split(",")], default=SPARSITIES)
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = read_data(arguments.folder, arguments.images)
    results = Results(arguments.output / "results.json")
    study_patterns(results, data, arguments)
    study_techniques(results, data, arguments)
    points = list(results.points.values())
    print(tables(points))
    draw(points, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
