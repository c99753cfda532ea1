"""The block for a bug report."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgecnn


def test_it_names_versions_cpu_and_instruction_sets() -> None:
    from edgecnn.runtime import cpu

    found = edgecnn.info()
    text = str(found)
    assert f"numpy             {np.__version__}" in text
    assert found.edgecnn == edgecnn.__version__
    assert list(found.instruction_sets) == [entry.name for entry in cpu.INSTRUCTION_SETS]
    assert found.instruction_sets[found.instruction_set]
    assert found.cpu
    assert repr(found) == text


def test_the_record_is_json() -> None:
    record = edgecnn.info().to_json()
    assert json.loads(json.dumps(record)) == record


def test_a_wrong_environment_is_told_and_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_ISA", "mmx")
    monkeypatch.setenv("EDGECNN_THREADS", "many")
    found = edgecnn.info()
    assert "EDGECNN_ISA=mmx: no such instruction set" in found.instruction_set
    assert "EDGECNN_THREADS" in str(found.threads)
    assert found.environment == {"EDGECNN_ISA": "mmx", "EDGECNN_THREADS": "many"}
