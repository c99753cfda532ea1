"""What is done with a file of each format, and which errors a file that is not sound may cost."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgecnn
from edgecnn.errors import ConversionError, CorruptFileError, InputError, ModelFileError

MOST_BYTES = 2**26
"""What a file may make `load` allocate for weights."""

MOST_VALUES, MOST_MACS = 2**20, 10**8
"""What is computed: a sound model may take longer than a fuzzer waits."""

OPEN_SIZE = 9
"""Where a model takes any size."""


def ecnn(data: bytes, path: str) -> None:
    """Load from memory, describe, call."""
    try:
        model = edgecnn.load(data, threads=1, max_bytes=MOST_BYTES)
    except ModelFileError:
        return
    call(model)


def conversion(data: bytes, path: str) -> None:
    """Convert. What converts must load, if it is not too large for a file of its size."""
    from edgecnn.converters import to_graph
    from edgecnn.format import encode

    with open(path, "wb") as file:
        file.write(data)
    try:
        graph = to_graph(path)
    except (ConversionError, InputError):
        return
    try:
        model = edgecnn.load(encode(graph), threads=1)
    except CorruptFileError:
        raise
    except ModelFileError:
        return
    call(model)


def call(model: Any) -> None:
    """One image of scattered values, if it is a small one; what a model says of itself."""
    repr(model), model.summary(), model.memory
    if model.macs is not None and model.macs > MOST_MACS:
        return
    images = {}
    for spec in model.inputs:
        shape = (1, *(OPEN_SIZE if size is None else size for size in spec.shape[1:]))
        if np.prod(shape, dtype=float) > MOST_VALUES:
            return
        images[spec.name] = np.linspace(-2, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    try:
        model.run(images)
    except (InputError, ModelFileError):  # sizes that do not go together, or are too large to compute
        return


FORMATS: dict[str, Callable[[bytes, str], None]] = {
    "ecnn": ecnn,
    "h5": conversion,
    "keras": conversion,
    "onnx": conversion,
    "tflite": conversion,
}


CORPUS = Path(__file__).resolve().parent / "corpus"


def corpus(kind: str) -> dict[str, bytes]:
    """The files of a format that are kept, by name: `seed-NAME`, and what was found, by its digest."""
    return {path.stem: gzip.decompress(path.read_bytes()) for path in sorted((CORPUS / kind).glob("*.gz"))}


def unmended() -> dict[str, str]:
    """The findings of fuzz/open.txt, by the names of their files."""
    lines = (CORPUS.parent / "open.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def keep(folder: Path, name: str, data: bytes) -> Path:
    """Add a file to a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.gz"
    path.write_bytes(gzip.compress(data, mtime=0))
    return path


def run(kind: str, data: bytes, folder: str) -> None:
    """Whatever leaves this is a finding."""
    FORMATS[kind](data, os.path.join(folder, f"input.{kind}"))
