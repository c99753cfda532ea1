"""How a constant's values become bytes, and back.

Encodings: dense float32, float16 and int8; float32 or float16 without zeros, their places told by a bitmask or by gaps,
whichever is smaller; each optionally compressed. Only +0.0 counts as a zero: every float32 comes back bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from edgecnn.errors import ConversionError
from edgecnn.graph import Constant

Array = np.ndarray[Any, Any]

FLOAT32, FLOAT16, INT8, BITMASK32, BITMASK16, GAPS32, GAPS16 = range(7)
NAMES = ("float32", "float16", "int8", "sparse_float32", "sparse_float16", "sparse_float32", "sparse_float16")
"""The constant's `encoding` for each tag."""

_VALUES = {BITMASK32: "<f4", BITMASK16: "<f2", GAPS32: "<f4", GAPS16: "<f2"}

LONG_GAP = 255
"""A gap byte that means: 255 zeros, and no value after them."""


def encode(constant: Constant, compress: bool) -> tuple[int, int, memoryview]:
    """A constant's values as bytes.

    Returns:
        Encoding tag, length before compression (0: not compressed), bytes.

    Raises:
        ConversionError: a finite value is beyond float16's range.
    """
    if constant.encoding == "int8":
        tag, data = INT8, _bytes(constant.array, "i1")
    elif constant.encoding == "float32":
        tag, data = FLOAT32, _bytes(constant.array, "<f4")
    elif constant.encoding == "float16":
        tag, data = FLOAT16, _bytes(_halve(constant), "<f2")
    elif constant.encoding in ("sparse_float32", "sparse_float16"):
        tag, data = _encode_sparse(constant)
    else:
        raise ConversionError(f"constant {constant.name!r}: no encoding {constant.encoding!r}")
    if compress:
        packed = zlib.compress(data, 9)
        if len(packed) < len(data):
            return tag, len(data), memoryview(packed)
    return tag, 0, data


def _bytes(array: Array, dtype: str) -> memoryview:
    flat = np.ascontiguousarray(array).astype(dtype, copy=False).reshape(-1)
    return memoryview(flat.view(np.uint8).data)


def _halve(constant: Constant) -> Array:
    with np.errstate(over="ignore"):
        halves = constant.array.astype(np.float16)
    beyond = np.isinf(halves) & np.isfinite(constant.array)
    if beyond.any():
        worst = float(np.abs(constant.array[beyond]).max())
        raise ConversionError(
            f"constant {constant.name!r}: {worst:g} is beyond float16's largest value, 65504; keep it in float32"
        )
    return np.asarray(halves)


def _encode_sparse(constant: Constant) -> tuple[int, memoryview]:
    half = constant.encoding == "sparse_float16"
    values = (_halve(constant) if half else constant.array).reshape(-1)
    kept = values.view(np.uint16 if half else np.uint32) != 0
    present = np.ascontiguousarray(values[kept]).astype("<f2" if half else "<f4").tobytes()
    mask = _padded(np.packbits(kept, bitorder="little").tobytes())
    gaps = _gaps(kept)
    places = len(gaps).to_bytes(4, "little") + _padded(gaps)
    if len(places) < len(mask):
        return (GAPS16 if half else GAPS32), memoryview(places + present)
    return (BITMASK16 if half else BITMASK32), memoryview(mask + present)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _gaps(kept: Array) -> bytes:
    """For each kept value the zeros before it, as one byte, after a LONG_GAP for every 255 of them."""
    places = np.flatnonzero(kept)
    zeros = np.diff(places, prepend=-1) - 1
    longs, rest = zeros // LONG_GAP, zeros % LONG_GAP
    out = np.full(int(longs.sum()) + len(places), LONG_GAP, np.uint8)
    out[np.cumsum(longs + 1) - 1] = rest
    return out.tobytes()


def decode(
    tag: int, raw_length: int, data: memoryview, shape: tuple[int, ...], fail: Callable[[str], Exception]
) -> Array:
    """A constant's values from bytes: float32 or int8, C-contiguous, read-only; dense float32 is a view of `data`.

    Args:
        raw_length: length before compression, 0 if not compressed.
        fail: makes the error to raise from a message.
    """
    count = 1
    for size in shape:
        count *= size
    if raw_length:
        data = _decompress(data, raw_length, fail)
    if tag in (FLOAT32, FLOAT16, INT8):
        dtype = {FLOAT32: "<f4", FLOAT16: "<f2", INT8: "i1"}[tag]
        wanted = count * np.dtype(dtype).itemsize
        if len(data) != wanted:
            raise fail(f"{len(data)} bytes for shape {shape}; wanted {wanted}")
        stored = np.frombuffer(data, dtype)
        values = stored.astype(np.int8 if tag == INT8 else np.float32, copy=False)
    else:
        places, data = _bitmask(data, count, fail) if tag in (BITMASK32, BITMASK16) else _places(data, count, fail)
        itemsize = np.dtype(_VALUES[tag]).itemsize
        if len(data) != len(places) * itemsize:
            raise fail(f"{len(data)} bytes of values for {len(places)} places; wanted {len(places) * itemsize}")
        values = np.zeros(count, np.float32)
        values[places] = np.frombuffer(data, _VALUES[tag])
    values = values.reshape(shape)
    values.flags.writeable = False
    return values


def _bitmask(data: memoryview, count: int, fail: Callable[[str], Exception]) -> tuple[Array, memoryview]:
    size = (count + 7) // 8
    padded = size + -size % 4
    if len(data) < padded:
        raise fail(f"{len(data)} bytes; the bitmask alone takes {padded}")
    bits = np.unpackbits(np.frombuffer(data[:padded], np.uint8), bitorder="little")
    if bits[count:].any():
        raise fail("the bitmask has bits beyond the last value")
    return np.flatnonzero(bits[:count]), data[padded:]


def _places(data: memoryview, count: int, fail: Callable[[str], Exception]) -> tuple[Array, memoryview]:
    size = int.from_bytes(data[:4], "little")
    padded = 4 + size + -size % 4
    if len(data) < 4 or len(data) < padded:
        raise fail(f"{len(data)} bytes; the gaps alone take {padded}")
    gaps = np.frombuffer(data[4 : 4 + size], np.uint8)
    if any(data[4 + size : padded]):
        raise fail("the bytes after the gaps must be zero")
    long = gaps == LONG_GAP
    ends = np.cumsum(np.where(long, LONG_GAP, gaps.astype(np.int64) + 1))
    places = ends[~long] - 1
    if len(ends) and (ends[-1] > count or long[-1]):
        raise fail(f"the gaps lead to place {ends[-1]} of {count}, or end without a value")
    return places, data[padded:]


def _decompress(data: memoryview, raw_length: int, fail: Callable[[str], Exception]) -> memoryview:
    engine = zlib.decompressobj()
    try:
        raw = engine.decompress(data, raw_length)
        rest = engine.decompress(engine.unconsumed_tail, 1)
    except zlib.error as error:
        raise fail(f"compressed data: {error}") from error
    if len(raw) != raw_length or rest or not engine.eof or engine.unused_data:
        raise fail(f"compressed data gives {len(raw)} bytes or more; wanted exactly {raw_length}")
    return memoryview(raw)
