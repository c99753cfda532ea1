"""A node of an ONNX model as its function sees it, and the rule that nothing of it goes unread.

What a node means follows from the schema of its operator in the model's opset: which attributes and inputs there are, and what
stands for those that are absent. Every attribute, and every input that is there, is read by the operator's function, or has a
value that NEUTRAL lists as one without effect, or is refused by name; so is an output that somebody reads and the function
does not give. So a function that knows nothing of an attribute, be it of an old opset or of one to come, does not convert a
node that has it. What is computed from constants alone is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import LAYERS, Array, Layer, Turned
from edgecnn.converters.layers.sizes import BATCH, FIX, UNKNOWN, arithmetic, marked
from edgecnn.graph import Tensor

Value = Tensor | Turned | Array
OperatorFunction = Callable[["Call", Builder], Any]

NEWEST = 28
"""The opset whose operators the functions are written for: what changes later is refused."""


def anything(value: Any) -> bool:
    """Of an attribute that has no effect on what is converted."""
    return True


def is_zero(value: Any) -> bool:
    """Of an attribute that has none where it is 0, in all places."""
    return not np.any(np.asarray(value))


NEUTRAL: Mapping[tuple[str, str], Callable[[Any], bool]] = {
    # (operator, attribute): which values have no effect. "" stands for every operator.
    ("", "consumed_inputs"): anything,  # a hint about memory, until opset 5
    ("", "pads"): is_zero,  # beside auto_pad, which takes their place
    ("", "stash_type"): lambda value: value == 1,  # float32, in which everything is computed
    ("BatchNormalization", "momentum"): anything,  # for training
    ("BatchNormalization", "spatial"): lambda value: value == 1,
    ("Dropout", "ratio"): anything,  # for training, which is refused
    ("Dropout", "seed"): anything,
    ("Cast", "saturate"): anything,  # of casts to 8-bit floats, which are refused
    ("Cast", "round_mode"): anything,
    ("MaxPool", "storage_order"): anything,  # of the indices, which are refused
    ("Resize", "extrapolation_value"): anything,  # of tf_crop_and_resize, which is refused
}
"""The one list of what a function need not read."""

NEUTRAL_INPUTS = {("Dropout", 1), ("Resize", 1)}
"""(operator, input): Dropout's ratio, which is for training; Resize's roi, which is for tf_crop_and_resize."""

_HINT = "change it where the model is made, and export it again"


@lru_cache(maxsize=1024)
def schema_of(name: str, opset: int) -> Any:
    """The schema of an operator in an opset."""
    from onnx import defs

    known = defs.onnx_opset_version()
    if opset > known:
        raise Unsupported(
            f"it is of opset {opset}; the installed onnx knows those up to {known}", "pip install -U onnx"
        )
    try:
        schema = defs.get_schema(name, opset)
    except defs.SchemaError as error:
        raise Unsupported(f"ONNX has no {name} in opset {opset}", _HINT) from error
    if schema.since_version > NEWEST:
        raise Unsupported(
            f"opset {schema.since_version} gave {name} another meaning; its meaning up to opset {NEWEST} is known",
            f"export the model with opset {NEWEST} or an earlier one",
        )
    return schema


def default_of(schema: Any, attribute: str) -> Any:
    """What stands for an attribute that a node leaves out; None for nothing."""
    from onnx import helper

    row = schema.attributes.get(attribute)
    if row is None or not row.default_value.name:
        return None
    value = helper.get_attribute_value(row.default_value)
    return value.decode() if isinstance(value, bytes) else value


class Call:
    """One node: its inputs and attributes, each marked as read when it is asked for."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.name = layer.class_name.split(".", 1)[1]
        self.opset = int(layer.config["opset"])
        self.schema = schema_of(self.name, self.opset)
        self.since: int = self.schema.since_version
        """The opset from which on the operator means what it means here."""
        self.given: Mapping[str, Any] = layer.config["attributes"]
        self.outputs = int(layer.config["outputs"])
        """How many the node lists, be they named or not."""
        self._inputs: list[Value | None] = list(layer.arguments)
        self._read: set[str] = set()
        self._read_inputs: set[int] = set()
        self._check()

    def _check(self) -> None:
        """Refuses what the operator does not have in this opset, and what it lacks."""
        where = f"{self.name} of opset {self.opset}"
        for name, kind in self.layer.config["kinds"].items():
            row = self.schema.attributes.get(name)
            if row is None:
                raise Unsupported(f"it has an attribute {name}, which {where} does not know", _HINT)
            if kind != int(row.type.value):
                raise Unsupported(f"its attribute {name} is of another kind than {where} wants", _HINT)
        missing = [name for name, row in self.schema.attributes.items() if row.required and name not in self.given]
        if missing and missing != ["consumed_inputs"]:
            raise Unsupported(f"it lacks the attribute {missing[0]}, which {where} wants", _HINT)
        count, low, high = len(self._inputs), self.schema.min_input, self.schema.max_input
        if not low <= count <= high or any(value is None for value in self._inputs[:low]):
            raise Unsupported(
                f"it has {sum(value is not None for value in self._inputs)} inputs; {where} wants {low} or more", _HINT
            )

    @property
    def inputs(self) -> Sequence[Value | None]:
        """All inputs, None where one is absent."""
        self._read_inputs |= set(range(len(self._inputs)))
        return tuple(self._inputs)

    def replace(self, index: int, value: Value) -> None:
        """Put another value in place of an input."""
        self._inputs[index] = value

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what the schema says that stands for it, or else `default`."""
        self._read.add(name)
        value = self.given.get(name)
        value = default_of(self.schema, name) if value is None else value
        return default if value is None else value

    def __len__(self) -> int:
        return len(self._inputs)

    def value(self, index: int) -> Value | None:
        """An input, None where it is absent."""
        self._read_inputs.add(index)
        return self._inputs[index] if index < len(self._inputs) else None

    def tensor(self, index: int = 0) -> Tensor:
        """An input that must be computed, its batch in front."""
        value = self.value(index)
        if isinstance(value, Turned):
            raise Unsupported(
                f"it works on a tensor that has the batch at axis {value.axis}", "keep the batch in front"
            )
        if not isinstance(value, Tensor):
            raise Unsupported(f"its input {index} is a constant", "compute it from the model's inputs")
        return value

    def turned(self, index: int = 0) -> Turned:
        """An input that must be computed, wherever it has its batch."""
        value = self.value(index)
        return value if isinstance(value, Turned) else Turned(self.tensor(index), 0)

    def constant(self, index: int, what: str) -> Array | None:
        """An input that must be constant, None where it is absent."""
        value = self.value(index)
        if isinstance(value, Tensor | Turned):
            raise Unsupported(f"its {what} are computed", f"export the model with constant {what}")
        return value

    def numbers(self, attribute: str, index: int) -> list[int] | None:
        """Whole numbers from an attribute, or, in other opsets, from an input; None where both are absent."""
        given = self.get(attribute) if attribute in self.schema.attributes else None
        if given is None:
            given = self.constant(index, attribute)
        if given is None:
            return None
        return [int(v) for v in np.asarray(given).reshape(-1)]

    def check_read(self, results: int) -> None:
        """Refuses what the operator's function has not read, and an output that is read beyond those that it gave."""
        for name in self.schema.attributes:
            if name in self._read:
                continue
            value = self.given.get(name)
            value = default_of(self.schema, name) if value is None else value
            neutral = NEUTRAL.get((self.name, name), NEUTRAL.get(("", name)))
            if value is not None and not (neutral and neutral(value)):
                raise Unsupported(f"its attribute {name} is {value!r}, which is not converted", _HINT)
        for index, given in enumerate(self._inputs):
            if given is not None and index not in self._read_inputs and (self.name, index) not in NEUTRAL_INPUTS:
                row = self.schema.inputs[min(index, len(self.schema.inputs) - 1)]
                raise Unsupported(f"its input {row.name} is not converted", f"export the model without {row.name}")
        for index, reader in self.layer.config["wanted"].items():
            if index >= results:
                row = self.schema.outputs[min(index, len(self.schema.outputs) - 1)]
                raise Unsupported(
                    f"its output {row.name}, which {reader} reads, is not converted",
                    f"export the model without {row.name}",
                )


def operator(*names: str) -> Callable[[OperatorFunction], OperatorFunction]:
    """Registers a function for ONNX operators."""

    def enter(function: OperatorFunction) -> OperatorFunction:
        def convert(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Any:
            call = Call(layer)
            integers = layer.config.get("integers")
            if integers and call.name not in ON_INTEGERS:
                raise Unsupported(
                    f"it computes with integers ({integers})",
                    "cast to float first: what overflows or rounds would differ",
                )
            folded = call.name in _FOLDED and not any(isinstance(v, Tensor | Turned) for v in layer.arguments)
            result = fold(call) if folded else function(call, build)
            call.check_read(len(result) if isinstance(result, list | tuple) else 1)
            return result

        for name in names:
            LAYERS[f"onnx.{name}"] = convert
        return function

    return enter


ON_INTEGERS = frozenset(
    (
        *(
            "Cast",
            "Concat",
            "DepthToSpace",
            "Dropout",
            "Equal",
            "Expand",
            "Flatten",
            "Gather",
            "Greater",
            "GreaterOrEqual",
        ),
        *("Identity", "Less", "LessOrEqual", "Max", "Min", "Not", "Pad", "Relu", "Reshape", "Shape", "Size", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Operators that do to integers what they do to floats of the same values."""


# Constants ------------------------------------------------------------------------------------------------------------


def fold(call: Call) -> Any:
    """An operator on constants, by the onnx package's own reference."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    name = call.name
    if name == "Constant":
        kinds = ("value", "value_float", "value_int", "value_floats", "value_ints")
        return np.asarray(next(call.get(key) for key in kinds if key in call.given))
    values = list(call.inputs)
    given = [np.asarray(v) for v in values if v is not None]
    if name in ("ConstantOfShape", "Expand") and given[-1].size and given[-1].reshape(-1)[0] == BATCH:
        # The same for every image: one row, which broadcasts.
        values[-1] = given[-1] = np.array([1, *given[-1].reshape(-1)[1:]], np.int64)
    unknown = any(marked(v).any() for v in given) and name not in _MOVES
    if unknown and name in ("ConstantOfShape", "Expand", "Tile", "Range"):
        raise Unsupported("its size is known at the call only", FIX)
    if name in ("ConstantOfShape", "Expand", "Tile", "Range"):
        wanted = math.prod(int(v) for v in np.asarray(given[-1]).reshape(-1)) if name != "Range" else int(abs(given[1]))
        if abs(wanted) * max(1, given[0].size if name == "Tile" else 1) > MOST_FOLDED:
            raise Unsupported("it makes a constant of more than 2^28 values", "export the model without it")
    attributes = {key: call.get(key) for key in call.schema.attributes if call.get(key) is not None}
    opset = call.opset
    if "broadcast" in attributes:  # until opset 6
        if attributes.pop("broadcast") and "axis" in attributes:
            values[1] = placed(np.asarray(values[1]), int(attributes["axis"]), given[0].ndim)
        attributes.pop("axis", None)
        opset = max(opset, 7)
    if "to" in attributes:
        attributes["to"], opset = data_type(attributes["to"]), max(opset, 6)
    attributes.pop("consumed_inputs", None)
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(values)]
    for key, value in attributes.items():
        if isinstance(value, np.ndarray):
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            attributes[key] = helper.make_tensor(key, kind, value.shape, value.reshape(-1))
    outputs = [f"o{i}" for i in range(call.outputs)]
    node = helper.make_node(name, names, outputs, **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), None)
        for n, v in zip(names, values, strict=True)
        if v is not None
    ]
    ends = [helper.make_value_info(o, helper.make_tensor_type_proto(1, None)) for o in outputs]
    model = helper.make_model(
        helper.make_graph([node], "folded", infos, ends), opset_imports=[helper.make_opsetid("", opset)]
    )
    feeds = {n: np.asarray(v) for n, v in zip(names, values, strict=True) if v is not None}
    try:
        found = [np.asarray(value) for value in ReferenceEvaluator(model).run(None, feeds)]
    except MemoryError:
        raise
    except Exception as error:  # the reference raises whatever comes to it
        raise Unsupported(f"it cannot be computed from constants ({type(error).__name__}: {error})", _HINT) from error
    # Arithmetic on sizes that are not known gives others that are not; what uses them says so.
    return [_remarked(name, value, given) if unknown and value.dtype.kind in "iuf" else value for value in found]


def placed(value: Array, axis: int, rank: int) -> Array:
    """The second operand of an operator until opset 6, its axes put at `axis` of the first one's `rank`."""
    behind = rank - axis % rank - value.ndim
    if behind < 0:
        raise Unsupported(f"it broadcasts {value.shape} at axis {axis} of a tensor of rank {rank}", _HINT)
    return value.reshape(*value.shape, *(1,) * behind)


def data_type(given: Any) -> int:
    """The number of a data type, which opset 1 gives by name."""
    from onnx import TensorProto

    return TensorProto.DataType.Value(given.upper()) if isinstance(given, str) else int(given)


_FOLDED = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Cos", "Div", "Equal"),
        *(
            "Erf",
            "Exp",
            "Expand",
            "Flatten",
            "Floor",
            "Gather",
            "Gemm",
            "Greater",
            "GreaterOrEqual",
            "Identity",
            "Less",
        ),
        *(
            "LessOrEqual",
            "Log",
            "MatMul",
            "Max",
            "Mean",
            "Min",
            "Mod",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "Pad",
            "Pow",
            "Range",
        ),
        *("Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *(
            "ReduceSum",
            "ReduceSumSquare",
            "Relu",
            "Reshape",
            "Round",
            "Shape",
            "Sigmoid",
            "Sign",
            "Sin",
            "Size",
            "Slice",
        ),
        *("Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where", "Xor"),
    )
)
"""Operators that the reference computes as they are meant in every opset. Of the others it knows the newest meaning alone."""

MOST_FOLDED = 2**28
"""Values of a constant that is computed here."""
_MOVES = (
    *(
        "Gather",
        "Concat",
        "Unsqueeze",
        "Squeeze",
        "Slice",
        "Cast",
        "Reshape",
        "Identity",
        "Transpose",
        "Split",
        "Where",
    ),
)
"""Operators that keep marked sizes as they are."""
_NEUTRAL = {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0}
"""Operators of two values, and the second one that leaves the first as it is."""


def _remarked(name: str, result: Array, given: Sequence[Array]) -> Array:
    """Sizes computed from such as are not known."""
    if name not in _NEUTRAL:
        return np.full_like(result, UNKNOWN)
    x, y = given
    kept = arithmetic(lambda x, y: result, _NEUTRAL[name])(x, y)
    return arithmetic(lambda x, y: kept, _NEUTRAL[name])(y, x) if name in ("Mul", "Add") else kept
