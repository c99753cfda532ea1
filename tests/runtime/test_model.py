"""What users hold: calls, errors, and what a model promises."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from child_process import answer
from edgecnn.format import encode, write
from edgecnn.graph import Graph, Node, Port, Tensor, reference
from edgecnn.runtime import cpu
from small_models import convolution, dense_pair, mean_classifier

ISAS = [entry.name for entry in cpu.supported()]


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


@pytest.fixture
def model() -> edgecnn.Model:
    return edgecnn.load(convolution(), threads=2)


@pytest.fixture
def x() -> np.ndarray:
    return images(3, 16, 16, 4)


def name_of(model: edgecnn.Model) -> str:
    return model.inputs[0].name


def test_array_in_array_out(model: edgecnn.Model, x: np.ndarray) -> None:
    expected = reference.run(model.graph, {name_of(model): x})
    y = model(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, next(iter(expected.values())), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_image_of_a_batch_is_computed_as_alone(count: int, threads: int) -> None:
    model = edgecnn.load(convolution(), threads=threads)
    x = images(count, 16, 16, 4)
    y = model(x)
    assert y.shape == (count, 16, 16, 8)
    for index in range(count):
        assert y[index].tobytes() == model(x[index : index + 1])[0].tobytes()


@pytest.mark.parametrize("isa", ISAS)
def test_the_instruction_set_can_be_forced(isa: str, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_ISA", isa)
    model = edgecnn.load(convolution())
    assert model.instruction_set == isa
    expected = reference.run(model.graph, {name_of(model): x})
    np.testing.assert_allclose(model(x), next(iter(expected.values())), rtol=1e-5, atol=1e-5)
    assert isa in model.summary()


def test_a_returned_array_is_the_callers_own(model: edgecnn.Model, x: np.ndarray) -> None:
    first = model(x)
    kept = first.copy()
    model(-x)
    np.testing.assert_array_equal(first, kept)


def test_several_inputs_as_arguments_list_tuple_or_dict() -> None:
    model = edgecnn.load(dense_pair())
    left, right = images(2, 3), images(2, 3, seed=1)
    for given in ((left, right), ([left, right],), ((left, right),), ({"right": right, "left": left},)):
        total, double = model(*given)
        np.testing.assert_array_equal(total, left + right)
        np.testing.assert_array_equal(double, 2 * left)


def test_run_answers_by_name_and_writes_where_it_is_told() -> None:
    model = edgecnn.load(dense_pair())
    left, right = images(2, 3), images(2, 3, seed=1)
    place = np.full((2, 3), 7, np.float32)
    answers = model.run({"left": left, "right": right}, out={"double": place})
    assert list(answers) == ["sum", "double"]
    assert answers["double"] is place
    np.testing.assert_array_equal(place, 2 * left)


def test_an_output_array_may_be_the_input_array() -> None:
    graph = mean_classifier()
    same = Graph(
        "same",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (Node("softmax", "s", ("x",), ("y",), {"axis": 2, "log": 0}, ()),),
        {"x": Tensor("x", (None, 4, 4)), "y": Tensor("y", (None, 4, 4))},
    )
    assert graph.name == "means"
    model = edgecnn.load(same)
    x = images(3, 4, 4)
    expected = model(x)
    model.run({"x": x}, out={"y": x})
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ({"sums": np.zeros((2, 3), np.float32)}, ["sums", "wanted", "double"]),
        ({"sum": np.zeros((2, 4), np.float32)}, ["(2, 4)", "(2, 3)"]),
        ({"sum": np.zeros((2, 3))}, ["float64", "float32"]),
        ({"sum": np.zeros((3, 2), np.float32).T}, ["contiguous"]),
        ({"sum": [[0.0] * 3] * 2}, ["list", "NumPy array"]),
    ],
)
def test_an_output_array_that_does_not_fit_is_refused(out: dict[str, object], words: list[str]) -> None:
    model = edgecnn.load(dense_pair())
    with pytest.raises(edgecnn.InputError) as caught:
        model.run({"left": images(2, 3), "right": images(2, 3)}, out=out)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)


def test_a_read_only_output_array_is_refused() -> None:
    model = edgecnn.load(dense_pair())
    place = np.zeros((2, 3), np.float32)
    place.flags.writeable = False
    with pytest.raises(edgecnn.InputError, match="writable"):
        model.run({"left": images(2, 3), "right": images(2, 3)}, out={"sum": place})


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]", object, "S4", "U4", complex, [("a", "f4")]])
def test_what_is_no_number_is_refused(dtype: Any, model: edgecnn.Model) -> None:
    with pytest.raises(edgecnn.InputError, match="input"):
        model(np.zeros((1, 16, 16, 4), dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64, np.bool_])
def test_other_dtypes_are_converted(dtype: type, model: edgecnn.Model) -> None:
    x = np.random.default_rng(0).integers(0, 2, (2, 16, 16, 4)).astype(dtype)
    np.testing.assert_array_equal(model(x), model(x.astype(np.float32)))


def test_strided_and_read_only_arrays_are_taken(model: edgecnn.Model, x: np.ndarray) -> None:
    wide = np.zeros((3, 16, 32, 4), np.float32)
    wide[:, :, ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    expected = model(x)
    np.testing.assert_array_equal(model(wide[:, :, ::2]), expected)
    np.testing.assert_array_equal(model(frozen), expected)
    np.testing.assert_array_equal(model(x.tolist()), expected)
    np.testing.assert_array_equal(model(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(model(x[:, ::-1].copy()[:, ::-1]), expected)
    np.testing.assert_array_equal(model(x.astype(x.dtype.newbyteorder())), expected)
    np.testing.assert_array_equal(model(np.ma.masked_array(x)), expected)
    assert model(x[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 4, 16, 16), np.float32), ["(1, 4, 16, 16)", "(N, 16, 16, 4)", "x.transpose(0, 2, 3, 1)"]),
        (np.zeros((16, 16, 4), np.float32), ["(16, 16, 4)", "x[None]"]),
        (np.zeros((4, 16, 16), np.float32), ["x.transpose(1, 2, 0)[None]"]),
        (np.zeros((2, 16, 15, 4), np.float32), ["(2, 16, 15, 4)", "(N, 16, 16, 4)"]),
        (np.zeros((), np.float32), ["()"]),
        (np.zeros((2, 16, 16, 4), np.complex64), ["complex64", "float32"]),
        (np.full((2, 16, 16, 4), "a"), ["float32"]),
        ([[1.0], [1.0, 2.0]], ["array"]),
    ],
)
def test_a_wrong_input_is_explained(model: edgecnn.Model, array: object, words: list[str]) -> None:
    with pytest.raises(edgecnn.InputError) as caught:
        model(array)
    assert isinstance(caught.value, ValueError)
    assert repr(name_of(model)) in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_missing_channel_axis_is_recognised() -> None:
    gray = Graph(
        "gray",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (Node("reduce_max", "p", ("x",), ("y",), {"axes": (1, 2), "keepdims": 0}, ()),),
        {"x": Tensor("x", (None, 8, 8, 1)), "y": Tensor("y", (None, 1))},
    )
    model = edgecnn.load(gray)
    with pytest.raises(edgecnn.InputError, match=r"x\[\.\.\., None\]"):
        model(np.zeros((5, 8, 8)))
    with pytest.raises(edgecnn.InputError, match=r"x\[None, \.\.\., None\]"):
        model(np.zeros((8, 8)))


def test_wrong_names_numbers_and_batches_of_inputs_are_explained() -> None:
    model = edgecnn.load(dense_pair())
    with pytest.raises(edgecnn.InputError, match="'lift'"):
        model({"lift": images(1, 3), "right": images(1, 3)})
    with pytest.raises(edgecnn.InputError, match="given 1 inputs; wanted 2"):
        model(images(1, 3))
    with pytest.raises(edgecnn.InputError, match="different batch sizes"):
        model(images(1, 3), images(2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("isa", ISAS)
def test_nan_and_infinity_go_through_as_numbers(value: float, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_ISA", isa)
    model = edgecnn.load(convolution())
    x = images(1, 16, 16, 4)
    x[0, 5, 6, 2] = value
    expected = next(iter(reference.run(model.graph, {name_of(model): x}).values()))
    got = model(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    fine = np.isfinite(expected)
    np.testing.assert_allclose(got[fine], expected[fine], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 32])
def test_predict_cuts_into_batches(model: edgecnn.Model, batch_size: int) -> None:
    x = images(10, 16, 16, 4)
    np.testing.assert_array_equal(model.predict(x, batch_size=batch_size), model(x))
    np.testing.assert_array_equal(model.predict(iter(x), batch_size=batch_size), model(x))


def test_predict_of_nothing_gives_nothing(model: edgecnn.Model) -> None:
    assert model.predict(images(0, 16, 16, 4)).shape == (0, 16, 16, 8)
    assert model.predict(iter([])).shape == (0, 16, 16, 8)


def test_predict_refuses_a_batch_size_of_nothing(model: edgecnn.Model) -> None:
    with pytest.raises(edgecnn.InputError, match="batch_size"):
        model.predict(images(2, 16, 16, 4), batch_size=0)


def test_unknown_sizes_are_planned_when_they_come() -> None:
    model = edgecnn.load(mean_classifier(size=None))
    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11):
        x = images(2, size, size + 1, 3, seed=size)
        np.testing.assert_allclose(model(x), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    assert len(model._plans) <= 8
    for size in (11, 1, 10):  # planned last, thrown away, planned before
        x = images(1, size, size + 1, 3, seed=size)
        np.testing.assert_allclose(model(x), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    with pytest.raises(edgecnn.InputError):
        model(np.zeros((1, 0, 3, 3)))


def test_many_threads_may_call_one_model(model: edgecnn.Model) -> None:
    xs = [images(2, 16, 16, 4, seed=i) for i in range(4)]
    expected = [model(x) for x in xs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            same = np.array_equal(model(xs[index]), expected[index])
            wrong.extend([] if same else [index])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_model_works_in_a_child_process(method: str, model: edgecnn.Model, x: np.ndarray) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    expected = model(x[:1]).tobytes()  # a parallel region in the parent: what makes a fork dangerous
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(model, x[:1], sender), daemon=True)
    child.start()
    sender.close()  # so that a child that dies ends the wait
    with receiver:
        assert receiver.recv() == expected
    child.join()
    assert child.exitcode == 0


def test_a_model_can_be_pickled(tmp_path: Path, x: np.ndarray) -> None:
    path = tmp_path / "model.ecnn"
    write(convolution(), path)
    model = edgecnn.load(path, threads=1)
    again = pickle.loads(pickle.dumps(model))
    assert (again.threads, again.inputs, again.memory.file) == (1, model.inputs, path.stat().st_size)
    np.testing.assert_array_equal(again(x), model(x))


def test_a_model_comes_from_path_bytes_or_graph(tmp_path: Path, x: np.ndarray) -> None:
    path = tmp_path / "model.ecnn"
    write(convolution(), path)
    expected = edgecnn.load(convolution())(x)
    for source in (path, str(path), encode(convolution())):
        np.testing.assert_array_equal(edgecnn.load(source)(x), expected)


def test_metadata_and_labels_are_the_callers_to_change(tmp_path: Path) -> None:
    graph = mean_classifier(metadata={"labels": ["red", "green", "blue"], "note": {"a": 1}})
    model = edgecnn.load(encode(graph))
    assert model.labels == ("red", "green", "blue")
    model.metadata["note"]["a"] = 2
    assert model.metadata["note"] == {"a": 1}


def test_facts_about_a_model(model: edgecnn.Model) -> None:
    assert model.inputs == (edgecnn.TensorSpec(name_of(model), (None, 16, 16, 4), "float32"),)
    assert model.macs == 16 * 16 * 8 * 3 * 3 * 4
    assert model.device == "cpu"
    assert model.threads == 2
    assert model.memory.weights >= 3 * 3 * 4 * 8 * 4
    assert "conv" in model.summary()


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, "2", True])
def test_a_senseless_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(edgecnn.InputError, match="threads"):
        edgecnn.load(convolution(), threads=threads)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(edgecnn.DeviceError, match="tpu"):
        edgecnn.load(convolution(), device="tpu")


def test_the_cpu_has_one_precision() -> None:
    assert edgecnn.load(convolution(), precision="float32").device == "cpu"
    with pytest.raises(edgecnn.InputError, match="float16"):
        edgecnn.load(convolution(), precision="float16")


def test_profile_times_every_step(model: edgecnn.Model, tmp_path: Path) -> None:
    profile = model.profile(runs=5)
    assert [step["operator"] for step in profile.steps] == ["conv", "call"]
    assert all(0 < step["low_ms"] <= step["median_ms"] <= step["high_ms"] for step in profile.steps)
    assert "conv" in profile.table()
    profile.save(tmp_path / "profile.json")
    assert json.loads((tmp_path / "profile.json").read_text())["runs"] == 5
    with pytest.raises(edgecnn.InputError, match=r"\.txt"):
        profile.save(tmp_path / "profile.txt")


@pytest.mark.parametrize("flag", [{"mmap": "yes"}, {"mmap": 1}, {"mmap": None}, {"tune": "no"}, {"tune": 0}])
def test_flags_are_true_or_false(flag: dict[str, Any]) -> None:
    name, value = next(iter(flag.items()))
    with pytest.raises(edgecnn.InputError, match=f"{name}={value!r}: wanted True or False"):
        edgecnn.load(mean_classifier(), **flag)
