"""How many threads to use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgecnn.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 256
"""More threads than this are taken for a mistake."""


def available() -> int:
    """Cores that this process may use: the affinity mask, and the cgroup's quota rounded up."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    quota = _quota()
    return max(1, cores if quota is None else min(cores, quota))


def _quota() -> int | None:
    """Whole cores in this process's cgroup quota (version 2, then 1); None without one."""
    from pathlib import Path  # here: it is a sixth of edgecnn's import

    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder = Path("/sys/fs/cgroup") / path.lstrip("/")
            for place in (folder, *folder.parents):
                if Path("/sys/fs/cgroup") not in (place, *place.parents):
                    break
                found += _cores(_read(place / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            folder = Path("/sys/fs/cgroup/cpu") / path.lstrip("/")
            found += _cores([_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")])
    return min(found, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cores(fields: list[str]) -> list[int]:
    """[quota, period] in microseconds as cores; nothing where there is no limit ("max" or -1)."""
    try:
        quota, period = (int(field) for field in fields)
    except ValueError:
        return []
    return [max(1, -(-quota // period))] if quota > 0 and period > 0 else []


def choose(threads: int | None) -> int:
    """The number of threads to use.

    Args:
        threads: what the caller asks for; None: EDGECNN_THREADS, or else what is available.

    Raises:
        InputError: not a whole number from 1 to 256.
    """
    where = "threads"
    wanted: object = threads
    if threads is None:
        text = os.environ.get("EDGECNN_THREADS", "").strip()
        if not text:
            return available()
        where = "EDGECNN_THREADS"
        wanted = int(text) if text.isdecimal() else text
    if isinstance(wanted, bool) or not hasattr(wanted, "__index__") or not 1 <= wanted.__index__() <= MOST:
        raise InputError(f"{where}={wanted!r}: wanted a whole number from 1 to {MOST}")
    return int(wanted.__index__())
