"""Collects the operators that one layer becomes; layer functions of every source build with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.budget import charge
from edgecnn.errors import GraphError
from edgecnn.graph import ACTIVATIONS, OPERATORS, Constant, Tensor
from edgecnn.graph.operators import LIMIT, Shape

Array = np.ndarray[Any, Any]
Operand = Tensor | Array | None


@dataclass(frozen=True, eq=False)
class Draft:
    """A node to be: its inputs are tensors (of the graph, or outputs of earlier drafts), arrays, or None where absent."""

    operator: str
    inputs: tuple[Operand, ...]
    attributes: dict[str, Any]
    output: Tensor


class Builder:
    """Collects drafts; `build("conv", x, weights, bias, strides=(2, 2))` adds one and gives its output.

    Attributes that are not given have plain values: stride, dilation and group 1, no padding, no activation. Shapes follow
    from the operator table, so that a layer function can look at `y.shape`. Inputs left out at the end are absent.
    """

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def __call__(self, operator: str, *inputs: Operand, **attributes: Any) -> Tensor:
        row = OPERATORS.get(operator)
        if row is None:
            raise GraphError(
                f"there is no operator {operator!r}; edgecnn.graph.OPERATORS has {', '.join(sorted(OPERATORS))}"
            )
        given = [*inputs, *[None] * (0 if row.variadic else len(row.roles) - len(inputs))]
        arrays = [_float32(x, operator) if isinstance(x, np.ndarray) else x for x in given]
        first = next((x for x in arrays if x is not None), None)
        if first is None:
            raise GraphError(f"{operator}: has no inputs")
        plain = _plain(len(first.shape) - 2)
        missing = [name for name in row.attributes if name not in attributes and name not in plain]
        if missing:
            raise GraphError(f"{operator}: wanted its attributes {missing}, which have no plain values")
        filled = {name: attributes.pop(name) if name in attributes else plain[name] for name in row.attributes}
        if attributes:
            raise TypeError(f"{operator} has no attributes {sorted(attributes)}")
        # Stand-ins for the names that the table's check looks at.
        names = ["" if x is None else f"{i}" for i, x in enumerate(arrays)]
        constants = {f"{i}": Constant(f"{i}", x) for i, x in enumerate(arrays) if isinstance(x, np.ndarray)}
        complaint = row.complaint(filled, names, constants)
        if complaint:
            raise GraphError(f"{operator}: {complaint}")
        (shape,) = row.shapes(filled, [None if x is None else tuple(x.shape) for x in arrays])
        output = Tensor(f"<{len(self.drafts)}>", shape)
        self.drafts.append(Draft(operator, tuple(arrays), filled, output))
        return output

    def full(self, sizes: Sequence[int], value: float = 1.0) -> Array:
        """An array of one value, to be given to an operator. It takes no memory here; the operator's copy is charged to the
        conversion's budget first, so that a file cannot ask for any size."""
        return np.broadcast_to(np.float32(value), tuple(sizes))

    def activation(self, x: Tensor, name: str, *parameters: float) -> Tensor:
        """An element-wise function; parameters that are not given have their defaults."""
        values = parameters or ACTIVATIONS[name].defaults
        return self("activation", x, activation=name, activation_parameters=tuple(float(v) for v in values))

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """The same values in another shape (without the batch; one size may be -1)."""
        return self("reshape", x, shape=shape)

    def transpose(self, x: Tensor, *permutation: int) -> Tensor:
        """Axes in another order: output axis i is input axis permutation[i - 1], the batch being 0 and staying first."""
        return x if permutation == tuple(range(1, len(x.shape))) else self("transpose", x, permutation=permutation)

    def slice(self, x: Tensor, axis: int, start: int = 0, stop: int = LIMIT, step: int = 1) -> Tensor:
        """x[start:stop:step] along one axis."""
        ranges = {"starts": 0, "stops": LIMIT, "steps": 1}
        at = {"starts": start, "stops": stop, "steps": step}
        attributes = {
            name: tuple(at[name] if a == axis else plain for a in range(1, len(x.shape)))
            for name, plain in ranges.items()
        }
        return self("slice", x, **attributes)

    def pad(self, x: Tensor, pads: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Tensor:
        """A frame; (begin, end) for each axis but the batch."""
        return self("pad", x, pads=tuple(n for pair in pads for n in pair), mode=mode, value=float(value))

    def reduce(self, x: Tensor, kind: str, axes: Sequence[int], keepdims: bool) -> Tensor:
        """The "mean", "sum", "max" or "min" over any axes (batch 0), in any order: one step for each run of neighbours."""
        runs: list[list[int]] = []
        for axis in sorted(set(axes)):
            if runs and runs[-1][-1] == axis - 1:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        for run in reversed(runs):
            x = self(f"reduce_{kind}", x, axes=tuple(run), keepdims=int(keepdims))
        return x


def _float32(array: Array, operator: str) -> Array:
    """Contiguous float32 values."""
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        charge(4 * array.size, f"a constant of shape {array.shape} for {operator}")
    return np.ascontiguousarray(array, np.float32)


def _plain(axes: int) -> dict[str, Any]:
    """The plain value of every attribute that has one, for a number of spatial axes."""
    ones, zeros = (1,) * axes, (0,) * axes
    return {
        "strides": ones,
        "dilations": ones,
        "padding": "explicit",
        "pads": zeros + zeros,
        "output_padding": zeros,
        "groups": 1,
        "activation": "linear",
        "activation_parameters": (),
        "count_padding": 0,
        "keepdims": 0,
        "log": 0,
        "antialias": 0,
        "exclude_outside": 0,
        "sizes": (0, 0),
        "scales": (1.0, 1.0),
        "rounding": "floor",
        "coordinates": "half_pixel",
        "cubic_coefficient": -0.5,
    }


def known(shape: Shape) -> bool:
    """Whether every size but the batch is known."""
    return None not in shape[1:]
