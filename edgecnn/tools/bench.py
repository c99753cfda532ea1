"""How fast a model is on this machine, and how far that is from what the CPU can."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.runtime.machine import measure_peak
from edgecnn.runtime.model import Model, load
from edgecnn.runtime.threads import available
from edgecnn.tools.condition import condition, judge
from edgecnn.tools.text import Block, Table, count_text, joined, printable, size_text

FEWEST_RUNS = 10
"""Runs that are made however long they take: percentiles of fewer say little."""

NOISY = 1.5
"""p90 over p50 above which something else must have been using the machine."""

DRIFT = 1.15
"""The last quarter's median over the first's above which the machine got slower while it was measured."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Timing:
    """One number of threads.

    Attributes:
        load_ms: loading the file, packing its weights and planning.
        first_ms: the first call.
        runs: how many calls the percentiles are from.
        p50_ms, p90_ms, p99_ms: percentiles of a call's time.
        images_per_second: at the median.
        gflops: billions of floating-point operations a second at the median, 2 for a multiply-accumulate.
        peak_gflops: what as many threads (at most one a core) reach with multiply-adds in registers alone; None on a device
            whose peak is not measured, which is every one but the CPU.
        share_of_peak: gflops / peak_gflops.
    """

    threads: int
    load_ms: float
    first_ms: float
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_second: float
    gflops: float
    peak_gflops: float | None
    share_of_peak: float | None


@dataclass(frozen=True)
class Benchmark:
    """How fast a model is.

    Attributes:
        batch: images in a call.
        macs: multiply-accumulates for one image.
        peak_memory: most bytes that this process has held so far, Python included; None where the system does not tell.
        weight_memory, arena_memory: bytes of weights (packed, or where they are read in place), and of the intermediate
            tensors of one image.
        warnings: what is against trusting the figures.
        throttled: whether the CPU was held back by heat or power: the figures are then those of a worse machine.
        governor: the rule by which the clock is chosen; None where the system does not tell, like the next.
        temperatures: degrees Celsius before and after.
        device: where it was computed.
    """

    path: str
    instruction_set: str
    batch: int
    macs: int
    timings: tuple[Timing, ...]
    peak_memory: int | None
    weight_memory: int
    arena_memory: int
    warnings: tuple[str, ...]
    throttled: bool = False
    governor: str | None = None
    temperatures: tuple[float | None, float | None] = (None, None)
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return joined(self.blocks())

    def blocks(self) -> list[Block]:
        """What is said of it, for people."""
        header = (
            "threads",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "images/s",
            "GFLOP/s",
            "of peak",
            "load ms",
            "first ms",
            "runs",
        )
        rows = [
            (
                str(t.threads),
                f"{t.p50_ms:.3f}",
                f"{t.p90_ms:.3f}",
                f"{t.p99_ms:.3f}",
                f"{t.images_per_second:.1f}",
                f"{t.gflops:.1f}",
                "-" if t.share_of_peak is None else f"{100 * t.share_of_peak:.0f} %",
                f"{t.load_ms:.1f}",
                f"{t.first_ms:.2f}",
                str(t.runs),
            )
            for t in self.timings
        ]
        return [
            f"{printable(self.path)}: batch of {self.batch}, {count_text(self.macs)} MACs an image, {self.instruction_set}",
            Table(header, rows, "r" * len(header)),
            f"memory: weights {size_text(self.weight_memory)}, arena {size_text(self.arena_memory)}",
            f"this process at its peak: {size_text(self.peak_memory)}",
            *self._condition(),
            *(f"warning: {warning}" for warning in self.warnings),
        ]

    def _condition(self) -> list[str]:
        """The lines about clock and heat, of what is known."""
        lines = [] if self.governor is None else [f"governor: {self.governor}"]
        if None not in self.temperatures:
            lines.append("temperature: {:.0f} °C before, {:.0f} °C after".format(*self.temperatures))
        return [*lines, "THROTTLED: this CPU can do better than it was let"] if self.throttled else lines


def bench(
    path: str | os.PathLike[str],
    threads: Sequence[int] | None = None,
    batch: int = 1,
    runs: int | None = None,
    seconds: float = 2.0,
    tell: Callable[[str], None] = lambda text: None,
    device: str = "cpu",
) -> Benchmark:
    """Measure a model on random numbers.

    Args:
        path: an .ecnn file.
        threads: numbers of threads to try; None: only what `edgecnn.load` would take.
        batch: images in a call.
        runs: calls to time for each number of threads; None: as many as fit in `seconds`, at least 10.
        seconds: how long to time each number of threads, if `runs` is None.
        tell: is called with what is being done.
        device: as for `edgecnn.load`.

    Raises:
        ModelFileError: the file cannot be read.
        InputError: a number is out of range, or the model's input size is unknown.
        DeviceError: the device is not there.
    """
    if batch < 1 or (runs is not None and runs < 1) or not 0 < seconds < float("inf"):
        raise InputError(f"batch={batch}, runs={runs}, seconds={seconds}: wanted numbers above zero")
    before = condition()
    warnings: list[str] = []
    timings: list[Timing] = []
    for count in threads or (None,):
        started = time.perf_counter()
        model = load(path, threads=count, device=device)
        load_ms = 1e3 * (time.perf_counter() - started)
        images = _random_images(model, batch)
        name = f"{model.threads} thread{'s' if model.threads != 1 else ''}"
        tell(f"timing {name}" if device == "cpu" else f"timing on {device}")
        times = _times(model, images, runs, seconds)
        timings.append(_timing(model, batch, load_ms, times))
        warnings += [f"{name}: {text}" for text in _unsteady(times[1:])]
    after = condition()
    warnings += judge(before, after)
    most = max(timing.threads for timing in timings)
    if most > available():
        warnings.append(f"{most} threads share {available()} cores")
    return Benchmark(
        path=os.fspath(path),
        instruction_set=model.instruction_set,
        batch=batch,
        macs=model.macs or 0,
        timings=tuple(timings),
        peak_memory=_peak_memory(),
        weight_memory=model.memory.weights + model.memory.in_place,
        arena_memory=model.memory.arena,
        warnings=tuple(warnings),
        throttled=any(warning.startswith("throttled") for warning in warnings),
        governor=after.governor,
        temperatures=(before.temperature, after.temperature),
        device=device,
    )


def _random_images(model: Model, batch: int) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    images = {}
    for spec in model.inputs:
        sizes = [size for size in spec.shape[1:] if size is not None]
        if len(sizes) != len(spec.shape) - 1:
            raise InputError(
                f"input {spec.name!r} has shape {spec.shape}: a model is measured where every size is known"
            )
        images[spec.name] = generator.standard_normal((batch, *sizes), np.float32)
    return images


def _times(model: Model, images: dict[str, Array], runs: int | None, seconds: float) -> list[float]:
    """Seconds of each call, the first included."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) <= (FEWEST_RUNS if runs is None else runs) or (runs is None and time.perf_counter() < end):
        started = time.perf_counter()
        model.run(images)
        times.append(time.perf_counter() - started)
    return times


def _timing(model: Model, batch: int, load_ms: float, times: list[float]) -> Timing:
    p50, p90, p99 = (float(p) for p in np.percentile(times[1:], (50, 90, 99)))
    gflops = 2e-9 * (model.macs or 0) * batch / p50
    # More threads than cores take turns: together they have no more than the cores.
    peak = measure_peak(min(model.threads, available()), model.instruction_set) if model.device == "cpu" else None
    return Timing(
        threads=model.threads,
        load_ms=load_ms,
        first_ms=1e3 * times[0],
        runs=len(times) - 1,
        p50_ms=1e3 * p50,
        p90_ms=1e3 * p90,
        p99_ms=1e3 * p99,
        images_per_second=batch / p50,
        gflops=gflops,
        peak_gflops=peak,
        share_of_peak=gflops / peak if peak else None,
    )


def _unsteady(times: Sequence[float]) -> list[str]:
    """What the times themselves say against them."""
    warnings = []
    p50, p90 = (float(p) for p in np.percentile(times, (50, 90)))
    if p90 > NOISY * p50:
        warnings.append(f"noisy machine: one call in ten took {p90 / p50:.1f} times the median or more")
    quarter = len(times) // 4
    if quarter >= FEWEST_RUNS:
        drift = float(np.median(times[-quarter:]) / np.median(times[:quarter]))
        if drift > DRIFT:
            warnings.append(f"got {100 * (drift - 1):.0f} % slower while it was measured: throttled, or other load")
    return warnings


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
