"""New files out of old ones: a mutation knows its format, and changes few things at a time."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from records import GRAPH, Counted, read_ecnn, read_message, write_ecnn, write_message

NUMBERS = [
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 1023, 4096, 65535, 65536),
    *(2**20, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-45,
    1e-8,
    3.4e38,
    -3.4e38,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    1 / 3,
]
WORDS = [
    "",
    "linear",
    "relu",
    "same",
    "valid",
    "explicit",
    "channels_first",
    "x",
    "a/b",
    "\0",
    "é",
    "..",
    "%s" * 9,
    "A" * 300,
]


def number(random: Random, old: int) -> int:
    """Near the old one, or one at which programs break."""
    choice = random.randrange(4)
    if choice == 0:
        return max(0, old + random.randint(-3, 3))
    if choice == 1:
        return old ^ 1 << random.randrange(8)
    return random.choice(NUMBERS) if choice == 2 else random.randrange(20)


def noise(random: Random, data: bytes) -> bytes:
    """Bytes changed, taken out, put in, or repeated."""
    out = bytearray(data or b"\0")
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(out))
        size = min(random.choice((1, 1, 2, 4, 8, 32)), len(out) - at)
        match random.randrange(6):
            case 0:
                out[at] ^= 1 << random.randrange(8)
            case 1:
                out[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            case 2:
                size = random.choice((1, 2, 4, 8))
                value = (random.choice(NUMBERS) & 2 ** (8 * size) - 1).to_bytes(size, "little")
                out[at : at + size] = value
            case 3 if len(out) > size:
                del out[at : at + size]
            case 4:
                out[at:at] = out[at : at + size]
            case _:
                out[at : at + size] = random.randbytes(size)
        if not out:
            return b"\0"
    return bytes(out)


# --- trees


def places(tree: Any, found: list[tuple[list[Any], int]] | None = None) -> list[tuple[list[Any], int]]:
    """Every (list, index) of a tree."""
    found = [] if found is None else found
    for index, part in enumerate(tree):
        found.append((tree, index))
        if isinstance(part, list):
            places(part, found)
    return found


def leaf(random: Random, old: Any) -> Any:
    if isinstance(old, int):
        return number(random, old)
    if isinstance(old, str):
        return random.choice(WORDS)
    if len(old) == 8 and random.random() < 0.5:
        return struct.pack("<d", random.choice(FLOATS))
    return noise(random, old)


def change_tree(random: Random, tree: Any, other: Any) -> None:
    """One to a few changes of a tree, with parts of another of its kind."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        found = places(tree)
        if not found:
            return
        holder, index = random.choice(found)
        part = holder[index]
        if not isinstance(part, list) and random.random() < 0.8:
            holder[index] = leaf(random, part)
        elif isinstance(holder, Counted) or random.random() < 0.1:
            match random.randrange(4):
                case 0:
                    del holder[index]
                case 1:
                    holder.insert(index, copy.deepcopy(part))
                case 2:
                    swap = random.randrange(len(holder))
                    holder[index], holder[swap] = holder[swap], holder[index]
                case _:
                    holder[index] = taken(random, part, other)
        elif isinstance(part, list):
            holder[index] = taken(random, part, other)


def taken(random: Random, part: Any, other: Any) -> Any:
    """A part of the same kind of another tree."""
    like = [
        h[i]
        for h, i in places(other)
        if type(h[i]) is type(part) and (not isinstance(part, list) or len(h[i]) == len(part))
    ]
    return copy.deepcopy(random.choice(like)) if like else part


# --- formats


def ecnn(random: Random, data: bytes, other: bytes) -> bytes:
    if random.random() < 0.1:
        return noise(random, data)
    try:
        sections, foreign = read_ecnn(data), read_ecnn(other)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError):
        return noise(random, data)
    kind = random.choices([1, 2, 3, 4], [10, 4, 1, 1])[0]
    if kind not in sections:
        kind = GRAPH
    part = sections[kind]
    if isinstance(part, list):
        change_tree(random, part, foreign[kind])
    elif kind == 4 and random.random() < 0.8:
        sections[4] = changed_json(random, part, foreign.get(4, part))
    else:
        sections[kind] = noise(random, part)
    return write_ecnn(sections)


def onnx(random: Random, data: bytes, other: bytes) -> bytes:
    if random.random() < 0.1:
        return noise(random, data)
    fields, foreign = read_message(data), read_message(other)
    if not fields or not foreign:
        return noise(random, data)
    for _ in range(random.choice((1, 1, 2, 3))):
        messages = [fields]
        for message in messages:
            messages += [value for _, _, value in message if isinstance(value, list)]
        message = random.choice([message for message in messages if message] or [fields])
        if not message:
            break
        index = random.randrange(len(message))
        field = message[index]
        match random.randrange(8):
            case 0:
                del message[index]
            case 1:
                message.insert(index, copy.deepcopy(field))
            case 2:
                swap = random.randrange(len(message))
                message[index], message[swap] = message[swap], field
            case 3 | 4:
                found = [foreign]
                for candidate in found:
                    found += [value for _, _, value in candidate if isinstance(value, list)]
                like = [f for candidate in found for f in candidate if f[:2] == field[:2]]
                if like:
                    message[index] = copy.deepcopy(random.choice(like))
            case 5 if not isinstance(field[2], list):
                field[0] = max(1, number(random, field[0]))
            case _:
                if isinstance(field[2], bytes):
                    field[2] = noise(random, field[2]) if field[1] == 2 else random.randbytes(len(field[2]))
                elif isinstance(field[2], int):
                    field[2] = number(random, field[2])
    return write_message(fields)


def changed_json(random: Random, data: bytes, other: bytes) -> bytes:
    """JSON with values changed, removed, repeated, or taken from elsewhere."""
    try:
        tree, foreign = json.loads(data), json.loads(other)
    except ValueError:
        return noise(random, data)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = json_places(tree)
        if not found:
            break
        holder, key = random.choice(found)
        old = holder[key]
        match random.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(old))
            case 2 | 3:
                candidates = json_places(foreign)
                if candidates:
                    there, at = random.choice([c for c in candidates if c[1] == key] or candidates)
                    holder[key] = copy.deepcopy(there[at])
            case 4:
                holder[key] = random.choice((None, True, False, [], {}, [old], {"a": old}, random.choice(WORDS)))
            case _:
                if isinstance(old, bool | None):
                    holder[key] = random.choice((True, False, None, 2))
                elif isinstance(old, int):
                    holder[key] = random.choice((1, 1, -1)) * number(random, abs(old))
                elif isinstance(old, float):
                    holder[key] = random.choice(FLOATS)
                elif isinstance(old, str):
                    strings = [h[k] for h, k in json_places(foreign) if isinstance(h[k], str)]
                    holder[key] = random.choice([*WORDS, *strings])
    return json.dumps(tree).encode()


def json_places(tree: Any) -> list[tuple[Any, Any]]:
    found = []
    parts = [tree]
    for part in parts:
        keys: Sequence[Any] = (
            list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        )
        for key in keys:
            found.append((part, key))
            parts.append(part[key])
    return found


def h5(random: Random, data: bytes, other: bytes) -> bytes:
    if random.random() < 0.5:
        return h5_noise(random, data)
    import h5py

    target = io.BytesIO(data)
    try:
        with h5py.File(target, "r+") as file, h5py.File(io.BytesIO(other), "r") as foreign:
            if "model_config" in file.attrs and random.random() < 0.8:
                config = text(file.attrs["model_config"])
                file.attrs["model_config"] = changed_json(
                    random, config, text(foreign.attrs.get("model_config", config))
                ).decode()
            else:
                names: list[str] = []
                file.visit(names.append)
                if not names:
                    return h5_noise(random, data)
                place = random.choice(names)
                match random.randrange(4):
                    case 0:
                        del file[place]
                    case 1:
                        file.move(place, place + random.choice(("x", "/y", "_1")))
                    case 2 if isinstance(file[place], h5py.Dataset):
                        shape = tuple(number(random, size) % 40 for size in file[place].shape)
                        del file[place]
                        file.create_dataset(place, shape, random.choice(("f4", "f8", "f2", "i4", "u1", "S3")))
                    case _:
                        attributes = file[place].attrs
                        for key in list(attributes)[:1]:
                            attributes[key] = random.choice(([], [b"a", b"a"], 3, "x"))
    except Exception:  # the file is one of earlier mutations: h5py ends in errors of any class
        return h5_noise(random, data)
    return target.getvalue()


def text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def h5_noise(random: Random, data: bytes) -> bytes:
    """Noise in what describes the file rather than in its numbers."""
    marks = [at for mark in (b"\x89HDF", b"TREE", b"HEAP", b"SNOD", b"GCOL", b"OHDR") for at in found_at(data, mark)]
    if not marks or random.random() < 0.2:
        return noise(random, data)
    at = random.choice(marks)
    return data[:at] + noise(random, data[at : at + 96])[:96].ljust(min(96, len(data) - at), b"\0") + data[at + 96 :]


def found_at(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def keras(random: Random, data: bytes, other: bytes) -> bytes:
    if random.random() < 0.15:
        return noise(random, data)
    try:
        members, foreign = unzipped(data), unzipped(other)
        name = random.choices(list(members), [8 if n == "config.json" else 1 for n in members])[0]
        change = {"json": changed_json, "h5": h5}.get(name.rpartition(".")[2], lambda r, d, o: noise(r, d))
        members[name] = change(random, members[name], foreign.get(name, members[name]))
        if random.random() < 0.05:
            members.pop(random.choice(list(members)))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return out.getvalue()
    except Exception:  # as for h5: zipfile ends in errors of any class
        return noise(random, data)


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size < 2**20}


def tflite(random: Random, data: bytes, other: bytes) -> bytes:
    """Words of a flat buffer: offsets, lengths, fields. What they refer to lies at multiples of their size."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        size = random.choice((1, 2, 4, 4, 4))
        at = random.randrange(max(1, len(out) // size)) * size
        old = int.from_bytes(out[at : at + size], "little")
        if random.random() < 0.2:
            old = int.from_bytes(other[at : at + size], "little")
        out[at : at + size] = (number(random, old) & 2 ** (8 * size) - 1).to_bytes(size, "little")
    return bytes(out[: len(data)]) if random.random() < 0.97 else noise(random, bytes(out))


MUTATIONS: dict[str, Callable[[Random, bytes, bytes], bytes]] = {
    "ecnn": ecnn,
    "h5": h5,
    "keras": keras,
    "onnx": onnx,
    "tflite": tflite,
}
