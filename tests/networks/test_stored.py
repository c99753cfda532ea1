"""Small networks, and MobileNetV2, against what Keras answered once in float64: for machines where Keras cannot be installed.

What is computed also goes to the folder that EDGECNN_ANSWERS names, so that machines can be compared.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgecnn
import stored_networks
from edgecnn.runtime import cpu

TOLERANCE = 2e-5


@pytest.mark.parametrize("name", stored_networks.names())
def test_a_stored_network_answers_as_keras_did(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    source, converted = tmp_path / "model.h5", tmp_path / "model.ecnn"
    stored_networks.write_h5(name, source)
    edgecnn.convert(source, converted)
    expected, x = stored_networks.answer(name), stored_networks.image(name)
    sets = cpu.supported()[:1] if name in stored_networks.LARGE else cpu.supported()
    for isa in sets:
        model = edgecnn.Model(edgecnn.load(converted).graph, threads=1, isa=isa.name)
        found = model(x)
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max(), isa.name
        again = edgecnn.Model(edgecnn.load(converted).graph, threads=2, isa=isa.name)(x)
        assert again.tobytes() == found.tobytes(), isa.name
    folder = os.environ.get("EDGECNN_ANSWERS")
    if folder:
        digest = hashlib.sha256(converted.read_bytes()).hexdigest()
        label = os.environ.get("EDGECNN_CPU", platform.machine())
        best = edgecnn.load(converted, threads=1)(x)
        np.savez(Path(folder, f"{name}.{label}.npz"), answer=best, sha256=digest)


MEASURE = """
import sys
import edgecnn

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

what, small, source = sys.argv[1:]
work = {
    "load": edgecnn.load,
    "map": lambda path: edgecnn.load(path, mmap=True),
    "convert": lambda path: edgecnn.convert(path, path + ".again.ecnn"),
}[what]
work(small)  # what every first use takes
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak counts from here on
before = status("VmRSS")
result = work(source)
print(status("VmHWM") - before)
"""


def peak(what: str, small: Path, source: Path) -> int:
    """Bytes that a process of its own takes at most for loading or converting a file, having done so with a small one."""
    command = [sys.executable, "-P", "-c", MEASURE, what, str(small), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_loading_takes_little_more_than_weights_and_arena(tmp_path: Path) -> None:
    """A board of 512 MB has room for the weights once, not for the file, a copy and their packed form at the same time."""
    pytest.importorskip("h5py")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not tell a process its peak memory")
    if "EDGECNN_PYTHON" in os.environ:
        pytest.skip("what an emulator takes is not what its program takes")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer takes memory of its own")
    files = {name: tmp_path / f"{name}.h5" for name in ("plain", "mobilenet_v2")}
    for name, path in files.items():
        stored_networks.write_h5(name, path)
        edgecnn.convert(path, path.with_suffix(".ecnn"))
    small, large = (path.with_suffix(".ecnn") for path in files.values())
    memory = edgecnn.load(large).memory
    # Most of it is packed, and then not kept as it lay in the file; what is not packed is.
    assert peak("load", small, large) <= 1.3 * (memory.file + memory.arena)
    assert peak("map", small, large) <= 1.3 * (memory.weights + memory.arena)
    # 2.55 to 2.63, by the version of h5py.
    assert peak("convert", *files.values()) <= 2.8 * memory.file
