"""The ways to make a network cheaper and their combinations, tried and measured with the engine that will serve them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgecnn.converters import convert
from edgecnn.errors import ConversionError, DataFileError, InputError
from edgecnn.runtime.model import load
from edgecnn.tools.text import size_text, table
from edgecnn.training.files import save_model, times
from edgecnn.training.keras_models import (
    ArrayBatches,
    accuracy_of,
    as_dataset,
    batches,
    check_compiled,
    check_data,
    check_model,
    evaluate,
    is_real,
    load_model,
    refresh_statistics,
    seed_random_layers,
    whole,
)
from edgecnn.training.pruner import settings
from edgecnn.training.pruning import numbered_epochs, prune
from edgecnn.training.structure import activation, average_pooling, batch_normalization, separable

REWRITES: dict[str, Callable[[Any], Any]] = {
    "average pooling": average_pooling,
    "batch normalization": batch_normalization,
    "relu": lambda model: activation(model, "relu"),
    "hard_swish": lambda model: activation(model, "hard_swish"),
    "separable": separable,
}
"""By the name that a candidate shows."""

COMBINED = (("separable",), ("average pooling", "separable"), ("batch normalization", "separable"))
"""Rewrites that are pruned as well."""


@dataclass(frozen=True)
class Candidate:
    """One network that was tried.

    Attributes:
        name: what was done to it: rewrites and pruning, joined by " + "; "as it is" for the model given.
        accuracy: on the validation data; of a model without one, minus its loss.
        bytes: of its .ecnn file.
        ms: median for one image with edgecnn.
        front: whether no other is at least as good in all three and better in one.
        keras, ecnn: its files, None if no folder was given.
    """

    name: str
    accuracy: float
    bytes: int
    ms: float
    front: bool = False
    keras: str | None = None
    ecnn: str | None = None


@dataclass(frozen=True)
class Exploration:
    """What `explore` found.

    Attributes:
        candidates: all that were measured, fastest first.
        left_out: name and reason of those that were not.
    """

    candidates: tuple[Candidate, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The Pareto front: the candidates that no other beats, fastest first."""
        return tuple(candidate for candidate in self.candidates if candidate.front)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw accuracy against latency into a picture (.png, .svg, .pdf); areas are sizes.

        The front of all three objectives is coloured and named; a line of steps joins what is best in the two that the axes show.
        """
        from edgecnn.training.plots import figure, save

        drawn = figure()
        axes = drawn.subplots()
        largest = max(candidate.bytes for candidate in self.candidates)
        for candidate in self.candidates:
            axes.scatter(
                candidate.ms,
                candidate.accuracy,
                s=20 + 200 * candidate.bytes / largest,
                color="tab:blue" if candidate.front else "lightgrey",
            )
        best = self._best_in_time()
        axes.plot(
            [c.ms for c in best], [c.accuracy for c in best], color="tab:blue", linewidth=1, drawstyle="steps-post"
        )
        axes.margins(x=0.1, y=0.1)
        middle = sum(axes.get_xlim()) / 2
        for candidate in self.front:  # towards the middle of the frame, so that no name leaves it
            side, shift = ("right", -8) if candidate.ms > middle else ("left", 8)
            axes.annotate(
                candidate.name, (candidate.ms, candidate.accuracy), xytext=(shift, -8), textcoords="offset points",
                ha=side, fontsize="x-small",
            )  # fmt: skip
        axes.set_xlabel("milliseconds for one image (area: bytes of the file)")
        axes.set_ylabel("accuracy")
        save(drawn, path)

    def _best_in_time(self) -> list[Candidate]:
        """More accurate than all that are as fast or faster, fastest first."""
        found: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda c: (c.ms, -c.accuracy)):
            if not found or candidate.accuracy > found[-1].accuracy:
                found.append(candidate)
        return found

    def __str__(self) -> str:
        rows = [
            ("*" if c.front else "", c.name, f"{c.accuracy:.4f}", size_text(c.bytes), f"{c.ms:.3f}")
            for c in self.candidates
        ]
        lines = [table(("", "network", "accuracy", ".ecnn", "ms"), rows, "llrrr"), "* no other is better in all three"]
        return "\n".join(lines + [f"not tried: {name}: {reason}" for name, reason in self.left_out])


def explore(
    model: Any,
    train: Any,
    validation: Any,
    *,
    device: str = "cpu",
    threads: int | None = 1,
    seconds: float = 3600.0,
    epochs: int = 1,
    batch_size: int = 32,
    sparsities: Sequence[float] = (0.5, 0.8, 0.9),
    patterns: Sequence[str] = ("block", "channel"),
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Exploration:
    """Try the ways to make a network cheaper, fine-tune each briefly, and measure it with edgecnn on this machine.

    Rewrites come first, one by one, then pruning, then both; what the time does not suffice for is named.

    Args:
        model: a compiled, trained Keras model, functional or sequential; it stays as it is.
        train, validation: data as for `prune`; accuracy is measured on the second.
        device, threads: what `edgecnn.load` takes, to measure on.
        seconds: after which no new candidate is begun that would probably end later.
        epochs: of fine-tuning, for each rewrite and again for each pruning.
        batch_size: images in a batch, for arrays.
        sparsities, patterns: of pruning.
        seed: of all that is random.
        folder: an existing folder for the .keras and .ecnn files of the candidates on the front; None: they are not kept.
        progress: is told what is being done.

    Returns:
        Candidates, with the Pareto front of accuracy, bytes and milliseconds marked.

    Raises:
        InputError: as for `prune`, before any training; an input of open size, which cannot be timed.
        UnsupportedLayerError: edgecnn cannot convert the model.
    """
    if not is_real(seconds) or not seconds > 0:
        raise InputError(f"seconds={seconds!r}: wanted a number above zero")
    epochs, batch_size, seed = whole(epochs, "epochs", 1), whole(batch_size, "batch_size", 1), whole(seed, "seed", 0)
    for pattern in patterns:
        for sparsity in sparsities:
            settings(sparsity, pattern)
    if folder is not None and not Path(folder).is_dir():
        raise DataFileError(f"{folder}: there is no such folder")
    check_model(model)
    check_compiled(model, "explore")
    given, judges = batches(train, batch_size, "train"), batches(validation, batch_size, "validation")
    check_data(model, given, "train")
    check_data(model, judges, "validation")
    with tempfile.TemporaryDirectory() as scratch:
        search = _Search(
            given, judges, device, threads, epochs, batch_size, seed, Path(scratch), time.monotonic() + seconds
        )
        plans: list[tuple[tuple[str, ...], tuple[str, float] | None]] = [((), None)]
        plans += [((name,), None) for name in REWRITES]
        prunings = [(pattern, sparsity) for pattern in patterns for sparsity in sparsities]
        plans += [((), pruning) for pruning in prunings]
        plans += [(names, None) for names in COMBINED if len(names) > 1]
        plans += [(names, pruning) for names in COMBINED for pruning in prunings]
        for number, (names, pruning) in enumerate(plans):
            progress(f"candidate {number + 1} of {len(plans)}: {_title(names, pruning)}")
            search.attempt(model, names, pruning)
        return search.result(folder)


def _title(names: Sequence[str], pruning: tuple[str, float] | None) -> str:
    parts = list(names) + ([f"{100 * pruning[1]:g} % by {pruning[0]}"] if pruning else [])
    return " + ".join(parts) or "as it is"


class _Search:
    """The candidates so far. Files lie in `scratch` until the front is known."""

    def __init__(
        self, train: Any, validation: Any, device: str, threads: int | None, epochs: int, batch_size: int, seed: int,
        scratch: Path, end: float,
    ) -> None:  # fmt: skip
        self.train, self.validation, self.device, self.threads = train, validation, device, threads
        self.epochs, self.batch_size, self.seed, self.scratch, self.end = epochs, batch_size, seed, scratch, end
        self.rewritten: dict[tuple[str, ...], Any] = {}
        self.found: list[tuple[Candidate, int]] = []
        self.left_out: list[tuple[str, str]] = []
        self.longest = 0.0

    def attempt(self, model: Any, names: tuple[str, ...], pruning: tuple[str, float] | None) -> None:
        """Make and measure a candidate, unless it cannot be made or time is up. The model as it is must be possible."""
        title, started = _title(names, pruning), time.monotonic()
        if self.found and started + self.longest > self.end:
            self.left_out.append((title, "no time left"))
            return
        try:
            made = self._rewritten(model, names)
            if pruning is not None:
                made, _ = prune(
                    made, self._data(self.train), validation_data=self._data(self.validation), pattern=pruning[0],
                    sparsity=pruning[1], epochs=self.epochs, batch_size=self.batch_size, seed=self.seed, progress=False,
                )  # fmt: skip
            self._measure(title, made)
        except (InputError, ConversionError) as error:
            if not self.found:
                raise
            self.left_out.append((title, str(error).splitlines()[0]))
        self.longest = max(self.longest, time.monotonic() - started)

    def _rewritten(self, model: Any, names: tuple[str, ...]) -> Any:
        """The model after rewrites, fine-tuned; each is made once."""
        if not names:
            return model
        if names not in self.rewritten:
            made = REWRITES[names[-1]](self._rewritten(model, names[:-1]))
            seed_random_layers(made, self.seed)
            data = self.train.shuffled(self.seed) if isinstance(self.train, ArrayBatches) else as_dataset(self.train)
            made.fit(data, epochs=self.epochs, verbose=0, shuffle=False, callbacks=[numbered_epochs(data)])
            refresh_statistics(made, self.train)  # a new layer's moving averages still remember how it began
            self.rewritten[names] = made
        return self.rewritten[names]

    @staticmethod
    def _data(data: Any) -> Any:
        return data.parts if isinstance(data, ArrayBatches) else data

    def _measure(self, title: str, made: Any) -> None:
        number = len(self.found)
        path = self.scratch / f"{number}.ecnn"
        convert(made, path)
        (ms,) = times([load(path, threads=self.threads, device=self.device)])
        if ms is None:
            raise InputError(f"model {made.name!r}: an input's size is open; it is measured where every size is known")
        metrics = evaluate(made, self.validation)
        accuracy = accuracy_of(metrics)
        made.save(self.scratch / f"{number}.keras")
        self.found.append(
            (Candidate(title, -metrics["loss"] if accuracy is None else accuracy, path.stat().st_size, ms), number)
        )

    def result(self, folder: str | os.PathLike[str] | None) -> Exploration:
        """All candidates, the front marked and kept."""
        candidates = []
        for candidate, number in self.found:
            front = not any(beats(other, candidate) for other, _ in self.found)
            candidate = replace(candidate, front=front)
            if front and folder is not None:
                candidate = self._kept(candidate, number, Path(folder))
            candidates.append(candidate)
        return Exploration(tuple(sorted(candidates, key=lambda c: c.ms)), tuple(self.left_out))

    def _kept(self, candidate: Candidate, number: int, folder: Path) -> Candidate:
        name = "".join(c if c.isalnum() else "_" for c in candidate.name)
        keras, ecnn = folder / f"{name}.keras", folder / f"{name}.ecnn"
        made = load_model(self.scratch / f"{number}.keras")
        save_model(made, keras)
        convert(made, ecnn, overwrite=True)
        return replace(candidate, keras=str(keras), ecnn=str(ecnn))


def beats(one: Candidate, other: Candidate) -> bool:
    """Whether the first is at least as good in accuracy, bytes and milliseconds, and better in one."""
    first, second = [(-c.accuracy, c.bytes, c.ms) for c in (one, other)]
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))
