"""Keras' .keras files: a zip of config.json, metadata.json and model.weights.h5. Nothing else in it is opened."""

from __future__ import annotations

import io
import json
import lzma
import re
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgecnn.converters.sources import hdf5
from edgecnn.converters.sources.configuration import describe_model, parse_version, weights_of_nothing
from edgecnn.converters.sources.description import ModelDescription, WeightReader
from edgecnn.converters.sources.variables import around_of, masked, misfit
from edgecnn.errors import ConversionError
from edgecnn.files import open_regular

Array = np.ndarray[Any, Any]

WEIGHTS = "model.weights.h5"
MOST_TEXT = 64 * 2**20
LEAST_TEXT = 2 * 2**20
MOST_TEXT_RATIO = 32
"""JSON may have this many times the file's size: parsed, a byte of it takes up to 25 of memory."""
MOST_RATIO = 64
"""Weights hardly compress: more than this many times the file's size is a bomb."""
IN_MEMORY = 256 * 2**20
OLD_ROOT = "_layer_checkpoint_dependencies"
"""The group of a model's layers in files of Keras 2.12 to 2.14, which walked attributes from A to Z; later ones call it `layers`."""


@contextmanager
def describe(path: Path) -> Iterator[ModelDescription]:
    """The model in a .keras file; weights can be read while the context is open."""
    name = str(path)
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ConversionError(f"{name}: a damaged zip file ({error}); copy or save it again") from error
    with archive, tempfile.SpooledTemporaryFile(IN_MEMORY) as unpacked:
        members = _members(archive, name)
        config = _json(archive, members["config.json"], name, size)
        metadata = _json(archive, members["metadata.json"], name, size) if "metadata.json" in members else {}
        version = parse_version(metadata.get("keras_version") if isinstance(metadata, dict) else None)
        info = members[WEIGHTS]
        start = _stored(archive, info, path, size)
        if start is None:
            _unpack(archive, info, unpacked, max(MOST_TEXT, MOST_RATIO * size), name)
            unpacked.seek(0)
            with hdf5.open_file(unpacked, f"{name}: {WEIGHTS}") as file:
                yield describe_model(config, name, version, group_weights(file, name), size)
        else:
            with hdf5.open_file(name, f"{name}: {WEIGHTS}", start, info.file_size) as file:
                yield describe_model(config, name, version, group_weights(file, name), size)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The members that make a model, by their names in it. Some archivers write backslashes, or put a folder around."""
    found: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        found.setdefault(info.filename.replace("\\", "/").removeprefix("./"), []).append(info)
    folders = {member[: -len("config.json")] for member in found if member.rsplit("/", 1)[-1] == "config.json"}
    folder = "" if "" in folders or len(folders) != 1 else next(iter(folders))
    missing = [member for member in ("config.json", WEIGHTS) if folder + member not in found]
    if missing:
        raise ConversionError(
            f"{name}: a zip file without {' and '.join(missing)}: no .keras model; wanted what model.save writes"
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for member in ("config.json", "metadata.json", WEIGHTS):
        infos = found.get(folder + member, [])
        if len(infos) > 1:
            raise ConversionError(f"{name}: holds {member} {len(infos)} times; which one counts cannot be told")
        if infos and infos[0].flag_bits & 1:
            raise ConversionError(f"{name}: {member} is encrypted; unpack it, and zip it again without a password")
        if infos:
            members[member] = infos[0]
    return members


def group_weights(file: Any, source: str) -> GroupWeights:
    """The weights in a file of Keras 3's layout."""
    return GroupWeights(hdf5.Tree(file, source), source, "")


class GroupWeights:
    """The groups of a model's layers: called after their classes, numbered where a class comes again.

    Keras 2.12 and 2.13 went over each layer that has weights twice and gave it a number each time; the first one counts. Keras
    makes a group for every layer, with or without weights, so that the groups themselves tell which way they were numbered.

    Source: keras 2.12.0 to 2.15.0 and 3.0.0, saving/saving_lib.py, _save_container_state; keras 2.13.1, engine/functional.py,
    _layer_checkpoint_dependencies.

    Args:
        tree: everything in the file, by path.
        source: for messages.
        path: of the model's own group, with "/" behind it.
    """

    shares_nothing = True

    def __init__(self, tree: hdf5.Tree, source: str, path: str) -> None:
        self.tree, self.source, self.path = tree, source, path
        self.classes: list[str] = []
        self._groups: list[str] | None = None

    def _enter(self, class_name: str) -> Callable[[], str]:
        """Of one more layer: a function that gives its group once all are known."""
        place = len(self.classes)
        self.classes.append(_snake_case(class_name.split(">")[-1]))
        return lambda: self.groups()[place]

    def groups(self) -> list[str]:
        """The group of each layer."""
        if self._groups is None:
            roots = [root for root in ("layers", OLD_ROOT) if self.path + root in self.tree]
            if len(roots) > 1:
                raise ConversionError(f"{self.source}: has both {roots[0]!r} and {roots[1]!r}; the file is damaged")
            root = f"{self.path}{roots[0] if roots else 'layers'}/"
            groups = self._numbered(root, False)
            if roots == [OLD_ROOT] and not self._are_there(groups):
                groups = self._numbered(root, True)
            if roots == [OLD_ROOT] and not self._are_there(groups):
                raise ConversionError(
                    f"{self.source}: the groups of its layers are numbered in a way that is not known; load it with the "
                    f"TensorFlow that wrote it, and save it as .h5"
                )
            self._groups = groups
        return self._groups

    def _are_there(self, groups: Sequence[str]) -> bool:
        # A Sequential model does not count the input layer that its configuration has.
        named = zip(self.classes, groups, strict=True)
        return all(group in self.tree for plain, group in named if plain != "input_layer")

    def _numbered(self, root: str, twice: bool) -> list[str]:
        used: Counter[str] = Counter()
        groups = []
        for plain in self.classes:
            number = used[plain]
            group = f"{root}{plain}_{number}" if number else f"{root}{plain}"
            groups.append(group)
            used[plain] += 2 if twice and self.tree.holds_arrays(group) else 1
        return groups

    def layer(self, class_name: str, name: str, config: Mapping[str, Any]) -> WeightReader:
        """Of a layer. Functions of keras.ops are no layers to Keras, and not counted."""
        if class_name.startswith(("ops.", "tf.")):
            return weights_of_nothing(name)
        group = self._enter(class_name)
        return lambda names: self._read(group(), class_name, name, config, names)

    def wrapped(
        self, class_name: str, name: str, config: Mapping[str, Any], inner: str, inner_config: Mapping[str, Any]
    ) -> WeightReader:
        """Of the layer inside a wrapper."""
        group = self._enter(class_name)

        def read(names: Sequence[str]) -> list[Array]:
            arrays = self._read(f"{group()}/layer", inner, name, inner_config, names)
            around = around_of(class_name, inner)
            if around is None:
                raise ConversionError(f"{self.source}: layer {name!r}: a {class_name} around a {inner} is not known")
            if "mask" in around:
                by_name = dict(zip(names, arrays, strict=True))
                arrays = list(masked(inner, by_name, self._mask(group(), name)).values())
            return arrays

        return read

    def model(self, class_name: str, name: str) -> GroupWeights:
        """Of a model inside the model."""
        return _Later(self.tree, self.source, self._enter(class_name), "")

    def wrapped_model(self, class_name: str, name: str) -> GroupWeights:
        """Of a model inside a wrapper."""
        return _Later(self.tree, self.source, self._enter(class_name), "/layer")

    def _read(
        self, group: str, class_name: str, layer: str, config: Mapping[str, Any], names: Sequence[str]
    ) -> list[Array]:
        """A layer's weights, which Keras numbers in their order."""
        arrays = self._arrays(group, layer, names)
        problem = misfit(class_name, config, arrays)
        if problem:
            raise ConversionError(f"{self.source}: layer {layer!r}: {problem}; its weights belong to another model")
        return [arrays[name] for name in names]

    def _mask(self, group: str, layer: str) -> Array:
        """What tfmot keeps beside a layer: the pruned variable again, in most versions, then its mask and two numbers."""
        count = len(self.tree.children(f"{group}/vars"))
        if count not in (3, 4):
            raise ConversionError(f"{self.source}: layer {layer!r}: has {count} weights in {group}; wanted 3 or 4")
        names = ("again", "mask", "threshold", "pruning_step")[4 - count :]
        kept = self._arrays(group, layer, names)
        if kept["threshold"].shape or kept["pruning_step"].shape:
            raise ConversionError(f"{self.source}: layer {layer!r}: its pruning is stored in a way that is not known")
        return kept["mask"]

    def _arrays(self, group: str, layer: str, names: Sequence[str]) -> dict[str, Array]:
        where = f"{self.source}: layer {layer!r}"
        stored = self.tree.children(f"{group}/vars")
        if set(stored) != {str(index) for index in range(len(names))}:
            raise ConversionError(f"{where}: has {len(stored)} weights in {group}; wanted {list(names)}")
        return {name: self.tree.array(f"{group}/vars/{index}", f"{where}: {name}") for index, name in enumerate(names)}


class _Later(GroupWeights):
    """Of a model inside another, whose group is known once all layers around it are."""

    def __init__(self, tree: hdf5.Tree, source: str, group: Callable[[], str], behind: str) -> None:
        super().__init__(tree, source, "")
        self.group, self.behind = group, behind

    def groups(self) -> list[str]:
        """The group of each layer."""
        self.path = f"{self.group()}{self.behind}/"
        return super().groups()


def _snake_case(name: str) -> str:
    """DepthwiseConv2D -> depthwise_conv2d, ReLU -> re_lu: a word starts before a capital that lower case follows, and
    before one that lower case precedes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(?<=.)([A-Z][a-z]+)", r"_\1", name)
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, size: int) -> int | None:
    """Where an uncompressed member begins, its checksum verified; None if it is compressed, or not within the file.

    Keras stores weights uncompressed: they are read in their place, since a copy would double what conversion takes.
    """
    with open_regular(path, ConversionError, "a .keras file") as file:
        file.seek(info.header_offset)
        head = file.read(30)
        if info.compress_type != zipfile.ZIP_STORED or len(head) < 30 or head[:4] != b"PK\x03\x04":
            return None
        start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        if start + info.file_size > size:
            return None
        file.seek(start)
        left, checksum = info.file_size, 0
        while left and (chunk := file.read(min(2**20, left))):
            left, checksum = left - len(chunk), zlib.crc32(chunk, checksum)
    if checksum != info.CRC:
        raise ConversionError(f"{path}: {WEIGHTS}: its checksum does not match; the file was changed or damaged")
    return start


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: IO[bytes], most: int, name: str) -> None:
    """Copy a member out, whatever size it claims, and no more than `most` bytes."""
    try:
        with archive.open(info) as source:
            left = most
            while chunk := source.read(min(2**20, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise ConversionError(f"{name}: {info.filename} unpacks to over {most} bytes; refused, for safety")
                target.write(chunk)
    except ConversionError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        OSError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        ValueError,  # a name in the local header that is no UTF-8
    ) as error:
        raise ConversionError(f"{name}: {info.filename} cannot be unpacked ({error}); the file is damaged") from error


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, size: int) -> Any:
    most = min(MOST_TEXT, max(LEAST_TEXT, MOST_TEXT_RATIO * size))
    with io.BytesIO() as text:
        _unpack(archive, info, text, most, name)
        try:
            return json.loads(text.getvalue())
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{name}: {info.filename} is no JSON ({error}); the file is damaged") from error
