"""Instruction sets are chosen by what the CPU has, forced by name, and never quietly replaced."""

from __future__ import annotations

import pytest

from edgecnn.errors import DeviceError
from edgecnn.runtime import cpu


def test_the_best_supported_set_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGECNN_ISA", raising=False)
    assert cpu.choose() is cpu.supported()[0]
    assert cpu.supported()[-1].name == "portable"


def test_the_environment_forces_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_ISA", " Portable ")
    assert cpu.choose().name == "portable"


def test_an_unknown_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_ISA", "sse9")
    with pytest.raises(DeviceError, match=r"EDGECNN_ISA=sse9.*portable"):
        cpu.choose()


def test_a_set_that_the_cpu_lacks_is_refused() -> None:
    missing = [entry for entry in cpu.INSTRUCTION_SETS if not entry.supported]
    if not missing:
        pytest.skip("this CPU has every instruction set of the build")
    with pytest.raises(DeviceError, match=missing[0].name):
        cpu.choose(missing[0].name)


def test_wider_vectors_have_a_higher_peak() -> None:
    peaks = [cpu.measure_peak(0.02, entry) for entry in cpu.supported()]
    assert min(peaks) > 0
