"""Where the time goes: the figures' relations, by arithmetic; files that other programs read; and a page in a real browser."""

from __future__ import annotations

import json
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import edgecnn
from browser import DESKTOP, PHONE, Browser
from edgecnn.errors import InputError, MissingPackageError, ModelFileError
from edgecnn.graph import Constant, Graph, Node, Port, Tensor
from edgecnn.runtime.model import Model
from edgecnn.runtime.profiling import Profile
from edgecnn.tools.profile import as_picture, profile_file
from small_models import convolution, dense_pair, mean_classifier, save


def step(node: str, milliseconds: float, **figures: Any) -> dict[str, Any]:
    """A step of 1e6 MACs and 4e5 bytes on a machine of 100 GFLOP/s, 10 GB/s from memory and 100 GB/s from the cache."""
    gflops, bandwidth = 2 / milliseconds, 0.4 / milliseconds
    given = {
        "node": node,
        "operator": "conv",
        "kernel": "product 6x64 avx512",
        "instruction_set": "avx512",
        "shape": [8, 8, 16],
        "macs": 1_000_000,
        "bytes": 400_000,
        "weight_bytes": 100_000,
        "median_ms": milliseconds,
        "low_ms": 0.9 * milliseconds,
        "high_ms": 1.2 * milliseconds,
        "share": milliseconds / 1.0,
        "gflops": gflops,
        "share_of_peak": gflops / 100,
        "bandwidth": bandwidth,
        "share_of_bandwidth": bandwidth / 10,
        "efficiency": max(gflops / 100, bandwidth / 100),
    }
    return {**given, **figures}


@pytest.fixture
def profile() -> Profile:
    return Profile(
        (
            step("first", 0.25),
            step("second", 0.5),
            step("pool", 0.125, operator="max_pool", macs=0, gflops=0.0),
            step("ends", 0.125, operator="call", kernel="", instruction_set="", shape=[], macs=0, bytes=0),
        ),
        1.0,
        50,
        2,
        model="hand made",
        instruction_set="avx512",
        peak_gflops=100.0,
        bandwidth=10.0,
        cache_bandwidth=100.0,
        arena=8192,
        placements=(
            {"tensors": ["a"], "offset": 0, "size": 4096, "first": 0, "last": 1},
            {"tensors": ["b", "c"], "offset": 4096, "size": 4096, "first": 1, "last": 2},
        ),
        memory={"file": 5000, "weights": 400_000, "scratch": 64},
        recorded=((0.25, 0.5, 0.125, 0.125), (0.26, 0.5, 0.125, 0.125)),
    )


def block(rounds: int, size: int = 24, channels: int = 32) -> Graph:
    """A chain of 3 x 3 convolutions of stride 1."""
    attributes = dict(convolution().nodes[0].attributes)
    weights = np.random.default_rng(0).standard_normal((3, 3, channels, channels), np.float32)
    names = ["x", *(f"y{i}" for i in range(rounds))]
    return Graph(
        "chain",
        (Port("x", "x"),),
        (Port("y", names[-1]),),
        tuple(
            Node("conv", f"conv{i}", (names[i], "weights", "", ""), (names[i + 1],), attributes, (f"conv{i}",))
            for i in range(rounds)
        ),
        {name: Tensor(name, (None, size, size, channels)) for name in names},
        {"weights": Constant("weights", weights)},
    )


NETWORKS = pytest.mark.parametrize("network", [block(12), block(8, size=4, channels=8)], ids=["block", "microseconds"])


@pytest.mark.parametrize("threads", [1, 2])
@NETWORKS
def test_the_rows_of_a_run_sum_to_its_call(network: Graph, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.perf_counter())
        return looks[-1]

    model = Model(network, threads=threads)
    monkeypatch.setattr("edgecnn.runtime.model.time", SimpleNamespace(perf_counter=clock))
    found = model.profile(runs=5)
    started, between, ended = np.array(looks).reshape(-1, 3)[-5:].T  # seconds since long ago: differences first
    timed, untimed = 1e3 * (between - started), 1e3 * (ended - between)
    sums = np.array([sum(run) for run in found.recorded])
    # What a look at the clock takes is taken off each step, so that a row's sum is a little less: 1 us a look is generous.
    assert np.all(sums <= timed + 1e-9)
    assert np.all(sums >= timed - 1e-3 * (len(found.steps) - 1))
    assert found.total_ms == pytest.approx(np.median(untimed))


@pytest.mark.sweep
@pytest.mark.parametrize("threads", [1, 2])
@NETWORKS
def test_the_steps_sum_to_the_whole(network: Graph, threads: int) -> None:
    """Timed: it wants the machine alone."""
    model = Model(network, threads=threads)
    gaps = []
    for _ in range(12):
        found = model.profile(runs=200)
        gaps.append(abs(sum(step["median_ms"] for step in found.steps) - found.total_ms) / found.total_ms)
        if gaps[-1] < 0.05:
            break
    assert min(gaps) < 0.05


def test_work_and_bytes_are_those_of_the_layer() -> None:
    found, _ = Model(convolution(filters=8, size=16), threads=1).profile(runs=3).steps
    assert found["macs"] == 16 * 16 * 8 * 3 * 3 * 4
    assert found["shape"] == [16, 16, 8]
    # Packed weights hold at least what the layer has without its zeros: half of the filters are zero.
    assert found["weight_bytes"] >= 4 * (3 * 3 * 4 * 4)
    assert found["bytes"] - found["weight_bytes"] == 4 * (16 * 16 * 4 + 16 * 16 * 8)
    assert found["gflops"] == pytest.approx(2e-6 * found["macs"] / found["median_ms"])
    assert found["bandwidth"] == pytest.approx(1e-6 * found["bytes"] / found["median_ms"])


def test_shares_are_of_what_was_measured_here() -> None:
    found = Model(block(3), threads=1).profile(runs=5)
    assert 0.1 < found.bandwidth < 10_000
    assert 0.1 < found.cache_bandwidth < 100_000
    for one in found.steps[:-1]:
        assert one["share"] == pytest.approx(one["median_ms"] / found.total_ms)
        assert one["share_of_peak"] == pytest.approx(one["gflops"] / found.peak_gflops)
        assert one["share_of_bandwidth"] == pytest.approx(one["bandwidth"] / found.bandwidth)
        assert one["efficiency"] == pytest.approx(
            min(1, max(one["share_of_peak"], one["bandwidth"] / found.cache_bandwidth))
        )
        assert 0 < one["low_ms"] <= one["median_ms"] <= one["high_ms"]
        assert one["instruction_set"] == found.instruction_set


def test_a_dense_layer_reads_its_weights_in_place() -> None:
    steps = {one["node"]: one for one in Model(dense_pair(), threads=1).profile(runs=3).steps}
    assert (steps["double"]["weight_bytes"], steps["double"]["bytes"]) == (4 * 9, 4 * (9 + 3 + 3))
    assert (steps["sum"]["weight_bytes"], steps["sum"]["bytes"]) == (0, 4 * 9)


def test_the_arena_s_tensors_live_from_their_writer_to_their_last_reader() -> None:
    found = Model(block(4), threads=1).profile(runs=2)
    lives = {place["tensors"][0]: (place["first"], place["last"]) for place in found.placements}
    assert lives == {"y0": (0, 1), "y1": (1, 2), "y2": (2, 3)}
    size = 4 * 24 * 24 * 32
    assert {place["size"] for place in found.placements} == {size}
    assert found.arena == 2 * size  # two of them live at any time
    for one in found.placements:
        for other in found.placements:
            if one is not other and one["first"] <= other["last"] and other["first"] <= one["last"]:
                assert (
                    one["offset"] + one["size"] <= other["offset"] or other["offset"] + other["size"] <= one["offset"]
                )


def test_slices_of_a_concatenation_are_not_moved_again() -> None:
    graph = Graph(
        "joined",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (
            Node(
                "activation",
                "a",
                ("x",),
                ("a",),
                {"activation": "relu", "activation_parameters": (0.0, float("inf"), 0.0)},
            ),
            Node("activation", "b", ("x",), ("b",), {"activation": "tanh", "activation_parameters": ()}),
            Node("concatenate", "join", ("a", "b", "x"), ("y",), {"axis": 3}),
        ),
        {
            **{name: Tensor(name, (None, 4, 4, 8)) for name in ("x", "a", "b")},
            "y": Tensor("y", (None, 4, 4, 24)),
        },
    )
    graph.check()
    steps = {one["node"]: one for one in Model(graph, threads=1).profile(runs=2).steps}
    assert steps["join"]["bytes"] == 2 * 4 * (4 * 4 * 8)  # only x is copied


@pytest.mark.parametrize("runs", [0, -1, 1.5, True, "3"])
def test_runs_must_be_a_number_above_zero(runs: Any) -> None:
    with pytest.raises(InputError, match="runs"):
        Model(convolution(), threads=1).profile(runs=runs)


def test_profiling_leaves_the_answers_as_they_are() -> None:
    model = Model(block(3), threads=2)
    x = np.random.default_rng(1).standard_normal((1, 24, 24, 32), np.float32)
    before = model(x)
    model.profile(x, runs=2)
    np.testing.assert_array_equal(model(x), before)


def test_the_table_has_a_line_a_step_and_the_whole(profile: Profile) -> None:
    lines = profile.table().splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["first", "second", "pool"]
    assert lines[1].split()[:6] == ["0.2500", "25.0", "8.0", "8", "%", "1.6"]
    assert lines[4].split()[-2:] == ["call", "ends"]
    assert lines[5].split()[0] == "1.0000"
    assert "2 threads, medians of 50 runs; peak 100 GFLOP/s, memory 10.0 GB/s" in lines[6]


def test_json_holds_all_of_it(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "p.json")
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["steps"] == list(profile.steps)
    assert record["steps_ms"] == pytest.approx(1.0)
    assert Profile(**{k: v for k, v in record.items() if k != "steps_ms"}).total_ms == profile.total_ms


def test_the_trace_lays_the_steps_end_to_end(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "p.trace.json")
    events = json.loads((tmp_path / "p.trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"]) for e in spans[:6]] == [
        ("run 1", 0.0, 1000.0),
        ("first", 0.0, 250.0),
        ("second", 250.0, 500.0),
        ("pool", 750.0, 125.0),
        ("ends", 875.0, 125.0),
        ("run 2", 1000.0, 1010.0),
    ]
    assert [e["args"]["bytes"] for e in events if e["ph"] == "C"][:3] == [4096, 8192, 4096]
    assert {e["pid"] for e in events} == {1}


def test_the_picture_is_a_png(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1430, 832)


def test_a_picture_without_matplotlib_names_the_line_that_installs_it(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r'pip install "edgecnn\[plot\]"'):
        as_picture(profile)


def test_names_with_dollars_are_no_formula(profile: Profile) -> None:
    odd = replace(profile, model="a$\\frac$", steps=(step("$\\no$such", 0.5),))
    assert as_picture(odd)[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["p.txt", "p", ".json", "json"])
def test_another_suffix_is_refused(profile: Profile, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"saved as \.json, \.html, \.png, \.trace\.json"):
        profile.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(edgecnn.DataFileError, match="cannot be written"):
        profile.save(tmp_path / "no" / "p.json")


def test_a_model_of_unknown_size_wants_an_image(tmp_path: Path) -> None:
    path = save(mean_classifier(size=None), tmp_path)
    with pytest.raises(InputError, match="--data"):
        profile_file(path)
    np.save(tmp_path / "x.npy", np.ones((1, 5, 6, 3), np.float32))
    assert profile_file(path, tmp_path / "x.npy", runs=2).steps[0]["bytes"] == 4 * (5 * 6 * 3 + 3)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        profile_file(tmp_path / "nothing.ecnn")


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
def test_the_page_works_in_a_browser(profile: Profile, tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    many = tuple(step(f"step {index}", 0.0001 * (index + 1)) for index in range(20))
    profile = replace(profile, steps=many, model="<img src=x onerror=alert(1)>")
    profile.save(tmp_path / "p.html")
    with Browser() as browser:
        page = browser.open(tmp_path / "p.html", size, dark)
        assert (page.requests, page.complaints) == ([], [])
        assert page.evaluate("document.querySelector('h1').textContent") == "<img src=x onerror=alert(1)>"
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]  # nothing hangs over the edge
        assert page.evaluate("document.querySelectorAll('tbody tr').length") == 20
        assert page.evaluate("document.querySelectorAll('svg circle').length") == 20
        assert page.evaluate("document.querySelectorAll('svg rect').length") == 2
        assert page.evaluate("document.querySelectorAll('.bar > div').length") == 20
        widths = page.evaluate(
            "[...document.querySelectorAll('.bar > div')].map(one => one.getBoundingClientRect().width)"
        )
        room = page.evaluate("document.querySelector('.bar').clientWidth")
        assert sum(widths) > 0.95 * (room - 2 * len(widths))
        assert widths[19] > 10 * widths[0]
        first = "document.querySelector('tbody tr').children[1].textContent"
        assert page.evaluate(first) == "step 19"  # the longest
        page.evaluate("[...document.querySelectorAll('th button')].find(b => b.textContent === 'time').click()")
        assert page.evaluate(first) == "step 0"
        page.evaluate("document.querySelector('input').value = 'step 7'")
        page.evaluate("document.querySelector('input').dispatchEvent(new Event('input'))")
        assert page.evaluate("[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).length") == 1
        assert (page.requests, page.complaints) == ([], [])
        page.screenshot(tmp_path / "p.png")
        assert (tmp_path / "p.png").stat().st_size > 20_000
