"""A model does not depend on its file once it is loaded; what is no regular file is refused at once."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import CorruptFileError, ModelFileError
from edgecnn.format import encode, read, reading, source, write
from edgecnn.format.mapping import give_back
from edgecnn.graph import Constant, Graph, Node, Port, ReleasableConstant, Tensor
from small_models import LINEAR, convolution

CONV = {"strides": (1, 1), "padding": "same", "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1, **LINEAR}


def network(seed: int, size: int | None = 6) -> Graph:
    """Convolutions of 1 x 1 (a product) and 3 x 3 (Winograd where it pays), a depthwise one, and a dense layer on the means:
    every way in which weights are kept. 1 MB."""
    drawn = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return drawn.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

    constants = {
        "w1": weights(1, 1, 8, 160),
        "b1": weights(1, 160)[0],
        "w2": weights(1, 1, 160, 160),
        "w3": weights(3, 3, 160, 128),
        "w4": weights(11, 12, 128, 1),
        "w5": weights(128, 130),
    }
    depthwise = {name: value for name, value in CONV.items() if name != "groups"}
    nodes = (
        Node("conv", "one", ("x", "w1", "b1", ""), ("a",), CONV),
        Node("conv", "two", ("a", "w2", "", ""), ("b",), CONV),
        Node("conv", "three", ("b", "w3", "", ""), ("c",), CONV),
        Node("depthwise_conv", "four", ("c", "w4", ""), ("d",), depthwise),
        Node("reduce_mean", "mean", ("d",), ("e",), {"axes": (1, 2), "keepdims": 0}),
        Node("dense", "five", ("e", "w5", "", ""), ("y",), LINEAR),
    )
    shapes = {"x": (size, size, 8), "a": (size, size, 160), "b": (size, size, 160), "c": (size, size, 128)}
    shapes |= {"d": (size, size, 128), "e": (128,), "y": (130,)}
    return Graph(
        f"network {seed}",
        (Port("x", "x"),),
        (Port("y", "y"),),
        nodes,
        {name: Tensor(name, (None, *shape)) for name, shape in shapes.items()},
        {name: Constant(name, array) for name, array in constants.items()},
    )


def overwrite(path: Path) -> None:
    content = encode(network(2, read(path).tensors["x"].shape[1]))
    assert len(content) == path.stat().st_size
    with open(path, "r+b") as file:
        file.write(content)


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [overwrite, truncate, empty, delete])
@pytest.mark.parametrize("size", [6, None])
@pytest.mark.parametrize("called", [False, True])
def test_who_changes_a_file_changes_no_loaded_model(
    change: Callable[[Path], None], size: int | None, called: bool, tmp_path: Path
) -> None:
    if sys.platform == "win32" and change is not overwrite:
        pytest.skip("an open file cannot be cut or deleted there")
    path = tmp_path / "model.ecnn"
    graph = network(1, size)
    write(graph, path)
    small, large = (np.random.default_rng(n).standard_normal((2, n, n, 8), np.float32) for n in (6, 19))
    fresh = edgecnn.load(encode(graph))
    model = edgecnn.load(path)
    if called:
        model(small)
    change(path)
    np.testing.assert_array_equal(model(small), fresh(small))
    if size is None:
        np.testing.assert_array_equal(model(large), fresh(large))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(small), fresh(small))
    for name, constant in graph.constants.items():
        assert model.graph.constants[name].array.tobytes() == constant.array.tobytes(), name


@pytest.mark.parametrize("isa", [entry.name for entry in edgecnn.runtime.cpu.supported()])
def test_weights_that_were_given_up_come_back_bit_by_bit(
    isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_ISA", isa)
    graph = network(1)
    write(graph, tmp_path / "model.ecnn")
    model = edgecnn.load(tmp_path / "model.ecnn", threads=1)
    given_up = [
        c.name for c in model.graph.constants.values() if isinstance(c, ReleasableConstant) and c._array is None
    ]
    assert {"w2", "w4"} <= set(given_up)
    for name, constant in graph.constants.items():
        stored = model.graph.constants[name]
        assert (stored.shape, stored.nbytes) == (constant.shape, constant.nbytes)
        assert stored.array.tobytes() == constant.array.tobytes(), name
        assert not stored.array.flags.writeable


def test_weights_are_not_given_up_where_others_have_the_graph(tmp_path: Path) -> None:
    write(network(1), tmp_path / "model.ecnn")
    graph = read(tmp_path / "model.ecnn")
    held = {name: constant.array for name, constant in graph.constants.items()}
    edgecnn.load(graph)
    for name, array in held.items():
        assert graph.constants[name].array is array


def test_pages_that_anybody_else_looks_at_stay(tmp_path: Path) -> None:
    write(network(1), tmp_path / "model.ecnn")
    with reading(tmp_path / "model.ecnn") as graph:
        constant = graph.constants["w3"]
    assert isinstance(constant, ReleasableConstant)
    expected = constant.array.copy()
    part = constant.array[0, 0]
    box = [constant.release(expected.copy)]
    assert not give_back(box)
    np.testing.assert_array_equal(box[0], expected)
    np.testing.assert_array_equal(part, expected[0, 0])
    del part
    if sys.platform == "linux":
        assert give_back(box)
        assert box == []
    np.testing.assert_array_equal(constant.array, expected)


class Slow:
    """A checksum that is not known before somebody waits for it."""

    finished = False

    @property
    def value(self) -> int:
        self.finished = True
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back there alone")
def test_pages_stay_while_they_are_added_up(tmp_path: Path) -> None:
    write(network(1), tmp_path / "model.ecnn")
    with reading(tmp_path / "model.ecnn") as graph:
        constant = graph.constants["w3"]
    assert isinstance(constant, ReleasableConstant)
    expected = constant.array.copy()
    box = [constant.release(expected.copy)]
    copy = box[0].base.base.obj
    copy.checksum = Slow()
    assert not give_back(box)
    np.testing.assert_array_equal(box[0], expected)
    assert give_back(box, wait=True)
    assert copy.checksum.finished


def test_a_mapped_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    write(network(1, None), path)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 8), np.float32)
    expected = edgecnn.load(path)(x)
    np.testing.assert_array_equal(edgecnn.load(path, mmap=True)(x), expected)
    model = edgecnn.load(path, mmap=True)
    os.replace(_other(tmp_path), path)  # how a file in use is replaced
    np.testing.assert_array_equal(model(x), expected)
    assert not np.array_equal(edgecnn.load(path, mmap=True)(x), expected)


def _other(folder: Path) -> Path:
    path = folder / "other.ecnn"
    write(network(2, None), path)
    return path


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ecnn"
    write(network(1), path)
    size = path.stat().st_size
    monkeypatch.setattr(source.os, "fstat", lambda file: os.stat_result((0o100600, *[0] * 5, size + 10, *[0] * 3)))
    with pytest.raises(CorruptFileError, match=f"ended after {size} of {size + 10} bytes while it was read"):
        edgecnn.load(path)


def test_the_deadline_is_looked_at_while_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.ecnn"
    write(network(1), path)
    size = path.stat().st_size
    monkeypatch.setattr(source, "CHUNK", 1000)
    with pytest.raises(
        ModelFileError, match=rf"network\.ecnn: byte 1000 of {size} was reached after more than 1e-09 s"
    ):
        edgecnn.load(path, max_seconds=1e-9)
    assert edgecnn.load(path, max_seconds=100.0).name == "network 1"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("mmap", [False, True])
def test_what_is_no_regular_file_is_refused_and_nobody_waits(mmap: bool, tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe.ecnn", tmp_path / "folder.ecnn"
    os.mkfifo(pipe)
    folder.mkdir()
    with pytest.raises(ModelFileError, match=r"pipe\.ecnn: is a pipe; wanted an \.ecnn file"):
        edgecnn.load(pipe, mmap=mmap)
    with pytest.raises(ModelFileError, match=r"folder\.ecnn: is a folder; wanted an \.ecnn file"):
        edgecnn.load(folder, mmap=mmap)
    os.symlink(pipe, tmp_path / "link")
    with pytest.raises(ModelFileError, match="link: is a pipe"):
        edgecnn.load(tmp_path / "link", mmap=mmap)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(ModelFileError, match="socket"):
            edgecnn.load(tmp_path / "socket", mmap=mmap)
    with pytest.raises(ModelFileError, match="is a device"):
        edgecnn.load("/dev/null", mmap=mmap)


MEMORY = """
import sys
import numpy as np
import edgecnn

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

edgecnn.load(sys.argv[2], threads=1)
before = resident()
model = edgecnn.load(sys.argv[1], threads=1)
print(resident() - before, model.memory.weights)
"""


def test_weights_are_in_memory_once_where_packing_keeps_all_of_them(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists() or "EDGECNN_PYTHON" in os.environ:
        pytest.skip("only Linux tells how much memory a process has, and an emulator not that of its program")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer takes memory of its own")
    drawn = np.random.default_rng(0)
    constants = {f"w{i}": drawn.standard_normal((1, 1, 1000, 1000), np.float32) for i in range(4)}
    names = ["x", *"abc", "y"]
    graph = Graph(
        "wide",
        (Port("x", "x"),),
        (Port("y", "y"),),
        tuple(Node("conv", f"n{i}", (names[i], f"w{i}", "", ""), (names[i + 1],), CONV) for i in range(4)),
        {name: Tensor(name, (None, 3, 3, 1000)) for name in names},
        {name: Constant(name, array) for name, array in constants.items()},
    )
    write(graph, tmp_path / "wide.ecnn")
    write(convolution(), tmp_path / "small.ecnn")
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "wide.ecnn"), str(tmp_path / "small.ecnn")],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    taken, packed = map(int, run.stdout.split())
    assert packed >= 4 * 4 * 10**6
    assert taken < 1.3 * packed, run.stderr
