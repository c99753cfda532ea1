"""What a conversion did, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.converters.sources.description import ModelDescription
from edgecnn.errors import printable
from edgecnn.graph import Graph
from edgecnn.graph.names import node_and_layers


@dataclass(frozen=True)
class LayerOutcome:
    """What became of one source layer.

    Attributes:
        path, class_name: the layer.
        outcome: "conv", "in conv1" (part of the node of that name), "dropped" or "input".
    """

    path: str
    class_name: str
    outcome: str


@dataclass(frozen=True)
class Report:
    """The result of `convert`; `print(report)` is a readable table.

    Attributes:
        source, output: what was converted, and the file written.
        writer: what wrote the source ("Keras 3.1").
        layers: what became of every layer, in order.
        steps: nodes of the converted graph.
        parameters: values of all constants.
        size: bytes of the .ecnn file.
        source_size: bytes of the source, None for a model object.
        macs: multiply-accumulates for one image, None where a size is unknown.
        warnings: what the user should know.
    """

    source: str
    output: str
    writer: str
    layers: tuple[LayerOutcome, ...]
    steps: int
    parameters: int
    size: int
    source_size: int | None
    macs: int | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [tuple(map(printable, (row.path, row.class_name, row.outcome))) for row in self.layers]
        width = max([len(path) for path, _, _ in rows] + [5])
        kind = max([len(class_name) for _, class_name, _ in rows] + [5])
        lines = [f"{'layer':<{width}}  {'class':<{kind}}  becomes"]
        lines += [f"{path:<{width}}  {class_name:<{kind}}  {outcome}" for path, class_name, outcome in rows]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """A few lines without the layers."""
        before = "" if self.source_size is None else f" (source {self.source_size:,})"
        macs = "unknown until the input's size is" if self.macs is None else f"{self.macs:,}"
        lines = [
            f"{self.source} ({self.writer}) -> {self.output}",
            f"{len(self.layers)} layers -> {self.steps} steps, {self.parameters:,} parameters, {macs} MACs an image",
            f"{self.size:,} bytes{before}",
        ]
        return "\n".join(printable(line) for line in [*lines, *(f"warning: {text}" for text in self.warnings)])


def outcomes(description: ModelDescription, graph: Graph) -> tuple[LayerOutcome, ...]:
    """What became of every layer of a description in the final graph."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        for path in node.layers:
            own = node.name == path or node.name.startswith((f"{path}/", f"{path}:"))
            found.setdefault(path, []).append(node.operator if own else f"in {node.name}")
    rows = []
    for path, layer in description.walk():
        if layer.model is not None or (layer.inner is not None and layer.inner.model is not None):
            continue
        default = ["input" if layer.class_name == "InputLayer" else "dropped"]
        parts = [part for name in node_and_layers(path)[1] for part in found.get(name, ())]
        rows.append(LayerOutcome(path, layer.class_name, _joined(parts or default)))
    return tuple(rows)


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(parts))
