"""Who may know whom: a room imports only its own modules and those of lower floors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = {
    "errors": 0,
    "version": 0,
    "budget": 1,
    "files": 1,
    "graph": 1,
    "format": 2,
    "runtime": 3,
    "accelerators": 4,
    "tools": 4,
    "converters": 5,
    "integrations": 5,
    "training": 6,
    "zoo": 6,
    "cli": 7,
    "__pyinstaller": 8,
}

PUBLIC = "runtime"
"""What `import edgecnn` loads at once: a room that imports the public names knows this one."""

HEAVY = {
    "tensorflow",
    "keras",
    "tf_keras",
    "h5py",
    "PIL",
    "onnx",
    "tflite",
    "sklearn",
    "matplotlib",
    "rich",
    "ray",
    "pandas",
}
"""Packages that only functions import, so that `import edgecnn` never waits for them."""

CIMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(.+)|c?import[ \t]+(.+))$", re.MULTILINE)


def modules() -> list[Path]:
    folders = (ROOT / "edgecnn", ROOT / "converters")
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".pyx", ".pxd"))


def module_name(path: Path) -> str:
    """The name a file is imported by; `converters` is installed inside the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "edgecnn" else ("edgecnn", *parts)
    return ".".join(part for part in parts if part != "__init__")


def imported(source: str, module: str, package: bool, cython: bool) -> Iterator[str]:
    """Every name that a module imports, in full."""
    if cython:
        for origin, names, plain in CIMPORT.findall(source):
            for name in re.split(r"\s*,\s*", re.sub(r"#.*|[()\\]", "", names or plain).strip()):
                first = name.split()[0] if name.split() else ""
                yield ".".join(filter(None, (absolute(origin, module, package), first)))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute("." * node.level + (node.module or ""), module, package)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def absolute(origin: str, module: str, package: bool) -> str:
    """`origin` of a `from ... import` with its leading dots resolved."""
    dots = len(origin) - len(origin.lstrip("."))
    if not dots:
        return origin
    parts = module.split(".")
    parts = parts[: len(parts) - dots + (1 if package else 0)]
    return ".".join([*parts, *filter(None, [origin.lstrip(".")])])


def room(name: str) -> str | None:
    """The room of edgecnn that a full name lies in, None for other packages."""
    parts = name.split(".")
    if parts[0] != "edgecnn":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else PUBLIC


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    """First part of what is imported outside functions; what only type checkers see does not count."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]
        pending += ast.iter_child_nodes(node)


# The package itself gathers the public names of all rooms; tests/test_import.py holds it light.
@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path != ROOT / "edgecnn" / "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_room_imports_only_lower_floors_and_itself(path: Path) -> None:
    module = module_name(path)
    own = room(module)
    assert own is not None
    assert module.split(".")[1] in FLOORS, (
        f"{module} is in no room; give its folder a floor here and in ARCHITECTURE.md"
    )
    names = imported(path.read_text(encoding="utf-8"), module, path.stem == "__init__", path.suffix != ".py")
    wrong = [
        name for name in names if (other := room(name)) is not None and other != own and FLOORS[other] >= FLOORS[own]
    ]
    assert not wrong, f"{module} (floor {FLOORS[own]}) imports {wrong}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if path.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    found = HEAVY & set(top_level_imports(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, f"{path.name} imports {sorted(found)} when it is imported"


def test_every_room_has_modules_to_look_at() -> None:
    found = {room(module_name(path)) for path in modules()}
    assert {"errors", "graph", "format", "runtime", "tools", "converters", "cli"} <= found


def test_imports_of_python_modules_are_found_in_every_form() -> None:
    source = "import os, edgecnn.cli\nfrom edgecnn import graph as g\ndef f():\n    from ..tools import x\n"
    found = set(imported(source, "edgecnn.format.writer", package=False, cython=False))
    assert found == {"os", "edgecnn.cli", "edgecnn.graph", "edgecnn.tools.x"}
    assert {room(name) for name in found} == {None, "cli", "graph", "tools"}


def test_imports_of_cython_modules_are_found_in_every_form() -> None:
    source = "cimport cython\nfrom edgecnn.tools.x cimport a, b as c\nfrom . cimport y\n    import edgecnn.cli  # why\n"
    found = set(imported(source, "edgecnn.runtime.executor", package=False, cython=True))
    assert found == {"cython", "edgecnn.tools.x.a", "edgecnn.tools.x.b", "edgecnn.runtime.y", "edgecnn.cli"}


def test_imports_for_type_checkers_and_inside_functions_are_not_top_level() -> None:
    source = (
        "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c\ntry:\n    import d.e\nexcept E:\n    pass\n"
    )
    assert set(top_level_imports(ast.parse(source))) == {"a", "d"}
