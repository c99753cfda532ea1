"""Names from files of strangers: no control character of theirs reaches a terminal, and data keep them as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.converters.report import LayerOutcome, Report
from edgecnn.errors import Error, ModelFileError, UnsupportedLayer, UnsupportedLayerError, printable
from edgecnn.format import encode
from edgecnn.graph import Graph, Port
from edgecnn.tools.inspect import inspect
from graph_strategies import GraphBuilder

NASTY = "red\x1b[31m\nnew\r\x07\u202eback\u2066\x9b\x00"
ESCAPED = r"red\x1b[31m\nnew\r\x07\u202eback\u2066\x9b\x00"


def named() -> Graph:
    """A dense layer, everything called by the same name."""
    builder = GraphBuilder()
    y = builder.add("dense", builder.input("x", 3), np.ones((3, 2), np.float32), name=NASTY, layers=(NASTY,))
    graph = builder.graph(y)
    return replace(
        graph,
        name=NASTY,
        inputs=(Port(NASTY, "x"),),
        outputs=(Port(NASTY, y),),
        metadata={"labels": [NASTY, NASTY], NASTY: NASTY},
    )


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def test_what_models_say_of_themselves_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "model.ecnn"
    path.write_bytes(encode(named()))
    model = edgecnn.load(path)
    for text in (repr(model), model.summary(), model.profile(runs=1).table(), str(inspect(path)), repr(model.inputs)):
        assert harmless(text)
        assert ESCAPED in text
    assert "\n" not in repr(model)
    assert model.name == model.inputs[0].name == NASTY
    assert model.labels == (NASTY, NASTY)
    assert json.loads(json.dumps(inspect(path).to_json()))["inputs"][0]["name"] == NASTY


def test_what_errors_say_is_harmless(tmp_path: Path) -> None:
    model = edgecnn.load(named())
    with pytest.raises(edgecnn.InputError) as caught:
        model(np.zeros((1, 4), np.float32))
    assert harmless(str(caught.value))
    assert ESCAPED in str(caught.value)
    for error in (Error(f"node {NASTY}"), ModelFileError(f"{NASTY}: no such file")):
        assert harmless(str(error))
    error = UnsupportedLayerError("model.h5", [UnsupportedLayer(NASTY, NASTY, f"it is {NASTY}", "leave it out")])
    assert harmless(str(error))
    assert str(error).count("\n") == 1
    assert error.items[0].path == NASTY


def test_what_a_conversion_says_is_harmless() -> None:
    rows = (LayerOutcome(NASTY, NASTY, f"in {NASTY}"),)
    report = Report(NASTY, NASTY, NASTY, rows, 1, 1, 1, None, None, (NASTY,))
    assert harmless(str(report))
    assert str(report).count("\n") == 1 + 1 + 4
    assert report.to_json()["layers"][0]["path"] == NASTY


def test_letters_of_all_scripts_stay() -> None:
    for text in ("größe/conv", "слой", "層_1", "طبقة", "👍", "a b"):
        assert printable(text) == text
