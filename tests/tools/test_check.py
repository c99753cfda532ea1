"""Predictions: what follows from a machine's figures by arithmetic, what files and memory really are, and what commands say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import converters
from edgecnn.cli import main
from edgecnn.errors import InputError
from edgecnn.graph import Constant, Graph, Node, Port, Tensor
from edgecnn.runtime import cpu
from edgecnn.runtime.model import load
from edgecnn.tools import costs
from edgecnn.tools.check import check
from edgecnn.tools.costs import COEFFICIENTS, Rates, predict, rates_here, total
from edgecnn.tools.devices import DEVICES, rates_of
from edgecnn.tools.inspect import inspect
from edgecnn.tools.text import size_text
from small_models import LINEAR, convolution, dense_pair, mean_classifier, save

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.h5"

# 1e9 multiply-adds a second, 1e8 bytes a second from memory, 1e9 from farther caches, 1e10 from the near one.
PLAIN = Rates(1e9, 1e8, 1e9, 1e10, 1e-4, 1e-5, 1e-3, cpu.INSTRUCTION_SETS[-1])


def flattened(size: int = 8, channels: int = 16, units: int = 10, activation: str = "linear") -> Graph:
    """A convolution, a flattened image and a dense layer."""
    rng = np.random.default_rng(0)
    window = {"strides": (1, 1), "padding": "same", "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    linear = {"activation": activation, "activation_parameters": ()}
    constants = {
        "w": rng.standard_normal((3, 3, 8, channels), np.float32),
        "d": rng.standard_normal((size * size * channels, units), np.float32),
    }
    return Graph(
        "flattened",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (
            Node("conv", "conv", ("x", "w", "", ""), ("c",), {**window, **linear}, ("conv",)),
            Node("reshape", "flatten", ("c",), ("f",), {"shape": (size * size * channels,)}, ("flatten",)),
            Node("dense", "dense", ("f", "d", "", ""), ("y",), LINEAR, ("dense",)),
        ),
        {
            "x": Tensor("x", (None, size, size, 8)),
            "c": Tensor("c", (None, size, size, channels)),
            "f": Tensor("f", (None, size * size * channels)),
            "y": Tensor("y", (None, units)),
        },
        {name: Constant(name, values) for name, values in constants.items()},
    )


def test_a_vector_by_a_matrix_takes_the_time_of_its_weights() -> None:
    dense = next(step for step in predict(dense_pair(), PLAIN) if step.node == "double")
    weights, tensors = 4 * 9, 4 * (3 + 3)
    expected = COEFFICIENTS["weights"] * weights / 1e9 + COEFFICIENTS["near"] * tensors / 1e10 + PLAIN.serial_step
    assert dense.seconds == pytest.approx(expected)
    assert (dense.macs, dense.weight_bytes) == (9, weights)


def test_a_convolution_takes_the_time_of_its_algorithm_s_own_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Algorithm:
        name, cost, rows = "direct", 5e6, True

    monkeypatch.setattr(costs, "algorithms", lambda placed: [Algorithm])
    (step,) = predict(convolution(filters=8, size=16), PLAIN)
    tensors = 4 * 16 * 16 * (4 + 8)
    expected = COEFFICIENTS["direct"] * 5e6 / 1e9 + COEFFICIENTS["near"] * tensors / 1e10 + PLAIN.step
    assert step.seconds == pytest.approx(expected)
    assert step.kind == "direct"


def test_a_call_is_its_steps_and_something_more() -> None:
    steps = predict(flattened(), PLAIN)
    assert total(steps, PLAIN) == pytest.approx(1e-3 + sum(step.seconds for step in steps))
    assert [step.node for step in steps] == ["conv", "dense"]  # the reshape costs nothing


@pytest.mark.parametrize("factor", [2, 10])
def test_a_faster_machine_takes_less_in_proportion(factor: float) -> None:
    fast = Rates(*(getattr(PLAIN, name) * factor for name in ("macs", "memory", "far", "cache")),
                 *(getattr(PLAIN, name) / factor for name in ("step", "serial_step", "call")), PLAIN.instruction_set)  # fmt: skip
    slow_ms, fast_ms = (total(predict(flattened(), rates), rates) for rates in (PLAIN, fast))
    assert fast_ms == pytest.approx(slow_ms / factor)


def test_open_sizes_must_be_named() -> None:
    graph = mean_classifier(size=None)
    with pytest.raises(InputError, match="--input-shape"):
        predict(graph, PLAIN)
    assert len(predict(graph, PLAIN, {"image": (6, 6, 3)})) == 1


def test_the_file_s_size_and_the_work_are_exact(tmp_path: Path) -> None:
    graph = flattened()
    found = check(graph, "flattened", "pi4")
    assert found.file == save(graph, tmp_path).stat().st_size
    assert found.macs == graph.macs == 8 * 8 * 16 * 9 * 8 + 8 * 8 * 16 * 10
    assert found.parameters == 3 * 3 * 8 * 16 + 8 * 8 * 16 * 10


def test_memory_is_weights_arena_and_scratch() -> None:
    graph = flattened()
    model = load(graph, threads=1)
    found = check(graph, "flattened", threads=1)
    in_place = 4 * 8 * 8 * 16 * 10  # of the dense layer, read where they lie
    assert found.memory >= model.memory.weights + in_place + model.memory.arena
    assert found.memory <= model.memory.weights + in_place + model.memory.arena + 2**20


def test_whoever_tells_the_memory_tells_the_same(tmp_path: Path) -> None:
    graph = flattened()
    path = save(graph, tmp_path)
    model, found = load(path), inspect(path)
    memory = model.memory
    assert memory.in_place == 4 * 8 * 8 * 16 * 10
    assert check(graph, "flattened").memory == memory.total
    assert memory.total == memory.weights + memory.in_place + memory.arena + memory.scratch
    assert found.weight_memory == memory.weights + memory.in_place
    assert (found.arena_memory, found.scratch_memory) == (memory.arena, memory.scratch)
    assert f"{size_text(memory.total)} (weights {size_text(found.weight_memory)}, arena " in str(found)
    steps = model.profile(runs=1).steps
    assert sum(step["weight_bytes"] for step in steps) == memory.weights + memory.in_place


def test_average_pooling_in_place_of_flattening_spares_the_weights_of_all_pixels_but_one() -> None:
    (pooling,) = (t for t in check(flattened(), "x", "pi4").techniques if t.name == "average pooling")
    weights = 4 * 8 * 8 * 16 * 10
    assert pooling.bytes == weights - weights // 64
    assert [saving.layer for saving in pooling.layers] == ["dense"]
    assert pooling.milliseconds > 0


def test_relu_in_place_of_swish_spares_the_function() -> None:
    def activation(graph: Graph) -> float:
        return next(t.milliseconds for t in check(graph, "x", "pi4").techniques if t.name == "activation")

    rates = rates_of("pi4")
    expected = 1e3 * COEFFICIENTS["function"] * 8 * 8 * 16 / rates.macs
    assert activation(flattened(activation="swish")) == pytest.approx(expected)
    assert activation(flattened()) == 0


def test_only_normalisations_that_are_left_can_be_spared() -> None:
    graph = convolution(filters=8)
    normalised = replace(
        graph,
        outputs=(Port("y", "n"),),
        nodes=(
            *graph.nodes,
            Node(
                "local_response_normalization",
                "lrn",
                ("y",),
                ("n",),
                {"size": 5, "bias": 1.0, "alpha": 1e-4, "beta": 0.75},
                ("lrn",),
            ),
        ),
        tensors={**graph.tensors, "n": Tensor("n", (None, 16, 16, 8))},
    )
    found = {
        name: next(t for t in check(g, "x", "pi4").techniques if t.name == "batch normalisation")
        for name, g in (("with", normalised), ("without", graph))
    }
    assert [saving.layer for saving in found["with"].layers] == ["lrn"]
    assert (found["without"].milliseconds, found["without"].layers) == (0, ())


def test_a_large_window_gains_most_by_separating() -> None:
    rng = np.random.default_rng(0)
    graph = convolution(filters=64, size=28)
    second = rng.standard_normal((5, 5, 64, 64), np.float32)
    graph = replace(
        graph,
        outputs=(Port("z", "z"),),
        nodes=(
            *graph.nodes,
            Node("conv", "wide", ("y", "w2", "", ""), ("z",), {**graph.nodes[0].attributes}, ("wide",)),
        ),
        tensors={**graph.tensors, "z": Tensor("z", (None, 28, 28, 64))},
        constants={**graph.constants, "w2": Constant("w2", second)},
    )
    found = {t.name: t for t in check(graph, "x", "pi4").techniques}
    separated = found["depthwise-separable structure"]
    assert [saving.layer for saving in separated.layers] == ["wide"]  # the first convolution is left alone
    assert separated.bytes == 4 * (5 * 5 * 64 * 64 - (5 * 5 * 64 + 64 * 64))
    assert separated.milliseconds > found["weight pruning"].milliseconds > 0


def test_budgets_are_compared_with_what_was_found() -> None:
    found = check(flattened(), "x", "pi4")
    exact = {"max_ms": found.latency_ms, "max_mb": found.memory / 1e6, "max_kb": found.file / 1e3}
    assert check(flattened(), "x", "pi4", **exact).over == ()
    less: Any = {name: 0.9 * value for name, value in exact.items()}
    over = check(flattened(), "x", "pi4", **less).over
    assert [sentence.split()[0] for sentence in over] == ["predicted", "peak", "file"]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_s_peak_is_its_clock_times_its_width(name: str) -> None:
    device, rates = DEVICES[name], rates_of(name)
    assert rates.macs == pytest.approx(device.cores * device.clock * 1e9 * device.flops / 2 * device.reached)
    assert rates_of(name, 1).macs == pytest.approx(rates.macs / device.cores)
    assert 0 < rates.memory <= rates.cache


def test_faster_devices_are_faster() -> None:
    graph = converters.to_graph(DIGITS)
    times = [check(graph, "digits", name).latency_ms for name in ("pi-zero-2w", "pi3", "pi4", "pi5")]
    assert times == sorted(times, reverse=True)


def test_devices_and_threads_that_are_not_there_are_refused() -> None:
    for target, threads in (("pi6", None), ("pi4", 5), ("pi4", 0)):
        with pytest.raises(InputError):
            check(flattened(), "x", target, threads)


def test_rates_of_this_machine_are_those_of_a_real_one() -> None:
    rates = rates_here(1)
    assert 1e8 < rates.macs < 1e13
    assert 1e8 < rates.memory <= rates.cache * 4 < 1e14
    assert 0 < rates.serial_step <= rates.step < 1e-3
    assert 0 <= rates.call < 1e-2


def test_the_command_ends_with_6_over_a_budget_and_shows_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(save(flattened(), tmp_path))
    assert main(["check", path, "--target", "pi-zero-2w", "--max-kb", "1", "--max-ms", "1e6", "--json"]) == 6
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert len(record["over"]) == 1
    assert record["estimate"] is True
    assert "over budget: file" in captured.err
    assert main(["check", path, "--target", "pi-zero-2w", "--max-kb", "1000"]) == 0
    captured = capsys.readouterr()
    assert "Raspberry Pi Zero 2 W" in captured.out
    assert "weight pruning" in captured.out
    assert captured.err == ""


def test_the_command_takes_a_model_that_is_not_trained_and_measures_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digits.h5").write_bytes(DIGITS.read_bytes())
    assert main(["check", str(tmp_path / "digits.h5"), "--measure", "--threads", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["measured_ms"] > 0
    assert record["estimate"] is False
    assert record["file"] == len(__import__("edgecnn").format.encode(converters.to_graph(DIGITS)))


@pytest.mark.parametrize("wrong", [["--max-ms", "0"], ["--max-kb", "nan"], ["--target", "pi4", "--measure"]])
def test_wrong_usage_is_2(tmp_path: Path, wrong: list[str]) -> None:
    assert main(["check", str(save(flattened(), tmp_path)), *wrong]) == 2


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["alexnet", "googlenet", "se_resnet50", "se_resnet101", "se_resnet152", "senet154"])
def test_predictions_are_within_a_quarter_of_what_is_measured(name: str) -> None:
    """On a machine that does nothing else."""
    from edgecnn import zoo

    graph = converters.to_graph(getattr(zoo, name)())
    ratios = []
    for _ in range(3):
        found = check(graph, name, threads=1, measure=True)
        assert found.measured_ms is not None
        ratios.append(found.latency_ms / found.measured_ms)
    assert 0.75 <= sorted(ratios)[1] <= 1.25
