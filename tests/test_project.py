"""The project's papers agree with the project."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import edgecnn

ROOT = Path(__file__).resolve().parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

FILE_NAME = re.compile(r"(?<![\w.<>{}*/-])[\w./-]*\w\.(?:py|pyx|pxd|pyi|h|c|md|toml|yml|in)\b(?![\w>}*])")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project_files() -> set[str]:
    """Paths of all files, as ARCHITECTURE.md would name them."""
    ignored = {".git", ".venv", "build", "__pycache__", "output"}
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored]
        found |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in files}
    return found


def test_versions_agree() -> None:
    assert metadata.version("edgecnn") == edgecnn.__version__


def test_the_changelog_opens_with_this_version_or_with_what_is_to_come() -> None:
    newest = re.search(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] in ("Unreleased", edgecnn.__version__)


def test_each_release_in_the_changelog_opens_with_what_it_is_about() -> None:
    releases = re.split(r"^## .*$", text("CHANGELOG.md"), flags=re.MULTILINE)[1:]
    assert releases
    assert [release.strip().startswith("In short:") for release in releases] == [True] * len(releases)


def test_files_that_the_architecture_names_exist() -> None:
    files = project_files()
    named = set(FILE_NAME.findall(text("ARCHITECTURE.md")))
    assert named
    missing = {name for name in named if not any(f"/{path}".endswith(f"/{name.lstrip('./')}") for path in files)}
    assert not missing


def test_file_names_are_found_and_placeholders_are_not() -> None:
    line = "graph.py, `converters/layers/registry.py`, microkernels/<isa>.c, `<family>.py`, README.md."
    assert FILE_NAME.findall(line) == ["graph.py", "converters/layers/registry.py", "README.md"]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "docs/format.md", "docs/pruning.md"])
def test_links_between_pages_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(name))
    assert [target for target in targets if not (folder / target).exists()] == []


def test_the_license_is_the_whole_apache_license() -> None:
    license_text = text("LICENSE")
    assert "Apache License" in license_text
    assert "Version 2.0, January 2004" in license_text
    assert "END OF TERMS AND CONDITIONS" in license_text
    assert PROJECT["license"] == "Apache-2.0"


def test_the_readme_opens_with_demo_and_test_and_both_are_targets() -> None:
    commands = [line.split("#")[0].strip() for block in shell_blocks(text("README.md")) for line in block.splitlines()]
    assert commands[:2] == ["make demo", "make test"]
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


def shell_blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_readme_shows_every_command_that_exists_and_no_other() -> None:
    from edgecnn.cli import COMMANDS

    shown = set(re.findall(r"\bedgecnn[ -](\w+)", "\n".join(shell_blocks(text("README.md")))))
    known = {command.name for command in COMMANDS}
    assert shown <= known
    assert {"convert", "inspect", "run", "bench"} <= shown


def test_the_readme_example_runs(tmp_path: Path) -> None:
    example, *_ = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "model.h5").write_bytes((ROOT / "examples" / "digits.h5").read_bytes())
    code = f"{example}\nprint(y.shape)"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "DepthwiseConv2D" in done.stdout
    assert done.stdout.splitlines()[-1] == "(4, 10)"


def test_the_readme_table_of_exit_codes_is_the_errors_own() -> None:
    from edgecnn import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.Error)]
    listed = {int(code) for code in re.findall(r"^\| (\d) \|", text("README.md"), re.MULTILINE)}
    assert listed == {0, *(c.exit_code for c in classes)}


def test_the_page_of_layers_is_what_the_registry_says() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_layers.py"))["page"]()
    assert text("docs/layers.md") == page, "run: python docs/make_layers.py"


def test_installed_packages_need_numpy_only() -> None:
    assert {re.split(r"[<>=!~ \[;]", need)[0] for need in PROJECT["dependencies"]} == {"numpy"}


def test_runtime_code_imports_nothing_but_the_standard_library_numpy_and_what_is_optional() -> None:
    allowed = {"numpy", "PIL", "onnx", "tflite", "edgecnn", "__future__", *sys.stdlib_module_names}
    # What builds Keras models, or runs the originals beside ours, needs what runs them.
    others = {
        "accelerators": {"keras", "tensorflow"},
        "zoo": {"keras"},
        "tools": {"keras", "matplotlib", "onnxruntime", "ai_edge_litert"},
        "training": {"keras", "matplotlib"},
        "integrations": {"ray"},
        "cli": {"rich"},
        "__pyinstaller": {"PyInstaller"},
    }
    foreign: dict[str, set[str]] = {}
    for folder in ("edgecnn", "converters"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                found = {n.split(".")[0] for n in names} - others.get(path.parent.name, set())
                foreign.setdefault(path.name, set()).update(found)
    assert {name: found - allowed for name, found in foreign.items() if found - allowed} == {}


CLOCKS = {"perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "time"}

WAITS = {"join", "wait", "poll", "communicate", "result"}


def time_limits(source: str) -> list[int]:
    """Lines of a test file that hold the machine to a time: a time-out or a deadline of seconds written there, or an assertion
    about what a clock said."""
    tree = ast.parse(source)
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            limits = [word.value for word in node.keywords if word.arg in ("timeout", "deadline")]
            if isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
                limits += node.args
            if any(isinstance(limit, ast.Constant) and isinstance(limit.value, int | float) for limit in limits):
                lines.append(node.lineno)
        elif isinstance(node, ast.FunctionDef | ast.Module):
            lines += clock_assertions(node)
    return sorted(set(lines))


def clock_assertions(scope: ast.FunctionDef | ast.Module) -> list[int]:
    """Lines of a function's assertions that compare a clock, or what was computed from one, with a number."""
    timed: set[str] = set()

    def reads_a_clock(node: ast.AST) -> bool:
        return any(
            (isinstance(part, ast.Call) and ast.unparse(part.func) in {f"time.{clock}" for clock in CLOCKS})
            or (isinstance(part, ast.Name) and part.id in timed)
            for part in ast.walk(node)
        )

    lines = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and reads_a_clock(node.value):
            timed |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and reads_a_clock(node.test):
            sides = [node.test.left, *node.test.comparators]
            lines += [node.lineno] if any(isinstance(side, ast.Constant) for side in sides) else []
    return lines


@pytest.mark.parametrize(
    "code",
    [
        "subprocess.run(command, timeout=60)",
        "child.join(10)",
        "queue.get(timeout=5.0)",
        "settings(deadline=400)",
        "assert time.monotonic() - begun < 10",
        "def test():\n    begun = time.perf_counter()\n    took = time.perf_counter() - begun\n    assert took < 2",
    ],
)
def test_limits_of_time_are_seen(code: str) -> None:
    assert len(time_limits(code)) == 1


@pytest.mark.parametrize("code", ["child.join()", "run(timeout=HUNG)", "settings(deadline=None)", "', '.join(names)"])
def test_what_is_no_limit_of_time_is_left_alone(code: str) -> None:
    assert time_limits(code) == []


def test_no_test_holds_the_machine_to_a_time() -> None:
    limits = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in time_limits(path.read_text(encoding="utf-8"))
    }
    assert limits == set(), "a slow machine fails these tests: wait without an end, or for patience.HUNG"
