"""Pruning: weights that count least become zero, and stay zero while the others learn on.

`Pruner` holds masks on a model; the callback `Pruning` runs it in `model.fit`; `prune` does all in one call.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgecnn.errors import DataFileError, InputError
from edgecnn.tools.arrays import write_arrays
from edgecnn.tools.text import printable, table
from edgecnn.training.channels import CONVOLUTIONS, DEPTHWISE, SEPARABLE, ChannelUnits, kernel_of, remove_channels
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
    refresh_statistics,
    seed_random_layers,
    set_learning_rate,
    single_layers,
    to_array,
)
from edgecnn.training.masks import (
    NORMALISATIONS,
    SCOPES,
    Pattern,
    Schedule,
    choose,
    expand,
    most_sparsity,
    normalised,
    parse_pattern,
    unit_scores,
)

Array = np.ndarray[Any, Any]

SPARSITY = 0.8
"""Wanted where nothing is said."""

CHOICES = 50
"""How often gradual pruning chooses masks anew; more brings no accuracy, and each takes a sort of all weights."""


@dataclass(frozen=True)
class Settings:
    """What is pruned, and how far.

    Attributes:
        sparsity: share of the weights to zero; None for a threshold, and for "n:m", which has its own.
        threshold: normalised magnitude below which a unit goes; None for a sparsity.
        pattern, normalise, scope: see `prune`.
        layers: names, or patterns of names such as "block_*"; None: all that is pruned by default.
    """

    sparsity: float | None
    threshold: float | None
    pattern: Pattern
    normalise: str | None
    scope: str
    layers: tuple[str, ...] | None


def settings(
    sparsity: float | None = None,
    pattern: str | Pattern = "block",
    *,
    threshold: float | None = None,
    normalise: str | None = "rms",
    scope: str = "layer",
    layers: Sequence[str] | None = None,
) -> Settings:
    """Checked settings; see `prune` for the arguments.

    Raises:
        InputError: one of them is out of range.
    """
    parsed = parse_pattern(pattern)
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise={normalise!r}: wanted 'rms', 'max' or None")
    if scope not in SCOPES:
        raise InputError(f"scope={scope!r}: wanted 'layer' or 'network'")
    if isinstance(layers, str):
        layers = (layers,)
    if sparsity is not None and threshold is not None:
        raise InputError("sparsity and threshold: give one of them; each decides by itself what goes")
    if sparsity is not None and not (is_real(sparsity) and 0 <= sparsity < 1):
        raise InputError(
            f"sparsity={sparsity!r}: wanted a share of the weights from 0 to below 1 (0.8 zeroes four of five); "
            "a network of zeros answers nothing"
        )
    if threshold is not None and not (is_real(threshold) and threshold >= 0):
        raise InputError(f"threshold={threshold!r}: wanted a normalised magnitude of 0 or more")
    if parsed.kind == "n:m":
        own = 1 - parsed.keep / parsed.of
        if threshold is not None or (sparsity is not None and not math.isclose(sparsity, own, abs_tol=1e-6)):
            raise InputError(f"pattern {parsed} has a sparsity of its own, {own:.4g}: leave sparsity and threshold out")
        sparsity = None
    elif sparsity is None and threshold is None:
        sparsity = SPARSITY
    return Settings(sparsity, threshold, parsed, normalise, scope, None if layers is None else tuple(layers))


def prunable_layers(model: Any, layers: Sequence[str] | None = None) -> list[Any]:
    """Layers whose kernels are pruned, in the model's order.

    Args:
        layers: names, or patterns of names such as "block_*". None: convolutions of one to three axes, the pointwise part
            of separable ones, and dense layers; but not the first convolution, which is small and sees the image, and
            not depthwise ones, which hold few weights. Biases and batch normalisation are never chosen.

    Raises:
        InputError: a name that no layer has, or that of a layer without kernel; nothing to prune.
    """
    candidates = [layer for layer in single_layers(model) if kernel_of(layer) is not None]
    if layers is None:
        convolutions = [layer for layer in candidates if type(layer).__name__ in (*CONVOLUTIONS, *SEPARABLE)]
        chosen = [
            layer
            for layer in candidates
            if type(layer).__name__ not in DEPTHWISE and not (convolutions and layer is convolutions[0])
        ]
    else:
        unknown = [name for name in layers if not any(fnmatchcase(layer.name, name) for layer in candidates)]
        if unknown:
            names = ", ".join(layer.name for layer in candidates) or "none"
            raise InputError(f"layers: {unknown} name no layer with a kernel in model {model.name!r}; it has: {names}")
        chosen = [layer for layer in candidates if any(fnmatchcase(layer.name, name) for name in layers)]
    if not chosen:
        raise InputError(
            f"model {model.name!r} has nothing to prune: no convolution after the first one and no dense layer; "
            "name layers with layers=... to prune others"
        )
    return chosen


class Units(Protocol):
    """What is zeroed together, in sets among which a layer's quantile is taken."""

    def __len__(self) -> int: ...

    def layers(self) -> list[Any]:
        """Layers that lose weights."""

    def scores(self) -> tuple[list[Array], list[Array]]:
        """For each set, how much its units count, and how many weights they have."""

    def masks(self, dropped: list[Array]) -> list[tuple[Any, Array]]:
        """Variables and their masks, True where a value stays."""


class KernelUnits:
    """Units inside single kernels: weights, blocks, n:m."""

    def __init__(self, layers: Sequence[Any], pattern: Pattern, normalise: str | None) -> None:
        self._layers, self.pattern, self.normalise = list(layers), pattern, normalise
        self.kernels = [kernel_of(layer) for layer in layers]
        # A depthwise kernel (..., channels, multiplier) has its outputs on two axes, and one input for each.
        self.shapes = [
            (*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1])
            if type(layer).__name__ in DEPTHWISE
            else tuple(kernel.shape)
            for layer, kernel in zip(layers, self.kernels, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.kernels)

    def layers(self) -> list[Any]:
        return self._layers

    def scores(self) -> tuple[list[Array], list[Array]]:
        found = [
            unit_scores(normalised(to_array(kernel).reshape(shape), self.normalise), self.pattern)
            for kernel, shape in zip(self.kernels, self.shapes, strict=True)
        ]
        return [scores for scores, _ in found], [sizes for _, sizes in found]

    def masks(self, dropped: list[Array]) -> list[tuple[Any, Array]]:
        return [
            (kernel, expand(drop, shape, self.pattern).reshape(tuple(kernel.shape)))
            for kernel, shape, drop in zip(self.kernels, self.shapes, dropped, strict=True)
        ]


class Pruner:
    """Chooses masks and holds them on a model's variables.

    Raises:
        InputError: the model has nothing to prune in this way.
    """

    def __init__(self, model: Any, chosen: Settings, schedule: Schedule) -> None:
        check_model(model)
        self.settings, self.schedule = chosen, schedule
        layers = prunable_layers(model, chosen.layers)
        self.units: Units
        if chosen.pattern.kind == "channel":
            self.units = ChannelUnits(model, layers, chosen.normalise)
        else:
            self.units = KernelUnits(layers, chosen.pattern, chosen.normalise)
        if not len(self.units):
            raise InputError(
                f"model {model.name!r} has nothing to prune by whole channels: those of layers "
                f"{[layer.name for layer in layers]} reach an output, a layer that is left out, or one whose channels "
                "cannot be followed; use another pattern or name more layers"
            )
        self.dropped: list[Array] = []
        self._held: list[tuple[Any, Any]] = []

    def after(self, step: int) -> None:
        """Choose masks if the schedule says so, and apply those there are.

        Args:
            step: optimizer steps done, 0 before the first.
        """
        if self.schedule.chooses_at(step) or (step > self.schedule.end and not self.dropped):
            self._choose(self.schedule.share(step))
        self.apply()

    def _choose(self, share: float) -> None:
        scores, sizes = self.units.scores()
        # What has gone stays gone.
        for layer, drop in zip(scores, self.dropped, strict=False):
            layer[drop] = -1.0
        wanted, threshold = self.settings.sparsity, self.settings.threshold
        if threshold is not None:
            self.hold(choose(scores, sizes, threshold=share * threshold))
            return
        if wanted is None:
            shapes = self.units.shapes if isinstance(self.units, KernelUnits) else []
            # The whole pattern is all that has a finite score.
            wanted = most_sparsity(self.settings.pattern, shapes) if share < 1 else 1.0
        self.hold(choose(scores, sizes, sparsity=share * wanted, scope=self.settings.scope))

    def hold(self, dropped: list[Array]) -> None:
        """Hold these units at zero from now on."""
        ops = import_keras().ops
        self.dropped = dropped
        self._held = [
            (variable, ops.convert_to_tensor(mask)) for variable, mask in self.units.masks(dropped) if not mask.all()
        ]

    def apply(self) -> None:
        """Zero what the masks hold. Positive zeros, also of what has become infinite."""
        ops = import_keras().ops
        for variable, mask in self._held:
            value = ops.convert_to_tensor(variable)  # not all of JAX' functions take a variable
            variable.assign(ops.where(mask, value, ops.zeros_like(value)))

    def masks(self) -> dict[str, Array]:
        """By the path of their variables, True where a value stays."""
        return {variable.path: mask for variable, mask in self.units.masks(self.dropped)} if self.dropped else {}


@cache
def pruning_class() -> type:
    """The callback `Pruning`; its base needs Keras, which importing this module must not load."""
    keras = import_keras()

    class Pruning(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        """Prune a model while `model.fit` trains it: `model.fit(..., callbacks=[Pruning(0.8, "block")])`.

        After each optimizer step the masked weights are zero, exactly. Works on any Keras model, subclassed ones
        included (whole channels need a functional or sequential one, and stay in the model until `remove_channels`).

        Args:
            sparsity, pattern, threshold, normalise, scope, layers: see `edgecnn.training.prune`.
            schedule: steps of the optimizer, counted from where this callback starts. The default prunes at once.
            backup: an .npz file that holds weights, optimizer and masks at the end of each epoch. If it is there when
                training begins, that goes on from it, as with keras.callbacks.BackupAndRestore, and ends with the same
                bits as without interruption, provided that the data of an epoch are the same both times
                (`model.fit(shuffle=True)` on arrays are not). It is removed when training ends.
            keep_backup: leave it there, for who wants to save the model first.

        Attributes:
            pruner: the masks, from when training begins.
            step: optimizer steps seen.
            remark: what else a backup must have been made with, as a text.

        Raises:
            InputError: an argument is out of range; when training begins: nothing to prune, or a backup of another model.
        """

        def __init__(
            self,
            sparsity: float | None = None,
            pattern: str | Pattern = "block",
            *,
            threshold: float | None = None,
            normalise: str | None = "rms",
            scope: str = "layer",
            layers: Sequence[str] | None = None,
            schedule: Schedule | None = None,
            backup: str | os.PathLike[str] | None = None,
            keep_backup: bool = False,
        ) -> None:
            super().__init__()
            self.settings = settings(
                sparsity, pattern, threshold=threshold, normalise=normalise, scope=scope, layers=layers
            )
            self.schedule = Schedule() if schedule is None else schedule
            self.backup, self.keep_backup = None if backup is None else _backup_path(backup), keep_backup
            self.remark = ""
            self.pruner: Pruner | None = None
            self.step = 0
            self._began = 0

        def on_train_begin(self, logs: Any = None) -> None:
            optimizer = self.model.optimizer
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            self.pruner = Pruner(self.model, self.settings, self.schedule)
            self._began = self._iterations()
            self.step = 0
            if self.backup is not None and self.backup.exists():
                self._restore(self.backup)
            else:
                self.pruner.after(0)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            before, self.step = self.step, self._iterations() - self._began
            assert self.pruner is not None
            # Several steps may have gone by (steps_per_execution): the last of them at which masks are chosen counts.
            chooses = [step for step in range(before + 1, self.step) if self.schedule.chooses_at(step)]
            if chooses and not self.schedule.chooses_at(self.step):
                self.pruner.after(chooses[-1])
            else:
                self.pruner.after(self.step)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self.backup is not None:
                self._save(self.backup, epoch + 1)

        def on_train_end(self, logs: Any = None) -> None:
            # Some optimizers write averaged weights when training ends.
            assert self.pruner is not None
            self.pruner.apply()
            if self.backup is not None and not self.keep_backup:
                self.backup.unlink(missing_ok=True)

        def get_state(self) -> dict[str, Array]:
            """Step and masks, for a checkpoint of your own; `set_state` takes it after training has begun."""
            assert self.pruner is not None
            found = {"step": np.asarray(self.step), "began": np.asarray(self._began)}
            return found | {f"dropped/{i}": drop for i, drop in enumerate(self.pruner.dropped)}

        def set_state(self, state: dict[str, Array]) -> None:
            """Go on from what `get_state` gave."""
            assert self.pruner is not None
            dropped = [state[f"dropped/{i}"] for i in range(len(self.pruner.units)) if f"dropped/{i}" in state]
            sizes = [len(scores) for scores in self.pruner.units.scores()[0]]
            if dropped and [len(drop) for drop in dropped] != sizes:
                raise InputError("state of pruning: made for another model, other layers or another pattern")
            self.step, self._began = int(state["step"]), int(state["began"])
            if dropped:
                self.pruner.hold([drop.astype(bool) for drop in dropped])
            self.pruner.apply()

        def _iterations(self) -> int:
            # JAX' trainer keeps the state to itself between steps; asked, it writes it back and takes ours.
            synchronise = getattr(self.model, "jax_state_sync", None)
            if synchronise is not None:
                synchronise()
            return int(to_array(self.model.optimizer.iterations))

        def _variables(self) -> list[Any]:
            # Metrics start anew with each epoch, and have no variables before the first step.
            metrics = {id(variable) for variable in self.model.metrics_variables}
            own = [variable for variable in self.model.variables if id(variable) not in metrics]
            return [*own, *self.model.optimizer.variables]

        def _save(self, path: Path, epoch: int) -> None:
            arrays = {f"variable/{i}": to_array(variable) for i, variable in enumerate(self._variables())}
            arrays |= {"epoch": np.asarray(epoch), "settings": self._settings_text(), **self.get_state()}
            write_arrays(path, arrays, overwrite=True)

        def _settings_text(self) -> Array:
            return np.asarray(repr((self.settings, self.schedule)) + self.remark)

        def _restore(self, path: Path) -> None:
            try:
                with np.load(path, allow_pickle=False) as archive:
                    arrays = dict(archive)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise DataFileError(f"{path}: no backup of pruning: {error}") from error
            variables = self._variables()
            saved = [arrays[f"variable/{i}"] for i in range(len(variables)) if f"variable/{i}" in arrays]
            shapes = [tuple(variable.shape) for variable in variables]
            if [array.shape for array in saved] != shapes or f"variable/{len(variables)}" in arrays:
                raise InputError(f"{path}: a backup of another model or optimizer; remove it to begin anew")
            if str(arrays.get("settings")) != str(self._settings_text()):
                raise InputError(f"{path}: a backup of other settings of pruning; remove it to begin anew")
            for variable, array in zip(variables, saved, strict=True):
                variable.assign(array)
            self.set_state(arrays)
            # As keras.callbacks.BackupAndRestore does.
            self.model._initial_epoch = int(arrays["epoch"])

    return Pruning


def _backup_path(backup: str | os.PathLike[str]) -> Path:
    path = Path(backup)
    if path.suffix != ".npz":
        raise InputError(f"backup={str(backup)!r}: wanted an .npz file")
    if not path.parent.is_dir():
        raise InputError(f"backup={str(backup)!r}: there is no folder {path.parent}")
    return path


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
    sparsity: float | None = None,
    pattern: str | Pattern = "block",
    threshold: float | None = None,
    schedule: str | Schedule = "gradual",
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float | None = None,
    distill: float = 0.0,
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
        train_data: (x, y), arrays; x (N, height, width, channels) as the model takes it; or a PyDataset, a tf.data.Dataset
            or a list of batches.
        sparsity: share of the weights to zero, from 0 to below 1 (default 0.8; "n:m" has its own). Of whole channels: share
            of the weights of the channels that can go.
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
        normalise: what |w| of a kernel is divided by, so that layers compare: "rms", its root mean square; "max", its
            largest value; None. It matters with a threshold, over the whole network, and where layers share channels.
        scope: "layer": every layer gets the sparsity; "network": all together do. A layer keeps one unit at least.
        layers: names, or patterns of names; see `prunable_layers` for the default.
        validation_data: for accuracy before and after, as train_data; None: that is measured on train_data.
        seed: of the order of arrays (which then depends on the epoch alone) and of random layers.
        backup: see `Pruning`: what was interrupted goes on from this .npz file, to the same bits.
        save: is given the pruned model at the end; the backup is removed after that, so that a full disk costs no training.
        progress: True: Keras' own bars; False: nothing; or a function that is told what is being done.

    Returns:
        The pruned model, compiled as the first one was, and the report. The zeros are exact. Statistics of batch
        normalisation are averages over the pruned network's batches.

    Raises:
        InputError: before any training: an argument out of range, data of the wrong shape, nothing to prune, a model that is
            not compiled or cannot be cloned.
        MissingPackageError: Keras is not installed.

    Source: Han et al. 2015, arXiv 1506.02626; Zhu & Gupta 2017, arXiv 1710.01878.
    """
    chosen = settings(sparsity, pattern, threshold=threshold, normalise=normalise, scope=scope, layers=layers)
    if not isinstance(schedule, Schedule) and schedule not in ("gradual", "one-shot"):
        raise InputError(f"schedule={schedule!r}: wanted 'gradual', 'one-shot' or a Schedule")
    if not isinstance(epochs, int) or epochs < 0:
        raise InputError(f"epochs={epochs!r}: wanted 0 or more")
    if not is_real(distill) or not 0 <= distill <= 1:
        raise InputError(f"distill={distill!r}: wanted a share of the loss from 0 to 1")
    if learning_rate is not None and not (is_real(learning_rate) and learning_rate > 0):
        raise InputError(f"learning_rate={learning_rate!r}: wanted a number above 0")
    place = None if backup is None else _backup_path(backup)
    check_model(model)
    check_compiled(model, "prune")
    data = batches(train_data, batch_size, "train_data")
    check_data(model, data, "train_data")
    judges = data
    if validation_data is not None:
        judges = batches(validation_data, batch_size, "validation_data")
        check_data(model, judges, "validation_data")
    Pruner(model, chosen, Schedule())  # refuses what has nothing to prune
    twin = clone(model)
    if learning_rate is not None:
        set_learning_rate(twin, learning_rate)
    seed_random_layers(twin, seed)
    lesson = distillation(twin, model, distill) if distill else nullcontext()

    tell = progress if callable(progress) else _silent
    tell("measuring the accuracy before pruning")
    before = evaluate(twin, judges)
    plan = _planned(schedule, data, epochs)
    callback = pruning_class()(
        sparsity,
        pattern,
        threshold=threshold,
        normalise=normalise,
        scope=scope,
        layers=layers,
        schedule=plan,
        backup=place,
        keep_backup=True,
    )
    if distill:
        callback.remark = f" distill={distill} from {_checksum(model):08x}"
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
                ],
                verbose=1 if progress is True else 0,
                shuffle=False,
            )
        history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
        pruner = callback.pruner
    else:
        pruner = Pruner(twin, chosen, plan)
        pruner.after(0)
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


def _checksum(model: Any) -> int:
    """Of a model's weights."""
    found = 0
    for variable in model.weights:
        found = zlib.crc32(np.ascontiguousarray(to_array(variable)).tobytes(), found)
    return found


def _silent(text: str) -> None:
    """Tells nobody."""


def _planned(schedule: str | Schedule, data: Any, epochs: int) -> Schedule:
    if isinstance(schedule, Schedule):
        return replace(schedule, begin=0, end=0) if not epochs else schedule
    if schedule == "one-shot" or not epochs:
        return Schedule()
    steps = epochs * _batches_in(data)
    end = max(1, steps // 2)
    return Schedule(0, end, max(1, end // CHOICES))


def _batches_in(data: Any) -> int:
    try:
        return len(data)
    except TypeError:  # a data set that does not know
        return sum(1 for _ in data)


def numbered_epochs(data: Any, tell: Callable[[int], None] = lambda epoch: None) -> Any:
    """A callback that numbers the epochs of our data, from 0, and tells when one begins."""
    keras = import_keras()

    class NumberedEpochs(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if hasattr(data, "epoch"):
                data.epoch = epoch
            tell(epoch)

    return NumberedEpochs()
