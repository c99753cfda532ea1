"""How many threads to use."""

from __future__ import annotations

import os

from edgecnn.errors import InputError

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
    found: list[int] = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            # A group's quota holds for those within it.
            folders = ["/sys/fs/cgroup", *filter(None, path.split("/"))]
            for depth in range(len(folders), 0, -1):
                found += _cores(_read("/".join((*folders[:depth], "cpu.max"))).split())
        elif "cpu" in controllers.split(","):
            folder = f"/sys/fs/cgroup/cpu/{path.lstrip('/')}"
            found += _cores([_read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")])
    return min(found, default=None)


def _read(path: str) -> str:
    """A file's text, nothing where there is no such file. Neither pathlib nor the codec of another encoding: importing these takes
    as long as loading a small network."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode("utf-8", "replace").strip()
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
