"""Every exception that edgecnn raises on purpose, with the exit code that the commands give for it.

A message says what went wrong, where (file, layer, tensor), what was wanted and what was given, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def printable(text: str, keep: str = "") -> str:
    """The text with every character escaped that is no visible one (control characters, surrogates, text direction).

    Names come from files of strangers: an escape sequence in one must not reach the terminal. Whatever makes text for people
    of names calls this; data (JSON, attributes of objects) keep the names as they are.

    Args:
        keep: characters to leave as they are ("\\n").
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


class Error(Exception):
    """What all of edgecnn's own exceptions are. `exit_code` is what the commands end with."""

    exit_code = 1

    def __str__(self) -> str:
        """The message. Names in it come from files of strangers, and it is printed by whoever catches it, or nobody does."""
        return printable(super().__str__(), keep="\n")


class GraphError(Error):
    """A graph breaks a rule of the operator table: a defect of whoever built the graph."""


class ConversionError(Error):
    """A model cannot be converted: its file is missing, damaged, unsafe, or holds no model."""

    exit_code = 3


@dataclass(frozen=True)
class UnsupportedLayer:
    """One layer that cannot be converted.

    Attributes:
        path: the layer's name in the model, with the names of the models around it ("backbone/attention_1").
        class_name: the layer's class as the file gives it.
        reason: why it cannot be converted.
        hint: what the user can do about it.
    """

    path: str
    class_name: str
    reason: str
    hint: str


class UnsupportedLayerError(ConversionError):
    """The model holds layers that edgecnn cannot convert. `items` lists all of them, in the model's order."""

    exit_code = 4

    def __init__(self, source: str, items: Sequence[UnsupportedLayer]) -> None:
        self.items = tuple(items)
        lines = [f"{source}: {len(self.items)} layer{'s' if len(self.items) != 1 else ''} cannot be converted:"]
        lines += [_unsupported_line(item) for item in self.items]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_unsupported, (str(self), self.items)


def _unsupported_line(item: UnsupportedLayer) -> str:
    return "  " + printable(f"{item.path} ({item.class_name}): {item.reason}; {item.hint}")


def _rebuild_unsupported(message: str, items: tuple[UnsupportedLayer, ...]) -> UnsupportedLayerError:
    error = UnsupportedLayerError("", items)
    error.args = (message,)
    return error


class ModelFileError(Error, OSError):
    """An .ecnn file cannot be read."""

    exit_code = 3


class CorruptFileError(ModelFileError):
    """The file's bytes contradict themselves or the format: cut short, changed, or no .ecnn file at all."""


class VersionError(ModelFileError):
    """The file needs a newer reader than this one, or uses a feature that this one lacks."""


class InputError(Error, ValueError):
    """What was given to a model does not fit it (rank, size, dtype, name, number of arrays)."""

    exit_code = 2


class DataFileError(Error, OSError):
    """A file of input data (a picture, .npy, .npz, labels) is missing, damaged or unsafe."""

    exit_code = 3


class VerificationError(Error):
    """An answer differs from the expected one by more than the tolerance."""

    exit_code = 5


class BudgetError(Error):
    """A limit that the user set (bytes, milliseconds) is exceeded."""

    exit_code = 6


class DeviceError(Error):
    """The device or instruction set asked for is not there."""

    exit_code = 7


class MissingPackageError(Error, ImportError):
    """An optional package is needed and not installed; the message holds the line that installs it."""

    exit_code = 7
