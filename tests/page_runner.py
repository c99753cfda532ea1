"""Runs a page of the documentation as its reader would: every block in order, in an empty folder, and holds its outputs.

python tests/page_runner.py PAGE    # in the folder to work in

```python blocks run in one namespace, ```sh blocks in bash, which ends at the first error. A ```text block behind one of them
says what it prints: each of its lines must be found in what was printed, in this order, "..." standing for anything. A block
behind "<!-- not run: REASON -->" is left out, and so is text in front of the first block that runs.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Code:
    """One block that runs, the outputs that the page says it has, and its line in the page."""

    language: str
    text: str
    outputs: tuple[str, ...]
    line: int


def blocks(page: str) -> Iterator[Code]:
    """What runs, in order."""
    waiting: Code | None = None
    for match in BLOCK.finditer(page):
        skipped, language, text = match.groups()
        if language == "text":
            if waiting is not None:
                waiting = Code(waiting.language, waiting.text, (*waiting.outputs, *text.splitlines()), waiting.line)
            continue
        if waiting is not None:
            yield waiting
        waiting = None
        if not skipped and language in ("python", "sh"):
            waiting = Code(language, text, (), page[: match.start()].count("\n") + 1)
    if waiting is not None:
        yield waiting


def missing(wanted: tuple[str, ...], printed: str) -> str | None:
    """The first wanted line that is not found behind the one before it; None if all are."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    for line in wanted:
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        pattern = pattern.replace("\\ .*", ".*").replace(".*\\ ", ".*")
        if line.strip() and not any(re.search(pattern, found) for found in lines):
            return line
    return None


def run(page: Path) -> None:
    """Run a page in the working folder.

    Raises:
        AssertionError: a block fails, or does not print what the page says; the message has the page's line.
    """
    namespace: dict[str, Any] = {"__name__": "page"}
    for code in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {code.line}"
        if code.language == "python":
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                exec(compile(code.text, where, "exec"), namespace)
            printed = told.getvalue()
        else:
            done = subprocess.run(
                ["bash", "-e", "-c", code.text],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            printed = done.stdout
            assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{printed}"
        line = missing(code.outputs, printed)
        assert line is None, f"{where} should print\n  {line}\nand printed\n{printed}"


if __name__ == "__main__":
    run(Path(sys.argv[1]))
