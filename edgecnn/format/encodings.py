"""How a constant's values become bytes, and back.

Encodings: dense float32, float16 and int8; float32 or float16 without zeros, their places told by a bitmask or by gaps,
whichever is smaller; each optionally compressed. Only +0.0 counts as a zero: every float32 comes back bit for bit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from edgecnn.errors import ConversionError
from edgecnn.format.sparse import LONG_GAP, put_by_bitmask, put_by_gaps
from edgecnn.graph import Constant

Array = np.ndarray[Any, Any]

FLOAT32, FLOAT16, INT8, BITMASK32, BITMASK16, GAPS32, GAPS16 = range(7)
NAMES = ("float32", "float16", "int8", "sparse_float32", "sparse_float16", "sparse_float32", "sparse_float16")
"""The constant's `encoding` for each tag."""

_DENSE: dict[int, np.dtype[Any]] = {FLOAT32: np.dtype("<f4"), FLOAT16: np.dtype("<f2"), INT8: np.dtype("i1")}
_VALUES = {BITMASK32: "<f4", BITMASK16: "<f2", GAPS32: "<f4", GAPS16: "<f2"}

_LEAST_SPARSE = 1024
"""Bytes of a constant from which on leaving out its zeros is worth the reader's time."""

PIECE = 2**16
"""Bytes that are decompressed at a time."""

DEFLATED = 2**20
"""Bytes that are compressed at a time, in some hundredths of a second: between two of them signals are handled."""

_INPUT_PIECE = 2**14
_INFLATING = 2**17
"""Bytes of zlib's window and state (48 KiB), the piece of its input that it keeps, and Python's objects around them."""


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
        packed = _deflate(data)
        if len(packed) < len(data):
            return tag, len(data), memoryview(packed)
    return tag, 0, data


def _deflate(data: memoryview) -> bytearray:
    """A zlib stream of some bytes, or its beginning where that is no shorter. It does not depend on the pieces."""
    engine, packed = zlib.compressobj(9), bytearray()
    for start in range(0, len(data), DEFLATED):
        packed += engine.compress(data[start : start + DEFLATED])
        if len(packed) >= len(data):
            return packed
    packed += engine.flush()
    return packed


def best(constant: Constant, half: bool) -> str:
    """The encoding of a float32 constant that takes least room: without its zeros where that saves an eighth and more.

    Args:
        half: whether values may be rounded to float16.
    """
    values = _halve(constant) if half else constant.array
    dense = values.nbytes
    # Places told by a bitmask. Gaps are shorter only where this is short already.
    kept = np.count_nonzero(values.view(np.uint16 if half else np.uint32))
    bound = kept * values.itemsize + values.size // 8
    worth = dense >= _LEAST_SPARSE and bound < dense - dense // 8
    return ("sparse_" if worth else "") + ("float16" if half else "float32")


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
    places = len(gaps).to_bytes(8, "little")[:4] + _padded(gaps)
    if len(places) < len(mask) and len(gaps) < 2**32:
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


def memory(tag: int, raw_length: int, elements: int) -> tuple[int, int]:
    """What `decode` allocates for a constant of so many elements.

    Returns:
        Bytes of the array that it gives back, 0 for a view of the file; bytes besides, which it gives free at its end.
    """
    inflating = _INFLATING + 2 * min(PIECE, raw_length) if raw_length else 0
    if tag in (FLOAT32, INT8):
        return raw_length, inflating
    return 4 * elements, raw_length + inflating


def decode(
    tag: int, raw_length: int, data: memoryview, shape: tuple[int, ...], fail: Callable[[str], Exception]
) -> Array:
    """A constant's values from bytes: float32 or int8, C-contiguous, aligned, read-only.

    Dense float32 and int8 that are not compressed are views of `data`, if that is aligned.

    Args:
        raw_length: length before compression, 0 if not compressed.
        fail: makes the error to raise from a message.
    """
    count = math.prod(shape)
    if raw_length:
        most = _most_bytes(tag, count)
        if raw_length > most:
            raise fail(f"{raw_length} bytes before compression for shape {shape}; wanted at most {most}")
        data = _inflate(data, raw_length, fail)
    if tag in _DENSE:
        values = _dense(tag, data, shape, count, fail)
    elif tag in (BITMASK32, BITMASK16):
        values = _from_bitmask(data, count, _VALUES[tag], fail)
    else:
        values = _from_gaps(data, count, _VALUES[tag], fail)
    values = values.reshape(shape)
    values.flags.writeable = False
    return values


def _most_bytes(tag: int, count: int) -> int:
    """Most bytes that an encoding may take before compression: a gap byte or less for each place, and every value."""
    if tag in _DENSE:
        return count * _DENSE[tag].itemsize
    return 4 + _multiple_of_4(count) + count * np.dtype(_VALUES[tag]).itemsize


def _multiple_of_4(size: int) -> int:
    return size + -size % 4


def _dense(tag: int, data: memoryview, shape: tuple[int, ...], count: int, fail: Callable[[str], Exception]) -> Array:
    wanted = count * _DENSE[tag].itemsize
    if len(data) != wanted:
        raise fail(f"{len(data)} bytes for shape {shape}; wanted {wanted}")
    stored = np.frombuffer(data, _DENSE[tag])
    if tag == FLOAT16:
        return stored.astype(np.float32)
    if stored.flags.aligned and stored.dtype.isnative:  # what np.require would find out in ten times the time
        return stored
    return np.require(stored, np.int8 if tag == INT8 else np.float32, "A")


def _from_bitmask(data: memoryview, count: int, dtype: str, fail: Callable[[str], Exception]) -> Array:
    size = _multiple_of_4((count + 7) // 8)
    if len(data) < size:
        raise fail(f"{len(data)} bytes; the bitmask alone takes {size}")
    mask, stored = np.frombuffer(data[:size], np.uint8), _stored(data[size:], dtype, fail)
    values = np.zeros(count, np.float32)
    try:
        put_by_bitmask(mask, stored, values)
    except ValueError as error:
        raise fail(str(error)) from None
    return values


def _from_gaps(data: memoryview, count: int, dtype: str, fail: Callable[[str], Exception]) -> Array:
    size = int.from_bytes(data[:4], "little")
    padded = 4 + _multiple_of_4(size)
    if len(data) < padded:
        raise fail(f"{len(data)} bytes; the gaps alone take {padded}")
    if size > count:
        raise fail(f"{size} gap bytes for {count} places")
    if any(data[4 + size : padded]):
        raise fail("the bytes after the gaps must be zero")
    gaps, stored = np.frombuffer(data[4 : 4 + size], np.uint8), _stored(data[padded:], dtype, fail)
    if size and gaps[-1] == LONG_GAP:
        raise fail("the gaps end without a value")
    values = np.zeros(count, np.float32)
    try:
        put_by_gaps(gaps, stored, values)
    except ValueError as error:
        raise fail(str(error)) from None
    return values


def _stored(data: memoryview, dtype: str, fail: Callable[[str], Exception]) -> Array:
    """The values of a sparse constant, in the order of their places."""
    itemsize = np.dtype(dtype).itemsize
    if len(data) % itemsize:
        raise fail(f"{len(data)} bytes of values; wanted a multiple of {itemsize}")
    stored = np.frombuffer(data, dtype)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _inflate(data: memoryview, raw_length: int, fail: Callable[[str], Exception]) -> memoryview:
    """A zlib stream's bytes. In pieces: in one go, zlib would take the memory for them twice."""
    target = memoryview(np.empty(raw_length, np.uint8).data)
    engine = zlib.decompressobj()
    taken = filled = 0
    try:
        while not engine.eof:
            piece: bytes | memoryview = engine.unconsumed_tail
            if not piece:
                piece = data[taken : taken + _INPUT_PIECE]
                taken += len(piece)
            found = engine.decompress(piece, min(PIECE, raw_length - filled) or 1)
            if len(found) > raw_length - filled:
                raise fail(f"compressed data gives more than the {raw_length} bytes that it shall give")
            if not piece and not found:
                raise fail(f"compressed data ends early, after {filled} of {raw_length} bytes")
            target[filled : filled + len(found)] = found
            filled += len(found)
    except zlib.error as error:
        raise fail(f"compressed data: {error}") from error
    if filled != raw_length or engine.unused_data or taken < len(data):
        raise fail(f"compressed data gives {filled} bytes, or bytes follow it; wanted exactly {raw_length}")
    return target
