"""The documentation: every block of code runs as its reader would run it, and prints what the page says."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from page_runner import blocks, missing, run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

RUN = [
    "quickstart.md",
    "tutorial.md",
    "accelerators.md",
    "cluster.md",
    *sorted(f"how-to/{path.name}" for path in (DOCS / "how-to").glob("*.md")),
]
LONG = {"tutorial.md", "how-to/make-it-smaller.md"}
"""Pages that train: half a minute each."""
MARKS = {**dict.fromkeys(LONG, pytest.mark.sweep), "cluster.md": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[name]) if name in MARKS else name for name in RUN])
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(name: str, tmp_path: Path) -> None:
    for package in ("keras", "onnxruntime", *(["ray"] if name == "cluster.md" else [])):
        pytest.importorskip(package)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "tests" / "page_runner.py"), str(DOCS / name)],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_page_with_code_runs_or_is_a_reference() -> None:
    reference = {
        "api.md",
        "architecture.md",
        "commands.md",
        "cost-model.md",
        "format.md",
        "index.md",
        "layers.md",
        "performance.md",
        "pruning.md",
    }
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    with_code = {name for name in pages if list(blocks((DOCS / name).read_text(encoding="utf-8")))}
    assert with_code - reference <= {*RUN, "raspberry_pi.md"}
    assert set(RUN) <= with_code


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="argparse words its help a little differently in each Python"
)
def test_the_page_of_commands_is_what_help_prints() -> None:
    page = runpy.run_path(str(DOCS / "make_commands.py"))["page"]()
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == page, "run: python docs/make_commands.py"


def test_pages_of_the_site_are_there() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed
    assert [name for name in listed if not (DOCS / name).exists()] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_blocks_are_found_with_their_outputs() -> None:
    page = "```text\nbefore\n```\n```sh\nls\n```\n\n```text\na ... b\n```\n<!-- not run: no Pi -->\n```sh\nssh\n```\n```python\nx\n```\n"
    found = list(blocks(page))
    assert [(code.language, code.text, code.outputs) for code in found] == [
        ("sh", "ls\n", ("a ... b",)),
        ("python", "x\n", ()),
    ]
    assert found[0].line == 4


def test_outputs_must_come_in_order_and_dots_stand_for_anything() -> None:
    printed = "one   two\nthree 3.14 four\nfive\n"
    assert missing(("one two", "three ... four", "five"), printed) is None
    assert missing(("five", "one"), printed) == "one"
    assert missing(("three 3x14",), printed) == "three 3x14"
    assert missing(("...",), "") == "..."


def test_a_page_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("```python\nprint(1)\n```\n```text\n2\n```\n", "```sh\nfalse\n```\n"):
        (tmp_path / "page.md").write_text(text)
        with pytest.raises(AssertionError, match=r"page\.md, line 1"):
            run(tmp_path / "page.md")
