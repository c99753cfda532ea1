"""What pruning costs in accuracy and saves in bytes and milliseconds, on Fashion-MNIST; see docs/pruning.md.

   python benchmarks/pruning_study.py FOLDER --output DIR

FOLDER holds the four IDX files (train-images-idx3-ubyte.gz and so on). A small CNN of ordinary convolutions and a
depthwise-separable one are trained for each seed, then pruned by each pattern from one sparsity to the next; the five techniques are
tried one by one and together on a CNN without batch normalisation. Every network is kept in DIR as soon as it is there: a study
that was interrupted goes on where it was, and processes of different networks or seeds may share DIR. Then all networks of a kind are timed side by side, by edgecnn and by LiteRT if it is
installed. Tables go to stdout, plots to DIR. `--no-times` and a second run keep training and timing apart.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from engines import load_edgecnn, load_litert

Array = np.ndarray[Any, Any]

PATTERNS = ("weight", "block", "2:4", "channel")
NORMALISE: dict[str, str | None] = {"channel": "rms"}
"""How layers are made to compare, where not by the magnitudes themselves: these leave more of the small layers near the input,
whose kernels have larger weights, and whose loss costs most. Whole channels by bare magnitude would leave the last layer none."""
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
OWN_SPARSITY = 0.5
"""That of 2:4."""

BATCH = 128

ROUNDS, ROUND_SECONDS = 15, 0.01


@dataclass(frozen=True)
class Point:
    """One trained network; what is None has not been measured, or LiteRT is not installed."""

    network: str
    technique: str
    sparsity: float
    seed: int
    accuracy: float
    parameters: int
    bytes: int | None = None
    ms: float | None = None
    litert_bytes: int | None = None
    litert_ms: float | None = None

    @property
    def key(self) -> str:
        return key_of(self.network, self.technique, self.sparsity, self.seed)


def key_of(network: str, technique: str, sparsity: float, seed: int) -> str:
    return f"{network}/{technique}/{sparsity:g}/{seed}"


@dataclass(frozen=True)
class Data:
    """Images (N, 28, 28, 1), 0 to 1, and classes (N,)."""

    train: tuple[Array, Array]
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

    return Data(*((images[:most], labels[:most]) for images, labels in (part("train"), part("t10k"))))


def ordinary(normal: bool = True, function: str = "relu") -> Any:
    """Four 3 x 3 convolutions, maximum pooling after the first three: 201,562 parameters."""
    from keras import Input, Model, layers

    x = inputs = Input((28, 28, 1))
    for number, filters in enumerate((16, 32, 96, 192)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=not normal)(x)
        x = layers.BatchNormalization()(x) if normal else x
        x = layers.Activation(function)(x)
        x = layers.MaxPooling2D()(x) if number < 3 else x
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Dense(10, "softmax")(x), name="ordinary")


def depthwise() -> Any:
    """One ordinary convolution, then depthwise-separable ones: 109,642 parameters."""
    from keras import Input, Model, layers

    x = inputs = Input((28, 28, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(24, 3, 2, padding="same", use_bias=False)(x)))
    for filters, stride in ((48, 1), (96, 2), (192, 1), (384, 2)):
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x)))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Dense(10, "softmax")(x), name="depthwise")


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained.

    Attributes:
        build: makes it.
        longer: how many times as long it trains, and is fine-tuned after each step of pruning.
        mirrored: whether half of the images, others in each epoch, are shown as in a mirror.
        taught: whether it learns the dense network's answers, too, when it is fine-tuned.
    """

    build: Callable[[], Any]
    longer: int = 1
    mirrored: bool = False
    taught: bool = False


NETWORKS = {
    "ordinary": Recipe(ordinary),
    # Longer training alone makes it worse: after 20 epochs it knows 98.8 % of the training images and 91.1 % of the others.
    "depthwise": Recipe(depthwise, longer=2, mirrored=True, taught=True),
}


PLAIN = "plain"
"""The ordinary one without batch normalisation, on which the techniques are tried."""


def mirrored(images: Array, labels: Array, seed: int) -> Any:
    """Batches of all images in an order that changes, half of the images mirrored."""
    import keras

    class Mirrored(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rng = np.random.default_rng(seed)
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(images) // BATCH)

        def __getitem__(self, index: int) -> tuple[Array, Array]:
            chosen = self.order[BATCH * index : BATCH * (index + 1)]
            turned = self.turned[chosen, None, None, None]
            return np.where(turned, images[chosen, :, ::-1], images[chosen]), labels[chosen]

        def on_epoch_end(self) -> None:
            self.order = self.rng.permutation(len(images))
            self.turned = self.rng.random(len(images)) < 0.5

    return Mirrored()


def fit(
    model: Any,
    data: Data,
    epochs: int,
    rate: float,
    seed: int,
    callbacks: Sequence[Any] = (),
    mirror: bool = False,
    teacher: Any = None,
) -> Any:
    """Train with Adam, the learning rate falling along a cosine to a twentieth; with a teacher also by its answers."""
    import keras

    from edgecnn.training import distillation

    keras.utils.set_random_seed(seed)
    steps = max(1, epochs * -(-len(data.train[0]) // BATCH))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.05)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # Without callbacks nothing has to be done between steps.
        steps_per_execution=1 if callbacks else 10,
    )
    shown = {"x": mirrored(*data.train, seed)} if mirror else dict(zip("xy", data.train, strict=True), batch_size=BATCH)
    with distillation(model, teacher) if teacher is not None else nullcontext():
        model.fit(**shown, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def as_tflite(model: Any) -> bytes:
    """The model for LiteRT, one image at a time; its converter keeps zeros dense unless told that they are many."""
    import keras
    import tensorflow as tf

    signature = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32")]
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False, input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        return bytes(converter.convert())


def turns(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Median milliseconds of each."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, found in zip(calls, samples, strict=True):
            call()
            started, count, seconds = time.perf_counter(), 0, 0.0
            while not count or seconds < ROUND_SECONDS:
                call()
                count, seconds = count + 1, time.perf_counter() - started
            found.append(1e3 * seconds / count)
    return [statistics.median(found) for found in samples]


class Results:
    """Points by key and their networks, kept in a folder: a file of points for each kind of network and seed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = [row for path in sorted(folder.glob("results-*.json")) for row in json.loads(path.read_text())]
        self.points = {point.key: point for point in (Point(**row) for row in rows)}

    def model_path(self, key: str) -> Path:
        return self.folder / (key.replace("/", "-").replace(":", "of") + ".keras")

    def network(self, key: str, data: Data, make: Callable[[], Any]) -> Any:
        """The trained network of a key: as it is kept, or made now, its accuracy noted."""
        import keras

        path = self.model_path(key)
        if key not in self.points:
            model = make()
            beside = path.with_suffix(".part.keras")
            model.save(beside)
            os.replace(beside, path)
            model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            found = model.evaluate(*data.test, batch_size=256, verbose=0, return_dict=True)
            network, technique, sparsity, seed = key.split("/")
            self.keep(
                Point(network, technique, float(sparsity), int(seed), float(found["accuracy"]), model.count_params())
            )
            print(f"{key}: {100 * found['accuracy']:.2f} %", file=sys.stderr, flush=True)
        return keras.saving.load_model(path, compile=False)

    def keep(self, *points: Point) -> None:
        self.points |= {point.key: point for point in points}
        for network, seed in {(point.network, point.seed) for point in points}:
            path = self.folder / f"results-{network}-{seed}.json"
            beside = path.with_suffix(".part")
            found = [asdict(p) for p in self.points.values() if (p.network, p.seed) == (network, seed)]
            beside.write_text(json.dumps(found, indent=1))
            os.replace(beside, path)


def pruned(
    model: Any,
    teacher: Any,
    data: Data,
    sparsity: float,
    pattern: str,
    epochs: int,
    rate: float,
    seed: int,
    mirror: bool = False,
) -> Any:
    """The model with so many zeros, half of the epochs gradually, fine-tuned in all of them, beside a teacher or None."""
    from keras.layers import Dropout

    from edgecnn.training import Pruning, Schedule, remove_channels

    steps = epochs * -(-len(data.train[0]) // BATCH)
    schedule = Schedule(end=max(1, steps // 2), frequency=max(1, steps // 20))
    pruning = Pruning(sparsity, pattern, scope="network", schedule=schedule, normalise=NORMALISE.get(pattern))
    for layer in model.layers:
        if teacher is not None and isinstance(layer, Dropout):
            layer.rate = 0.0  # a teacher's answers keep it from learning images by heart
    fit(model, data, epochs, rate, seed, [pruning], mirror, teacher)
    return remove_channels(model) if pattern == "channel" else model


def channels_for(sparsity: float) -> float:
    """The share of channels to remove for a share of weights: those of a kernel go with its own channels and with its inputs'."""
    return float(1 - np.sqrt(1 - sparsity))


def study_patterns(results: Results, data: Data, seed: int, arguments: argparse.Namespace) -> None:
    """Accuracy against sparsity, each network pruned on from the one before."""
    for network, recipe in NETWORKS.items():
        if network not in arguments.networks:
            continue
        dense = key_of(network, "dense", 0, seed)

        def train(recipe: Recipe = recipe) -> Any:
            epochs = recipe.longer * arguments.epochs
            return fit(seeded(recipe.build, seed), data, epochs, 3e-3, seed, mirror=recipe.mirrored)

        trained = results.network(dense, data, train)
        teacher = trained if recipe.taught else None
        if network == "ordinary":
            study_rewrite(results, data, seed, arguments, dense)
        for pattern in arguments.patterns:
            own = ":" in pattern and "block" not in pattern
            before, last = 0.0, results.network(dense, data, train)
            for sparsity in [OWN_SPARSITY] if own else arguments.sparsities:
                # Channels that have gone are no longer there to be counted.
                gone, wanted = channels_for(before), channels_for(sparsity)
                more = 1 - (1 - wanted) / (1 - gone) if pattern == "channel" else sparsity
                epochs = recipe.longer * arguments.fine_tune
                make = partial(
                    pruned, last, teacher, data, more, pattern, epochs, arguments.rate, seed, recipe.mirrored
                )
                last = results.network(key_of(network, pattern, sparsity, seed), data, make)
                before = sparsity


def study_rewrite(results: Results, data: Data, seed: int, arguments: argparse.Namespace, dense: str) -> None:
    """The ordinary network made depthwise-separable, and trained as the depthwise one is."""
    from edgecnn.training import separable

    recipe = NETWORKS["depthwise"]

    def make() -> Any:
        model = separable(results.network(dense, data, lambda: None))
        return fit(model, data, recipe.longer * arguments.epochs, 3e-3, seed, mirror=recipe.mirrored)

    results.network(key_of("ordinary", "separable", 0, seed), data, make)


def study_techniques(results: Results, data: Data, seed: int, arguments: argparse.Namespace) -> None:
    """The five techniques, one by one and together, each trained on for as long; but what makes the network depthwise-separable
    leaves little of what it had learnt, and asks for as many epochs as it had."""
    from edgecnn.training import activation, average_pooling, batch_normalization, separable

    rewrites: dict[str, Callable[[Any], Any]] = {
        "average pooling": average_pooling,
        "batch normalisation": batch_normalization,
        "activation": lambda model: activation(model, "relu"),
        "separable": separable,
    }
    epochs = arguments.fine_tune
    plain = lambda: ordinary(normal=False, function="swish")  # noqa: E731
    base = key_of(PLAIN, "trained", 0, seed)
    results.network(base, data, lambda: fit(seeded(plain, seed), data, arguments.epochs, 3e-3, seed))
    for name in ("none", "pruning", *rewrites, "all five"):

        def make(name: str = name) -> Any:
            model = results.network(base, data, lambda: None)
            if name == "pruning":
                return pruned(model, None, data, 0.8, "weight", epochs, arguments.rate, seed)
            for rewrite in rewrites.values() if name == "all five" else [rewrites[name]] if name in rewrites else []:
                model = rewrite(model)
            anew = name in ("separable", "all five")
            model = fit(model, data, arguments.epochs if anew else epochs, 3e-3 if anew else arguments.rate, seed)
            return (
                pruned(model, None, data, 0.8, "weight", epochs, arguments.rate, seed) if name == "all five" else model
            )

        results.network(key_of(PLAIN, name, 0.8 if name in ("pruning", "all five") else 0, seed), data, make)


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """The network with weights that follow from the seed."""
    import keras

    keras.utils.set_random_seed(seed)
    return build()


def measure(results: Results, data: Data) -> None:
    """Bytes and milliseconds of what has none yet: all networks of a kind and seed in turns, on one thread."""
    import keras

    import edgecnn

    kinds = dict.fromkeys((p.network, p.seed) for p in results.points.values() if p.ms is None)
    x = data.test[0][:1]
    for network, seed in kinds:
        points = [p for p in results.points.values() if (p.network, p.seed) == (network, seed)]
        files: list[tuple[Path, Path | None]] = []
        calls: list[Callable[[], Any]] = []
        for point in points:
            path = results.model_path(point.key)
            compact, lite = path.with_suffix(".ecnn"), path.with_suffix(".tflite")
            edgecnn.convert(path, compact, overwrite=True)
            runs = [load_edgecnn(compact, 1)]
            try:
                if not lite.exists() or lite.stat().st_mtime < path.stat().st_mtime:
                    lite.write_bytes(as_tflite(keras.saving.load_model(path, compile=False)))
                runs.append(load_litert(lite, 1))
            except ImportError:
                pass
            wanted = keras.saving.load_model(path, compile=False).predict(x, verbose=0)
            for run in runs:
                np.testing.assert_allclose(np.asarray(run(x)).reshape(wanted.shape), wanted, rtol=0, atol=1e-5)
            files.append((compact, lite if len(runs) > 1 else None))
            calls += [lambda run=run: run(x) for run in runs]
        medians = iter(turns(calls))
        for point, (compact, other) in zip(points, files, strict=True):
            ms = next(medians)
            size, other_ms = (None, None) if other is None else (other.stat().st_size, next(medians))
            results.keep(replace(point, bytes=compact.stat().st_size, ms=ms, litert_bytes=size, litert_ms=other_ms))
        print(f"{network}, seed {seed}: {len(points)} networks timed", file=sys.stderr, flush=True)


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
            # A rewrite has no sparsity: a point beside the dense network's.
            columns = list(zip(*sorted(dense + line if line[-1][0] else line), strict=True))
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
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/output/pruning"), help="networks, results, plots"
    )
    kinds = (*NETWORKS, PLAIN)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=kinds, help="of " + ", ".join(kinds))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12, help="of training")
    parser.add_argument("--fine-tune", type=int, default=3, help="epochs after each step of pruning and each rewrite")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate that fine-tuning begins with")
    parser.add_argument("--images", type=int, help="use so many of each part only, to try the script")
    parser.add_argument("--patterns", type=lambda text: text.split(","), default=PATTERNS)
    parser.add_argument("--sparsities", type=lambda text: [float(s) for s in text.split(",")], default=SPARSITIES)
    parser.add_argument("--no-times", action="store_true", help="train only")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.networks) - set(kinds):
        parser.error(f"--networks {', '.join(sorted(unknown))}: wanted some of {', '.join(kinds)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = read_data(arguments.folder, arguments.images)
    results = Results(arguments.output)
    for seed in arguments.seeds:
        study_patterns(results, data, seed, arguments)
        if PLAIN in arguments.networks:
            study_techniques(results, data, seed, arguments)
    if not arguments.no_times:
        measure(results, data)
        points = list(results.points.values())
        print(tables(points))
        draw(points, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
