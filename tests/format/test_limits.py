"""The writer accepts what the reader takes, and no more; what a reader gives back is the caller's alone."""

from __future__ import annotations

import signal
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.errors import CorruptFileError, GraphError, InputError, ModelFileError
from edgecnn.format import encode, encodings, primitives, read
from edgecnn.graph import Constant
from file_graphs import resealed, rich_graph
from small_models import convolution, mean_classifier

PAD = 9000


def with_metadata(text: bytes) -> bytes:
    """A file whose metadata are a text, filled up with spaces."""
    data = encode(mean_classifier(metadata={"pad": "z" * PAD}))
    start = data.index(b'{"pad"')
    assert len(text) <= len(data) - start
    return resealed(data[:start] + text.ljust(len(data) - start))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}",
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' + b"1" * 5000 + b"}",
        b"[1]",
        b"{",
        b"\xff\xfe",
    ],
)
def test_bad_metadata_are_a_corrupt_file(text: bytes) -> None:
    with pytest.raises(CorruptFileError, match="metadata"):
        read(with_metadata(text))


def test_good_metadata_come_back() -> None:
    text = '{"a":[1,-2,0.5,true,null,"é [{ \\" ]"],"b":{"c":{}}}'
    assert read(with_metadata(text.encode())).metadata == {"a": [1, -2, 0.5, True, None, 'é [{ " ]'], "b": {"c": {}}}


def itself() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": float("nan")},
        {"a": {"b": [float("inf")]}},
        {1: "a"},
        {"a": {2: "b"}},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": (1, 2)},
        {"a": b"bytes"},
        {"a": 10**5000},
        {"a": np.float32(1)},
        itself(),
    ],
)
def test_metadata_that_would_not_come_back_are_not_written(metadata: Any) -> None:
    with pytest.raises(InputError, match="metadata"):
        encode(replace(mean_classifier(), metadata=metadata))


def test_names_with_half_a_character_are_not_written() -> None:
    with pytest.raises(GraphError, match="surrogate"):
        encode(replace(mean_classifier(), name="bad \ud800"))


def test_a_rank_or_a_list_that_the_file_has_no_room_for_is_not_written() -> None:
    graph = convolution()
    wide = Constant("weights", graph.constants["weights"].array.reshape(1, 1, 1, 1, 1, 3, 3, 4, 8))
    with pytest.raises(GraphError, match="rank 9"):
        encode(replace(graph, constants={**graph.constants, "weights": wide}))
    (node,) = graph.nodes
    long = replace(node, attributes={**node.attributes, "pads": (0,) * 65})
    with pytest.raises(GraphError, match="65 numbers"):
        encode(replace(graph, nodes=(long,)))
    far = replace(node, attributes={**node.attributes, "groups": 2**64})
    with pytest.raises(GraphError, match="64 bits"):
        encode(replace(graph, nodes=(far,)))


def test_a_zero_does_not_hide_sizes_that_numpy_refuses() -> None:
    out = primitives.Output()
    out.varint(3)
    for size in (0, 2**40, 2**40):
        out.varint(size)
    from edgecnn.format.reader import _known_shape

    with pytest.raises(CorruptFileError, match="more than"):
        _known_shape(primitives.Input(memoryview(bytes(out.data)), "here"), "w")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_arrays_do_not_follow_the_callers_bytes(kind: Any) -> None:
    data = bytearray(encode(rich_graph()))
    graph = read(data if kind is bytearray else memoryview(data))
    before = {name: constant.array.copy() for name, constant in graph.constants.items()}
    data[:] = bytes(len(data))
    for name, constant in graph.constants.items():
        np.testing.assert_array_equal(constant.array, before[name])


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["float32", "float16", "sparse_float32", "sparse_float16"])
@pytest.mark.parametrize("compress", [False, True])
def test_arrays_are_aligned_wherever_the_bytes_lie(shift: int, encoding: str, compress: bool) -> None:
    values = np.arange(600, dtype=np.float32) * (np.arange(600) % 7 == 0)
    tag, raw, data = encodings.encode(Constant("w", values, encoding), compress)
    moved = memoryview(bytes(shift) + bytes(data))[shift:]
    found = encodings.decode(tag, raw, moved, (600,), AssertionError)
    assert found.flags.aligned
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("piece", [1, 1000, 4096, 2**20])
@pytest.mark.parametrize("kind", ["noise", "halves", "text", "zeros", "mixed"])
def test_what_is_compressed_does_not_depend_on_the_pieces(
    kind: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(0)
    size = 20_000 if piece == 1 else 300_001
    whole = {
        "noise": drawn.normal(size=size).astype(np.float32),
        "halves": drawn.normal(size=size).astype(np.float16).astype(np.float32),
        "text": np.resize(np.frombuffer(Path(__file__).read_bytes()[:4000], np.float32), size),
        "zeros": np.zeros(size, np.float32),
    }
    values = np.concatenate([*whole.values()]) if kind == "mixed" else whole[kind]
    monkeypatch.setattr(encodings, "DEFLATED", piece)
    tag, raw, data = encodings.encode(Constant("w", values), True)
    expected = zlib.compress(values.tobytes(), 9)
    if len(expected) < values.nbytes:
        assert (tag, raw, bytes(data)) == (encodings.FLOAT32, values.nbytes, expected)
    else:
        assert (tag, raw, bytes(data)) == (encodings.FLOAT32, 0, values.tobytes())


def test_compression_is_left_where_it_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.frombuffer(np.random.default_rng(0).bytes(40_000), np.float32)
    monkeypatch.setattr(encodings, "DEFLATED", 100)
    assert bytes(encodings.encode(Constant("w", values), True)[2]) == values.tobytes()


def test_signals_are_handled_between_pieces_that_are_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        """As zlib's; the user presses Ctrl-C at the third piece."""

        def __init__(self, level: int) -> None:
            self.engine, self.pieces = compressobj(level), 0

        def compress(self, piece: memoryview) -> bytes:
            assert len(piece) <= 2**20
            self.pieces += 1
            if self.pieces == 3:
                signal.raise_signal(signal.SIGINT)
            return self.engine.compress(piece)

    compressobj = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", Engine)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            encodings.encode(Constant("w", np.zeros(2**20, np.float32)), True)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("kept", "compress"), [(1, False), (10**5, False), (1, True), (10**5, True)])
def test_the_bound_is_what_zeros_take_when_they_are_put_back(kept: int, compress: bool) -> None:
    # A million places: one value after 4000 bytes of gaps, or a tenth of them with a bitmask.
    values = np.zeros(10**6, np.float32)
    values[-kept:] = 1 + np.arange(kept)
    tag, raw, stored = encodings.encode(Constant("w", values, "sparse_float32"), compress)
    array, besides = encodings.memory(tag, raw, values.size)
    assert array == values.nbytes
    tracemalloc.start()
    try:
        encodings.decode(tag, raw, stored, values.shape, AssertionError)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array < taken <= array + besides + 4096
    small = encode(_with_constant(values), compress=compress)
    assert read(small, max_bytes=array + besides + 4096).constants
    assert (besides > 0) == bool(raw)
    with pytest.raises(ModelFileError, match="max_bytes"):
        read(small, max_bytes=array + besides - 1)


def _with_constant(values: np.ndarray) -> Any:
    graph = convolution()
    return replace(graph, constants={**graph.constants, "extra": Constant("extra", values, "sparse_float32")})


class Unspoken(str):
    """A key whose text must not be asked for."""

    def __repr__(self) -> str:
        raise AssertionError("the path of a sound value was written")


def test_no_path_is_written_for_values_that_are_right() -> None:
    from edgecnn.format.metadata import encode as encode_metadata

    assert encode_metadata({Unspoken("a" * 1000): [[0] * 1000, {Unspoken("b"): 1.5}]})


def test_the_path_of_a_fault_is_short() -> None:
    with pytest.raises(InputError, match=r"metadata\['a{99}\.\.\.\]\[1\] is nan") as caught:
        encode(replace(mean_classifier(), metadata={"a" * 10**6: [1.0, float("nan")]}))
    assert len(str(caught.value)) < 300
