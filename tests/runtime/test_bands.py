"""Chains of nodes computed band by band: the same bits as node by node, whatever the bands and the threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.graph import Constant, Graph, Node, Port, Tensor
from edgecnn.graph.operators import OPERATORS
from edgecnn.runtime import bands, cpu, planner
from edgecnn.runtime.kernels.chain import band_of
from edgecnn.runtime.model import Model
from examples import examples

POINTWISE = ("batch_normalization", "activation")
NONE = {"activation": "linear", "activation_parameters": ()}
RELU = {"activation": "relu", "activation_parameters": (0.0, float("inf"), 0.0)}
SWISH = {"activation": "swish", "activation_parameters": ()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every tensor counts as large, and any height as enough. (Single pixels are products of vectors, without rows.)"""
    monkeypatch.setattr(bands, "LARGE_BYTES", 0)
    monkeypatch.setattr(bands, "LEAST_ROWS", 2)
    return monkeypatch


def pointwise(
    draw: st.DrawFn, rng: np.random.Generator, constants: dict[str, Constant], kind: str, x: str, y: str, channels: int
) -> Node:
    """A normalisation, or an activation alone."""
    attributes = dict(draw(st.sampled_from([NONE, RELU, SWISH])))
    if kind == "activation":
        return Node(kind, y, (x,), (y,), {**attributes}, (y,))
    for role in ("gamma", "beta", "mean", "variance"):
        constants[f"{role} {y}"] = Constant(f"{role} {y}", rng.uniform(0.5, 1.5, channels).astype(np.float32))
    roles = tuple(f"{role} {y}" for role in ("gamma", "beta", "mean", "variance"))
    return Node(kind, y, (x, *roles), (y,), {**attributes, "epsilon": 1e-3}, (y,))


@st.composite
def rows_of_layers(draw: st.DrawFn) -> Graph:
    """A row of layers that can be links, now and then with a sum in between, and one reader more of a tensor."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape: tuple[int, ...] = (draw(st.integers(1, 24)), draw(st.integers(1, 9)), draw(st.sampled_from([3, 8, 17, 33])))
    tensors = {"x": Tensor("x", (None, *shape))}
    nodes: list[Node] = []
    constants: dict[str, Constant] = {}
    for index in range(draw(st.integers(2, 7))):
        x, y = (nodes[-1].output if nodes else "x"), f"y{index}"
        kind = draw(
            st.sampled_from([*("pointwise", "depthwise_conv") * 2, "first", "max_pool", "average_pool", *POINTWISE])
        )
        if kind in POINTWISE:
            nodes.append(pointwise(draw, rng, constants, kind, x, y, shape[2]))
            tensors[y] = Tensor(y, (None, *shape))
            continue
        side = draw(st.sampled_from([1, 2, 3, 5])) if kind != "pointwise" else 1
        strides = (2, 2) if kind == "first" else (draw(st.integers(1, 2 if kind != "pointwise" else 1)),) * 2
        same = draw(st.booleans()) or min(shape[:2]) < side
        pads = (0, 0, 0, 0)
        if not same and "pool" not in kind:
            pads = tuple(draw(st.integers(0, side - 1)) for _ in range(4))
        attributes = {"strides": strides, "padding": "same" if same else "explicit", "pads": pads}
        inputs = [x]
        channels = shape[2]
        if "pool" in kind:
            attributes |= {"pool_size": (side, side)}
            if kind == "average_pool":
                attributes |= {"count_padding": 0}
            operator = kind
        else:
            operator = "depthwise_conv" if kind == "depthwise_conv" else "conv"
            attributes |= {"dilations": (1, 1), **draw(st.sampled_from([NONE, RELU, SWISH]))}
            filters = channels if operator == "depthwise_conv" else draw(st.sampled_from([4, 16, 40]))
            size = (side, side, channels, 1 if operator == "depthwise_conv" else filters)
            if operator == "conv":
                attributes |= {"groups": 1}
            constants[f"w{index}"] = Constant(
                f"w{index}", rng.normal(0, (2 / np.prod(size[:3])) ** 0.5, size).astype(np.float32)
            )
            constants[f"b{index}"] = Constant(f"b{index}", rng.normal(size=filters).astype(np.float32))
            inputs += [f"w{index}", f"b{index}"]
            if operator == "conv":
                residual = ""
                if draw(st.booleans()) and strides == (1, 1) and side == 1 and channels == filters:
                    residual = (
                        x
                        if draw(st.booleans())
                        else next(
                            (n.output for n in reversed(nodes[:-1]) if tensors[n.output].shape == (None, *shape)), ""
                        )
                    )
                inputs.append(residual)
                if residual:
                    attributes |= NONE
        given = [(None, *shape), *(constants[n].shape for n in inputs[1:3])]
        if len(inputs) == 4:
            given.append((None, *shape) if inputs[3] else None)
        (out,) = OPERATORS[operator].shapes(attributes, given)
        if min(out[1:]) < 1:
            break
        shape = out[1:]
        tensors[y] = Tensor(y, out)
        nodes.append(Node(operator, y, tuple(inputs), (y,), attributes, (y,)))
    ports = [Port("result", nodes[-1].output)]
    if draw(st.booleans()) and len(nodes) > 2:
        ports.append(Port("more", nodes[draw(st.integers(0, len(nodes) - 2))].output))
    graph = Graph("row", (Port("x", "x"),), tuple(ports), tuple(nodes), tensors, constants, "single", "list")
    graph.check()
    return graph


def answers(graph: Graph, x: np.ndarray, isa: str, threads: int) -> list[bytes]:
    values = Model(graph, isa=isa, threads=threads)(x)
    return [value.tobytes() for value in values]


@given(graph=rows_of_layers(), budget=st.sampled_from([1 << 12, 1 << 14, 1 << 20]), images=st.integers(1, 3))
@settings(max_examples=examples(150), deadline=None)
def test_bands_give_the_bits_of_whole_images(graph: Graph, budget: int, images: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (images, *graph.shape("x")[1:])).astype(np.float32)
    for isa in (entry.name for entry in cpu.supported()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planner, "find_chains", lambda *_: [])
            expected = answers(graph, x, isa, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bands, "LARGE_BYTES", 0)
            patch.setattr(bands, "LEAST_ROWS", 2)
            patch.setattr(bands, "BUFFER_BYTES", budget)
            patch.setattr(planner, "BUFFER_BYTES", budget)
            for threads in (1, 2, 7):
                assert answers(graph, x, isa, threads) == expected


@pytest.mark.parametrize("isa", [entry.name for entry in cpu.supported()])
def test_links_between_slices_of_concatenations(isa: str) -> None:
    """A dense block: every layer normalises all that is there, and adds a few channels."""
    rng = np.random.default_rng(0)
    window = {"padding": "same", "pads": (0,) * 4, "dilations": (1, 1), "strides": (1, 1), "groups": 1, **NONE}
    nodes: list[Node] = []
    tensors = {"x": Tensor("x", (None, 9, 5, 7))}
    constants: dict[str, Constant] = {}
    have, channels = "x", 7
    for index in range(4):
        for role in ("gamma", "beta", "mean", "variance"):
            constants[f"{role}{index}"] = Constant(f"{role}{index}", rng.uniform(0.5, 1.5, channels).astype(np.float32))
        roles = tuple(f"{role}{index}" for role in ("gamma", "beta", "mean", "variance"))
        nodes.append(
            Node("batch_normalization", f"n{index}", (have, *roles), (f"n{index}",), {**RELU, "epsilon": 1e-3}, ("n",))
        )
        constants[f"w{index}"] = Constant(f"w{index}", rng.normal(size=(1, 1, channels, 6)).astype(np.float32))
        nodes.append(Node("conv", f"c{index}", (f"n{index}", f"w{index}", "", ""), (f"c{index}",), window, ("c",)))
        tensors[f"n{index}"] = Tensor(f"n{index}", (None, 9, 5, channels))
        tensors[f"c{index}"] = Tensor(f"c{index}", (None, 9, 5, 6))
        nodes.append(Node("concatenate", f"j{index}", (have, f"c{index}"), (f"j{index}",), {"axis": 3}, ("j",)))
        have, channels = f"j{index}", channels + 6
        tensors[have] = Tensor(have, (None, 9, 5, channels))
    graph = Graph("block", (Port("x", "x"),), (Port("y", have),), tuple(nodes), tensors, constants, "single", "list")
    graph.check()
    x = rng.uniform(-1, 1, (2, 9, 5, 7)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "find_chains", lambda *_: [])
        expected = answers(graph, x, isa, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "LARGE_BYTES", 0)
        patch.setattr(bands, "LEAST_ROWS", 2)
        assert "batch_normalization > conv" in Model(graph).summary()
        for threads in (1, 2, 7):
            assert answers(graph, x, isa, threads) == expected


def pair(height: int, filters: int = 8) -> Graph:
    """1 x 1 convolution, depthwise 3 x 3 of stride 2, 1 x 1 convolution."""
    rng = np.random.default_rng(0)
    window = {"padding": "same", "pads": (0, 0, 0, 0), "dilations": (1, 1), **RELU}
    one, two = {**window, "strides": (1, 1), "groups": 1}, {**window, "strides": (2, 2)}
    sizes = {"a": (1, 1, 4, filters), "b": (3, 3, filters, 1), "c": (1, 1, filters, 4)}
    half = -(-height // 2)
    shapes = {"x": (height, 6, 4), "a": (height, 6, filters), "b": (half, 3, filters), "c": (half, 3, 4)}
    return Graph(
        "pair",
        (Port("x", "x"),),
        (Port("c", "c"),),
        (
            Node("conv", "a", ("x", "wa", "", ""), ("a",), one, ("a",)),
            Node("depthwise_conv", "b", ("a", "wb", ""), ("b",), two, ("b",)),
            Node("conv", "c", ("b", "wc", "", ""), ("c",), one, ("c",)),
        ),
        {name: Tensor(name, (None, *shape)) for name, shape in shapes.items()},
        {f"w{k}": Constant(f"w{k}", rng.normal(size=size).astype(np.float32)) for k, size in sizes.items()},
    )


def test_only_large_tensors_make_a_chain(small: pytest.MonkeyPatch) -> None:
    graph = pair(32)
    shapes = {name: tensor.shape[1:] for name, tensor in graph.tensors.items()}
    assert [[n.name for n in chain] for chain in bands.find_chains(graph, shapes)] == [["a", "b", "c"]]
    small.setattr(bands, "LARGE_BYTES", 4 * 32 * 6 * 8)
    assert bands.find_chains(graph, shapes) == []
    small.setattr(bands, "LARGE_BYTES", 4 * 16 * 3 * 8)  # what the depthwise convolution gives is not large
    assert [[n.name for n in chain] for chain in bands.find_chains(graph, shapes)] == [["a", "b"]]


def test_what_a_chain_hides_takes_no_arena_and_the_summary_tells_of_it(small: pytest.MonkeyPatch) -> None:
    graph = pair(64)
    model = Model(graph, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "find_chains", lambda *_: [])
        assert Model(graph, threads=1).memory.arena >= 4 * 64 * 6 * 8
    assert model.memory.arena == 0
    assert "conv > depthwise_conv > conv" in model.summary()
    step, _ = model.profile(runs=2).steps
    assert step["macs"] == graph.macs


@pytest.mark.parametrize("channels", [96, 256, 512])
@pytest.mark.parametrize("filters", [128, 256, 512])
def test_bits_do_not_depend_on_the_size_of_the_cache(channels: int, filters: int) -> None:
    """A link is computed by the algorithm that would be chosen for it alone: what is a link depends on the cache."""
    rng = np.random.default_rng(0)
    window = {"padding": "same", "pads": (0,) * 4, "dilations": (1, 1), "strides": (1, 1), **RELU}
    shapes = {"x": (28, 28, channels), "a": (28, 28, filters), "b": (28, 28, filters)}
    graph = Graph(
        "cache",
        (Port("x", "x"),),
        (Port("b", "b"),),
        (
            Node("conv", "a", ("x", "wa", "", ""), ("a",), {**window, "groups": 1}, ("a",)),
            Node("depthwise_conv", "b", ("a", "wb", ""), ("b",), window, ("b",)),
        ),
        {name: Tensor(name, (None, *shape)) for name, shape in shapes.items()},
        {
            "wa": Constant("wa", rng.normal(size=(1, 1, channels, filters)).astype(np.float32)),
            "wb": Constant("wb", rng.normal(size=(3, 3, filters, 1)).astype(np.float32)),
        },
    )
    x = rng.uniform(-1, 1, (1, 28, 28, channels)).astype(np.float32)
    found = set()
    for large in (0, 1 << 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bands, "LARGE_BYTES", large)
            found.add(Model(graph, threads=1)(x).tobytes())
    assert len(found) == 1


def test_a_band_is_as_large_as_its_buffers_allow() -> None:
    # A 3 x 3 window of stride 1 after a 1 x 1 one: bands of n rows need n + 2.
    assert band_of([(1, 1, 0), (3, 1, 1)], [20, 20], [10, 10], 10 * 12) == (10, [12])
    assert band_of([(1, 1, 0), (3, 1, 1)], [20, 20], [10, 10], 1000) == (20, [20])
    assert band_of([(1, 1, 0), (3, 2, 0)], [21, 10], [10, 5], 10 * 7) == (3, [7])
    assert band_of([(1, 1, 0), (3, 1, 1)], [20, 20], [10, 10], 10 * 2) is None
