"""Pruning from file to file, with what it brought: accuracy, bytes, milliseconds."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.converters import convert
from edgecnn.errors import DataFileError, InputError
from edgecnn.files import replacing_by_name
from edgecnn.runtime.model import Model, load
from edgecnn.tools.arrays import read_arrays
from edgecnn.tools.text import printable, size_text, table
from edgecnn.tools.verify import sample_inputs
from edgecnn.training.keras_models import check_compiled, load_model
from edgecnn.training.pruner import settings
from edgecnn.training.pruning import PruningReport, prune

Array = np.ndarray[Any, Any]

NAMES = (("x", "y"), ("x_train", "y_train"))
VALIDATION_NAMES = (("x_val", "y_val"), ("x_test", "y_test"))

HELD_BACK = 0.1
"""Share of the images that accuracy is measured on, and nothing is learnt from, where the file has none for that."""

ROUNDS, SECONDS = 30, 2.0


@dataclass(frozen=True)
class Cost:
    """What a model costs: bytes of its .ecnn file; median milliseconds for one image on one thread, None if its size is open."""

    bytes: int
    ms: float | None


@dataclass(frozen=True)
class FileReport:
    """What `prune_file` did.

    Attributes:
        output: the pruned Keras model's file.
        ecnn: its .ecnn file, None if none was asked for.
        pruning: accuracy, layers, history.
        images: how many accuracy was measured on.
        before, after: costs of the two models with edgecnn on this machine.
        instruction_set: what they were measured with.
    """

    output: str
    ecnn: str | None
    pruning: PruningReport
    images: int
    before: Cost
    after: Cost
    instruction_set: str

    def to_json(self) -> dict[str, Any]:
        """One record."""
        return {
            "output": self.output,
            "ecnn": self.ecnn,
            "images": self.images,
            "before": {**self.pruning.before, **vars(self.before)},
            "after": {**self.pruning.after, **vars(self.after)},
            "instruction_set": self.instruction_set,
            "pruning": self.pruning.to_json(),
        }

    def __str__(self) -> str:
        report = self.pruning
        rows = [(name, f"{report.before[name]:.4f}", f"{report.after[name]:.4f}") for name in report.after]
        rows.append((".ecnn file", size_text(self.before.bytes), size_text(self.after.bytes)))
        if self.before.ms and self.after.ms:
            rows.append(("one image, one thread", f"{self.before.ms:.3f} ms", f"{self.after.ms:.3f} ms"))
        layers = [
            (layer.name, f"{layer.weights:,}", f"{100 * layer.zeros / max(1, layer.weights):.1f} %")
            for layer in report.layers
        ]
        lines = [
            printable(self.output) + (f", {printable(self.ecnn)}" if self.ecnn else ""),
            table(("layer", "weights", "zero"), layers, "lrr"),
            f"pruned by {report.pattern}: {100 * report.sparsity:.1f} % of all weights of kernels are zero",
            table(("", "before", "after"), rows, "lrr"),
            f"accuracy on {self.images:,} images that were not trained on; time with {self.instruction_set}",
        ]
        return "\n".join(lines)


def prune_file(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ecnn: str | os.PathLike[str] | None = None,
    loss: str | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    seed: int = 0,
    **options: Any,
) -> FileReport:
    """Prune a Keras model's file.

    Args:
        model: .keras, .h5 or .hdf5.
        data: an .npz file with x and y (or x_train and y_train), and, to measure accuracy on, x_val and y_val (or x_test and
            y_test); without these a tenth of the images is held back.
        output: the .keras file to write.
        ecnn: an .ecnn file to write as well.
        loss: for a model that was saved without one, a name of Keras such as "sparse_categorical_crossentropy".
        overwrite: whether existing files may be replaced.
        tell: is called with what is being done.
        seed: of training, and of what is held back.
        options: as for `prune`: sparsity, pattern, threshold, schedule, epochs, batch_size, learning_rate, distill, normalise,
            scope, layers, backup.

    Raises:
        InputError: as for `prune`; an output that exists.
        DataFileError: a file is missing, damaged, or cannot be written.
        UnsupportedLayerError: edgecnn cannot convert the model; nothing was trained.
    """
    target = _check_target(output, (".keras",), overwrite)
    compact = None if ecnn is None else _check_target(ecnn, (".ecnn",), overwrite)
    checked = ("sparsity", "pattern", "threshold", "normalise", "scope", "layers")
    settings(**{name: options[name] for name in checked if name in options})
    train, validation = _read_data(data, seed)
    original = load_model(model)
    if loss is not None:
        original.compile("adam", loss, metrics=["accuracy"])
    check_compiled(original, "edgecnn prune (--loss names one)")
    with tempfile.TemporaryDirectory() as folder:
        tell("converting the model as it is")
        first = Path(folder, "before.ecnn")
        convert(original, first)

        def save(pruned: Any) -> None:
            save_model(pruned, target)
            if compact is not None:
                convert(pruned, compact, overwrite=overwrite)

        pruned, report = prune(
            original, train, validation_data=validation, seed=seed, progress=tell, save=save, **options
        )
        second = Path(folder, "after.ecnn")
        convert(pruned, second)
        tell("timing both models")
        models = load(first, threads=1), load(second, threads=1)
        found = times(models)
        before, after = (Cost(path.stat().st_size, ms) for path, ms in zip((first, second), found, strict=True))
    return FileReport(
        str(target), None if compact is None else str(compact), report, len(validation[1]), before, after,
        models[0].instruction_set,
    )  # fmt: skip


def _check_target(path: str | os.PathLike[str], suffixes: tuple[str, ...], overwrite: bool) -> Path:
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise InputError(f"{target}: wanted a file that ends with {' or '.join(suffixes)}")
    if not target.parent.is_dir():
        raise DataFileError(f"{target}: there is no folder {target.parent}")
    if target.exists() and not overwrite:
        raise InputError(
            f"{target}: exists already; allow to replace it (overwrite=True, --force) or name another file"
        )
    return target


def save_model(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a .keras file beside the target and rename: no half file is ever left.

    Raises:
        DataFileError: it cannot be written.
    """
    with replacing_by_name(path, ".keras") as beside:
        model.save(beside)


def _read_data(path: str | os.PathLike[str], seed: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Images and labels to learn from, and to measure accuracy on."""
    if Path(path).suffix.lower() != ".npz":
        raise InputError(f"{path}: wanted an .npz file with arrays x and y: np.savez('data.npz', x=images, y=labels)")
    train = _pair(path, NAMES)
    if train is None:
        raise InputError(f"{path}: wanted arrays x and y, or x_train and y_train, in it")
    validation = _pair(path, VALIDATION_NAMES)
    if validation is not None:
        return train, validation
    x, y = train
    if len(x) != len(y) or len(x) < 2:
        raise InputError(f"{path}: {len(x)} images and {len(y)} labels: wanted as many of both, at least 2")
    order = np.random.default_rng(seed).permutation(len(x))
    count = max(1, round(HELD_BACK * len(x)))
    held, used = np.sort(order[:count]), np.sort(order[count:])
    return (x[used], y[used]), (x[held], y[held])


def _pair(path: str | os.PathLike[str], names: tuple[tuple[str, str], ...]) -> tuple[Array, Array] | None:
    for pair in names:
        try:
            found: Mapping[str, Array] = read_arrays(path, pair)
        except InputError:  # other names
            continue
        x, y = (np.atleast_1d(found[name]) for name in pair)
        return x, y
    return None


def times(models: Sequence[Model]) -> list[float | None]:
    """Median milliseconds of each for one image; they take turns, so that whatever else happens meets all.

    None for all where a size of theirs is open.
    """
    if any(None in spec.shape[1:] for model in models for spec in model.inputs):
        return [None] * len(models)
    inputs = [{name: array[:1] for name, array in sample_inputs(model.graph).items()} for model in models]
    samples: list[list[float]] = [[] for _ in models]
    end = time.perf_counter() + SECONDS
    while len(samples[0]) < ROUNDS or time.perf_counter() < end:
        for model, given, found in zip(models, inputs, samples, strict=True):
            model.run(given)
            started = time.perf_counter()
            model.run(given)
            found.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(found) for found in samples]
