"""Distillation: a model learns the answers of another beside the labels, as a pruned one does from what it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from edgecnn.errors import InputError
from edgecnn.training.keras_models import check_compiled, check_model, import_keras

TEMPERATURE = 4.0
"""Of the answers that are compared. On Fashion-MNIST 4 taught more than 1 or 2 (docs/pruning.md)."""


def distillation(
    model: Any, teacher: Any, share: float = 0.5, temperature: float = TEMPERATURE
) -> AbstractContextManager[None]:
    """Let a classifier learn a teacher's answers while it is trained within this context.

    The loss of training becomes (1 - share) of the model's own loss plus `share` of temperature^2 times the
    Kullback-Leibler divergence of the model's classes from the teacher's, both softened: softmax(logits / temperature).
    Evaluation and the model's metrics stay what they are. Works with every way to train by `model.fit`, the callback
    `Pruning` included:

        with distillation(model, teacher):
            model.fit(x, y, callbacks=[Pruning(0.8)])

    Args:
        model: a compiled Keras classifier: one output (N, ..., classes) and a categorical cross-entropy as its loss.
        teacher: a Keras model of the same inputs and classes, which gives probabilities or logits as `model` does; it stays
            as it is. Not `model` itself, which changes: its `edgecnn.training.clone`.
        share: of the teacher in the loss, from 0 to 1.
        temperature: above 0; higher ones let the classes count more that the teacher thinks unlikely.

    Raises:
        InputError: an argument out of range; a model of another kind; a teacher of other classes.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2.
    """
    if not 0 <= share <= 1:
        raise InputError(f"distillation: share={share!r}: wanted a share of the loss from 0 to 1")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"distillation: temperature={temperature!r}: wanted a number above 0")
    check_model(model)
    check_compiled(model, "distillation")
    if teacher is model:
        raise InputError(f"distillation: model {model.name!r} cannot teach itself while it changes; give a clone of it")
    ops, given_logits = import_keras().ops, _gives_logits(model)
    shapes = model.output_shape, teacher.output_shape
    if shapes[0] != shapes[1]:
        raise InputError(
            f"distillation: model {model.name!r} answers with {shapes[0]}, its teacher {teacher.name!r} with {shapes[1]}: "
            "wanted the same classes"
        )

    def log_classes(answers: Any) -> Any:
        logits = answers if given_logits else ops.log(ops.maximum(answers, 1e-7))
        return ops.log_softmax(logits / temperature, axis=-1)

    own = model.compute_loss

    def compute_loss(
        x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = own(x, y, y_pred, sample_weight, training=training)
        if not training:
            return loss
        wanted, found = log_classes(ops.stop_gradient(teacher(x, training=False))), log_classes(y_pred)
        divergence = ops.mean(ops.sum(ops.exp(wanted) * (wanted - found), axis=-1))
        return (1 - share) * loss + share * temperature**2 * divergence

    return _trained_by(model, compute_loss)


@contextmanager
def _trained_by(model: Any, compute_loss: Any) -> Iterator[None]:
    before = vars(model).get("compute_loss")
    model.compute_loss = compute_loss
    # What Keras has compiled for training computes the loss of before: it makes it anew, here and afterwards.
    model.train_function = None
    try:
        yield
    finally:
        if before is None:
            del model.compute_loss
        else:
            model.compute_loss = before
        model.train_function = None


def _gives_logits(model: Any) -> bool:
    """Whether a classifier's answers are logits; else they are probabilities."""
    losses = import_keras().losses
    loss = losses.get(model.loss)
    kinds = losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy, losses.CategoricalFocalCrossentropy
    functions = losses.categorical_crossentropy, losses.sparse_categorical_crossentropy
    if not (isinstance(loss, kinds) or loss in functions) or len(model.outputs) != 1:
        raise InputError(
            f"distillation: model {model.name!r} is trained with {model.loss!r}; wanted a classifier of one output whose loss "
            "is categorical_crossentropy or sparse_categorical_crossentropy"
        )
    return isinstance(loss, kinds) and bool(loss.get_config().get("from_logits"))
