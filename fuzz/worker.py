"""Tries mutated files one after the other in this process, so many or until it is ended. What it tries now lies in a file that outlives it.

Started by run.py; on standard output it says, a JSON object a line, what it found.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import tempfile
import traceback
import warnings
from random import Random
from types import CodeType, FrameType
from typing import Any

STATE = struct.Struct("<QQQ")
"""How many files were tried, whether one is being tried (1) or made (0), and its length; its bytes follow."""
MOST = 2**20
"""Bytes of a file."""
POOL = 4000
"""Files that reached something new; older ones are replaced."""
PROJECT = f"{os.sep}edgecnn{os.sep}"


class Coverage:
    """Which lines of the project's Python were reached. `new` tells whether the last file reached one that none had before."""

    def __init__(self) -> None:
        self.new = False
        self.lines = 0
        self.left: dict[CodeType, set[int]] = {}
        self.patience: dict[CodeType, int] = {}
        if hasattr(sys, "monitoring"):
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, "fuzz")
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, self.monitored)
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)

    def monitored(self, code: CodeType, line: int) -> Any:
        if PROJECT in code.co_filename:
            self.new = True
            self.lines += 1
        return sys.monitoring.DISABLE  # each line costs once

    # Before Python 3.12: a function is looked at until all its lines are known, or none was new for a while.

    def __enter__(self) -> None:
        self.new = False
        if not hasattr(sys, "monitoring"):
            sys.settrace(self.called)

    def __exit__(self, *_: object) -> None:
        if not hasattr(sys, "monitoring"):
            sys.settrace(None)

    def called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        left = self.left.get(code)
        if left is None:
            known = PROJECT in code.co_filename
            left = self.left[code] = {line for *_, line in code.co_lines() if line} if known else set()
            self.patience[code] = 300
        patience = self.patience[code] = self.patience[code] - 1
        if not left or (patience < 0 and patience % 64):
            return None
        return self.traced

    def traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        left = self.left[frame.f_code]
        if frame.f_lineno in left:
            left.discard(frame.f_lineno)
            self.new = True
            self.lines += 1
            self.patience[frame.f_code] = 300
        return self.traced


def place(error: BaseException) -> str:
    """The error's class and where in the project it arose: two findings of one place are one."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if PROJECT in f.filename]
    where = f"{frames[-1].filename.partition(PROJECT)[2]}:{frames[-1].name}" if frames else "outside"
    return f"{type(error).__name__} in {where}"


def limit_memory(more: int) -> None:
    """So many bytes more than are mapped now; what is refused becomes a MemoryError, or the end of the process."""
    import resource

    if not more:
        return
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, resource.RLIM_INFINITY))


def main() -> None:
    kind, seed, state_path, memory, files = sys.argv[1:]
    import mutations
    import targets

    warnings.simplefilter("ignore")
    random = Random(int(seed))
    # What is known to hang or to take gigabytes would be most of what is tried.
    known = targets.unmended()
    pool = [data for name, data in targets.corpus(kind).items() if name not in known]
    with open(state_path, "r+b") as file:
        state = mmap.mmap(file.fileno(), STATE.size + MOST)
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    coverage = Coverage()
    told: set[str] = set()

    def attempt(count: int, data: bytes) -> None:
        state[STATE.size : STATE.size + len(data)] = data
        state[: STATE.size] = STATE.pack(count, 1, len(data))
        try:
            with coverage:
                targets.run(kind, data, folder)
        except Exception as error:
            if (found := place(error)) not in told:
                told.add(found)
                text = traceback.format_exc(limit=-6)[-2000:]
                print(json.dumps({"found": found, "text": text, "data": data.hex()}), flush=True)
                coverage.new = True

    for number, data in enumerate(list(pool)):  # what is known already; nothing else counts as new
        attempt(number, data)
    limit_memory(int(memory))
    seeds, count = len(pool), len(pool)
    last = seeds + int(files) if int(files) else sys.maxsize
    while count < last:
        # What was found last leads on; the seeds keep what is common in sight.
        index = (
            random.randrange(len(pool))
            if random.random() < 0.7
            else max(0, len(pool) - 1 - int(random.expovariate(0.05)))
        )
        # Mutations of .h5 read files of earlier ones: where libhdf5 crashes then, edgecnn has no part in it.
        state[: STATE.size] = STATE.pack(count, 0, 0)
        data = mutations.MUTATIONS[kind](random, pool[index], random.choice(pool))[:MOST]
        count += 1
        attempt(count, data)
        if coverage.new:
            if len(pool) < POOL:
                pool.append(data)
            else:
                pool[random.randrange(seeds, POOL)] = data
        if count % 256 == 0:
            print(json.dumps({"lines": coverage.lines, "pool": len(pool)}), flush=True)


if __name__ == "__main__":
    main()
