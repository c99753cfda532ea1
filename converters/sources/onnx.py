"""ONNX models: what PyTorch and others export. Nothing is executed; the onnx package only parses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.converters.sources.configuration import input_layer, weights_of_nothing
from edgecnn.converters.sources.description import Call, LayerDescription, ModelDescription, TensorReference
from edgecnn.errors import ConversionError, MissingPackageError
from edgecnn.files import open_regular

MOST_BYTES = 2**31
"""A protocol buffer holds no more; weights beyond that lie in files beside it."""
_INTEGERS = ("UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "UINT32", "UINT64", "UINT4", "INT4")
"""Element types of tensors that ONNX computes with as integers: what overflows wraps around, divisions round."""
_NO_INTEGERS = ("Cast", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Shape", "Size")
"""Operators that give something else of integers."""


@contextmanager
def describe(source: Path | bytes) -> Iterator[ModelDescription]:
    """The model in an .onnx file, or in its bytes."""
    path = source if isinstance(source, Path) else None
    name = str(path) if path else "<bytes>"
    try:
        import onnx
        from onnx import inliner
    except ImportError as error:
        raise MissingPackageError(f"{name}: reading it needs onnx: pip install edgecnn[onnx]") from error
    data = _bytes(source) if isinstance(source, Path) else source
    try:
        model = onnx.load_model_from_string(data)
        _check_text(model, name)
        if model.functions:
            model = inliner.inline_local_functions(model)
        if not model.graph.node or not model.graph.output:
            raise ConversionError(f"{name}: no ONNX model: it has no nodes or no outputs")
        yield _Reader(model, name, path, len(data)).model()
    except ConversionError:
        raise
    except Exception as error:
        # The parsers raise whatever they like at a damaged file: DecodeError, TypeError, RuntimeError ...
        if isinstance(error, MemoryError) or type(error).__module__.startswith("edgecnn"):
            raise
        raise ConversionError(f"{name}: a damaged ONNX model ({type(error).__name__}: {error})") from error


def _bytes(path: Path) -> bytes:
    with open_regular(path, ConversionError, "an .onnx file") as file:
        return file.read()


_UNREAD = frozenset({"doc_string", "metadata_props", "producer_name", "producer_version"})
"""Fields whose text nothing reads."""


def _check_text(message: Any, where: str) -> None:
    """Refuse names that are no UTF-8, which protobuf gives as bytes."""
    for field, value in message.ListFields():
        if field.name in _UNREAD:
            continue
        if field.type == field.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    raise ConversionError(f"{where}: {message.DESCRIPTOR.name}.{field.name} {text!r} is no UTF-8")
        elif field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Sequence) else [value]:
                _check_text(part, where)


def _opset(model: Any) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _kinds(attribute: Any, depth: int = 8) -> set[str]:
    """The operators in an attribute's graph, and in the graphs inside it."""
    nodes = [node for graph in (attribute.g, *attribute.graphs) for node in graph.node]
    inner = (_kinds(entry, depth - 1) for node in nodes for entry in node.attribute if depth)
    return {node.op_type for node in nodes}.union(*inner)


class _Reader:
    def __init__(self, model: Any, name: str, path: Path | None, size: int) -> None:
        self.proto, self.name, self.path, self.size = model, name, path, size
        self.opset = _opset(model)
        self.found: dict[str, Any] = {"": None}
        """What each value name stands for: an array, or the reference of a computed tensor."""
        self.batches: set[int] = set()
        self.readers: dict[str, str] = {value.name: "the model's output" for value in model.graph.output}
        """Who reads a value."""
        for node in model.graph.node:
            self.readers.update({value: f"the {node.op_type} {node.name!r}" for value in node.input if value})
        self.integers: dict[str, str] = {}
        """Computed values that are integers, and of which type."""
        self.beside: set[str] = set()
        """Files with weights that have been read."""
        self.taken = 0

    def model(self) -> ModelDescription:
        graph = self.proto.graph
        if graph.sparse_initializer:
            raise ConversionError(f"{self.name}: has sparse initialisers; export it with dense ones")
        for tensor in graph.initializer:
            self.found[tensor.name] = self._array(tensor)
        layers: list[LayerDescription] = []
        inputs: list[tuple[str, TensorReference]] = []
        for value in graph.input:
            if value.name not in self.found:
                layers.append(self._input(value))
                inputs.append((value.name, TensorReference(value.name)))
                self.found[value.name] = inputs[-1][1]
        if not inputs:
            raise ConversionError(f"{self.name}: has no input; all is constant")
        taken = {layer.path for layer in layers}
        layers += [self._layer(node, taken) for node in graph.node]
        outputs = []
        for value in graph.output:
            reference = self.found.get(value.name)
            if not isinstance(reference, TensorReference):
                raise ConversionError(f"{self.name}: output {value.name!r} is not computed from any input")
            outputs.append((value.name, reference))
        return ModelDescription(
            self.name,
            graph.name or "onnx",
            (0, 0),
            tuple(layers),
            tuple(inputs),
            tuple(outputs),
            "single" if len(inputs) == 1 else "list",
            "single" if len(outputs) == 1 else "list",
            self.size,
            {},
            f"ONNX opset {self.opset}" + (f", {self.proto.producer_name}" if self.proto.producer_name else ""),
        )

    def _input(self, value: Any) -> LayerDescription:
        """An input; its first size is the batch, whatever the file says."""
        kind = value.type.tensor_type
        known = value.type.HasField("tensor_type") and kind.HasField("shape")
        sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
        if not known or not sizes:  # refused by name, with whatever else is
            return LayerDescription(value.name, "onnx.Input", {}, (Call(),), weights_of_nothing(value.name))
        if sizes[0] is not None:
            self.batches.add(sizes[0])
        from onnx import TensorProto

        element = TensorProto.DataType.Name(kind.elem_type)
        if element in _INTEGERS:
            self.integers[value.name] = element.lower()
        return input_layer(value.name, [None, *sizes[1:]])

    def _allow(self, location: str, held: int, size: int, where: str) -> None:
        """Weights beside the model belong to it, but constants that overlap there must not multiply them."""
        if location not in self.beside:
            self.beside.add(location)
            self.size += held
        self.taken += size
        if self.taken > 2 * self.size:
            raise ConversionError(f"{where}: constants take {self.taken} bytes of files that hold {self.size}")

    def _layer(self, node: Any, taken: set[str]) -> LayerDescription:
        """One operator. It is called like its node, or like its first output."""
        wanted = node.name or next((name for name in node.output if name), node.op_type)
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted} {number}", number + 1
        taken.add(name)
        missing = [value for value in node.input if value not in self.found]
        if missing:
            raise ConversionError(f"{self.name}: node {name!r} reads {missing[0]!r}, which nothing before it gives")
        arguments = tuple(self.found[value] for value in node.input)
        for index, output in enumerate(node.output):
            if output:
                self.found[output] = TensorReference(name, 0, index)
        outputs = {index: output for index, output in enumerate(node.output) if output}
        integers = next((self.integers[value] for value in node.input if value in self.integers), "")
        if integers and node.op_type not in _NO_INTEGERS:
            self.integers |= dict.fromkeys(outputs.values(), integers)
        config = {
            "attributes": {attribute.name: self._attribute(attribute) for attribute in node.attribute},
            "kinds": {attribute.name: attribute.type for attribute in node.attribute},
            "opset": self.opset,
            "outputs": len(node.output),
            "named": tuple(outputs),
            "wanted": {index: self.readers[output] for index, output in outputs.items() if output in self.readers},
            "integers": integers,
            "reads": tuple(node.input),
            "batches": tuple(self.batches),  # shapes that hold a fixed batch are known by it
        }
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        return LayerDescription(
            name, f"onnx.{domain}{node.op_type}", config, (Call(arguments),), weights_of_nothing(name)
        )

    def _attribute(self, attribute: Any) -> Any:
        from onnx import AttributeProto, helper

        if attribute.type == AttributeProto.TENSOR:
            return self._array(attribute.t)
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            return f"a graph of {', '.join(sorted(_kinds(attribute)))}"
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    def _array(self, tensor: Any) -> np.ndarray[Any, Any]:
        """A constant, from the model or from a file beside it, of the size that it claims."""
        import onnx
        from onnx import numpy_helper

        where = f"{self.name}: constant {tensor.name!r}"
        if any(size < 0 for size in tensor.dims):
            raise ConversionError(f"{where}: has the shape {list(tensor.dims)}")
        count = 1
        for size in tensor.dims:
            count *= size
        if count > MOST_BYTES:
            raise ConversionError(f"{where}: claims {count} values")
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return np.asarray(numpy_helper.to_array(tensor))
        entries: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        plain = Path(location).name == location and location not in ("", ".", "..")
        if self.path is None or not plain or (self.path.parent / location).is_symlink():
            raise ConversionError(
                f"{where}: lies in {location!r}; only a plain file beside the model is read, for safety"
            )
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        start, size = int(entries.get("offset", 0)), count * dtype.itemsize

        def fail(message: str) -> ConversionError:
            return ConversionError(f"{where}: {message}")

        try:
            with open_regular(self.path.parent / location, fail, "a file of weights") as file:
                held = os.fstat(file.fileno()).st_size
                if start + size > held:
                    raise ConversionError(
                        f"{where}: wanted {size} bytes of {location!r} at {start}, found {held} in all"
                    )
                self._allow(location, held, size, where)
                file.seek(start)
                data = file.read(size)
        except (OSError, ValueError) as error:
            raise ConversionError(f"{where}: {location!r} beside the model cannot be read ({error})") from error
        if len(data) != size or int(entries.get("length", size)) != size:
            raise ConversionError(f"{where}: wanted {size} bytes of {location!r} at {start}, found {len(data)}")
        return np.frombuffer(data, dtype).reshape(tuple(tensor.dims))
