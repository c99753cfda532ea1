"""A model over columns: batches of named arrays in, the same with answers out. What all integrations have in common."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from edgecnn.errors import DataFileError, InputError, ModelFileError
from edgecnn.runtime.model import Model, TensorSpec, load
from edgecnn.tools.images import MODES, decode_image, preprocessing_of

Array = np.ndarray[Any, Any]

ERROR = "error"
"""The column that says what is wrong with a picture, where damaged ones are marked."""


class ColumnOptions(TypedDict, total=False):
    """Which columns a model reads and writes.

    Attributes:
        inputs: the column of a model with one input; for several a list in the model's order, or a dict from input to
            column. Default: columns called as the model's inputs.
        outputs: the column of the answers, in the same forms; a dict names only the outputs that are wanted. Default:
            columns called as the model's outputs.
        top: in place of each output of shape (N, classes) the classes with the highest values: columns "<output>_label"
            (the file's labels, or numbers) and "<output>_score", (N,) for 1 and (N, top) for more, best first.
        keep_inputs: whether the input columns are passed on, as all others are; default no.
        preprocess: apply the scale and offset that the file's metadata tell. Default: to pictures, that is to encoded
            ones and to uint8 arrays of images; other arrays are taken as they are.
        damaged: what becomes of an encoded picture that cannot be read: "raise" (default), or "mark": its answers are
            NaN (a label "" or -1), and a column "error" says why; it is "" for all others.
    """

    inputs: str | Sequence[str] | Mapping[str, str] | None
    outputs: str | Sequence[str] | Mapping[str, str] | None
    top: int | None
    keep_inputs: bool
    preprocess: bool | None
    damaged: str


def load_model(source: str | os.PathLike[str] | bytes, threads: int | None, device: str) -> Model:
    """`edgecnn.load`, whose error for a missing file tells what helps on a cluster.

    Raises:
        ModelFileError, DeviceError, InputError: as `edgecnn.load`.
    """
    if not isinstance(source, bytes) and not os.path.exists(source):
        raise ModelFileError(
            f"{source}: no such file on this machine ({platform.node()}); give the model's bytes instead of its "
            "path: they travel to every worker"
        )
    return load(source, threads=threads, device=device)


class ColumnModel:
    """A model over columns.

    Args:
        model: a loaded one.
        options: see ColumnOptions.

    Raises:
        InputError: the options do not fit the model.
    """

    def __init__(self, model: Model, options: ColumnOptions) -> None:
        unknown = sorted(options.keys() - ColumnOptions.__annotations__.keys())
        if unknown:
            raise InputError(f"no such options: {unknown}; there are {sorted(ColumnOptions.__annotations__)}")
        self.model = model
        self.inputs = _named("inputs", options.get("inputs"), model.inputs)
        if len(self.inputs) != len(model.inputs):
            raise InputError(f"inputs={options.get('inputs')!r}: wanted a column for each of {_names(model.inputs)}")
        self.outputs = _named("outputs", options.get("outputs"), model.outputs)
        self.top = options.get("top")
        if self.top is not None and (isinstance(self.top, bool) or not isinstance(self.top, int) or self.top < 1):
            raise InputError(f"top={self.top!r}: wanted a whole number of at least 1")
        self.keep_inputs = options.get("keep_inputs", False)
        self.preprocess = options.get("preprocess")
        self.damaged = options.get("damaged", "raise")
        if self.damaged not in ("raise", "mark"):
            raise InputError(f'damaged={self.damaged!r}: wanted "raise" or "mark"')
        self._preprocessing = preprocessing_of(model.metadata)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        """Answer a batch.

        Args:
            batch: by column N values: an array (N, ...), or an object array or list of N arrays, lists of numbers, or
                encoded pictures (bytes of a PNG or JPEG file), which are resized to the input's size.

        Returns:
            The other columns as they came, and those of the answers.

        Raises:
            InputError: a column is missing, would be written twice, or does not fit the model.
            DataFileError: a picture cannot be read, and `damaged` is "raise".
        """
        missing = [column for column in self.inputs.values() if column not in batch]
        if missing:
            raise InputError(
                f"no column {', '.join(map(repr, missing))}; there are {sorted(map(str, batch))}: name what the model's "
                f"inputs {_names(self.model.inputs)} are with inputs="
            )
        complaints: dict[int, str] = {}
        arrays = {spec.name: self._array(batch[self.inputs[spec.name]], spec, complaints) for spec in self.model.inputs}
        answers = self.model.run(arrays)
        result = {str(k): v for k, v in batch.items() if self.keep_inputs or k not in self.inputs.values()}
        for column, values in self._answer_columns(answers, complaints).items():
            if column in result:
                raise InputError(f"there is a column {column!r} already; call the answers otherwise with outputs=")
            result[column] = values
        return result

    def _answer_columns(self, answers: Mapping[str, Array], complaints: Mapping[int, str]) -> dict[str, Array]:
        columns: dict[str, Array] = {}
        bad = list(complaints)
        for name, column in self.outputs.items():
            values = answers[name]
            values[bad] = np.nan
            if self.top is None or values.ndim != 2:
                columns[column] = values
                continue
            order = np.argsort(-values, axis=1, kind="stable")[:, : self.top]  # NaN last
            columns[f"{column}_label"] = self._labels(order, values.shape[1], bad)
            scores = np.take_along_axis(values, order, 1)
            columns[f"{column}_score"] = scores[:, 0] if self.top == 1 else scores
        if self.damaged == "mark":
            images = len(next(iter(answers.values())))
            # "" and not None: a column of None alone would have another type than those of other batches.
            columns[ERROR] = np.array([complaints.get(i, "") for i in range(images)], dtype=object)
        return columns

    def _labels(self, order: Array, classes: int, bad: Sequence[int]) -> Array:
        """Names (objects: strings, or lists of them) or numbers for classes (N, top)."""
        labels = self.model.labels
        if labels is None or len(labels) != classes:
            order = order.astype(np.int64)
            order[bad] = -1
            return order[:, 0] if self.top == 1 else order
        marked = set(bad)
        rows = [["" if i in marked else labels[k] for k in row] for i, row in enumerate(order.tolist())]
        column = np.empty(len(rows), object)
        column[:] = [row[0] for row in rows] if self.top == 1 else rows
        return column

    def _array(self, values: Any, spec: TensorSpec, complaints: dict[int, str]) -> Array:
        """A column as the model takes it; adds to `complaints` the rows whose pictures cannot be read."""
        encoded = False
        if len(values) == 0:  # of whatever type: engines try functions on nothing, to learn what they give
            array = _stacked([], spec)
        elif not isinstance(values, np.ndarray) or values.dtype == object:
            cells = list(values)
            encoded = isinstance(cells[0], bytes | bytearray | memoryview)
            array = self._decoded(cells, spec, complaints) if encoded else _stacked(cells, spec)
        else:
            array = values
        sizes = [size for size in spec.shape[1:] if size is not None]
        if array.ndim == 2 < len(spec.shape) == 1 + len(sizes) and array.shape[1] == math.prod(sizes):
            array = array.reshape(len(array), *sizes)  # an image as one list of numbers
        if array.ndim == 3 and len(spec.shape) == 4 and spec.shape[3] == 1:
            array = array[..., None]  # gray pictures come without an axis for their channel
        pictures = encoded or (array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in MODES)
        if pictures if self.preprocess is None else self.preprocess:
            array = self._preprocessing.apply(array)
        return array

    def _decoded(self, cells: Sequence[Any], spec: TensorSpec, complaints: dict[int, str]) -> Array:
        images: list[Array | None] = []
        for row, cell in enumerate(cells):
            try:
                images.append(decode_image(bytes(cell), spec.shape, f"the picture in row {row}")[0])
            except DataFileError as error:
                if self.damaged == "raise":
                    raise
                complaints[row] = str(error).partition(": ")[2]
                images.append(None)
        found = [image for image in images if image is not None]
        size = found[0].shape if found else tuple(size or 1 for size in spec.shape[1:])
        return _stacked([np.zeros(size, np.uint8) if image is None else image for image in images], spec)


def _names(specs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _named(option: str, given: Any, specs: Sequence[TensorSpec]) -> dict[str, str]:
    """The column for each of the model's inputs or outputs."""
    names = _names(specs)
    if given is None:
        return {name: name for name in names}
    if isinstance(given, Mapping):
        unknown = sorted(set(map(str, given)) - set(names))
        if unknown or not given:
            raise InputError(f"{option}={dict(given)!r}: wanted columns by the names {names}")
        columns = {name: str(given[name]) for name in names if name in given}
    else:
        listed = [given] if isinstance(given, str) else list(given)
        if len(listed) != len(names):
            raise InputError(f"{option}={given!r}: wanted a column for each of {names}")
        columns = dict(zip(names, map(str, listed), strict=True))
    if len(set(columns.values())) != len(columns):
        raise InputError(f"{option}={given!r}: a column is named twice")
    return columns


def _stacked(cells: Sequence[Any], spec: TensorSpec) -> Array:
    """Images one by one as one array; none: an array of no images."""
    if not cells:
        return np.zeros((0, *(size or 1 for size in spec.shape[1:])), np.float32)
    try:
        arrays = [cell if isinstance(cell, np.ndarray) and cell.dtype != object else _nested(cell) for cell in cells]
    except (ValueError, TypeError) as error:
        raise InputError(f"input {spec.name!r}: a value cannot be made an array: {error}") from error
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise InputError(
            f"input {spec.name!r}: images of different sizes in one batch ({shapes[0]}, {shapes[1]}); bring them to one "
            "size before, or give encoded pictures, which are resized"
        )
    return np.stack(arrays)


def _nested(cell: Any) -> Array:
    """Lists of lists, or arrays of arrays as Arrow gives them."""
    if isinstance(cell, np.ndarray) and cell.dtype == object:
        return np.stack([_nested(part) for part in cell])
    return np.asarray(cell)
