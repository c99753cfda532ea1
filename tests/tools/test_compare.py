"""Two models layer by layer: where they part is where they were made to part."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import DESKTOP, PHONE, Browser
from edgecnn import converters
from edgecnn.cli import main
from edgecnn.errors import DataFileError, InputError
from edgecnn.format import write
from edgecnn.graph import Graph
from edgecnn.tools.compare import compare, pictures_of, save
from small_models import convolution, mean_classifier
from small_models import save as save_graph

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.h5"


def changed(graph: Graph, node: str, amount: float) -> Graph:
    """The graph with the weights of a node larger."""
    weights = graph.constants[next(n for n in graph.nodes if n.name == node).inputs[1]]
    values = weights.array + np.float32(amount)
    return replace(graph, constants={**graph.constants, weights.name: replace(weights, array=values)})


@pytest.fixture(scope="module")
def graph() -> Graph:
    return converters.to_graph(DIGITS)


@pytest.fixture
def pair(graph: Graph, tmp_path: Path) -> tuple[Path, Path, str]:
    """A model, the same with the weights of its fourth convolution changed, and that node's name."""
    name = [node.name for node in graph.nodes if "conv" in node.operator][3]
    write(graph, tmp_path / "a.ecnn")
    write(changed(graph, name, 0.5), tmp_path / "b.ecnn")
    return tmp_path / "a.ecnn", tmp_path / "b.ecnn", name


def test_two_equal_files_do_not_part(graph: Graph, tmp_path: Path) -> None:
    write(graph, tmp_path / "a.ecnn")
    found = compare(tmp_path / "a.ecnn", tmp_path / "a.ecnn")
    assert found.parting is None
    assert [row.node for row in found.layers] == [node.name for node in graph.nodes]
    assert {row.error for row in found.layers} == {0.0}
    assert "no layer differs" in str(found)


def test_two_files_part_where_one_was_changed(pair: tuple[Path, Path, str]) -> None:
    first, second, name = pair
    found = compare(first, second)
    assert found.parting is not None
    assert found.parting.node == name
    before = found.layers[: [row.node for row in found.layers].index(name)]
    assert {row.error for row in before} == {0.0}
    assert f"they part at {name}" in str(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_layers_are_found_behind_the_nodes_that_compute_them(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    write(graph, tmp_path / "digits.ecnn")
    found = compare(DIGITS, tmp_path / "digits.ecnn")
    layers = {row.node: row.layer for row in found.layers}
    assert layers["stem"] == "stem_relu"  # convolution, normalisation and activation are one node
    assert len(found.layers) >= len(graph.nodes) - 2
    assert max(row.error for row in found.layers) < 1e-4
    assert found.parting is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_wrong_weight_is_found_beside_keras(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    name = [node.name for node in graph.nodes if "conv" in node.operator][2]
    write(changed(graph, name, 0.5), tmp_path / "wrong.ecnn")
    found = compare(DIGITS, tmp_path / "wrong.ecnn")
    assert found.parting is not None
    assert found.parting.node == name


def test_a_damaged_original_is_told_as_such_and_not_as_missing(graph: Graph, tmp_path: Path) -> None:
    write(graph, tmp_path / "digits.ecnn")
    archive = tmp_path / "whole.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}" * 100)
    for content, words in (
        (b"", "is empty"),
        (b"\x93NUMPY\x01\x00v", r"no \.keras file: it starts with b'\\x93NUMPY"),
        (DIGITS.read_bytes(), r"no \.keras file: it is an HDF5 file"),
        (archive.read_bytes()[:-40], r"a damaged zip file \(File is not a zip file\); copy or save it again"),
    ):
        (tmp_path / "a.keras").write_bytes(content)
        with pytest.raises(DataFileError, match=rf"a\.keras: {words}"):
            compare(tmp_path / "a.keras", tmp_path / "digits.ecnn")


def test_errors_are_those_of_arithmetic(tmp_path: Path) -> None:
    graph = convolution(filters=8)
    ones = np.zeros((3, 3, 4, 8), np.float32)
    ones[1, 1, 0, :] = 1.0  # each filter gives the first channel, and 1 for the bias
    plain = replace(graph, constants={**graph.constants, "weights": replace(graph.constants["weights"], array=ones)})
    twice = ones.copy()
    twice[1, 1, 0, 3] = 2.0  # but for one
    write(plain, tmp_path / "a.ecnn")
    write(
        replace(plain, constants={**plain.constants, "weights": replace(plain.constants["weights"], array=twice)}),
        tmp_path / "b.ecnn",
    )
    np.save(tmp_path / "x.npy", np.full((1, 16, 16, 4), 3.0, np.float32))
    (row,) = compare(tmp_path / "a.ecnn", tmp_path / "b.ecnn", tmp_path / "x.npy").layers
    assert row.error == pytest.approx(3 / 4)  # 7 in place of 4
    assert row.mean == pytest.approx(np.sqrt(9 / 8) / 4)  # one of eight channels differs by 3


def test_pictures_are_of_the_channel_that_differs_most() -> None:
    a = np.zeros((2, 5, 6, 3), np.float32)
    b = a.copy()
    b[1, 2, 3, 2] = 4.0
    found = pictures_of(a, b)
    assert (found["image"], found["channel"], found["largest"]) == (1, 2, 4.0)
    assert (found["difference"]["height"], found["difference"]["width"]) == (5, 6)


def test_a_nan_parts(tmp_path: Path) -> None:
    graph = convolution()
    values = graph.constants["weights"].array.copy()
    values[:] = np.nan
    write(graph, tmp_path / "a.ecnn")
    write(
        replace(graph, constants={**graph.constants, "weights": replace(graph.constants["weights"], array=values)}),
        tmp_path / "b.ecnn",
    )
    found = compare(tmp_path / "a.ecnn", tmp_path / "b.ecnn")
    assert found.parting is not None
    assert found.parting.node == "conv"
    save(found, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["layers"][0]["error"] is None


def test_models_of_other_shapes_are_refused(tmp_path: Path) -> None:
    first, second = save_graph(mean_classifier(), tmp_path), save_graph(mean_classifier(size=5), tmp_path, "b.ecnn")
    with pytest.raises(InputError):
        compare(first, second)


def test_the_command_saves_and_says_where_they_part(
    pair: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, name = pair
    targets = [str(tmp_path / f"c{suffix}") for suffix in (".json", ".png", ".html")]
    saves = [word for target in targets for word in ("--save", target)]
    assert main(["compare", str(first), str(second), *saves, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["parting"], record["written"]) == (name, targets)
    assert json.loads(Path(targets[0]).read_text())["parting"] == name
    assert Path(targets[1]).read_bytes()[:4] == b"\x89PNG"
    assert main(["compare", str(first), str(second), "--no-layers"]) == 0
    assert "root mean square" not in capsys.readouterr().out
    for wrong in (["--tolerance", "0"], ["--save", targets[0]], ["--save", "c.txt"]):
        assert main(["compare", str(first), str(second), *wrong]) == 2


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
def test_the_page_works_in_a_browser(pair: tuple[Path, Path, str], tmp_path: Path, size: Any, dark: bool) -> None:
    first, second, name = pair
    found = compare(first, second)
    save(found, tmp_path / "c.html")
    with Browser() as browser:
        page = browser.open(tmp_path / "c.html", size, dark)
        assert (page.requests, page.complaints) == ([], [])
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.evaluate("document.querySelector('.figure .value').textContent") == name
        assert page.evaluate("document.querySelectorAll('svg rect').length") == len(found.layers)
        assert page.evaluate("document.querySelectorAll('canvas').length") == 3
        assert page.evaluate("document.querySelectorAll('tbody tr').length") == len(found.layers)
