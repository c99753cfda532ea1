"""Models that TensorFlow computes: what they answer, refuse and promise. It runs on TensorFlow's CPU, and on GPUs where there are some."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from child_process import answer
from edgecnn.accelerators import tensorflow as accelerator
from edgecnn.accelerators.tensorflow import TensorFlowModel, tensor_float_32
from edgecnn.accelerators.tensorflow_operators import FUNCTIONS
from edgecnn.format import encode
from edgecnn.graph import Graph, reference
from file_graphs import rich_graph
from patience import HUNG
from small_models import convolution, dense_pair, mean_classifier

tf = pytest.importorskip("tensorflow")

# Importing TensorFlow warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
GPUS = len(tf.config.list_physical_devices("GPU"))
CPU = ("/device:CPU:0",)


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


@pytest.fixture
def x() -> np.ndarray:
    return images(3, 16, 16, 4)


@pytest.fixture
def model() -> TensorFlowModel:
    return TensorFlowModel(convolution(), devices=CPU)


def wanted(graph: Graph, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return reference.run(graph, inputs)


def test_a_model_from_a_file_is_a_model(x: np.ndarray) -> None:
    model = edgecnn.load(encode(convolution()), device="tensorflow")
    assert isinstance(model, edgecnn.Model)
    assert model.device == "tensorflow"
    assert model.inputs == edgecnn.load(convolution()).inputs
    assert model.macs == 16 * 16 * 8 * 3 * 3 * 4
    assert model.memory.file == len(encode(convolution()))
    assert model.memory.weights == 4 * (3 * 3 * 4 * 8 + 8)
    assert model.memory.arena == 4 * 16 * 16 * (4 + 8)
    assert model.threads >= 1
    np.testing.assert_allclose(model(x), wanted(convolution(), x=x)["y"], atol=1e-5)


def test_answers_have_the_structure_of_the_keras_model() -> None:
    left, right = images(2, 3), images(2, 3, seed=1)
    model = edgecnn.load(dense_pair(), device="tensorflow")
    for given in (({"left": left, "right": right},), (left, right), ([left, right],)):
        total, double = model(*given)
        np.testing.assert_allclose(total, left + right)
        np.testing.assert_allclose(double, 2 * left)
    named = model.run({"left": left, "right": right})
    assert list(named) == ["sum", "double"]


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8", "sparse_float32", "sparse_float16"])
def test_weights_are_decoded(encoding: str) -> None:
    graph = rich_graph(encoding=encoding)
    inputs = {p.name: images(2, *(s or 5 for s in graph.shape(p.tensor)[1:])) for p in graph.inputs}
    found = edgecnn.load(encode(graph), device="tensorflow").run(inputs)
    for name, array in wanted(graph, **inputs).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_outputs_go_where_the_caller_wants_them(model: TensorFlowModel, x: np.ndarray) -> None:
    y = np.empty((3, 16, 16, 8), np.float32)
    assert model.run({"x": x}, out={"y": y})["y"] is y
    np.testing.assert_array_equal(y, model(x))
    with pytest.raises(edgecnn.InputError, match="float32"):
        model.run({"x": x}, out={"y": np.empty((3, 16, 16, 7), np.float32)})


def test_what_does_not_fit_is_refused_as_on_the_cpu(model: TensorFlowModel, x: np.ndarray) -> None:
    for given in (x[0], x.transpose(0, 3, 1, 2), x[:, :8], np.array(["a"])):
        with pytest.raises(edgecnn.InputError) as ours:
            edgecnn.load(convolution())(given)
        with pytest.raises(edgecnn.InputError) as theirs:
            model(given)
        assert str(ours.value) == str(theirs.value)


def test_no_images_give_no_answers(model: TensorFlowModel, x: np.ndarray) -> None:
    assert model(x[:0]).shape == model.predict(x[:0]).shape == (0, 16, 16, 8)


def test_other_dtypes_are_taken(model: TensorFlowModel, x: np.ndarray) -> None:
    whole = (100 * x).astype(np.int8)
    np.testing.assert_array_equal(model(whole), model(whole.astype(np.float32)))


def test_predict_keeps_the_order_of_images(model: TensorFlowModel) -> None:
    xs = images(23, 16, 16, 4)
    expected = model(xs)
    np.testing.assert_allclose(model.predict(xs, batch_size=4), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(iter(xs), batch_size=7), expected, atol=1e-6)


def test_an_error_in_the_middle_of_an_iterator_is_told(model: TensorFlowModel, x: np.ndarray) -> None:
    with pytest.raises(edgecnn.InputError, match="wanted float32"):
        model.predict(iter([x[0], x[1], x[2, :8]]), batch_size=1)


@pytest.mark.parametrize("compiled", [False, True])
def test_unknown_sizes_are_taken_as_they_come(compiled: bool) -> None:
    model = TensorFlowModel(mean_classifier(size=None), devices=CPU, compiled=compiled)
    for size in range(1, 12):
        x = images(2, size, size + 1, 3, seed=size)
        np.testing.assert_allclose(model(x), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    assert len(model._plans) == 8
    with pytest.raises(edgecnn.InputError):
        model(np.zeros((1, 0, 3, 3)))


def test_compiled_models_answer_for_batches_of_any_size(x: np.ndarray) -> None:
    xs, model = images(21, 16, 16, 4), TensorFlowModel(convolution(), devices=CPU, compiled=True)
    expected = wanted(convolution(), x=xs)["y"]
    for count in (1, 2, 3, 9, 17, 21):
        np.testing.assert_allclose(model(xs[:count]), expected[:count], atol=1e-5)
    assert "compiled by XLA" in model.summary()


def test_few_batches_are_compiled_for() -> None:
    rounded = [accelerator._rounded(images) for images in range(1, 257)]
    assert all(0 <= given - wanted <= wanted / 4 for wanted, given in enumerate(rounded, start=1))
    assert {1, 2, 3, 4, 8, 16, 32, 64, 128, 256} <= set(rounded)
    assert len(set(rounded)) == 8 + 4 * 5 - 1 + 1


def test_what_xla_does_not_compile_is_computed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NumPy function inside the graph: XLA has none."""
    monkeypatch.setitem(
        FUNCTIONS, "reduce_mean", lambda tf, node, x: tf.numpy_function(lambda a: a.mean((1, 2)), [x], tf.float32)
    )
    model, x = TensorFlowModel(mean_classifier(), devices=CPU, compiled=True), images(2, 4, 4, 3)
    with pytest.warns(RuntimeWarning, match="XLA does not compile 'means'"):
        found = model(x)
    np.testing.assert_allclose(found, x.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(model(x), found)
    assert "operator by operator" in model.summary()


def test_a_failure_of_tensorflow_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tf: Any, node: Any, x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x > 2), [x])]):
            return tf.reduce_mean(x, [1, 2])

    monkeypatch.setitem(FUNCTIONS, "reduce_mean", fail)
    with pytest.raises(edgecnn.DeviceError, match="CPU:0"):
        TensorFlowModel(mean_classifier(), devices=CPU)(images(2, 4, 4, 3))


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Makes devices run out of memory above a number of images; gives the sizes that were tried."""

    def limit(most: int) -> list[int]:
        tried: list[int] = []
        run = accelerator._Replica.run

        def limited(self: Any, function: Any, arrays: Any, compiled: bool) -> Any:
            tried.append(len(arrays[0]))
            if len(arrays[0]) > most:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")
            return run(self, function, arrays, compiled)

        monkeypatch.setattr(accelerator._Replica, "run", limited)
        return tried

    return limit


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(
    model: TensorFlowModel, small_memory: Callable[[int], list[int]]
) -> None:
    xs = images(50, 16, 16, 4)
    expected = model(xs)
    tried = small_memory(7)
    np.testing.assert_allclose(model(xs), expected, atol=1e-6)
    assert max(tried) == 50
    tried.clear()
    np.testing.assert_allclose(model(xs), expected, atol=1e-6)
    assert max(tried) <= 7


def test_an_image_that_does_not_fit_is_an_error(
    model: TensorFlowModel, x: np.ndarray, small_memory: Callable[[int], list[int]]
) -> None:
    small_memory(0)
    with pytest.raises(edgecnn.DeviceError, match="memory"):
        model(x)


def test_large_batches_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    xs = images(37, 16, 16, 4)
    expected = TensorFlowModel(convolution(), devices=CPU)(xs)
    monkeypatch.setitem(accelerator.PIECE_BYTES, "CPU", 9 * 4 * 16 * 16 * 12)
    model = TensorFlowModel(convolution(), devices=CPU)
    np.testing.assert_allclose(model(xs), expected, atol=1e-6)
    assert model._plans[((16, 16, 4),)].most == 8


def test_many_threads_may_call_one_model(model: TensorFlowModel) -> None:
    xs = [images(2, 16, 16, 4, seed=i) for i in range(4)]
    expected = [model(x) for x in xs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            wrong.extend([] if np.array_equal(model(xs[index]), expected[index]) else [index])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


TWO_DEVICES = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from edgecnn.accelerators import tensorflow as accelerator
from small_models import convolution
names = ["/device:CPU:0", "/device:CPU:1"]
model = accelerator.TensorFlowModel(convolution(), devices=names)
used = set()
run = accelerator._Replica.run
def noted(self, function, arrays, compiled):
    answers = run(self, function, arrays, compiled)
    used.update(answer.device[-5:] for answer in answers)
    return answers
accelerator._Replica.run = noted
x = np.load(sys.argv[1])
np.save(sys.argv[2], model(x))
assert used == {"CPU:0", "CPU:1"}, used
assert model.memory.weights == 2 * 4 * (3 * 3 * 4 * 8 + 8)
assert "CPU:0, CPU:1" in model.summary()
"""


def test_several_devices_share_a_batch(tmp_path: Path) -> None:
    """TensorFlow cuts one CPU into two devices; that must be asked for before it starts."""
    x = images(11, 16, 16, 4)
    np.save(tmp_path / "x.npy", x)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{TWO_DEVICES}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted(convolution(), x=x)["y"], atol=1e-5)


def test_a_model_can_be_pickled(x: np.ndarray) -> None:
    model = edgecnn.load(encode(convolution()), device="tensorflow", precision="bfloat16")
    again = pickle.loads(pickle.dumps(model))
    assert (again.device, again.memory, again.inputs) == (model.device, model.memory, model.inputs)
    np.testing.assert_array_equal(again(x), model(x))


def test_a_model_works_in_a_spawned_child(model: TensorFlowModel, x: np.ndarray) -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(model, x[:1], sender), daemon=True)
    child.start()
    sender.close()
    with receiver:
        assert receiver.recv() == model(x[:1]).tobytes()
    child.join()


def error_in_child(model: edgecnn.Model, x: np.ndarray, end: Connection) -> None:
    try:
        model(x)
    except edgecnn.Error as error:
        end.send(f"{type(error).__name__}: {error}")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_child_is_told_and_does_not_hang(model: TensorFlowModel, x: np.ndarray) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=error_in_child, args=(model, x, sender), daemon=True)
    child.start()
    sender.close()
    with receiver:
        assert receiver.poll(HUNG)
        assert "DeviceError: this process was forked" in receiver.recv()
    child.kill()
    child.join()


@pytest.mark.parametrize("device", ["tpu", "gpu:", "gpu:x", "GPU", "", "cpu:0", 0])
def test_an_unknown_device_is_refused_with_those_that_are_known(device: Any) -> None:
    with pytest.raises(edgecnn.DeviceError, match='"gpus" and "tensorflow"'):
        edgecnn.load(convolution(), device=device)


@pytest.mark.parametrize("device", ["gpu", "gpus", f"gpu:{GPUS}"] if not GPUS else [f"gpu:{GPUS}"])
def test_a_gpu_that_is_not_there_is_an_error(device: str) -> None:
    with pytest.raises(edgecnn.DeviceError, match=f"TensorFlow {tf.__version__}.* sees no such GPU here, only .*CPU:0"):
        edgecnn.load(convolution(), device=device)


def test_without_tensorflow_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(edgecnn.MissingPackageError, match=r'pip install "edgecnn\[gpu\]"'):
        edgecnn.load(convolution(), device="gpu")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"threads": 2}, "threads"), ({"tune": True}, "tune"), ({"precision": "float64"}, "float64.*bfloat16")],
)
def test_what_a_device_does_not_know_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(edgecnn.InputError, match=match):
        edgecnn.load(convolution(), device="tensorflow", **options)


def test_what_only_the_cpu_can_is_refused(model: TensorFlowModel) -> None:
    with pytest.raises(edgecnn.InputError, match="profiler"):
        model.profile()
    assert model.possible_algorithms() == {}


def test_the_summary_has_a_line_a_node() -> None:
    lines = edgecnn.load(dense_pair(), device="tensorflow").summary().splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == ["add", "dense"]
    assert lines[-1].startswith("2 nodes, 9 MACs, TensorFlow")


@pytest.mark.parametrize(("precision", "error"), [("float16", 2e-3), ("bfloat16", 2e-2), ("tf32", 1e-5)])
def test_a_lower_precision_is_near_and_gives_float32(precision: str, error: float, x: np.ndarray) -> None:
    model = edgecnn.load(convolution(), device="tensorflow", precision=precision)
    expected, found = wanted(convolution(), x=x)["y"], model(x)
    assert found.dtype == np.float32
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() <= error * largest
    half = precision in ("float16", "bfloat16")
    assert model.memory.weights == (2 if half else 4) * (3 * 3 * 4 * 8 + 8)
    assert (np.abs(found - expected).max() > 1e-5 * largest) == half
    assert precision in model.summary()


def enabled() -> bool:
    return bool(tf.config.experimental.tensor_float_32_execution_enabled())


@pytest.fixture(params=[True, False])
def setting(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = enabled()
    tf.config.experimental.enable_tensor_float_32_execution(request.param)
    yield request.param
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_rounded_products_are_for_one_call_and_the_users_setting_stays(
    precision: str, setting: bool, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    run = accelerator._Replica.run

    def noted(*args: Any) -> Any:
        seen.append(enabled())
        return run(*args)

    monkeypatch.setattr(accelerator._Replica, "run", noted)
    edgecnn.load(convolution(), device="tensorflow", precision=precision)(x)
    assert seen == [precision == "tf32"]
    assert enabled() == setting


def test_who_wants_another_rounding_waits_and_who_wants_the_same_does_not(setting: bool) -> None:
    order: list[str] = []

    def enter(wanted: bool, name: str) -> threading.Thread:
        def work() -> None:
            with tensor_float_32(tf, wanted):
                assert enabled() == wanted
                order.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with tensor_float_32(tf, True):
        same, other = enter(True, "same"), enter(False, "other")
        same.join()
        time.sleep(0.05)
        order.append("end")
    other.join()
    assert order == ["same", "end", "other"]
    assert enabled() == setting


def test_the_setting_is_put_back_after_an_error(setting: bool) -> None:
    with pytest.raises(ZeroDivisionError), tensor_float_32(tf, not setting):
        1 / 0  # noqa: B018
    assert enabled() == setting


@pytest.mark.skipif(not GPUS, reason="TensorFlow sees no GPU here")
@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-5), ("tf32", 2e-3), ("float16", 2e-3)])
@pytest.mark.parametrize("device", ["gpu", "gpus", "gpu:0"])
def test_a_gpu_gives_the_cpus_answers(device: str, precision: str, error: float) -> None:
    xs = images(40, 16, 16, 4)
    expected = wanted(convolution(), x=xs)["y"]
    model = edgecnn.load(convolution(), device=device, precision=precision)
    assert np.abs(model(xs) - expected).max() <= error * np.abs(expected).max()
    assert "compiled by XLA" in model.summary()
