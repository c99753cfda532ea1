"""Frames of pandas, as Spark's mapInPandas and Dask's map_partitions hand them over. Dask itself runs where it is installed;
Spark, which needs Java, does not run here: its function is held to what Spark promises to call it with."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

pandas = pytest.importorskip("pandas", reason="pandas is not installed")

from PIL import Image  # noqa: E402

from edgecnn.errors import InputError, ModelFileError  # noqa: E402
from edgecnn.integrations.frames import FramePredictor  # noqa: E402
from small_models import mean_classifier, save  # noqa: E402

RGB = {"labels": ["red", "green", "blue"], "preprocessing": {"scale": 1 / 255}}


def picture(*colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 5), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(mean_classifier(metadata=RGB), tmp_path)


def test_a_frame_keeps_its_index_and_other_columns(model: Path) -> None:
    frame = pandas.DataFrame({"content": [picture(255, 0, 51), picture(0, 0, 255)], "path": ["a", "b"]}, index=[5, 3])
    answers = FramePredictor(model, inputs="content", top=2)(frame)
    assert answers.index.tolist() == [5, 3]
    assert answers["path"].tolist() == ["a", "b"]
    assert answers["means_label"].tolist() == [["red", "blue"], ["blue", "red"]]
    assert np.allclose(answers["means_score"].tolist(), [[1, 0.2], [1, 0]])
    assert list(answers.columns) == ["path", "means_label", "means_score"]


def test_an_image_may_be_one_list_of_numbers(model: Path) -> None:
    cells = [np.full((4, 4, 3), 51.0).ravel().tolist()]
    answers = FramePredictor(model, inputs="values", preprocess=True)(pandas.DataFrame({"values": cells}))
    assert np.allclose(answers["means"].tolist(), [[0.2, 0.2, 0.2]])


def test_frames_come_one_by_one_as_spark_hands_them_over(model: Path) -> None:
    frames = [pandas.DataFrame({"content": [picture(255, 0, 0)] * rows}) for rows in (2, 0, 1)]
    taken: list[int] = []

    def source():
        for number, frame in enumerate(frames):
            taken.append(number)
            yield frame

    answers = FramePredictor(model, inputs="content", top=1).over(source())
    assert next(answers)["means_label"].tolist() == ["red", "red"]
    assert taken == [0]  # no frame is asked for before its turn
    assert [len(frame) for frame in answers] == [0, 1]


def test_it_travels_without_its_file(model: Path) -> None:
    sent = pickle.dumps(FramePredictor(model, inputs="content", top=1))
    model.unlink()
    answers = pickle.loads(sent)(pandas.DataFrame({"content": [picture(0, 255, 0)]}))
    assert answers["means_label"].tolist() == ["green"]


def test_what_is_wrong_is_told_at_once(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such options"):
        FramePredictor(model, column="content")  # type: ignore[call-arg]
    with pytest.raises(ModelFileError, match="none"):
        FramePredictor(tmp_path / "none.ecnn")


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_dask_maps_it_over_partitions(model: Path) -> None:
    dataframe = pytest.importorskip("dask.dataframe", reason="Dask is not installed")
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 4
    frame = pandas.DataFrame({"id": range(12), "red": [c[0] for c in colours], "green": [c[1] for c in colours]})

    def drawn(part):
        cells = [picture(red, green, 255 - red - green) for red, green in zip(part["red"], part["green"], strict=True)]
        return part[["id"]].assign(content=cells)

    predict = FramePredictor(model, inputs="content", top=1)
    frames = dataframe.from_pandas(frame, npartitions=3).map_partitions(drawn, meta=drawn(frame.head(0)))
    answers = frames.map_partitions(predict, meta=predict(drawn(frame.head(0)))).compute(scheduler="threads")
    assert answers["id"].tolist() == list(range(12))
    assert answers["means_label"].tolist() == ["red", "green", "blue"] * 4
