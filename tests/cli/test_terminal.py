"""Terminals get tables and colours, pipes get plain text; shells complete what the parser knows."""

from __future__ import annotations

import io
import os
import pty
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgecnn.cli import COMMANDS, main, terminal
from edgecnn.cli.completion import SHELLS, script
from edgecnn.tools.text import BAR, Bar, Table, joined
from small_models import convolution, save

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """What the command shows on a terminal of its own."""
    parent, child = pty.openpty()
    code = f"import sys; from edgecnn.cli import main; sys.exit(main({arguments!r}))"
    variables = {"TERM": "xterm-256color", "COLUMNS": "160", **environment}
    kept = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "FORCE_COLOR", "COLORTERM")
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=child, stderr=subprocess.DEVNULL, env={**kept, **variables}
    )
    os.close(child)
    parts: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(parent, 65536):
                parts.append(part)
        except OSError:  # the end of a terminal
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait() == 0
    reader.join()
    os.close(parent)
    return b"".join(parts).decode()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(save(convolution(), tmp_path))


def test_a_terminal_gets_colours_and_rules(path: str) -> None:
    shown = on_a_terminal(["inspect", path])
    assert "\x1b[" in shown
    assert "────" in shown
    assert "N x 16 x 16 x 8" in shown


def test_no_color_is_respected(path: str) -> None:
    shown = on_a_terminal(["inspect", path], NO_COLOR="1")
    assert "\x1b[3" not in shown  # no colour
    assert "────" in shown


def test_a_dumb_terminal_gets_plain_text(path: str) -> None:
    shown = on_a_terminal(["inspect", path], TERM="dumb")
    assert "\x1b" not in shown
    assert "────" not in shown


def test_a_pipe_gets_plain_text(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["inspect", path], ["profile", path, "--runs", "2"], ["check", path, "--target", "pi5"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "█" not in shown


def test_without_rich_a_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.console(Terminal()) is not None
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert terminal.console(Terminal()) is None
    assert terminal.console(io.StringIO()) is None
    assert terminal.console(None) is None


def test_names_of_strangers_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    evil = "[bold red]\x1b[2J[/]"
    terminal.show(terminal.console(stream), [evil, Table(("name",), [(evil,)])])
    assert stream.getvalue().count("[bold red]\\x1b[2J[/]") == 2


def test_bars_are_as_long_as_their_share_and_absent_from_plain_text() -> None:
    assert str(Bar(1.0, 0)) == "█" * BAR
    assert str(Bar(0.5, 0)) == "█" * (BAR // 2)
    assert str(Bar(2.0, 0)) == "█" * BAR
    assert str(Bar(-1, 0)) == ""
    assert len(str(Bar(0.53, 0))) == BAR // 2 + 1
    given = Table(("ms", "bar", "name"), [("1", Bar(0.5, 1), "a"), ("10", Bar(1, 1), "b")], "rll")
    assert joined(["head", given]) == "head\nms  name\n 1  a\n10  b"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_those_of_the_parser(shell: str) -> None:
    pytest.importorskip("shtab")
    written = runpy.run_path(str(ROOT / "docs" / "make_completions.py"))["script"](shell)
    assert script(shell) == written, "run: python docs/make_completions.py"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert [command.name for command in COMMANDS if command.name not in shown] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_its_script(shell: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell))
    done = subprocess.run([found, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["edgecnn", "pro"], "profile"),
        (["edgecnn", "check", "--ta"], "--target"),
        (["edgecnn", "check", "--target", "pi-"], "pi-zero-2w"),
    ],
)
def test_bash_completes(words: list[str], wanted: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script("bash"))
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {tmp_path / 'script'}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        "$(complete -p edgecnn | sed 's/.*-F \\([^ ]*\\).*/\\1/') edgecnn; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert wanted in [word.strip() for word in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_is_a_page(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    from edgecnn.cli.command import Command

    assert isinstance(command, Command)
    assert command.details
    assert main([command.name, "--help"]) == 0
    page = capsys.readouterr().out
    for part in (
        command.summary.split()[0],
        command.details.split("\n")[0],
        "environment:",
        "EDGECNN_THREADS",
        "exit codes:",
    ):
        assert part in page
