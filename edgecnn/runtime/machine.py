"""What this machine can at most: multiply-adds in registers, and bytes from memory. Measured, in a fifth of a second."""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgecnn.runtime import cpu

LONGEST_KEPT = 60.0
"""Seconds for which a measurement is believed: clocks change with heat and load."""
COPIED_BYTES = 32 << 20
"""By each thread at a time. Source and copy together are larger than the last cache of edge CPUs, and fit in their memory."""

FEWEST_COPIES = 4


@dataclass(frozen=True)
class Machine:
    """The roofs over every kernel.

    Attributes:
        peak_gflops: billions of floating-point operations a second of all threads together, 2 for a multiply-accumulate.
        bandwidth: billions of bytes a second that all threads together read from memory and write to it.
        cache_bandwidth: the same for the second-level cache.
    """

    peak_gflops: float
    bandwidth: float
    cache_bandwidth: float


_measured: dict[tuple[int, str], tuple[float, Machine]] = {}


def measure_machine(threads: int, instruction_set: str) -> Machine:
    """Peak and bandwidth of so many threads; what was measured within the last minute is taken again."""
    now = time.monotonic()
    found = _measured.get((threads, instruction_set))
    if found is None or now - found[0] > LONGEST_KEPT:
        cached = measure_bandwidth(threads, 0.05, cpu.SECOND_LEVEL_BYTES // 8)
        found = now, Machine(measure_peak(threads, instruction_set), measure_bandwidth(threads), cached)
        _measured[(threads, instruction_set)] = found
    return found[1]


def measure_peak(threads: int, instruction_set: str, seconds: float = 0.1) -> float:
    """GFLOP/s of so many threads that do nothing but multiply-adds in registers."""
    chosen = cpu.choose(instruction_set)
    return _together(threads, lambda: cpu.measure_peak(seconds, chosen))


def measure_bandwidth(threads: int, seconds: float = 0.1, size: int = COPIED_BYTES) -> float:
    """GB/s of so many threads that copy arrays of `size` bytes: bytes read and bytes written together.

    Source: McCalpin 1995, "STREAM", the kernel Copy.
    """

    def copy() -> float:
        # Both are written before: the first touch of a page is the system's work.
        source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
        best, copies, end = 0.0, 0, time.perf_counter() + seconds
        while True:
            started = time.perf_counter()
            np.copyto(target, source)
            now = time.perf_counter()
            best, copies = max(best, 2e-9 * size / (now - started)), copies + 1
            if now > end and copies >= FEWEST_COPIES:
                return best

    return _together(threads, copy)


def _together(threads: int, measure: Callable[[], float]) -> float:
    """The sum of what so many threads find at the same time."""
    rates = [0.0] * threads
    running = [_thread.allocate_lock() for _ in range(threads - 1)]

    def work(index: int) -> None:
        try:
            rates[index] = measure()
        finally:
            running[index].release()

    # Each on a Python thread: what is measured releases the GIL. Not threading.Thread, whose start and join leave its tables
    # damaged when the handler of a signal raises there (KeyError in _limbo, CPython 3.11 to 3.14).
    for index, lock in enumerate(running):
        lock.acquire()
        _thread.start_new_thread(work, (index,))
    rates[-1] = measure()
    for lock in running:
        lock.acquire()
    return sum(rates)
