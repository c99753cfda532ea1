"""A model taken apart for the eye: its graph drawn, its weights as histograms and maps of zeros, what became of its layers."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.graph import Constant, Graph
from edgecnn.graph.rewrite import TraceRow
from edgecnn.tools.drawing import lay_out
from edgecnn.tools.inspect import Inspection

BINS = 41
"""Of a histogram; odd, so that zero has a bin of its own in the middle."""
MAP = 48
"""Cells of a map of zeros along each side, at most."""
FEWEST = 64
"""Values that are worth a picture."""
MOST_WEIGHTS = 400
"""Pictures on a page: the largest constants come first."""

Array = np.ndarray[Any, Any]


def anatomy(
    graph: Graph,
    inspection: Inspection,
    trace: Sequence[TraceRow] | None = None,
    passes: Mapping[str, str] | None = None,
    layers: Sequence[Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """All that the page of `edgecnn inspect --html` shows.

    Args:
        graph: the model's.
        inspection: what is known of its file.
        trace: what the converter's passes did; None where the file was converted before.
        passes: what each pass is for, by its name.
        layers: what became of every source layer: path, class_name and outcome.
    """
    rows = {row.name: row for row in inspection.nodes}
    drawing = lay_out(*boxes_and_lines(graph))
    ports = [("input", port.name, port.tensor) for port in graph.inputs]
    ports += [("output", port.name, port.tensor) for port in graph.outputs]
    nodes: list[dict[str, Any]] = [
        {
            "id": f"{kind} {name}",
            "name": name,
            "operator": kind,
            "shape": list(graph.shape(tensor)),
            "place": drawing.places[f"{kind} {name}"],
        }
        for kind, name, tensor in ports
    ]
    for node in graph.nodes:
        row = rows[node.name]
        nodes.append(
            {
                "id": f"node {node.name}",
                "name": node.name,
                "operator": node.operator,
                "shape": list(row.shape),
                "place": drawing.places[f"node {node.name}"],
                "parameters": row.parameters,
                "macs": row.macs,
                "stored_bytes": row.stored_bytes,
                "sparsity": row.sparsity,
                "activation": "" if row.activation == "linear" else row.activation,
                "layers": list(node.layers),
                "attributes": {key: _attribute(value) for key, value in node.attributes.items()},
                "weights": [graph.constants[name].shape for name in node.inputs if name in graph.constants],
            }
        )
    return {
        **inspection.to_json(),
        "nodes": nodes,
        "lines": [list(line) for line in drawing.lines.values()],
        "drawing": [drawing.width, drawing.layers],
        "weights": weights_of(graph, inspection),
        "trace": None if trace is None else [vars(row) for row in trace],
        "passes": dict(passes or {}),
        "layers": None if layers is None else [dict(layer) for layer in layers],
    }


def boxes_and_lines(graph: Graph) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of what is drawn, in order, and which leads to which."""
    made = {port.tensor: f"input {port.name}" for port in graph.inputs}
    made |= {output: f"node {node.name}" for node in graph.nodes for output in node.outputs}
    names = [f"input {port.name}" for port in graph.inputs] + [f"node {node.name}" for node in graph.nodes]
    names += [f"output {port.name}" for port in graph.outputs]
    lines = [(made[x], f"node {node.name}") for node in graph.nodes for x in node.inputs if x in made]
    lines += [(made[port.tensor], f"output {port.name}") for port in graph.outputs]
    return names, list(dict.fromkeys(lines))


def _attribute(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def weights_of(graph: Graph, inspection: Inspection) -> list[dict[str, Any]]:
    """A record of each matrix of weights that is worth a picture, in the order of the nodes that read them."""
    stored = {entry.name: entry for entry in inspection.constants}
    able = [
        constant for constant in graph.constants.values() if constant.array.size >= FEWEST and constant.array.ndim > 1
    ]
    shown = {constant.name for constant in sorted(able, key=lambda constant: -constant.array.size)[:MOST_WEIGHTS]}
    found = []
    for node in graph.nodes:
        for name in node.inputs:
            if name in shown:
                shown.discard(name)
                entry = stored[name]
                record = _weight(graph.constants[name])
                found.append(
                    {**record, "node": node.name, "encoding": entry.encoding, "stored_bytes": entry.stored_bytes}
                )
    return found


def _weight(constant: Constant) -> dict[str, Any]:
    values = constant.array.astype(np.float32, copy=False)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0.0))
    counts, _ = np.histogram(finite, BINS, (-largest, largest) if largest else (-1.0, 1.0))
    return {
        "name": constant.name,
        "shape": list(constant.shape),
        "largest": largest,
        "mean": float(finite.mean(dtype=np.float64)) if finite.size else 0.0,
        "deviation": float(finite.std(dtype=np.float64)) if finite.size else 0.0,
        "sparsity": 1 - np.count_nonzero(values) / values.size,
        "odd": int(values.size - finite.size),
        "histogram": counts.tolist(),
        "map": zero_map(values),
    }


def zero_map(values: Array) -> dict[str, Any]:
    """Share of zeros, as bytes 0 to 255, in cells of a matrix whose columns are the last axis: width, height and base64."""
    cells = _means(_means(values.reshape(-1, values.shape[-1]) == 0, 0), 1)
    shares = np.round(255 * cells).astype(np.uint8)
    return {"width": shares.shape[1], "height": shares.shape[0], "cells": base64.b64encode(shares.tobytes()).decode()}


def _means(matrix: Array, axis: int) -> Array:
    """Means over neighbours along an axis, so that at most MAP are left."""
    size = matrix.shape[axis]
    count = min(size, MAP)
    starts = [math.floor(i * size / count) for i in range(count)]
    sums = np.add.reduceat(matrix, starts, axis, np.float64)
    lengths = np.diff([*starts, size])
    return np.asarray(sums / (lengths[:, None] if axis == 0 else lengths[None, :]))
