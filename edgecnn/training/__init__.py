"""Making trained Keras models cheaper, so that edgecnn runs them faster. Needs Keras 3: `pip install "edgecnn[train]"`.

pruning.py       prune() and its report
callback.py      the callback Pruning, and those beside it
pruner.py        which weights of a model go; holding.py: the constraints that keep them zero
masks.py         which weights go: normalisation, patterns, quantiles, the schedule; NumPy alone
sensitivity.py   what each layer can bear
explore.py       all of it tried and measured: the Pareto front
distillation.py  what a pruned model learns from the one it was
structure.py     separable(), average_pooling(), batch_normalization(), activation()
channels.py      groups of channels that can go, and their removal from a model
keras_models.py  walking and rebuilding Keras models; data; statistics of batch normalisation
files.py         from file to file, with accuracy, bytes and milliseconds: `edgecnn prune`
plots.py         pictures
"""

from __future__ import annotations

from typing import Any

from edgecnn.training.callback import pruning_class
from edgecnn.training.channels import remove_channels
from edgecnn.training.distillation import distillation
from edgecnn.training.explore import Candidate, Exploration, explore
from edgecnn.training.holding import release
from edgecnn.training.keras_models import clone, refresh_statistics
from edgecnn.training.masks import Pattern, Schedule, parse_pattern
from edgecnn.training.pruner import prunable_layers
from edgecnn.training.pruning import LayerSparsity, PruningReport, layer_sparsity, prune
from edgecnn.training.sensitivity import Sensitivity, sensitivity
from edgecnn.training.structure import activation, average_pooling, batch_normalization, separable

__all__ = [
    "Candidate",
    "Exploration",
    "LayerSparsity",
    "Pattern",
    "Pruning",
    "PruningReport",
    "Schedule",
    "Sensitivity",
    "activation",
    "average_pooling",
    "batch_normalization",
    "clone",
    "distillation",
    "explore",
    "layer_sparsity",
    "parse_pattern",
    "prunable_layers",
    "prune",
    "refresh_statistics",
    "release",
    "remove_channels",
    "sensitivity",
    "separable",
]


def __getattr__(name: str) -> Any:
    # The class needs Keras, which importing this package must not load.
    if name == "Pruning":
        return pruning_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
