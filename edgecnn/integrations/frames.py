"""Frames of pandas: what Spark's `mapInPandas` and Dask's `map_partitions` take. Neither is imported here, nor is pandas.

predict = FramePredictor("model.ecnn", inputs="content", top=1)

spark.read.format("binaryFile").load("photos").select("path", "content").mapInPandas(
    predict.over, "path string, probs_label string, probs_score float"
)
frames.map_partitions(predict, meta=predict(frames.head(0)))  # Dask
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any, Unpack

import numpy as np

from edgecnn.errors import ModelFileError
from edgecnn.files import open_regular
from edgecnn.integrations.columns import ColumnModel, ColumnOptions, load_model
from edgecnn.runtime.model import Model


@functools.lru_cache(maxsize=4)
def _loaded(content: bytes, threads: int | None, device: str) -> Model:
    """One model for all tasks of a process: each of them unpickles the predictor anew."""
    return load_model(content, threads, device)


class FramePredictor:
    """A model for data frames. It can be pickled, and carries the model's bytes: workers need no shared file.

    Args:
        model: path of an .ecnn file, read here; or its bytes.
        threads: 1 by default, since these engines run as many tasks at once as there are cores.
        device: "cpu", "gpu".
        options: inputs, outputs, top, keep_inputs, preprocess, damaged: see `columns.ColumnOptions`.

    Raises:
        ModelFileError, DeviceError, InputError: as `edgecnn.load`; the options do not fit the model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        threads: int | None = 1,
        device: str = "cpu",
        **options: Unpack[ColumnOptions],
    ) -> None:
        if not isinstance(model, bytes):
            load_model(model, threads, device)  # says what is wrong by the file's name
            with open_regular(model, ModelFileError, "an .ecnn file") as file:
                model = file.read()
        self._content, self._threads, self._device, self._options = model, threads, device, options
        self._columns()

    def _columns(self) -> ColumnModel:
        return ColumnModel(_loaded(self._content, self._threads, self._device), self._options)

    def __call__(self, frame: Any) -> Any:
        """Answer a frame.

        Args:
            frame: a pandas.DataFrame; a cell is a number, an array, lists of numbers (also one list of all of an image's
                values) or an encoded picture.

        Returns:
            A frame of the same index: the other columns as they came, and those of the answers; a cell with several values
            is a list of them.

        Raises:
            InputError, DataFileError: as `columns.ColumnModel`.
        """
        columns = self._columns()
        given = {str(name): frame[name].to_numpy() for name in frame.columns}
        answered = columns(given)
        new = {name: _cells(values) for name, values in answered.items() if name not in given}
        gone = [name for name in frame.columns if str(name) not in answered]
        return frame.drop(columns=gone).assign(**new)

    def over(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Answer frames one by one: what `mapInPandas` calls."""
        return map(self, frames)


def _cells(values: Any) -> Any:
    """A column of a frame, which has one axis: further ones become lists."""
    if values.ndim == 1:
        return values
    column = np.empty(len(values), object)
    column[:] = values.tolist()
    return column
