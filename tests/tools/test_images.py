"""Pictures as a model takes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn.errors import DataFileError, InputError, MissingPackageError
from edgecnn.tools.images import Preprocessing, preprocessing_of, read_image


def save_picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    channels = len(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    picture = Image.fromarray(pixels if channels > 1 else pixels[..., 0])
    picture.save(path)
    return picture


def test_a_picture_of_the_right_size_comes_as_it_is(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", (None, 4, 6, 3))
    assert found.shape == (1, 4, 6, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found[0], np.asarray(picture))


def test_a_picture_is_resized_as_keras_does(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "a.png", size=(60, 40))
    expected = np.asarray(picture.resize((8, 5), Image.Resampling.BILINEAR))
    assert np.array_equal(read_image(tmp_path / "a.png", (None, 5, 8, 3))[0], expected)


def test_one_channel_makes_a_picture_gray(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", (None, 4, 6, 1))
    assert np.array_equal(found[0, :, :, 0], np.asarray(picture.convert("L")))


def test_four_channels_keep_transparency(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "a.png", "RGBA")
    assert np.array_equal(read_image(tmp_path / "a.png", (None, 4, 6, 4))[0], np.asarray(picture))


def test_a_size_that_the_model_leaves_open_is_the_picture_s(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (None, None, None, 3)).shape == (1, 4, 6, 3)


@pytest.mark.parametrize("shape", [(None, 10), (None, 4, 6, 2), (None, 3, 4, 6, 3)])
def test_an_input_that_is_none_for_pictures_is_told(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    save_picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="takes no picture"):
        read_image(tmp_path / "a.png", shape)


def test_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"a\.png: no such file"):
        read_image(tmp_path / "a.png", (None, 4, 6, 3))


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataFileError, match="no picture that Pillow knows"):
        read_image(tmp_path / "a.png", (None, 4, 6, 3))


def test_a_picture_cut_short(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", size=(60, 40))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataFileError, match="damaged"):
        read_image(tmp_path / "a.png", (None, 4, 6, 3))


def test_a_picture_that_would_exhaust_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_picture(tmp_path / "a.png", size=(60, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(DataFileError, match="refused"):
        read_image(tmp_path / "a.png", (None, 4, 6, 3))


def test_a_picture_of_16_bits_is_refused_rather_than_cut_to_8(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="more than 8 bits"):
        read_image(tmp_path / "a.png", (None, 4, 6, 1))


def test_without_pillow_the_line_that_installs_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match=r'pip install "edgecnn\[image\]"'):
        read_image(tmp_path / "a.png", (None, 4, 6, 3))


def test_values_stay_from_0_to_255_where_nothing_is_said() -> None:
    pixels = np.array([[0, 255, 7]], np.uint8)
    found = preprocessing_of({}).apply(pixels)
    assert found.dtype == np.float32
    assert found.tolist() == [[0.0, 255.0, 7.0]]


def test_scale_and_offset_of_the_metadata() -> None:
    found = preprocessing_of({"preprocessing": {"scale": 0.5, "offset": -1}}).apply(np.array([[4, 8]], np.uint8))
    assert found.tolist() == [[1.0, 3.0]]


def test_scale_for_each_channel() -> None:
    found = preprocessing_of({"preprocessing": {"scale": [1, 10]}}).apply(np.array([[4, 8]], np.uint8))
    assert found.tolist() == [[4.0, 80.0]]


def test_scale_for_another_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match="scale has 2 entries; the array has 3 channels"):
        Preprocessing(scale=(1.0, 2.0)).apply(np.zeros((1, 3)))


@pytest.mark.parametrize(
    "given", [5, "torch", [], {"mean": 1}, {"scale": "1/255"}, {"scale": None}, {"scale": True}, {"offset": []}]
)
def test_preprocessing_that_is_not_understood_is_never_guessed(given: Any) -> None:
    with pytest.raises(InputError, match="override it with --scale and --offset"):
        preprocessing_of({"preprocessing": given})
