"""Graphs survive the file; the file is what docs/format.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import independent_reader
from edgecnn import format as file_format
from edgecnn.errors import ConversionError, GraphError, InputError, ModelFileError
from edgecnn.graph import Constant, Graph, Node
from examples import examples
from file_graphs import ENCODINGS, assert_same, constant, graphs, rich_graph
from graph_strategies import GraphBuilder

GOLDEN = Path(__file__).parent / "golden"


@given(graphs(), st.booleans())
@settings(max_examples=examples(80), deadline=None)
def test_a_graph_comes_back_as_it_went(graph: Graph, compress: bool) -> None:
    data = file_format.encode(graph, compress=compress)
    assert_same(graph, file_format.read(data))


def test_nodes_that_repeat_each_other_come_back_as_they_went() -> None:
    """Equal attributes are read once; ever new ones, more than are remembered, each as they are."""
    builder = GraphBuilder()
    last = builder.input("x", 8, 8, 4)
    for slope in (0.5, 0.25, 0.5, *(1.0 / n for n in range(3, 40)), 0.5):
        last = builder.add("activation", last, activation="relu", activation_parameters=(slope, 6.0, 0.0))
    graph = builder.graph(last)
    found = file_format.read(file_format.encode(graph))
    assert_same(graph, found)
    assert found.nodes[0].attributes is found.nodes[2].attributes
    assert found.nodes[0].attributes is not found.nodes[1].attributes


@given(graphs(), st.booleans())
@settings(max_examples=examples(40), deadline=None)
def test_the_format_page_is_enough_to_read_a_file(graph: Graph, compress: bool) -> None:
    found = independent_reader.read(file_format.encode(graph, compress=compress))
    assert found["name"] == graph.name
    assert found["metadata"] == graph.metadata
    assert found["tensors"] == {name: list(tensor.shape) for name, tensor in graph.tensors.items()}
    assert found["inputs"] == ("dict", [(port.name, port.tensor) for port in graph.inputs])
    assert found["outputs"] == ("dict", [(port.name, port.tensor) for port in graph.outputs])
    for node, other in zip(graph.nodes, found["nodes"], strict=True):
        assert other["operator"] == node.operator
        assert other["name"] == node.name
        assert tuple(other["inputs"]) == node.inputs
        assert tuple(other["outputs"]) == node.outputs
        assert tuple(other["layers"]) == node.layers
        assert {k: tuple(v) if isinstance(v, list) else v for k, v in other["attributes"].items()} == node.attributes
    for name, stored in graph.constants.items():
        values, scales, zero_points, axis = found["constants"][name]
        assert values.tobytes() == stored.array.tobytes()
        if stored.quantization is not None:
            np.testing.assert_array_equal(scales, stored.quantization.scales)
            np.testing.assert_array_equal(zero_points, stored.quantization.zero_points)
            assert axis == stored.quantization.axis


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_golden_files_are_read_and_written_byte_for_byte(encoding: str) -> None:
    golden = GOLDEN / f"{encoding}.ecnn"
    graph = rich_graph(7, encoding)
    assert_same(graph, file_format.read(golden))
    assert file_format.encode(graph) == golden.read_bytes()


@given(
    st.sampled_from(["sparse_float32", "sparse_float16"]),
    st.lists(st.integers(1, 400), min_size=1, max_size=2),
    st.sampled_from([0.0, 0.001, 0.01, 0.2, 1.0]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=examples(100), deadline=None)
def test_sparse_values_come_back_at_every_density(encoding: str, shape: list[int], density: float, seed: int) -> None:
    stored = constant("w", tuple(shape), encoding, np.random.default_rng(seed), density)
    tag, raw, data = file_format.encodings.encode(stored, False)
    again = file_format.encodings.decode(tag, raw, data, stored.shape, AssertionError)
    assert again.tobytes() == stored.array.tobytes()


@pytest.mark.parametrize("spread", [1, 40], ids=["bitmask", "gaps"])
def test_every_float16_that_is_not_zero_comes_back_among_zeros(spread: int) -> None:
    halves = np.arange(1, 2**16, dtype=np.uint16).view(np.float16)
    values = np.zeros(spread * len(halves), np.float32)
    with np.errstate(invalid="ignore"):  # some CPUs complain of signalling NaNs
        values[::spread] = halves
        tag, raw, data = file_format.encodings.encode(Constant("w", values, "sparse_float16"), False)
    assert tag == (file_format.encodings.BITMASK16 if spread == 1 else file_format.encodings.GAPS16)
    again = file_format.encodings.decode(tag, raw, data, values.shape, AssertionError)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(again[numbers].view(np.uint32), values[numbers].view(np.uint32))
    assert np.isnan(again[~numbers]).all()


def test_sparse_weights_make_a_smaller_file() -> None:
    rng = np.random.default_rng(0)
    dense = 4 * 100 * 1000
    for density, most in ((0.2, 0.235), (0.1, 0.135), (0.01, 0.0215)):
        stored = constant("w", (100, 1000), "sparse_float32", rng, density)
        _, _, data = file_format.encodings.encode(stored, False)
        assert len(data) < most * dense


def test_every_float32_survives_bit_for_bit() -> None:
    bits = np.array([0, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0x3F800000], np.uint32)
    for encoding in ("float32", "sparse_float32"):
        stored = Constant("w", bits.view(np.float32).copy(), encoding)
        tag, raw, data = file_format.encodings.encode(stored, False)
        again = file_format.encodings.decode(tag, raw, data, (8,), AssertionError)
        assert again.tobytes() == bits.tobytes()


def test_a_value_beyond_float16_is_refused_by_name() -> None:
    graph = rich_graph()
    big = Constant("w", graph.constants["w"].array * np.float32(1e6), "float16")
    with pytest.raises(ConversionError, match=r"'w'.*65504"):
        file_format.encode(replace(graph, constants={**graph.constants, "w": big}))


def test_dense_weights_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    file_format.write(rich_graph(channels=40), path)
    weights = file_format.read(path).constants["w"].array
    assert not weights.flags.owndata
    assert not weights.flags.writeable
    assert weights.ctypes.data % 64 == 0


def test_a_mapped_file_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    file_format.write(rich_graph(1, channels=40), path)
    graph = file_format.read(path)
    file_format.write(rich_graph(2, channels=40), path, overwrite=True)
    assert_same(graph, rich_graph(1, channels=40))


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_the_same_graph_gives_the_same_bytes_in_every_process(seed: str) -> None:
    code = (
        "import sys, zlib; sys.path.insert(0, sys.argv[1]); from file_graphs import rich_graph; "
        "from edgecnn.format import encode; print(zlib.crc32(encode(rich_graph(3))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    arguments = [sys.executable, "-P", "-c", code, str(Path(__file__).parents[1])]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    import zlib

    assert int(done.stdout) == zlib.crc32(file_format.encode(rich_graph(3)))


def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        file_format.write(rich_graph(), path)
    assert path.read_bytes() == b"precious"
    assert file_format.write(rich_graph(), path, overwrite=True) == path.stat().st_size


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
def test_a_failed_write_loses_nothing_and_leaves_nothing(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "model.ecnn"
    path.write_bytes(b"precious")
    monkeypatch.setattr(broken, fail)
    with pytest.raises(ModelFileError, match="No space left"):
        file_format.write(rich_graph(), path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["model.ecnn"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be written"):
        file_format.write(rich_graph(), tmp_path / "nowhere" / "model.ecnn")


def test_a_graph_that_breaks_a_rule_is_not_written(tmp_path: Path) -> None:
    graph = rich_graph()
    wrong = replace(graph, nodes=(*graph.nodes, Node("nonsense", "n", ("y",), ("z",))))
    with pytest.raises(GraphError):
        file_format.write(wrong, tmp_path / "model.ecnn")
    assert not list(tmp_path.iterdir())


def test_metadata_that_json_cannot_hold_is_refused() -> None:
    for value in (float("nan"), {1, 2}, b"bytes"):
        with pytest.raises(InputError, match="metadata"):
            file_format.encode(replace(rich_graph(), metadata={"x": value}))


def test_a_file_is_described_by_sections_and_encodings() -> None:
    info = file_format.describe(file_format.encode(rich_graph(0, "sparse_float32"), compress=True))
    assert info.version == file_format.VERSION
    assert [section.name for section in info.sections] == ["graph", "constants", "weights", "metadata"]
    weights = info.constants[0]
    assert (weights.name, weights.shape, weights.dense_bytes) == ("w", (3, 3, 3, 4), 432)
    assert weights.encoding.startswith("sparse_float32")
    assert 0.4 < weights.sparsity < 0.95
