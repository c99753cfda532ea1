"""Small networks, and MobileNetV2, against what Keras answered once in float64: for machines where Keras cannot be installed.

What is computed also goes to the folder that EDGECNN_ANSWERS names, so that machines can be compared.
"""

from __future__ import annotations

import hashlib
import os
import platform
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
