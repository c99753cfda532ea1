"""Memory that runs out anywhere in load and call: a clean error or the right answer, and nothing that stays allocated."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "fuzz" / "corpus" / "ecnn"

TRY_ALL = """
import ctypes, gc, os, sys
import numpy as np
import edgecnn

library = ctypes.CDLL(os.environ["LD_PRELOAD"])
library.fail_after.argtypes = [ctypes.c_long]
library.stop_failing.restype = library.held.restype = ctypes.c_long
path, threads, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

random = np.random.default_rng(0)
x = {}
for port in edgecnn.load(path).inputs:
    x[port.name] = random.standard_normal([size or 8 for size in (1, *port.shape[1:])], np.float32)

def answers():
    found = edgecnn.load(path, threads=threads).run(x)
    return {name: array.tobytes() for name, array in found.items()}

def attempt(count):
    try:
        library.fail_after(count)
        found = answers()
        library.stop_failing()
        return "answered" if found == expected else "WRONG ANSWER"
    except Exception as error:
        library.stop_failing()
        refusal = isinstance(error, MemoryError) or isinstance(error, edgecnn.ModelFileError) and "memory" in str(error)
        return "refused" if refusal else repr(error)

expected = answers()
for _ in range(3):  # what is made once
    attempt(10**9)
library.fail_after(10**9)
answers()
total = library.stop_failing()
tried = 0
for count in range(0, total, step):
    attempt(count)
    gc.collect()
    before = library.held()
    for _ in range(2):
        outcome = attempt(count)
        tried += 1
        if outcome not in ("answered", "refused"):
            print(f"allocation {count}: {outcome}")
    gc.collect()
    if library.held() > before + 1:
        print(f"allocation {count}: {library.held() - before} blocks stay")
if attempt(10**9) != "answered":
    print("the model does not work any more")
print("tried", tried)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None or compiler is None:
        pytest.skip("needs glibc and a C compiler")
    if "LD_PRELOAD" in os.environ or "EDGECNN_PYTHON" in os.environ:
        pytest.skip("sanitizers and emulators have allocations of their own")
    path = tmp_path_factory.mktemp("allocations") / "failing_allocations.so"
    options = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-Werror", "-Wall"]
    subprocess.run([compiler, *options, "-o", path, HERE / "failing_allocations.c", "-ldl"], check=True)
    return path


SEEDS = ["classifier", "many", "nested", "series", "onnx-image", "onnx-network", "onnx-shapes", "float16", "int8"]
CASES = [(seed, 2) for seed in (*SEEDS, "sparse_float32", "sparse_float16")]


@pytest.mark.parametrize(("seed", "threads"), [("classifier", 1), *CASES])
def test_each_allocation_may_fail(seed: str, threads: int, library: Path, tmp_path: Path) -> None:
    path, log = tmp_path / "model.ecnn", tmp_path / "log"
    path.write_bytes(gzip.decompress((CORPUS / f"seed-{seed}.gz").read_bytes()))
    step = int(
        os.environ.get("EDGECNN_ALLOCATIONS", "23")
    )  # 1: each; some now and others with the next change is enough
    with open(log, "w") as output:
        run = subprocess.run(
            [sys.executable, "-P", "-X", "faulthandler", "-c", TRY_ALL, path, str(threads), str(step)],
            env={**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text().splitlines()
    assert run.returncode == 0, "\n".join(lines[-40:])
    assert [line for line in lines if not line.startswith("tried")] == []
    assert int(lines[-1].split()[1]) >= 5
