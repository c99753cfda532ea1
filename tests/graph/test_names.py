"""Names that carry a node and its layers through Keras, and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.graph.names import layer_name, node_and_layers

WORD = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.\-]*[A-Za-z0-9_.])?", fullmatch=True)
PATH = st.lists(WORD, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize(
    ("node", "layers", "name"),
    [
        ("conv", ("conv",), "conv"),
        ("stem/conv", ("stem/conv",), "stem>conv"),
        ("conv", ("conv", "conv_bn"), "conv->conv_bn"),
        ("conv", ("pad", "conv"), "conv-->pad->conv"),
        ("conv/0_pad", (), "conv>0_pad--"),
    ],
)
def test_names(node: str, layers: tuple[str, ...], name: str) -> None:
    assert layer_name(node, layers) == name
    assert node_and_layers(name) == (node, layers)


@given(PATH, st.lists(PATH, max_size=4, unique=True))
def test_every_node_comes_back(node: str, layers: list[str]) -> None:
    assert node_and_layers(layer_name(node, layers)) == (node, tuple(layers))


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_becomes_a_name_that_tensorflow_takes(node: str, layers: list[str]) -> None:
    name = layer_name(node, layers)
    assert name
    # tensorflow/core/framework/node_def_util.cc, IsValidNodeName
    assert re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_./-]*(>[A-Za-z0-9.][A-Za-z0-9_./-]*)*", f"{name}/x", re.ASCII)


@given(st.text(min_size=1))
def test_any_name_can_be_read(name: str) -> None:
    node, _ = node_and_layers(name)
    assert node


def test_a_name_of_one_s_own_stays() -> None:
    assert node_and_layers("->odd") == ("->odd", ("->odd",))
