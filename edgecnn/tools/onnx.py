"""A graph as an ONNX file for Netron and its like: every operator, attribute, shape and weight of it, to be looked at.

The operators are edgecnn's own (channels last, activations inside), in a domain of their own: the file is valid ONNX, and no
runtime executes it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from edgecnn.errors import InputError, MissingPackageError
from edgecnn.files import suffix_of, write_file
from edgecnn.graph import OPERATORS, Graph
from edgecnn.version import __version__

DOMAIN = "edgecnn"
MOST_BYTES = 2_000_000_000
"""Of weights: protocol buffers hold no more than two gigabytes."""
OPSET = 17


def write_onnx(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph.

    Raises:
        InputError: another suffix than .onnx; weights of more than 2 GB.
        MissingPackageError: onnx is not installed.
        DataFileError: it cannot be written.
    """
    suffix_of(path, (".onnx",), "an ONNX graph")
    write_file(path, to_onnx(graph).SerializeToString())


def to_onnx(graph: Graph) -> Any:
    """The graph as an onnx.ModelProto.

    Raises:
        InputError: weights of more than 2 GB.
        MissingPackageError: onnx is not installed.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingPackageError('writing ONNX needs onnx: pip install "edgecnn[onnx]"') from error
    total = sum(constant.nbytes for constant in graph.constants.values())
    if total > MOST_BYTES:
        raise InputError(
            f"{total:,} bytes of weights: an ONNX file without others beside it holds no more than {MOST_BYTES:,}"
        )

    def value(name: str) -> Any:
        shape = ["N" if i == 0 else size for i, size in enumerate(graph.shape(name))]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = []
    for node in graph.nodes:
        attributes = {key: _attribute(given) for key, given in node.attributes.items()}
        made = helper.make_node(
            node.operator,
            list(node.inputs),
            list(node.outputs),
            name=node.name,
            domain=DOMAIN,
            doc_string=f"{OPERATORS[node.operator].summary}\ncomputes the layers {', '.join(node.layers)}",
        )
        # Empty lists have no type of their own: what says nothing is left out.
        made.attribute.extend(helper.make_attribute(key, given) for key, given in attributes.items() if given != [])
        nodes.append(made)
    outputs = [value(port.tensor) for port in graph.outputs]
    body = helper.make_graph(
        nodes,
        graph.name or "model",
        [value(port.tensor) for port in graph.inputs],
        outputs,
        [numpy_helper.from_array(np.asarray(c.array), name) for name, c in graph.constants.items()],
        value_info=[value(name) for node in graph.nodes for name in node.outputs],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(
        body, producer_name="edgecnn", producer_version=__version__, opset_imports=opsets, ir_version=8
    )


def _attribute(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
