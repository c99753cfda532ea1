"""ONNX models: the onnx package's own backend tests and light models, and what is refused."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.backend.test import loader  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
OPERATORS = {name.removeprefix("onnx.") for name in LAYERS if name.startswith("onnx.")}
CONSTANT_ONLY = {"ConstantOfShape", "Range", "ReduceProd", "Mod"}
CONSTANT_ONLY |= {"Constant", "Shape", "Size"}

NOT_RUN = {
    # Words of a refusal -> why a case with it is not run.
    "batch": "works along the first axis, which to us is that of independent images",
    "images": "works along the first axis",
    "all axes": "works along the first axis too",
    "operands have shapes": "broadcasts tensors of different ranks, whose first axes would not meet",
    "a constant of shape": "adds a constant that has a row for each image",
    "applied to constants": "has no input but weights",
    "is a constant": "has no input but weights",
    "depends on no input": "has no input but weights",
    "not computed from any input": "has no input but weights",
    "has no input; all is constant": "has no input but weights",
    "is no tensor of a known rank": "takes sequences or scalars",
    "is a single number": "takes scalars",
    "casts to type": "works on numbers other than floats",
    "are computed": "computes weights, bounds or shapes from other inputs",
    "its output": "gives indices or statistics beside its result",
    "for training": "is for training",
    "the batch in front": "works along the first axis",
    "resize height and width": "resizes other axes than height and width",
    "tf_crop_and_resize": "crops by a computed region while it resizes",
    "where engines differ": "aligns corners by scales that give no whole size, which ONNX Runtime computes otherwise",
    "keeps the aspect ratio": "resizes to sizes that it computes",
    "operator is not supported": "is of an operator that no convolutional network uses",
    "which is not supported": "is of an operator that no convolutional network uses",
    "its windows are dilated": "averages over dilated windows",
    "as long as its windows": "pads by as much as its windows are long",
    "no matrix": "multiplies by a constant that is no matrix",
    "third operand": "adds a row for each image",
    "cannot be multiplied": "broadcasts matrices",
    "wanted rank": "multiplies vectors",
    "leaves nothing": "gives an empty tensor",
    "on constants and shapes only": "works on numbers other than floats",
    "pads by": "pads around",
    "gathers by": "gathers by many indices",
    "shrinks by": "shrinks by one number beyond another",
    "has rank": "has weights of more than three spatial axes",
    "float": "works on numbers other than floats",
}


def as_constants(model: Any, values: Sequence[np.ndarray], kept: Sequence[int]) -> tuple[Any, list[int]]:
    """The model with inputs made constants, but for some: test cases give weights as inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inits = {tensor.name for tensor in copy.graph.initializer}
    real = [value for value in copy.graph.input if value.name not in inits]
    for index, (value, array) in enumerate(zip(real, values, strict=False)):
        if index not in kept:
            copy.graph.input.remove(value)
            copy.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    return copy, list(kept)


def answers(model: Any, inputs: Sequence[np.ndarray], folder: Path) -> list[np.ndarray]:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = edgecnn.load(to_graph(path))
    assert len(loaded.inputs) == len(inputs)
    got = loaded(*inputs)
    # Ours have the batch in front; where the model has it, the file tells.
    axes = loaded.metadata.get("batch_axes", {})
    return [
        np.moveaxis(y, 0, axes.get(spec.name, 0))
        for y, spec in zip(got if isinstance(got, list) else [got], loaded.outputs, strict=True)
    ]


def run_case(model: Any, inputs: Sequence[Any], outputs: Sequence[Any], folder: Path, rtol: float, atol: float) -> str:
    """Runs a case with as few inputs as possible left as such; gives why it was not run, "" if it was."""
    arrays = [np.asarray(value) for value in inputs]
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f" and a.ndim]
    if not floats or any(not isinstance(v, np.ndarray) or v.dtype.kind != "f" for v in outputs):
        return NOT_RUN["float"]
    if any(np.abs(v[np.isfinite(v)]).max(initial=0.0) > np.finfo(np.float32).max for v in outputs):
        return "gives numbers that no float32 holds"
    reason = ""
    for kept in ([floats[0]], floats) if len(floats) > 1 else ([floats[0]],):
        changed, used = as_constants(model, arrays, kept)
        try:
            got = answers(changed, [arrays[i] for i in used], folder)
        except edgecnn.ConversionError as error:
            reason = reason or str(error)
            continue
        except edgecnn.InputError as error:
            reason = reason or f"the batch in front: {error}"
            continue
        for mine, wanted in zip(got, outputs, strict=True):
            assert mine.shape == wanted.shape
            scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
            np.testing.assert_allclose(
                mine, wanted, rtol=max(rtol, 1e-4), atol=max(atol, 1e-5 * max(1.0, float(scale)))
            )
        return ""
    known = [why for words, why in NOT_RUN.items() if words in reason]
    assert known, f"refused for a reason that is not on the list: {reason}"
    return known[0]


def node_cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in loader.load_model_tests(kind="node") if case.model is not None]
    chosen = []
    for case in cases:
        kinds = {node.op_type for node in case.model.graph.node}
        if kinds <= OPERATORS and not kinds <= CONSTANT_ONLY and "_expanded" not in case.name:
            chosen.append(case)
    return chosen


def test_the_node_cases_of_the_operators_that_we_have(tmp_path: Path) -> None:
    cases = node_cases()
    assert len(cases) > 300
    why: dict[str, list[str]] = {}
    for case in cases:
        for inputs, outputs in case.data_sets:
            try:
                reason = run_case(case.model, inputs, outputs, tmp_path, case.rtol, case.atol)
            except AssertionError as error:
                raise AssertionError(f"{case.name}: {error}") from error
            why.setdefault(reason, []).append(case.name)
    ran = why.pop("", [])
    print(f"{len(ran)} node cases ran")
    for reason, names in sorted(why.items()):
        print(f"not run, {len(names)}: each {reason}: {', '.join(names)}")
    assert len(ran) >= 240


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator", "simple"])
def test_the_cases_that_pytorch_wrote(kind: str, tmp_path: Path) -> None:
    why: dict[str, list[str]] = {}
    for case in loader.load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        kinds = {node.op_type for node in model.graph.node}
        if not kinds <= OPERATORS:
            why.setdefault(f"is of operators that we lack: {', '.join(sorted(kinds - OPERATORS))}", []).append(
                case.name
            )
            continue
        data = folder / "test_data_set_0"
        try:
            inputs, outputs = (
                [numpy_helper.to_array(onnx.load_tensor(path)) for path in sorted(data.glob(f"{what}_*.pb"))]
                for what in ("input", "output")
            )
        except Exception:  # sequences
            why.setdefault("takes sequences", []).append(case.name)
            continue
        try:
            reason = run_case(model, inputs, outputs, tmp_path, case.rtol, case.atol)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from error
        why.setdefault(reason, []).append(case.name)
    ran = why.pop("", [])
    print(f"{kind}: {len(ran)} ran")
    for reason, names in sorted(why.items()):
        print(f"not run, {len(names)}: each {reason}: {', '.join(names)}")
    assert len(ran) >= {"pytorch-converted": 55, "pytorch-operator": 8, "simple": 3}[kind]


LIGHT = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19", "zfnet512")  # fmt: skip


def randomised_light(name: str) -> Any:
    """A light model with random weights in place of its equal ones, which would hide every exchange of places."""
    model = onnx.load(DATA / "light" / f"light_{name}.onnx")
    rng = np.random.default_rng(4)
    shapes: dict[str, tuple[int, ...]] = {}
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    keep, made = [], []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in values:
            shape = tuple(int(v) for v in values[node.input[0]])
            shapes[node.output[0]] = shape
            made.append((node.output[0], shape))
        else:
            keep.append(node)
    roles = {}
    for node in keep:
        for position, value in enumerate(node.input):
            roles[value] = (node.op_type, position)
    for value, shape in made:
        kind, position = roles.get(value, ("", 0))
        fan_in = max(1, int(np.prod(shape[1:])))
        array = rng.normal(0, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.1, shape)
        if kind == "BatchNormalization" and position in (1, 4):
            array = rng.uniform(0.5, 1.5, shape)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), value))
    if keep[-1].op_type == "Softmax":  # onnx' reference takes every softmax for one of opset 13
        model.graph.output[0].name = keep.pop().input[0]
    del model.graph.node[:]
    model.graph.node.extend(keep)
    return model


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_answer_as_given(name: str, tmp_path: Path) -> None:
    path = DATA / "light" / f"light_{name}.onnx"
    wanted = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"light_{name}_output_0.pb")))
    graph = to_graph(path)
    count = int(np.prod(shape := (1, *graph.shape(graph.inputs[0].tensor)[1:])))
    x = (np.arange(count).reshape(shape) / count).astype(np.float32)  # as onnx' own runner makes it
    got = edgecnn.load(graph)(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    moves = [node for node in graph.nodes if node.operator == "transpose"]
    # That of the input; shufflenet shuffles channels besides, in each of its 16 units.
    assert len(moves) == (17 if name == "shufflenet" else 1)


# Not those with local response normalisation, which onnx 1.23's reference computes for the first channel only.
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_models_with_random_weights(name: str, tmp_path: Path) -> None:
    model = randomised_light(name)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)
    constant = {tensor.name for tensor in model.graph.initializer}
    modern = onnx.ModelProto()
    modern.CopyFrom(model)
    if name == "shufflenet":  # onnx' reference takes a batch normalisation before opset 14 for one in training
        modern.opset_import[0].version = 15
    feeds = {next(value.name for value in model.graph.input if value.name not in constant): x}
    (wanted,) = ReferenceEvaluator(modern).run(None, feeds)
    (got,) = answers(model, [x], tmp_path)
    assert np.abs(got - wanted).max() <= 2e-5 * np.abs(wanted).max()


def one_node(operator: str, inputs: dict[str, Sequence[int]], outputs: int = 1, **attributes: Any) -> Any:
    node = helper.make_node(operator, list(inputs), [f"y{i}" for i in range(outputs)], name="it", **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    ends = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    return helper.make_model(helper.make_graph([node], "g", values, ends), opset_imports=[helper.make_opsetid("", 17)])


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="fine"),
        helper.make_node("LSTM", ["a"], ["b"], name="first"),
        helper.make_node("Mine", ["a"], ["c"], name="second", domain="com.example"),
        helper.make_node("Add", ["b", "c"], ["y"], name="sum"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.UnsupportedLayerError) as caught:
        to_graph(tmp_path / "m.onnx")
    assert [(i.path, i.class_name) for i in caught.value.items] == [
        ("first", "onnx.LSTM"),
        ("second", "onnx.com.example.Mine"),
    ]


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "sub/secret.bin", "..", "missing.bin", "link.bin"]
)
def test_weights_elsewhere_are_not_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (folder / "sub").mkdir()
    (folder / "sub" / "secret.bin").write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = one_node("Mul", {"x": [1, 3], "w": [3]})
    model.graph.input.pop()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.ConversionError, match=r"safety|no such file"):
        to_graph(folder / "m.onnx")


def test_weights_in_a_pipe_beside_the_model_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.bin")
    model = one_node("Mul", {"x": [1, 3], "w": [3]})
    model.graph.input.pop()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.ConversionError, match=r"constant 'w': .*w\.bin: is a pipe; wanted a file of weights"):
        to_graph(tmp_path / "m.onnx")


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weights = np.arange(3, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(bytes(64) + weights.tobytes())
    model = one_node("Mul", {"x": [1, 3], "w": [3]})
    model.graph.input.pop()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "64", "length": "12"}.items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(edgecnn.load(to_graph(tmp_path / "m.onnx"))(np.ones((2, 3))), [weights, weights])
    (tmp_path / "w.bin").write_bytes(bytes(70))
    with pytest.raises(edgecnn.ConversionError, match="wanted 12 bytes"):
        to_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    data = (DATA / "light" / "light_squeezenet.onnx").read_bytes()
    path = tmp_path / "m.onnx"
    for _ in range(12):
        changed = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.integers(1, 8)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            graph = to_graph(path)
        except edgecnn.ConversionError:
            continue
        graph.check()


@pytest.mark.parametrize("place", ["NodeProto.output", "NodeProto.name", "GraphProto.name", "AttributeProto.name"])
def test_names_that_are_no_utf_8_are_refused(place: str, tmp_path: Path) -> None:
    parts = dict.fromkeys(("NodeProto.output", "NodeProto.name", "GraphProto.name", "AttributeProto.name"), "plain")
    parts[place] = "damaged"
    node = helper.make_node("LeakyRelu", ["x"], [parts["NodeProto.output"]], name=parts["NodeProto.name"])
    node.attribute.append(helper.make_attribute(parts["AttributeProto.name"], 0.5))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", node.output[0])]
    model = helper.make_model(helper.make_graph([node], parts["GraphProto.name"], ports[:1], ports[1:]))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(b"damaged", b"dam\xffged"))
    with pytest.raises(edgecnn.ConversionError, match=rf"{place} b'dam\\xffged' is no UTF-8"):
        edgecnn.convert(path, tmp_path / "model.ecnn")


def test_a_huge_constant_is_not_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in "xy")
    shape = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "s")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [shape]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.UnsupportedLayerError, match="2\\^28"):
        to_graph(tmp_path / "m.onnx")


def test_the_command_converts_it(tmp_path: Path) -> None:
    from edgecnn.cli import main

    target = tmp_path / "squeeze.ecnn"
    assert main(["convert", str(DATA / "light" / "light_squeezenet.onnx"), "-o", str(target)]) == 0
    assert edgecnn.load(target).outputs[0].shape == (None, 1000, 1, 1)
    assert os.path.getsize(target) > 1000


def model_of(
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
) -> Any:
    """A model of nodes, given as (operator, inputs, outputs, attributes), with inputs of shapes and constants by name."""
    made = [helper.make_node(kind, reads, gives, name=gives[0], **more) for kind, reads, gives, more in nodes]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    fixed = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    return helper.make_model(
        helper.make_graph(made, "g", values, ends, fixed), opset_imports=[helper.make_opsetid("", opset)]
    )


def assert_as_reference(model: Any, inputs: Sequence[np.ndarray], folder: Path, tolerance: float = 1e-5) -> None:
    feeds = {value.name: x for value, x in zip(model.graph.input, inputs, strict=True)}
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for mine, theirs in zip(answers(model, inputs, folder), wanted, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(theirs).max())))


RNG = np.random.default_rng(3)


@pytest.mark.parametrize(("images", "steps"), [(1, 5), (3, 8)])
def test_attention_turns_the_batch_away_for_a_while(images: int, steps: int, tmp_path: Path) -> None:
    """As PyTorch and Paddle export it: [N, T, 3, H, D] to [3, N, H, T, D], then one of the three after the other."""
    heads, depth, width = 2, 3, 6
    nodes: list[Any] = [
        ("MatMul", ["x", "w"], ["wide"], {}),
        ("Shape", ["wide"], ["shape"], {}),
        ("Slice", ["shape", "one", "two"], ["steps"], {}),
        ("Concat", ["zero", "steps", "rest"], ["target"], {"axis": 0}),
        ("Reshape", ["wide", "target"], ["cut"], {}),
        ("Transpose", ["cut"], ["turned"], {"perm": [2, 0, 3, 1, 4]}),
        ("Gather", ["turned", "q"], ["query"], {"axis": 0}),
        ("Slice", ["turned", "one", "two", "zero"], ["second"], {}),
        ("Squeeze", ["second", "zero"], ["key"], {}),
        ("Gather", ["turned", "v"], ["value"], {"axis": 0}),
        ("Transpose", ["key"], ["keys"], {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["query", "keys"], ["scores"], {}),
        ("Softmax", ["scores"], ["weights"], {"axis": -1}),
        ("MatMul", ["weights", "value"], ["mixed"], {}),
        ("Transpose", ["mixed"], ["back"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["back", "flat"], ["joined"], {}),
        ("Add", ["joined", "x"], ["y"], {}),
    ]
    constants = {
        "w": RNG.normal(size=(width, 3 * heads * depth)).astype(np.float32),
        **{name: np.array([value], np.int64) for name, value in (("zero", 0), ("one", 1), ("two", 2))},
        "rest": np.array([3, heads, depth], np.int64),
        "flat": np.array([0, -1, heads * depth], np.int64),
        "q": np.array(0, np.int64),
        "v": np.array(2, np.int64),
    }
    model = model_of(nodes, {"x": ["n", "t", width]}, ["y"], constants)
    assert_as_reference(model, [RNG.normal(size=(images, steps, width)).astype(np.float32)], tmp_path)


@pytest.mark.parametrize(
    "nodes",
    [
        [("MatMul", ["t", "w"], ["y"], {})],
        [("Softmax", ["t"], ["y"], {"axis": 0})],
        [("ReduceMean", ["t"], ["y"], {"axes": [0], "keepdims": 0})],
        [("ReduceMax", ["t"], ["y"], {"axes": [-1], "keepdims": 1})],
        [("Concat", ["t", "t"], ["y"], {"axis": 0})],
        [("Split", ["t"], ["a", "b"], {"axis": 0}), ("Sub", ["b", "a"], ["y"], {})],
        [("Unsqueeze", ["t", "front"], ["u"], {}), ("Relu", ["u"], ["y"], {})],
        [("Pad", ["t", "pads"], ["y"], {})],
        [("Tile", ["t", "twice"], ["y"], {})],
        [("LayerNormalization", ["t", "gamma"], ["y"], {"axis": -1})],
        [("Mul", ["t", "column"], ["u"], {}), ("Add", ["u", "t"], ["y"], {})],
        [("Slice", ["t", "ends", "start", "front", "ends"], ["y"], {})],
        [("Reshape", ["t", "halves"], ["y"], {})],
        [("Transpose", ["t"], ["b"], {"perm": [1, 0, 2]}), ("Flatten", ["b"], ["y"], {})],
    ],
    ids=lambda nodes: "-".join(node[0] for node in nodes),
)
def test_operators_follow_the_batch_to_another_axis(nodes: list[Any], tmp_path: Path) -> None:
    constants = {
        "w": RNG.normal(size=(4, 5)).astype(np.float32),
        "gamma": RNG.normal(size=4).astype(np.float32),
        "column": RNG.normal(size=(6, 1, 1)).astype(np.float32),
        "front": np.array([0], np.int64),
        "ends": np.array([-1], np.int64),
        "start": np.array([-(2**62)], np.int64),
        "pads": np.array([1, 0, 2, 0, 0, 1], np.int64),
        "twice": np.array([2, 1, 1], np.int64),
        "halves": np.array([2, 3, -1, 4], np.int64),
    }
    model = model_of([("Transpose", ["x"], ["t"], {"perm": [2, 0, 1]}), *nodes], {"x": ["n", 4, 6]}, ["y"], constants)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    assert_as_reference(model, [RNG.normal(size=(3, 4, 6)).astype(np.float32)], tmp_path)


def test_an_output_with_its_batch_elsewhere_is_given_with_the_batch_in_front(tmp_path: Path) -> None:
    model = model_of([("Transpose", ["x"], ["y"], {"perm": [1, 0, 2]})], {"x": ["n", 4, 6]}, ["y"])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    report = edgecnn.convert(tmp_path / "m.onnx")
    assert report.warnings == ("output 'y' has its batch at axis 1 in the model; the file has it in front",)
    loaded = edgecnn.load(tmp_path / "m.ecnn")
    assert loaded.outputs[0].shape == (None, 4, 6)
    assert loaded.metadata["batch_axes"] == {"y": 1}


def test_a_choice_lets_no_nan_of_the_other_branch_through(tmp_path: Path) -> None:
    """As TensorFlow's division without NaN is exported."""
    nodes = [
        ("Div", ["x", "d"], ["quotient"], {}),
        ("Equal", ["d", "zero"], ["none"], {}),
        ("Where", ["none", "zero", "quotient"], ["y"], {}),
    ]
    model = model_of(nodes, {"x": ["n", 7], "d": ["n", 7]}, ["y"], {"zero": np.zeros((), np.float32)})
    divisor = np.array([[0, 1, -2, 0, 4, np.inf, 0]], np.float32)
    assert_as_reference(model, [np.array([[0, 1, 2, 3, 4, 5, -6]], np.float32), divisor], tmp_path)


@pytest.mark.parametrize("name", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparisons_choose(name: str, tmp_path: Path) -> None:
    nodes = [
        (name, ["x", "z"], ["c"], {}),
        ("Not", ["c"], ["d"], {}),
        ("Where", ["c", "x", "three"], ["a"], {}),
        ("Where", ["d", "z", "three"], ["b"], {}),
        ("Or", ["c", "d"], ["e"], {}),
        ("And", ["c", "e"], ["f"], {}),
        ("Cast", ["f"], ["g"], {"to": TensorProto.FLOAT}),
        ("Sum", ["a", "b", "g"], ["y"], {}),
    ]
    model = model_of(nodes, {"x": ["n", 3, 5], "z": ["n", 3, 1]}, ["y"], {"three": np.full(1, 3, np.float32)})
    x, z = (np.round(RNG.uniform(-2, 2, shape)).astype(np.float32) for shape in ((2, 3, 5), (2, 3, 1)))
    assert_as_reference(model, [x, z], tmp_path)


def test_constants_that_are_made_for_each_image(tmp_path: Path) -> None:
    """A class token before the steps, and what a head masks its end with."""
    nodes: list[Any] = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "first"], ["n"], {"axis": 0}),
        ("Unsqueeze", ["n", "axis"], ["batch"], {}),
        ("Concat", ["batch", "tail"], ["wanted"], {"axis": 0}),
        ("Equal", ["wanted", "minus"], ["open"], {}),
        ("Where", ["open", "ones", "wanted"], ["target"], {}),
        ("Expand", ["token", "target"], ["tokens"], {}),
        ("ConstantOfShape", ["wanted"], ["zeros"], {"value": numpy_helper.from_array(np.ones(1, np.float32))}),
        ("Mul", ["zeros", "low"], ["mask"], {}),
        ("Concat", ["tokens", "x", "mask"], ["y"], {"axis": 1}),
    ]
    constants = {
        "first": np.array(0, np.int64),
        "axis": np.array([0], np.int64),
        "tail": np.array([1, 4], np.int64),
        "minus": np.array([-1, -1, -1], np.int64),
        "ones": np.ones(3, np.int64),
        "token": RNG.normal(size=(1, 1, 4)).astype(np.float32),
        "low": np.array(-1e9, np.float32),
    }
    model = model_of(nodes, {"x": ["n", "t", 4]}, ["y"], constants)
    assert_as_reference(model, [RNG.normal(size=(3, 6, 4)).astype(np.float32)], tmp_path)


def test_sizes_pass_through_floats_and_long_slices(tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("Slice", ["x", "begin", "far"], ["all"], {}),
        ("Shape", ["all"], ["shape"], {}),
        ("Cast", ["shape"], ["floats"], {"to": TensorProto.FLOAT}),
        ("Mul", ["floats", "scale"], ["scaled"], {}),
        ("Cast", ["scaled"], ["target"], {"to": TensorProto.INT64}),
        ("Reshape", ["all", "target"], ["y"], {}),
    ]
    constants = {
        "begin": np.zeros(3, np.int64),
        "far": np.full(3, 10**9, np.int64),
        "scale": np.array([1, 2, 0.5], np.float32),
    }
    model = model_of(nodes, {"x": ["n", 4, 6]}, ["y"], constants)
    assert_as_reference(model, [RNG.normal(size=(3, 4, 6)).astype(np.float32)], tmp_path)


def test_an_unknown_size_is_no_number_to_compute_with(tmp_path: Path) -> None:
    nodes: list[Any] = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "one"], ["size"], {"axis": 0}),
        ("Cast", ["size"], ["float"], {"to": TensorProto.FLOAT}),
        ("Div", ["x", "float"], ["y"], {}),
    ]
    constants = {"one": np.array(1, np.int64)}
    x = RNG.normal(size=(3, 4, 6)).astype(np.float32)
    assert_as_reference(model_of(nodes, {"x": ["n", 4, 6]}, ["y"], constants), [x], tmp_path)
    with pytest.raises(edgecnn.UnsupportedLayerError, match="known at the call only; fix the input's sizes"):
        answers(model_of(nodes, {"x": ["n", "t", 6]}, ["y"], constants), [x], tmp_path)


def test_what_is_no_convolutional_network_is_refused_by_name(tmp_path: Path) -> None:
    def graph(kind: str, name: str) -> Any:
        end = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(kind, ["x"], [name])], name, [], [end])

    nodes: list[Any] = [
        ("ConvInteger", ["x", "w"], ["quantised"], {}),
        ("LSTM", ["x", "w", "w"], ["recurrent"], {"hidden_size": 2}),
        ("If", ["x"], ["flow"], {"then_branch": graph("GRU", "a"), "else_branch": graph("Relu", "b")}),
        ("NonMaxSuppression", ["x", "x"], ["boxes"], {}),
        ("Gather", ["w", "x"], ["table"], {}),
        ("STFT", ["x", "rate"], ["spectrum"], {}),
        ("Sum", ["quantised", "recurrent", "flow", "boxes", "table", "spectrum"], ["y"], {}),
    ]
    model = model_of(nodes, {"x": [1, 3, 8], "rate": []}, ["y"], {"w": np.ones((2, 3, 3), np.float32)})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.UnsupportedLayerError) as caught:
        to_graph(tmp_path / "m.onnx")
    found = {item.path: f"{item.reason}; {item.hint}" for item in caught.value.items}
    words = {
        "rate": "a single number",
        "quantised": "8-bit integers; convert the model as it was before",
        "recurrent": "recurrent: ",
        "flow": "GRU among it, which is recurrent",
        "boxes": "onnx.utils.extract_model ends a model at the tensors that this one reads: 'x'",
        "table": "looks computed indices up in a table",
        "spectrum": "Fourier",
    }
    assert found.keys() == words.keys()
    for path, part in words.items():
        assert part in found[path]


def of_onnxruntime(model: Any, *inputs: np.ndarray) -> np.ndarray:
    """ONNX Runtime's answer, unoptimised."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    model.ir_version = 8
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(
        None, {value.name: x for value, x in zip(session.get_inputs(), inputs, strict=True)}
    )[0]
    return found


INF, NAN = np.inf, np.nan
SHRUNK = np.array([[-3, -0.5, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.5, 3, NAN, INF, -INF]], np.float32)
VECTORS = np.array([[0, 0, 0], [-2, 0, 0], [1, 2, 3], [NAN, 0, 0]], np.float32)
SUMMED = np.array([[INF, INF], [-INF, -INF], [NAN, INF], [-INF, 1], [INF, -INF], [100, -INF]], np.float32)


@pytest.mark.parametrize(
    ("node", "x", "opset"),
    [
        *((("Shrink", {"lambd": limit, "bias": bias}), SHRUNK, 9) for limit, bias in ((-0.2, -0.2), (-0.2, 0.3), (-0.2, 0.0), (0.3, 0.1), (0.2, 0.2), (0.2, 0.0), (0.0, 0.0))),
        *((("LpNormalization", {"p": p, "axis": -1}), VECTORS, opset) for p in (1, 2) for opset in (1, 22)),
        *((("ReduceLogSumExp", {"axes": [1], "keepdims": keep}), SUMMED, 13) for keep in (0, 1)),
    ],
)  # fmt: skip
def test_special_values(node: Any, x: np.ndarray, opset: int, tmp_path: Path) -> None:
    name, attributes = node
    model = model_of([(name, ["x"], ["y"], attributes)], {"x": ("N", x.shape[1])}, ["y"], opset=opset)
    np.testing.assert_allclose(answers(model, [x], tmp_path)[0], of_onnxruntime(model, x), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("condition", [False, True, [True], [[False, True, False]]])
def test_a_constant_condition_of_any_rank(condition: Any, tmp_path: Path) -> None:
    constants = {"condition": np.array(condition), "other": np.arange(3, dtype=np.float32)}
    model = model_of([("Where", ["condition", "x", "other"], ["y"], {})], {"x": ("N", 3)}, ["y"], constants)
    x = np.array([[1, NAN, INF], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(answers(model, [x], tmp_path)[0], np.where(condition, x, constants["other"]))


@pytest.mark.parametrize(
    ("node", "shape", "constants", "words"),
    [
        (("Squeeze", ["x"], ["y"], {}), (1, 3, 1), {}, "the batch of 1 too; name the axes"),
        (("Add", ["", "c"], ["y"], {}), ("N", 3), {"c": np.ones(3, np.float32)}, "1 inputs; Add of opset 17 wants 2"),
        (("Gemm", ["x", "", "c"], ["y"], {}), ("N", 3), {"c": np.ones(3, np.float32)}, "it has 2 inputs; Gemm"),
        (
            ("MaxPool", ["x"], ["y"], {"kernel_shape": [3], "dilations": [2], "auto_pad": "SAME_LOWER"}),
            ("N", 2, 7),
            {},
            "auto_pad sets its padding; give explicit pads",
        ),
    ],
)
def test_what_engines_understand_otherwise_is_refused(
    node: Any, shape: Sequence[Any], constants: dict[str, Any], words: str, tmp_path: Path
) -> None:
    onnx.save(model_of([node], {"x": shape}, ["y"], constants), tmp_path / "m.onnx")
    with pytest.raises(edgecnn.UnsupportedLayerError, match=words):
        edgecnn.convert(tmp_path / "m.onnx", tmp_path / "m.ecnn")
