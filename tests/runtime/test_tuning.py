"""Tuning: every algorithm is measured, what was found is found again, and a cache of strangers does no harm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.cli import main
from edgecnn.errors import InputError
from edgecnn.format import write
from edgecnn.graph import Constant, Graph, Node, Port, Tensor
from edgecnn.runtime import tuning
from edgecnn.runtime.model import Model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "ROUNDS", 3)
    return tmp_path / "cache"


def network(size: int | None = 12, seed: int = 0) -> Graph:
    """Two 3 x 3 convolutions, of which the second has stride 2 and so no choice."""
    rng = np.random.default_rng(seed)
    half = None if size is None else size // 2
    shared = {"padding": "same", "pads": (0,) * 4, "dilations": (1, 1), "groups": 1}
    shared |= {"activation": "linear", "activation_parameters": ()}
    return Graph(
        "network",
        (Port("x", "x"),),
        (Port("b", "b"),),
        (
            Node("conv", "a", ("x", "wa", "", ""), ("a",), {**shared, "strides": (1, 1)}, ("a",)),
            Node("conv", "b", ("a", "wb", "", ""), ("b",), {**shared, "strides": (2, 2)}, ("b",)),
        ),
        {
            "x": Tensor("x", (None, size, size, 48)),
            "a": Tensor("a", (None, size, size, 24)),
            "b": Tensor("b", (None, half, half, 8)),
        },
        {
            "wa": Constant("wa", rng.normal(size=(3, 3, 48, 24)).astype(np.float32)),
            "wb": Constant("wb", rng.normal(size=(3, 3, 24, 8)).astype(np.float32)),
        },
    )


def forced(monkeypatch: pytest.MonkeyPatch, fastest: str) -> None:
    """Measuring finds one algorithm the fastest, whatever the machine does meanwhile."""

    def profile(self: Model, runs: int) -> edgecnn.Profile:
        steps = [{"node": name, "median_ms": 1.0 + (kind != fastest)} for name, kind in self._algorithms.items()]
        return edgecnn.Profile((*steps, {"node": "b", "median_ms": 1.0}), 2.0, runs, 1)

    monkeypatch.setattr(Model, "profile", profile)


def test_every_algorithm_is_timed_and_the_result_is_found_again(cache: Path) -> None:
    model = edgecnn.load(network(), threads=1)
    first = tuning.tuned(model)
    assert not first.cached
    assert [choice.node for choice in first.choices] == ["a"]
    (choice,) = first.choices
    assert choice.times_ms.keys() == {"direct", "winograd 2x2 of 3x3", "winograd 4x4 of 3x3"}
    assert all(value > 0 for value in choice.times_ms.values())
    assert choice.times_ms[choice.chosen] <= choice.times_ms[choice.estimated]
    again = tuning.tuned(edgecnn.load(network(seed=1), threads=1))  # other weights, the same work
    assert again.cached
    assert again.choices == first.choices
    assert Path(again.path).parent == cache


@pytest.mark.parametrize("fastest", ["direct", "winograd 2x2 of 3x3", "winograd 4x4 of 3x3"])
def test_the_fastest_is_used(fastest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        forced(patch, fastest)
        model = edgecnn.load(network(), threads=1, tune=True)
    first = model.summary().splitlines()[2]
    assert fastest in first if fastest != "direct" else "winograd" not in first
    x = np.random.default_rng(1).uniform(-1, 1, (2, 12, 12, 48)).astype(np.float32)
    expected = edgecnn.load(network(), threads=1)(x)
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_gain_within_the_noise_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "LEAST_GAIN", 0.6)
    forced(monkeypatch, "direct")
    assert tuning.tuned(edgecnn.load(network(), threads=1)).algorithms == {}


def test_threads_sizes_and_structure_have_results_of_their_own() -> None:
    paths = {
        tuning.tuned(edgecnn.load(graph, threads=threads)).path
        for graph, threads in ((network(), 1), (network(), 2), (network(14), 1))
    }
    assert len(paths) == 3


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"nodes": 3}', '{"nodes": {"a": {"times_ms": {"direct": 1}, "chosen": "magic"}}}', "[" * 10000],
)
def test_a_damaged_cache_is_measured_anew(content: str) -> None:
    model = edgecnn.load(network(), threads=1)
    path = Path(tuning.tuned(model).path)
    path.write_text(content, encoding="utf-8")
    assert not tuning.tuned(model).cached
    assert json.loads(path.read_text(encoding="utf-8"))["nodes"].keys() == {"a"}


def test_names_that_are_no_algorithm_are_passed_over() -> None:
    model = edgecnn.load(network(), threads=1)
    path = Path(tuning.tuned(model).path)
    path.write_text('{"nodes": {"a": {"times_ms": {"x": 2, "magic": 1}, "chosen": "magic"}}}', encoding="utf-8")
    x = np.ones((1, 12, 12, 48), np.float32)
    np.testing.assert_array_equal(edgecnn.load(network(), threads=1, tune=True)(x), model(x))


def test_where_nothing_can_be_kept_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "file" / "below"))
    assert not tuning.tuned(edgecnn.load(network(), threads=1)).cached


def test_open_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="input-shape"):
        edgecnn.load(network(None), tune=True)


def test_the_command_shows_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.ecnn"
    write(network(), path)
    assert main(["tune", str(path), "--threads", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert not record["cached"]
    assert record["nodes"].keys() == {"a"}
    assert main(["tune", str(path), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "found in" in shown
    assert "winograd 4x4 of 3x3" in shown
    assert main(["tune", str(path), "--threads", "1", "--again", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["cached"]
