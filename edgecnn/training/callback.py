"""The callback `Pruning`: prunes a model while `model.fit` trains it, whatever other callbacks do beside it."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.errors import DataFileError, InputError
from edgecnn.tools.arrays import write_arrays
from edgecnn.training.holding import release
from edgecnn.training.keras_models import import_keras, is_flag, to_array
from edgecnn.training.masks import Pattern, Schedule
from edgecnn.training.pruner import Pruner, settings

Array = np.ndarray[Any, Any]

GRADUAL, ONE_SHOT = "gradual", "one-shot"


def check_schedule(schedule: Any) -> str | Schedule:
    """A schedule, or the name of one.

    Raises:
        InputError: neither.
    """
    if isinstance(schedule, Schedule) or (isinstance(schedule, str) and schedule in (GRADUAL, ONE_SHOT)):
        return schedule
    raise InputError(f"schedule={schedule!r}: wanted 'gradual', 'one-shot' or a Schedule")


def shortfall(schedule: Schedule, steps: int) -> str:
    """What a run of so many steps does not reach, as a sentence; "" where it reaches all."""
    share = schedule.share(steps)
    if share >= 1:
        return ""
    return (
        f"{schedule} reaches {100 * share:.3g} % of the wanted sparsity in the {steps:,} steps of this run; end it at step "
        f"{steps:,} or earlier, or leave the schedule out: 'gradual' fits itself to the run"
    )


@cache
def pruning_class() -> type:
    """The callback `Pruning`; its base needs Keras, which importing this module must not load."""
    keras = import_keras()

    class Pruning(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        """Prune a model while `model.fit` trains it: `model.fit(..., callbacks=[Pruning(0.8, "block")])`.

        After each optimizer step the masked weights are zero, exactly, as are their moving averages; other callbacks see them
        so, in whatever order they stand. Epochs before the wanted sparsity is reached do not count for EarlyStopping, nor
        as the best for ModelCheckpoint and ReduceLROnPlateau. The zeros hold in later calls of `fit`, too, with or without this
        callback, until `release`. Works on any Keras model, subclassed ones included (whole channels need a functional or
        sequential one, and stay in the model until `remove_channels`).

        The share of zeros among the weights that are pruned is in the logs of each epoch, and so in the history, as "sparsity".
        A second `fit` with the same callback goes on where the first one ended.

        Args:
            sparsity, pattern, threshold, normalise, scope, layers: see `edgecnn.training.prune`.
            schedule: "gradual": to the whole sparsity after half of the run; "one-shot": before the first step; or a `Schedule`,
                whose steps are batches counted from where this callback starts.
            backup: an .npz file that holds weights, optimizer and masks at the end of each epoch. If it is there when
                training begins, that goes on from it, as with keras.callbacks.BackupAndRestore, and ends with the same
                bits as without interruption, provided that the data of an epoch are the same both times
                (`model.fit(shuffle=True)` on arrays are not). It is removed when training ends.
            keep_backup: leave it there, for who wants to save the model first.

        Attributes:
            pruner: the masks, from when training begins.
            step: batches seen.
            schedule: as given; once training has begun, with the steps that it has in this run.
            identity: what else a backup must have been made with, as texts by their names.

        Raises:
            InputError: an argument is out of range; when training begins: nothing to prune, or a backup of another model.

        Warns:
            UserWarning: before the first step: the schedule ends after the run.
        """

        def __init__(
            self,
            sparsity: float | Mapping[str, float] | None = None,
            pattern: str | Pattern = "block",
            *,
            threshold: float | None = None,
            normalise: str | None = "rms",
            scope: str = "layer",
            layers: Sequence[str] | None = None,
            schedule: str | Schedule = GRADUAL,
            backup: str | os.PathLike[str] | None = None,
            keep_backup: bool = False,
        ) -> None:
            super().__init__()
            self.settings = settings(
                sparsity, pattern, threshold=threshold, normalise=normalise, scope=scope, layers=layers
            )
            self.schedule = self._asked = check_schedule(schedule)
            self.backup = None if backup is None else backup_path(backup)
            self.keep_backup = is_flag(keep_backup, "keep_backup")
            self.identity: dict[str, str] = {}
            self.pruner: Pruner | None = None
            self.step = 0
            self._last_batch = -1
            self._iterations_before: int | None = 0
            self._companions = _Companions()
            self._run: dict[str, str] = {}

        def set_model(self, model: Any) -> None:
            super().set_model(model)
            self._companions.go_on()  # of a run that was interrupted
            self._companions = _Companions(_siblings(self))

        def on_train_begin(self, logs: Any = None) -> None:
            optimizer = self.model.optimizer
            if optimizer is not None and not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            if self.pruner is None or self.pruner.model is not self.model:
                self.pruner, self.step, self.schedule = Pruner(self.model, self.settings), 0, self._asked
                self._fit_schedule()
            self.pruner.attach()
            self._iterations_before = self._iterations()
            self._run = self._identity()
            if self.backup is not None and self.backup.exists():
                self._restore(self.backup)
            elif self.pruner.dropped:
                self.pruner.apply()
            else:
                self._choose(-1)
            if isinstance(self.schedule, Schedule) and self._steps() is not None:
                missing = shortfall(self.schedule, self.step + (self._steps() or 0))
                if missing:
                    warnings.warn(f"Pruning: {missing}", UserWarning, stacklevel=2)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._last_batch = -1
            self._companions.remember()
            if not self.is_done():
                self._companions.wait(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert self.pruner is not None
            before = self.step
            self.step += batch - self._last_batch  # more than 1 with steps_per_execution
            self._last_batch = batch
            if self._iterations_before is not None:
                # Where no optimizer of Keras works, nobody else applies the masks.
                if self._iterations() > self._iterations_before and keras.backend.backend() != "jax":
                    self._iterations_before = None
                else:
                    self.pruner.apply()
            self._choose(before)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert self.pruner is not None
            if logs is not None:
                logs["sparsity"] = self.pruner.sparsity()
            if self.schedule == GRADUAL:  # the data did not know their length; now it is known
                epochs = self.params.get("epochs") or 1
                fitted = Schedule.over(self.step * epochs)
                self.schedule = Schedule(self.step, max(self.step + 1, fitted.end), fitted.frequency)
            if self.backup is not None:
                self._save(self.backup, epoch + 1)

        def on_train_end(self, logs: Any = None) -> None:
            # Some optimizers write averaged weights when training ends.
            assert self.pruner is not None
            self.pruner.apply()
            self._companions.go_on()
            if self.backup is not None and not self.keep_backup:
                self.backup.unlink(missing_ok=True)

        def is_done(self) -> bool:
            """Whether the wanted sparsity is reached: the masks are final."""
            return isinstance(self.schedule, Schedule) and self.step >= self.schedule.end

        def release(self) -> None:
            """Let the zeros learn again; see `edgecnn.training.release`."""
            if self.pruner is not None:
                release(self.pruner.model)
                self.pruner = None

        def get_state(self) -> dict[str, Array]:
            """Step and masks, for a checkpoint of your own; `set_state` takes it after training has begun."""
            assert self.pruner is not None
            found = {"step": np.asarray(self.step)}
            if isinstance(self.schedule, Schedule):
                found["schedule"] = np.asarray(
                    [self.schedule.begin, self.schedule.end, self.schedule.frequency, self.schedule.initial]
                )
            return found | {f"dropped/{i}": drop for i, drop in enumerate(self.pruner.dropped)}

        def set_state(self, state: dict[str, Array]) -> None:
            """Go on from what `get_state` gave."""
            assert self.pruner is not None
            dropped = [state[f"dropped/{i}"] for i in range(len(self.pruner.units)) if f"dropped/{i}" in state]
            sizes = [len(scores) for scores in self.pruner.units.scores()[0]]
            if dropped and [len(drop) for drop in dropped] != sizes:
                raise InputError("state of pruning: made for another model, other layers or another pattern")
            self.step = int(state["step"])
            if "schedule" in state:
                begin, end, frequency, initial = state["schedule"].tolist()
                self.schedule = Schedule(int(begin), int(end), int(frequency), initial)
            if dropped:
                self.pruner.hold([drop.astype(bool) for drop in dropped])

        def _choose(self, before: int) -> None:
            """Choose masks if the schedule says so of the steps since `before`."""
            assert self.pruner is not None
            if not isinstance(self.schedule, Schedule):
                return
            at = self.schedule.chosen(before, self.step)
            if at is not None:
                self.pruner.hold(self.pruner.choose(self.schedule.share(at)))
            if self.is_done():
                self._companions.go_on()

        def _steps(self) -> int | None:
            """Batches of this run; None where the data do not know."""
            steps = self.params.get("steps")
            return None if steps is None else int(steps) * int(self.params.get("epochs") or 1)

        def _fit_schedule(self) -> None:
            if self._asked == ONE_SHOT:
                self.schedule = Schedule()
            elif self._asked == GRADUAL:
                steps = self._steps()
                if steps is not None:
                    self.schedule = Schedule.over(steps)
                elif (self.params.get("epochs") or 1) == 1:
                    warnings.warn(
                        "Pruning: the data do not say how many batches they have, and there is one epoch: pruned at once, "
                        "before it; more epochs or a Schedule prune gradually",
                        UserWarning,
                        stacklevel=2,
                    )
                    self.schedule = Schedule()

        def _iterations(self) -> int:
            # JAX' trainer keeps the state to itself between steps; asked, it writes it back and takes ours.
            synchronise = getattr(self.model, "jax_state_sync", None)
            if synchronise is not None:
                synchronise()
            return 0 if self.model.optimizer is None else int(to_array(self.model.optimizer.iterations))

        def _variables(self) -> list[Any]:
            # Metrics start anew with each epoch, and have no variables before the first step.
            metrics = {id(variable) for variable in self.model.metrics_variables}
            own = [variable for variable in self.model.variables if id(variable) not in metrics]
            return own if self.model.optimizer is None else [*own, *self.model.optimizer.variables]

        def _save(self, path: Path, epoch: int) -> None:
            arrays = {f"variable/{i}": to_array(variable) for i, variable in enumerate(self._variables())}
            arrays |= {"epoch": np.asarray(epoch), "run": np.asarray(json.dumps(self._run)), **self.get_state()}
            write_arrays(path, arrays, overwrite=True)

        def _identity(self) -> dict[str, str]:
            """What determines a run, beside its data and first weights, which a callback does not see."""
            found = {
                "settings of pruning": repr(self.settings),
                "schedule": repr(self._asked),
                "number of epochs or batches": f"{self.params.get('epochs')} epochs of {self.params.get('steps')}",
            }
            optimizer, loss = self.model.optimizer, getattr(self.model, "loss", None)
            if optimizer is not None:
                settings = f"{type(optimizer).__name__} {optimizer.get_config()}"
                # Not where a function lies, nor the number that Keras gives to another optimizer's name.
                found["optimizer or learning rate"] = re.sub(" at 0x[0-9a-f]+|'name': '[^']*'", "", settings)
            found["loss"] = loss if isinstance(loss, str) else str(getattr(loss, "name", type(loss).__name__))
            return found | self.identity

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
            run = json.loads(str(arrays["run"])) if "run" in arrays else {}
            others = [name for name in {**run, **self._run} if run.get(name) != self._run.get(name)]
            if others:
                raise InputError(f"{path}: a backup of another run: other {', '.join(others)}; remove it to begin anew")
            for variable, array in zip(variables, saved, strict=True):
                variable.assign(array)
            self.set_state(arrays)
            # As keras.callbacks.BackupAndRestore does.
            self.model._initial_epoch = int(arrays["epoch"])

    return Pruning


def _siblings(callback: Any) -> list[Any]:
    """The callbacks beside one, while its list tells it of the model. Keras hands callbacks no list: it is the caller."""
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        owner = frame.f_locals.get("self")
        if isinstance(owner, import_keras().callbacks.CallbackList):
            return [other for other in owner.callbacks if other is not callback]
    return []


class _Companions:
    """Callbacks that remember a best epoch: of those before the wanted sparsity none may be it."""

    def __init__(self, callbacks: Sequence[Any] = ()) -> None:
        kinds = import_keras().callbacks
        judging = (kinds.EarlyStopping, kinds.ModelCheckpoint, kinds.ReduceLROnPlateau)
        self.callbacks = [callback for callback in callbacks if isinstance(callback, judging)]
        self._first: list[dict[str, Any]] | None = None
        self._waiting = False

    def remember(self) -> None:
        """What they know at the start, once all have begun."""
        if self._first is None:
            names = ("best", "wait", "best_weights", "start_from_epoch")
            self._first = [
                {name: getattr(callback, name) for name in names if hasattr(callback, name)}
                for callback in self.callbacks
            ]

    def wait(self, epoch: int) -> None:
        """Have those that can overlook this epoch."""
        self._waiting = True
        for callback in self.callbacks:
            if hasattr(callback, "start_from_epoch"):
                callback.start_from_epoch = max(callback.start_from_epoch, epoch + 1)

    def go_on(self) -> None:
        """Have them judge from now on, as if they had just begun."""
        if self._waiting and self._first is not None:
            self._waiting = False
            for callback, first in zip(self.callbacks, self._first, strict=True):
                for name, value in first.items():
                    setattr(callback, name, value)


def backup_path(backup: str | os.PathLike[str]) -> Path:
    path = Path(backup)
    if path.suffix != ".npz":
        raise InputError(f"backup={str(backup)!r}: wanted an .npz file")
    if not path.parent.is_dir():
        raise InputError(f"backup={str(backup)!r}: there is no folder {path.parent}")
    return path
