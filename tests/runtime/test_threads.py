"""The number of threads follows affinity mask, cgroup quota and environment."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import InputError
from edgecnn.runtime import threads, workers
from small_models import convolution


def test_no_more_threads_than_the_affinity_mask_allows() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity masks")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.available() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("fields", "cores"),
    [
        (["max", "100000"], []),
        (["-1", "100000"], []),
        (["50000", "100000"], [1]),
        (["150000", "100000"], [2]),
        (["400000", "100000"], [4]),
        (["", ""], []),
        ([], []),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cores(fields: list[str], cores: list[int]) -> None:
    assert threads._cores(fields) == cores


def test_the_environment_decides_where_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_THREADS", "3")
    assert threads.choose(None) == 3
    assert threads.choose(2) == 2
    for wrong in ("0", "none", "-2", "1.5", "1000"):
        monkeypatch.setenv("EDGECNN_THREADS", wrong)
        with pytest.raises(InputError, match="EDGECNN_THREADS"):
            threads.choose(None)


def test_missing_cgroup_files_mean_no_quota(tmp_path: Path) -> None:
    assert threads._read(tmp_path / "nothing") == ""


def test_a_system_that_starts_no_more_threads_costs_speed_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((5, 16, 16, 4), np.float32)
    expected = edgecnn.load(convolution(), threads=1)(x)
    monkeypatch.setattr(workers, "refused", False)
    monkeypatch.setattr(workers, "most", workers.started())
    with pytest.warns(RuntimeWarning, match="starts no more threads: computing with"):
        np.testing.assert_array_equal(edgecnn.load(convolution(), threads=200)(x), expected)
    assert edgecnn.info().threads_refused
    assert "refused to start more threads" in str(edgecnn.info())
    np.testing.assert_array_equal(edgecnn.load(convolution(), threads=200)(x), expected)  # told once


WITHOUT_ROOM = """
import resource, warnings
import numpy as np
import edgecnn
from small_models import convolution
x = np.zeros((4, 16, 16, 4), np.float32)
model = edgecnn.load(convolution(), threads=64)
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (20 << 20), resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    model(x)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(len(told), edgecnn.info().threads_refused)
"""


def test_threads_that_find_no_memory_are_done_without() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells how much memory a process has mapped")
    if "EDGECNN_PYTHON" in os.environ:
        pytest.skip("an emulator does not hold its programs to such a limit")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROOM],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd="/",
        check=False,
    )
    assert run.stdout.split() == ["1", "True"], run.stderr


def test_a_forked_child_starts_threads_of_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    x = np.random.default_rng(0).standard_normal((5, 16, 16, 4), np.float32)
    model = edgecnn.load(convolution(), threads=2)
    expected = model(x)
    assert workers.started() > 0
    # From Python 3.12 on fork warns where other threads run, in the child, which has none of them any more, as in the parent.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            code = 2
            try:  # whatever goes wrong must not get as far as pytest, which goes on in the parent
                before = workers.started()
                same = np.array_equal(model(x), expected)
                code = 0 if before == 0 and same and workers.started() == 1 else 1
            finally:
                os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
