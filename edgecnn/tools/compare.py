"""One model's answers beside another's: the original framework's beside edgecnn's, or two .ecnn files'."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.errors import DataFileError, InputError, MissingPackageError
from edgecnn.runtime.model import Model, load
from edgecnn.tools.arrays import read_arrays
from edgecnn.tools.text import table
from edgecnn.tools.verify import relative_error, sample_inputs

Array = np.ndarray[Any, Any]
Answer = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True)
class Difference:
    """One output of both models.

    Attributes:
        name: the second model's.
        shape: of both.
        largest: largest absolute difference.
        error: the same as a part of the first model's largest value.
        same_class: share of images for which the largest value is at the same place, 0 to 1.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    error: float
    same_class: float


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: what answered (`first`, `second`), for how many images, and a row an output."""

    first: str
    second: str
    images: int
    outputs: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (d.name, "x".join(map(str, d.shape)), f"{d.largest:.2e}", f"{d.error:.2e}", f"{100 * d.same_class:.1f} %")
            for d in self.outputs
        ]
        head = ("output", "shape", "largest difference", "of the largest value", "same class")
        return f"{self.first} beside {self.second}, {self.images} images\n" + table(head, rows, "llrrr")


def compare(
    first: str | os.PathLike[str], second: str | os.PathLike[str], data: str | os.PathLike[str] | None = None
) -> Comparison:
    """Run two models on the same inputs.

    Args:
        first: a Keras file (.h5, .hdf5, .keras: needs Keras), .onnx (needs onnxruntime), .tflite (needs LiteRT) or .ecnn.
        second: an .ecnn file.
        data: .npy or .npz for the second model's inputs; None: one scattered sample.

    Raises:
        MissingPackageError: what runs the first model is not installed.
        InputError: the models do not take the same inputs or give the same outputs.
        DataFileError, ModelFileError: a file cannot be read.
    """
    model = load(second)
    names = [spec.name for spec in model.inputs]
    inputs = sample_inputs(model.graph) if data is None else read_arrays(data, names)
    arrays = [np.asarray(inputs[spec.name], np.float32) for spec in model.inputs]
    found = list(model.run(inputs).values())
    kind, answer = _opened(Path(first), model)
    wanted = answer(arrays)
    if len(wanted) != len(found):
        raise InputError(f"{first} gives {len(wanted)} outputs, {second} {len(found)}; they are not the same model")
    rows = []
    for spec, a, b in zip(model.outputs, wanted, found, strict=True):
        if a.shape != b.shape:
            raise InputError(f"output {spec.name!r}: {first} gives {a.shape}, {second} {b.shape}; not the same model")
        rows.append(_difference(spec.name, a, b))
    return Comparison(f"{first} ({kind})", f"{second} ({model.instruction_set})", len(arrays[0]), tuple(rows))


def _difference(name: str, a: Array, b: Array) -> Difference:
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
    flat = [v.reshape(len(v), -1) for v in (a, b)]
    same = float((flat[0].argmax(1) == flat[1].argmax(1)).mean()) if flat[0].size else 1.0
    return Difference(name, a.shape, largest, relative_error(b, a), same)


def _opened(path: Path, model: Model) -> tuple[str, Answer]:
    """What runs a file, and a function from inputs to outputs, both in the model's order."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise DataFileError(f"{path}: no such file")
    if suffix == ".ecnn":
        other = load(path)
        names = [spec.name for spec in other.inputs]
        if len(names) != len(model.inputs):
            raise InputError(f"{path} takes {len(names)} inputs, the other {len(model.inputs)}; not the same model")
        return f"edgecnn, {other.instruction_set}", lambda xs: list(
            other.run(dict(zip(names, xs, strict=True))).values()
        )
    if suffix in (".h5", ".hdf5", ".keras"):
        return _keras(path, model)
    if suffix == ".onnx":
        return _onnx(path)
    if suffix == ".tflite":
        return _lite(path, model)
    raise InputError(f"{path}: wanted .h5, .hdf5, .keras, .onnx, .tflite or .ecnn")


def _keras(path: Path, model: Model) -> tuple[str, Answer]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow's own kernels: in 2.21 oneDNN's convolutions of some shapes read memory that was never written.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import keras
    except ImportError as error:
        raise MissingPackageError(f"{path}: running it needs Keras: pip install tensorflow") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original = keras.saving.load_model(path, compile=False)  # its safe mode refuses code
    except Exception as error:
        raise DataFileError(f"{path}: Keras {keras.__version__} cannot read it: {error}") from error
    names = [spec.name for spec in model.inputs]
    structure, outputs = model.graph.input_structure, [spec.name for spec in model.outputs]

    def answer(xs: Sequence[Array]) -> list[Array]:
        given: Any = dict(zip(names, xs, strict=True)) if structure == "dict" else list(xs) if len(xs) > 1 else xs[0]
        values = original(given, training=False)
        if isinstance(values, Mapping):
            values = [values[name] for name in outputs]
        return [keras.ops.convert_to_numpy(v) for v in (values if isinstance(values, list | tuple) else [values])]

    return f"Keras {keras.__version__}", answer


def _onnx(path: Path) -> tuple[str, Answer]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(f"{path}: running it needs ONNX Runtime: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataFileError(f"{path}: ONNX Runtime cannot read it: {error}") from error
    names = [value.name for value in session.get_inputs()]
    return f"ONNX Runtime {onnxruntime.__version__}", lambda xs: list(
        session.run(None, dict(zip(names, xs, strict=True)))
    )


def _lite(path: Path, model: Model) -> tuple[str, Answer]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingPackageError(f"{path}: running it needs LiteRT: pip install ai-edge-litert") from error
    try:
        interpreter = Interpreter(str(path))
    except Exception as error:
        raise DataFileError(f"{path}: LiteRT cannot read it: {error}") from error

    named = _lite_by_name(interpreter, model)
    if named:
        return "LiteRT", named

    def answer(xs: Sequence[Array]) -> list[Array]:
        details = interpreter.get_input_details()
        for detail, x in zip(details, xs, strict=True):
            interpreter.resize_tensor_input(detail["index"], x.shape)
        interpreter.allocate_tensors()
        for detail, x in zip(details, xs, strict=True):
            interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]

    return "LiteRT", answer


def _lite_by_name(interpreter: Any, model: Model) -> Answer | None:
    """By the names in the file, None where these are not the model's: its order of outputs need not be the model's."""
    given, wanted = [spec.name for spec in model.inputs], [spec.name for spec in model.outputs]
    for key, ports in interpreter.get_signature_list().items():
        if set(ports["inputs"]) == set(given) and set(ports["outputs"]) == set(wanted):
            return partial(_run_signature, interpreter.get_signature_runner(key), given, wanted)
    return None


def _run_signature(runner: Any, given: Sequence[str], wanted: Sequence[str], xs: Sequence[Array]) -> list[Array]:
    found = runner(**dict(zip(given, xs, strict=True)))
    return [found[name] for name in wanted]
