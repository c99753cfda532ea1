"""What setup.py builds for, by what the interpreter says of itself."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

SETUP = Path(__file__).parents[1] / "setup.py"


def target(platform: str, pointer: int | None, soabi: str | None) -> str:
    """setup.py's `target`, in an interpreter that calls itself so."""
    tree = ast.parse(SETUP.read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "target")
    values = {"SIZEOF_VOID_P": pointer, "SOABI": soabi}
    sysconfig = SimpleNamespace(get_platform=lambda: platform, get_config_var=values.get)
    space: dict[str, object] = {"sysconfig": sysconfig, "os": os}
    exec(compile(ast.Module([function], []), str(SETUP), "exec"), space)
    result = space["target"]
    assert callable(result)
    return str(result())


@pytest.mark.parametrize(
    ("platform", "pointer", "soabi", "expected"),
    [
        ("linux-x86_64", 8, "cpython-311-x86_64-linux-gnu", "x86_64"),
        ("linux-aarch64", 8, "cpython-311-aarch64-linux-gnu", "aarch64"),
        ("linux-aarch64", 4, "cpython-311-arm-linux-gnueabihf", "arm"),  # 32-bit Raspberry Pi OS, 64-bit kernel
        ("linux-armv7l", 4, "cpython-311-arm-linux-gnueabihf", "arm"),
        ("linux-armv6l", 4, "cpython-311-arm-linux-gnueabihf", "arm"),
        ("linux-armv7l", 4, "cpython-311-arm-linux-gnueabi", "other"),  # floats pass in integer registers
        ("linux-i686", 4, "cpython-311-i386-linux-gnu", "other"),
        ("linux-riscv64", 8, "cpython-311-riscv64-linux-gnu", "riscv64"),
        ("macosx-11.0-arm64", 8, "cpython-311-darwin", "aarch64"),
        ("win-amd64", None, None, "x86_64"),
        ("win-arm64", None, None, "aarch64"),
    ],
)
def test_the_interpreter_tells_what_to_build_for(
    platform: str, pointer: int | None, soabi: str | None, expected: str
) -> None:
    assert target(platform, pointer, soabi) == expected
