"""The yardstick itself: what it does with answers, times and gaps. Nothing is timed here, and no peer is needed."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(name="peers")
def _peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/peers.py, imported as it is when run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("peers")
    for name in [name for name, module in sys.modules.items() if _lies_in_folder(module)]:
        del sys.modules[name]


def _lies_in_folder(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).parent == FOLDER


def result(peers: Any, **times: float | None) -> Any:
    """A network of 1e6 multiply-accumulates with one time an engine; None for one that was not timed."""
    figures = {
        name: peers.Figures(times=[] if ms is None else [ms], lacks="" if ms else "no file")
        for name, ms in times.items()
    }
    return peers.Result("Net", 1, 1_000_000, 100.0, figures)


def test_every_network_that_is_asked_for_is_there(peers: Any) -> None:
    assert len(peers.NETWORKS) == 15
    assert {"SmallCNN", "GoogLeNet", "SE-ResNet50", "AlexNet", "EfficientNetB0", "VGG16"} <= set(peers.NETWORKS)


def test_the_ratio_is_that_of_the_fastest_peer(peers: Any) -> None:
    compared = result(peers, edgecnn=2.0, LiteRT=5.0, OpenVINO=3.0)
    assert (compared.best_peer, compared.ratio) == ("OpenVINO", 1.5)


def test_an_engine_that_was_not_timed_is_no_best_peer_and_its_cell_tells_why(peers: Any) -> None:
    compared = result(peers, edgecnn=2.0, LiteRT=5.0, OpenVINO=None)
    assert compared.best_peer == "LiteRT"
    table = peers.speed_table([compared], ["edgecnn", "LiteRT", "OpenVINO"])
    assert "- (1)" in table
    assert "(1) OpenVINO: no file" in table


def test_without_peers_there_is_no_ratio(peers: Any) -> None:
    assert result(peers, edgecnn=2.0).ratio is None
    assert "geometric mean" not in peers.speed_table([result(peers, edgecnn=2.0)], ["edgecnn"])


def test_the_share_of_the_peak_counts_two_operations_for_a_multiply_accumulate(peers: Any) -> None:
    # 2e6 operations in 1 ms are 2 GFLOP/s, of 100.
    assert math.isclose(result(peers, edgecnn=1.0).share_of_peak, 0.02)


def test_each_round_begins_with_another_engine(peers: Any) -> None:
    order: list[str] = []
    samplers = {name: (lambda name=name: order.append(name) or 0.0) for name in "abc"}
    samples = peers.rounds(samplers, 6, 0, math.inf)
    assert "".join(order) == "abcbcacababcbcacab"
    assert {name: len(times) for name, times in samples.items()} == {"a": 6, "b": 6, "c": 6}


def test_rounds_end_when_time_is_up_but_not_before_the_fewest(peers: Any) -> None:
    assert len(peers.rounds({"a": lambda: 0.0}, 1000, 0, 0)["a"]) == peers.FEWEST_ROUNDS


def test_a_wrong_shape_and_nan_are_infinitely_wrong(peers: Any) -> None:
    expected = np.array([[1.0, 4.0]], np.float32)
    assert peers.difference(expected + 0.5, expected) == 0.125
    assert peers.difference(expected[0], expected) == math.inf
    assert peers.difference(expected * np.nan, expected) == math.inf


@pytest.fixture(name="gpu")
def _gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/gpu.py, imported as it is when run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    del sys.modules["gpu"]


@pytest.mark.filterwarnings("ignore")
def test_without_a_gpu_nothing_is_measured_and_that_is_said(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.main(["--device", "gpu:999"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: nothing here computes on device='gpu:999', and nothing was measured.")


def test_a_wrong_answer_is_marked(gpu: Any) -> None:
    right = gpu.Row("Net", "float16", 8, 300.0, 200.0, (1.9e-3, 0.0))
    assert right.right
    assert "1.50x" in str(right)
    wrong = gpu.Row("Net", "float32", 8, 300.0, 200.0, (1.9e-3, 0.0))
    assert not wrong.right
    assert "WRONG" in str(wrong)


def test_rounds_alternate_and_medians_are_given(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"a": iter([1.0, 5.0, 1.0, 3.0]), "b": iter([1.0, 2.0, 2.0, 9.0])}
    order: list[str] = []

    def sample(run: Any, x: Any, calls: int) -> float:
        order.append(run(x))
        return next(seconds[order[-1]])

    monkeypatch.setattr(gpu, "sample", sample)
    assert gpu.compare(lambda x: "a", lambda x: "b", None, rounds=3) == (3.0, 2.0)
    assert order == ["a", "b", "a", "b", "a", "b", "a", "b"]
