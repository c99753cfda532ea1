"""Which weights go: normalised magnitudes, units of a pattern, and a threshold or the quantile that reaches a sparsity.

NumPy alone. A kernel is (..., input channels, output channels), as Keras has it; a mask has its shape and is True where a
weight stays.

Source: Han et al. 2015, arXiv 1506.02626 (magnitudes); Zhu & Gupta 2017, arXiv 1710.01878, section 3 (the schedule).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import InputError

Array = np.ndarray[Any, Any]

BLOCK = 16
"""Output channels in a block unless another number is given."""

BLOCKS = (4, 8, 16, 32)
NORMALISATIONS = ("rms", "max", None)
SCOPES = ("layer", "network")

CHOICES = 50
"""How often gradual pruning chooses masks anew; more brings no accuracy, and each takes a sort of all weights."""


@dataclass(frozen=True)
class Pattern:
    """What is zeroed together.

    Attributes:
        kind: "weight", "block", "n:m" or "channel".
        size: block: neighbouring output channels that share one position of the window and one input channel.
        keep, of: n:m: how many stay of so many consecutive input channels.
    """

    kind: str
    size: int = 1
    keep: int = 0
    of: int = 0

    def __str__(self) -> str:
        return {"block": f"block:{self.size}", "n:m": f"{self.keep}:{self.of}"}.get(self.kind, self.kind)


def parse_pattern(pattern: str | Pattern) -> Pattern:
    """The pattern that a text names.

    Args:
        pattern: "weight"; "block" (of 16) or "block:8" (4, 8, 16 or 32 output channels); "2:4" (2 of 4 consecutive input
            channels stay); "channel".

    Raises:
        InputError: it names none.
    """
    if isinstance(pattern, Pattern):
        return pattern
    if pattern in ("weight", "channel"):
        return Pattern(pattern)
    if found := re.fullmatch(r"block(?::(\d+))?", str(pattern)):
        size = int(found[1] or BLOCK)
        if size in BLOCKS:
            return Pattern("block", size)
    if (found := re.fullmatch(r"(\d+):(\d+)", str(pattern))) and 0 < int(found[1]) < int(found[2]):
        return Pattern("n:m", keep=int(found[1]), of=int(found[2]))
    raise InputError(
        f"pattern={pattern!r}: wanted weight, block, block:4, block:8, block:16, block:32, channel, or N:M such as 2:4"
    )


def normalised(kernel: Array, how: str | None) -> Array:
    """|w|, divided by its largest value ("max"), by its root mean square ("rms") or by nothing (None); float64.

    A kernel of zeros stays one.
    """
    magnitude = np.abs(kernel, dtype=np.float64)
    if how is None or not magnitude.size:
        return magnitude
    scale = magnitude.max() if how == "max" else np.sqrt(np.mean(np.square(magnitude)))
    return magnitude / scale if scale > 0 else magnitude


def unit_scores(magnitude: Array, pattern: Pattern) -> tuple[Array, Array]:
    """How much each unit of a kernel counts, and how many weights it has.

    Args:
        magnitude: from `normalised`, (..., input channels, output channels).
        pattern: any but "channel".

    Returns:
        The root mean square of each unit's weights, and its number of weights, both 1-D. A weight that "n:m" keeps
        whatever happens has an infinite score.
    """
    if pattern.kind == "weight":
        return magnitude.ravel(), np.ones(magnitude.size, np.int64)
    if pattern.kind == "block":
        starts = np.arange(0, magnitude.shape[-1], pattern.size)
        sizes = np.diff(np.append(starts, magnitude.shape[-1]))
        scores = np.sqrt(np.add.reduceat(np.square(magnitude), starts, axis=-1) / sizes)
        return scores.ravel(), np.broadcast_to(sizes, scores.shape).ravel()
    kept = _kept_of_each_group(magnitude, pattern)
    return np.where(kept, np.inf, magnitude).ravel(), np.ones(magnitude.size, np.int64)


def _kept_of_each_group(magnitude: Array, pattern: Pattern) -> Array:
    """True for the largest of each group of input channels; the last group may be shorter and keeps the same share."""
    kept = np.zeros(magnitude.shape, bool)
    channels = magnitude.shape[-2]
    whole = channels - channels % pattern.of
    for first, last, size in ((0, whole, pattern.of), (whole, channels, channels - whole)):
        if first == last:
            continue
        shape = (*magnitude.shape[:-2], (last - first) // size, size, magnitude.shape[-1])
        groups = magnitude[..., first:last, :].reshape(shape)
        stay = -(-size * pattern.keep // pattern.of)
        for i in range(size):
            # How many of a group come before this one: larger ones, and equal ones at earlier places.
            before = (groups[..., :i, :] >= groups[..., i : i + 1, :]).sum(axis=-2)
            before += (groups[..., i + 1 :, :] > groups[..., i : i + 1, :]).sum(axis=-2)
            kept[..., first + i : last : size, :] = before < stay
    return kept


def most_sparsity(pattern: Pattern, shapes: Sequence[tuple[int, ...]]) -> float:
    """The share of weights that "n:m" zeroes in kernels of these shapes, 0 to 1."""
    weights = zeros = 0
    for shape in shapes:
        channels = shape[-2]
        sizes = [min(pattern.of, channels - start) for start in range(0, channels, pattern.of)]
        others = int(np.prod(shape)) // channels
        weights += channels * others
        zeros += sum(size - -(-size * pattern.keep // pattern.of) for size in sizes) * others
    return zeros / weights if weights else 0.0


def expand(dropped: Array, shape: Sequence[int], pattern: Pattern) -> Array:
    """The mask of a kernel, True where a weight stays.

    Args:
        dropped: for each unit, in the order of `unit_scores`, whether it goes.
        shape: the kernel's.
    """
    if pattern.kind != "block":
        return ~dropped.reshape(shape)
    blocks = ~dropped.reshape(*shape[:-1], -(-shape[-1] // pattern.size))
    return np.repeat(blocks, pattern.size, axis=-1)[..., : shape[-1]]


def choose(
    scores: Sequence[Array],
    sizes: Sequence[Array],
    *,
    sparsity: float | None = None,
    threshold: float | None = None,
    scope: str = "layer",
) -> list[Array]:
    """Which units go, layer by layer.

    Args:
        scores, sizes: from `unit_scores`, an array a layer.
        sparsity: share of the weights to zero, from 0 to below 1; in each layer, or in all together.
        threshold: zero what scores less, in place of `sparsity`.
        scope: "layer" or "network": among what the quantile is taken.

    Returns:
        For each layer a boolean array, True for what goes. Equal scores go in the order of their places. Every layer
        keeps its best unit: without it, nothing would pass through the network.
    """
    held = []
    for layer in scores:
        layer = layer.astype(np.float64, copy=True)
        layer[np.argmax(layer)] = np.inf
        held.append(layer)
    if threshold is not None:
        return [layer < threshold for layer in held]
    wanted = sparsity or 0.0
    if scope == "layer":
        return [_smallest(layer, size, wanted) for layer, size in zip(held, sizes, strict=True)]
    together = _smallest(np.concatenate(held), np.concatenate(list(sizes)), wanted)
    return np.split(together, np.cumsum([len(layer) for layer in held])[:-1])


def _smallest(scores: Array, sizes: Array, share: float) -> Array:
    """True for the units of the smallest scores that together have about `share` of the weights."""
    if (
        sizes == sizes[0]
    ).all():  # no order is needed: a choice from a million single weights takes a few hundredths of a second
        # As below: all whose middle lies before the share.
        return _least(scores, math.ceil(share * len(scores) + 0.5) - 1)
    order = np.argsort(scores, kind="stable")
    amount = np.cumsum(sizes[order])
    # Between two numbers of units, the one that comes nearer.
    count = int(np.searchsorted(amount - sizes[order] / 2, share * amount[-1], side="left"))
    dropped = np.zeros(len(scores), bool)
    dropped[order[:count]] = True
    return dropped & np.isfinite(scores)


def _least(scores: Array, count: int) -> Array:
    """True for so many of the smallest scores; of equal ones for those that come first. Never for infinite ones."""
    count = min(count, len(scores))
    if count < 1:
        return np.zeros(len(scores), bool)
    last = np.partition(scores, count - 1)[count - 1]
    dropped: Array = scores < last
    equal = np.flatnonzero(scores == last)
    dropped[equal[: count - int(dropped.sum())]] = True
    finite: Array = np.isfinite(scores)
    return dropped & finite


@dataclass(frozen=True)
class Schedule:
    """When the masks are chosen, and how far pruning has got then.

    Attributes:
        begin: optimizer step after which they are chosen first; 0: before the first one.
        end: step after which the wanted sparsity is reached; equal to `begin`: one shot.
        frequency: steps from one choice to the next.
        initial: share of the wanted sparsity at `begin`, 0 to 1.
    """

    begin: int = 0
    end: int = 0
    frequency: int = 100
    initial: float = 0.0

    def __post_init__(self) -> None:
        for name in ("begin", "end", "frequency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise InputError(f"Schedule: {name}={value!r}: wanted a whole number of optimizer steps")
            object.__setattr__(self, name, operator.index(value))
        if isinstance(self.initial, bool) or not isinstance(self.initial, int | float | np.floating):
            raise InputError(f"Schedule: initial={self.initial!r}: wanted a share from 0 to 1")
        if self.begin < 0 or self.end < self.begin or self.frequency < 1 or not 0 <= self.initial <= 1:
            raise InputError(
                f"{self}: wanted 0 <= begin <= end (steps of the optimizer), frequency of 1 or more, initial from 0 to 1"
            )

    @classmethod
    def over(cls, steps: int) -> Schedule:
        """Gradual pruning over a run of so many steps: the whole sparsity after half of them."""
        end = max(1, steps // 2)
        return cls(0, end, max(1, end // CHOICES))

    def chosen(self, after: int, step: int) -> int | None:
        """The last step at which masks are chosen, later than `after` and up to `step`; None without one."""
        if self.end <= step:
            return self.end if after < self.end else None
        last = self.begin + (step - self.begin) // self.frequency * self.frequency
        return last if self.begin <= step and after < last else None

    def share(self, step: int) -> float:
        """How much of the wanted sparsity there is after a step: 0 before `begin`, then a cubic rise to 1 at `end`.

        Source: Zhu & Gupta 2017, equation 1.
        """
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return 1.0
        left = 1 - (step - self.begin) / (self.end - self.begin)
        return 1 + (self.initial - 1) * left**3
