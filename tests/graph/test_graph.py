"""What a graph tells about itself, and every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from edgecnn.errors import GraphError
from edgecnn.graph import Constant, Graph, Node, Port, Quantization, Tensor
from graph_strategies import GraphBuilder, cnn_graphs


def branched() -> Graph:
    """image -> conv -> (relu, conv) -> add -> y, where the public output "conv" also shows what the branches read."""
    b = GraphBuilder()
    b.input("image", 8, 6, 3)
    b.add("conv", "image", np.ones((3, 3, 3, 4)), np.ones(4), name="conv", padding="same", strides=(2, 2))
    b.add("activation", "conv", name="relu", activation="relu")
    b.add("depthwise_conv", "conv", np.ones((3, 3, 4, 1)), name="depthwise", padding="same")
    b.add("add", "relu", "depthwise", name="y")
    return b.graph("y", "conv")


def test_producers_and_readers_are_nodes() -> None:
    graph = branched()
    assert {name: node.name for name, node in graph.producers.items()} == {
        name: name for name in ("conv", "relu", "depthwise", "y")
    }
    assert "image" not in graph.producers
    assert [node.name for node in graph.readers["conv"]] == ["relu", "depthwise"]
    assert graph.readers["y"] == ()
    assert [node.name for node in graph.readers["conv/weights"]] == ["conv"]
    assert graph.output_tensors == {"y", "conv"}


def test_a_node_that_reads_a_tensor_twice_is_listed_twice() -> None:
    b = GraphBuilder()
    x = b.input("x", 4)
    graph = b.graph(b.add("multiply", x, x))
    assert len(graph.readers["x"]) == 2


def test_inputs_are_found_by_role() -> None:
    conv = branched().producers["conv"]
    assert [conv.input(role) for role in ("x", "weights", "bias", "residual")] == [
        "image",
        "conv/weights",
        "conv/bias",
        "",
    ]
    assert conv.output == "conv"


def test_multiply_accumulates_are_counted_for_one_image() -> None:
    graph = branched()
    # conv: 4 x 3 pixels, 4 filters, 3 x 3 x 3 values each; depthwise: 4 x 3 pixels, 4 channels, 3 x 3 values each.
    assert graph.macs_of(graph.producers["conv"]) == 4 * 3 * 4 * 27
    assert graph.macs_of(graph.producers["depthwise"]) == 4 * 3 * 4 * 9
    assert graph.macs_of(graph.producers["y"]) == 0
    assert graph.macs == 4 * 3 * 4 * 27 + 4 * 3 * 4 * 9


def test_multiply_accumulates_of_groups_and_dense_layers() -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 4)
    dense = b.add("dense", x, np.ones((4, 7)))
    image = b.input("image", 3, 3, 6)
    conv = b.add("conv", image, np.ones((1, 1, 2, 9)), groups=3)
    graph = b.graph(dense, conv)
    assert graph.macs == 5 * 7 * 4 + 9 * 9 * 2


def test_multiply_accumulates_are_unknown_where_a_size_is() -> None:
    b = GraphBuilder()
    x = b.input("x", None, 4, 1)
    graph = b.graph(b.add("conv", x, np.ones((1, 1, 1, 1))))
    assert graph.macs is None


@given(cnn_graphs())
@settings(max_examples=30, deadline=None)
def test_random_networks_are_legal_and_have_known_costs(graph: Graph) -> None:
    graph.check()
    macs = graph.macs
    assert macs is not None
    assert macs == sum(graph.macs_of(node) or 0 for node in graph.nodes)


def with_node(graph: Graph, which: str, **changes: Any) -> Graph:
    nodes = tuple(replace(node, **changes) if node.name == which else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def with_attribute(graph: Graph, name: str, **changes: Any) -> Graph:
    return with_node(graph, name, attributes={**graph.producers[name].attributes, **changes})


def with_tensor(graph: Graph, tensor: Tensor, key: str = "") -> Graph:
    return replace(graph, tensors={**graph.tensors, key or tensor.name: tensor})


def with_constant(graph: Graph, constant: Constant, key: str = "") -> Graph:
    return replace(graph, constants={**graph.constants, key or constant.name: constant})


F32 = np.float32
BROKEN: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "a name for a tensor and a constant": (
        lambda g: with_constant(g, Constant("relu", np.ones(4, F32))),
        "'relu' is both a tensor and a constant",
    ),
    "a tensor under another name": (
        lambda g: with_tensor(g, Tensor("z", (None, 1)), "zz"),
        "tensor 'z' is filed under 'zz'",
    ),
    "a tensor of another dtype": (
        lambda g: with_tensor(g, Tensor("relu", (None, 4, 3, 4), "float64")),
        "dtype 'float64'; wanted float32",
    ),
    "a tensor without a batch": (lambda g: with_tensor(g, Tensor("image", (1, 8, 6, 3))), "the batch, must be None"),
    "a tensor without dimensions": (lambda g: with_tensor(g, Tensor("image", ())), "the batch, must be None"),
    "a size of zero": (lambda g: with_tensor(g, Tensor("image", (None, 0, 6, 3))), "at least 1"),
    "a tensor beyond all memory": (
        lambda g: with_tensor(g, Tensor("image", (None, 2**30, 2**30, 3))),
        "more than 1099511627776 elements",
    ),
    "a constant under another name": (
        lambda g: with_constant(g, Constant("c", np.ones(1, F32)), "d"),
        "constant 'c' is filed under 'd'",
    ),
    "a constant of another dtype": (
        lambda g: with_constant(g, Constant("conv/bias", np.ones(4))),
        "dtype float64; wanted float32 or int8",
    ),
    "a constant that is not contiguous": (
        lambda g: with_constant(g, Constant("conv/bias", np.ones(8, F32)[::2])),
        "not C-contiguous",
    ),
    "int8 values without scales": (
        lambda g: with_constant(g, Constant("conv/bias", np.ones(4, np.int8))),
        "int8 values and a quantization go together",
    ),
    "float32 values with scales": (
        lambda g: with_constant(
            g, Constant("conv/bias", np.ones(4, F32), quantization=Quantization(np.ones(1, F32), np.zeros(1, np.int32)))
        ),
        "int8 values and a quantization go together",
    ),
    "no output": (lambda g: replace(g, outputs=()), "at least one input and one output"),
    "no input": (lambda g: replace(g, inputs=()), "at least one input and one output"),
    "an unknown structure": (lambda g: replace(g, input_structure="tuple"), "wanted single, list or dict"),
    "a single output that is two": (lambda g: replace(g, output_structure="single"), "'single' with 2 outputs"),
    "two outputs of one name": (
        lambda g: replace(g, outputs=(Port("y", "y"), Port("y", "conv"))),
        "two outputs have the same name",
    ),
    "two inputs for one tensor": (
        lambda g: replace(g, inputs=(Port("a", "image"), Port("b", "image"))),
        "two inputs name the same tensor",
    ),
    "an output that is no tensor": (lambda g: replace(g, outputs=(Port("z", "z"),)), "there is no tensor 'z'"),
    "an unknown operator": (lambda g: with_node(g, "relu", operator="leap"), r"'relu' \(leap\): no such operator"),
    "a node without a name": (lambda g: with_node(g, "relu", name=""), "empty or taken"),
    "two nodes of one name": (lambda g: with_node(g, "relu", name="conv"), "empty or taken"),
    "nodes in the wrong order": (
        lambda g: replace(g, nodes=g.nodes[::-1]),
        "reads 'relu', which is not produced before it",
    ),
    "an output among no tensors": (
        lambda g: with_node(g, "relu", outputs=("z",)),
        "produces 'z', which is not among the tensors",
    ),
    "a tensor produced twice": (lambda g: with_node(g, "depthwise", outputs=("relu",)), "which is produced already"),
    "a tensor produced by nobody": (
        lambda g: with_tensor(g, Tensor("z", (None, 1))),
        "'z' is produced by no node and is no input",
    ),
    "an input too few": (lambda g: with_node(g, "y", inputs=("relu",)), "has 1 inputs; wanted 2"),
    "an absent input": (lambda g: with_node(g, "relu", inputs=("",)), "its x is absent"),
    "a tensor in a constant's place": (
        lambda g: with_node(g, "conv", inputs=("image", "image", "", "")),
        "its weights 'image' must be a constant",
    ),
    "a constant in a tensor's place": (
        lambda g: with_node(g, "relu", inputs=("conv/bias",)),
        "its x 'conv/bias' must be a tensor",
    ),
    "weights of another rank": (
        lambda g: with_node(g, "conv", inputs=("image", "conv/bias", "", "")),
        r"has shape \(4,\); wanted rank \(3, 4, 5\)",
    ),
    "an attribute too many": (lambda g: with_attribute(g, "relu", axis=1), "has attributes .*axis.*; wanted"),
    "an attribute out of range": (
        lambda g: with_attribute(g, "conv", strides=(0, 1)),
        "attribute strides: 0 is outside",
    ),
    "an attribute of another length": (
        lambda g: with_attribute(g, "conv", strides=(1,)),
        r"strides \(1,\) has 1 entries; wanted 2",
    ),
    "an attribute of another type": (
        lambda g: with_attribute(g, "conv", groups=1.0),
        "attribute groups: 1.0 is no int",
    ),
    "a bool for an int": (lambda g: with_attribute(g, "conv", groups=True), "attribute groups: True is no int"),
    "an int for a float": (
        lambda g: with_attribute(g, "relu", activation_parameters=(0, 1.0, 0.0)),
        "attribute activation_parameters: 0 is no float",
    ),
    "a list for a tuple": (lambda g: with_attribute(g, "conv", strides=[1, 1]), "is no tuple"),
    "an unknown function": (lambda g: with_attribute(g, "relu", activation="leap"), "'leap' is none of"),
    "a function of no string": (lambda g: with_attribute(g, "relu", activation=3), "3 is no string"),
    "parameters of another function": (
        lambda g: with_attribute(g, "relu", activation_parameters=(1.0,)),
        "activation relu has parameters",
    ),
    "weights of another depth": (
        lambda g: with_constant(g, Constant("conv/weights", np.ones((3, 3, 2, 4), F32))),
        "do not fit an input of shape",
    ),
    "a bias of another size": (
        lambda g: with_constant(g, Constant("conv/bias", np.ones(5, F32))),
        r"its bias has shape \(5,\); wanted \(4,\)",
    ),
    "an output of another shape": (
        lambda g: with_tensor(g, Tensor("relu", (None, 4, 3, 5))),
        "by the shape rule it is",
    ),
}


@pytest.mark.parametrize("flaw", sorted(BROKEN))
def test_check_finds(flaw: str) -> None:
    change, message = BROKEN[flaw]
    broken = change(branched())
    with pytest.raises(GraphError, match=message) as caught:
        broken.check()
    assert str(caught.value).startswith("graph 'test': ")


def test_check_accepts_an_input_that_is_an_output() -> None:
    b = GraphBuilder()
    b.input("x", 3)
    assert b.graph("x").output_tensors == {"x"}


def test_a_graph_stays_as_it_is() -> None:
    graph = branched()
    with pytest.raises(AttributeError):
        graph.nodes = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        graph.nodes[0].name = "other"  # type: ignore[misc]
    assert isinstance(graph.nodes[0], Node)
