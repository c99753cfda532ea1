"""Foreign model -> graph -> .ecnn file. `convert` is the one entrance.

sources/     what the model comes as -> a description: layers, connections, weights; nothing is executed
layers/      one function a layer, built with builder.py
assembly.py  description -> graph
passes/      graph -> graph, faster
report.py    what became of every layer
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import format as file_format
from edgecnn.converters.assembly import assemble
from edgecnn.converters.layers import register
from edgecnn.converters.passes import pipeline
from edgecnn.converters.report import LayerOutcome, Report, outcomes
from edgecnn.converters.sources import open_source
from edgecnn.errors import ConversionError, GraphError, InputError, ModelFileError, VerificationError
from edgecnn.format.encodings import best
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import TraceRow
from edgecnn.runtime.cpu import choose
from edgecnn.runtime.model import load
from edgecnn.runtime.planner import outline
from edgecnn.tools.verify import KEY, TOLERANCE, check, golden_sample

__all__ = ["Conversion", "LayerOutcome", "Report", "convert", "explain", "register", "to_graph"]

WEIGHTS = ("float32", "float16")
HALF_TOLERANCE = 0.02
"""For answers with float16 weights beside those with the model's own, as a part of the largest value."""
MOST_HALF_ONLY = 1024
"""Constants of fewer values (biases, statistics) stay in float32: they decide accuracy and weigh nothing."""


def convert(
    model: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    weights: str = "float32",
    compress: bool = False,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    verify: bool = False,
    config: str | os.PathLike[str] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Report:
    """Convert a Keras model to an .ecnn file, without TensorFlow and without executing anything from the file.

    Args:
        model: path of an .h5, .hdf5, .keras, .onnx or .tflite file, or a Keras model (Keras 3 or tf-keras).
        output: the file to write; None: beside the source, with the suffix .ecnn.
        weights: "float32", or "float16" for half the size (rounded to 11 bits; computing stays in float32).
        compress: compress the weights losslessly where that makes them smaller.
        labels: names of the classes, in the order of the outputs.
        metadata: anything JSON can hold, kept in the file.
        overwrite: whether an existing file may be replaced.
        verify: compute a golden sample by the plain meaning of the model's operators, before any pass; hold this CPU's
            answers against it, and keep it in the file for `edgecnn verify`.
        config: where `model` holds weights alone (.weights.h5): the JSON of its structure, from model.to_json().
        input_shapes: sizes without the batch, in the model's own order, by input name, for inputs whose sizes the model
            leaves open: the file then takes these only, and what depends on them is computed now.

    Raises:
        VerificationError: with `verify`, this CPU's answers are off.
        UnsupportedLayerError: listing every layer that cannot be converted.
        ConversionError: no such file, no Keras model, damaged, or unsafe.
        InputError: an argument that cannot be meant; the output exists already.
    """
    if weights not in WEIGHTS:
        raise InputError(f"weights={weights!r}: wanted one of {', '.join(WEIGHTS)}")
    if output is None:
        if not isinstance(model, str | os.PathLike):
            raise InputError("output: a model object has no file beside which to write; name one")
        if not Path(model).name:
            raise InputError(f"output: {model!s} has no name to make one of; name the file to write")
        output = Path(model).with_suffix(".ecnn")
    target = Path(output)
    if target.exists() and not overwrite:
        raise InputError(
            f"{target}: exists already; allow to replace it (overwrite=True, --force) or name another file"
        )
    extra = dict(metadata or {})
    if labels is not None:
        extra["labels"] = [str(label) for label in labels]
    with open_source(model, config) as description:
        plain = assemble(description, input_shapes)
        notes = (*description.notes, *_warnings(plain, extra))
        graph, _ = _run_passes(plain, description.source)
        graph = _encoded(replace(graph, metadata={**graph.metadata, **extra}), weights)
        notes += check_plan(graph)
        if verify:
            graph = _with_golden_sample(graph, plain, weights)
        size = file_format.write(graph, target, compress=compress, overwrite=overwrite)
        return Report(
            description.source,
            str(target),
            description.writer or f"Keras {description.keras[0]}.{description.keras[1]}",
            outcomes(description, graph),
            len(graph.nodes),
            sum(constant.array.size for constant in graph.constants.values()),
            size,
            description.size,
            graph.macs,
            notes,
        )


USUAL_SIZES = (224, 256, 299, 128, 64, 32, 640, 100)
"""What the open sizes of an input are tried with."""


def check_plan(graph: Graph) -> tuple[str, ...]:
    """Refuse now what `load` would: the graph is planned once, nothing being packed.

    Where sizes are open, usual ones are tried; what a plan needs beside them is the same for all.

    Returns:
        What the user should know: that none of the usual sizes fits.

    Raises:
        ConversionError: there is no plan for the input's own sizes.
    """
    given = {port.tensor: graph.shape(port.tensor)[1:] for port in graph.inputs}
    open_sizes = any(None in shape for shape in given.values())
    problem = ""
    for usual in USUAL_SIZES if open_sizes else (0,):
        inputs = {name: tuple(usual if size is None else size for size in shape) for name, shape in given.items()}
        try:
            outline(graph, inputs, choose())
        except (GraphError, InputError, ModelFileError) as error:
            problem = str(error)
        else:
            return ()
    if not open_sizes:
        raise ConversionError(f"{graph.name}: the model cannot be run: {problem}")
    tried = ", ".join(map(str, USUAL_SIZES))
    return (f"no input of the usual sizes ({tried}) fits the network: {problem}",)


def _with_golden_sample(graph: Graph, plain: Graph, weights: str) -> Graph:
    """The graph with a golden sample in its metadata, checked on this CPU.

    The sample is of the weights as the file holds them; that these and the passes keep the model's answers is checked
    against the graph as it was before.
    """
    stored = file_format.read(file_format.encode(graph))
    sample = golden_sample(stored)
    for wanted, tolerance in (
        (sample, TOLERANCE),
        (golden_sample(plain), HALF_TOLERANCE if weights == "float16" else TOLERANCE),
    ):
        result = replace(check(load(stored), wanted), tolerance=tolerance)
        if not result.passed:
            raise VerificationError(f"{graph.name}: this CPU's answers differ from the model's\n{result}")
    return replace(graph, metadata={**graph.metadata, KEY: sample})


def to_graph(model: Any, *, passes: bool = True, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """A Keras model's graph, without writing a file.

    Args:
        model: as for `convert`.
        passes: whether the passes are run.
        input_shapes: as for `convert`.
    """
    with open_source(model) as description:
        graph = assemble(description, input_shapes)
        return _run_passes(graph, description.source)[0] if passes else graph


def _run_passes(graph: Graph, source: str) -> tuple[Graph, tuple[TraceRow, ...]]:
    """The graph after the passes, and what they did. What a pass makes of sizes beyond all bounds may break a rule of the table."""
    try:
        return pipeline.run(graph)
    except GraphError as error:
        raise ConversionError(f"{source}: {error}") from error


@dataclass(frozen=True)
class Conversion:
    """A conversion step by step, without a file.

    Attributes:
        source: what was converted.
        before, graph: the graph before the passes, and after.
        trace: what each pass did.
        passes: what each pass is for, by its name: text with drawings of before and after.
        layers: what became of every layer.
        warnings: what the user should know.
    """

    source: str
    before: Graph
    graph: Graph
    trace: tuple[TraceRow, ...]
    passes: Mapping[str, str]
    layers: tuple[LayerOutcome, ...]
    warnings: tuple[str, ...]


def explain(model: Any, *, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Conversion:
    """Convert a model and keep what happened on the way.

    Args:
        model, input_shapes: as for `convert`.

    Raises:
        UnsupportedLayerError, ConversionError, InputError: as `convert`.
    """
    with open_source(model) as description:
        before = assemble(description, input_shapes)
        graph, trace = _run_passes(before, description.source)
        purposes = {
            rewrite.__name__: (sys.modules[rewrite.__module__].__doc__ or "").strip() for rewrite in pipeline.PASSES
        }
        return Conversion(
            description.source,
            before,
            graph,
            trace,
            purposes,
            outcomes(description, graph),
            (*description.notes, *_warnings(before, graph.metadata)),
        )


def _encoded(graph: Graph, weights: str) -> Graph:
    """The graph with its constants marked for how the file stores them."""
    limit = float(np.finfo(np.float16).max)
    constants = {}
    for name, constant in graph.constants.items():
        large = constant.array.size >= MOST_HALF_ONLY
        half = weights == "float16" and large and not (np.abs(constant.array) > limit).any()
        constants[name] = replace(constant, encoding=best(constant, half))
    return replace(graph, constants=constants)


def _warnings(graph: Graph, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    found = [
        f"weights {name!r} hold NaN or infinity; so may the answers"
        for name, constant in graph.constants.items()
        if not np.isfinite(constant.array).all()
    ]
    found += [
        f"output {name!r} has its batch at axis {axis} in the model; the file has it in front"
        for name, axis in graph.metadata.get("batch_axes", {}).items()
    ]
    labels = metadata.get("labels")
    if labels:
        sizes = [graph.shape(port.tensor)[-1] for port in graph.outputs]
        if len(labels) not in sizes:
            found.append(f"{len(labels)} labels for outputs of {sizes} values")
    return tuple(found)
