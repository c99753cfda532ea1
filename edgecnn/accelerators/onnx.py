"""A graph as a standard ONNX model, which ONNX Runtime and others execute with the same answers.

`tools/onnx.py` writes our own operators, to be looked at; here every one is expressed in ONNX' operators.
"""

from __future__ import annotations

import json
import os
from typing import Any

from edgecnn import format as file_format
from edgecnn.accelerators.onnx_builder import Inexpressible, OnnxBuilder, plain
from edgecnn.accelerators.onnx_operators import EMITTERS
from edgecnn.errors import ConversionError, InputError
from edgecnn.files import check_free, suffix_of, write_file
from edgecnn.graph import Graph
from edgecnn.version import __version__

MOST_BYTES = 2_000_000_000
"""Of weights: protocol buffers hold no more than two gigabytes."""
OPSET = 17
"""Of 2022: the first with LayerNormalization; engines of every later year read it."""
IR_VERSION = 8


def write_onnx(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | Graph,
    path: str | os.PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write a model as a standard ONNX file.

    Inputs and outputs keep their names and shapes, channels last; the batch is "N", other open sizes have names of their own.
    Inside, images are channels first, as ONNX wants them. Weights are float32. Metadata are kept as JSON.

    Args:
        source: path of an .ecnn file, its bytes, or a graph.
        path: ends with .onnx.
        overwrite: whether an existing file may be replaced.

    Raises:
        ModelFileError: the source cannot be read.
        ConversionError: nodes have no form in ONNX; all are named.
        InputError: another suffix, the file exists, or weights of more than 2 GB.
        MissingPackageError: onnx is not installed.
        DataFileError: it cannot be written.
    """
    suffix_of(path, (".onnx",), "an ONNX model")
    check_free(path, overwrite)
    if isinstance(source, Graph):
        model = to_onnx(source)
    else:
        with file_format.reading(source) as graph:
            model = to_onnx(graph)
    write_file(path, model.SerializeToString())


def to_onnx(graph: Graph) -> Any:
    """The graph as an onnx.ModelProto; see `write_onnx`."""
    builder = OnnxBuilder(graph)
    from onnx import TensorProto, helper

    total = sum(4 * constant.array.size for constant in graph.constants.values())
    if total > MOST_BYTES:
        raise InputError(
            f"{total:,} bytes of weights: an ONNX file without others beside it holds no more than {MOST_BYTES:,}"
        )
    both = {port.name for port in graph.inputs} & {port.name for port in graph.outputs}
    if both:
        raise InputError(f"{sorted(both)[0]!r} is the name of an input and of an output, which ONNX does not allow")
    problems: list[str] = []
    for node in graph.nodes:
        builder.begin(node)
        try:
            EMITTERS[node.operator](builder, node)
        except Inexpressible as error:
            problems.append(f"  {node.name} ({node.operator}): {error}")
            for name in node.outputs:  # stands in, so that all others are looked at too
                builder.give(name, plain(builder.rank(name)), name)
    if problems:
        nodes = f"{len(problems)} node{'s have' if len(problems) > 1 else ' has'}"
        raise ConversionError(
            "\n".join([f"{graph.name}: {nodes} no form in ONNX; convert with --input-shape:", *problems])
        )
    builder.finish()

    def public(name: str, tensor: str) -> Any:
        sizes = enumerate(graph.shape(tensor))
        shape = ["N" if axis == 0 else f"{name}_{axis}" if size is None else size for axis, size in sizes]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    body = helper.make_graph(
        builder.nodes,
        graph.name or "model",
        [public(port.name, port.tensor) for port in graph.inputs],
        [public(port.name, port.tensor) for port in graph.outputs],
        list(builder.initializers.values()),
    )
    model = helper.make_model(
        body,
        producer_name="edgecnn",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, {key: json.dumps(value) for key, value in graph.metadata.items()})
    return model
