"""Zeros that hold: each masked variable carries a constraint, which Keras' optimizers apply inside their step.

So whatever sees a weight after a step sees its zeros: callbacks in any order, checkpoints between batches, later calls of `fit`
without any callback of ours, training loops of one's own with an optimizer of Keras. A constraint is no part of a layer's settings:
saved models, clones and converted files know nothing of it.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from edgecnn.training.keras_models import check_model, import_keras

Array = np.ndarray[Any, Any]


class Held:
    """The constraint of one variable: what it had before, then the mask.

    Attributes:
        mask: a variable of Keras with the shape of the one that is held, True where a value stays. A compiled training step
            reads it anew each time.
        before: the constraint that the variable had.
    """

    def __init__(self, model: Any, variable: Any) -> None:
        keras = import_keras()
        self._model = weakref.ref(model)
        self.variable, self.before = variable, variable.constraint
        self.mask = keras.Variable(
            np.ones(tuple(variable.shape), bool), dtype="bool", trainable=False, name=f"{variable.name}_mask"
        )

    def __call__(self, value: Any) -> Any:
        """The variable's value under the mask. Its moving average, if the optimizer keeps one, is held as well."""
        average = _average(self._model(), self.variable)
        if average is not None:
            average.assign(self._masked(average))
        return self._masked(value if self.before is None else self.before(value))

    def apply(self) -> None:
        """Zero what the mask holds, now. Positive zeros, also of what has become infinite."""
        average = _average(self._model(), self.variable)
        for held in (self.variable, average):
            if held is not None:
                held.assign(self._masked(held))

    def _masked(self, value: Any) -> Any:
        ops = import_keras().ops
        value = ops.convert_to_tensor(value)  # not all of JAX' functions take a variable
        return ops.where(ops.convert_to_tensor(self.mask), value, ops.zeros_like(value))


def _average(model: Any, variable: Any) -> Any:
    """The moving average that the model's optimizer keeps of a variable; None without one."""
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return None
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return next((average for own, average in pairs if own is variable), None)


def hold(model: Any, variables: list[Any]) -> list[Held]:
    """Put a constraint on variables of a model; their masks hold nothing yet.

    What they were held at before stays so: the new constraint comes after the old one.
    """
    found = []
    for variable in variables:
        held = Held(model, variable)
        variable.constraint = held
        found.append(held)
    forget_compiled(model)
    return found


def release(model: Any) -> int:
    """Let the zeros of pruning learn again; without it they stay zero in all later training.

    Args:
        model: that `prune` gave, or that was trained with `Pruning`.

    Returns:
        How many variables were held.

    Raises:
        InputError: no model of Keras 3.
    """
    check_model(model)
    count = 0
    for variable in model.variables:
        if isinstance(variable.constraint, Held):
            count += 1
        while isinstance(variable.constraint, Held):
            variable.constraint = variable.constraint.before
    forget_compiled(model)
    return count


def is_held(variable: Any, held: Held) -> bool:
    """Whether a constraint is in force on a variable: put there, and not released."""
    constraint = variable.constraint
    while isinstance(constraint, Held):
        if constraint is held:
            return True
        constraint = constraint.before
    return False


def forget_compiled(model: Any) -> None:
    """Have a training step compiled before seen to be another one now. In training, the next step is the new one."""
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
