"""A model's answers for a file: a picture, .npy or .npz."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.runtime.model import Model
from edgecnn.tools.arrays import SUFFIXES, read_arrays
from edgecnn.tools.images import Preprocessing, preprocessing_of, read_image
from edgecnn.tools.text import printable, shape_text

Array = np.ndarray[Any, Any]

MOST_IMAGES_SHOWN = 10


@dataclass(frozen=True)
class Score:
    """A class with its value. `label` is None where the file names none."""

    index: int
    label: str | None
    score: float


@dataclass(frozen=True)
class Answers:
    """What a model said.

    Attributes:
        outputs: by name, (N, ...).
        top: by name of each output of shape (N, classes): for each image the classes of the highest values, best first.
        milliseconds: the computation's time.
    """

    outputs: Mapping[str, Array]
    top: Mapping[str, tuple[tuple[Score, ...], ...]]
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold; the arrays themselves only as shapes and extremes."""
        return {
            "milliseconds": self.milliseconds,
            "outputs": {
                name: {
                    "shape": list(array.shape),
                    **_extremes(array),
                    **({"top": [[vars(s) for s in image] for image in self.top[name]]} if name in self.top else {}),
                }
                for name, array in self.outputs.items()
            },
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for name, array in self.outputs.items():
            if len(self.outputs) > 1 or name not in self.top:
                extremes = ", ".join(f"{key} {value:.6g}" for key, value in _extremes(array).items())
                lines.append(f"{printable(name)}: {shape_text(array.shape)}{', ' if extremes else ''}{extremes}")
            images = self.top.get(name, ())
            for number, scores in enumerate(images[:MOST_IMAGES_SHOWN]):
                if len(images) > 1:
                    lines.append(f"image {number}")
                width = max((len(_name(score)) for score in scores), default=0)
                lines += [f"  {_name(score):<{width}}  {score.score:.6f}" for score in scores]
            if len(images) > MOST_IMAGES_SHOWN:
                lines.append(f"... and {len(images) - MOST_IMAGES_SHOWN} more images (--json has all)")
        return "\n".join(lines)


def _name(score: Score) -> str:
    return str(score.index) if score.label is None else f"{score.index} {printable(score.label)}"


def _extremes(array: Array) -> dict[str, float]:
    if array.size == 0:
        return {}
    return {"min": float(array.min()), "max": float(array.max()), "mean": float(array.mean(dtype=np.float64))}


def answer_file(
    model: Model, path: str | os.PathLike[str], preprocessing: Preprocessing | None = None, top: int = 5
) -> Answers:
    """Compute the answers for a file.

    Args:
        path: a picture for a model with one input, or .npy or .npz. An array that lacks only the batch axis is taken as
            one image.
        preprocessing: for a picture None means what the model's metadata say; an array is left as it is.
        top: how many classes of an output of shape (N, classes).

    Raises:
        InputError: the data do not fit the model.
        DataFileError: the file cannot be read.
        MissingPackageError: a picture without Pillow.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        arrays = read_arrays(path, [spec.name for spec in model.inputs])
        for spec in model.inputs:
            array = arrays[spec.name]
            if array.ndim == len(spec.shape) - 1:
                arrays[spec.name] = array[None]
            if preprocessing is not None:
                arrays[spec.name] = preprocessing.apply(arrays[spec.name])
    else:
        if len(model.inputs) != 1:
            names = [spec.name for spec in model.inputs]
            raise InputError(
                f"{path}: one picture for a model with the inputs {names}; give a .npz file with these arrays"
            )
        chosen = preprocessing_of(model.metadata) if preprocessing is None else preprocessing
        arrays = {model.inputs[0].name: chosen.apply(read_image(path, model.inputs[0].shape))}
    started = time.perf_counter()
    outputs = model.run(arrays)
    taken = time.perf_counter() - started
    ranked = {
        name: tuple(_top(row, model.labels, top) for row in array) for name, array in outputs.items() if array.ndim == 2
    }
    return Answers(outputs, ranked, 1e3 * taken)


def _top(row: Array, labels: tuple[str, ...] | None, count: int) -> tuple[Score, ...]:
    """The highest values of one image, equal ones by index, NaN last."""
    order = np.argsort(-row, kind="stable")[:count]
    named = labels if labels is not None and len(labels) == len(row) else None
    return tuple(Score(int(i), None if named is None else str(named[i]), float(row[i])) for i in order)
