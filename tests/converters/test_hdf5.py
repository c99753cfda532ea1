"""The reader of HDF5: the values that h5py gives, and an error for every file that would loop, grow or lead elsewhere."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import edgecnn
from edgecnn.converters.sources import hdf5

pytestmark = pytest.mark.filterwarnings("ignore")

VERSIONS = ("earliest", "v108", "v110", "v112")  # what "latest" is follows the library
TYPES = ("<f2", "<f4", "<f8", "|i1", "|u1", "<i2", "<u4", "<i8", "<u8", ">f4", ">f8", ">i2")
CHUNKED: dict[str, dict[str, Any]] = {
    "parts": {"chunks": (10, 10, 5)},
    "compressed": {"chunks": (10, 10, 5), "compression": "gzip"},
    "filtered": {"chunks": (10, 7, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "one part": {"chunks": (37, 41, 5), "compression": "gzip"},
    "shuffled": {"chunks": True, "shuffle": True},
}


def values_of(file: Path, path: str) -> np.ndarray:
    with hdf5.open_file(str(file), "file") as root:
        return hdf5.array(hdf5.child(root, path, "file"), path)


def texts_of(file: Path, path: str, attribute: str) -> list[str] | None:
    with hdf5.open_file(str(file), "file") as root:
        group = hdf5.child(root, path, "file")
        assert group is not None
        return hdf5.strings(group, attribute, "file")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_every_type_are_those_of_h5py(tmp_path: Path, version: str, kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(kind)
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["group/values"] = values
        file["scalar"] = values[0, 0, 0]
    np.testing.assert_array_equal(values_of(tmp_path / "a.h5", "group/values"), values.astype(np.float32))
    np.testing.assert_array_equal(values_of(tmp_path / "a.h5", "scalar"), values[0, 0, 0].astype(np.float32))


def test_two_bytes_without_a_type_are_keras_bfloat16(tmp_path: Path) -> None:
    upper = np.array([0x3F80, 0xC040, 0x7F80], np.uint16)  # 1, -3 and infinity
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["values"] = upper.view("V2")
    assert values_of(tmp_path / "a.h5", "values").tolist() == [1.0, -3.0, np.inf]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", CHUNKED)
def test_arrays_in_parts_are_those_of_h5py(tmp_path: Path, version: str, how: str) -> None:
    values = np.random.default_rng(0).normal(size=(37, 41, 5)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file.create_dataset("values", data=values, **CHUNKED[how])
    np.testing.assert_array_equal(values_of(tmp_path / "a.h5", "values"), values)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("track_order", [False, True])
def test_names_and_texts_are_found_wherever_the_format_puts_them(
    tmp_path: Path, version: str, track_order: bool
) -> None:
    """Many links and attributes, and large ones, lie in heaps and trees of their own."""
    texts: dict[str, Any] = {"long": "x" * 300_000, "bytes": b"2.3.1", "list": ["a", "b\xe9", "c" * 500], "none": []}
    if version != "earliest":
        texts["large"] = np.array([b"y" * 1000] * 200)
    with h5py.File(tmp_path / "a.h5", "w", libver=version, track_order=track_order) as file:
        group = file.create_group("many", track_order=track_order)
        for name, text in texts.items():
            group.attrs[name] = text
        for index in range(40):
            group.attrs[f"attribute {index}"] = f"text {index}"
        for index in range(700):
            group[f"array {index}"] = np.float32(index)
    for name in texts:
        with h5py.File(tmp_path / "a.h5") as file:
            given = file["many"].attrs[name]
        listed = [given] if isinstance(given, str | bytes) else list(given)
        expected = [text.decode() if isinstance(text, bytes) else text for text in listed]
        assert texts_of(tmp_path / "a.h5", "many", name) == expected
    assert texts_of(tmp_path / "a.h5", "many", "attribute 39") == ["text 39"]
    assert values_of(tmp_path / "a.h5", "many/array 699") == 699.0


# --- Files that hurt ---


def refused(file: Path, *words: str, convert: Any = None) -> str:
    with pytest.raises(edgecnn.ConversionError) as caught:
        edgecnn.convert(convert or file, file.parent / "out.ecnn")
    assert all(word in str(caught.value) for word in (str(file), *words)), str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small .h5 and .keras model."""
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("models")
    layers = [keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()]
    small = keras.Sequential([*layers, keras.layers.Dense(3, name="dense")], name="small")
    for suffix in (".h5", ".keras"):
        small.save(folder / f"model{suffix}")
    return folder


def test_a_heap_object_of_no_size_ends(model: Path, tmp_path: Path) -> None:
    """libhdf5 2.0 walks over such a heap for ever, without looking at signals."""
    data = bytearray((model / "model.h5").read_bytes())
    heap = data.index(b"GCOL")
    for number in (0, 1, 7):
        broken = bytearray(data)
        struct.pack_into("<HHIQ", broken, heap + 16, number, 1, 0, 0)
        (tmp_path / "a.h5").write_bytes(broken)
        refused(tmp_path / "a.h5")


def with_kernel(model: Path, target: Path, make: Callable[[Any], None]) -> Path:
    target.write_bytes((model / "model.h5").read_bytes())
    with h5py.File(target, "r+") as file:
        group = file["model_weights/conv/small/conv"]
        del group["kernel"]
        make(group)
    return target


def test_compressed_arrays_do_not_grow_beyond_reason(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"

    def bomb(group: Any) -> None:
        shape = (2**14, 2**14)
        data = group.create_dataset(
            "kernel", shape, "f4", chunks=(2**11, 2**14), compression="gzip", compression_opts=9
        )
        data[: 2**11] = 0  # 128 MiB in 128 KiB, the rest is not there

    refused(with_kernel(model, path, bomb), "claims")

    def all_there(group: Any) -> None:
        shape = (2**12, 2**14)
        group.create_dataset("kernel", data=np.zeros(shape, "f4"), chunks=(2**9, 2**14), compression="gzip")

    refused(with_kernel(model, path, all_there), "safety")


def test_arrays_do_not_share_bytes(model: Path, tmp_path: Path) -> None:
    """Many arrays in the same place would make a small file large in memory."""
    path = tmp_path / "a.h5"
    data = bytearray((model / "model.h5").read_bytes())
    with h5py.File(model / "model.h5") as file:
        places = [file[f"model_weights/conv/small/conv/{name}"].id.get_offset() for name in ("kernel", "bias")]
    kernel, bias = (struct.pack("<Q", place) for place in places)
    data[:] = data.replace(bias, kernel)
    path.write_bytes(data)
    refused(path, "another array")


@pytest.mark.parametrize("version", VERSIONS)
def test_groups_in_themselves_are_refused(model: Path, tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(model / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "model.weights.h5":
                inner = tmp_path / "weights.h5"
                inner.write_bytes(data)
                with h5py.File(inner, "r+", libver=(version, "latest")) as file:
                    file["layers/conv2d/around"] = file["layers"]
                data = inner.read_bytes()
            target.writestr(name, data)
    refused(path, "in itself")


def test_filters_and_indices_that_are_not_read_are_named(model: Path, tmp_path: Path) -> None:
    path, values = tmp_path / "a.h5", np.zeros((3, 3, 3, 4), "f4")
    lzf = with_kernel(model, path, lambda group: group.create_dataset("kernel", data=values, compression="lzf"))
    refused(lzf, "lzf")
    boolean = with_kernel(model, path, lambda group: group.create_dataset("kernel", data=values > 0))
    refused(boolean, "wanted numbers")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("compressed", [False, True])
def test_changed_words_give_errors_only(model: Path, tmp_path: Path, suffix: str, compressed: bool) -> None:
    """Words of the structure set to numbers that matter: sizes, addresses of other parts, and all bits."""
    source = model / f"model{suffix}"
    if compressed:
        if suffix != ".h5":
            pytest.skip("Keras stores .keras uncompressed")
        values = np.zeros((3, 3, 3, 4), "f4")
        options = {"chunks": (3, 3, 3, 2), "compression": "gzip", "shuffle": True}
        source = with_kernel(model, tmp_path / "b.h5", lambda g: g.create_dataset("kernel", data=values, **options))
    whole, rng = source.read_bytes(), np.random.default_rng(0)
    marks = [at for name in (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"PK") for at in positions(whole, name)]
    numbers = [0, 1, 2, 8, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1, *marks]
    path = tmp_path / f"a{suffix}"
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            size = int(rng.choice([1, 2, 4, 8]))
            near = int(rng.choice(marks)) + int(rng.integers(0, 400))
            at = min(near if rng.random() < 0.7 else int(rng.integers(0, len(data))), len(data) - 8) // size * size
            number = numbers[int(rng.integers(len(numbers)))] % (1 << 8 * size)
            data[at : at + size] = number.to_bytes(size, "little")
        path.write_bytes(data)
        try:
            edgecnn.convert(path, tmp_path / "out.ecnn", overwrite=True)
        except edgecnn.ConversionError:
            continue


def positions(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


# --- What is no file ---


@pytest.mark.parametrize("name", ["a.h5", "a.keras", "a.onnx", "a.tflite"])
def test_pipes_sockets_devices_and_folders_are_named_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    refused(path, "a pipe")
    path.unlink()
    path.mkdir()
    refused(path, "a folder")
    path.rmdir()
    path.symlink_to("/dev/zero")
    refused(path, "a device")
    path.unlink()
    os.mkfifo(tmp_path / "pipe")
    path.symlink_to(tmp_path / "pipe")
    refused(path, "a pipe")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # names of sockets are short
        try:
            server.bind(name)
        finally:
            os.chdir(here)
        refused(path, "a socket")


def test_a_configuration_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((4, 4, 3)), keras.layers.Conv2D(2, 3)])
    model.save_weights(tmp_path / "a.weights.h5")
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(edgecnn.ConversionError, match="a pipe"):
        edgecnn.convert(tmp_path / "a.weights.h5", tmp_path / "out.ecnn", config=tmp_path / "a.json")
