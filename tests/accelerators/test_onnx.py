"""Standard ONNX: every operator, executed by ONNX Runtime, against the reference; whole networks against our own runtime, and
on the way back through the converter."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecnn
import stored_networks
import tolerances
from edgecnn.accelerators import onnx as export
from edgecnn.accelerators.onnx import to_onnx, write_onnx
from edgecnn.accelerators.onnx_operators import EMITTERS, FUNCTIONS
from edgecnn.errors import ConversionError, InputError, MissingPackageError, ModelFileError
from edgecnn.graph import ACTIVATIONS, OPERATORS, Graph, reference
from examples import examples
from graph_strategies import GraphBuilder, Weights, cnn_graphs, conv, random_inputs
from operator_strategies import Case, cases
from small_models import dense_pair, mean_classifier, save

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def execute(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives for a model that onnx itself finds right."""
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
    return dict(zip(names, session.run(None, given), strict=True))


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_every_operator_and_every_activation_has_a_form() -> None:
    assert EMITTERS.keys() == OPERATORS.keys()
    assert FUNCTIONS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_onnx_runtime_agrees_with_the_meaning(operator: str, data: st.DataObject) -> None:
    check(data.draw(cases(operator)))


def check(case: Case) -> None:
    values = reference.run_all(case.graph, case.inputs)
    got = execute(to_onnx(case.graph), case.inputs)
    assert got.keys() == {port.name for port in case.graph.outputs}
    for port in case.graph.outputs:
        assert got[port.name].shape == values[port.tensor].shape
    allowed = tolerances.bound(case.graph, case.node, values)
    error = np.abs(got["result"] - values["result"])
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    assert (error <= allowed).all(), (
        f"{got['result'][worst]} at {worst}; wanted {values['result'][worst]} +- {allowed[worst]}"
    )


@pytest.mark.parametrize("function", sorted(ACTIVATIONS))
def test_every_activation_agrees_with_its_meaning(function: str) -> None:
    parameters: list[tuple[float, ...]] = [ACTIVATIONS[function].defaults]
    if function == "relu":
        parameters += [
            (0.0, 6.0, 0.0),
            (0.25, math.inf, 0.0),
            (0.25, 6.0, 0.0),
            (0.125, 3.0, 0.5),
            (0.0, math.inf, 1.0),
        ]
    x = np.linspace(-7, 7, 1401).astype(np.float32)[None]  # with -7, -6.99, ..., 0.5, 1, 3: where functions bend
    if function in ("log", "log1p", "sqrt", "rsqrt", "reciprocal"):
        x = np.abs(x) + np.float32(0.01)
    for given_parameters in parameters:
        b = GraphBuilder()
        b.add("activation", b.input("x", 1401), name="y", activation=function, activation_parameters=given_parameters)
        expected = reference.activate(function, given_parameters, x.astype(np.float64))
        found = execute(to_onnx(b.graph("y")), {"x": x})["y"]
        # exp(x) - 1 and log(1 + x) in float32: off by as much as the 1 is rounded.
        np.testing.assert_allclose(found, expected, rtol=4e-6, atol=4e-6, err_msg=f"{function} {given_parameters}")


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Within 2e-5 of the largest value of each output."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max() <= 2e-5 * max(1.0, np.abs(array).max()), name


@given(graph=cnn_graphs(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=examples(60), deadline=None)
def test_random_networks_agree_with_their_meaning_and_with_our_runtime(graph: Graph, seed: int) -> None:
    graph = outputs_of_their_own(graph)
    inputs = random_inputs(graph, seed)
    found = execute(to_onnx(graph), inputs)
    values = reference.run_all(graph, inputs)
    largest = max(1.0, *(float(np.abs(value).max()) for value in values.values()))
    ours = edgecnn.load(graph).run(inputs)
    for port in graph.outputs:
        assert np.abs(found[port.name] - values[port.tensor]).max() <= 2e-5 * largest
        assert np.abs(found[port.name] - ours[port.name]).max() <= 2e-5 * largest


def outputs_of_their_own(graph: Graph) -> Graph:
    """Outputs renamed: the strategy makes an input an output of the same name, which ONNX does not allow."""
    return replace(graph, outputs=tuple(replace(port, name=f"out {port.name}") for port in graph.outputs))


@given(graph=cnn_graphs(parts=6))
@settings(max_examples=examples(20), deadline=None)
def test_random_networks_come_back_through_the_converter(
    graph: Graph, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph = outputs_of_their_own(graph)
    inputs = random_inputs(graph, 0)
    folder = tmp_path_factory.mktemp("back")
    write_onnx(graph, folder / "model.onnx")
    edgecnn.convert(folder / "model.onnx", folder / "model.ecnn")
    back = edgecnn.load(folder / "model.ecnn").run(inputs)
    values = reference.run_all(graph, inputs)
    largest = max(1.0, *(float(np.abs(value).max()) for value in values.values()))
    for port in graph.outputs:
        assert np.abs(back[port.name] - values[port.tensor]).max() <= 2e-5 * largest


@pytest.mark.parametrize("name", stored_networks.names())
def test_networks_of_keras_answer_as_keras_did_and_come_back(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    source, ours, theirs, back = (tmp_path / f"model{suffix}" for suffix in (".h5", ".ecnn", ".onnx", ".back.ecnn"))
    stored_networks.write_h5(name, source)
    edgecnn.convert(source, ours)
    write_onnx(ours, theirs)
    model = edgecnn.load(ours)
    expected, x = stored_networks.answer(name), stored_networks.image(name)
    written = onnx.load(theirs)
    assert [value.name for value in written.graph.input] == [spec.name for spec in model.inputs]
    found = execute(written, {model.inputs[0].name: x})
    assert_close(found, {model.outputs[0].name: expected})
    edgecnn.convert(theirs, back)
    assert_close(edgecnn.load(back).run(x), {model.outputs[0].name: expected})


def mobilenet(tmp_path: Path) -> Graph:
    stored_networks.write_h5("mobilenet_v2", tmp_path / "model.h5")
    edgecnn.convert(tmp_path / "model.h5", tmp_path / "model.ecnn")
    return edgecnn.load(tmp_path / "model.ecnn").graph


def test_a_network_is_turned_at_its_ends_only(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    whole = mobilenet(tmp_path)
    assert kinds(to_onnx(whole))["Transpose"] == 1  # the mean over the image has no order to be turned back to
    last = max(index for index, node in enumerate(whole.nodes) if len(whole.shape(node.output)) == 4)
    nodes = whole.nodes[: last + 1]
    names = {name for node in nodes for name in (*node.inputs, *node.outputs)}
    features = replace(
        whole,
        nodes=nodes,
        outputs=(replace(whole.outputs[0], name="features", tensor=nodes[-1].output),),
        tensors={name: tensor for name, tensor in whole.tensors.items() if name in names},
        constants={name: constant for name, constant in whole.constants.items() if name in names},
    )
    features.check()
    assert kinds(to_onnx(features))["Transpose"] == 2


def test_attention_of_channels_is_not_turned() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = conv(b, w, b.input("x", 6, 5, 3), 8, 3)
    y = b.add("reshape", b.add("reduce_mean", x), shape=(1, 1, 8))
    y = conv(b, w, conv(b, w, y, 2, activation="relu"), 8, activation="sigmoid")
    b.add("reduce_max", b.add("multiply", x, y), name="y")
    graph = b.graph("y")
    model = to_onnx(graph)
    assert kinds(model)["Transpose"] == 1
    inputs = random_inputs(graph, 0)
    assert_close(execute(model, inputs), reference.run(graph, inputs))


def test_a_network_that_is_channels_first_is_not_turned_at_all() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = b.add("transpose", b.input("x", 3, 6, 5), permutation=(2, 3, 1))
    x = b.add("activation", conv(b, w, x, 4, 3), activation="tanh")
    b.add("transpose", x, name="y", permutation=(3, 1, 2))
    graph = b.graph("y")
    model = to_onnx(graph)
    assert kinds(model) == {"Conv": 1, "Tanh": 1}
    inputs = random_inputs(graph, 0)
    assert_close(execute(model, inputs), reference.run(graph, inputs))


def test_what_is_element_by_element_before_the_first_convolution_stays_channels_last() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = b.add("multiply", b.input("x", 6, 5, 3), np.array([1.0, 2.0, 3.0]))
    b.add("reduce_mean", conv(b, w, x, 4, 3), name="y")
    model = to_onnx(b.graph("y"))
    assert [node.op_type for node in model.graph.node] == ["Mul", "Transpose", "Conv", "ReduceMean"]


def test_any_batch_and_open_sizes() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = conv(b, w, b.input("x", None, None, 3), 4, 3, padding="same", strides=(2, 2))
    x = b.add("group_normalization", x, np.ones(4), np.zeros(4), groups=2)
    x = b.add("max_pool", x, pool_size=(3, 3), strides=(2, 2), padding="same")
    attributes = {
        "sizes": (0, 0),
        "scales": (2.0, 2.0),
        "method": "nearest",
        "coordinates": "half_pixel",
        "rounding": "round_prefer_ceil",
        "cubic_coefficient": -0.5,
        "antialias": 0,
        "exclude_outside": 0,
    }
    b.add("resize", x, name="y", **attributes)
    graph = b.graph("y")
    model = to_onnx(graph)
    (value,) = model.graph.input
    assert [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] == ["N", "x_1", "x_2", 3]
    for images, height, width in ((1, 8, 8), (3, 9, 14), (2, 7, 5)):
        inputs = {"x": np.random.default_rng(height).uniform(-1, 1, (images, height, width, 3))}
        assert_close(execute(model, inputs), reference.run(graph, inputs))


def test_usual_resizing_is_onnx_own() -> None:
    for method, coordinates, rounding in (
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "asymmetric", "floor"),
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
    ):
        b = GraphBuilder()
        attributes = {"method": method, "coordinates": coordinates, "rounding": rounding, "cubic_coefficient": -0.5}
        more = {"sizes": (8, 10), "scales": (1.0, 1.0), "antialias": 0, "exclude_outside": 0}
        b.add("resize", b.input("x", 4, 5, 3), name="y", **attributes, **more)
        graph = b.graph("y")
        assert kinds(to_onnx(graph)) == {"Transpose": 2, "Resize": 1}
        inputs = random_inputs(graph, 0)
        assert_close(execute(to_onnx(graph), inputs), reference.run(graph, inputs))


def test_weights_that_are_used_twice_are_stored_once() -> None:
    b = GraphBuilder()
    weights = b.constant("weights", Weights(0).normal(12, 12))
    b.add("dense", b.add("dense", b.input("x", 12), weights), weights, name="y")
    model = to_onnx(b.graph("y"))
    assert len(model.graph.initializer) == 1


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    write_onnx(save(dense_pair(), tmp_path), tmp_path / "pair.onnx")
    left, right = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    found = execute(onnx.load(tmp_path / "pair.onnx"), {"left": left, "right": right})
    assert {name: array.tolist() for name, array in found.items()} == {"sum": [[6] * 3] * 2, "double": [[2] * 3] * 2}


def test_an_output_may_be_an_input_or_have_two_names() -> None:
    b = GraphBuilder()
    b.add("activation", b.input("x", 3), name="y", activation="relu")
    graph = b.graph("y")
    ports = [
        replace(graph.outputs[0], name=name, tensor=tensor) for name, tensor in (("a", "y"), ("b", "y"), ("c", "x"))
    ]
    x = np.array([[-1.0, 0.0, 2.0]], np.float32)
    found = execute(to_onnx(replace(graph, outputs=tuple(ports))), {"x": x})
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [[0, 0, 2]],
        "b": [[0, 0, 2]],
        "c": x.tolist(),
    }


def test_metadata_come_along() -> None:
    metadata = {"labels": ["red", "green", "blue"], "preprocessing": {"scale": 0.5}}
    model = to_onnx(mean_classifier(metadata=metadata))
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == metadata


def test_all_nodes_without_a_form_are_named() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = b.input("x", None, None, 3)
    dilated = {"padding": "same", "strides": (2, 2), "dilations": (2, 2)}
    x = conv(b, w, x, 4, 3, name="first", **dilated)
    attributes = {"sizes": (5, 5), "scales": (1.0, 1.0), "method": "cubic", "coordinates": "half_pixel"}
    more = {"rounding": "floor", "cubic_coefficient": -0.5, "antialias": 0, "exclude_outside": 0}
    b.add("resize", b.add("activation", x, activation="relu"), name="second", **attributes, **more)
    with pytest.raises(
        ConversionError, match=r"(?s)2 nodes have no form in ONNX.*first \(conv\): .*second \(resize\): "
    ):
        to_onnx(b.graph("second"))


def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(mean_classifier(), tmp_path)
    with pytest.raises(InputError, match=r"saved as \.onnx"):
        write_onnx(source, tmp_path / "model.pb")
    with pytest.raises(ModelFileError, match="none"):
        write_onnx(tmp_path / "none.ecnn", tmp_path / "model.onnx")
    write_onnx(source, tmp_path / "model.onnx")
    first = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_onnx(source.read_bytes(), tmp_path / "model.onnx")
    write_onnx(source.read_bytes(), tmp_path / "model.onnx", overwrite=True)
    assert (tmp_path / "model.onnx").read_bytes() == first
    graph = mean_classifier()
    graph = replace(graph, outputs=(replace(graph.outputs[0], name="image"),))
    with pytest.raises(InputError, match="'image' is the name of an input and of an output"):
        to_onnx(graph)
    monkeypatch.setattr(export, "MOST_BYTES", 8)
    with pytest.raises(InputError, match="36 bytes of weights"):
        to_onnx(dense_pair())


def test_without_onnx_the_line_that_installs_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r'pip install "edgecnn\[onnx\]"'):
        to_onnx(mean_classifier())
