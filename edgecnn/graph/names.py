"""Names of Keras layers that tell which node they stand for, and which source layers it computes.

Keras forbids "/" in a layer's name, PyTorch ".", and TensorFlow all that is no letter, digit, ".", "-", "_", or a ">" before a letter or
digit. So arrows do the work:

    stem>conv            the layer "stem/conv"
    conv->conv_bn        the layers "conv" and "conv_bn"; the node is called "conv"
    conv-->pad->conv     the layers "pad" and "conv"; the node is called "conv"
    conv>0_pad--         no layer of the model; the node is called "conv/0_pad"
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def layer_name(node: str, layers: Sequence[str], *, long: bool = False) -> str:
    """A name for the Keras layer that stands for a node and the source layers that it computes. What TensorFlow forbids becomes "_".

    Args:
        long: never the short form, which another layer may need.
    """
    own, rest = _plain(node), [_plain(layer) for layer in layers]
    if rest[:1] == [own] and not long:
        return "->".join(rest)
    return f"{own}--{'>' if rest else ''}{'->'.join(rest)}"


def node_and_layers(name: str) -> tuple[str, tuple[str, ...]]:
    """What a Keras layer's name tells: the node's name, and the source layers that it computes."""
    own, mark, rest = name.partition("-->")
    if not mark and name.endswith("--"):
        own, mark = name[:-2], "--"
    if mark and own:
        return _path(own), tuple(_path(layer) for layer in rest.split("->") if layer)
    parts = name.split("->")
    if not all(parts):
        return name, (name,)
    return _path(parts[0]), tuple(map(_path, parts))


def _plain(path: str) -> str:
    """As Keras and TensorFlow take it."""
    parts = (re.sub(r"[^A-Za-z0-9_.\-]", "_", part) for part in path.replace(">", "/").split("/"))
    # After ">" a letter or a digit must come, and "-" before it means something.
    return ">".join(re.sub(r"^[_.\-]+|-+$", "", part) or "x" for part in parts if part) or "x"


def _path(plain: str) -> str:
    return plain.replace(">", "/")
