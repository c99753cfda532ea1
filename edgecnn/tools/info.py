"""What a bug report needs to know of a machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgecnn.errors import Error
from edgecnn.runtime import cpu, threads, workers
from edgecnn.tools.text import printable
from edgecnn.version import __version__

PACKAGES = ("numpy", "h5py", "pillow", "tensorflow", "tensorflow-cpu", "keras", "tf-keras")
VARIABLES = ("EDGECNN_THREADS", "EDGECNN_ISA", "EDGECNN_CACHE")


@dataclass(frozen=True, repr=False)
class Info:
    """The machine, the build and the versions.

    Attributes:
        instruction_sets: of the build, best first, with whether this CPU runs them.
        instruction_set: what would be used; an error's text if the environment asks for one that is not there.
        cores, threads: what this process may use, and what a model would take (or an error's text).
        openmp: False: no OpenMP library is needed, the threads are edgecnn's own.
        threads_refused: whether this system refused to start a thread: calls then compute with fewer.
        packages: versions of what is installed.
        environment: variables that change what edgecnn does.
    """

    edgecnn: str
    python: str
    system: str
    machine: str
    cpu: str
    cores: int
    threads: int | str
    openmp: bool
    threads_refused: bool
    instruction_sets: Mapping[str, bool]
    instruction_set: str
    packages: Mapping[str, str]
    environment: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        sets = ", ".join(f"{name} ({'yes' if there else 'no'})" for name, there in self.instruction_sets.items())
        rows = {
            "edgecnn": self.edgecnn,
            "Python": self.python,
            "system": self.system,
            "machine": self.machine,
            "CPU": self.cpu,
            "cores": str(self.cores),
            "threads": f"{self.threads}{' (this system refused to start more threads)' if self.threads_refused else ''}",
            "OpenMP": "yes" if self.openmp else "not needed: edgecnn has threads of its own",
            "instruction sets": sets,
            "used": self.instruction_set,
            **self.packages,
            **self.environment,
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {printable(value)}" for name, value in rows.items())

    __repr__ = __str__


def info() -> Info:
    """The machine, the build and the versions: the block to paste in a bug report (`print(edgecnn.info())`)."""
    return Info(
        edgecnn=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=platform.platform(),
        machine=platform.machine(),
        cpu=cpu_name(),
        cores=threads.available(),
        threads=_threads(),
        openmp=False,
        threads_refused=bool(workers.refused),
        instruction_sets={entry.name: bool(entry.supported) for entry in cpu.INSTRUCTION_SETS},
        instruction_set=_instruction_set(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def _threads() -> int | str:
    try:
        return threads.choose(None)
    except Error as error:
        return str(error)


def _instruction_set() -> str:
    try:
        return str(cpu.choose().name)
    except Error as error:
        return str(error)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The CPU's name as the kernel or the board's device tree gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = next((fields[key] for key in ("model name", "Model", "Hardware") if fields.get(key)), "")
    if not name and sys.platform == "darwin":
        import subprocess

        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.processor() or "unknown"
