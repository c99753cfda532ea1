"""edgecnn completion: the script with which a shell completes the commands."""

from __future__ import annotations

import argparse
from importlib import resources

from edgecnn.cli.command import Answer, Command

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """The script for a shell; docs/make_completions.py writes it from the parser."""
    return (resources.files("edgecnn.cli") / "completions" / f"edgecnn.{shell}").read_text(encoding="utf-8")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="which shell the script is for")


def _run(arguments: argparse.Namespace) -> Answer:
    text = script(arguments.shell).rstrip("\n")
    return Answer({"shell": arguments.shell, "script": text}, text)


COMMAND = Command(
    "completion",
    "Print the script with which a shell completes edgecnn's commands, options and files.",
    "edgecnn completion bash",
    _add_arguments,
    _run,
    "Where the script goes:\n"
    "  edgecnn completion bash > ~/.local/share/bash-completion/completions/edgecnn\n"
    "  edgecnn completion zsh > ~/.zfunc/_edgecnn\n"
    "  edgecnn completion fish > ~/.config/fish/completions/edgecnn.fish\n"
    "For zsh the folder must be in fpath before compinit runs: fpath+=(~/.zfunc); autoload -Uz compinit; compinit. The script needs\n"
    "neither Python nor anything installed.",
)
