"""Small files that ask for much: each is sound by the format's rules, and would cost gigabytes, or minutes, to load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgecnn.graph import Constant, Graph, Quantization
from graph_strategies import GraphBuilder

ONE = np.ones((1, 1, 1, 1), np.float32)


def resized(rows: int, columns: int, before: tuple[int, int] = (1, 1), **attributes: Any) -> Graph:
    """One image, resized."""
    builder = GraphBuilder()
    x = builder.input("x", *before, 1)
    plain = {"sizes": (rows, columns), "scales": (1.0, 1.0), "method": "linear", "coordinates": "half_pixel"}
    plain |= {"rounding": "floor", "cubic_coefficient": -0.5, "exclude_outside": 0, "antialias": 0}
    return builder.graph(builder.add("resize", x, name="enlarge", **{**plain, **attributes}))


def padded_and_cut(size: int) -> Graph:
    """A column in a wide frame, of which one value is left: only what lies between is large."""
    builder = GraphBuilder()
    y = builder.add("pad", builder.input("x", 1, 1, 1), name="frame", pads=(size, 0, 0, 0))
    return builder.graph(builder.add("slice", y, starts=(-1, 0, 0), stops=(2**31 - 1,) * 3, steps=(1, 1, 1)))


def cut(size: int) -> Graph:
    """One value of a wide input."""
    builder = GraphBuilder()
    x = builder.input("x", size, 1)
    return builder.graph(builder.add("slice", x, name="cut", starts=(1, 0), stops=(2**31 - 1,) * 2, steps=(1, 1)))


def tall_chain(rows: int, width: int = 2048) -> Graph:
    """Poolings of an image so tall that computing them band by band is considered."""
    builder = GraphBuilder()
    y = builder.input("x", rows, width, 1)
    for _ in range(4):
        y = builder.add("max_pool", y, pool_size=(1, 1), strides=(1, 1))
    return builder.graph(y)


def many_phases(count: int, stride: int = 64) -> Graph:
    """Transposed convolutions of one weight, each of as many phases as may be."""
    builder = GraphBuilder()
    y = builder.input("x", 1, 1, 1)
    weights = builder.constant("w", ONE)
    for _ in range(count):
        y = builder.add("conv_transpose", y, weights, strides=(stride, stride), output_padding=(stride - 1, stride - 1))
        y = builder.add("slice", y, starts=(0, 0, 0), stops=(1, 1, 1), steps=(1, 1, 1))
    return builder.graph(y)


def empty_phases(channels: int, stride: int = 64) -> Graph:
    """A transposed convolution of one tap, whose other phases take no weight and would each be given zeros."""
    builder = GraphBuilder()
    x = builder.input("x", 1, 1, channels)
    weights = np.ones((1, 1, channels, channels), np.float32)
    return builder.graph(
        builder.add("conv_transpose", x, weights, strides=(stride, stride), output_padding=(stride - 1, stride - 1))
    )


def parts(outer: int) -> Graph:
    """A concatenation whose inputs are copied row by row of an outer axis."""
    builder = GraphBuilder()
    x = builder.input("x", outer, 1, 1, 1)
    return builder.graph(builder.add("concatenate", x, x, name="parts", axis=2))


def shared_weights(layers: int, channels: int = 256) -> Graph:
    """Many layers of the same weights, which would all be packed."""
    builder = GraphBuilder()
    weights = builder.constant("w", np.random.default_rng(0).standard_normal((1, 1, channels, channels)))
    y = builder.input("x", 4, 4, channels)
    for _ in range(layers):
        y = builder.add("conv", y, weights)
    return builder.graph(y)


def shared_int8(layers: int, channels: int = 512) -> Graph:
    """Many layers that read the same int8 values, which each would make float32 of."""
    graph = shared_weights(layers, channels)
    array = np.ones((1, 1, channels, channels), np.int8)
    scale = Quantization(np.ones(1, np.float32), np.zeros(1, np.int32))
    return replace(graph, constants={"w": Constant("w", array, "int8", scale)})


def zeros(size: int) -> Graph:
    """Weights that are zero and therefore not in the file."""
    builder = GraphBuilder()
    x = builder.input("x", size)
    graph = builder.graph(builder.add("dense", x, np.zeros((size, 64), np.float32), name="nothing"))
    return replace(graph, constants={n: replace(c, encoding="sparse_float32") for n, c in graph.constants.items()})


def single_filters(channels: int) -> Graph:
    """A group for each of many channels, all weights zero: a panel for each."""
    builder = GraphBuilder()
    x = builder.input("x", 2, 2, channels)
    weights = np.zeros((1, 1, 1, channels), np.float32)
    graph = builder.graph(builder.add("conv", x, weights, name="groups", groups=channels))
    return replace(graph, constants={n: replace(c, encoding="sparse_float32") for n, c in graph.constants.items()})


def wide_channels(size: int) -> Graph:
    """A tensor of so many channels that a row of zeros as long would be kept for padding."""
    builder = GraphBuilder()
    y = builder.add("activation", builder.input("x", 1, 1, size), activation="relu")
    y = builder.add("slice", y, starts=(0, 0, 0), stops=(1, 1, 1), steps=(1, 1, 1))
    return builder.graph(builder.add("conv", y, ONE))


def row_of(operator: str, count: int) -> Graph:
    """A long row of nodes that share one place in memory."""
    builder = GraphBuilder()
    y = builder.input("x", 2, 3)
    for index in range(count):
        if operator == "reshape":
            y = builder.add("reshape", y, shape=(3, 2) if index % 2 else (2, 3))
        elif operator == "concatenate":
            y = builder.add("concatenate", builder.add("activation", y, activation="relu"), "x", axis=2)
        else:
            y = builder.add("activation", y, activation="tanh")
    return builder.graph(y)


def all_alive(count: int) -> Graph:
    """Many tensors that are all needed until the end: each is placed beside all others."""
    builder = GraphBuilder()
    x = builder.input("x", 4)
    rest = [builder.add("activation", x, activation="tanh") for _ in range(count)]
    return builder.graph(builder.add("concatenate", *[builder.add("softmax", y, axis=1) for y in rest], axis=1))


Made = Callable[[], Graph]
ASK_FOR_MEMORY: Mapping[str, tuple[Made, str]] = {
    "linear": (lambda: resized(2**28, 1), "enlarge"),
    "antialias": (lambda: resized(2**27, 1, antialias=1), "enlarge"),
    "antialias, smaller": (lambda: resized(64, 1, (2**24, 1), antialias=1, method="lanczos5"), "enlarge"),
    "area": (lambda: resized(2**27, 1, method="area"), "enlarge"),
    "area, smaller": (lambda: resized(2, 1, (2**30, 1), method="area"), "enlarge"),
    "nearest": (lambda: resized(1, 2**29, method="nearest"), "enlarge"),
    "pad": (lambda: padded_and_cut(2**31 - 1), "frame"),
    "slice": (lambda: cut(2**30), "cut"),
    "empty phases": (lambda: empty_phases(128), "conv_transpose_0"),
    "shared weights": (lambda: shared_weights(1200), "conv_"),
    "shared int8": (lambda: shared_int8(300), "w"),
    "zeros": (lambda: zeros(2**22), "nothing/weights"),
    "groups": (lambda: single_filters(2**22), "groups"),
}
"""What would allocate gigabytes, and the name that the refusal must have."""

ASK_FOR_WORK: Mapping[str, tuple[Made, str]] = {
    "phases": (lambda: many_phases(50), "conv_transpose_"),
    "parts": (lambda: parts(2**18), "parts"),
}
"""What would compute for long, and what the refusal names."""

CHEAP: Mapping[str, Made] = {
    "bands": lambda: tall_chain(2**30, 1),
    "zeros for padding": lambda: wide_channels(2**27),
    "alive": lambda: all_alive(5000),
    "in place": lambda: row_of("activation", 20000),
    "reshapes": lambda: row_of("reshape", 20000),
    "slices in slices": lambda: row_of("concatenate", 3000),
}
"""What took minutes, or gigabytes, and no longer does."""
