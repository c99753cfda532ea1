"""The metadata section: one JSON object, of what every JSON library reads alike. Reading holds it to the rules of writing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgecnn.errors import CorruptFileError, InputError

MOST_DEPTH = 64
"""Of objects and arrays within each other; Python's own reader would recurse until the stack ends."""

MOST_DIGITS = 640
"""Of an integer: what Python converts however `sys.set_int_max_str_digits` is set. The time grows with their square."""

MOST_OF_A_KEY = 100
"""Characters of a key that an error shows."""

_LARGEST = 10**MOST_DIGITS
_NO_BRACKETS = re.compile(rb'"[^"]*"|[^][{}"]+')


def encode(metadata: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8.

    Raises:
        InputError: reading it would not give the same back (NaN, a tuple, a key that is no string).
    """
    plain = dict(metadata)
    complaint = _complaint(plain)
    if complaint:
        raise InputError(f"{complaint}; wanted what JSON can hold")
    try:
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"metadata: cannot be stored as JSON: {error}") from error


def decode(data: memoryview, where: str) -> dict[str, Any]:
    """The object in a metadata section.

    Args:
        where: the file and the section, for errors.

    Raises:
        CorruptFileError
    """
    if _nests_deeper(bytes(data), MOST_DEPTH):
        raise CorruptFileError(f"{where}: JSON that nests deeper than {MOST_DEPTH}")
    try:
        metadata = json.loads(str(data, "utf-8"), parse_int=_integer, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{where}: no JSON, or none that is allowed here: {error}") from error
    if not isinstance(metadata, dict):
        raise CorruptFileError(f"{where}: wanted an object, found {type(metadata).__name__}")
    complaint = _complaint(metadata)
    if complaint:
        raise CorruptFileError(f"{where}: {complaint}")
    return metadata


def _nests_deeper(text: bytes, most: int) -> bool:
    """Whether brackets nest deeper than so many, those inside strings apart."""
    without_escapes = text.replace(rb"\\", b"").replace(rb"\"", b"")
    depth = 0
    for bracket in _NO_BRACKETS.sub(b"", without_escapes):
        depth += 1 if bracket in b"[{" else -1
        if depth > most:
            return True
    return False


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ValueError(f"an integer of {len(digits)} digits; wanted at most {MOST_DIGITS}")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _fault(value: Any) -> str | None:
    """What is wrong with one value, those inside it apart."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "is no Unicode text: it holds half of a surrogate pair"
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}"
    if isinstance(value, int):
        return None if abs(value) < _LARGEST else f"is an integer of more than {MOST_DIGITS} digits"
    return None if value is None or type(value) in (dict, list) else f"is a {type(value).__name__}"


def _path(place: Sequence[object], key: object) -> str:
    """Where a value stands. It is written for faults alone: keys may be long, and each stands around many values."""
    return "metadata" + "".join(f"[{_short(step)}]" for step in (*place, key))


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= MOST_OF_A_KEY else f"{text[:MOST_OF_A_KEY]}..."


def _complaint(metadata: dict[str, Any]) -> str | None:
    """What in metadata cannot be stored or would come back changed, and where it is; None if nothing.

    Without recursion, as `metadata` may nest deeper than the stack, or hold itself.
    """
    place: list[object] = []
    unfinished: list[tuple[bool, Iterator[tuple[Any, Any]]]] = [(True, iter(metadata.items()))]
    while unfinished:
        named, items = unfinished[-1]
        for key, value in items:
            if named and not isinstance(key, str):
                return f"{_path(place, key)}: its key is no string"
            fault = (_fault(key) if named else None) or _fault(value)
            if fault is None and len(unfinished) >= MOST_DEPTH and isinstance(value, dict | list):
                fault = f"nests deeper than {MOST_DEPTH}"
            if fault is not None:
                return f"{_path(place, key)} {fault}"
            if isinstance(value, dict | list):
                place.append(key)
                unfinished.append(
                    (True, iter(value.items())) if isinstance(value, dict) else (False, iter(enumerate(value)))
                )
                break
        else:
            unfinished.pop()
            del place[len(unfinished) - 1 :]
    return None
