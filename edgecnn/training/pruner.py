"""Which weights of a model go, and that they stay gone: `Pruner` chooses masks and holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np

from edgecnn.errors import InputError
from edgecnn.training.channels import CONVOLUTIONS, DEPTHWISE, SEPARABLE, ChannelUnits, kernel_of
from edgecnn.training.holding import Held, hold, is_held
from edgecnn.training.keras_models import check_model, is_real, single_layers, to_array
from edgecnn.training.masks import (
    NORMALISATIONS,
    SCOPES,
    Pattern,
    choose,
    expand,
    most_sparsity,
    normalised,
    parse_pattern,
    unit_scores,
)

Array = np.ndarray[Any, Any]

SPARSITY = 0.8
"""Wanted where nothing is said."""


@dataclass(frozen=True)
class Settings:
    """What is pruned, and how far.

    Attributes:
        sparsity: share of the weights to zero; or names, and patterns of names, of layers with the share of each, the first that
            fits counts; None for a threshold, and for "n:m", which has its own.
        threshold: normalised magnitude below which a unit goes; None for a sparsity.
        pattern, normalise, scope: see `prune`.
        layers: names, or patterns of names such as "block_*"; None: all that is pruned by default.
    """

    sparsity: float | tuple[tuple[str, float], ...] | None
    threshold: float | None
    pattern: Pattern
    normalise: str | None
    scope: str
    layers: tuple[str, ...] | None


def settings(
    sparsity: float | Mapping[str, float] | None = None,
    pattern: str | Pattern = "block",
    *,
    threshold: float | None = None,
    normalise: str | None = "rms",
    scope: str = "layer",
    layers: Sequence[str] | None = None,
) -> Settings:
    """Checked settings; see `prune` for the arguments.

    Raises:
        InputError: one of them is out of range.
    """
    parsed = parse_pattern(pattern)
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise={normalise!r}: wanted 'rms', 'max' or None")
    if scope not in SCOPES:
        raise InputError(f"scope={scope!r}: wanted 'layer' or 'network'")
    if isinstance(layers, str):
        layers = (layers,)
    if sparsity is not None and threshold is not None:
        raise InputError("sparsity and threshold: give one of them; each decides by itself what goes")
    chosen: float | tuple[tuple[str, float], ...] | None
    chosen = tuple(sparsity.items()) if isinstance(sparsity, Mapping) else sparsity
    for value in [value for _, value in chosen] if isinstance(chosen, tuple) else [] if chosen is None else [chosen]:
        if is_real(value) and 0 <= value < 1:
            continue
        raise InputError(
            f"sparsity={sparsity!r}: wanted a share of the weights from 0 to below 1 (0.8 zeroes four of five); "
            "a network of zeros answers nothing"
        )
    if threshold is not None and not (is_real(threshold) and threshold >= 0):
        raise InputError(f"threshold={threshold!r}: wanted a normalised magnitude of 0 or more")
    if isinstance(chosen, tuple):
        if not chosen or not all(isinstance(name, str) for name, _ in chosen):
            raise InputError(f"sparsity={sparsity!r}: wanted names of layers and a share for each")
        if layers is not None or scope != "layer" or parsed.kind not in ("weight", "block"):
            raise InputError(
                "sparsity by layers: its names are the layers, each has its own share (scope='layer'), and weights or blocks "
                "go; leave layers, scope and other patterns out"
            )
        layers = tuple(name for name, _ in chosen)
    elif parsed.kind == "n:m":
        own = 1 - parsed.keep / parsed.of
        if threshold is not None or (chosen is not None and not math.isclose(chosen, own, abs_tol=1e-6)):
            raise InputError(f"pattern {parsed} has a sparsity of its own, {own:.4g}: leave sparsity and threshold out")
        chosen = None
    elif chosen is None and threshold is None:
        chosen = SPARSITY
    return Settings(chosen, threshold, parsed, normalise, scope, None if layers is None else tuple(layers))


def prunable_layers(model: Any, layers: Sequence[str] | None = None) -> list[Any]:
    """Layers whose kernels are pruned, in the model's order.

    Args:
        layers: names, or patterns of names such as "block_*". None: convolutions of one to three axes, the pointwise part
            of separable ones, and dense layers; but not the first convolution, which is small and sees the image, and
            not depthwise ones, which hold few weights, nor frozen ones, nor those with LoRA weights. Biases and batch normalisation are never chosen.

    Raises:
        InputError: a name that no layer has, or that of a layer without kernel; nothing to prune.
    """
    candidates = [layer for layer in single_layers(model) if kernel_of(layer) is not None]
    adapted = [layer for layer in candidates if getattr(layer, "lora_enabled", False)]
    candidates = [layer for layer in candidates if layer not in adapted]
    if layers is None:
        convolutions = [layer for layer in candidates if type(layer).__name__ in (*CONVOLUTIONS, *SEPARABLE)]
        chosen = [
            layer
            for layer in candidates
            if type(layer).__name__ not in DEPTHWISE
            and not (convolutions and layer is convolutions[0])
            and kernel_of(layer).trainable
        ]
    else:
        unknown = [name for name in layers if not any(fnmatchcase(layer.name, name) for layer in candidates)]
        if unknown:
            names = ", ".join(layer.name for layer in candidates) or "none"
            if any(fnmatchcase(layer.name, name) for layer in adapted for name in unknown):
                raise InputError(
                    f"layers: {unknown} have LoRA weights beside their kernels, which would fill zeros again; prune first, and call "
                    "enable_lora after that"
                )
            raise InputError(f"layers: {unknown} name no layer with a kernel in model {model.name!r}; it has: {names}")
        chosen = [layer for layer in candidates if any(fnmatchcase(layer.name, name) for name in layers)]
    if not chosen and adapted:
        raise InputError(
            f"model {model.name!r} has nothing to prune: {', '.join(repr(layer.name) for layer in adapted)} have LoRA weights beside "
            "their kernels, which would fill zeros again; prune first, and call enable_lora after that"
        )
    if not chosen:
        raise InputError(
            f"model {model.name!r} has nothing to prune: no convolution after the first one and no dense layer; "
            "name layers with layers=... to prune others"
        )
    return chosen


class Units(Protocol):
    """What is zeroed together, in sets among which a layer's quantile is taken."""

    def __len__(self) -> int: ...

    def layers(self) -> list[Any]:
        """Layers that lose weights."""

    def scores(self) -> tuple[list[Array], list[Array]]:
        """For each set, how much its units count, and how many weights they have."""

    def masks(self, dropped: list[Array]) -> list[tuple[Any, Array]]:
        """Variables and their masks, True where a value stays."""


class KernelUnits:
    """Units inside single kernels: weights, blocks, n:m."""

    def __init__(self, layers: Sequence[Any], pattern: Pattern, normalise: str | None) -> None:
        self._layers, self.pattern, self.normalise = list(layers), pattern, normalise
        self.kernels = [kernel_of(layer) for layer in layers]
        # A depthwise kernel (..., channels, multiplier) has its outputs on two axes, and one input for each.
        self.shapes = [
            (*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1])
            if type(layer).__name__ in DEPTHWISE
            else tuple(kernel.shape)
            for layer, kernel in zip(layers, self.kernels, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.kernels)

    def layers(self) -> list[Any]:
        return self._layers

    def scores(self) -> tuple[list[Array], list[Array]]:
        found = [
            unit_scores(normalised(to_array(kernel).reshape(shape), self.normalise), self.pattern)
            for kernel, shape in zip(self.kernels, self.shapes, strict=True)
        ]
        return [scores for scores, _ in found], [sizes for _, sizes in found]

    def masks(self, dropped: list[Array]) -> list[tuple[Any, Array]]:
        return [
            (kernel, expand(drop, shape, self.pattern).reshape(tuple(kernel.shape)))
            for kernel, shape, drop in zip(self.kernels, self.shapes, dropped, strict=True)
        ]


class Pruner:
    """Chooses masks and holds them on a model's variables.

    Args:
        model: a built model of Keras.
        chosen: what is pruned, and how far.

    Attributes:
        dropped: for each set of units, which are gone; empty before the first choice.

    Raises:
        InputError: the model has nothing to prune in this way.
    """

    def __init__(self, model: Any, chosen: Settings) -> None:
        check_model(model)
        self.model, self.settings = model, chosen
        layers = prunable_layers(model, chosen.layers)
        self.units: Units
        if chosen.pattern.kind == "channel":
            self.units = ChannelUnits(model, layers, chosen.normalise)
        else:
            self.units = KernelUnits(layers, chosen.pattern, chosen.normalise)
        if not len(self.units):
            raise InputError(
                f"model {model.name!r} has nothing to prune by whole channels: those of layers "
                f"{[layer.name for layer in layers]} reach an output, a layer that is left out, or one whose channels "
                "cannot be followed; use another pattern or name more layers"
            )
        self.dropped: list[Array] = []
        self._held: list[Held] = []

    def choose(self, share: float) -> list[Array]:
        """Which units go at a share of what is wanted in the end, 0 to 1. What has gone stays gone."""
        scores, sizes = self.units.scores()
        for layer, drop in zip(scores, self.dropped, strict=False):
            layer[drop] = -1.0
        wanted, threshold = self.settings.sparsity, self.settings.threshold
        if threshold is not None:
            return choose(scores, sizes, threshold=share * threshold)
        if wanted is None:
            shapes = self.units.shapes if isinstance(self.units, KernelUnits) else []
            # The whole pattern is all that has a finite score.
            wanted = most_sparsity(self.settings.pattern, shapes) if share < 1 else 1.0
        if isinstance(wanted, tuple):
            own = [
                next(value for name, value in wanted if fnmatchcase(layer.name, name)) for layer in self.units.layers()
            ]
            return [
                choose([score], [size], sparsity=share * value)[0]
                for score, size, value in zip(scores, sizes, own, strict=True)
            ]
        return choose(scores, sizes, sparsity=share * wanted, scope=self.settings.scope)

    def sparsity(self) -> float:
        """Share of the weights that can go which the masks hold at zero now."""
        if not self.dropped:
            return 0.0
        sizes = self.units.scores()[1]
        gone = sum(int(size[drop].sum()) for size, drop in zip(sizes, self.dropped, strict=True))
        return gone / sum(int(size.sum()) for size in sizes)

    def zero(self, dropped: list[Array]) -> None:
        """Zero units once; nothing holds them there."""
        for variable, mask in self.units.masks(dropped):
            if not mask.all():
                variable.assign(np.where(mask, to_array(variable), 0))

    def hold(self, dropped: list[Array]) -> None:
        """Hold these units at zero from now on, until `release`, and all others no longer."""
        self.attach()
        self.dropped = dropped
        masks = {id(variable): mask for variable, mask in self.units.masks(dropped)}
        for held in self._held:
            held.mask.assign(masks[id(held.variable)])
        self.apply()

    def attach(self) -> None:
        """Have the model's variables held, so far at nothing. A training step compiled after this obeys the masks."""
        if self._held and all(is_held(held.variable, held) for held in self._held):
            return
        nothing = [np.zeros(len(scores), bool) for scores in self.units.scores()[0]]
        self._held = hold(self.model, [variable for variable, _ in self.units.masks(nothing)])

    def apply(self) -> None:
        """Zero what the masks hold, where no optimizer of Keras did."""
        for held in self._held:
            held.apply()

    def masks(self) -> dict[str, Array]:
        """By the path of their variables, True where a value stays."""
        return {variable.path: mask for variable, mask in self.units.masks(self.dropped)} if self.dropped else {}
