"""Array files, read and written."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import DataFileError, InputError
from edgecnn.tools.arrays import check_output, read_arrays, write_arrays


def test_a_npy_file_is_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    assert read_arrays(tmp_path / "x.npy", ["image"])["image"].tolist() == [0, 1, 2]


def test_a_npy_file_for_two_inputs_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    with pytest.raises(InputError, match=r"2 inputs: give a \.npz with \['a', 'b'\]"):
        read_arrays(tmp_path / "x.npy", ["a", "b"])


def test_npz_arrays_are_taken_by_name_and_others_left(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.ones(1), labels=np.ones(5))
    assert list(read_arrays(tmp_path / "x.npz", ["b", "a"])) == ["b", "a"]


def test_the_only_array_of_a_npz_is_the_only_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", whatever=np.ones(1))
    assert read_arrays(tmp_path / "x.npz", ["image"])["image"].tolist() == [1.0]


def test_a_npz_with_other_names_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", c=np.ones(1), d=np.ones(1))
    with pytest.raises(InputError, match=r"holds arrays \['c', 'd'\]; wanted \['a', 'b'\]"):
        read_arrays(tmp_path / "x.npz", ["a", "b"])


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataFileError, match="pickled data is refused"):
        read_arrays(tmp_path / "x.npy", ["image"])


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataFileError, match="pickled data is refused"):
        read_arrays(tmp_path / "x.npy", ["image"])


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataFileError, match=rf"{name}: no such file"):
        read_arrays(tmp_path / name, ["image"])


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path, name: str) -> None:
    target = io.BytesIO()
    if name == "x.npy":
        np.save(target, np.arange(6.0))
    else:
        np.savez(target, x=np.arange(6.0))
    whole = target.getvalue()
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataFileError):
            read_arrays(tmp_path / name, ["x"])


def test_a_damaged_member_of_a_npz_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.random.default_rng(0).random(1000))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataFileError, match="cannot be read"):
        read_arrays(tmp_path / "x.npz", ["x"])


def test_written_arrays_come_back_whatever_their_names(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3.0), "probs": np.ones((2, 2))}
    write_arrays(tmp_path / "y.npz", arrays)
    with np.load(tmp_path / "y.npz") as loaded:
        assert {name: loaded[name].tolist() for name in loaded.files} == {k: v.tolist() for k, v in arrays.items()}


def test_one_array_is_written_as_npy(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npy", {"y": np.arange(3)})
    assert np.load(tmp_path / "y.npy").tolist() == [0, 1, 2]


def test_an_existing_file_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    target.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        write_arrays(target, {"y": np.arange(3)})
    assert target.read_bytes() == b"precious"
    write_arrays(target, {"y": np.arange(3)}, overwrite=True)
    assert np.load(target).tolist() == [0, 1, 2]


def test_a_failure_while_writing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "y.npz"
    target.write_bytes(b"precious")

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DataFileError, match="No space left on device"):
        write_arrays(target, {"y": np.arange(3)}, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["y.npz"]


@pytest.mark.parametrize(
    ("name", "outputs", "message"), [("y.txt", 1, r"given \.txt"), ("y", 1, "no suffix"), ("y.npy", 2, "2 outputs")]
)
def test_a_target_that_cannot_hold_the_answers_is_refused_before_the_work(
    tmp_path: Path, name: str, outputs: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / name, outputs, overwrite=False)


def test_a_written_npz_is_a_plain_archive(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npz", {"y": np.arange(3)})
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["y.npy"]
