"""Graphs that use everything the file can hold: every kind of attribute, every encoding, odd names."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgecnn.graph import Constant, Graph, Node, Port, Quantization, Tensor

PLAIN: dict[str, Any] = {"activation": "linear", "activation_parameters": ()}
ENCODINGS = ("float32", "float16", "int8", "sparse_float32", "sparse_float16")


def constant(
    name: str, shape: tuple[int, ...], encoding: str, rng: np.random.Generator, density: float = 0.3
) -> Constant:
    """A constant whose values survive its encoding."""
    if encoding == "int8":
        array = rng.integers(-128, 128, shape).astype(np.int8)
        channels = shape[-1]
        quantization = Quantization(
            rng.uniform(0.01, 1, channels).astype(np.float32),
            rng.integers(-5, 5, channels).astype(np.int32),
            len(shape) - 1,
        )
        return Constant(name, array, "int8", quantization)
    values = rng.standard_normal(shape).astype(np.float32)
    if encoding.endswith("16"):
        values = values.astype(np.float16).astype(np.float32)
    if encoding.startswith("sparse"):
        values[rng.uniform(size=shape) > density] = 0.0
    return Constant(name, values, encoding)


def rich_graph(seed: int = 0, encoding: str = "float32", channels: int = 3) -> Graph:
    """(N, ?, ?, channels) -> a convolution and a mean: ints, floats, strings, empty tuples, unknown sizes, a dict."""
    rng = np.random.default_rng(seed)
    convolution = {
        "strides": (2, 1),
        "padding": "explicit",
        "pads": (0, 1, 2, 0),
        "dilations": (1, 1),
        "groups": 1,
        "activation": "relu",
        "activation_parameters": (0.0, math.inf, 0.0),
    }
    nodes = (
        Node("conv", "größe/conv", ("image", "w", "b", ""), ("c",), convolution, ("größe", "bn")),
        Node("batch_normalization", "bn2", ("c", "g", "b", "m", "v"), ("n",), {**PLAIN, "epsilon": 1e-3}, ("bn2",)),
        Node("reduce_mean", "мean", ("n",), ("y",), {"axes": (1, 2), "keepdims": 0}, ()),
    )
    tensors = {
        "image": Tensor("image", (None, None, None, channels)),
        "c": Tensor("c", (None, None, None, 4)),
        "n": Tensor("n", (None, None, None, 4)),
        "y": Tensor("y", (None, 4)),
    }
    constants = {"w": constant("w", (3, 3, channels, 4), encoding, rng)}
    constants |= {name: constant(name, (4,), "float32", rng) for name in ("b", "g", "m")}
    constants["v"] = Constant("v", np.abs(rng.standard_normal(4)).astype(np.float32))
    metadata = {"labels": ["één", "two", "三", "4"], "preprocessing": {"scale": 1 / 255, "offset": 0.0}, "note": None}
    graph = Graph(
        "модель",
        (Port("image", "image"),),
        (Port("p", "y"), Port("q", "n")),
        nodes,
        tensors,
        constants,
        "dict",
        "dict",
        metadata,
    )
    graph.check()
    return graph


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Rich graphs of all encodings, seeds and sizes."""
    return rich_graph(draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(ENCODINGS)), draw(st.integers(1, 40)))


def assert_same(a: Graph, b: Graph) -> None:
    """Two graphs are equal in everything, constants bit for bit."""
    for field in ("name", "inputs", "outputs", "nodes", "tensors", "input_structure", "output_structure", "metadata"):
        assert getattr(a, field) == getattr(b, field), field
    assert list(a.constants) == list(b.constants)
    for name, x in a.constants.items():
        y = b.constants[name]
        assert (x.shape, x.array.dtype, x.encoding) == (y.shape, y.array.dtype, y.encoding)
        assert x.array.tobytes() == y.array.tobytes()
        assert (x.quantization is None) == (y.quantization is None)
        if x.quantization is not None and y.quantization is not None:
            assert x.quantization.axis == y.quantization.axis
            np.testing.assert_array_equal(x.quantization.scales, y.quantization.scales)
            np.testing.assert_array_equal(x.quantization.zero_points, y.quantization.zero_points)


def resealed(data: bytes | bytearray) -> bytes:
    """The file with every checksum made right again, so that what lies behind the checksums is met."""
    out = bytearray(data)
    (count,) = struct.unpack_from("<I", out, 24)
    for i in range(min(count, (len(out) - 64) // 32)):
        at = 64 + 32 * i
        offset, length = struct.unpack_from("<QQ", out, at + 8)
        struct.pack_into("<I", out, at + 24, zlib.crc32(out[offset : offset + length]))
    struct.pack_into("<I", out, 28, zlib.crc32(out[64 : 64 + 32 * count]))
    struct.pack_into("<I", out, 60, zlib.crc32(out[:60]))
    return bytes(out)
