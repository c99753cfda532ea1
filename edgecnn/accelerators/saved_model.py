"""A model as TensorFlow's SavedModel: what TensorFlow Serving and Triton load."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import format as file_format
from edgecnn.accelerators.tensorflow import import_tensorflow
from edgecnn.accelerators.tensorflow_operators import evaluate
from edgecnn.errors import DataFileError, InputError
from edgecnn.format.preprocessing import preprocessing_of
from edgecnn.graph import Graph
from edgecnn.graph.reference import values_of
from edgecnn.runtime.model import Model
from edgecnn.runtime.planner import infer_shapes

SERVING = "serving_default"
"""The signature that servers call unless told otherwise: inputs and outputs of the graph, float32."""

PICTURES = "pictures"
"""The signature that takes pictures as they are, uint8, and does what the metadata say before the network."""

CHANNELS = (1, 3, 4)
"""Of pictures: gray, RGB, RGBA."""


def write_saved_model(
    source: str | os.PathLike[str] | bytes | Graph | Model, folder: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Write a model as a SavedModel, beside the target, and rename.

    Its signature `serving_default` takes and gives float32 arrays (N, ...) by the model's public names; in names of inputs, what
    is no letter, digit or underscore is "_", as TensorFlow wants it. Where the metadata have preprocessing and the input is a
    picture's (1, 3 or 4 channels), the signature `pictures` takes uint8 values, 0 to 255, by the same names.

    Args:
        source: path of an .ecnn file, its bytes, a graph, or a model.
        folder: what to write; a server wants a number there, the version: "models/flowers/1".
        overwrite: whether a SavedModel that is there may be replaced.

    Raises:
        InputError: the folder exists, the model leaves sizes open, or two inputs would have the same name.
        MissingPackageError: TensorFlow is not installed.
        ModelFileError: the file cannot be read.
        DataFileError: the folder cannot be written.
    """
    target = Path(folder)
    _check_target(target, overwrite)
    graph = source.graph if isinstance(source, Model) else source
    graph = graph if isinstance(graph, Graph) else file_format.read(graph)
    tf = import_tensorflow("writing a SavedModel")
    module = tf.Module()
    signatures = _signatures(tf, module, graph)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
            written = Path(beside, "written")
            tf.saved_model.save(module, str(written), signatures=signatures)
            if target.exists():
                target.rename(Path(beside, "replaced"))
            written.rename(target)
    except OSError as error:
        raise DataFileError(f"{target}: cannot be written: {error.strerror or error}") from error


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise InputError(f"{target}: exists already; give another folder, or overwrite=True")
    if not (target / "saved_model.pb").is_file():
        raise InputError(f"{target}: is no SavedModel, and only one of these is replaced; give another folder")


def _signatures(tf: Any, module: Any, graph: Graph) -> dict[str, Any]:
    """What servers call, by name. The module comes to hold the weights."""
    for port in graph.inputs:
        shape = graph.shape(port.tensor)
        if None in shape[1:]:
            raise InputError(
                f"input {port.name!r} has shape {shape}: a SavedModel is written for known sizes; convert the model with "
                "--input-shape"
            )
    sizes = {port.tensor: tuple(size or 0 for size in graph.shape(port.tensor)[1:]) for port in graph.inputs}
    shapes = infer_shapes(graph, sizes)
    used = {name for node in graph.nodes for name in node.inputs if name in graph.constants}
    # On the CPU: who loads the SavedModel says where its weights go.
    with tf.device("/device:CPU:0"):
        weights = {
            name: tf.Variable(values_of(graph.constants[name], np.float32), trainable=False) for name in sorted(used)
        }
    module.weights = list(weights.values())

    def compute(*inputs: Any) -> dict[str, Any]:
        outputs = evaluate(tf, graph, shapes, inputs, lambda name, dtype: tf.convert_to_tensor(weights[name]))
        return {port.name: output for port, output in zip(graph.outputs, outputs, strict=True)}

    names = _names([port.name for port in graph.inputs])
    signatures = {SERVING: _traced(tf, compute, names, sizes.values(), "float32")}
    pictures = _pictures(tf, compute, graph.metadata, list(sizes.values()))
    if pictures is not None:
        signatures[PICTURES] = _traced(tf, pictures, names, sizes.values(), "uint8")
    return signatures


def _pictures(
    tf: Any, compute: Callable[..., Any], metadata: Mapping[str, Any], sizes: Sequence[tuple[int, ...]]
) -> Callable[..., Any] | None:
    """`compute` of uint8 pictures; None where nothing is said of them or the input is none for them."""
    if "preprocessing" not in metadata or [(len(size), size[-1:]) for size in sizes] not in [
        [(3, (c,))] for c in CHANNELS
    ]:
        return None
    preprocessing = preprocessing_of(metadata)
    preprocessing.apply(np.zeros((1, *sizes[0]), np.uint8))  # raises where it does not fit the channels
    scale, offset = (np.asarray(v, np.float32) for v in (preprocessing.scale, preprocessing.offset))
    return lambda picture: compute(tf.cast(picture, tf.float32) * scale + offset)


def _traced(tf: Any, function: Callable[..., Any], names: Sequence[str], sizes: Any, dtype: str) -> Any:
    signature = [tf.TensorSpec((None, *size), dtype, name=name) for name, size in zip(names, sizes, strict=True)]
    return tf.function(function, autograph=False).get_concrete_function(*signature)


def _names(given: Sequence[str]) -> list[str]:
    """Public names as TensorFlow takes them for the inputs of a signature."""
    names = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in given]
    names = [name if name[:1].isalpha() else f"input_{name}" for name in names]
    if len(set(names)) < len(names):
        raise InputError(f"inputs named {list(given)} would be called {names} in a SavedModel; wanted different names")
    return names
