"""A file that is not what the writer wrote costs an error that names the file, never a crash, never a wrong graph."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecnn
from edgecnn.errors import CorruptFileError, ModelFileError, VersionError
from edgecnn.format import encode, encodings, read
from edgecnn.format.container import LARGE_SECTION
from edgecnn.format.sparse import put_by_bitmask
from edgecnn.graph import Constant
from examples import examples
from file_graphs import resealed, rich_graph
from graph_strategies import GraphBuilder

WHOLE = encode(rich_graph())


def section(kind: int) -> tuple[int, int]:
    """Offset and length of a section of WHOLE."""
    (count,) = struct.unpack_from("<I", WHOLE, 24)
    for i in range(count):
        found, _, offset, length, _, _ = struct.unpack_from("<IIQQII", WHOLE, 64 + 32 * i)
        if found == kind:
            return offset, length
    raise AssertionError(kind)


def changed(offset: int, data: bytes) -> bytes:
    return resealed(WHOLE[:offset] + data + WHOLE[offset + len(data) :])


def test_resealing_an_untouched_file_changes_nothing() -> None:
    assert resealed(WHOLE) == WHOLE


def test_a_file_cut_at_any_byte_is_refused() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(CorruptFileError):
            read(WHOLE[:end])


def test_a_truncated_file_says_how_much_is_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.ecnn"
    path.write_bytes(WHOLE[:-10])
    with pytest.raises(CorruptFileError, match=f"cut.ecnn.*truncated: {len(WHOLE) - 10} of {len(WHOLE)} bytes"):
        edgecnn.load(path)


def test_damage_of_a_large_section_is_noticed_before_anybody_holds_the_model(tmp_path: Path) -> None:
    """Its checksum is computed beside the reading."""
    builder = GraphBuilder()
    weights = np.random.default_rng(0).standard_normal((LARGE_SECTION // 1024, 512), np.float32)
    graph = builder.graph(builder.add("dense", builder.input("x", len(weights)), weights))
    path = tmp_path / "large.ecnn"
    data = bytearray(encode(graph))
    path.write_bytes(data)
    x = np.ones((1, len(weights)), np.float32)
    np.testing.assert_allclose(edgecnn.load(path)(x)[0], x @ weights, rtol=1e-4, atol=1e-4)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for open_it in (edgecnn.load, read):
        with pytest.raises(CorruptFileError, match=r"large\.ecnn: section weights: its checksum does not match"):
            open_it(path)


def test_any_flipped_bit_is_noticed() -> None:
    for byte in range(len(WHOLE)):
        for bit in range(8):
            data = bytearray(WHOLE)
            data[byte] ^= 1 << bit
            with pytest.raises(ModelFileError):
                read(bytes(data))


@given(st.lists(st.tuples(st.integers(64, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=examples(1500), deadline=None)
def test_changes_behind_the_checksums_give_an_error_or_a_sound_graph(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    try:
        graph = read(resealed(data), max_bytes=2**24)
    except ModelFileError:
        return
    graph.check()


@given(st.integers(0, 3), st.binary(min_size=1, max_size=60), st.integers(0, 10**6))
@settings(max_examples=examples(500), deadline=None)
def test_sections_of_noise_give_an_error_or_a_sound_graph(kind: int, noise: bytes, at: int) -> None:
    offset, length = section(kind + 1)
    start = offset + at % max(1, length - len(noise))
    try:
        graph = read(changed(start, noise[: offset + length - start]), max_bytes=2**24)
    except ModelFileError:
        return
    graph.check()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an .ecnn file"),
        (b"PK\x03\x04" + bytes(100), "not an .ecnn file"),
        (b"\x89ECNN\n\x1a\n" + bytes(100), "not an .ecnn file"),
        (WHOLE[:40], "truncated"),
        (WHOLE + b"\0", "follow the end"),
        (changed(40, b"\1"), "header"),
        (changed(24, struct.pack("<I", 2**31)), "cannot fit"),
        (changed(64 + 8, struct.pack("<Q", 2**63)), "wanted offset"),
        (changed(64 + 16, struct.pack("<Q", 2**64 - 1)), "wanted offset"),
        (changed(64 + 4, struct.pack("<I", 6)), "flags"),
        (changed(64 + 28, struct.pack("<I", 1)), "reserved"),
        (changed(64 + 32, struct.pack("<I", 1)), "twice"),
        (changed(64, struct.pack("<II", 77, 0)), "no section graph"),
        (changed(section(1)[0], b"\xff\xff\xff\xff\x7f"), "number of strings"),
        (changed(section(1)[0], b"\x80\x00"), "shortest"),
        (changed(section(1)[0] + 2, b"\xff"), "UTF-8"),
        (changed(section(2)[0] + 2, b"\x09"), "encoding"),
        (changed(section(4)[0], b"["), "metadata"),
        (changed(section(4)[0], b'"'), "metadata"),
        (changed(sum(section(1)), b"\1"), "between sections"),
    ],
)
def test_each_way_of_being_wrong_has_its_words(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFileError, match=words):
        read(data)


def test_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(VersionError, match=r"2\.0.*upgrade"):
        read(changed(12, struct.pack("<HH", 2, 0)))


def test_a_newer_writer_that_needs_no_newer_reader_is_read() -> None:
    assert read(changed(8, struct.pack("<HH", 1, 9))).name == rich_graph().name


def test_an_unknown_section_is_skipped_unless_it_is_required() -> None:
    entry = 64 + 32 * 3
    assert read(changed(entry, struct.pack("<I", 99))).metadata == {}
    with pytest.raises(VersionError, match="99"):
        read(changed(entry, struct.pack("<II", 99, 1)))


def test_deeply_nested_metadata_is_an_error() -> None:
    offset, length = section(4)
    with pytest.raises(CorruptFileError, match="metadata"):
        read(changed(offset, b"[" * length))


def test_a_small_file_cannot_claim_much_memory(tmp_path: Path) -> None:
    from dataclasses import replace

    from edgecnn.graph import Constant

    graph = rich_graph()
    huge = Constant("w", np.zeros((3, 3, 3, 4), np.float32), "sparse_float32")
    data = encode(replace(graph, constants={**graph.constants, "w": huge}))
    with pytest.raises(ModelFileError, match=r"max_bytes"):
        read(data, max_bytes=100)
    assert read(data, max_bytes=100_000).name == graph.name


def test_a_compression_bomb_is_refused() -> None:
    from edgecnn.format.encodings import FLOAT32, decode

    bomb = zlib.compress(bytes(10**7), 9)
    for claimed in (4, 10**7 - 4, 10**7 + 4):
        with pytest.raises(CorruptFileError):
            decode(FLOAT32, claimed, memoryview(bomb), (claimed // 4,), CorruptFileError)
    assert decode(FLOAT32, 10**7, memoryview(bomb), (10**7 // 4,), CorruptFileError).size == 10**7 // 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "folder"),
        (lambda p: p.write_bytes(b""), "empty"),
    ],
)
def test_paths_without_a_file_are_explained(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    make(path)
    with pytest.raises(ModelFileError, match=words) as caught:
        edgecnn.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.keras", b"PK\x03\x04" + bytes(90), r"a Keras model \(\.keras\)"),
        ("m.zip", b"PK\x03\x04", "a zip archive"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, as Keras writes them"),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(90), "a LiteRT model"),
        ("m.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
    ],
)
def test_models_of_others_are_named_and_sent_to_the_converter(
    name: str, content: bytes, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        CorruptFileError, match=rf"not an \.ecnn file: it is {kind}.*; convert it first: edgecnn-convert .*{name}"
    ):
        edgecnn.load(path)
    if name != "m.onnx":
        with pytest.raises(CorruptFileError, match=r"it is a.*; convert it first: edgecnn-convert$"):
            edgecnn.load(content)


class Refused(Exception):
    """What a reader raises for a constant that is wrong."""


PLACES = 40


def gaps(*steps: int, size: int | None = None, rest: bytes | None = None) -> bytes:
    """The gaps of a sparse constant: their number, they, and what fills up to a multiple of four."""
    filled = bytes(-len(steps) % 4) if rest is None else rest
    return struct.pack("<I", len(steps) if size is None else size) + bytes(steps) + filled


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("kind", "places", "values", "message"),
    [
        ("BITMASK", bytes(7), 0, "7 bytes; the bitmask alone takes 8"),
        ("BITMASK", bytes((0, 0, 0, 0, 0, 1, 0, 0)), 1, "places beyond the last of 40"),
        ("BITMASK", bytes((0, 0, 0, 0, 0, 0, 0, 128)), 1, "places beyond the last of 40"),
        ("BITMASK", bytes((7, 0, 0, 0, 128, 0, 0, 0)), 3, "3 values for more places"),
        ("BITMASK", bytes((7, 0, 0, 0, 128, 0, 0, 0)), 5, "5 values for 4 places"),
        ("BITMASK", bytes(8), 0.5, "bytes of values; wanted a multiple of"),
        ("GAPS", gaps(1, 2, size=9), 0, "8 bytes; the gaps alone take 16"),
        ("GAPS", gaps(*[0] * 41), 41, "41 gap bytes for 40 places"),
        ("GAPS", gaps(1, 2, rest=b"\0\1"), 2, "must be zero"),
        ("GAPS", gaps(1, 255), 1, "end without a value"),
        ("GAPS", gaps(1, 38), 2, "places beyond the last of 40"),
        ("GAPS", gaps(255, 0), 1, "places beyond the last of 40"),
        ("GAPS", gaps(1, 2, 3), 2, "2 values for more places"),
        ("GAPS", gaps(1, 2, 3), 4, "4 values for 3 places"),
        ("GAPS", gaps(), 0.5, "bytes of values; wanted a multiple of"),
    ],
)
def test_a_sparse_constant_that_is_wrong_is_refused(
    half: bool, kind: str, places: bytes, values: float, message: str
) -> None:
    size = 2 if half else 4
    tag = getattr(encodings, f"{kind}{8 * size}")
    data = memoryview(places + bytes(range(1, 1 + int(size * values))))
    with pytest.raises(Refused, match=message):
        encodings.decode(tag, 0, data, (PLACES,), Refused)


@pytest.mark.parametrize(("size", "places", "fits"), [(9, 64, False), (16, 65, True), (17, 65, False), (1, 0, False)])
def test_a_mask_that_is_longer_than_its_places_is_not_read(size: int, places: int, fits: bool) -> None:
    mask, nothing = np.zeros(size, np.uint8), np.zeros(0, np.float32)
    with nullcontext() if fits else pytest.raises(ValueError, match=f"a mask of {size} bytes for {places} places"):
        put_by_bitmask(mask, nothing, np.zeros(places, np.float32))


@given(
    st.sampled_from(["sparse_float32", "sparse_float16"]),
    st.integers(1, 700),
    st.sampled_from([0.01, 0.3, 0.9]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-9, 9),
)
@settings(max_examples=examples(500), deadline=None)
def test_a_damaged_sparse_constant_is_refused_or_holds_no_more_values(
    encoding: str, size: int, density: float, damage: list[tuple[int, int]], more: int
) -> None:
    rng = np.random.default_rng(size)
    values = np.where(rng.random(size) < density, rng.standard_normal(size), 0).astype(np.float32)
    tag, raw, stored = encodings.encode(Constant("w", values, encoding), False)
    data = bytearray(stored) + bytes(max(more, 0))
    for place, byte in damage:
        data[place % len(data)] = byte
    del data[len(data) + min(more, 0) :]
    width = 2 if encoding.endswith("16") else 4
    try:
        found = encodings.decode(tag, raw, memoryview(data), (size,), Refused)
    except Refused:
        return
    assert found.shape == (size,)
    assert np.count_nonzero(found) <= len(data) // width
