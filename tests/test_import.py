"""`import edgecnn` is light, and so are its commands until they have work to do."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig

import pytest

HEAVY = ("tensorflow", "keras", "tf_keras", "h5py", "PIL", "onnx", "tflite", "sklearn", "matplotlib", "ray", "pandas")

PRINT_HEAVY = f"import sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


def run(code: str) -> str:
    # -P: the working folder, which may be a checkout without the compiled modules, is no place to import from.
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import edgecnn",
        "import edgecnn.cli",
        "import edgecnn.training",
        "import edgecnn.accelerators.onnx, edgecnn.integrations.frames, edgecnn.integrations.ray",
        "import edgecnn; edgecnn.convert, edgecnn.info()",
        "import edgecnn.cli; edgecnn.cli.main(['info'])",
    ],
)
def test_importing_brings_no_heavy_package(statement: str) -> None:
    lines = run(f"{statement}\n{PRINT_HEAVY}").splitlines()
    assert json.loads(lines[-1]) == []


def test_a_python_without_its_lock_stays_without() -> None:
    """A module that does not say that it can do without would turn the lock on, with a warning."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has its lock")
    modules = "edgecnn.format.reader, edgecnn.runtime.executor, edgecnn.runtime.planner"
    code = f"import sys, warnings; warnings.simplefilter('error'); import {modules}; print(sys._is_gil_enabled())"
    assert run(code).split() == ["False"]


def test_every_public_name_is_there() -> None:
    import edgecnn

    assert {name: hasattr(edgecnn, name) for name in edgecnn.__all__} == dict.fromkeys(edgecnn.__all__, True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import edgecnn

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgecnn.nothing  # noqa: B018
