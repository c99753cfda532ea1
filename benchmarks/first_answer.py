"""Time from a file to the first answer, and the memory that it takes, in a process that does nothing else.

python benchmarks/first_answer.py ENGINE FILE INPUT.npy THREADS    # what `measure` runs; prints one JSON record
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines import ENGINES

CALM_SECONDS = 0.2
"""After the imports."""


@dataclass(frozen=True)
class FirstAnswer:
    """Medians.

    Attributes:
        load_ms: from before the file is opened until the first answer is there; imports are done before.
        peak_bytes: most resident memory in that time, above what was resident after the imports. Pages of a mapped file
            count.
    """

    load_ms: float
    peak_bytes: int


def measure(engine: str, file: Path, x: Path, threads: int) -> FirstAnswer:
    """Measure once, in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), engine, str(file), str(x), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return FirstAnswer(**json.loads(done.stdout.splitlines()[-1]))


def median(measured: Sequence[FirstAnswer]) -> FirstAnswer:
    """The median of each figure."""
    return FirstAnswer(
        statistics.median(each.load_ms for each in measured),
        round(statistics.median(each.peak_bytes for each in measured)),
    )


def first_answer(engine: str, file: Path, x: Path, threads: int) -> FirstAnswer:
    """Measure in this process."""
    for module in ENGINES[engine].modules:
        importlib.import_module(module)
    image = np.load(x)
    # NumPy's OpenBLAS starts threads when it is imported, and these spin for some tens of milliseconds: no engine shall share a core
    # with what its imports have left behind.
    time.sleep(CALM_SECONDS)
    before = _restart_peak()
    started = time.perf_counter()
    run = ENGINES[engine].load(file, threads)
    run(image)
    load_ms = 1e3 * (time.perf_counter() - started)
    return FirstAnswer(load_ms, _peak() - before)


def _restart_peak() -> int:
    """Forget the peak so far, where the kernel can; the peak from here on starts at this many bytes."""
    with contextlib.suppress(OSError):
        # "5" sets VmHWM back to what is resident now (proc(5)).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Most bytes resident so far."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(kilobytes)
    except (OSError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    result = first_answer(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(vars(result)))
