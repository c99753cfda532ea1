"""Patches, how they are applied, and the driver that goes on until nothing more is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edgecnn.errors import GraphError
from edgecnn.graph import Constant, Graph, Node, Tensor
from edgecnn.graph.rewrite import Patch, apply, fresh_name, merged_layers, only_reader, run_pass
from graph_strategies import GraphBuilder, assert_same_answers, operators


def chain(*operators: str) -> Graph:
    """x -> nodes "0", "1", ... each of its operator, over three values."""
    b = GraphBuilder()
    x = b.input("x", 3)
    for index, operator in enumerate(operators):
        x = b.add(operator, x, name=str(index))
    return b.graph(x)


def doubled(node: Node, name: str) -> Node:
    """An activation in a node's place that produces the same tensor."""
    attributes = {"activation": "relu", "activation_parameters": (0.0, float("inf"), 0.0)}
    return Node("activation", name, node.inputs, node.outputs, attributes, node.layers)


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_what_is_added_stands_in_the_place_of_the_last_removed() -> None:
    graph = chain("identity", "identity", "identity", "identity")
    one, two = graph.nodes[1:3]
    new = doubled(replace(two, inputs=one.inputs), "new")
    assert names(apply(graph, [Patch(("1", "2"), (new,))])) == ["0", "new", "3"]


def test_several_added_nodes_keep_their_order() -> None:
    graph = chain("identity", "identity")
    middle = Tensor("middle", (None, 3))
    first = Node("identity", "first", ("0",), ("middle",))
    second = Node("identity", "second", ("middle",), ("1",))
    assert names(apply(graph, [Patch(("1",), (first, second), tensors=(middle,))])) == ["0", "first", "second"]


def test_patches_of_a_round_are_applied_together() -> None:
    graph = chain(*["identity"] * 6)
    patches = [Patch((str(i),), redirect={graph.nodes[i].output: graph.nodes[i].inputs[0]}) for i in (0, 1, 3, 4)]
    after = apply(graph, patches)
    assert names(after) == ["2", "5"]
    assert after.nodes[0].inputs == ("x",)
    assert after.nodes[1].inputs == ("2",)


def test_public_outputs_are_redirected_and_inputs_are_not() -> None:
    graph = chain("identity", "identity")
    after = apply(graph, [Patch(("1",), redirect={"1": "0"})])
    assert [(port.name, port.tensor) for port in after.outputs] == [("1", "0")]
    assert after.inputs == graph.inputs


def test_tensors_and_constants_that_nobody_uses_are_left_out() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    b.add("dense", x, np.ones((3, 3)), np.ones(3), name="dense")
    graph = b.graph(b.add("identity", x, name="y"))
    after = apply(graph, [Patch(("dense",))])
    assert after.tensors.keys() == {"x", "y"}
    assert not after.constants


def test_an_unread_input_stays() -> None:
    b = GraphBuilder()
    x, z = b.input("x", 3), b.input("z", 3)
    b.add("identity", z, name="unused")
    after = apply(b.graph(b.add("identity", x, name="y")), [Patch(("unused",))])
    assert after.tensors.keys() == {"x", "z", "y"}
    assert [port.tensor for port in after.inputs] == ["x", "z"]


def test_the_graph_that_is_patched_stays_as_it_was() -> None:
    graph = chain("identity", "identity")
    before = (graph.nodes, dict(graph.tensors), graph.outputs)
    apply(graph, [Patch(("0",), redirect={"0": "x"})])
    assert (graph.nodes, dict(graph.tensors), graph.outputs) == before


REFUSED = {
    "a node that is not there": ([Patch(("7",))], r"removes \('7',\), of which \['7'\] are not there"),
    "a node removed twice": ([Patch(("0",), redirect={"0": "x"})] * 2, "are not there"),
    "nothing to remove": ([Patch(())], "removes"),
    "a constant under a tensor's name": (
        [Patch(("0",), redirect={"0": "x"}, constants=(Constant("1", np.ones(1, np.float32)),))],
        "brings '1', a name that is taken",
    ),
    "a tensor under a name in use": (
        [Patch(("0",), tensors=(Tensor("x", (None, 3)),))],
        "brings 'x', a name that is taken",
    ),
    "a circle": (
        [Patch(("0",), redirect={"0": "1"}), Patch(("1",), redirect={"1": "0"})],
        "redirect .* in a circle",
    ),
    "a tensor that is still read": ([Patch(("0",))], "reads '0', which is not produced before it"),
    "an output that is gone": ([Patch(("1",))], "there is no tensor '1'"),
    "a node that reads what comes later": (
        [Patch(("0",), (Node("identity", "0", ("1",), ("0",)),))],
        "reads '1', which is not produced before it",
    ),
}


@pytest.mark.parametrize("flaw", sorted(REFUSED))
def test_apply_refuses(flaw: str) -> None:
    patches, message = REFUSED[flaw]
    with pytest.raises(GraphError, match=message):
        apply(chain("identity", "identity"), patches)


def test_apply_refuses_an_output_of_another_shape() -> None:
    b = GraphBuilder()
    x = b.input("x", 2, 3)
    graph = b.graph(b.add("reshape", x, shape=(6,), name="flat"))
    with pytest.raises(GraphError, match=r"output 'flat' changes its shape from \(None, 6\) to \(None, 2, 3\)"):
        apply(graph, [Patch(("flat",), redirect={"flat": "x"})])


def drop_first(graph: Graph) -> Iterator[Patch]:
    """Drops identities, one in a round."""
    for node in graph.nodes:
        if node.operator == "identity":
            yield Patch((node.name,), redirect={node.output: node.inputs[0]})
            return


def test_a_pass_runs_until_it_finds_nothing_more() -> None:
    graph, trace = run_pass(chain("identity", "identity", "identity"), drop_first)
    assert not graph.nodes
    assert [row.removed for row in trace] == [("0",), ("1",), ("2",)]


def test_a_long_graph_may_need_as_many_rounds_as_it_has_nodes() -> None:
    graph, trace = run_pass(chain(*["identity"] * 300), drop_first)
    assert not graph.nodes
    assert len(trace) == 300


def test_the_trace_names_pass_nodes_and_layers() -> None:
    def merge_pairs(graph: Graph) -> Iterator[Patch]:
        for before, node in zip(graph.nodes, graph.nodes[1:], strict=False):
            if "+" not in before.name:
                merged = replace(node, name="0+1", inputs=before.inputs, layers=merged_layers(before, node))
                yield Patch((before.name, node.name), (merged,))

    graph, trace = run_pass(chain("identity", "identity"), merge_pairs)
    (row,) = trace
    assert (row.pass_name, row.removed, row.added, row.layers) == ("merge_pairs", ("0", "1"), ("0+1",), ("0", "1"))
    assert graph.nodes[0].layers == ("0", "1")


def test_patches_that_touch_the_same_node_wait_for_the_next_round() -> None:
    rounds: list[int] = []

    def merge_neighbours(graph: Graph) -> Iterator[Patch]:
        rounds.append(len(graph.nodes))
        for before, node in zip(graph.nodes, graph.nodes[1:], strict=False):
            yield Patch((before.name, node.name), (replace(node, inputs=before.inputs),))

    graph, _ = run_pass(chain(*["identity"] * 8), merge_neighbours)
    assert rounds == [8, 4, 2, 1]
    assert names(graph) == ["7"]


def test_errors_name_the_pass() -> None:
    def drop_everything(graph: Graph) -> Iterator[Patch]:
        yield Patch(tuple(names(graph)))

    with pytest.raises(GraphError, match=r"pass drop_everything: .*'1'"):
        run_pass(chain("identity", "identity"), drop_everything)


def test_a_pass_that_undoes_its_own_work_is_stopped() -> None:
    def turn_around(graph: Graph) -> Iterator[Patch]:
        yield Patch(("0",), (graph.nodes[0],))

    with pytest.raises(GraphError, match="pass turn_around: finds no end after 10 rounds"):
        run_pass(chain("identity", "identity"), turn_around)


def test_many_patches_cost_one_walk_through_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_all(graph: Graph) -> Iterator[Patch]:
        for node in graph.nodes:
            if node.operator == "identity":
                yield Patch((node.name,), redirect={node.output: node.inputs[0]})

    graph = chain(*["identity"] * 4000)
    walks = 0
    check = Graph.check

    def counted(checked: Graph) -> None:
        nonlocal walks
        walks += 1
        check(checked)

    monkeypatch.setattr(Graph, "check", counted)
    after, _ = run_pass(graph, drop_all)
    assert 1 <= walks <= 3
    assert not after.nodes


def test_the_only_reader_is_one_node_that_reads_once() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    a = b.add("identity", x, name="a")
    twice = b.add("add", a, a, name="twice")
    c = b.add("identity", twice, name="c")
    graph = b.graph(b.add("identity", c, name="d"), c)
    assert only_reader(graph, "a") is None  # read twice by one node
    assert only_reader(graph, "c") is None  # a public output
    assert only_reader(graph, "d") is None  # read by none
    assert only_reader(graph, "twice") is graph.producers["c"]


def test_fresh_names_avoid_tensors_and_constants() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    b.constant("w", np.ones((3, 3)))
    b.constant("w 2", np.ones(3))
    graph = b.graph(b.add("dense", x, "w", "w 2", name="y"))
    assert fresh_name(graph, "v") == "v"
    assert fresh_name(graph, "x") == "x 2"
    assert fresh_name(graph, "w") == "w 3"


def test_merged_layers_are_in_order_and_listed_once() -> None:
    one, two = Node("identity", "a", (), (), layers=("p", "q")), Node("identity", "b", (), (), layers=("q", "r"))
    assert merged_layers(one, two) == ("p", "q", "r")


def test_the_comparison_of_these_tests_notices_a_change() -> None:
    graph = chain("identity", "identity")
    changed = apply(graph, [Patch(("0",), (doubled(graph.nodes[0], "0"),))])
    assert operators(changed) == ["activation", "identity"]
    with pytest.raises(AssertionError, match="off by"):
        assert_same_answers(graph, changed)
