"""What converts can be loaded: the graph is planned once at conversion. Errors of layer functions leave as ConversionError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn import converters
from edgecnn.converters import check_plan, convert
from edgecnn.converters.layers import LAYERS
from edgecnn.errors import ConversionError, GraphError
from graph_strategies import GraphBuilder

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def multiply(folder: Path, x: list[int], y: list[int]) -> Path:
    """A model that multiplies two inputs."""
    node = helper.make_node("Mul", ["x", "y"], ["z"], name="product")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", y))]
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", ports, [z]), opset_imports=[helper.make_opsetid("", 13)])
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2, 2, 2, 2, 2], [1, 1, 1, 2, 1, 1]), ([1, 3, 1, 2, 1, 3, 1, 2], [1, 1, 2, 1, 3, 1, 2, 1])]
)
def test_operands_that_take_turns_convert_and_load(x: list[int], y: list[int], tmp_path: Path) -> None:
    convert(multiply(tmp_path, x, y), tmp_path / "m.ecnn")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *x[1:]), np.float32), rng.standard_normal((2, *y[1:]), np.float32)
    np.testing.assert_array_equal(edgecnn.load(tmp_path / "m.ecnn")(a, b), a * b)


def test_a_rank_that_no_kernel_takes_is_refused_at_conversion(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="of rank 9; wanted at most 8"):
        convert(multiply(tmp_path, [1] + [2] * 8, [1] + [2] * 8), tmp_path / "m.ecnn")
    assert not (tmp_path / "m.ecnn").exists()


def test_what_cannot_be_planned_is_refused_at_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise GraphError("node 'product' has no kernel")

    monkeypatch.setattr(converters, "outline", fail)
    with pytest.raises(ConversionError, match=r"cannot be run: node 'product' has no kernel"):
        convert(multiply(tmp_path, [1, 3], [1, 3]), tmp_path / "m.ecnn")
    assert not (tmp_path / "m.ecnn").exists()


def test_open_sizes_are_tried_with_usual_ones() -> None:
    builder = GraphBuilder()
    builder.input("x", None, None, 3)
    fits = builder.add("max_pool", "x", pool_size=(2, 2), strides=(2, 2))
    assert check_plan(builder.graph(fits)) == ()
    large = builder.add("max_pool", "x", pool_size=(700, 700), strides=(1, 1))
    (note,) = check_plan(builder.graph(large))
    assert "no input of the usual sizes (224, " in note


@pytest.mark.parametrize("error", [RuntimeError, ZeroDivisionError, RecursionError, AssertionError])
def test_an_error_of_a_layer_function_names_the_layer(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(layer: Any, build: Any, inputs: Any) -> Any:
        raise error("what nobody thought of")

    monkeypatch.setitem(LAYERS, "onnx.Mul", failing)
    with pytest.raises(ConversionError, match=r"'product'.*what nobody thought of"):
        convert(multiply(tmp_path, [1, 3], [1, 3]), tmp_path / "m.ecnn")
