"""Keras' .keras files: a zip of config.json, metadata.json and model.weights.h5. Nothing else in it is opened."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgecnn.converters.sources import hdf5
from edgecnn.converters.sources.configuration import describe_model, parse_version, weights_of_nothing
from edgecnn.converters.sources.description import ModelDescription, WeightReader
from edgecnn.errors import ConversionError

WEIGHTS = "model.weights.h5"
MOST_TEXT = 64 * 2**20
MOST_RATIO = 64
"""Weights hardly compress: more than this many times the file's size is a bomb."""
IN_MEMORY = 256 * 2**20


@contextmanager
def describe(path: Path) -> Iterator[ModelDescription]:
    """The model in a .keras file; weights can be read while the context is open."""
    name = str(path)
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConversionError(f"{name}: a damaged zip file ({error}); copy or save it again") from error
    with archive, tempfile.SpooledTemporaryFile(IN_MEMORY) as unpacked:
        missing = {"config.json", WEIGHTS} - set(archive.namelist())
        if missing:
            raise ConversionError(
                f"{name}: a zip file without {' and '.join(sorted(missing))}: no .keras model; wanted what model.save writes"
            )
        config = _json(archive, "config.json", name)
        metadata = _json(archive, "metadata.json", name) if "metadata.json" in archive.namelist() else {}
        version = parse_version(metadata.get("keras_version") if isinstance(metadata, dict) else None)
        stored = _stored(archive, WEIGHTS, path, size)
        if stored is None:
            _unpack(archive, WEIGHTS, unpacked, max(MOST_TEXT, MOST_RATIO * size), name)
            unpacked.seek(0)
        with hdf5.open_file(stored or unpacked, f"{name}: {WEIGHTS}") as file:  # type: ignore[arg-type]
            yield describe_model(config, name, version, group_weights(file, name), size)


def group_weights(file: Any, source: str) -> GroupWeights:
    """The weights in a file of Keras 3's layout."""
    # Keras 3.0 called the group of a functional model's layers so.
    root = "_layer_checkpoint_dependencies" if "_layer_checkpoint_dependencies" in file else "layers"
    return GroupWeights(file, source, root)


class GroupWeights:
    """The groups of a model's layers: called after their classes, numbered where a class comes again."""

    def __init__(self, file: Any, source: str, root: str) -> None:
        self.file, self.source, self.root = file, source, root
        self.used: Counter[str] = Counter()

    def _group(self, class_name: str) -> str:
        plain = _snake_case(class_name.split(">")[-1])
        number, self.used[plain] = self.used[plain], self.used[plain] + 1
        return f"{self.root}/{plain}_{number}" if number else f"{self.root}/{plain}"

    def layer(self, class_name: str, name: str) -> WeightReader:
        """Of a layer. Functions of keras.ops are no layers to Keras, and not counted."""
        if class_name.startswith("ops."):
            return weights_of_nothing(name)
        group = self._group(class_name)
        return lambda names: _read(self.file, group, name, names, self.source)

    def wrapped(self, class_name: str, name: str) -> WeightReader:
        """Of the layer inside a wrapper."""
        group = f"{self._group(class_name)}/layer"
        return lambda names: _read(self.file, group, name, names, self.source)

    def model(self, class_name: str, name: str) -> GroupWeights:
        """Of a model inside the model."""
        return GroupWeights(self.file, self.source, f"{self._group(class_name)}/layers")


def _snake_case(name: str) -> str:
    """DepthwiseConv2D -> depthwise_conv2d, ReLU -> re_lu: a word starts before a capital that lower case follows, and
    before one that lower case precedes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(?<=.)([A-Z][a-z]+)", r"_\1", name)
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


class _Part(io.RawIOBase):
    """A part of a file, read in place: Keras stores weights uncompressed, and a copy would double what conversion takes."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = open(path, "rb"), start, size, 0  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self.file.seek(self.start + self.at)
        count = self.file.readinto(view[: max(0, min(len(view), self.size - self.at))])
        self.at += count
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _stored(archive: zipfile.ZipFile, member: str, path: Path, size: int) -> _Part | None:
    """An uncompressed member in its place, its checksum verified; None if it is compressed, or not within the file."""
    info = archive.getinfo(member)
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or len(head) < 30 or head[:4] != b"PK\x03\x04":
        return None
    start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if start + info.file_size > size:
        return None
    part, checksum = _Part(path, start, info.file_size), 0
    while chunk := part.read(2**20):
        checksum = zlib.crc32(chunk, checksum)
    if checksum != info.CRC:
        part.close()
        raise ConversionError(f"{path}: {member}: its checksum does not match; the file was changed or damaged")
    return part


def _unpack(archive: zipfile.ZipFile, member: str, target: IO[bytes], most: int, name: str) -> None:
    """Copy a member out, whatever size it claims, and no more than `most` bytes."""
    try:
        with archive.open(member) as source:
            left = most
            while chunk := source.read(min(2**20, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise ConversionError(f"{name}: {member} unpacks to over {most} bytes; refused, for safety")
                target.write(chunk)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ConversionError(f"{name}: {member} cannot be unpacked ({error}); the file is damaged") from error


def _json(archive: zipfile.ZipFile, member: str, name: str) -> Any:
    with tempfile.SpooledTemporaryFile(MOST_TEXT) as text:
        _unpack(archive, member, text, MOST_TEXT, name)
        text.seek(0)
        try:
            return json.loads(text.read())
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{name}: {member} is no JSON ({error}); the file is damaged") from error


def _read(file: Any, group: str, layer: str, names: Sequence[str], source: str) -> list[np.ndarray[Any, Any]]:
    """A layer's weights, which Keras numbers in their order."""
    where = f"{source}: layer {layer!r}"
    variables = hdf5.child(file, f"{group}/vars", source)
    stored = [] if variables is None else sorted(variables)
    if len(stored) != len(names):
        raise ConversionError(f"{where}: has {len(stored)} weights in {group}; wanted {list(names)}")
    return [
        hdf5.array(hdf5.child(variables, str(index), source), f"{where}: {name}") for index, name in enumerate(names)
    ]
