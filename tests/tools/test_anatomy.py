"""A model taken apart: figures worked out by hand, the drawing's rules, and the page in a real browser."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser import DESKTOP, PHONE, Browser
from edgecnn import converters
from edgecnn.cli import main
from edgecnn.errors import InputError
from edgecnn.format import encode
from edgecnn.graph import Constant
from edgecnn.tools.anatomy import anatomy, boxes_and_lines, weights_of, zero_map
from edgecnn.tools.drawing import BEND, lay_out
from edgecnn.tools.inspect import inspect
from edgecnn.tools.onnx import write_onnx
from small_models import convolution, dense_pair, mean_classifier, save

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.h5"


def cells(record: dict[str, Any]) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(record["cells"]), np.uint8)
    return raw.reshape(record["height"], record["width"])


def test_zeros_of_each_node_are_counted(tmp_path: Path) -> None:
    (node,) = inspect(save(convolution(filters=8), tmp_path)).nodes
    # Every second filter of 3 x 3 x 4 weights is zero; the biases are ones.
    assert node.sparsity == (3 * 3 * 4 * 4) / (3 * 3 * 4 * 8 + 8)
    (pool,) = inspect(save(mean_classifier(), tmp_path, "pool.ecnn")).nodes
    assert pool.sparsity is None
    line = next(line for line in str(inspect(tmp_path / "model.ecnn")).splitlines() if line.startswith("conv "))
    assert "48.6 %" in line


def test_a_histogram_counts_every_value_and_has_zero_in_the_middle(tmp_path: Path) -> None:
    graph = convolution(filters=8)
    (record,) = weights_of(graph, inspect(save(graph, tmp_path)))
    assert (record["node"], record["shape"]) == ("conv", [3, 3, 4, 8])
    assert sum(record["histogram"]) == 3 * 3 * 4 * 8
    assert record["histogram"][20] >= 3 * 3 * 4 * 4  # the zeros
    assert record["largest"] == pytest.approx(float(np.abs(graph.constants["weights"].array).max()))
    assert record["sparsity"] == 0.5


def test_values_that_are_no_numbers_are_counted_apart(tmp_path: Path) -> None:
    graph = convolution(filters=8)
    values = graph.constants["weights"].array.copy()
    values[0, 0, 0, :3] = np.nan, np.inf, 1.0
    graph = replace(graph, constants={**graph.constants, "weights": Constant("weights", values)})
    (record,) = weights_of(graph, inspect(encode(graph)))
    assert (record["odd"], sum(record["histogram"])) == (2, 3 * 3 * 4 * 8 - 2)
    assert np.isfinite(record["deviation"])


def test_a_map_shows_where_the_zeros_are() -> None:
    values = np.ones((3, 3, 4, 8), np.float32)
    values[..., ::2] = 0
    found = cells(zero_map(values))
    assert found.shape == (36, 8)
    assert found[:, ::2].min() == 255
    assert found[:, 1::2].max() == 0


def test_a_large_map_s_cells_are_shares_of_neighbours() -> None:
    values = np.ones((480, 96), np.float32)
    values[:5, :2] = 0  # half of the ten rows, and all of the two columns, that share the first cell
    found = cells(zero_map(values))
    assert found.shape == (48, 48)
    assert (found[0, 0], np.count_nonzero(found)) == (128, 1)


def test_boxes_are_inputs_nodes_and_outputs_and_lines_are_drawn_once() -> None:
    names, lines = boxes_and_lines(dense_pair())
    assert names == ["input left", "input right", "node sum", "node double", "output sum", "output double"]
    assert sorted(lines) == [
        ("input left", "node double"),
        ("input left", "node sum"),
        ("input right", "node sum"),
        ("node double", "output double"),
        ("node sum", "output sum"),
    ]


@given(st.data())
def test_a_drawing_goes_down_and_no_two_boxes_meet(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 24))
    names = [f"n{i}" for i in range(count)]
    edges = data.draw(
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1]),
            unique=True,
            max_size=60,
        )
    )
    named = [(names[a], names[b]) for a, b in edges]
    drawing = lay_out(names, named)
    for (start, end), line in drawing.lines.items():
        assert drawing.places[start][1] < drawing.places[end][1]
        assert line[0] == drawing.places[start]
        assert line[-1] == drawing.places[end]
        assert [y for _, y in line] == list(range(line[0][1], line[-1][1] + 1))
    inner = {place for line in drawing.lines.values() for place in line[1:-1]}
    for level in range(drawing.layers):
        boxes = sorted(x for x, y in drawing.places.values() if y == level)
        assert all(b - a > 1 - 1e-9 for a, b in itertools.pairwise(boxes))
        for x, y in inner:
            assert y != level or all(abs(x - box) > (1 + BEND) / 2 - 1e-9 for box in boxes)
    assert all(-1e-9 <= x <= drawing.width - 1 + 1e-9 for x, _ in drawing.places.values())


def test_a_chain_is_a_straight_line() -> None:
    names = [f"n{i}" for i in range(30)]
    drawing = lay_out(names, list(itertools.pairwise(names)))
    assert {x for x, _ in drawing.places.values()} == {0.0}
    assert drawing.layers == 30


def test_a_conversion_is_told_pass_by_pass() -> None:
    found = converters.explain(DIGITS)
    assert len(found.before.nodes) > len(found.graph.nodes)
    folded = [row for row in found.trace if row.pass_name == "fold_batch_normalization"]
    batch_normalizations = sum(node.operator == "batch_normalization" for node in found.before.nodes)
    assert len(folded) == batch_normalizations > 0
    assert "batch_norm" in found.passes["fold_batch_normalization"]
    outcome = {layer.path: layer.outcome for layer in found.layers}
    assert outcome["stem_bn"].startswith("in stem")
    assert encode(found.graph) == encode(converters.to_graph(DIGITS))


def test_the_onnx_file_holds_every_node_weight_and_shape(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = converters.to_graph(DIGITS)
    write_onnx(graph, tmp_path / "graph.onnx")
    found = onnx.load(tmp_path / "graph.onnx")
    onnx.checker.check_model(found)
    assert [(node.name, node.op_type, node.domain) for node in found.graph.node] == [
        (node.name, node.operator, "edgecnn") for node in graph.nodes
    ]
    values = {entry.name: numpy_helper.to_array(entry) for entry in found.graph.initializer}
    assert values.keys() == graph.constants.keys()
    for name, constant in graph.constants.items():
        np.testing.assert_array_equal(values[name], constant.array)
    shapes = {
        entry.name: tuple(d.dim_value or None for d in entry.type.tensor_type.shape.dim)
        for entry in found.graph.value_info
    }
    assert shapes == {node.output: graph.shape(node.output) for node in graph.nodes}
    strides = [a.ints for node in found.graph.node for a in node.attribute if a.name == "strides"]
    assert [list(s) for s in strides] == [
        list(n.attributes["strides"]) for n in graph.nodes if "strides" in n.attributes
    ]


def test_onnx_is_the_only_suffix_of_an_onnx_graph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.onnx"):
        write_onnx(mean_classifier(), tmp_path / "graph.pb")


def test_the_command_writes_page_and_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(convolution(), tmp_path)
    arguments = ["inspect", str(path), "--html", str(tmp_path / "p.html"), "--onnx", str(tmp_path / "g.onnx")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"written: {tmp_path / 'p.html'}",
        f"written: {tmp_path / 'g.onnx'}",
    ]
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_a_keras_file_is_inspected_without_leaving_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "digits.h5").write_bytes(DIGITS.read_bytes())
    assert main(["inspect", str(tmp_path / "digits.h5"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["nodes"][0]["operator"] == "conv"
    assert [path.name for path in tmp_path.iterdir()] == ["digits.h5"]


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
def test_the_page_works_in_a_browser(tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    (tmp_path / "digits.h5").write_bytes(DIGITS.read_bytes())
    assert main(["inspect", str(tmp_path / "digits.h5"), "--html", str(tmp_path / "p.html")]) == 0
    graph = converters.to_graph(DIGITS)
    with Browser() as browser:
        page = browser.open(tmp_path / "p.html", size, dark)
        assert (page.requests, page.complaints) == ([], [])
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.evaluate("document.querySelectorAll('.graph rect').length") == len(graph.nodes) + 2
        assert page.evaluate("document.querySelectorAll('.graph path').length") == len(boxes_and_lines(graph)[1])
        assert page.evaluate("document.querySelectorAll('.tile canvas').length") > 3
        assert "fold batch normalization" in page.evaluate("document.body.textContent")
        page.evaluate("document.querySelector('.graph g').dispatchEvent(new Event('click'))")
        assert graph.inputs[0].name in page.evaluate("document.querySelector('.detail').textContent")
        assert (page.requests, page.complaints) == ([], [])


def test_a_hostile_file_s_names_are_text_in_the_page(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\x1b[2J"
    graph = mean_classifier(name=evil)
    data = anatomy(graph, inspect(encode(graph)))
    from edgecnn.tools.page import render

    (tmp_path / "p.html").write_text(render("inspect", evil, data))
    with Browser() as browser:
        page = browser.open(tmp_path / "p.html")
        assert (page.requests, page.complaints) == ([], [])
        assert page.evaluate("document.querySelector('h1').textContent") == "<img src=x onerror=alert(1)>\\x1b[2J"
        assert page.evaluate("document.querySelectorAll('img').length") == 0
