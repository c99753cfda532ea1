"""Making trained Keras models cheaper, so that edgecnn runs them faster. Needs Keras 3: `pip install "edgecnn[train]"`.

pruning.py       prune(), the callback Pruning
masks.py         which weights go: normalisation, patterns, quantiles, the schedule; NumPy alone
channels.py      groups of channels that can go, and their removal from a model
keras_models.py  walking and rebuilding Keras models; data; statistics of batch normalisation
plots.py         pictures
"""

from __future__ import annotations

from typing import Any

from edgecnn.training.channels import remove_channels
from edgecnn.training.keras_models import refresh_statistics
from edgecnn.training.masks import Pattern, Schedule, parse_pattern
from edgecnn.training.pruning import (
    LayerSparsity,
    PruningReport,
    layer_sparsity,
    prunable_layers,
    prune,
    pruning_class,
)

__all__ = [
    "LayerSparsity",
    "Pattern",
    "Pruning",
    "PruningReport",
    "Schedule",
    "layer_sparsity",
    "parse_pattern",
    "prunable_layers",
    "prune",
    "refresh_statistics",
    "remove_channels",
]


def __getattr__(name: str) -> Any:
    # The class needs Keras, which importing this package must not load.
    if name == "Pruning":
        return pruning_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
