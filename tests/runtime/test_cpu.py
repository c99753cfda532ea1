"""Instruction sets are chosen by what the CPU has, forced by name, and never quietly replaced."""

from __future__ import annotations

import os
import platform
from pathlib import Path

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


def test_the_expected_set_is_used() -> None:
    """EXPECT_ISA names the set that a run on a known CPU must choose: a wrong guess would test other kernels."""
    expected = os.environ.get("EXPECT_ISA")
    if not expected:
        pytest.skip("EXPECT_ISA is not set: this CPU is not known")
    assert cpu.supported()[0].name == expected


@pytest.mark.parametrize(
    ("features", "neon"),
    [
        ("fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", True),  # Cortex-A72, 64 bits
        ("half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm", True),  # A7
        ("half thumb fastmult vfp edsp neon vfpv3 tls vfpd32", False),  # A9: its multiply-adds round twice
        ("half thumb fastmult vfp edsp java tls", False),  # ARM1176
    ],
)
def test_the_list_of_features_is_a_second_source(features: str, neon: bool, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd08\n")
    assert [entry.supported for entry in cpu._list(cpu._features(path)) if entry.name == "neon"] in ([], [neon])
    assert (cpu._features(path) == cpu._features_needed) == neon


def test_what_one_of_the_cores_lacks_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("Features : neon vfpv4\n\nFeatures : neon\n")
    assert cpu._features(path) != cpu._features_needed
    assert cpu._features(tmp_path / "nothing") == 0


def test_arm_has_its_own_kernels() -> None:
    if platform.machine() not in ("aarch64", "arm64", "armv7l"):
        pytest.skip("this is no ARM CPU")
    assert [entry.name for entry in cpu.INSTRUCTION_SETS] == ["neon", "portable"]
