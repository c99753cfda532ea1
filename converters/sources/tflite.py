"""LiteRT models (.tflite). Nothing is executed; the tflite package only tells where in the file the fields are."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.converters.sources.configuration import input_layer, weights_of_nothing
from edgecnn.converters.sources.description import Call, LayerDescription, ModelDescription, TensorReference
from edgecnn.errors import ConversionError, MissingPackageError, UnsupportedLayer, UnsupportedLayerError
from edgecnn.files import open_regular

IDENTIFIER = b"TFL3"
"""At bytes 4 to 7 of every file. What is appended (a zip of metadata) does not matter: offsets count from the start."""
MOST_DENSE = 2**26
"""Values of all constants together that are stored sparse."""
MOST_USED = 2**30
"""Bytes of constants that operators may take in all, each counted as often as it is taken; more in a file that is larger."""
DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""What reading at offsets from a damaged file ends in."""

_DTYPES = {
    "FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8", "BFLOAT16": "<u2", "INT64": "<i8", "INT32": "<i4", "INT16": "<i2",
    "INT8": "<i1", "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2", "UINT8": "<u1", "BOOL": "<u1",
}  # fmt: skip
_QUANTISED = ("INT8", "UINT8", "INT16", "INT4")
_PASSING = {
    "ABS", "CAST", "CEIL", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
    "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SQRT", "SQUARE", "TANH",
}  # fmt: skip
"""Functions of single values: they do not mind in which shape these lie."""


@dataclass(frozen=True)
class Unreadable:
    """A constant that cannot be read.

    Attributes:
        reason: why, of a tensor.
    """

    reason: str


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    kind: str
    buffer: int
    quantised: bool
    sparsity: Any

    @property
    def values(self) -> int:
        """How many values it has; of an unknown size, one."""
        return math.prod(max(size, 1) for size in self.shape)


@dataclass(frozen=True)
class _Operator:
    """Inputs and outputs are numbers of tensors, -1 for an absent one."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    custom: bytes


@contextmanager
def describe(path: Path) -> Iterator[ModelDescription]:
    """The model in a .tflite file."""
    try:
        import tflite
    except ImportError as error:
        raise MissingPackageError(f"{path}: reading it needs tflite: pip install edgecnn[tflite]") from error
    with open_regular(path, ConversionError, "a .tflite file") as file:
        data = file.read()
    try:
        model = _Reader(tflite, data, str(path)).model()
    except DAMAGE as error:
        raise ConversionError(f"{path}: a damaged LiteRT model ({type(error).__name__}: {error})") from error
    yield model


class _Reader:
    def __init__(self, tflite: Any, data: bytes, name: str) -> None:
        self.tflite, self.data, self.name = tflite, data, name
        self.proto = tflite.Model.GetRootAs(data, 0)
        self.room = 4 * len(data) + 4096
        """What may still be read: tables and vectors of a damaged file may lie over one another, and multiply."""
        self.dense_room = MOST_DENSE
        self.unpacked: dict[int, Any] = {}
        self.arrays: dict[tuple[int, str], np.ndarray[Any, Any]] = {}

    def model(self) -> ModelDescription:
        if not self._length(self.proto.SubgraphsLength()):
            raise ConversionError(f"{self.name}: no LiteRT model: it has no subgraph")
        graph = self.proto.Subgraphs(0)
        self.tensors = [self._tensor(graph.Tensors(i)) for i in range(self._length(graph.TensorsLength()))]
        codes = [self._code(self.proto.OperatorCodes(i)) for i in range(self._length(self.proto.OperatorCodesLength()))]
        operators = [self._operator(graph.Operators(i), codes) for i in range(self._length(graph.OperatorsLength()))]
        given = self._numbers(graph.InputsLength, graph.InputsAsNumpy)
        wanted = self._numbers(graph.OutputsLength, graph.OutputsAsNumpy)
        if not operators or not given or not wanted:
            raise ConversionError(f"{self.name}: no LiteRT model: it has no operators, no inputs or no outputs")
        self._check_order(operators, given, wanted)
        self._refuse_quantised(operators)
        names_in, names_out = self._signature()
        varying = {*given, *(n for operator in operators for n in operator.outputs), -1}
        operators = _without_batch_tricks(
            operators, self.tensors, set(wanted), lambda n: None if n in varying else self._constant(n)
        )
        taken: dict[str, int] = {}
        found: dict[int, TensorReference] = {}
        layers, inputs = [], []
        for number in given:
            public = names_in.get(number) or _plain(self.tensors[number].name)
            path = _free(public, taken)
            layers.append(input_layer(path, self._input_shape(number)))
            found[number] = TensorReference(path)
            inputs.append((path, found[number]))
        self._check_use(operators, given)
        # Shapes that hold a fixed batch are known by it.
        batches = tuple({self.tensors[number].shape[0] for number in given})
        layers += [self._layer(operator, taken, found, batches) for operator in operators]
        outputs = [(names_out.get(n) or _plain(self.tensors[n].name), self._output(n, found)) for n in wanted]
        outputs = _in_order(outputs, [self.tensors[n].name for n in wanted])
        description = self.proto.Description()
        return ModelDescription(
            self.name,
            _text(graph.Name()) or "tflite",
            (0, 0),
            tuple(layers),
            tuple(inputs),
            tuple(_distinct(outputs)),
            "single" if len(inputs) == 1 else "list",
            "single" if len(outputs) == 1 else "list",
            len(self.data),
            {},
            f"LiteRT schema {self.proto.Version()}" + (f", {_text(description)[:40]}" if description else ""),
        )

    # Tables ------------------------------------------------------------------------------------------------------------

    def _length(self, count: int) -> int:
        """A vector's length, within what the file can hold."""
        self.room -= 4 * count
        if self.room < 0:
            raise ConversionError(
                f"{self.name}: a damaged LiteRT model: it claims more entries than its bytes can hold"
            )
        return count

    def _numbers(self, length: Callable[[], int], values: Callable[[], Any]) -> tuple[int, ...]:
        return tuple(int(v) for v in values()) if self._length(length()) else ()

    def _tensor(self, tensor: Any) -> _Tensor:
        shape = self._numbers(tensor.ShapeLength, tensor.ShapeAsNumpy)
        signature = self._numbers(tensor.ShapeSignatureLength, tensor.ShapeSignatureAsNumpy)
        name = tensor.Name() or b""
        self._length(len(name) // 4)
        details = tensor.Quantization()
        kind = _named(self.tflite.TensorType, tensor.Type())
        scaled = details is not None and details.ScaleLength() > 0
        return _Tensor(
            _text(name),
            shape,
            signature if len(signature) == len(shape) else shape,
            kind,
            tensor.Buffer(),
            kind == "INT4" or (kind in _QUANTISED and scaled),
            tensor.Sparsity(),
        )

    def _code(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _named(self.tflite.BuiltinOperator, number)
        custom = _text(code.CustomCode())[:100] if name == "CUSTOM" else ""
        return custom or name

    def _operator(self, operator: Any, codes: Sequence[str]) -> _Operator:
        inputs = self._numbers(operator.InputsLength, operator.InputsAsNumpy)
        outputs = self._numbers(operator.OutputsLength, operator.OutputsAsNumpy)
        if any(not -1 <= n < len(self.tensors) for n in (*inputs, *outputs)) or not outputs or -1 in outputs:
            raise ConversionError(f"{self.name}: a damaged LiteRT model: an operator names tensors that are not there")
        self._length(operator.CustomOptionsLength() // 4)
        custom = operator.CustomOptionsAsNumpy().tobytes() if operator.CustomOptionsLength() else b""
        return _Operator(codes[operator.OpcodeIndex()], inputs, outputs, self._options(operator), custom)

    def _options(self, operator: Any) -> dict[str, Any]:
        """All fields of an operator's options, by their names in the schema."""
        kind = _named(self.tflite.BuiltinOptions, operator.BuiltinOptionsType())
        table = operator.BuiltinOptions()
        if table is None or kind in ("NONE", "unknown"):
            return {}
        options = getattr(self.tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        found: dict[str, Any] = {"options": kind}
        for name, method in vars(type(options)).items():
            code = getattr(method, "__code__", None)
            if code is None or name.startswith("_") or name in ("Init",):
                continue
            if name.endswith("AsNumpy"):
                field = name.removesuffix("AsNumpy")
                found[_snake(field)] = self._numbers(getattr(options, f"{field}Length"), getattr(options, name))
            elif code.co_argcount == 1 and not name.endswith(("Length", "IsNone")):
                value = getattr(options, name)()
                if isinstance(value, bool | int | float):
                    found[_snake(name)] = value
        return found

    # Constants ---------------------------------------------------------------------------------------------------------

    def _bytes(self, number: int) -> memoryview:
        """A buffer's bytes, which may lie behind the tables; empty where the tensor is computed."""
        if not 0 <= number < self.proto.BuffersLength():
            raise ConversionError(f"{self.name}: a damaged LiteRT model: there is no buffer {number}")
        buffer = self.proto.Buffers(number)
        start, size = buffer.Offset(), buffer.Size()
        if start > 1:
            if start + size > len(self.data):
                raise ConversionError(
                    f"{self.name}: buffer {number} lies at {start} and has {size} bytes; the file has {len(self.data)}: "
                    f"it is cut short or damaged"
                )
            return memoryview(self.data)[start : start + size]
        return memoryview(buffer.DataAsNumpy()) if buffer.DataLength() else memoryview(b"")

    def _constant(self, number: int) -> Any:
        """A tensor that no operator computes: an array, of the size that it claims, or `Unreadable`."""
        tensor = self.tensors[number]
        count = math.prod(tensor.shape)
        if any(size < 0 for size in tensor.shape):
            raise ConversionError(f"{self.name}: constant {tensor.name!r} has the shape {tensor.shape}")
        if tensor.kind not in _DTYPES:
            return Unreadable(f"is of type {tensor.kind}")
        dtype = np.dtype(_DTYPES[tensor.kind])
        key = (tensor.buffer, tensor.kind)
        if key not in self.arrays:
            data = self._bytes(tensor.buffer)
            self._length(len(data) // 4)
            if len(data) % dtype.itemsize:
                raise ConversionError(f"{self.name}: constant {tensor.name!r} has {len(data)} bytes of {tensor.kind}")
            self.arrays[key] = _decoded(np.frombuffer(data, dtype), tensor.kind)
        if tensor.sparsity is not None:
            if number not in self.unpacked:
                self.unpacked[number] = self._dense(tensor, self.arrays[key], count)
            return self.unpacked[number]
        if self.arrays[key].size != count:
            raise ConversionError(
                f"{self.name}: constant {tensor.name!r} has the shape {tensor.shape} and {self.arrays[key].size} values; "
                f"the file is damaged"
            )
        return self.arrays[key].reshape(tensor.shape)

    def _dense(self, tensor: _Tensor, values: np.ndarray[Any, Any], count: int) -> Any:
        """A tensor that is stored by its values and their places.

        Its axes, and those of the blocks into which some are cut, follow one another in an order of their own; each is either
        whole or, as in compressed sparse rows, given by the places that hold something.
        """
        order = self._numbers(tensor.sparsity.TraversalOrderLength, tensor.sparsity.TraversalOrderAsNumpy)
        blocked = self._numbers(tensor.sparsity.BlockMapLength, tensor.sparsity.BlockMapAsNumpy)
        levels = [tensor.sparsity.DimMetadata(i) for i in range(self._length(tensor.sparsity.DimMetadataLength()))]
        rank = len(tensor.shape)
        self.dense_room -= count
        if self.dense_room < 0:
            raise ConversionError(f"{self.name}: its sparse constants unpack to more than {MOST_DENSE} values")
        if sorted(order) != list(range(rank + len(blocked))) or len(levels) != len(order):
            return Unreadable("is stored sparse, in a way that does not fit its shape")
        blocks = dict(zip(range(rank, len(order)), blocked, strict=True))
        sizes = {axis: level.DenseSize() for axis, level in zip(order, levels, strict=True) if axis in blocks}
        places = np.zeros((1, len(order)), np.int64)  # of the values so far, along each axis
        for axis, level in zip(order, levels, strict=True):
            if level.Format() == self.tflite.DimensionType.DENSE:
                size = level.DenseSize()
                # A file lists the rows of a sparse axis, and its values: there are no more of them than bytes.
                if size < 0 or len(places) * size > len(self.data):
                    raise ConversionError(f"{self.name}: constant {tensor.name!r} has more places than its shape")
                places = np.repeat(places, size, axis=0)
                places[:, axis] = np.tile(np.arange(size), len(places) // max(size, 1))
                continue
            ends, found = (
                self._indices(kind(), table())
                for kind, table in (
                    (level.ArraySegmentsType, level.ArraySegments),
                    (level.ArrayIndicesType, level.ArrayIndices),
                )
            )
            each = np.diff(ends)
            if len(each) != len(places) or (each < 0).any() or each.sum() != len(found) or ends[:1].any():
                raise ConversionError(f"{self.name}: constant {tensor.name!r}: its sparse rows do not fit one another")
            places = np.repeat(places, each, axis=0)
            places[:, axis] = found
        whole = places[:, :rank].copy()
        for axis, original in blocks.items():
            if not 0 <= original < rank:
                raise ConversionError(f"{self.name}: constant {tensor.name!r} has blocks of an axis that is not there")
            whole[:, original] = whole[:, original] * sizes[axis] + places[:, axis]
        if len(values) != len(whole) or (whole < 0).any() or (whole >= np.asarray(tensor.shape)).any():
            raise ConversionError(
                f"{self.name}: constant {tensor.name!r} has {len(values)} values for {len(whole)} places"
            )
        result = np.zeros(tensor.shape, values.dtype)
        result[tuple(whole.T)] = values
        return result

    def _indices(self, kind: int, table: Any) -> np.ndarray[Any, Any]:
        """One of the schema's vectors of places."""
        vector = getattr(self.tflite, _named(self.tflite.SparseIndexVector, kind))()
        vector.Init(table.Bytes, table.Pos)
        return np.asarray(self._numbers(vector.ValuesLength, vector.ValuesAsNumpy), np.int64)

    # The graph ---------------------------------------------------------------------------------------------------------

    def _check_order(self, operators: Sequence[_Operator], given: Sequence[int], wanted: Sequence[int]) -> None:
        """Operators come in the order in which they run; each tensor is made once."""
        if any(not 0 <= n < len(self.tensors) for n in (*given, *wanted)):
            raise ConversionError(f"{self.name}: a damaged LiteRT model: an input or output is not among its tensors")
        made, computed = set(given), {n for operator in operators for n in operator.outputs}
        for operator in operators:
            late = [n for n in operator.inputs if n in computed and n not in made]
            if late:
                raise ConversionError(
                    f"{self.name}: {operator.name} reads {self.tensors[late[0]].name!r} before it is computed; the file is "
                    f"damaged"
                )
            if made & set(operator.outputs):
                raise ConversionError(
                    f"{self.name}: {operator.name} computes {self.tensors[operator.outputs[0]].name!r} a second time; the "
                    f"file is damaged"
                )
            made |= set(operator.outputs)

    def _check_use(self, operators: Sequence[_Operator], given: Sequence[int]) -> None:
        """Each operator gets a copy of its constants, and what is computed from constants alone is computed now: a small file
        might ask for any number of both."""
        room, computed = max(MOST_USED, 16 * len(self.data)), set(given)
        for operator in operators:
            constant = operator.name == "SHAPE" or not computed & set(operator.inputs)
            used = [n for n in operator.inputs if n >= 0 and n not in computed]
            if constant:
                used += operator.outputs
            else:
                computed |= set(operator.outputs)
            room -= sum(4 * self.tensors[n].values for n in used)
        if room < 0:
            raise ConversionError(
                f"{self.name}: its operators take its constants so often that this would need more than {MOST_USED} bytes"
            )

    def _refuse_quantised(self, operators: Sequence[_Operator]) -> None:
        touched = [
            (operator, self.tensors[n])
            for operator in operators
            for n in [n for n in (*operator.inputs, *operator.outputs) if n >= 0 and self.tensors[n].quantised][:1]
        ]
        if touched:
            operator, tensor = touched[0]
            others = f", as are tensors of {len(touched) - 1} other operators" if len(touched) > 1 else ""
            item = UnsupportedLayer(
                _plain(self.tensors[operator.outputs[0]].name),
                f"tflite.{operator.name}",
                f"its tensor {_plain(tensor.name)!r} is quantised ({tensor.kind}){others}",
                "int8 files are not read yet: export the model in float32, or with float16 weights",
            )
            raise UnsupportedLayerError(self.name, [item])

    def _signature(self) -> tuple[dict[int, str], dict[int, str]]:
        """Public names by tensor, from the first signature of the main subgraph."""
        for i in range(self._length(self.proto.SignatureDefsLength())):
            signature = self.proto.SignatureDefs(i)
            if signature.SubgraphIndex() != 0:
                continue
            inputs, outputs = (
                {entry.TensorIndex(): _text(entry.Name()) for entry in map(get, range(self._length(count)))}
                for get, count in (
                    (signature.Inputs, signature.InputsLength()),
                    (signature.Outputs, signature.OutputsLength()),
                )
            )
            return inputs, outputs
        return {}, {}

    def _input_shape(self, number: int) -> list[int | None]:
        """An input's shape; its first size is the batch, whatever the file says."""
        tensor = self.tensors[number]
        if tensor.kind in ("STRING", "RESOURCE", "VARIANT", "COMPLEX64", "COMPLEX128", "unknown"):
            raise ConversionError(f"{self.name}: input {tensor.name!r} is of type {tensor.kind}; wanted numbers")
        if not tensor.shape:
            raise ConversionError(f"{self.name}: input {tensor.name!r} is a single number; wanted the batch in front")
        return [None, *(None if size == -1 else size for size in tensor.signature[1:])]

    def _output(self, number: int, found: Mapping[int, TensorReference]) -> TensorReference:
        if number not in found:
            raise ConversionError(f"{self.name}: output {self.tensors[number].name!r} is not computed from any input")
        return found[number]

    def _layer(
        self, operator: _Operator, taken: dict[str, int], found: dict[int, TensorReference], batches: tuple[int, ...]
    ) -> LayerDescription:
        """One operator, called like its first output."""
        path = _free(_plain(self.tensors[operator.outputs[0]].name), taken)
        arguments = tuple(None if n == -1 else found[n] if n in found else self._constant(n) for n in operator.inputs)
        for index, number in enumerate(operator.outputs):
            found[number] = TensorReference(path, 0, index)
        config = {
            **operator.options,
            "given": tuple(operator.options.keys() - _OURS),
            "batches": batches,
            "values": max(self.tensors[n].values for n in operator.outputs),
            "custom_options": operator.custom,
            "outputs": len(operator.outputs),
            "types": tuple("" if n == -1 else self.tensors[n].kind for n in operator.inputs),
            "output_type": self.tensors[operator.outputs[0]].kind,
        }
        return LayerDescription(path, f"tflite.{operator.name}", config, (Call(arguments),), weights_of_nothing(path))


_OURS = {"options", "rows", "between_batches", "expanded"}
"""What stands among an operator's options and is not the file's."""


# Operators that belong together ----------------------------------------------------------------------------------------


def _without_batch_tricks(
    operators: Sequence[_Operator],
    tensors: Sequence[_Tensor],
    outputs: set[int],
    constant: Callable[[int], Any],
) -> list[_Operator]:
    """Two idioms mix the images of a batch and part them again; as one operator each, they do not.

    space_to_batch -> conv -> batch_to_space  =>  conv, dilated
    reshape to rows -> fully_connected -> reshape  =>  fully_connected over the last axis -> reshape
    """
    readers: dict[int, list[int]] = {}
    maker: dict[int, int] = {}
    for place, operator in enumerate(operators):
        for n in set(operator.inputs):
            readers.setdefault(n, []).append(place)
        for n in operator.outputs:
            maker[n] = place

    def after(place: int) -> int | None:
        """The only operator that reads the first output of another."""
        number = operators[place].outputs[0]
        found = readers.get(number, [])
        alone = len(found) == 1 and number not in outputs and operators[found[0]].inputs[:1] == (number,)
        return found[0] if alone else None

    def parted(place: int) -> bool:
        """Whether a reshape follows before anything looks at the shape."""
        number = operators[place].outputs[0]
        found = readers.get(number, [])
        reshaped = (operators[p].name == "RESHAPE" and operators[p].inputs[0] == number for p in found)
        if number in outputs or not found:
            return False
        return all(ends or parted_after.get(p, False) for p, ends in zip(found, reshaped, strict=True))

    parted_after: dict[int, bool] = {}
    result: dict[int, _Operator | None] = dict(enumerate(operators))
    for place in reversed(range(len(operators))):
        operator = operators[place]
        if operator.name in _PASSING:
            parted_after[place] = parted(place)
        elif operator.name == "SPACE_TO_BATCH_ND":
            result.update(_dilated(operators, place, after, constant))
        elif operator.name == "FULLY_CONNECTED" and operator.inputs:
            before = maker.get(operator.inputs[0])
            source = operator.inputs[0]
            rows = before is not None and operators[before].name == "RESHAPE" and after(before) == place
            if before is not None and rows and len(tensors[source].shape) == 2 and operators[before].inputs:
                source = operators[before].inputs[0]
                result[before] = None
            options = {**operator.options, "rows": parted(place)}
            result[place] = _Operator(
                operator.name, (source, *operator.inputs[1:]), operator.outputs, options, operator.custom
            )
    return [operator for operator in result.values() if operator is not None]


def _dilated(
    operators: Sequence[_Operator], place: int, after: Callable[[int], int | None], constant: Callable[[int], Any]
) -> list[tuple[int, _Operator | None]]:
    """The convolution between space_to_batch and batch_to_space in the last of them's place; nothing if there is none."""
    chain, here = [place], after(place)
    while here is not None and len(chain) < 5:
        chain.append(here)
        here = None if operators[here].name == "BATCH_TO_SPACE_ND" else after(here)
    whole, names, axis = tuple(chain), [operators[p].name for p in chain], None
    if len(chain) == 5 and names[1] == "EXPAND_DIMS" and names[3] in ("SQUEEZE", "RESHAPE"):
        given = constant((*operators[chain[1]].inputs, -1, -1)[1])
        if not isinstance(given, np.ndarray) or given.size != 1:
            return []
        axis = int(given.reshape(()))
        del chain[3], chain[1], names[3], names[1]
    ends = names[:1] + names[2:]
    if len(chain) != 3 or ends != ["SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"] or not names[1].endswith("CONV_2D"):
        return []
    first, conv, last = (operators[p] for p in chain)
    fused = _Operator(
        conv.name,
        (*first.inputs[:1], *(*conv.inputs, -1)[1:3], *first.inputs[1:], *last.inputs[1:]),
        last.outputs,
        {**conv.options, "between_batches": True, "expanded": axis},
        b"",
    )
    return [*((p, None) for p in whole[:-1]), (whole[-1], fused)]


# Names -----------------------------------------------------------------------------------------------------------------


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _named(enumeration: type, value: int) -> str:
    """A schema's name of a number."""
    return next((name for name, number in vars(enumeration).items() if number == value and name[0] != "_"), "unknown")


def _snake(name: str) -> str:
    """StrideW as the schema writes it: stride_w."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _plain(name: str) -> str:
    """A tensor's name without what TensorFlow puts around it; of several that were fused, the first."""
    first = name.split(";")[0].removeprefix("serving_default_")
    return re.sub(r":0$", "", first) or "tensor"


def _free(wanted: str, taken: dict[str, int]) -> str:
    """A name that nothing has yet. taken: how often each was wanted, so that a file of equal names costs no search."""
    name = wanted
    while name in taken:
        taken[wanted] += 1
        name = f"{wanted} {taken[wanted]}"
    taken[name] = 1
    return name


def _distinct(ports: Sequence[tuple[str, TensorReference]]) -> list[tuple[str, TensorReference]]:
    taken: dict[str, int] = {}
    return [(_free(name, taken), reference) for name, reference in ports]


def _in_order(
    outputs: Sequence[tuple[str, TensorReference]], tensors: Sequence[str]
) -> list[tuple[str, TensorReference]]:
    """Outputs as the model gave them, which the converter shuffles: Keras 3 numbers their names, TensorFlow their tensors."""
    for names in ([name for name, _ in outputs], tensors):
        found = [re.fullmatch(r"(?:output_|(?:Stateful)?PartitionedCall(?:_\d+)?:)(\d+)", name) for name in names]
        if all(found):
            order = [int(match[1]) for match in found if match]
            return [outputs[i] for i in sorted(range(len(outputs)), key=order.__getitem__)]
    return list(outputs)


def _decoded(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Floats as float32, whole numbers as int64."""
    if kind == "BFLOAT16":
        return (values.astype("<u4") << 16).view("<f4")
    if kind == "BOOL":
        return np.asarray(values != 0)
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if values.dtype.kind == "f" else np.int64, copy=False)
