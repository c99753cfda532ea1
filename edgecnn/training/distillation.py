"""Distillation: a model learns the answers of another beside the labels, as a pruned one does from what it was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from edgecnn.errors import InputError
from edgecnn.training.keras_models import check_compiled, check_model, import_keras, is_real

TEMPERATURE = 4.0
"""Of the answers that are compared. Tried were 2 and 4 (docs/pruning.md)."""

LEAST_PROBABILITY = 1e-37
"""Float32 has no much smaller ones; a larger floor would leave no gradient where a model is sure and wrong."""


def distillation(
    model: Any, teacher: Any, share: float = 0.5, temperature: float = TEMPERATURE
) -> AbstractContextManager[None]:
    """Let a classifier learn a teacher's answers while it is trained within this context.

    The loss of training becomes (1 - share) of the model's own loss plus `share` of temperature^2 times the
    Kullback-Leibler divergence of the model's classes from the teacher's, both softened: softmax(logits / temperature).
    Regularisers and what layers add to the loss stay whole; weights of samples and of classes count for both parts. Evaluation
    and metrics stay what they are. It works with `model.fit` on every backend of Keras, the callback `Pruning` included, but not
    where a model has a `train_step` of its own that leaves out `compute_loss`:

        with distillation(model, clone(model)):
            model.fit(x, y, callbacks=[Pruning(0.8)])

    Args:
        model: a compiled Keras classifier: one output (N, ..., classes), probabilities or logits as its loss has it, which is a
            categorical cross-entropy over the last axis.
        teacher: a Keras model of the same inputs and classes, which gives probabilities or logits as `model` does; it stays
            as it is. What shares weights with `model` would change with it: `edgecnn.training.clone` makes a copy.
        share: of the teacher in the loss, from 0 to 1.
        temperature: above 0; higher ones let the classes count more that the teacher thinks unlikely.

    Raises:
        InputError: an argument out of range; a model of another kind; a teacher of other classes.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2.
    """
    if not is_real(share) or not 0 <= share <= 1:
        raise InputError(f"distillation: share={share!r}: wanted a share of the loss from 0 to 1")
    if not is_real(temperature) or temperature <= 0:
        raise InputError(f"distillation: temperature={temperature!r}: wanted a number above 0")
    check_model(model)
    check_model(teacher)
    check_compiled(model, "distillation")
    if not hasattr(model, "_compute_loss_has_training_arg"):
        raise InputError("distillation: wanted Keras 3.3 or newer, whose loss knows whether it is that of training")
    loss = _loss_of(model)
    if (
        teacher.compiled
        and _is_categorical(_only(teacher.loss))
        and _has_logits(_only(teacher.loss)) != _has_logits(loss)
    ):
        raise InputError(
            f"distillation: of model {model.name!r} and its teacher {teacher.name!r} one gives logits and the other "
            "probabilities, by their losses (from_logits): wanted the same from both"
        )
    if not set(map(id, model.trainable_variables)).isdisjoint(map(id, teacher.variables)):
        raise InputError(
            f"distillation: model {model.name!r} shares weights with its teacher, which would change with it; give a copy "
            "as teacher, from edgecnn.training.clone"
        )
    shapes = getattr(model, "output_shape", None), getattr(teacher, "output_shape", None)
    if None not in shapes and shapes[0] != shapes[1]:
        raise InputError(
            f"distillation: model {model.name!r} answers with {shapes[0]}, its teacher {teacher.name!r} with {shapes[1]}: "
            "wanted the same classes"
        )
    return _Lesson(model, teacher, share, _divergence_class()(temperature, loss))


class _Lesson(AbstractContextManager[None]):
    """Within it a model's `compute_loss` is another."""

    def __init__(self, model: Any, teacher: Any, share: float, divergence: Any) -> None:
        self.model, self.teacher, self.share, self.divergence = model, teacher, share, divergence
        self.before: list[tuple[Any, bool]] = []
        """For each time it was entered: a `compute_loss` that was the model's own already, and what follows."""

    def __enter__(self) -> None:
        model, own = self.model, self.model.compute_loss
        # Keras asks this of the class once, and tells a loss by it whether it is that of training.
        knows_training = model._compute_loss_has_training_arg
        self.before.append((vars(model).get("compute_loss"), knows_training))

        def compute_loss(
            x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            options = {"training": training} if knows_training else {}
            loss = own(x, y, y_pred, sample_weight, **options)
            return self._mixed(loss, x, y_pred, sample_weight) if training else loss

        model.compute_loss, model._compute_loss_has_training_arg = compute_loss, True
        self._compile_anew()

    def _mixed(self, loss: Any, x: Any, y_pred: Any, sample_weight: Any) -> Any:
        ops = import_keras().ops
        wanted = ops.stop_gradient(self.teacher(x, training=False))
        divergence = self.divergence(wanted, y_pred, sample_weight=sample_weight)
        whole = sum(
            (ops.cast(ops.sum(each), divergence.dtype) for each in self.model.losses), ops.zeros_like(divergence)
        )
        return (1 - self.share) * ops.cast(loss, divergence.dtype) + self.share * (divergence + whole)

    def __exit__(self, *raised: object) -> None:
        compute_loss, self.model._compute_loss_has_training_arg = self.before.pop()
        if compute_loss is None:
            del self.model.compute_loss
        else:
            self.model.compute_loss = compute_loss
        self._compile_anew()

    def _compile_anew(self) -> None:
        """Let Keras forget what it has compiled with the loss of before."""
        self.model.train_function = self.model.test_function = None


@cache
def _divergence_class() -> type:
    """The loss; its base needs Keras, which importing this module must not load."""
    keras = import_keras()
    ops = keras.ops

    class Divergence(keras.losses.Loss):  # type: ignore[misc, name-defined, unused-ignore]
        """temperature^2 times the divergence of classes from the teacher's, in float32, summed up as another loss is."""

        def __init__(self, temperature: float, like: Any) -> None:
            reduction = getattr(like, "reduction", "sum_over_batch_size")
            super().__init__(name="distillation", reduction=reduction, dtype="float32")
            self.temperature, self.logits = temperature, _has_logits(like)

        def call(self, y_true: Any, y_pred: Any) -> Any:
            wanted, found = self._log_classes(y_true), self._log_classes(y_pred)
            return self.temperature**2 * ops.sum(ops.exp(wanted) * (wanted - found), axis=-1)

        def _log_classes(self, answers: Any) -> Any:
            logits = answers if self.logits else ops.log(ops.maximum(answers, LEAST_PROBABILITY))
            return ops.log_softmax(logits / self.temperature, axis=-1)

    return Divergence


def _loss_of(model: Any) -> Any:
    """The loss of a classifier's only output.

    Raises:
        InputError: another kind of model.
    """
    loss = _only(model.loss)
    if not _is_categorical(loss) or len(getattr(model, "outputs", None) or [None]) != 1:
        raise InputError(
            f"distillation: model {model.name!r} is trained with {model.loss!r}; wanted a classifier of one output whose loss "
            "is categorical_crossentropy or sparse_categorical_crossentropy"
        )
    config = _config(loss)
    if config.get("axis", -1) != -1 or config.get("ignore_class") is not None:
        raise InputError(
            f"distillation: the loss of model {model.name!r} has axis={config.get('axis')}, "
            f"ignore_class={config.get('ignore_class')}; wanted classes on the last axis, all of which count"
        )
    return loss


def _only(loss: Any) -> Any:
    """A loss that may stand alone in a list or a dict."""
    values = list(loss.values()) if isinstance(loss, dict) else list(loss) if isinstance(loss, list | tuple) else [loss]
    return values[0] if len(values) == 1 else None


def _is_categorical(loss: Any) -> bool:
    losses = import_keras().losses
    if isinstance(loss, str):
        try:
            loss = losses.get(loss)
        except ValueError:
            return False
    kinds = losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy, losses.CategoricalFocalCrossentropy
    return isinstance(loss, kinds) or loss in (losses.categorical_crossentropy, losses.sparse_categorical_crossentropy)


def _has_logits(loss: Any) -> bool:
    return bool(_config(loss).get("from_logits"))


def _config(loss: Any) -> dict[str, Any]:
    return dict(loss.get_config()) if hasattr(loss, "get_config") else {}
