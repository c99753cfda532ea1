"""What measuring the algorithms of a model's convolutions on this machine finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgecnn.runtime.model import load
from edgecnn.runtime.tuning import Tuning, tuned
from edgecnn.tools.text import printable, table


@dataclass(frozen=True)
class TuneResult:
    """A tuning, and on what it was made.

    Attributes:
        model: the file.
        tuning: what was found.
        threads, instruction_set: for which it holds.
    """

    model: str
    tuning: Tuning
    threads: int
    instruction_set: str

    def to_json(self) -> dict[str, Any]:
        """One record."""
        return {
            "model": self.model,
            "threads": self.threads,
            "instruction_set": self.instruction_set,
            "cached": self.tuning.cached,
            "cache_file": self.tuning.path,
            "changed": self.tuning.algorithms,
            "nodes": {
                choice.node: {"times_ms": dict(choice.times_ms), "chosen": choice.chosen}
                for choice in self.tuning.choices
            },
        }

    def __str__(self) -> str:
        choices = self.tuning.choices
        head = f"{printable(self.model)}: {len(choices)} nodes with a choice, {self.instruction_set}, {self.threads} threads"
        if not choices:
            return head
        rows = []
        for choice in choices:
            others = ", ".join(f"{name} {ms:.3f}" for name, ms in choice.times_ms.items() if name != choice.chosen)
            mark = "*" if choice.chosen != choice.estimated else ""
            rows.append([mark, choice.chosen, f"{choice.times_ms[choice.chosen]:.3f}", others, choice.node])
        before = sum(choice.times_ms[choice.estimated] for choice in choices)
        after = sum(choice.times_ms[choice.chosen] for choice in choices)
        source = "found in" if self.tuning.cached else "kept in"
        return "\n".join(
            [
                head,
                table(["", "algorithm", "ms", "others, ms", "node"], rows, "llrll"),
                f"these nodes: {before:.3f} ms as estimated, {after:.3f} ms as chosen (* changed); {source} {self.tuning.path}",
                "load the model with tune=True to use it",
            ]
        )


def tune(
    source: str | os.PathLike[str],
    threads: int | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TuneResult:
    """Measure, and keep what is found for `edgecnn.load(..., tune=True)`.

    Args:
        source: an .ecnn file whose input sizes are known.
        threads: as for `edgecnn.load`.
        again: measure even if the cache knows.
        progress: called with the rounds made so far, and all.

    Raises:
        InputError: input sizes are open.
        ModelFileError: the file cannot be read.
    """
    model = load(source, threads=threads)
    return TuneResult(str(source), tuned(model, again=again, progress=progress), model.threads, model.instruction_set)
