"""Measuring: the figures' relations, and what is said against them. No test trusts this machine's speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgecnn.errors import InputError, ModelFileError
from edgecnn.tools import bench as module
from edgecnn.tools.bench import bench, measure_peak
from edgecnn.tools.condition import Condition, condition, judge
from small_models import convolution, dense_pair, mean_classifier, save

FINE = Condition(0, 1.0, (), 0.0)


def test_each_number_of_threads_is_a_row(tmp_path: Path) -> None:
    result = bench(save(convolution(), tmp_path), threads=[1, 2], runs=20)
    assert [timing.threads for timing in result.timings] == [1, 2]
    for timing in result.timings:
        assert timing.runs == 20
        assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms
        assert timing.images_per_second == pytest.approx(1000 / timing.p50_ms)
        assert timing.gflops == pytest.approx(2e-6 * result.macs / timing.p50_ms)
        assert timing.share_of_peak == pytest.approx(timing.gflops / timing.peak_gflops)
        assert timing.load_ms > 0


def test_a_batch_counts_all_its_images(tmp_path: Path) -> None:
    result = bench(save(convolution(), tmp_path), threads=[1], batch=3, runs=10)
    (timing,) = result.timings
    assert timing.images_per_second == pytest.approx(3000 / timing.p50_ms)
    assert timing.gflops == pytest.approx(3 * 2e-6 * result.macs / timing.p50_ms)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_device_has_no_share_of_the_cpus_peak(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    told: list[str] = []
    result = bench(save(convolution(), tmp_path), runs=10, device="tensorflow", tell=told.append)
    (timing,) = result.timings
    assert (timing.peak_gflops, timing.share_of_peak, result.device) == (None, None, "tensorflow")
    assert timing.gflops == pytest.approx(2e-6 * result.macs / timing.p50_ms)
    assert told == ["timing on tensorflow"]
    assert "TensorFlow" in str(result).splitlines()[0]
    assert json.loads(json.dumps(result.to_json()))["timings"][0]["share_of_peak"] is None


def test_without_a_number_of_runs_the_time_decides(tmp_path: Path) -> None:
    path = save(convolution(), tmp_path)
    assert bench(path, threads=[1], seconds=1e-9).timings[0].runs == module.FEWEST_RUNS
    assert bench(path, threads=[1], seconds=0.05).timings[0].runs > module.FEWEST_RUNS


def test_a_model_with_several_inputs_is_measured(tmp_path: Path) -> None:
    assert bench(save(dense_pair(), tmp_path), threads=[1], runs=10).macs == 9


def test_a_model_of_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="where every size is known"):
        bench(save(mean_classifier(size=None), tmp_path))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"runs": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_numbers_must_be_above_zero(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="above zero"):
        bench(save(convolution(), tmp_path), **wrong)  # type: ignore[arg-type]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        bench(tmp_path / "nothing.ecnn")


def test_what_is_being_done_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    bench(save(convolution(), tmp_path), threads=[1, 2], runs=10, tell=told.append)
    assert told == ["timing 1 thread", "timing 2 threads"]


def test_more_threads_than_cores_are_remarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda: 1)
    result = bench(save(convolution(), tmp_path), threads=[2], runs=10)
    assert "2 threads share 1 cores" in result.warnings


def test_the_record_is_json_and_the_text_has_a_row_each(tmp_path: Path) -> None:
    result = bench(save(convolution(), tmp_path), threads=[1, 2], runs=10)
    assert json.loads(json.dumps(result.to_json()))["timings"][1]["threads"] == 2
    assert [line.split()[0] for line in str(result).splitlines()[2:4]] == ["1", "2"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process's peak memory this way")
def test_peak_memory_is_that_of_a_python_process(tmp_path: Path) -> None:
    peak = bench(save(convolution(), tmp_path), threads=[1], runs=10).peak_memory
    assert peak is not None
    assert 10e6 < peak < 100e9


def test_one_slow_call_in_five_is_a_noisy_machine() -> None:
    (warning,) = module._unsteady([1.0] * 16 + [3.0] * 4)
    assert warning.startswith("noisy machine")
    assert module._unsteady([1.0] * 20) == []


def test_a_machine_that_gets_slower_is_remarked() -> None:
    (warning,) = module._unsteady([1.0] * 20 + [1.2] * 20)
    assert warning.startswith("got 20 % slower")
    assert module._unsteady([1.2] * 20 + [1.0] * 20) == []


def test_the_peak_is_that_of_a_real_cpu() -> None:
    from edgecnn.runtime import cpu

    name = cpu.supported()[-1].name
    assert 0.1 < measure_peak(1, name, seconds=0.01) < 10_000


def test_a_machine_without_these_files_is_not_judged(tmp_path: Path) -> None:
    found = condition(tmp_path, tmp_path / "none")
    assert (found.throttle_count, found.clock, found.complaints) == (None, None, ())
    assert judge(found, found) == []


def test_clock_and_throttling_are_read_from_the_kernel(tmp_path: Path) -> None:
    for core, (now, count) in enumerate([(600_000, 2), (900_000, 3)]):
        for name, value in (
            ("cpufreq/scaling_cur_freq", now),
            ("cpufreq/cpuinfo_max_freq", 1_800_000),
            ("thermal_throttle/core_throttle_count", count),
        ):
            file = tmp_path / f"cpu{core}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
    found = condition(tmp_path, tmp_path / "none")
    assert (found.throttle_count, found.clock) == (5, 0.5)
    assert [text.split(":")[0] for text in judge(FINE, found)] == ["throttled", "throttled"]
    assert judge(found, Condition(5, 1.0, (), None)) == []


def test_a_raspberry_pi_s_firmware_is_believed(tmp_path: Path) -> None:
    (tmp_path / "get_throttled").write_text("50005\n")
    found = condition(tmp_path, tmp_path / "get_throttled")
    assert found.complaints == ("the supply's voltage is too low", "the CPU is throttled")
    assert judge(FINE, found) == [f"throttled: {complaint}" for complaint in found.complaints]


def test_governor_and_temperature_are_read_from_the_kernel(tmp_path: Path) -> None:
    for name, text in (
        ("cpu0/cpufreq/scaling_governor", "ondemand\n"),
        ("cpu1/cpufreq/scaling_governor", "ondemand\n"),
        ("thermal_zone0/type", "cpu-thermal\n"),
        ("thermal_zone0/temp", "61300\n"),
        ("thermal_zone1/type", "wifi\n"),
        ("thermal_zone1/temp", "70000\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = condition(tmp_path, tmp_path / "none", tmp_path)
    assert (found.governor, found.temperature) == ("ondemand", 61.3)
    assert str(found) == "governor ondemand, 61 °C"
    assert condition(tmp_path / "none", tmp_path / "none", tmp_path / "none").temperature is None


def test_throttling_that_came_and_went_is_told(tmp_path: Path) -> None:
    path = tmp_path / "get_throttled"
    path.write_text("0x10000\n")
    before = condition(tmp_path, path, tmp_path)
    path.write_text("throttled=0x50000\n")
    assert judge(before, condition(tmp_path, path, tmp_path)) == ["throttled meanwhile: the CPU is throttled"]
    assert judge(before, before) == []


def test_a_throttled_run_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Condition(0, 1.0, ("the CPU is throttled",), 0.0, governor="ondemand", temperature=84.0)
    monkeypatch.setattr("edgecnn.tools.bench.condition", lambda: hot)
    found = bench(save(convolution(), tmp_path), threads=[1], runs=3)
    assert found.throttled
    assert found.to_json()["throttled"]
    assert "THROTTLED" in str(found)
    assert "84 °C before, 84 °C after" in str(found)
