"""A layer, or a whole model, on each frame of a tensor alone: what TimeDistributed asks for.

Frames lie along the first axis after the batch. A layer's function sees tensors of one frame and builds with a `Frames`, which builds
each operator for all frames at once: a window gets an axis more, along which it sees one frame; what names axes names the next ones;
what works along the last axis stays as it is. So weights are stored, packed and used once for all frames. Operators that know
images of one rank only (`SINGLE`) are built for each frame, and their results are joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder, Operand
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.errors import GraphError
from edgecnn.graph import Tensor
from edgecnn.graph.operators import LIMIT

_ONE_MORE: Mapping[str, tuple[Any, ...]] = {
    # Attributes with an entry (pads: two) for each axis, and the entries of the axis of frames.
    "strides": (1,),
    "dilations": (1,),
    "pool_size": (1,),
    "pads": (0, 0),
    "output_padding": (0,),
    "starts": (0,),
    "stops": (LIMIT,),
    "steps": (1,),
}
_WINDOWS = {"conv": 2, "conv_transpose": 2, "depthwise_conv": 1, "max_pool": 2, "average_pool": 2}
"""Operators with windows, and of how many axes they may be for one frame."""
SINGLE = ("resize", "group_normalization", "local_response_normalization")
"""Operators of which each frame needs one of its own: they work on images, or take their statistics from all of one."""
MOST_FRAMES = 1024
"""Frames that are computed one by one: each is a node of the graph."""


class Frames(Builder):
    """Builds operators for all frames of tensors.

    Args:
        outer: builds what comes out; it may be a `Frames` itself.
    """

    def __init__(self, outer: Builder) -> None:
        super().__init__()
        self.outer = outer
        self.wholes: dict[int, tuple[Tensor, Tensor]] = {}
        self.of_frames: dict[str, Tensor] = {}

    def frame(self, whole: Tensor) -> Tensor:
        """One frame of a tensor (N, frames, ...), as a layer's function sees it: (N, ...); the same one each time."""
        if len(whole.shape) < 3:
            raise Unsupported(f"its input {whole.shape} has no frames of one axis at least", "give it (frames, ...)")
        if (known := self.of_frames.get(whole.name)) is not None and self.wholes[id(known)][1] is whole:
            return known
        frame = Tensor(f"a frame of {whole.name}", (None, *whole.shape[2:]))
        self.wholes[id(frame)] = (frame, whole)
        self.of_frames[whole.name] = frame
        return frame

    def whole(self, frame: Tensor) -> Tensor:
        """All frames of a tensor that a layer's function has made, or got."""
        return self.wholes[id(frame)][1]

    def __call__(self, operator: str, *inputs: Operand, **attributes: Any) -> Tensor:
        values = [self.whole(x) if isinstance(x, Tensor) else x for x in inputs]
        rank = next((len(x.shape) for x in inputs if isinstance(x, Tensor)), 0)
        if not rank:
            raise GraphError(f"{operator}: has no inputs that are tensors")
        if operator in SINGLE or rank - 2 > _WINDOWS.get(operator, rank):
            return self.frame(self._one_by_one(operator, values, attributes))
        if operator in _WINDOWS and isinstance(kernel := next(iter(values[1:]), None), np.ndarray):
            values[1] = kernel[None]
        changed = {name: (*_ONE_MORE[name], *v) if name in _ONE_MORE else v for name, v in attributes.items()}
        for name in ("axis", "axes", "permutation"):
            if name in changed:
                v = changed[name]
                changed[name] = v + 1 if isinstance(v, int) else tuple(a + 1 for a in v)
        if operator == "transpose":
            changed["permutation"] = (1, *changed["permutation"])
        if operator == "reshape":
            shape = self._inferred(values, changed["shape"])
            changed["shape"] = (self._count(values) if -1 in shape else self._count_or_rest(values), *shape)
        if operator == "pad" and changed.get("mode") not in (None, "constant"):
            return self.frame(self._one_by_one(operator, values, attributes))
        return self.frame(self.outer(operator, *values, **changed))

    def _count(self, values: Sequence[Operand]) -> int:
        """The number of frames."""
        counts = {x.shape[1] for x in values if isinstance(x, Tensor)} - {1}
        if None in counts or len(counts) > 1:
            shapes = [x.shape for x in values if isinstance(x, Tensor)]
            raise Unsupported(
                f"the number of frames of {shapes} is unknown", "give the model's input a fixed number of frames"
            )
        return counts.pop() or 1 if counts else 1

    def _inferred(self, values: Sequence[Operand], shape: Sequence[int]) -> Sequence[int]:
        """A target shape of one frame without -1, where the sizes of the frame tell what that is."""
        (sizes,) = (x.shape[2:] for x in values if isinstance(x, Tensor))
        known, values_of_one = math.prod(size for size in shape if size != -1), math.prod(size or 0 for size in sizes)
        if values_of_one == 0 or known < 1 or values_of_one % known:
            return shape
        return [values_of_one // known if size == -1 else size for size in shape]

    def _count_or_rest(self, values: Sequence[Operand]) -> int:
        (x,) = (x for x in values if isinstance(x, Tensor))
        return x.shape[1] or -1

    def _one_by_one(self, operator: str, values: Sequence[Operand], attributes: Mapping[str, Any]) -> Tensor:
        """The operator for each frame, the results one after another."""
        count = self._count(values)
        if count > MOST_FRAMES:
            raise Unsupported(f"{count} frames are computed one by one", f"give it {MOST_FRAMES} frames at most")
        results = []
        for index in range(count):
            y = self.outer(operator, *(self._taken(x, index) for x in values), **attributes)
            results.append(_reshaped(self.outer, y, lambda sizes: [1, *sizes]))
        return results[0] if count == 1 else self.outer("concatenate", *results, axis=1)

    def _taken(self, x: Operand, index: int) -> Operand:
        if not isinstance(x, Tensor):
            return x
        if x.shape[1] != 1:
            x = self.outer.slice(x, 1, index, index + 1)
        return _reshaped(self.outer, x, lambda sizes: sizes[1:])


class Nested:
    """The builder of a layer inside any number of TimeDistributed wrappers around models.

    Args:
        depth: that number; 0 for a layer outside of them, which gets a plain builder.
    """

    def __init__(self, depth: int) -> None:
        self.plain = Builder()
        self.frames: list[Frames] = []
        for _ in range(depth):
            self.frames.append(Frames(self.build))

    @property
    def build(self) -> Builder:
        """What the layer's function builds with."""
        return self.frames[-1] if self.frames else self.plain

    def frame(self, whole: Tensor) -> Tensor:
        """A tensor of the graph as the function sees it."""
        for frames in self.frames:
            whole = frames.frame(whole)
        return whole

    def whole(self, frame: Tensor) -> Tensor:
        """A tensor of the function's as the graph has it."""
        for frames in reversed(self.frames):
            frame = frames.whole(frame)
        return frame


def _reshaped(build: Builder, x: Tensor, change: Callable[[list[int]], list[int]]) -> Tensor:
    sizes = [-1 if size is None else size for size in x.shape[1:]]
    if sizes.count(-1) > 1:
        raise Unsupported(f"several sizes of {x.shape} are unknown", "give the model's input a fixed size")
    return build.reshape(x, *change(sizes))
