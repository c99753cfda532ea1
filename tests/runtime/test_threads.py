"""The number of threads follows affinity mask, cgroup quota and environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecnn.errors import InputError
from edgecnn.runtime import threads


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
