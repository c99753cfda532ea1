"""What an operator of ONNX means in each opset: ONNX Runtime's answers, or a refusal that names what is not converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS
from edgecnn.converters.layers.onnx_node import NEUTRAL, NEWEST, Call, default_of, schema_of
from edgecnn.converters.layers.registry import Layer, Unsupported
from edgecnn.graph.interpolation import interpolation_table
from examples import examples

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, defs, helper, numpy_helper  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

OPERATORS = sorted(name.removeprefix("onnx.") for name in LAYERS if name.startswith("onnx.") and name.count(".") == 1)
IMAGE = (2, 4, 6, 6)

Values = dict[str, Any]
EXAMPLES: dict[str, list[Values]] = {
    # For each operator what is given besides x: attributes, or, in opsets that want them so, constant inputs. Shapes of
    # weights are tuples under the inputs' names.
    **{
        name: [{}]
        for name in ("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "Neg", "Relu", "Round")
    },
    **{
        name: [{}]
        for name in ("Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "Identity", "LeakyRelu")
    },
    **{name: [{}] for name in ("HardSwish", "Mish", "Swish", "Gelu", "Celu", "ThresholdedRelu")},
    **{name: [{}] for name in ("GlobalAveragePool", "GlobalMaxPool", "Dropout", "LpNormalization")},
    **{name: [{"B": (4, 1, 1)}, {"B": (6,)}] for name in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater")},
    **{name: [{"B": (4, 1, 1)}] for name in ("LessOrEqual", "GreaterOrEqual")},
    **{name: [{"axis": 1}, {"axis": -1}, {"axis": 2}, {}] for name in ("Softmax", "LogSoftmax")},
    **{
        name: [{"axes": [2, 3]}, {"axes": [-1], "keepdims": 0}, {"axes": [1]}]
        for name in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    },
    "Elu": [{"alpha": 0.5}, {}],
    "HardSigmoid": [{"alpha": 0.3, "beta": 0.4}, {}],
    "Selu": [{"alpha": 1.5, "gamma": 1.1}, {}],
    "Clip": [{"min": -0.5, "max": 0.5}, {"min": 0.0}, {}],
    "PRelu": [{"slope": (4, 1, 1)}, {"slope": (1,)}],
    "Transpose": [{"perm": [0, 2, 3, 1]}],
    "Flatten": [{"axis": 1}, {"axis": -3}, {}],
    "Reshape": [{"shape": [0, 24, 6]}, {"shape": [0, -1]}, {"shape": [-1, 4, 36]}],
    "Squeeze": [{"axes": [2]}],
    "Unsqueeze": [{"axes": [1]}, {"axes": [-1, 2]}],
    "Slice": [{"starts": [1, -3], "ends": [4, 100], "axes": [2, 3]}, {"starts": [1], "ends": [-1], "axes": [-1]}],
    "Split": [{"axis": 1, "split": [1, 3]}, {"axis": 1}, {"axis": 1, "num_outputs": 2}],
    "Gather": [{"axis": 1, "indices": [2, 0]}, {"axis": -1, "indices": [-1]}],
    "Tile": [{"repeats": [1, 2, 1, 2]}],
    "Pad": [{"pads": [0, 0, 1, 2, 0, 0, 3, 1]}, {"pads": [0, 0, 1, 2, 0, 0, 3, 1], "mode": "reflect"}],
    "Concat": [{"axis": 1, "x1": (1, 2, 6, 6)}] * 0 + [{"axis": 1}],
    "DepthToSpace": [{"blocksize": 2}, {"blocksize": 2, "mode": "CRD"}],
    "SpaceToDepth": [{"blocksize": 2}],
    "Conv": [
        {"W": (5, 4, 3, 3)},
        {"W": (6, 2, 3, 3), "B": (6,), "group": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"W": (5, 4, 3, 2), "dilations": [1, 2], "auto_pad": "SAME_LOWER", "kernel_shape": [3, 2]},
        {"W": (4, 1, 3, 3), "group": 4, "pads": [1, 0, 2, 1]},
        {"W": (5, 4, 3, 3), "auto_pad": "VALID"},
    ],
    "ConvTranspose": [
        {"W": (4, 5, 3, 3)},
        {"W": (4, 5, 3, 3), "strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
        {"W": (4, 5, 2, 3), "strides": [3, 2], "auto_pad": "SAME_UPPER"},
        {"W": (4, 5, 2, 3), "strides": [3, 2], "auto_pad": "SAME_LOWER"},
        {"W": (4, 5, 3, 3), "strides": [2, 2], "output_shape": [12, 12]},
        {"W": (4, 5, 3, 3), "strides": [2, 2], "output_shape": [14, 13]},
        {"W": (4, 3, 3, 3), "group": 2, "dilations": [2, 1]},
    ],
    "MaxPool": [
        {"kernel_shape": [3, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 0, 0]},
        {"kernel_shape": [2, 2], "dilations": [2, 1], "storage_order": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ],
    "AveragePool": [
        {"kernel_shape": [3, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 0, 1], "count_include_pad": 1},
        {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 0, 0]},
        {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 0, 0], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER", "count_include_pad": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
    ],
    "BatchNormalization": [
        dict.fromkeys(("scale", "B", "mean", "var", "input_mean", "input_var"), (4,)) | {"epsilon": 0.1},
        dict.fromkeys(("scale", "B", "mean", "var", "input_mean", "input_var"), (4,)) | {"momentum": 0.1},
    ],
    "InstanceNormalization": [{"scale": (4,), "B": (4,), "epsilon": 0.01}],
    "LayerNormalization": [{"Scale": (6,), "B": (6,)}, {"Scale": (6, 6), "axis": 2, "epsilon": 0.1}],
    "GroupNormalization": [{"scale": (4,), "bias": (4,), "num_groups": 2}],
    "LRN": [{"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}, {"size": 2}],
    "Resize": [
        {"scales": [1, 1, 2, 3]},
        {"scales": [1, 1, 2, 3], "mode": "linear"},
        {"scales": [1, 1, 0.5, 0.7]},
        {"scales": [1, 1, 0.6, 0.34], "mode": "linear"},
    ],
    "Upsample": [{"scales": [1, 1, 2, 3]}, {"scales": [1, 1, 2, 1.5], "mode": "linear"}],
    "Shrink": [{"bias": 0.0, "lambd": 0.3}, {"bias": 0.3, "lambd": 0.3}],
    "MatMul": [{"B": (6, 5)}],
    "Expand": [{"shape": [1, 4, 6, 6]}],
    "ReduceLogSum": [{"axes": [1]}],
    "ReduceLogSumExp": [{"axes": [1]}, {"axes": [2, 3], "keepdims": 0}],
    **{name: [{}] for name in ("Sinh", "Cosh", "Tan")},
    "Sqrt": [{}],
    "Log": [{}],
    "Reciprocal": [{}],
    "Pow": [{"Y": (1,)}],
}
POSITIVE = ("Sqrt", "Log", "Reciprocal", "Pow", "ReduceLogSum")


def model_of(name: str, opset: int, values: Values, shape: tuple[int, ...] = IMAGE, outputs: int | None = None) -> Any:
    """A model of one node. None where the opset's operator has no place for one of the values."""
    schema = defs.get_schema(name, opset)
    rng = np.random.default_rng(7)
    attributes, names, initializers = {}, [], []
    for index, row in enumerate(schema.inputs):
        if index == 0:
            names.append("x")
        elif row.name in values:
            given = values[row.name]
            if isinstance(given, tuple):
                array = rng.uniform(0.1, 1, given).astype(np.float32)
            elif row.name in ("scales", "min", "max", "constant_value"):
                array = np.asarray(given, np.float32)
            else:
                array = np.asarray(given, np.int64)
            initializers.append(numpy_helper.from_array(array, row.name))
            names.append(row.name)
        else:
            names.append("")
    for key, given in values.items():
        if key in schema.attributes:
            attributes[key] = given
        elif key not in names and not isinstance(given, tuple):
            return None
    while names and not names[-1]:
        names.pop()
    if outputs is None:
        outputs = 2 if name == "Split" else 1
    node = helper.make_node(name, names, [f"y{i}" for i in range(outputs)], name="it", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_value_info(f"y{i}", helper.make_tensor_type_proto(0, None)) for i in range(outputs)]
    for end in ends:
        kind = (
            TensorProto.BOOL
            if name in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
            else TensorProto.FLOAT
        )
        end.type.tensor_type.elem_type = kind
    graph = helper.make_graph([node], "g", [x], ends, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def oracle(model: Any, x: np.ndarray) -> list[np.ndarray] | None:
    """ONNX Runtime's answers, None where it does not run the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(y) for y in session.run(None, {"x": x})]
    except Exception:  # what it raises has no common class
        return None


def answer(path: Path, x: np.ndarray) -> Any:
    """Our answers, None where the model is refused for what is known to be refused."""
    try:
        return edgecnn.load(to_graph(path))(x)
    except edgecnn.UnsupportedLayerError as error:
        if not any(
            words in str(error)
            for words in (
                "dilated",
                "shorter than strides",
                "as long as its windows",
                "hangs on rounding",
                "engines differ",
            )
        ):
            raise
        return None


def opsets_of(name: str) -> list[int]:
    """The opsets from 7 on in which an operator got a meaning."""
    versions = {s.since_version for s in defs.get_all_schemas_with_history() if s.name == name and not s.domain}
    return sorted({max(7, version) for version in versions if not defs.get_schema(name, max(7, version)).deprecated})


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_each_opset_answers_as_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ran = 0
    for opset in opsets_of(name):
        for values in EXAMPLES[name]:
            shape = (2, 4, 1, 6) if name == "Squeeze" else IMAGE
            model = model_of(name, opset, values, shape)
            x = rng.uniform(0.1 if name in POSITIVE else -2, 2, shape).astype(np.float32)
            wanted = None if model is None else oracle(model, x)
            if wanted is None:
                continue
            (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
            got = answer(tmp_path / "m.onnx", x)
            if got is None:
                continue
            ran += 1
            for mine, theirs in zip(got if isinstance(got, list) else [got], wanted, strict=True):
                np.testing.assert_allclose(mine, theirs, 2e-5, 2e-5, err_msg=f"opset {opset}, {values}")
    assert ran or name in ("Gelu", "Swish"), "nothing ran"


def test_every_operator_has_an_example() -> None:
    without = {
        "And",
        "Or",
        "Xor",
        "Not",
        "IsNaN",
        "Where",
        "Cast",
        "Sum",
        "Mean",
        "Max",
        "Min",
        "Gemm",
        "Shape",
        "Size",
    }
    without |= {"Constant", "ConstantOfShape", "Range", "ReduceProd", "Mod", "MeanVarianceNormalization"}
    assert set(OPERATORS) == EXAMPLES.keys() | without


# What nobody reads ----------------------------------------------------------------------------------------------------


def versions() -> list[tuple[str, int]]:
    rows = [s for s in defs.get_all_schemas_with_history() if s.name in OPERATORS and not s.domain and not s.deprecated]
    return sorted({(s.name, s.since_version) for s in rows if s.since_version <= NEWEST})


def a_value(row: Any) -> Any:
    """A value of an attribute that is not its default."""
    kinds = {1: 0.123, 2: 7, 3: "mine", 4: np.ones(1, np.float32), 6: [0.5], 7: [5, 6], 8: ["mine"]}
    return kinds.get(int(row.type.value))


@pytest.mark.parametrize(("name", "since"), versions())
def test_an_attribute_that_nobody_reads_is_refused_or_listed(name: str, since: int) -> None:
    schema = schema_of(name, since)
    for attribute, row in schema.attributes.items():
        value = a_value(row)
        if value is None:
            continue
        required = {key: a_value(r) for key, r in schema.attributes.items() if r.required and key != attribute}
        given = {**required, attribute: value}
        config = {
            "attributes": given,
            "kinds": {key: int(schema.attributes[key].type.value) for key in given},
            "opset": since,
            "outputs": 1,
            "named": (0,),
            "wanted": {},
            "batches": (),
        }
        arguments = tuple(np.ones(1, np.float32) for _ in range(schema.min_input))
        call = Call(Layer("it", f"onnx.{name}", config, (0, 0), lambda names: [], arguments))
        call.inputs  # noqa: B018  (marks them as read)
        for key in schema.attributes:
            if key != attribute:
                call.get(key)
        listed = NEUTRAL.get((name, attribute), NEUTRAL.get(("", attribute)))
        if listed is not None and listed(value):
            call.check_read(1)
        else:
            with pytest.raises(Unsupported, match=f"its attribute {attribute} is"):
                call.check_read(1)
        call.get(attribute)
        call.check_read(1)
        default = default_of(schema, attribute)
        assert default is None or call.get(attribute) == pytest.approx(value) or not isinstance(value, float)


# Resize ---------------------------------------------------------------------------------------------------------------


@st.composite
def resizes(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, int], dict[str, Any]]:
    """Attributes, an image's height and width, and scales or sizes."""
    mode = draw(st.sampled_from(["nearest", "nearest", "linear", "cubic"]))
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": draw(
            st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"])
        ),
    }
    if mode == "nearest":
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes["nearest_mode"] = draw(st.sampled_from(rounding))
        if draw(st.integers(0, 5)) == 0:
            attributes |= {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    if draw(st.booleans()):
        return attributes, shape, {"sizes": [draw(st.integers(1, 60)), draw(st.integers(1, 60))]}
    scale = st.one_of(
        st.sampled_from([1 / 3, 0.6, 0.1, 0.7, 2.0, 1.5, 0.5, 3.3, 2 / 3, 1.0]),
        st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda pair: pair[0] / pair[1]),
    )
    least = [1.0 / size + 1e-6 for size in shape]
    return attributes, shape, {"scales": [max(draw(scale), low) for low in least]}


def resize_model(opset: int, attributes: dict[str, Any], shape: tuple[int, int], target: dict[str, Any]) -> Any:
    sized = "sizes" in target
    values = [1, 1, *target["sizes"]] if sized else [1.0, 1.0, *target["scales"]]
    array = np.asarray(values, np.int64 if sized else np.float32)
    names = ["x", "target"] if opset < 11 else ["x", "", "", "target"] if sized else ["x", "", "target"]
    node = helper.make_node("Resize" if opset > 9 else "Upsample", names, ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, *shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(array, "target")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def check_resize(
    opset: int, attributes: dict[str, Any], shape: tuple[int, int], target: dict[str, Any], folder: Path
) -> None:
    model = resize_model(opset, attributes, shape, target)
    x = np.random.default_rng(0).permutation(shape[0] * shape[1]).astype(np.float32).reshape(1, 1, *shape)
    wanted = oracle(model, x)
    if wanted is None:
        return
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    got = answer(folder / "m.onnx", x)
    if got is None:
        return
    if attributes["mode"] == "nearest":
        np.testing.assert_array_equal(got, wanted[0])
    else:
        np.testing.assert_allclose(got, wanted[0], rtol=1e-5, atol=1e-5 * x.size)


def of_onnxruntime(model: Any, x: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_nearest_pixel_is_onnx_runtime_s(coordinates: str, rounding: str, scaled: bool) -> None:
    """Of all sizes up to 40: of 7 pixels made 8, asymmetric, ONNX Runtime takes the fourth for 3.4999998."""
    if scaled:
        cases = [(n, n * np.float32(s), s) for n in range(1, 41) for s in (1.2, 0.3, 2.5, 1.5, 0.75, 1 / 3, 0.7, 1.1)]
        cases = [(n, int(size), s) for n, size, s in cases if int(size) not in (0, n)]
        cases = cases if coordinates != "align_corners" else []  # which is refused where a size is not whole
    else:
        cases = [(n, size, size / n) for n in range(1, 41) for size in range(1, 41)]
    attributes = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    table = {"method": "nearest", "coordinates": coordinates, "rounding": rounding, "cubic_coefficient": 0.0}
    for rows, columns in zip(cases[::2], cases[1::2], strict=False):
        x = np.arange(rows[0] * columns[0], dtype=np.float32).reshape(1, 1, rows[0], columns[0])
        target = {"scales": [rows[2], columns[2]]} if scaled else {"sizes": [rows[1], columns[1]]}
        wanted = of_onnxruntime(resize_model(19, attributes, x.shape[2:], target), x)
        places = [
            interpolation_table(*case, **table, exclude_outside=False, antialias=False)[0][:, 0]  # type: ignore[arg-type]
            for case in (rows, columns)
        ]
        np.testing.assert_array_equal(x[0, 0][np.ix_(*places)], wanted[0, 0], err_msg=f"{rows} {columns}")


@pytest.mark.parametrize("scales", [(1.2, 1.2), (2.0, 1.2), (1.2, 0.5), (1.2, 1.0), (1.0, 1.2)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
def test_sizes_that_stay_whatever_the_scale(
    scales: tuple[float, float], mode: str, antialias: int, rank: int, folder: Path
) -> None:
    """4 and 3 pixels by 1.2: ONNX Runtime copies what keeps all its sizes, and with antialias along each that stays."""
    if antialias and mode == "nearest":
        return
    if rank == 3 and mode == "cubic":
        return
    x = np.random.default_rng(0).normal(size=(1, 1, 4, 3)).astype(np.float32)
    attributes = {"mode": mode, "antialias": antialias}
    model = resize_model(19, attributes, (4, 3), {"scales": scales})
    if rank == 3:
        x = x[:, :, 0]
        model.graph.input[0].type.tensor_type.shape.dim.pop()
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 3
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1, 1, scales[1]], np.float32), "target"))
    wanted = of_onnxruntime(model, x)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    np.testing.assert_allclose(answer(folder / "m.onnx", x), wanted, rtol=1e-5, atol=1e-5)


def test_scales_of_unknown_sizes_that_may_stay_are_refused(folder: Path) -> None:
    model = resize_model(19, {"mode": "linear"}, (4, 3), {"scales": (1.2, 1.0)})
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_param = "n"
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(edgecnn.UnsupportedLayerError, match="sizes that are not known"):
        edgecnn.convert(folder / "m.onnx", folder / "m.ecnn", overwrite=True)


@given(resizes())
@settings(max_examples=examples(400), deadline=None)
def test_resize_takes_the_pixels_that_onnx_runtime_takes(
    folder: Path, case: tuple[dict[str, Any], tuple[int, int], dict[str, Any]]
) -> None:
    attributes, *rest = case
    check_resize(
        11 if attributes["coordinate_transformation_mode"] == "tf_half_pixel_for_nn" else 19, attributes, *rest, folder
    )


@pytest.mark.parametrize("opset", [9, 10])
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["nearest", "linear"]),
)
@settings(max_examples=examples(150), deadline=None)
def test_resize_of_old_opsets_takes_the_pixels_that_onnx_runtime_takes(
    opset: int, folder: Path, shape: tuple[int, int], numbers: tuple[int, int, int, int], mode: str
) -> None:
    a, b, c, d = numbers
    scales = [max(a / c, 1 / shape[0] + 1e-6), max(b / d, 1 / shape[1] + 1e-6)]
    if opset == 9:
        scales = [max(1.0, scale) for scale in scales]
    check_resize(opset, {"mode": mode}, shape, {"scales": scales}, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


# What is refused, and what no longer is ---------------------------------------------------------------------------------


def graph_of(
    nodes: list[Any], outputs: list[str], opset: int, constants: dict[str, np.ndarray] | None = None, **inputs: Any
) -> Any:
    """A model. inputs: shapes, or (element type, shape)."""
    values = []
    for name, given_shape in inputs.items():
        kind, shape = given_shape if isinstance(given_shape, tuple) else (TensorProto.FLOAT, given_shape)
        values.append(helper.make_tensor_value_info(name, kind, shape))
    ends = [helper.make_value_info(name, helper.make_tensor_type_proto(1, None)) for name in outputs]
    fixed = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", values, ends, fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def converted(model: Any, folder: Path, **arguments: Any) -> edgecnn.Model:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return edgecnn.load(to_graph(folder / "m.onnx", **arguments))


def refused(model: Any, folder: Path, words: str) -> None:
    with pytest.raises(edgecnn.UnsupportedLayerError, match=words):
        converted(model, folder)


def test_an_optional_output_that_is_read_is_refused_by_name(tmp_path: Path) -> None:
    dropout = helper.make_node("Dropout", ["x"], ["y", "mask"], name="it")
    refused(
        graph_of([dropout], ["y", "mask"], 13, x=[1, 3]), tmp_path, "its output mask, which the model's output reads"
    )
    pool = helper.make_node("MaxPool", ["x"], ["y", "places"], name="it", kernel_shape=[2, 2])
    reader = helper.make_node("Identity", ["places"], ["z"], name="reader")
    refused(
        graph_of([pool, reader], ["y", "z"], 13, x=[1, 3, 4, 4]), tmp_path, "its output Indices, which the Identity"
    )


def test_an_optional_output_that_nobody_reads_is_left_out(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    scale = np.arange(4, dtype=np.float32)
    for names in (["y", "", ""], ["y", "", "deviation"], ["y", "mean"]):
        node = helper.make_node("LayerNormalization", ["x", "scale"], names, name="it")
        model = graph_of([node], ["y"], 17, {"scale": scale}, x=[2, 3, 4])
        wanted = oracle(model, x)
        assert wanted is not None
        np.testing.assert_allclose(converted(model, tmp_path)(x), wanted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("opset", "attributes", "outputs"), [(6, {}, 1), (9, {}, 5), (14, {"training_mode": 1}, 3)])
def test_batch_normalisation_for_training_is_refused(
    opset: int, attributes: dict[str, Any], outputs: int, tmp_path: Path
) -> None:
    names = ["y", "a", "b", "c", "d"][:outputs]
    node = helper.make_node("BatchNormalization", ["x", "s", "o", "m", "v"], names, name="it", **attributes)
    constants = {name: np.ones(3, np.float32) for name in "somv"}
    refused(graph_of([node], ["y"], opset, constants, x=[1, 3, 4, 4]), tmp_path, "for training")


def test_batch_normalisation_of_opset_6_in_test_mode(tmp_path: Path) -> None:
    attributes = {"is_test": 1, "epsilon": 0.5}
    node = helper.make_node("BatchNormalization", ["x", "s", "o", "m", "v"], ["y"], name="it", **attributes)
    constants = {name: np.arange(1, 4, dtype=np.float32) * k for k, name in enumerate("somv", 1)}
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4), np.float32)
    s, o, m, v = (constants[name][:, None, None] for name in "somv")
    wanted = (x - m) / np.sqrt(v + 0.5) * s + o
    model = graph_of([node], ["y"], 6, constants, x=[2, 3, 4, 4])
    np.testing.assert_allclose(converted(model, tmp_path)(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(("shape", "axis"), [((3,), 1), ((3, 4), 1), ((4, 5), None), ((5,), None), ((3, 4, 5), 1)])
def test_broadcasting_of_old_opsets(shape: tuple[int, ...], axis: int | None, opset: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4, 5), np.float32), rng.standard_normal(shape, np.float32)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    node = helper.make_node("Add", ["x", "w"], ["y"], name="it", **attributes)
    model = graph_of([node], ["y"], opset, {"w": y}, x=[2, 3, 4, 5])
    behind = 0 if axis is None else 4 - axis - len(shape)
    np.testing.assert_array_equal(converted(model, tmp_path)(x), x + y.reshape(*shape, *(1,) * behind))


def test_old_selu_has_constants_of_its_own(tmp_path: Path) -> None:
    x = np.linspace(-3, 3, 7, dtype=np.float32)[None]
    for opset, alpha, gamma in ((1, 1.6732, 1.0507), (6, 1.67326319217681884765625, 1.05070102214813232421875)):
        got = converted(
            graph_of([helper.make_node("Selu", ["x"], ["y"], name="it")], ["y"], opset, x=[1, 7]), tmp_path
        )(x)
        np.testing.assert_allclose(got, gamma * np.where(x > 0, x, alpha * np.expm1(x)), rtol=1e-6)


def test_what_an_opset_does_not_know_is_refused(tmp_path: Path) -> None:
    squeeze = helper.make_node("Squeeze", ["x"], ["y"], name="it", axes=[2])
    refused(
        graph_of([squeeze], ["y"], 13, x=[1, 3, 1]), tmp_path, "an attribute axes, which Squeeze of opset 13 does not"
    )
    pad = helper.make_node("Pad", ["x", "p"], ["y"], name="it")
    refused(graph_of([pad], ["y"], 2, {"p": np.zeros(4, np.int64)}, x=[1, 3]), tmp_path, "lacks the attribute pads")
    relu = helper.make_node("Relu", ["x"], ["y"], name="it")
    refused(graph_of([relu], ["y"], 999, x=[1, 3]), tmp_path, "it is of opset 999")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="it", kernel_shape=[5, 5])
    weights = {"w": np.ones((1, 3, 3, 3), np.float32)}
    refused(graph_of([conv], ["y"], 13, weights, x=[1, 3, 8, 8]), tmp_path, "its kernel_shape")


def test_integers_are_cast_or_refused(tmp_path: Path) -> None:
    pixels = (TensorProto.UINT8, [1, 4])
    subtract = helper.make_node("Sub", ["x", "w"], ["y"], name="it")
    model = graph_of([subtract], ["y"], 14, {"w": np.full(1, 128, np.uint8)}, x=pixels)
    refused(model, tmp_path, r"it computes with integers \(uint8\)")
    cast = helper.make_node("Cast", ["x"], ["f"], name="cast", to=TensorProto.FLOAT)
    after = helper.make_node("Sub", ["f", "w"], ["y"], name="it")
    model = graph_of([cast, after], ["y"], 14, {"w": np.full(1, 128, np.float32)}, x=pixels)
    np.testing.assert_array_equal(converted(model, tmp_path)(np.float32([[0, 1, 128, 255]])), [[-128, -127, 0, 127]])


def test_open_sizes_that_would_have_to_be_known_name_the_input(tmp_path: Path) -> None:
    squeeze = helper.make_node("Squeeze", ["x", "axes"], ["y"], name="it")
    model = graph_of([squeeze], ["y"], 13, {"axes": np.array([1])}, x=["N", 1, "H", "W"])
    refused(model, tmp_path, r"fix the sizes of input 'x', \(1,\?,\?\): --input-shape")
    x = np.random.default_rng(0).standard_normal((2, 1, 3, 4), np.float32)
    np.testing.assert_array_equal(converted(model, tmp_path, input_shapes={"x": (1, 3, 4)})(x), x[:, 0])


def test_comparisons_of_no_number_are_false(tmp_path: Path) -> None:
    x = np.float32([[np.nan, 1.0, 2.0]])
    for name in ("LessOrEqual", "GreaterOrEqual"):
        model = model_of(name, 16, {"B": (1,)}, (1, 3))
        wanted = oracle(model, x)
        assert wanted is not None
        np.testing.assert_array_equal(converted(model, tmp_path)(x), wanted[0])


OPSET_1: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], Any]] = {
    # Attributes, constant inputs, and what NumPy makes of x (2, 4, 6, 6).
    "Upsample": ({"height_scale": 2.0, "width_scale": 3.0}, {}, lambda x: x.repeat(2, 2).repeat(3, 3)),
    "Pad": (
        {"paddings": [0, 0, 1, 2, 0, 0, 3, 0], "value": 0.5},
        {},
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 3), (2, 0)], constant_values=0.5),
    ),
    "Reshape": ({"shape": [0, -1, 6]}, {}, lambda x: x.reshape(2, -1, 6)),
    "Tile": ({}, {"tiles": np.array(3), "axis": np.array(2)}, lambda x: np.tile(x, (1, 1, 3, 1))),
    "Cast": ({"to": "FLOAT"}, {}, lambda x: x),
    "Relu": ({"consumed_inputs": [0]}, {}, lambda x: np.maximum(x, 0)),
    "Dropout": ({"is_test": 1, "ratio": 0.3}, {}, lambda x: x),
    "Clip": ({"min": -0.25}, {}, lambda x: np.maximum(x, -0.25)),
    "Sum": ({}, {"b": np.ones((1, 4, 6, 6), np.float32)}, lambda x: x + 1),
    "Concat": ({}, {"b": np.zeros((1, 1, 6, 6), np.float32)}, lambda x: np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)])),
    "Softmax": ({"axis": 2}, {}, lambda x: softmax(x.reshape(2, 4, 36)).reshape(x.shape)),
    "PRelu": (
        {},
        {"slope": np.arange(4, dtype=np.float32)},
        lambda x: np.where(x > 0, x, x * np.arange(4)[:, None, None]),
    ),
}


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", sorted(OPSET_1))
def test_operators_of_opset_1(name: str, tmp_path: Path) -> None:
    attributes, constants, meaning = OPSET_1[name]
    x = np.random.default_rng(0).uniform(-1, 1, IMAGE).astype(np.float32)
    node = helper.make_node(name, ["x", *constants], ["y"], name="it", **attributes)
    got = converted(graph_of([node], ["y"], 1, constants, x=list(IMAGE)), tmp_path)(x)
    np.testing.assert_allclose(got, meaning(x), rtol=1e-6, atol=1e-6)


def test_a_dropout_of_opset_6_that_says_nothing_is_one_for_training(tmp_path: Path) -> None:
    refused(graph_of([helper.make_node("Dropout", ["x"], ["y"], name="it")], ["y"], 6, x=[1, 3]), tmp_path, "training")


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("Div", {}), ("Mod", {}), ("Add", {}), ("Max", {}), ("Concat", {"axis": 0}), ("Gather", {"axis": 0}),
        ("ReduceSum", {"keepdims": 0}), ("ReduceMean", {"keepdims": 1}), ("Softmax", {"axis": 0}),
    ],
)  # fmt: skip
def test_constants_are_folded_as_onnx_runtime_folds_them(
    name: str, attributes: dict[str, Any], opset: int, tmp_path: Path
) -> None:
    """A product with what is computed from constants alone."""
    if name == "Mod" and opset < 10:
        return
    whole = name in ("Div", "Mod", "Gather")
    a = np.array([-7, 7, 5, -5], np.int64) if whole else np.array([[0.5, -1, 2, 3]] * 2, np.float32)
    b = np.array([2, 1, 3, 3], np.int64) if whole else np.array([1, 2, 3, -4], np.float32)
    names = ["a"] if name in ("ReduceSum", "ReduceMean", "Softmax") else ["a", "b"]
    if name == "Concat":
        b = b[None]
    nodes = [
        helper.make_node(name, names, ["c"], name="constant", **attributes),
        helper.make_node("Cast", ["c"], ["d"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["d"], ["e"], name="one", keepdims=0),
        helper.make_node("Mul", ["x", "e"], ["y"], name="it"),
    ]
    model = graph_of(nodes, ["y"], opset, {"a": a, "b": b}, x=[2, 3])
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    wanted = oracle(model, x)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    if name == "Softmax":
        refused(model, tmp_path, "is a constant")
    elif wanted is not None:
        np.testing.assert_allclose(edgecnn.load(to_graph(tmp_path / "m.onnx"))(x), wanted[0], rtol=1e-6)
