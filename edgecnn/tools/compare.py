"""One model's answers beside another's: the original framework's beside edgecnn's, or two .ecnn files'."""

from __future__ import annotations

import base64
import json
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgecnn.errors import DataFileError, InputError, MissingPackageError
from edgecnn.files import open_regular, suffix_of, write_file
from edgecnn.format.foreign import ZIP, foreign_kind
from edgecnn.graph import Graph, Port
from edgecnn.runtime.model import Model, load
from edgecnn.tools.arrays import read_arrays
from edgecnn.tools.page import plain, render
from edgecnn.tools.text import Block, Table, joined, printable
from edgecnn.tools.verify import relative_error, sample_inputs

Array = np.ndarray[Any, Any]
Answer = Callable[[Sequence[Array]], list[Array]]

TOLERANCE = 1e-3
"""Of a layer's largest value. Float32 kernels stay a hundred times below, weights in float16 mostly so."""
MOST_IMAGES = 4
"""Of which every layer's output is kept."""
SIDE = 64
"""Most pixels of a picture along each side."""


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
class LayerDifference:
    """One node of the second model, and the layer of the first one that gives the same.

    Attributes:
        node, operator: the second model's.
        layer: the first model's: a Keras layer's path, or a node.
        shape: of both, with the images.
        error: largest difference as a part of the largest value.
        mean: root mean square of the difference as a part of that of the values.
    """

    node: str
    operator: str
    layer: str
    shape: tuple[int, ...]
    error: float
    mean: float


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        first, second: what answered.
        images: for how many.
        outputs: a row an output.
        layers: a row for each node whose layer is found in both models, in order; of the first images only.
        tolerance: largest error of a layer that counts as the same.
        maps: pictures of the layer where they part, or of the one that differs most; see `pictures_of`.
    """

    first: str
    second: str
    images: int
    outputs: tuple[Difference, ...]
    layers: tuple[LayerDifference, ...] = ()
    tolerance: float = TOLERANCE
    maps: Mapping[str, Any] | None = None

    @property
    def parting(self) -> LayerDifference | None:
        """The first layer where the models part; None if they do not."""
        return next((row for row in self.layers if not row.error <= self.tolerance), None)

    def to_json(self) -> dict[str, Any]:
        """All fields but the pictures, as JSON can hold them."""
        record = {**asdict(self), "parting": None if self.parting is None else self.parting.node}
        record.pop("maps")
        return record

    def __str__(self) -> str:
        return joined(self.blocks())

    def blocks(self) -> list[Block]:
        """What is said of it, for people."""
        rows = [
            (d.name, "x".join(map(str, d.shape)), f"{d.largest:.2e}", f"{d.error:.2e}", f"{100 * d.same_class:.1f} %")
            for d in self.outputs
        ]
        head = ("output", "shape", "largest difference", "of the largest value", "same class")
        title = f"{self.first} beside {self.second}, {self.images} images"
        parts: list[Block] = [title, Table(head, rows, "llrrr")]
        if self.layers:
            lines = [
                (
                    row.node,
                    row.layer,
                    row.operator,
                    "x".join(map(str, row.shape)),
                    f"{row.error:.2e}",
                    f"{row.mean:.2e}",
                )
                for row in self.layers
            ]
            columns = ("node", "layer", "operator", "shape", "largest error", "root mean square")
            parts += ["", Table(columns, lines, "llllrr"), self._verdict()]
        return parts

    def _verdict(self) -> str:
        parting = self.parting
        if parting is None:
            return f"no layer differs by more than {self.tolerance:g} of its largest value"
        return (
            f"they part at {printable(parting.node)}: an error of {parting.error:.2e}, more than {self.tolerance:g} of the "
            f"layer's largest value"
        )


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    layers: bool = True,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Run two models on the same inputs.

    Args:
        first: a Keras file (.h5, .hdf5, .keras: needs Keras), .onnx (needs onnxruntime), .tflite (needs LiteRT) or .ecnn.
        second: an .ecnn file.
        data: .npy or .npz for the second model's inputs; None: one scattered sample.
        layers: whether to compare layer by layer as well, where the first model is a Keras file or an .ecnn.
        tolerance: largest error of a layer, as a part of its largest value, that counts as the same.

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
    kind, answer, inner = _opened(Path(first), model)
    wanted = answer(arrays)
    if len(wanted) != len(found):
        raise InputError(f"{first} gives {len(wanted)} outputs, {second} {len(found)}; they are not the same model")
    rows = []
    for spec, a, b in zip(model.outputs, wanted, found, strict=True):
        if a.shape != b.shape:
            raise InputError(f"output {spec.name!r}: {first} gives {a.shape}, {second} {b.shape}; not the same model")
        rows.append(_difference(spec.name, a, b))
    compared: tuple[LayerDifference, ...] = ()
    maps = None
    if layers and inner is not None and len(arrays[0]):
        compared, maps = _layers(
            model, inner([a[:MOST_IMAGES] for a in arrays]), [a[:MOST_IMAGES] for a in arrays], tolerance
        )
    return Comparison(
        f"{first} ({kind})",
        f"{second} ({model.instruction_set})",
        len(arrays[0]),
        tuple(rows),
        compared,
        tolerance,
        maps,
    )


def every_output(graph: Graph) -> Graph:
    """The graph with every tensor that a node makes as an output, by its own name."""
    ports = tuple(Port(output, output) for node in graph.nodes for output in node.outputs)
    return replace(graph, outputs=ports, output_structure="dict")


def _layers(
    model: Model, wanted: Layers, arrays: Sequence[Array], tolerance: float
) -> tuple[tuple[LayerDifference, ...], dict[str, Any] | None]:
    """A row for each node that gives what a layer of the first model gives, and pictures of one of them."""
    graph = model.graph
    found = Model(every_output(graph), threads=model.threads).run(
        dict(zip([spec.name for spec in model.inputs], arrays, strict=True))
    )
    last = {layer: node.name for node in graph.nodes for layer in node.layers}
    rows: list[LayerDifference] = []
    worst: tuple[float, dict[str, Any]] | None = None
    for node in graph.nodes:
        # A node gives what the last of its layers gives, unless a later node goes on with that layer.
        names = [name for name in wanted.order if name == node.name or last.get(name) == node.name]
        own = [name for name in names if name == node.name] if wanted.nodes else names
        if not own or len(node.outputs) != 1:
            continue
        layer, values = own[-1], found[node.output]
        candidates = [a for a in _as_layouts(wanted.values[layer]) if a.shape == values.shape]
        if not candidates:
            continue
        a = min(candidates, key=lambda one: _distance(one, values))
        row = LayerDifference(
            node.name, node.operator, layer, values.shape, relative_error(values, a), _mean_error(a, values)
        )
        rows.append(row)
        weight = math.inf if not row.error <= tolerance else row.error
        if worst is None or weight > worst[0]:
            worst = (weight, {"node": node.name, "layer": layer, **pictures_of(a, values)})
    return tuple(rows), None if worst is None else worst[1]


def _as_layouts(values: Array) -> list[Array]:
    """The values as they are, and, where their channels may come first, with these last."""
    return [values] if values.ndim < 3 else [values, np.moveaxis(values, 1, -1)]


def _distance(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        distance = float(np.abs(a.astype(np.float64) - b).mean())
    return distance if math.isfinite(distance) else math.inf


def _mean_error(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        difference = math.sqrt(float(np.square(a.astype(np.float64) - b).mean()))
        size = math.sqrt(float(np.square(a, dtype=np.float64).mean()))
    return difference / size if size else difference


def pictures_of(a: Array, b: Array) -> dict[str, Any]:
    """A layer's values in both models, and their difference, of the image and the channel where they differ most.

    Returns:
        first, second, difference: width, height and base64 of bytes, 0 for `low` and 255 for `high` (of the difference:
        0 and `largest`); image and channel: which.
    """
    with np.errstate(all="ignore"):
        apart = np.nan_to_num(np.abs(a.astype(np.float64) - b), nan=0.0, posinf=0.0)
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    shown = [x[place[0]][..., place[-1]] if a.ndim > 2 else x[place[0]] for x in (a, b, apart)]
    images = [_picture(np.nan_to_num(x.astype(np.float64))) for x in shown]
    low, high = float(min(images[0].min(), images[1].min())), float(max(images[0].max(), images[1].max()))
    largest = float(images[2].max())
    scales = ((low, high), (low, high), (0.0, largest))
    names = ("first", "second", "difference")
    drawn = {name: _as_bytes(x, *scale) for name, x, scale in zip(names, images, scales, strict=True)}
    where = {"image": int(place[0]), "channel": int(place[-1]) if a.ndim > 2 else None}
    return {**drawn, **where, "low": low, "high": high, "largest": largest}


def _picture(values: Array) -> Array:
    """Values of any shape as a picture of at most SIDE by SIDE: every k-th of them where there are more."""
    if values.ndim > 2:
        values = values.reshape(-1, values.shape[-1])
    if values.ndim < 2:
        width = math.ceil(math.sqrt(values.size))
        values = np.pad(values.reshape(-1), (0, -values.size % width)).reshape(-1, width)
    steps = [-(-size // SIDE) for size in values.shape]
    return values[:: steps[0], :: steps[1]]


def _as_bytes(values: Array, low: float, high: float) -> dict[str, Any]:
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    cells = base64.b64encode(np.round(255 * scaled).astype(np.uint8).tobytes()).decode()
    return {"width": values.shape[1], "height": values.shape[0], "cells": cells}


def _difference(name: str, a: Array, b: Array) -> Difference:
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
    flat = [v.reshape(len(v), -1) for v in (a, b)]
    same = float((flat[0].argmax(1) == flat[1].argmax(1)).mean()) if flat[0].size else 1.0
    return Difference(name, a.shape, largest, relative_error(b, a), same)


@dataclass(frozen=True)
class Layers:
    """Outputs of a model's layers for some images.

    Attributes:
        values: by name.
        order: the names, in the model's order.
        nodes: whether they are nodes of an .ecnn file; else paths of Keras layers.
    """

    values: Mapping[str, Array]
    order: Sequence[str]
    nodes: bool


Inner = Callable[[Sequence[Array]], Layers]


def _opened(path: Path, model: Model) -> tuple[str, Answer, Inner | None]:
    """What runs a file; a function from inputs to outputs, both in the model's order; and one to the layers' outputs, None where
    they cannot be seen."""
    suffix = path.suffix.lower()
    with open_regular(path, DataFileError, "the file of a model") as file:
        if suffix == ".keras":
            _check_archive(path, file)
    if suffix == ".ecnn":
        other = load(path)
        names = [spec.name for spec in other.inputs]
        if len(names) != len(model.inputs):
            raise InputError(f"{path} takes {len(names)} inputs, the other {len(model.inputs)}; not the same model")

        def answer(xs: Sequence[Array]) -> list[Array]:
            return list(other.run(dict(zip(names, xs, strict=True))).values())

        def inner(xs: Sequence[Array]) -> Layers:
            whole = Model(every_output(other.graph), threads=other.threads)
            found = whole.run(dict(zip(names, xs, strict=True)))
            nodes = [node for node in other.graph.nodes if len(node.outputs) == 1]
            return Layers({node.name: found[node.output] for node in nodes}, [node.name for node in nodes], True)

        return f"edgecnn, {other.instruction_set}", answer, inner
    if suffix in (".h5", ".hdf5", ".keras"):
        return _keras(path, model)
    if suffix == ".onnx":
        return (*_onnx(path), None)
    if suffix == ".tflite":
        return (*_lite(path, model), None)
    raise InputError(f"{path}: wanted .h5, .hdf5, .keras, .onnx, .tflite or .ecnn")


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse a .keras file that is no zip archive, of which Keras says that it is not there."""
    start = file.read(8)
    if not start:
        raise DataFileError(f"{path}: is empty; save the model again")
    if not start.startswith(ZIP):
        found = foreign_kind(start, "")
        raise DataFileError(f"{path}: no .keras file: it {f'is {found}' if found else f'starts with {start!r}'}")
    try:
        with zipfile.ZipFile(file):
            pass
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataFileError(f"{path}: a damaged zip file ({error}); copy or save it again") from error


def _keras(path: Path, model: Model) -> tuple[str, Answer, Inner]:
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

    def inner(xs: Sequence[Array]) -> Layers:
        values: dict[str, Array] = {}
        leaves = dict(_leaves(original, ""))
        kept = {path: layer.call for path, layer in leaves.items()}
        for path, layer in leaves.items():
            layer.call = partial(_recorded, layer.call, path, values, keras)
        try:
            answer(xs)
        finally:
            for path, layer in leaves.items():
                layer.call = kept[path]
        return Layers(values, list(values), False)

    return f"Keras {keras.__version__}", answer, inner


def _leaves(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Layers that are no models themselves, by their paths."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer, f"{path}{layer.name}/")
        else:
            yield f"{path}{layer.name}", layer


def _recorded(call: Any, path: str, values: dict[str, Array], keras: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a layer gives, noted at its first call."""
    result = call(*arguments, **keywords)
    if path not in values and keras.ops.is_tensor(result):
        values[path] = keras.ops.convert_to_numpy(result)
    return result


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


SUFFIXES = (".json", ".html", ".png")


def save(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write a comparison beside the target, and rename; an existing file is replaced.

    Args:
        path: .json, .html (a page that needs nothing else) or .png (needs matplotlib).

    Raises:
        InputError: another suffix.
        MissingPackageError: a picture without matplotlib.
        DataFileError: it cannot be written.
    """
    suffix = suffix_of(path, SUFFIXES, "a comparison")
    if suffix == ".json":
        content = json.dumps(plain(comparison.to_json()), indent=1).encode() + b"\n"
    elif suffix == ".html":
        data = {**comparison.to_json(), "maps": comparison.maps}
        content = render("compare", "compare", data).encode()
    else:
        content = _chart(comparison)
    write_file(path, content)


def _chart(comparison: Comparison) -> bytes:
    """Error by layer, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError('pictures of comparisons need matplotlib: pip install "edgecnn[plot]"') from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots()
    finite = [row.error for row in comparison.layers if math.isfinite(row.error)]
    heights = [row.error if math.isfinite(row.error) else max([*finite, 1.0]) for row in comparison.layers]
    colours = ["#2563c9" if row.error <= comparison.tolerance else "#c0392b" for row in comparison.layers]
    axes.bar(range(len(heights)), [max(height, 1e-9) for height in heights], color=colours)
    axes.axhline(
        comparison.tolerance, color="#14181f", linestyle="--", linewidth=1, label=f"tolerance {comparison.tolerance:g}"
    )
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-9)
    axes.set_xlabel("layers, in order")
    parting = comparison.parting
    verdict = "they do not part" if parting is None else f"they part at {parting.node}"
    axes.set_title(f"largest error as a part of the layer's largest value; {verdict}".replace("$", r"\$"), loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    return drawn.getvalue()
