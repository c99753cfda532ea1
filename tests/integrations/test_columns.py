"""A model over columns: which it reads and writes, in which forms images come, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgecnn
from edgecnn.errors import DataFileError, InputError
from edgecnn.integrations.columns import ColumnModel
from small_models import dense_pair, mean_classifier

RGB = {"labels": ["red", "green", "blue"], "preprocessing": {"scale": 1 / 255}}


def means(metadata: dict[str, Any] | None = None, size: int | None = 4, **options: Any) -> ColumnModel:
    """The mean of each channel, of columns "image"."""
    return ColumnModel(edgecnn.load(mean_classifier(metadata=metadata, size=size)), options)


def colours(*values: tuple[int, int, int], size: int = 4) -> np.ndarray:
    """uint8 pictures of one colour each."""
    return np.stack([np.full((size, size, 3), value, np.uint8) for value in values])


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def objects(*values: Any) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = list(values)
    return column


def test_other_columns_pass_and_the_images_go() -> None:
    batch = {"id": np.array([7, 8]), "image": colours((1, 2, 3), (4, 5, 6)), "name": objects("a", "b")}
    answers = means()(batch)
    assert list(answers) == ["id", "name", "means"]
    assert answers["id"] is batch["id"]
    assert answers["means"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(means(keep_inputs=True)(batch)) == ["id", "image", "name", "means"]


def test_columns_may_have_any_names() -> None:
    answers = means(inputs="photo", outputs="colour")({"photo": colours((1, 2, 3))})
    assert list(answers) == ["colour"]


def test_several_inputs_and_outputs() -> None:
    model = edgecnn.load(dense_pair())
    batch = {"a": np.ones((2, 3), np.float32), "b": np.full((2, 3), 5.0)}
    answers = ColumnModel(model, {"inputs": ["a", "b"], "outputs": ["s", "d"]})(batch)
    assert {name: values[0].tolist() for name, values in answers.items()} == {"s": [6, 6, 6], "d": [2, 2, 2]}
    answers = ColumnModel(model, {"inputs": {"right": "a", "left": "b"}, "outputs": {"double": "d"}})(batch)
    assert {name: values[0].tolist() for name, values in answers.items()} == {"d": [10, 10, 10]}


def test_pictures_are_scaled_as_the_file_says_and_other_arrays_are_not() -> None:
    pixels = colours((255, 51, 0))
    assert np.allclose(means(RGB)({"image": pixels})["means"], [[1, 0.2, 0]])
    assert np.allclose(means(RGB)({"image": pixels.astype(np.float32)})["means"], [[255, 51, 0]])
    assert np.allclose(means(RGB, preprocess=True)({"image": pixels.astype(np.float32)})["means"], [[1, 0.2, 0]])
    assert np.allclose(means(RGB, preprocess=False)({"image": pixels})["means"], [[255, 51, 0]])


def test_encoded_pictures_are_read_and_resized() -> None:
    files = [encoded(colours((255, 51, 0), size=size)[0]) for size in (4, 9)]
    answers = means(RGB)({"image": objects(*files)})
    assert np.allclose(answers["means"], [[1, 0.2, 0]] * 2)


@pytest.mark.parametrize("top", [1, 2])
def test_the_best_classes_by_name(top: int) -> None:
    answers = means(RGB, top=top)({"image": colours((0, 255, 51), (255, 0, 102))})
    labels, scores = answers["means_label"].tolist(), answers["means_score"]
    assert labels == (["green", "red"] if top == 1 else [["green", "blue"], ["red", "blue"]])
    assert np.allclose(scores, [1, 1] if top == 1 else [[1, 0.2], [1, 0.4]])
    assert "means" not in answers


def test_the_best_classes_by_number_where_the_file_has_no_names() -> None:
    answers = means(top=2)({"image": colours((0, 255, 51))})
    assert answers["means_label"].tolist() == [[1, 2]]
    assert means(top=1)({"image": colours((0, 255, 51))})["means_label"].tolist() == [1]


@pytest.mark.parametrize("metadata", [None, RGB])
def test_a_damaged_picture_is_marked_and_the_others_are_answered(metadata: dict[str, Any] | None) -> None:
    good = encoded(colours((255, 255, 255))[0])
    batch = {"image": objects(good, b"no picture", good[:30])}
    answers = means(metadata, damaged="mark")(batch)
    assert np.isnan(answers["means"]).all(axis=1).tolist() == [False, True, True]
    assert [bool(text) for text in answers["error"]] == [False, True, True]
    assert "no picture that Pillow knows" in answers["error"][1]
    best = means(metadata, damaged="mark", top=1)(batch)
    assert best["means_label"].tolist() == (["red", "", ""] if metadata else [0, -1, -1])
    assert np.isnan(best["means_score"]).tolist() == [False, True, True]
    with pytest.raises(DataFileError, match="the picture in row 1"):
        means(metadata)(batch)


def test_a_batch_of_damaged_pictures_alone() -> None:
    for size in (4, None):
        answers = means(size=size, damaged="mark")({"image": objects(b"", b"?")})
        assert answers["means"].shape == (2, 3)
        assert np.isnan(answers["means"]).all()


def test_no_error_is_an_empty_text() -> None:
    assert means(damaged="mark")({"image": colours((1, 2, 3))})["error"].tolist() == [""]


def test_lists_of_numbers_are_images() -> None:
    image = colours((1, 2, 3))[0]
    for cell in (image.tolist(), image.ravel().tolist(), objects(*[objects(*row) for row in image])):
        assert means()({"image": objects(cell)})["means"].tolist() == [[1, 2, 3]]


def test_gray_pictures_need_no_axis_for_their_channel() -> None:
    graph = mean_classifier()
    tensors = {
        "image": edgecnn.graph.Tensor("image", (None, 4, 4, 1)),
        "pooled": edgecnn.graph.Tensor("pooled", (None, 1)),
    }
    model = ColumnModel(
        edgecnn.load(edgecnn.graph.Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, tensors)), {}
    )
    assert model({"image": np.full((2, 4, 4), 9, np.uint8)})["means"].tolist() == [[9], [9]]


def test_no_images() -> None:
    for column in (objects(), colours((1, 2, 3))[:0]):
        answers = means(RGB, top=1, damaged="mark")({"image": column, "id": np.arange(0)})
        assert {name: len(values) for name, values in answers.items()} == dict.fromkeys(
            ("id", "means_label", "means_score", "error"), 0
        )


def test_a_missing_column_is_told_with_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"no column 'image'; there are \['id', 'photo'\].*inputs="):
        means()({"photo": colours((1, 2, 3)), "id": np.arange(1)})


def test_no_column_is_written_over() -> None:
    with pytest.raises(InputError, match="there is a column 'means' already"):
        means()({"image": colours((1, 2, 3)), "means": np.arange(1)})


def test_images_of_different_sizes_in_one_batch() -> None:
    batch = {"image": objects(colours((1, 2, 3), size=4)[0], colours((1, 2, 3), size=5)[0])}
    with pytest.raises(InputError, match=r"different sizes in one batch \(\(4, 4, 3\), \(5, 5, 3\)\)"):
        means(size=None)(batch)


def test_what_is_no_array() -> None:
    with pytest.raises(InputError, match="'image'"):
        means()({"image": objects([[1, 2], [3]])})
    with pytest.raises(InputError, match="'image'"):
        means()({"image": objects("text")})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": ["a", "b"]}, "wanted a column for each of"),
        ({"inputs": {"photo": "a"}}, "wanted columns by the names"),
        ({"outputs": {}}, "wanted columns by the names"),
        ({"top": 0}, "at least 1"),
        ({"top": True}, "at least 1"),
        ({"damaged": "skip"}, '"raise" or "mark"'),
        ({"column": "image"}, "no such options"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        means(**options)


def test_one_column_is_not_two_inputs() -> None:
    with pytest.raises(InputError, match="a column is named twice"):
        ColumnModel(edgecnn.load(dense_pair()), {"inputs": ["a", "a"]})
    with pytest.raises(InputError, match="wanted a column for each of"):
        ColumnModel(edgecnn.load(dense_pair()), {"inputs": {"left": "a"}})
