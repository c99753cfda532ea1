"""What a command is."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.tools.text import Block

DEVICE_HELP = "cpu (default); gpu, gpu:1 or gpus by TensorFlow; tensorflow for whatever device that has"


def file_name(text: str) -> str:
    """The type of options that name a file. An empty name is mostly a variable of a script that was not set."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name; wanted that of a file")
    return text


@dataclass(frozen=True)
class Answer:
    """What a command gives back.

    Attributes:
        record, text: for `--json`, and for people.
        complaint: a line for stderr, where the work was done and something is wrong with what it found.
        exit_code: then of the command.
        blocks: the text as lines and tables, for a terminal; empty: as `text`.
    """

    record: dict[str, Any]
    text: str
    complaint: str = ""
    exit_code: int = 0
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Command:
    """A command; `edgecnn.cli.COMMANDS` lists all.

    Attributes:
        name: what is typed.
        summary: one line for the list of commands.
        example: command lines, shown by --help.
        add_arguments: adds its arguments; --json and --debug are every command's.
        run: does the work and prints nothing to stdout. Raises edgecnn.Error.
        details: what --help tells beside the summary: paragraphs.
    """

    name: str
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Answer]
    details: str = ""
