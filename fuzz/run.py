"""Fuzzes edgecnn with mutated model files: `python fuzz/run.py --seconds 600`, or `make fuzz SECONDS=600`.

Each format has its worker, a process that tries thousands of files; this one watches it. A finding is an error of a class that the
call does not document, a crash, a file that takes more than 5 s of CPU time (60 s of any), or one that needs more memory than
is allowed. The file goes to fuzz/corpus/FORMAT, where tests/test_fuzz.py tries it for ever after. Ends with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import mmap
import os
import selectors
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from targets import CORPUS, FORMATS, keep, unmended
from worker import MOST, STATE

HERE = Path(__file__).resolve().parent
CPU_LIMIT, LIMIT = 5.0, 60.0
"""Seconds for one file, of the processor and of any kind: a busy machine makes nothing a hang."""
MEMORY = 2**31
"""Bytes that a worker may take beside what it has when it starts; 0: no limit, for AddressSanitizer, which maps terabytes."""
LIFE = 120.0
"""Seconds after which a worker is replaced: what leaks slowly is none of the files' doing."""
PACE = {"ecnn": 1000, "h5": 200, "keras": 150, "onnx": 240, "tflite": 100}
"""Files a second on one core of a small server, rounded down; with --paced this is what is tried, however long it takes."""


def cpu_seconds(process: int) -> float:
    """What a process has used, by all its threads."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """One worker, and what is known of the file that it tries."""

    def __init__(self, kind: str, seed: int, folder: Path, memory: int, files: int) -> None:
        self.state_path = folder / f"state-{kind}"
        self.state_path.write_bytes(bytes(STATE.size + MOST))
        with open(self.state_path, "r+b") as file:
            self.state = mmap.mmap(file.fileno(), STATE.size + MOST)
        command = [sys.executable, "-P", "-X", "faulthandler", str(HERE / "worker.py")]
        command += [kind, str(seed), str(self.state_path), str(memory), str(files)]
        self.errors = open(folder / f"errors-{kind}", "w+b")  # noqa: SIM115
        variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HERE)}
        variables["PYTHONHASHSEED"] = "0"  # the same seed tries the same files
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, env=variables)
        self.started = time.monotonic()
        self.seen, self.since, self.used = -1, self.started, 0.0

    def count(self) -> int:
        return int(STATE.unpack_from(self.state)[0])

    def tries(self) -> bool:
        """Whether a file is being tried; else one is being made."""
        return bool(STATE.unpack_from(self.state)[1])

    def data(self) -> bytes:
        return bytes(self.state[STATE.size : STATE.size + STATE.unpack_from(self.state)[2]])

    def hangs(self) -> bool:
        """Whether the file of the last look is still being tried, and for how long that goes on."""
        now, count = time.monotonic(), self.count()
        if count != self.seen:
            self.seen, self.since, self.used = count, now, cpu_seconds(self.process.pid)
            return False
        starting = self.seen == 0  # imports
        return not starting and (cpu_seconds(self.process.pid) - self.used > CPU_LIMIT or now - self.since > LIMIT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()
        self.state.close()


class Campaign:
    """One format, for some seconds, or with `files` until so many were tried."""

    def __init__(self, kind: str, seconds: float, seed: int, folder: Path, memory: int, files: int = 0) -> None:
        self.memory, self.files = memory, files
        self.kind, self.seconds, self.seed, self.folder = kind, seconds, seed, folder
        self.findings: dict[str, Path] = {}
        self.known: set[str] = set()
        self.tried, self.lines, self.took = 0, 0, 0.0

    def run(self) -> None:
        begun = time.monotonic()
        end = begun + self.seconds if not self.files else math.inf
        with tempfile.TemporaryDirectory() as folder:
            while time.monotonic() < end and not (self.files and self.tried >= self.files):
                most = min(int(LIFE * PACE[self.kind]), self.files - self.tried) if self.files else 0
                worker = Worker(self.kind, self.seed, Path(folder), self.memory, most)
                self.seed += 1
                try:
                    self.watch(worker, end if most else min(end, time.monotonic() + LIFE))
                finally:
                    self.tried += worker.count()
                    worker.end()
        self.took = time.monotonic() - begun

    def watch(self, worker: Worker, end: float) -> None:
        assert worker.process.stdout
        os.set_blocking(worker.process.stdout.fileno(), False)
        selector = selectors.DefaultSelector()
        selector.register(worker.process.stdout, selectors.EVENT_READ)
        rest, ended = b"", False
        while time.monotonic() < end:
            code = worker.process.poll()  # before the last of what it said is read
            if selector.select(0.2):
                with contextlib.suppress(BlockingIOError):
                    read = os.read(worker.process.stdout.fileno(), 65536)
                    rest, ended = rest + read, not read
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    self.told(json.loads(line), worker)
            if code == 0 and ended:
                return
            if code is not None and ended:
                worker.errors.seek(0)
                text = worker.errors.read()[-3000:].decode("utf-8", "replace")
                self.stopped(f"ended with {code}", text, worker)
                return
            if code is None and worker.hangs():
                self.stopped("hang", f"more than {CPU_LIMIT:.0f} s", worker)
                return

    def stopped(self, found: str, text: str, worker: Worker) -> None:
        if worker.tries():
            self.keep_finding(found, text, worker.data())
        else:
            print(
                f"{self.kind}: {found} where a file was made, none was tried; another worker goes on\n{text}",
                flush=True,
            )

    def told(self, message: dict[str, Any], worker: Worker) -> None:
        self.lines = max(self.lines, message.get("lines", 0))
        if "found" in message:
            # The worker goes on: by now it may be trying the next file, so it wrote this one itself.
            self.keep_finding(message["found"], message["text"], bytes.fromhex(message["data"]))

    def keep_finding(self, found: str, text: str, data: bytes) -> None:
        if found in self.findings and found != "hang":
            return
        if found in unmended().values():
            if found not in self.known:
                print(f"{self.kind}: {found}: known, see fuzz/open.txt", flush=True)
            self.known.add(found)
            return
        name = f"{hashlib.sha256(data).hexdigest()[:12]}"
        path = keep(self.folder / self.kind, name, data)
        self.findings[found] = path
        print(f"{self.kind}: {found}: {path}\n{text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="shared by the formats (default: 60)")
    parser.add_argument(
        "--paced", action="store_true", help="try what those seconds allow on a small server, on every machine the same"
    )
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--seed", type=int, default=None, help="of the mutations (default: another each time)")
    parser.add_argument("--keep", type=Path, default=CORPUS, help="where found files go (default: the corpus)")
    parser.add_argument("--memory", type=int, default=MEMORY, help="bytes for a worker; 0: no limit")
    parser.add_argument("--jobs", type=int, default=1, help="formats that are tried at the same time (default: 1)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}", flush=True)
    each = arguments.seconds / len(arguments.formats)

    def campaign(kind: str) -> int:
        files = math.ceil(each * PACE[kind]) if arguments.paced else 0
        campaign = Campaign(kind, each, seed, arguments.keep, arguments.memory, files)
        campaign.run()
        print(
            f"{kind}: {campaign.tried} files, {campaign.tried / campaign.took:.0f} a second, {campaign.lines} lines reached, "
            f"{len(campaign.findings)} new findings",
            flush=True,
        )
        return len(campaign.findings)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = sum(pool.map(campaign, arguments.formats))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
