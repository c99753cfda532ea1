"""What a file may make a process allocate and do: refused before it happens, by an error that names what asked for it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecnn
from edgecnn import budget as budgets
from edgecnn.budget import BASE_BYTES, BYTES_FOR_ONE, Budget
from edgecnn.errors import ConversionError, InputError, ModelFileError
from edgecnn.format import encode, write
from edgecnn.graph import Graph, reference
from edgecnn.graph.interpolation import axis_table, table_entries
from edgecnn.graph.operators import RESIZE_METHODS
from edgecnn.runtime.kernels.chain import band_of
from edgecnn.runtime.kernels.copying import padded
from examples import examples
from graph_strategies import GraphBuilder
from hostile_graphs import ASK_FOR_MEMORY, ASK_FOR_WORK, CHEAP, resized

CHILD = """
import resource, sys
import edgecnn
from edgecnn.errors import ModelFileError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29))
try:
    edgecnn.load(sys.argv[1], threads=1)
except ModelFileError as error:
    print(peak() - before, error)
"""


@pytest.mark.parametrize("name", ASK_FOR_MEMORY)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process's memory are Linux'")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer maps terabytes")
def test_a_small_file_that_asks_for_much_memory_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, culprit = ASK_FOR_MEMORY[name]
    path = tmp_path / "hostile.ecnn"
    path.write_bytes(encode(make()))
    child = subprocess.run([sys.executable, "-P", "-c", CHILD, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert "hostile.ecnn" in child.stdout
    assert culprit in child.stdout
    assert int(child.stdout.split()[0]) <= BASE_BYTES + BYTES_FOR_ONE * path.stat().st_size + 2**24


@pytest.mark.parametrize("name", ASK_FOR_WORK)
def test_a_small_file_that_asks_for_much_work_is_refused_by_name(name: str) -> None:
    make, culprit = ASK_FOR_WORK[name]
    with pytest.raises(ModelFileError, match=rf"{culprit}.*units of work"):
        edgecnn.load(encode(make()))


@pytest.mark.skipif(sys.maxsize < 2**32, reason="addresses of 32 bits reach no such images")
@pytest.mark.parametrize("name", CHEAP)
def test_what_is_only_large_in_number_is_loaded_in_proportion_to_the_file(name: str) -> None:
    assert edgecnn.load(encode(CHEAP[name]()), threads=1).macs is not None


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), min_size=2, max_size=4),
    st.lists(st.integers(1, 40), min_size=4, max_size=4),
    st.integers(14, 300),
    st.integers(1, 4000),
)
@settings(max_examples=examples(300), deadline=None)
def test_the_largest_band_whose_buffers_fit_is_taken(
    spans: list[tuple[int, int, int]], widths: list[int], last: int, room: int
) -> None:
    heights, widths = [10**6] * (len(spans) - 1) + [last], widths[: len(spans)]

    def floats(band: int) -> int:
        rows, total = band, 0
        for i in range(len(spans) - 1, 0, -1):
            rows = min((rows - 1) * spans[i][1] + spans[i][0], heights[i - 1])
            total += rows * widths[i - 1]
        return total

    fitting = [-(-last // bands) for bands in range(1, last + 1) if floats(-(-last // bands)) <= room]
    found = band_of(spans, heights, widths, room)
    assert (found[0] if found else None) == max(fitting, default=None)


@pytest.mark.skipif(sys.maxsize < 2**32, reason="addresses of 32 bits reach no such images")
def test_bands_of_very_tall_images_are_found_without_trying_each_number_of_rows() -> None:
    band, rows = band_of([(3, 1, 1), (3, 1, 1)], [2**40, 2**40], [100, 100], 10_000)
    assert (band, rows) == (98, [100])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@given(size=st.integers(1, 6), before=st.integers(0, 6), after=st.integers(0, 6))
@settings(max_examples=examples(100), deadline=None)
def test_segments_of_a_frame_are_what_numpy_pads_with(mode: Any, size: int, before: int, after: int) -> None:
    most = {"reflect": size - 1, "symmetric": size}.get(mode, 6)
    before, after = min(before, most), min(after, most)
    options = {"constant_values": -1} if mode == "constant" else {}
    found = [
        -1 if first < 0 else first + i * jump
        for first, count, jump in padded(size, before, after, mode)
        for i in range(count)
    ]
    assert found == np.pad(np.arange(size), (before, after), mode=mode, **options).tolist()


@pytest.mark.parametrize("method", RESIZE_METHODS)
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize(("length", "size"), [(1, 9), (9, 1), (7, 7), (64, 5), (5, 64), (3, 2)])
def test_tables_have_no_more_entries_than_are_charged(
    method: str, antialias: int, exclude: int, length: int, size: int
) -> None:
    graph = resized(size, 1, (length, 1), method=method, antialias=antialias, exclude_outside=exclude)
    attributes = graph.nodes[0].attributes
    places, weights = axis_table(attributes, 0, length, size)
    assert places.size == weights.size <= table_entries(attributes, 0, length, size)


@given(st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=examples(200), deadline=None)
def test_area_takes_the_mean_from_floor_to_ceil(length: int, size: int) -> None:
    places, weights = axis_table(resized(size, 1, (length, 1), method="area").nodes[0].attributes, 0, length, size)
    for i in range(size):
        first, end = i * length // size, -(-(i + 1) * length // size)
        row = np.zeros(length)
        np.add.at(row, places[i], weights[i])
        expected = np.zeros(length)
        expected[first:end] = 1 / (end - first)
        np.testing.assert_allclose(row, expected, rtol=1e-12)


def large(rows: int | None = 2**14) -> Graph:
    """Functions of an image, of which one tensor beside the output must be kept."""
    builder = GraphBuilder()
    y = builder.add("activation", builder.input("x", rows, rows, 1), activation="tanh", name="inside")
    z = builder.add("softmax", y, axis=2, name="sums")
    return builder.graph(builder.add("add", y, z, name="both"))


def test_tensors_that_the_machine_cannot_hold_are_refused_at_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(large())
    assert edgecnn.load(data).memory.arena >= 2**30
    monkeypatch.setattr(budgets, "memory_of_machine", lambda: 2**30)
    with pytest.raises(
        ModelFileError, match=r"largest tensor has the shape \(16384, 16384, 1\).*the bound is 805306368"
    ):
        edgecnn.load(data)


@pytest.mark.parametrize("source", [large(64), encode(large(64))])
def test_max_bytes_bounds_what_an_image_takes(source: Graph | bytes) -> None:
    # The output and one tensor beside it, 16 KiB each, and scratch.
    with pytest.raises(ModelFileError, match="max_bytes"):
        edgecnn.load(source, threads=1, max_bytes=2 * 64 * 64 * 4 - 1)
    assert edgecnn.load(source, threads=1, max_bytes=4 * 64 * 64 * 4).memory.arena == 64 * 64 * 4


def test_a_refusal_tells_the_bound_that_was_set(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    size = write(large(64), path)
    for most, held in ((size - 1, 0), (size + 2 * 64 * 64 * 4 - 1, size)):  # the file's own bytes, what an image takes
        with pytest.raises(ModelFileError, match=rf"beside {held} that are held; the bound is {most} \(max_bytes\)"):
            edgecnn.load(path, threads=1, max_bytes=most)


def test_max_bytes_holds_for_sizes_that_a_call_brings() -> None:
    model = edgecnn.load(encode(large(None)), threads=1, max_bytes=100_000)
    assert model(np.zeros((1, 64, 64, 1), np.float32))[0].shape == (1, 64, 64, 1)
    for copy in (model, pickle.loads(pickle.dumps(model))):
        with pytest.raises(ModelFileError, match=r"largest tensor has the shape \(256, 256, 1\)"):
            copy(np.zeros((1, 256, 256, 1), np.float32))
        assert copy(np.zeros((1, 64, 64, 1), np.float32))[0].shape == (1, 64, 64, 1)


def test_sizes_of_a_call_that_grow_without_end_are_an_input_error() -> None:
    builder = GraphBuilder()
    y = builder.input("x", None, None, 1)
    for index in range(40):
        y = builder.add(
            "resize",
            y,
            name=f"larger_{index}",
            sizes=(0, 0),
            scales=(100.0, 100.0),
            method="nearest",
            coordinates="asymmetric",
            rounding="floor",
            cubic_coefficient=-0.5,
            exclude_outside=0,
            antialias=0,
        )
    model = edgecnn.load(encode(builder.graph(y)))
    with pytest.raises(InputError, match=r"larger_2.*more than"):
        model(np.zeros((1, 2, 2, 1), np.float32))


def test_loading_ends_at_its_deadline_and_calls_have_none() -> None:
    data = encode(large(16))
    with pytest.raises(ModelFileError, match="max_seconds"):
        edgecnn.load(data, max_seconds=1e-9)
    model = edgecnn.load(encode(large(None)), max_seconds=100.0)
    x = np.random.default_rng(0).standard_normal((1, 5, 5, 1), np.float32)
    np.testing.assert_allclose(model(x)[0], reference.run(model.graph, {"x": x})["both"], rtol=1e-5)


@pytest.mark.parametrize("bounds", [{"max_bytes": 0}, {"max_bytes": True}, {"max_seconds": -1.0}, {"max_bytes": "1"}])
def test_bounds_that_bound_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(InputError, match="above 0"):
        edgecnn.load(encode(large(16)), **bounds)  # type: ignore[arg-type]


def test_running_out_of_memory_names_what_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("edgecnn.runtime.planner.Executor", fail)
    with pytest.raises(ModelFileError, match=r"computing one image.*no more memory"):
        edgecnn.load(large(16))


def test_an_account_of_a_conversion_raises_conversion_errors() -> None:
    budget = Budget(max_bytes=100, error=ConversionError)
    budget.open("model.onnx", 10)
    budget.hold(60, ("constant", "a"))
    budget.borrow(40, ("constant", "b"))
    with pytest.raises(
        ConversionError, match=r"model.onnx: constant 'c' would take 41 bytes.*beside 60.*the bound is 100"
    ):
        budget.hold(41, ("constant", "c"))
