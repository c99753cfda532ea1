"""The commands `edgecnn` and `edgecnn-convert`: arguments in, exit code out. One file a command; COMMANDS lists them.

Exit codes: 0 done; 1 a bug of edgecnn; 2 wrong usage; 3 a file that is missing, corrupt, unsafe or not accessible;
4 unsupported layers; 5 verification failed; 6 over a budget; 7 an optional package or device is missing; 130 interrupted;
141 the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from edgecnn.cli import (
    bench,
    check,
    compare,
    completion,
    convert,
    info,
    inspect,
    profile,
    prune,
    run,
    terminal,
    tune,
    verify,
)
from edgecnn.cli.command import Answer, Command
from edgecnn.errors import Error, UnsupportedLayerError
from edgecnn.tools.text import printable
from edgecnn.version import __version__

COMMANDS: tuple[Command, ...] = (
    convert.COMMAND,
    inspect.COMMAND,
    run.COMMAND,
    verify.COMMAND,
    compare.COMMAND,
    bench.COMMAND,
    check.COMMAND,
    profile.COMMAND,
    tune.COMMAND,
    prune.COMMAND,
    info.COMMAND,
    completion.COMMAND,
)

BUG, FILE, INTERRUPTED, READER_GONE = 1, 3, 130, 141

EXIT_CODES = (
    "exit codes: 0 done, 1 a bug of edgecnn, 2 wrong usage, 3 a file missing, corrupt or unsafe, 4 unsupported layers,\n"
    "5 verification failed, 6 over a budget, 7 an optional package or device is missing"
)

ENVIRONMENT = """\
environment:
  EDGECNN_THREADS  threads of a call (default: what affinity mask and cgroup quota allow)
  EDGECNN_ISA      a lower instruction set than the CPU's best
  EDGECNN_CACHE    folder of tuning results (default: the user's cache folder)
  NO_COLOR         no colours, whatever the terminal"""

MORE = "`edgecnn completion --help` tells how the shell completes all this; `edgecnn info` shows what is used here."


def main(argv: Sequence[str] | None = None) -> int:
    """The command `edgecnn`.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The exit code.
    """
    return _execute(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `edgecnn`, a subparser for each command."""
    parser = _Parser(
        prog="edgecnn",
        description="Fast CNN inference on edge CPUs, straight from Keras models.",
        epilog=_epilog("edgecnn convert model.h5\nedgecnn run model.ecnn photo.jpg"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgecnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        single = commands.add_parser(
            command.name,
            help=command.summary,
            description=_description(command),
            epilog=_epilog(command.example),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_arguments(single, command)
    return parser


def convert_main(argv: Sequence[str] | None = None) -> int:
    """The command `edgecnn-convert`, the same as `edgecnn convert`; see `main`."""
    command = convert.COMMAND
    parser = _Parser(
        prog="edgecnn-convert",
        description=_description(command),
        epilog=_epilog(command.example.replace("edgecnn convert", "edgecnn-convert")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser, command)
    return _execute(parser, argv)


def _description(command: Command) -> str:
    return "\n\n".join(filter(None, (command.summary, textwrap.dedent(command.details).strip())))


def _epilog(example: str) -> str:
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    return f"example:\n{lines}\n\n{ENVIRONMENT}\n\n{EXIT_CODES}\n\n{MORE}"


def _add_arguments(parser: argparse.ArgumentParser, command: Command) -> None:
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON record on stdout and nothing else")
    parser.add_argument("--debug", action="store_true", help="a traceback with every error")
    parser.set_defaults(command=command, prog=parser.prog)


def _execute(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    # What says how to report an error, until the arguments are known.
    arguments = argparse.Namespace(prog=parser.prog, debug=False, json=False)
    try:
        try:
            arguments = parser.parse_args(argv)
        except SystemExit as end:  # argparse has said what there is to say
            return end.code if isinstance(end.code, int) else 0
        answer: Answer = arguments.command.run(arguments)
        _present(answer, arguments.json)
        if answer.complaint:
            _complain(f"{arguments.prog}: error: {answer.complaint}")
        return answer.exit_code
    except BrokenPipeError:
        return READER_GONE
    except KeyboardInterrupt:
        _complain(f"{arguments.prog}: interrupted")
        return INTERRUPTED
    except Exception as error:
        return _fail(arguments, error)


class _Parser(argparse.ArgumentParser):
    """Says when its help could not be written, where argparse keeps that to itself."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout and message:
            with _stdout() as stream:
                stream.write(message)
        else:
            super()._print_message(message, file)


@contextlib.contextmanager
def _stdout() -> Iterator[TextIO]:
    """Standard output, flushed at the end: a full disk is an error of this command, not of the interpreter's exit.

    Raises:
        BrokenPipeError: nobody reads any more.
        OSError: names the stream.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, error.strerror or str(error), "standard output") from error


def _give_up(stream: TextIO) -> None:
    """Let what is still buffered go nowhere: it would be written, and fail again, when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def _present(answer: Answer, as_json: bool) -> None:
    """Put an answer on stdout."""
    target = None if as_json or not answer.blocks else terminal.console(sys.stdout)
    if target is None:
        _say(json.dumps(_plain(answer.record), indent=1) if as_json else answer.text)
        return
    with _stdout():
        terminal.show(target, answer.blocks)


def _fail(arguments: argparse.Namespace, error: Exception) -> int:
    """Say what went wrong; gives the exit code."""
    message, code = _judge(error)
    if arguments.debug:
        _complain("".join(traceback.format_exception(error)).rstrip())
    _complain(f"{arguments.prog}: error: {message}")
    if code == BUG:
        _complain(
            f"{arguments.prog}: this is a bug of edgecnn; please report it with what `{arguments.prog} --debug` and "
            "`edgecnn info` print",
        )
    if arguments.json:
        record: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": code}
        if isinstance(error, UnsupportedLayerError):
            record["layers"] = [vars(item) for item in error.items]
        with contextlib.suppress(OSError):
            _say(json.dumps({"error": record}, indent=1))
    return code


def _judge(error: Exception) -> tuple[str, int]:
    """Message and exit code."""
    if isinstance(error, Error):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", FILE
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' if str(error) else ''}{error}", FILE
    return f"{type(error).__name__}: {error}", BUG


def _plain(value: Any) -> Any:
    """The value as strict JSON has it: no NaN or infinity (they become null)."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say(text: str) -> None:
    """A text and a line's end on stdout."""
    with _stdout() as stream:
        _write(stream, text)


def _complain(text: str) -> None:
    """A text and a line's end on stderr, where there is one that takes it: the exit code stands either way."""
    if sys.stderr is None:
        return
    try:
        _write(sys.stderr, text)
    except OSError:
        _give_up(sys.stderr)


def _write(stream: TextIO, text: str) -> None:
    """A text and a line's end, safe for a terminal and for the stream's encoding."""
    encoding = stream.encoding or "utf-8"
    safe = printable(text, keep="\n").encode(encoding, "backslashreplace").decode(encoding)
    print(safe, file=stream, flush=True)
