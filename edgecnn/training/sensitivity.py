"""What each layer can bear: accuracy when it alone is pruned."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.errors import InputError
from edgecnn.tools.text import table
from edgecnn.training.keras_models import (
    accuracy_of,
    batches,
    check_compiled,
    check_data,
    check_model,
    evaluate,
    to_array,
)
from edgecnn.training.masks import Pattern, parse_pattern
from edgecnn.training.pruner import Pruner, prunable_layers, settings

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Sensitivity:
    """Accuracy with one layer pruned, nothing fine-tuned.

    Attributes:
        measure: "accuracy", or "loss" for a model without one.
        base: of the model as it is.
        sparsities: that were tried.
        layers: for each layer, the measure at each sparsity.
    """

    measure: str
    base: float
    sparsities: tuple[float, ...]
    layers: dict[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw a line for each layer into a picture (.png, .svg, .pdf)."""
        from edgecnn.training.plots import figure, save

        drawn = figure()
        axes = drawn.subplots()
        for name, values in self.layers.items():
            axes.plot((0, *self.sparsities), (self.base, *values), marker="o", label=name)
        axes.set_xlabel("sparsity of this layer alone")
        axes.set_ylabel(self.measure)
        axes.legend(fontsize="small")
        save(drawn, path)

    def __str__(self) -> str:
        head = ("layer", *(f"{100 * sparsity:g} %" for sparsity in self.sparsities))
        rows = [(name, *(f"{value:.4f}" for value in values)) for name, values in self.layers.items()]
        return f"{self.measure} {self.base:.4f}; with one layer pruned:\n" + table(
            head, rows, "l" + "r" * len(self.sparsities)
        )


def sensitivity(
    model: Any,
    data: Any,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    pattern: str | Pattern = "block",
    layers: Sequence[str] | None = None,
    batch_size: int = 256,
    progress: Callable[[str], None] = lambda text: None,
) -> Sensitivity:
    """Prune each layer by itself, and measure without fine-tuning.

    Args:
        model: a compiled Keras model; it is as before when this returns.
        data: to measure on, as for `prune`.
        sparsities: to try, each from 0 to below 1.
        pattern: "weight" or "block"; see `prune`.
        layers: see `prunable_layers`.
        batch_size: images in a batch, for arrays.
        progress: is told what is being done.

    Raises:
        InputError: as for `prune`; a pattern that is not of single layers or has a sparsity of its own.

    Source: Han et al. 2015, arXiv 1506.02626, section 4.3 and figure 6.
    """
    if parse_pattern(pattern).kind not in ("weight", "block"):
        raise InputError(f"pattern={str(pattern)!r}: single layers are pruned by weight or block")
    if not sparsities:
        raise InputError("sparsities: there are none")
    for sparsity in sparsities:
        settings(sparsity, pattern)
    check_model(model)
    check_compiled(model, "sensitivity")
    given = batches(data, batch_size)
    check_data(model, given, "data")
    chosen = prunable_layers(model, layers)

    def measured() -> tuple[str, float]:
        metrics = evaluate(model, given)
        accuracy = accuracy_of(metrics)
        return ("loss", metrics["loss"]) if accuracy is None else ("accuracy", accuracy)

    measure, base = measured()
    found: dict[str, tuple[float, ...]] = {}
    for number, layer in enumerate(chosen):
        progress(f"layer {number + 1} of {len(chosen)}: {layer.name}")
        kept = [to_array(variable) for variable in layer.weights]
        values = []
        try:
            for sparsity in sparsities:
                pruner = Pruner(model, settings(sparsity, pattern, layers=[layer.name]))
                pruner.zero(pruner.choose(1.0))
                values.append(measured()[1])
                _restore(layer, kept)
        finally:
            _restore(layer, kept)
        found[layer.name] = tuple(values)
    return Sensitivity(measure, base, tuple(sparsities), found)


def _restore(layer: Any, kept: Sequence[Any]) -> None:
    for variable, array in zip(layer.weights, kept, strict=True):
        variable.assign(array)
