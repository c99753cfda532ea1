"""Answers for files; what the model answers is worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.errors import InputError
from edgecnn.runtime.model import load
from edgecnn.tools.images import Preprocessing
from edgecnn.tools.run import answer_file
from small_models import dense_pair, mean_classifier

LABELS = ["red", "green", "blue"]


def save_color(path: Path) -> None:
    Image.new("RGB", (9, 7), (10, 200, 90)).save(path)


def test_the_classes_of_the_highest_values_come_first_with_their_names(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png")
    answers = answer_file(load(mean_classifier(metadata={"labels": LABELS})), tmp_path / "a.png", top=2)
    (scores,) = answers.top["means"]
    assert [(score.index, score.label, score.score) for score in scores] == [(1, "green", 200.0), (2, "blue", 90.0)]
    assert str(answers) == "  1 green  200.000000\n  2 blue   90.000000"


def test_labels_of_another_number_are_not_used(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png")
    answers = answer_file(load(mean_classifier(metadata={"labels": ["only one"]})), tmp_path / "a.png")
    assert [score.label for score in answers.top["means"][0]] == [None, None, None]


def test_the_metadata_s_preprocessing_is_used_for_pictures(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png")
    model = load(mean_classifier(metadata={"preprocessing": {"scale": 2, "offset": 1}}))
    assert answer_file(model, tmp_path / "a.png").outputs["means"].tolist() == [[21.0, 401.0, 181.0]]


def test_preprocessing_given_wins_over_the_metadata(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png")
    model = load(mean_classifier(metadata={"preprocessing": {"scale": 2}}))
    found = answer_file(model, tmp_path / "a.png", Preprocessing(offset=1.0))
    assert found.outputs["means"].tolist() == [[11.0, 201.0, 91.0]]


def test_arrays_are_left_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 4, 4, 3), 3.0))
    model = load(mean_classifier(metadata={"preprocessing": {"scale": 2}}))
    assert answer_file(model, tmp_path / "x.npy").outputs["means"].tolist() == [[3.0] * 3] * 2


def test_preprocessing_that_is_asked_for_is_done_to_arrays_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 4, 4, 3), 3.0))
    found = answer_file(load(mean_classifier()), tmp_path / "x.npy", Preprocessing(scale=2.0))
    assert found.outputs["means"].tolist() == [[6.0] * 3] * 2


def test_an_array_without_the_batch_axis_is_one_image(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 4, 3)))
    assert answer_file(load(mean_classifier()), tmp_path / "x.npy").outputs["means"].shape == (1, 3)


def test_an_array_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4)))
    with pytest.raises(InputError, match="looks like NCHW"):
        answer_file(load(mean_classifier()), tmp_path / "x.npy")


def test_several_inputs_come_from_a_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", left=np.array([[1.0, 2, 3]]), right=np.array([[10.0, 20, 30]]))
    found = answer_file(load(dense_pair()), tmp_path / "x.npz")
    assert found.outputs["sum"].tolist() == [[11.0, 22.0, 33.0]]
    assert found.outputs["double"].tolist() == [[2.0, 4.0, 6.0]]
    assert str(found).splitlines()[0] == "sum: 1 x 3, min 11, max 33, mean 22"


def test_a_picture_for_several_inputs_is_refused(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\['left', 'right'\]; give a \.npz file"):
        answer_file(load(dense_pair()), tmp_path / "a.png")


def test_equal_values_are_ordered_by_index_and_nan_comes_last(tmp_path: Path) -> None:
    image = np.ones((1, 4, 4, 3))
    image[..., 0] = np.nan
    np.save(tmp_path / "x.npy", image)
    (scores,) = answer_file(load(mean_classifier()), tmp_path / "x.npy").top["means"]
    assert [score.index for score in scores] == [1, 2, 0]


def test_many_images_are_not_all_printed(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((12, 4, 4, 3)))
    answers = answer_file(load(mean_classifier()), tmp_path / "x.npy", top=1)
    assert str(answers).splitlines()[-1] == "... and 2 more images (--json has all)"
    assert len(answers.to_json()["outputs"]["means"]["top"]) == 12


def test_no_images_give_no_answers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((0, 4, 4, 3)))
    answers = answer_file(load(mean_classifier()), tmp_path / "x.npy")
    assert answers.outputs["means"].shape == (0, 3)
    assert answers.to_json()["outputs"] == {"means": {"shape": [0, 3], "top": []}}
