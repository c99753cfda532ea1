"""All passes in their order: same answers on random networks, and known blocks become known nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes import pipeline
from edgecnn.errors import GraphError
from edgecnn.format.writer import encode
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch, run_pass
from examples import examples
from graph_strategies import (
    GraphBuilder,
    Weights,
    assert_same_answers,
    batch_norm,
    cnn_graphs,
    conv,
    depthwise,
    operators,
)

W = Weights(19)
PASSES = {rewrite.__name__: rewrite for rewrite in pipeline.PASSES}


@given(cnn_graphs(), st.integers(0, 9))
@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_networks_answer_as_before_and_are_done_with(graph: Graph, seed: int) -> None:
    after, _ = pipeline.run(graph)
    after.check()
    assert_same_answers(graph, after, seed)
    again, trace = pipeline.run(after)
    assert encode(again) == encode(after)
    assert not trace


@pytest.mark.parametrize("name", sorted(PASSES))
@given(graph=cnn_graphs())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_pass_alone_keeps_the_answers(name: str, graph: Graph) -> None:
    after, _ = run_pass(graph, PASSES[name])
    assert_same_answers(graph, after)
    assert run_pass(after, PASSES[name])[0] is after


@given(cnn_graphs())
@settings(max_examples=examples(60), deadline=None)
def test_layers_that_still_compute_are_named_by_a_node(graph: Graph) -> None:
    after, trace = pipeline.run(graph)
    named = {layer for node in after.nodes for layer in node.layers}
    dropped = {layer for row in trace if not row.added for layer in row.layers}
    assert {layer for node in graph.nodes for layer in node.layers} <= named | dropped


def test_each_pass_has_a_file_of_its_own_that_draws_it() -> None:
    folder = Path(pipeline.__file__).parent
    for name in PASSES:
        text = (folder / f"{name}.py").read_text()
        assert "=>" in text.split('"""')[1], f"{name}.py does not draw before and after"
    others = {"__init__", "affine", "pipeline"}
    assert {path.stem for path in folder.glob("*.py")} == {*PASSES, *others}


def test_an_inverted_residual_of_mobilenet_becomes_three_nodes() -> None:
    b = GraphBuilder()
    relu6 = {"activation": "relu", "activation_parameters": (0.0, 6.0, 0.0)}
    x = b.input("x", 8, 8, 4)
    y = b.add(
        "activation", batch_norm(b, W, conv(b, W, x, 24, 1, False, name="expand"), name="bn1"), **relu6, name="r1"
    )
    y = depthwise(b, W, y, 3, padding="same", name="depthwise")
    y = b.add("activation", batch_norm(b, W, y, name="bn2"), **relu6, name="r2")
    y = batch_norm(b, W, conv(b, W, y, 4, 1, False, name="project"), name="bn3")
    graph = b.graph(b.add("add", x, y, name="sum"))
    after, _ = pipeline.run(graph)
    assert [(node.operator, node.layers) for node in after.nodes] == [
        ("conv", ("expand", "bn1", "r1")),
        ("depthwise_conv", ("depthwise", "bn2", "r2")),
        ("conv", ("project", "bn3", "sum")),
    ]
    assert_same_answers(graph, after)


def test_the_stem_and_a_block_of_resnet_become_six_nodes() -> None:
    b = GraphBuilder()
    y = b.add("pad", b.input("x", 20, 20, 3), pads=(3, 3, 3, 3))
    y = b.add("activation", batch_norm(b, W, conv(b, W, y, 4, 7, strides=(2, 2))), activation="relu")
    y = b.add("max_pool", b.add("pad", y, pads=(1, 1, 1, 1)), pool_size=(3, 3), strides=(2, 2))
    shortcut = batch_norm(b, W, conv(b, W, y, 8))
    z = b.add("activation", batch_norm(b, W, conv(b, W, y, 4)), activation="relu")
    z = b.add("activation", batch_norm(b, W, conv(b, W, z, 4, 3, padding="same")), activation="relu")
    z = batch_norm(b, W, conv(b, W, z, 8))
    graph = b.graph(b.add("activation", b.add("add", shortcut, z), activation="relu"))
    after, _ = pipeline.run(graph)
    assert operators(after) == ["conv", "max_pool", "conv", "conv", "conv", "conv"]
    assert after.nodes[0].attributes["pads"] == (3, 3, 3, 3)
    assert after.nodes[1].attributes["pads"] == (1, 1, 1, 1)
    assert after.nodes[-1].input("residual") == after.nodes[-2].output  # the shortcut, computed last
    assert after.nodes[-1].attributes["activation"] == "relu"
    assert_same_answers(graph, after)


@pytest.mark.parametrize(("padding", "nodes"), [("explicit", ["conv"]), ("same", ["batch_normalization", "conv"])])
def test_a_rescaling_goes_whole_into_a_convolution_that_does_not_pad(padding: str, nodes: list[str]) -> None:
    b = GraphBuilder()
    y = b.add("add", b.add("multiply", b.input("x", 6, 6, 3), np.float32(2 / 255)), np.float32(-1))
    graph = b.graph(conv(b, W, y, 4, 3, padding=padding))
    after, _ = pipeline.run(graph)
    assert operators(after) == nodes
    assert_same_answers(graph, after)


def test_padding_is_absorbed_once_a_normalisation_between_is_folded() -> None:
    b = GraphBuilder()
    y = b.add("pad", b.input("x", 6, 6, 3), pads=(1, 1, 1, 1))
    graph = b.graph(conv(b, W, batch_norm(b, W, y), 4, 3))
    after, _ = pipeline.run(graph)
    assert operators(after) == ["conv"]
    assert_same_answers(graph, after)


def test_dropout_between_neighbours_hides_nothing() -> None:
    b = GraphBuilder()
    y = b.add("identity", conv(b, W, b.input("x", 6, 6, 3), 4))
    y = b.add("activation", b.add("identity", batch_norm(b, W, y)), activation="elu")
    graph = b.graph(b.add("reshape", b.add("identity", b.add("reshape", y, shape=(-1,))), shape=(6, 6, 4)))
    after, _ = pipeline.run(graph)
    assert operators(after) == ["conv"]
    assert_same_answers(graph, after)


def test_a_model_that_does_nothing_keeps_one_node() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("identity", b.add("reshape", b.input("x", 2, 3), shape=(2, 3))))
    after, _ = pipeline.run(graph)
    assert len(after.nodes) == 1
    assert_same_answers(graph, after)


def test_an_illegal_graph_is_refused_before_any_pass() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("identity", b.input("x", 2)))
    broken = Graph(graph.name, graph.inputs, graph.outputs, (), graph.tensors)
    with pytest.raises(GraphError, match="produced by no node"):
        pipeline.run(broken)


def test_passes_that_undo_each_other_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(graph: Graph) -> Iterator[Patch]:
        (node,) = graph.nodes
        if node.name != "changed":
            yield Patch((node.name,), (replace(node, name="changed"),))

    def change_back(graph: Graph) -> Iterator[Patch]:
        (node,) = graph.nodes
        if node.name == "changed":
            yield Patch((node.name,), (replace(node, name="as it was"),))

    b = GraphBuilder()
    graph = b.graph(b.add("activation", b.input("x", 2), activation="tanh"))
    monkeypatch.setattr(pipeline, "PASSES", (change, change_back))
    with pytest.raises(GraphError, match="the passes find no end after 9 rounds"):
        pipeline.run(graph)


def test_the_number_of_walks_does_not_grow_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder()
    x = b.input("x", 16, 16, 8)
    while len(b.nodes) < 600:
        y = b.add("activation", batch_norm(b, W, conv(b, W, x, 8, 1, False)), activation="relu")
        y = b.add(
            "activation",
            batch_norm(b, W, depthwise(b, W, b.add("pad", y, pads=(1, 1, 1, 1)))),
            activation="relu",
        )
        x = b.add("identity", b.add("add", x, batch_norm(b, W, conv(b, W, y, 8))))
    graph = b.graph(x)
    walks = 0
    check = Graph.check

    def counted(checked: Graph) -> None:
        nonlocal walks
        walks += 1
        check(checked)

    monkeypatch.setattr(Graph, "check", counted)
    after, _ = pipeline.run(graph)
    assert operators(after) == ["conv", "depthwise_conv", "conv"] * (len(graph.nodes) // 11)
    # A few rounds of each pass; one walk for each patch would be some 500.
    assert walks <= 4 * len(pipeline.PASSES)
