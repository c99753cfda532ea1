"""Every operator on every instruction set of this CPU, on 1, 2 and 7 threads, against the reference."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from edgecnn.graph import OPERATORS, Constant, Graph, reference
from edgecnn.runtime import cpu
from edgecnn.runtime.kernels import FAMILIES
from edgecnn.runtime.kernels.algorithms import LARGE_TILE, LARGE_TILE_CHANNELS, algorithms, prepare_conv
from edgecnn.runtime.kernels.dense import masks_fit
from edgecnn.runtime.kernels.packing import WinogradForm
from edgecnn.runtime.kernels.winograd import forms
from edgecnn.runtime.model import Model
from edgecnn.runtime.planner import Placed
from examples import examples
from graph_strategies import GraphBuilder
from operator_strategies import Case, cases

ISAS = [entry.name for entry in cpu.supported()]
WIDE_ISAS = [entry.name for entry in cpu.supported() if entry.lanes >= 8]
CANARY = np.float32(12345.678)


def test_every_operator_has_a_kernel_family() -> None:
    assert FAMILIES.keys() == OPERATORS.keys()


def framed(shape: tuple[int, ...], margin: int) -> tuple[np.ndarray, np.ndarray]:
    """An array of a shape inside a longer one full of canaries."""
    whole = np.full(int(np.prod(shape)) + 2 * margin, CANARY, np.float32)
    return whole, whole[margin : whole.size - margin].reshape(shape)


def compute(case: Case, isa: str, threads: int, algorithm: str) -> dict[str, np.ndarray]:
    """The model's outputs, having checked that nothing beside them is written."""
    model = Model(case.graph, threads=threads, isa=isa, algorithms={case.node.name: algorithm})
    images = len(next(iter(case.inputs.values())))
    frames = {spec.name: framed((images, *(s for s in spec.shape[1:] if s is not None)), 37) for spec in model.outputs}
    before = {name: array.copy() for name, array in case.inputs.items()}
    given = model.run(case.inputs, out={name: inner for name, (_, inner) in frames.items()})
    for whole, _ in frames.values():
        assert (whole[:37] == CANARY).all()
        assert (whole[-37:] == CANARY).all()
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, before[name])
    return given


def algorithms_of(case: Case) -> list[str]:
    """Names of all algorithms that can compute the node under test."""
    if case.node.operator not in ("conv", "dense"):
        return ["direct"]
    found: list[str] = []

    def note(placed: Placed) -> None:
        if placed.node.name == case.node.name:
            found.extend(algorithm.name for algorithm in algorithms(placed))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, case.node.operator, lambda placed: note(placed) or prepare_conv(placed))
        Model(case.graph)
    return found


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_operator_agrees_with_its_meaning(operator: str, data: st.DataObject) -> None:
    check(data.draw(cases(operator, high=True)))


def check(case: Case) -> None:
    """Every instruction set and every algorithm, on several numbers of threads."""
    values = reference.run_all(case.graph, case.inputs)
    expected = values["result"]
    for isa, algorithm in itertools.product(ISAS, algorithms_of(case)):
        allowed = tolerances.bound(case.graph, case.node, values, algorithm)
        got = compute(case, isa, 1, algorithm)
        error = np.abs(got["result"] - expected)
        worst = np.unravel_index(np.argmax(error - allowed), error.shape)
        assert (error <= allowed).all(), (
            f"{isa} {algorithm}: {got['result'][worst]} at {worst}; wanted {expected[worst]} +- {allowed[worst]}"
        )
        for threads in (2, 7):
            again = compute(case, isa, threads, algorithm)
            for name, array in got.items():
                assert array.tobytes() == again[name].tobytes(), (
                    f"{isa} {algorithm}: other bits with {threads} threads in {name}"
                )


@pytest.mark.parametrize("form", forms(cpu.choose()), ids=str)
@given(data=st.data())
@settings(max_examples=examples(15), deadline=None)
def test_winograd_agrees_with_a_convolution(form: WinogradForm, data: st.DataObject) -> None:
    case = data.draw(cases("conv", form.taps))
    large = form.outputs >= LARGE_TILE and case.graph.shape(case.node.inputs[1])[-2] < LARGE_TILE_CHANNELS
    assert (f"winograd {form}" in algorithms_of(case)) != large
    check(case)


@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_strassen_agrees_with_a_convolution(data: st.DataObject) -> None:
    case = data.draw(cases("conv", (1, 1)))
    weights = case.graph.shape(case.node.inputs[1])
    possible = weights[-1] % 2 == weights[-2] % 2 == 0 and case.node.attributes["groups"] == 1
    if np.prod(case.graph.shape(case.node.output)[1:3]) > 1:  # one pixel is a vector's product
        assert ("strassen" in algorithms_of(case)) == possible
    check(case)


@pytest.mark.parametrize(
    ("size", "channels", "filters"), [((19, 19), 256, 264), ((3, 5), 34, 38), ((16, 16), 256, 256)]
)
@pytest.mark.parametrize("activation", ["relu", "swish"])
@pytest.mark.parametrize("isa", ISAS)
def test_strassen_reads_a_residual_that_it_writes_over(
    isa: str, activation: str, size: tuple[int, int], channels: int, filters: int
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((1, 1, channels, filters), np.float32)
    bias = rng.standard_normal(filters, np.float32)
    builder = GraphBuilder()
    x, more = builder.input("x", *size, channels), builder.input("more", *size, filters)
    residual = builder.add("activation", more, activation="relu", name="residual")
    y = builder.add("conv", x, weights, bias, residual, activation=activation, name="y")
    graph = builder.graph(builder.add("activation", y, activation="relu", name="z"))
    images = {"x": rng.standard_normal((2, *size, channels), np.float32)}
    images["more"] = rng.standard_normal((2, *size, filters), np.float32)
    total = images["x"].astype(np.float64) @ weights[0, 0] + bias + np.maximum(images["more"], 0)
    exact = np.maximum(total, 0) if activation == "relu" else np.maximum(total / (1 + np.exp(-total)), 0)
    answers = []
    for threads in (1, 2, 7):
        model = Model(graph, threads=threads, isa=isa, algorithms={"y": "strassen"})
        (plan,) = model._plans.values()
        views = plan.layout.views
        assert views["residual"] == views["y"]
        assert any(step.name == "y" and step.kernel.startswith("strassen") for step in plan.steps)
        answers += model(images)
    np.testing.assert_allclose(answers[0], exact, rtol=0, atol=2e-4)
    assert all((answer == answers[0]).all() for answer in answers)


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 2, 0), (0, 3, 0, 1), (0, 0, 0, 0)])
@pytest.mark.parametrize("isa", ISAS)
def test_pads_around_single_pixels(isa: str, pads: tuple[int, int, int, int]) -> None:
    """Large enough for Strassen's algorithm, whose pixels are those of the input."""
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((1, 1, 256, 256), np.float32), rng.standard_normal(256, np.float32)
    builder = GraphBuilder()
    given = builder.input("x", 14, 15, 256)
    y = builder.add("conv", given, weights, bias, padding="explicit", pads=pads, name="y")
    # A layer behind it: classes are not computed by Strassen's algorithm.
    behind = rng.standard_normal((1, 1, 256, 8), np.float32) / np.float32(16)
    model = Model(builder.graph(builder.add("conv", y, behind, name="z")), isa=isa)
    assert ("strassen" in model.possible_algorithms().get("y", ())) == (not any(pads))
    x = rng.standard_normal((2, 14, 15, 256), np.float32)
    around = [(0, 0), pads[:2], pads[2:], (0, 0)]
    exact = (np.pad(x, around).astype(np.float64) @ weights[0, 0] + bias) @ behind[0, 0]
    np.testing.assert_allclose(model(x)[0], exact, rtol=0, atol=5e-4)


def zeroed(case: Case, block: int, share: float, seed: int) -> Case:
    """A case some of whose weights are zero: blocks of neighbouring filters, or single ones."""
    name = case.node.inputs[1]
    weights = case.graph.constants[name].array
    *rest, filters = weights.shape
    gone = np.random.default_rng(seed).random((*rest, -(-filters // block))) < share
    kept = np.where(np.repeat(gone, block, axis=-1)[..., :filters], np.float32(0), weights)
    constants = {**case.graph.constants, name: Constant(name, kept)}
    return replace(case, graph=replace(case.graph, constants=constants))


@given(
    data=st.data(),
    kernel=st.sampled_from([None, (1, 1), (3, 3)]),
    block=st.sampled_from([1, 1, 4, 8, 16, 32]),
    share=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=examples(80), deadline=None)
def test_convolutions_without_their_zeros_agree(
    data: st.DataObject, kernel: tuple[int, ...] | None, block: int, share: float, seed: int
) -> None:
    case = zeroed(data.draw(cases("conv", kernel) if kernel else cases("conv")), block, share, seed)
    if share == 1.0:
        assert sparse_ways(case) <= set(algorithms_of(case))
    check(case)


def sparse_ways(case: Case) -> set[str]:
    """What a node all of whose weights are zero can be computed by."""
    weights, groups = case.graph.constants[case.node.inputs[1]].array, case.node.attributes.get("groups", 1)
    one = np.prod(case.graph.shape(case.node.output)[1:-1]) == weights[..., 0, 0].size == 1
    # Not every set has masks for the product with one vector.
    single = groups == 1 and (masks_fit(cpu.choose()) or not one)
    return {"blocks 1", "blocks 2"} | ({"single weights"} if single else set())


@given(
    data=st.data(),
    block=st.sampled_from([1, 1, 4, 8, 16, 32]),
    share=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_dense_layers_without_their_zeros_agree(data: st.DataObject, block: int, share: float, seed: int) -> None:
    case = zeroed(data.draw(cases("dense")), block, share, seed)
    if share == 1.0:
        assert sparse_ways(case) <= set(algorithms_of(case))
    check(case)


@pytest.mark.parametrize(("block", "kernel"), [(1, "vector by masked matrix"), (16, "blocks")])
@pytest.mark.parametrize("isa", ISAS)
def test_a_large_matrix_is_read_without_its_zeros(isa: str, block: int, kernel: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2200, 2003), np.float32)
    weights[np.repeat(rng.random((2200, -(-2003 // block))) < 0.9, block, axis=1)[:, :2003]] = 0
    builder = GraphBuilder()
    graph = builder.graph(builder.add("dense", builder.input("x", 2200), weights))
    x = rng.standard_normal((3, 2200), np.float32)
    wanted = x.astype(np.float64) @ weights
    for threads in (1, 2):
        model = Model(graph, threads=threads, isa=isa)
        np.testing.assert_allclose(model(x)[0], wanted, rtol=0, atol=1e-4)
        (step,) = next(iter(model._plans.values())).steps
        # Of vectors of four filters many are zero by chance.
        assert step.kernel.startswith("blocks" if cpu.choose(isa).lanes == 4 else kernel)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_of_every_number_of_vectors_are_added_up(isa: str) -> None:
    """Short rows are summed in registers, as many as there are vectors; threads read parts of rows."""
    rng = np.random.default_rng(0)
    lanes = cpu.choose(isa).lanes
    x = rng.standard_normal((1, 300), np.float32)
    for columns in (*range(lanes, 18 * lanes, lanes), 2 * lanes + 1, 16 * lanes + 3, 192, 1000):
        weights, bias = rng.standard_normal((300, columns), np.float32), rng.standard_normal(columns, np.float32)
        builder = GraphBuilder()
        graph = builder.graph(builder.add("dense", builder.input("x", 300), weights, bias, activation="relu"))
        wanted = np.maximum(x.astype(np.float64) @ weights + bias, 0)
        answers = [Model(graph, threads=threads, isa=isa)(x)[0] for threads in (1, 2, 3)]
        np.testing.assert_allclose(answers[0], wanted, rtol=0, atol=1e-4)
        assert all((answer == answers[0]).all() for answer in answers)


@pytest.mark.parametrize(("depth", "columns"), [(1500, 10), (2048, 128), (2049, 100), (4000, 512), (2000, 513)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("isa", ISAS)
def test_threads_that_share_out_a_sum_leave_no_trace(isa: str, residual: bool, depth: int, columns: int) -> None:
    """Of short rows each thread sums some slices; the images of a batch, too, that no thread has for itself."""
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((1, 1, depth, columns), np.float32), rng.standard_normal(columns, np.float32)
    builder = GraphBuilder()
    x, more = builder.input("x", 1, 1, depth), builder.input("more", 1, 1, columns)
    y = builder.add("conv", x, weights, bias, more if residual else None, name="y")
    # What follows on one thread, or on all, must wait.
    z = builder.add("activation", y, activation="relu", name="z")
    wide = builder.add("conv", z, rng.standard_normal((1, 1, columns, 1000), np.float32), None, name="wide")
    graph = builder.graph(y, wide)
    images = {"x": rng.standard_normal((5, 1, 1, depth), np.float32)}
    images["more"] = rng.standard_normal((5, 1, 1, columns), np.float32)
    exact = images["x"].astype(np.float64)[:, 0, 0] @ weights[0, 0] + bias + residual * images["more"][:, 0, 0]
    models = [Model(graph, threads=threads, isa=isa) for threads in (1, 2, 3, 4, 7)]
    answers = [model(images) for model in models for _ in range(2)]  # every second call goes backwards
    np.testing.assert_allclose(answers[0][0][:, 0, 0], exact, rtol=0, atol=2e-4)
    for answer in answers[1:]:
        for found, wanted in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_small_matrix_is_read_as_it_is() -> None:
    builder = GraphBuilder()
    weights = np.zeros((256, 256), np.float32)
    model = Model(builder.graph(builder.add("dense", builder.input("x", 256), weights)))
    assert not np.any(model(np.ones((1, 256), np.float32))[0])
    (step,) = next(iter(model._plans.values())).steps
    assert step.kernel.startswith("vector by matrix")


def pointwise(weights: np.ndarray, size: int) -> Graph:
    """A convolution of 1 x 1 over size x size pixels."""
    builder = GraphBuilder()
    builder.add("conv", builder.input("x", size, size, len(weights)), weights[None, None], name="y")
    return builder.graph("y")


@pytest.mark.parametrize(("block", "kernel"), [(1, "single weights"), (16, "blocks"), (32, "blocks")])
@pytest.mark.parametrize("isa", ISAS)
def test_weights_of_zero_are_left_out_where_that_is_faster(isa: str, block: int, kernel: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((256, 256), np.float32)
    assert "product" in Model(pointwise(weights, 28), isa=isa, threads=1).summary()
    gone = np.repeat(rng.random((256, 256 // block)) < 0.9, block, axis=1)
    gone[7] = True
    weights[gone] = 0
    model = Model(pointwise(weights, 28), isa=isa, threads=1)
    assert kernel in model.summary()
    # What no weight is there for is not read: where the dense sum would be NaN, this one is right.
    x = rng.standard_normal((1, 28, 28, 256), np.float32)
    wanted = x.astype(np.float64) @ weights.astype(np.float64)
    x[..., 7] = np.nan
    np.testing.assert_allclose(model(x)[0], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("share", "kernel"), [(0.7, "product"), (0.9, "single weights")])
@pytest.mark.skipif(not WIDE_ISAS, reason="nine pixels waste little of vectors of four lanes: there zeros pay sooner")
@pytest.mark.parametrize("isa", WIDE_ISAS or ISAS)
def test_a_small_layer_over_few_pixels_is_computed_dense_until_little_is_left(
    isa: str, share: float, kernel: str
) -> None:
    """Its weights come from a cache: reading them is no reason to leave zeros out."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 3, 96, 192), np.float32)
    weights[rng.random(weights.shape) < share] = 0
    builder = GraphBuilder()
    builder.add("conv", builder.input("x", 3, 3, 96), weights, name="y", padding="same")
    (step,) = next(iter(Model(builder.graph("y"), isa=isa, threads=1)._plans.values())).steps
    assert step.kernel.startswith(kernel)


def test_a_large_window_over_few_pixels_takes_little_scratch_memory() -> None:
    """What lies behind each tap is noted for the pixels that there are, not for as many as a panel could hold."""
    weights = np.zeros((60, 60, 2, 3), np.float32)
    weights[0, 0] = 1
    builder = GraphBuilder()
    builder.add("conv", builder.input("x", 60, 61, 2), weights, name="y")
    graph = builder.graph("y")
    x = np.random.default_rng(0).standard_normal((1, 60, 61, 2), np.float32)
    for name in ("blocks 1", "single weights"):
        model = Model(graph, threads=1, algorithms={"y": name})
        np.testing.assert_allclose(model(x)[0][0, 0], x[0, 0, :2].sum(-1, keepdims=True) * np.ones(3), rtol=1e-5)
        (step,) = next(iter(model._plans.values())).steps
        assert step.kernel.startswith(name.split()[0])
        assert step.scratch < 3600 * 8 * 40


def test_a_tenth_of_zeros_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((256, 256), np.float32)
    weights[rng.random((256, 256)) < 0.1] = 0
    names = Model(pointwise(weights, 28)).possible_algorithms().get("y", ())
    assert not [name for name in names if name.startswith(("blocks", "single"))]


def test_classes_of_equal_weights_tie() -> None:
    """A last layer like SqueezeNet's, with so large values that any rounding would decide."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    weights = np.repeat(rng.uniform(1e4, 2e4, (1, 1, 512, 1)), 512, axis=3)
    scores = builder.add("conv", builder.input("x", 14, 14, 512), weights)
    means = builder.add("reduce_mean", scores, axes=(1, 2), keepdims=0)
    graph = builder.graph(builder.add("softmax", means, axis=1, log=0))
    x = rng.uniform(1e4, 2e4, (1, 14, 14, 512)).astype(np.float32)
    np.testing.assert_allclose(Model(graph)(x)[0], 1 / 512, rtol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=1500, deadline=None)
def test_operator_agrees_with_its_meaning_in_the_long_run(operator: str, data: st.DataObject) -> None:
    test_operator_agrees_with_its_meaning.hypothesis.inner_test(operator, data)


@pytest.mark.parametrize("isa", ISAS)
def test_the_mean_of_a_large_image_is_not_lost_in_rounding(isa: str) -> None:
    size = 400
    x = np.random.default_rng(0).uniform(1, 2, (1, size, size, 3)).astype(np.float32)
    builder = GraphBuilder()
    graph = builder.graph(builder.add("average_pool", builder.input("x", size, size, 3), pool_size=(size, size)))
    exact = x.astype(np.float64).mean((1, 2), keepdims=True)
    # Added up one by one, 160,000 values lose 1e-5 of their sum here.
    np.testing.assert_allclose(Model(graph, threads=1, isa=isa)(x)[0], exact, rtol=2e-6)


@pytest.mark.sweep
@given(
    data=st.data(),
    kernel=st.sampled_from([None, (1, 1), (3, 3)]),
    block=st.sampled_from([1, 1, 4, 8, 16, 32]),
    share=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=1500, deadline=None)
def test_convolutions_without_their_zeros_agree_in_the_long_run(
    data: st.DataObject, kernel: tuple[int, ...] | None, block: int, share: float, seed: int
) -> None:
    test_convolutions_without_their_zeros_agree.hypothesis.inner_test(data, kernel, block, share, seed)


@pytest.mark.sweep
@given(
    data=st.data(),
    block=st.sampled_from([1, 1, 4, 8, 16, 32]),
    share=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=1500, deadline=None)
def test_dense_layers_without_their_zeros_agree_in_the_long_run(
    data: st.DataObject, block: int, share: float, seed: int
) -> None:
    test_dense_layers_without_their_zeros_agree.hypothesis.inner_test(data, block, share, seed)
