"""Pruning in one call: weights that count least become zero, and stay zero while the others learn on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.tools.text import printable, table
from edgecnn.training.callback import backup_path, check_schedule, pruning_class, shortfall
from edgecnn.training.channels import kernel_of, remove_channels
from edgecnn.training.distillation import distillation
from edgecnn.training.keras_models import (
    ArrayBatches,
    as_dataset,
    batches,
    check_compiled,
    check_data,
    check_model,
    clone,
    evaluate,
    import_keras,
    is_real,
    iterate,
    refresh_statistics,
    seed_random_layers,
    set_learning_rate,
    single_layers,
    to_array,
    whole,
)
from edgecnn.training.masks import Pattern, Schedule
from edgecnn.training.pruner import Pruner, settings

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerSparsity:
    """One kernel: the layer's name, its weights, and how many are zero."""

    name: str
    weights: int
    zeros: int


def layer_sparsity(model: Any) -> tuple[LayerSparsity, ...]:
    """What the kernels of a model hold, in its order."""
    found = []
    for layer in single_layers(model):
        kernel = kernel_of(layer)
        if kernel is not None:
            array = to_array(kernel)
            found.append(LayerSparsity(layer.name, array.size, int(array.size - np.count_nonzero(array))))
    return tuple(found)


@dataclass(frozen=True)
class PruningReport:
    """What pruning did.

    Attributes:
        pattern: what was zeroed together.
        layers: every kernel of the pruned model; after whole channels were removed, of the smaller one.
        parameters: values of all weights before and after.
        before, after: loss and metrics on the validation data (else on the training data).
        history: loss and metrics of each epoch, as model.fit gives them.
    """

    pattern: str
    layers: tuple[LayerSparsity, ...]
    parameters: tuple[int, int]
    before: dict[str, float]
    after: dict[str, float]
    history: dict[str, list[float]]

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels."""
        return sum(layer.zeros for layer in self.layers) / max(1, sum(layer.weights for layer in self.layers))

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return {**asdict(self), "sparsity": self.sparsity}

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the history into a picture (.png, .svg, .pdf)."""
        from edgecnn.training.plots import draw_history

        draw_history(self.history, path)

    def __str__(self) -> str:
        rows = [
            (layer.name, f"{layer.weights:,}", f"{100 * layer.zeros / max(1, layer.weights):.1f} %")
            for layer in self.layers
        ]
        lines = [
            (
                f"pruned by {self.pattern}: {100 * self.sparsity:.1f} % of the weights of kernels are zero; "
                f"{self.parameters[0]:,} parameters before, {self.parameters[1]:,} after"
            ),
            table(("layer", "weights", "zero"), rows, "lrr"),
        ]
        lines += [
            f"{printable(name)}: {self.before[name]:.4f} before, {after:.4f} after"
            for name, after in self.after.items()
        ]
        return "\n".join(lines)


def prune(
    model: Any,
    train_data: Any,
    *,
    sparsity: float | Mapping[str, float] | None = None,
    pattern: str | Pattern = "block",
    threshold: float | None = None,
    schedule: str | Schedule = "gradual",
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float | None = None,
    distill: float = 0.0,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[Any] = (),
    normalise: str | None = "rms",
    scope: str = "layer",
    layers: Sequence[str] | None = None,
    validation_data: Any = None,
    seed: int = 0,
    backup: str | os.PathLike[str] | None = None,
    save: Callable[[Any], None] | None = None,
    progress: bool | Callable[[str], None] = True,
) -> tuple[Any, PruningReport]:
    """Prune a trained model and fine-tune what is left.

    Args:
        model: a compiled Keras model, functional or sequential; it stays as it is.
        train_data: (x, y) or (x, y, sample_weight), arrays; x (N, height, width, channels) as the model takes it, a list or dict of
            arrays for several inputs, y for several outputs; or a PyDataset, a tf.data.Dataset or a list of batches.
        sparsity: share of the weights to zero, from 0 to below 1 (default 0.8; "n:m" has its own). Of whole channels: share
            of the weights of the channels that can go. Or a share for each layer, {"conv_2": 0.5, "block_*": 0.9}: only these are
            pruned; where several patterns fit a name, the first counts.
        pattern: what is zeroed together. "weight": each by itself. "block", "block:8": 16 (or 4, 8, 32) neighbouring
            output channels at one position of the window and one input channel, which edgecnn's kernels can skip. "2:4": two
            of four consecutive input channels stay. "channel": whole output channels, which are removed from the model
            together with what depended on them.
        threshold: in place of sparsity: the normalised magnitude (root mean square over a unit) below which it goes.
        schedule: "gradual": from 0 along a cubic curve to the whole sparsity after half of the steps (Zhu & Gupta 2017);
            "one-shot": before the first step; or a `Schedule`.
        epochs: of fine-tuning; 0: none.
        batch_size: images in a batch, for arrays.
        learning_rate: for fine-tuning; None: as the model was compiled.
        distill: share of the loss of fine-tuning, from 0 to 1, that asks a classifier for the answers of the model as it
            was; see `distillation`. 0.5 keeps more accuracy (docs/pruning.md), and takes about a fifth more time.
        class_weight: by the number of a class, how much its samples count in fine-tuning, as for `model.fit`.
        callbacks: of Keras, for fine-tuning. They see the zeros; the best epoch is one after the sparsity is reached.
        normalise: what |w| of a kernel is divided by, so that layers compare: "rms", its root mean square; "max", its
            largest value; None. It matters with a threshold, over the whole network, and where layers share channels.
        scope: "layer": every layer gets the sparsity; "network": all together do. A layer keeps one unit at least.
        layers: names, or patterns of names; see `prunable_layers` for the default.
        validation_data: for accuracy before and after, as train_data; None: that is measured on train_data.
        seed: of the order of arrays (which then depends on the epoch alone) and of random layers; 0 or more.
        backup: see `Pruning`: what was interrupted goes on from this .npz file, to the same bits.
        save: is given the pruned model at the end; the backup is removed after that, so that a full disk costs no training.
        progress: True: Keras' own bars; False: nothing; or a function that is told what is being done.

    Returns:
        The pruned model, compiled as the first one was, and the report. The zeros are exact, and stay zero if it is trained on, until
        `release`. Statistics of batch
        normalisation are averages over the pruned network's batches.

    Raises:
        InputError: before any training: an argument out of range, data of the wrong shape, nothing to prune, a model that is
            not compiled or cannot be cloned.
        MissingPackageError: Keras is not installed.

    Source: Han et al. 2015, arXiv 1506.02626; Zhu & Gupta 2017, arXiv 1710.01878.
    """
    chosen = settings(sparsity, pattern, threshold=threshold, normalise=normalise, scope=scope, layers=layers)
    check_schedule(schedule)
    epochs, batch_size, seed = whole(epochs, "epochs", 0), whole(batch_size, "batch_size", 1), whole(seed, "seed", 0)
    if not is_real(distill) or not 0 <= distill <= 1:
        raise InputError(f"distill={distill!r}: wanted a share of the loss from 0 to 1")
    if learning_rate is not None and not (is_real(learning_rate) and learning_rate > 0):
        raise InputError(f"learning_rate={learning_rate!r}: wanted a number above 0")
    place = None if backup is None else backup_path(backup)
    check_model(model)
    check_compiled(model, "prune")
    data = batches(train_data, batch_size, "train_data")
    check_data(model, data, "train_data")
    judges = data
    if validation_data is not None:
        judges = batches(validation_data, batch_size, "validation_data")
        check_data(model, judges, "validation_data")
    Pruner(model, chosen)  # refuses what has nothing to prune
    if isinstance(schedule, Schedule) and epochs:
        missing = shortfall(schedule, epochs * _batches_in(data))
        if missing:
            raise InputError(f"schedule: {missing}")
    twin = clone(model)
    if chosen.pattern.kind == "channel":
        check_data(remove_channels(twin), data, "train_data")  # what fails, fails before training
    if learning_rate is not None:
        set_learning_rate(twin, learning_rate)
    seed_random_layers(twin, seed)
    lesson = distillation(twin, model, distill) if distill else nullcontext()

    tell = progress if callable(progress) else _silent
    tell("measuring the accuracy before pruning")
    before = evaluate(twin, judges)
    callback = pruning_class()(
        sparsity,
        pattern,
        threshold=threshold,
        normalise=normalise,
        scope=scope,
        layers=layers,
        schedule=schedule,
        backup=place,
        keep_backup=True,
    )
    callback.identity = {
        "weights to begin with": f"{_checksum(to_array(variable) for variable in model.weights):08x}",
        "data": f"{_checksum(data.arrays() if isinstance(data, ArrayBatches) else _first_batch(data)):08x}",
        "batch_size": str(batch_size),
        "seed": str(seed),
        "distill": str(distill),
        "class_weight": str(None if class_weight is None else sorted(class_weight.items())),
    }
    history: dict[str, list[float]] = {}
    if epochs:
        given = data.shuffled(seed) if isinstance(data, ArrayBatches) else as_dataset(data)
        with lesson:
            fitted = twin.fit(
                given,
                epochs=epochs,
                callbacks=[
                    callback,
                    numbered_epochs(given, lambda epoch: tell(f"fine-tuning: epoch {epoch + 1} of {epochs}")),
                    *callbacks,
                ],
                class_weight=None if class_weight is None else dict(class_weight),
                verbose=1 if progress is True else 0,
                shuffle=False,
            )
        history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
        pruner = callback.pruner
    else:
        pruner = Pruner(twin, chosen)
        pruner.hold(pruner.choose(1.0))
    tell("averaging the statistics of batch normalisation")
    refresh_statistics(twin, data)
    pruner.apply()
    result = remove_channels(twin) if chosen.pattern.kind == "channel" else twin
    tell("measuring the accuracy after pruning")
    report = PruningReport(
        str(chosen.pattern),
        layer_sparsity(result),
        (int(model.count_params()), int(result.count_params())),
        before,
        evaluate(result, judges),
        history,
    )
    if save is not None:
        save(result)
    if place is not None and epochs:
        place.unlink(missing_ok=True)
    return result, report


def _checksum(arrays: Iterable[Array]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return found


def _first_batch(data: Any) -> list[Array]:
    """What of a data set can be looked at without going through it."""
    return [to_array(part) for part in import_keras().tree.flatten(next(iter(iterate(data, 1))))]


def _silent(text: str) -> None:
    """Tells nobody."""


def _batches_in(data: Any) -> int:
    try:
        return len(data)
    except TypeError:  # a data set that does not know
        return sum(1 for _ in data)


def numbered_epochs(data: Any, tell: Callable[[int], None] = lambda epoch: None) -> Any:
    """A callback that numbers the epochs of our data, from 0, tells when one begins, and stops where the loss is no number."""
    keras = import_keras()

    class NumberedEpochs(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if hasattr(data, "epoch"):
                data.epoch = epoch
            tell(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            loss = (logs or {}).get("loss")
            if loss is not None and not np.isfinite(loss):
                raise InputError(
                    f"training: the loss became {loss} at batch {batch + 1} of an epoch: an image or a label of the data is no "
                    "number, or the learning rate is too high"
                )

    return NumberedEpochs()
