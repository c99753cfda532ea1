"""The portable graph: tensors, nodes, the operator table, its naive meaning, and rewriting."""

from edgecnn.graph.graph import Constant, Graph, Node, Port, Quantization, ReleasableConstant, Tensor
from edgecnn.graph.operators import ACTIVATIONS, OPERATORS

__all__ = [
    "ACTIVATIONS",
    "OPERATORS",
    "Constant",
    "Graph",
    "Node",
    "Port",
    "Quantization",
    "ReleasableConstant",
    "Tensor",
]
