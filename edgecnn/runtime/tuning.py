"""Choice by measurement: which algorithm is the fastest for each node on this very CPU.

Every possible algorithm of every node is timed where it will run, between its neighbours, with caches as they leave them.
What is found is kept in a folder of the user's, by structure of the network, sizes, CPU, instruction set, threads and
version. Weights play no part in it, but for those whose zeros make an algorithm possible.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import DataFileError, InputError
from edgecnn.files import open_regular
from edgecnn.graph import Graph
from edgecnn.runtime.model import Model
from edgecnn.version import __version__

ROUNDS = 15
"""Calls that are timed for each algorithm, the candidates taking turns."""
LEAST_GAIN = 0.03
"""Of a node's time: what a measured algorithm must save to be taken in place of the estimated one. Less is noise."""


@dataclass(frozen=True)
class Choice:
    """One node's.

    Attributes:
        node: its name.
        times_ms: median by algorithm, the estimated best first.
        chosen: the algorithm to use.
    """

    node: str
    times_ms: Mapping[str, float]
    chosen: str

    @property
    def estimated(self) -> str:
        """The algorithm that would be used without measuring."""
        return next(iter(self.times_ms))


@dataclass(frozen=True)
class Tuning:
    """What was measured, or found in the cache.

    Attributes:
        choices: of each node that has a choice.
        cached: whether it was found rather than measured.
        path: the cache's file.
    """

    choices: tuple[Choice, ...]
    cached: bool
    path: str

    @property
    def algorithms(self) -> dict[str, str]:
        """By node, where the estimate is not taken."""
        return {choice.node: choice.chosen for choice in self.choices if choice.chosen != choice.estimated}


def cache_folder() -> str:
    """Where tuning results are kept: EDGECNN_CACHE, or the user's cache folder."""
    given = os.environ.get("EDGECNN_CACHE", "")
    if given:
        return given
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        root = os.path.join(home, "Library", "Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.join(root, "edgecnn")


def tuned(model: Model, *, again: bool = False, progress: Callable[[int, int], None] | None = None) -> Tuning:
    """Which algorithms are the fastest for a model here.

    Args:
        model: of known input sizes.
        again: measure even if the cache knows.
        progress: called with the calls made so far, and all.

    Raises:
        InputError: the model leaves sizes of its inputs open.
    """
    if any(None in spec.shape[1:] for spec in model.inputs):
        shapes = ", ".join(str(spec.shape) for spec in model.inputs)
        raise InputError(
            f"{model.name}: tuning needs known input sizes, the model has {shapes}; fix them when you convert it "
            f"(--input-shape)"
        )
    path = os.path.join(cache_folder(), f"{_key(model)}.json")
    if not again and (found := _read(path)) is not None:
        return Tuning(found, True, path)
    measured = Tuning(_measure(model, progress), False, path)
    _write(path, measured.choices)
    return measured


def _key(model: Model) -> str:
    """A name for all that the result depends on."""
    graph: Graph = model.graph
    parts: list[Any] = [__version__, model.instruction_set, model.threads, _cpu_name()]
    parts += [(port.name, graph.tensors[port.tensor].shape) for port in graph.inputs]
    parts.append(sorted(model.possible_algorithms().items()))
    for node in graph.nodes:
        shapes = [graph.constants[name].shape if name in graph.constants else name for name in node.inputs]
        parts.append((node.operator, node.name, node.outputs, sorted(node.attributes.items()), shapes))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
        names = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "Model")
        found = {line.split(":")[0].strip(): line for line in reversed(lines)}
        return "; ".join(found[name] for name in names if name in found)
    return platform.processor() or platform.machine()


def _measure(model: Model, progress: Callable[[int, int], None] | None) -> tuple[Choice, ...]:
    possible = model.possible_algorithms()
    most = max((len(names) for names in possible.values()), default=1)
    if most < 2:
        return ()
    # Model number i takes every node's i-th algorithm, or its last.
    models = [
        Model(
            model.graph,
            threads=model.threads,
            isa=model.instruction_set,
            algorithms={node: names[min(rank, len(names) - 1)] for node, names in possible.items()},
        )
        for rank in range(most)
    ]
    times: list[list[dict[str, float]]] = [[] for _ in models]
    for made in range(ROUNDS):
        for rank, candidate in enumerate(models):
            profile = candidate.profile(runs=1)
            times[rank].append({step["node"]: step["median_ms"] for step in profile.steps})
        if progress is not None:
            progress(made + 1, ROUNDS)
    choices = []
    for node, names in possible.items():
        medians = {name: float(np.median([t[node] for t in times[rank]])) for rank, name in enumerate(names)}
        best = min(medians, key=lambda name: medians[name])
        keep = medians[best] > (1 - LEAST_GAIN) * medians[names[0]]
        choices.append(Choice(node, medians, names[0] if keep else best))
    return tuple(choices)


def _read(path: str) -> tuple[Choice, ...] | None:
    """What a cache file says; None where there is none, or it is none of ours: it is only a cache."""
    try:
        with open_regular(path, DataFileError, "a result of tuning") as file:
            record = json.load(file)
        found = []
        for node, entry in record["nodes"].items():
            times = {str(name): float(value) for name, value in entry["times_ms"].items()}
            if entry["chosen"] not in times:
                return None
            found.append(Choice(str(node), times, entry["chosen"]))
        return tuple(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _write(path: str, choices: Sequence[Choice]) -> None:
    """Keep a result. Where the folder cannot be written, nothing is kept, and nothing is lost but time."""
    nodes = {choice.node: {"times_ms": dict(choice.times_ms), "chosen": choice.chosen} for choice in choices}
    record = {"edgecnn": __version__, "measured": time.strftime("%Y-%m-%d"), "nodes": nodes}
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(record, file, indent=1)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
