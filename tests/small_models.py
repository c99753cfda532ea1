"""Small .ecnn files for the tests of commands and tools: made from a graph, so that no Keras is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.format import write
from edgecnn.graph import Constant, Graph, Node, Port, Tensor

LINEAR: dict[str, Any] = {"activation": "linear", "activation_parameters": ()}


def mean_classifier(name: str = "means", metadata: dict[str, Any] | None = None, size: int | None = 4) -> Graph:
    """(N, size, size, 3) -> (N, 3): the mean of each channel. What it answers can be worked out by hand."""
    return Graph(
        name,
        (Port("image", "image"),),
        (Port("means", "pooled"),),
        (Node("reduce_mean", "pool", ("image",), ("pooled",), {"axes": (1, 2), "keepdims": 0}, ("pool",)),),
        {t.name: t for t in (Tensor("image", (None, size, size, 3)), Tensor("pooled", (None, 3)))},
        metadata=metadata or {},
    )


def dense_pair(name: str = "pair") -> Graph:
    """Two inputs of 3 values, "left" and "right"; outputs "sum" and "double" (of the left one)."""
    double = 2 * np.eye(3, dtype=np.float32)
    return Graph(
        name,
        (Port("left", "left"), Port("right", "right")),
        (Port("sum", "sum"), Port("double", "double")),
        (
            Node("add", "sum", ("left", "right"), ("sum",), LINEAR, ("sum",)),
            Node("dense", "double", ("left", "weights", "", ""), ("double",), LINEAR, ("double",)),
        ),
        {name: Tensor(name, (None, 3)) for name in ("left", "right", "sum", "double")},
        {"weights": Constant("weights", double)},
        "list",
        "list",
    )


def convolution(filters: int = 8, size: int = 16) -> Graph:
    """One 3 x 3 convolution with a bias, ReLU; half of its weights are zero."""
    weights = np.random.default_rng(0).standard_normal((3, 3, 4, filters), np.float32)
    weights[:, :, :, ::2] = 0
    attributes = {
        "strides": (1, 1),
        "padding": "same",
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "groups": 1,
        "activation": "relu",
        "activation_parameters": (0.0, float("inf"), 0.0),
    }
    return Graph(
        "convolution",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (Node("conv", "conv", ("x", "weights", "bias", ""), ("y",), attributes, ("conv",)),),
        {t.name: t for t in (Tensor("x", (None, size, size, 4)), Tensor("y", (None, size, size, filters)))},
        {"weights": Constant("weights", weights), "bias": Constant("bias", np.ones(filters, np.float32))},
    )


def save(graph: Graph, folder: Path, name: str = "model.ecnn") -> Path:
    """Write a graph; gives the path."""
    path = folder / name
    write(graph, path)
    return path
