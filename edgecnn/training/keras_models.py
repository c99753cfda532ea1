"""What the other files ask of Keras models: walking them, rebuilding them, checking data, refreshing statistics.

A functional model's graph is walked by Keras' own walker, the one behind `keras.models.clone_model`. Its values may be
anything: tensors of Keras to build a model, or what a file wants to know about each tensor.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from edgecnn.errors import DataFileError, InputError, MissingPackageError

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]

REFRESH_BATCHES = 100
"""Batches that statistics are averaged over: more change them by less than one batch of training does."""


def import_keras() -> Any:
    """Keras 3, as late as possible.

    Raises:
        MissingPackageError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
    except ImportError as error:
        raise MissingPackageError('training and pruning need Keras 3: pip install "edgecnn[train]"') from error
    if not hasattr(keras, "ops"):
        raise MissingPackageError(f'Keras {keras.__version__} is too old: pip install "edgecnn[train]"')
    return keras


def is_real(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float | np.floating) and not isinstance(value, bool) and math.isfinite(value)


def is_flag(value: Any, name: str) -> bool:
    """A truth value.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={value!r}: wanted True or False")
    return bool(value)


def whole(value: Any, name: str, least: int) -> int:
    """A whole number that an argument gives.

    Raises:
        InputError: it is none, or less.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
        raise InputError(f"{name}={value!r}: wanted a whole number, {least} or more")
    return operator.index(value)


def to_array(value: Any) -> Array:
    """A variable or tensor of Keras as an array of its own."""
    ops = import_keras().ops
    # By way of a tensor: NumPy 2 warns of what Keras' variables do.
    return np.array(ops.convert_to_numpy(ops.convert_to_tensor(value)))


def check_model(model: Any) -> Any:
    """Keras, for a model that is one of its own and has weights.

    Raises:
        InputError: no model of Keras 3, or one that has not been built.
    """
    keras = import_keras()
    if not isinstance(model, keras.Model):
        raise InputError(
            f"model: wanted a model of Keras 3, given {type(model).__module__}.{type(model).__name__}; "
            "load a file with keras.saving.load_model"
        )
    if not model.built or not model.weights:
        raise InputError(f"model {model.name!r} has no weights yet; build it, or call it on a batch, first")
    return keras


def single_layers(model: Any) -> list[Any]:
    """All layers that hold no others, in the model's order; layers inside models and wrappers included, each once."""
    found: dict[int, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        if not any(True for _ in layer._flatten_layers(include_self=False)):
            found.setdefault(id(layer), layer)
    return list(found.values())


def is_graph(model: Any) -> bool:
    """Whether `walk` can follow the model: functional or sequential."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        return True
    return hasattr(model, "_run_through_graph") and isinstance(model, keras.Model)


def walk(model: Any, values: Any, call: Call) -> Any:
    """Follow a model from its inputs to its outputs; models inside are entered.

    Args:
        model: functional or sequential.
        values: one for each input.
        call: (path of the layer, layer, *arguments) -> what it gives back. The path names the models around the layer.
    """

    def enter(prefix: str, inner: Any, given: Any) -> Any:
        def step(operation: Any) -> Call:
            def apply(*arguments: Any, **options: Any) -> Any:
                path = f"{prefix}{operation.name}"
                if is_graph(operation):
                    return enter(f"{path}/", operation, arguments[0])
                return call(path, operation, *arguments, **options)

            return apply

        if isinstance(inner, import_keras().Sequential):
            for layer in inner.layers:
                given = step(layer)(given)
            return given
        return inner._run_through_graph(given, operation_fn=step)

    return enter("", model, values)


def inputs_of(model: Any) -> Any:
    """The model's symbolic inputs, nested as its callers nest what they give."""
    return model.inputs[0] if isinstance(model, import_keras().Sequential) else model.input


def in_order(model: Any) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """(path, layer, layers whose answers it reads) of every call in a model, as they are computed."""
    tree, found = import_keras().tree, []

    def call(path: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        given = [value for value in tree.flatten((arguments, options)) if isinstance(value, _Answer)]
        found.append((path, layer, tuple(value.layer for value in given if value.layer is not None)))
        tensors = tree.map_structure(lambda v: v.tensor if isinstance(v, _Answer) else v, (arguments, options))
        made = layer.compute_output_spec(*tensors[0], **tensors[1])
        return tree.map_structure(lambda tensor: _Answer(layer, tensor), made)

    walk(model, tree.map_structure(lambda tensor: _Answer(None, tensor), inputs_of(model)), call)
    return found


@dataclass(frozen=True)
class _Answer:
    """A symbolic tensor, and the layer that made it; None for an input."""

    layer: Any
    tensor: Any


def rebuild(model: Any, call: Call, name: str | None = None) -> Any:
    """A new functional model from a walk over tensors of Keras; see `walk`. Compiled as the old one was.

    Its outputs have the names of the old ones, by which losses and labels may be given; where an output came from a model inside,
    an Identity has that model's name.
    """
    keras = import_keras()
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), inputs_of(model)
    )
    outputs = walk(model, inputs, call)
    new = _of_its_class(model, inputs, outputs, name or model.name)
    old_names = getattr(model, "output_names", new.output_names)
    if not isinstance(model, keras.Sequential) and old_names != new.output_names:
        named = [
            tensor if old == now else keras.layers.Identity(name=old)(tensor)
            for tensor, old, now in zip(new.outputs, old_names, new.output_names, strict=True)
        ]
        try:
            new = _of_its_class(model, inputs, keras.tree.pack_sequence_as(outputs, named), new.name)
        except ValueError as error:  # a layer of a model inside has that name, too
            raise InputError(
                f"model {model.name!r}: its outputs cannot keep their names {old_names}: {error}; give the layers inside other names"
            ) from error
    compile_like(new, model)
    return new


OWN_STEPS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "call")


def _of_its_class(model: Any, inputs: Any, outputs: Any, name: str) -> Any:
    """A functional model that trains as another one does: of its class, where that has a way of its own.

    Raises:
        InputError: that class is not made of inputs and outputs.
    """
    keras = import_keras()
    plain = keras.Model(inputs, outputs, name=name)
    if not own_steps(model, plain):
        return plain
    try:
        return type(model)(inputs, outputs, name=name)
    except TypeError as error:
        raise _not_made_again(model, plain) from error


def own_steps(model: Any, plain: Any) -> list[str]:
    """What a model's class does otherwise than a plain one, or a sequential one."""
    kinds = (type(plain), import_keras().Sequential)
    return [step for step in OWN_STEPS if not any(getattr(type(model), step) is getattr(kind, step) for kind in kinds)]


def _not_made_again(model: Any, plain: Any) -> InputError:
    return InputError(
        f"model {model.name!r}: its class {type(model).__name__} has its own {', '.join(own_steps(model, plain))} and is not made of "
        "inputs and outputs; let it take (inputs, outputs, name=...), or give a plain keras.Model"
    )


def again(layer: Any, **changes: Any) -> Any:
    """A layer of the same settings, without weights so far.

    Args:
        changes: settings that are others.

    Raises:
        InputError: its class cannot be made of its settings.
    """
    keras = import_keras()
    if type(layer) is keras.layers.Lambda:  # Keras refuses code in settings; here is the function itself
        names = ("mask", "arguments", "name", "dtype", "output_shape")
        own = {
            **layer.get_config(),
            "mask": layer.mask,
            "arguments": layer.arguments,
            "output_shape": layer._output_shape,
        }
        return keras.layers.Lambda(layer.function, **{key: {**own, **changes}[key] for key in names if key in own})
    try:
        return type(layer).from_config({**layer.get_config(), **changes})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be made again from its settings ({str(error).splitlines()[0]}); "
            "give its class get_config and from_config"
        ) from error


class Copier:
    """Copies layers, each once: a layer that is called twice stays one layer. Weights come with them."""

    def __init__(self) -> None:
        self.copies: dict[int, Any] = {}
        self.names: set[str] = set()

    def unique(self, path: str) -> str:
        """A name for a layer of the new, flat model; layers of inner models may have had the same one."""
        name = path.rpartition("/")[2]
        if name in self.names:
            name = path.replace("/", "_")
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def copy(self, path: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        """The layer's answer from its copy, as `walk` wants it."""
        keras = import_keras()
        if not isinstance(layer, keras.layers.Layer):
            return layer(*arguments, **options)
        if id(layer) in self.copies:
            return self.copies[id(layer)](*arguments, **options)
        twin = self.copies[id(layer)] = again(layer, name=self.unique(path))
        answer = twin(*arguments, **options)
        copy_state(layer, twin)
        return answer


def copy_state(source: Any, target: Any) -> None:
    """All variables of a layer or model, seeds of random layers included.

    A dropout whose rate was set to zero after it had been made has a seed that a copy made of its settings lacks: where their
    numbers differ, the copy's seeds stay its own.
    """
    seeds = [_without_weights(each) for each in (source, target)]
    pairs = list(zip(source.weights, target.weights, strict=True))
    if len(seeds[0]) == len(seeds[1]):
        pairs += zip(*seeds, strict=True)
    for old, new in pairs:
        # Not the tensor itself: JAX' trainer destroys those that it is given, and the source would be lost with the copy.
        new.assign(to_array(old))


def _without_weights(source: Any) -> list[Any]:
    weights = {id(variable) for variable in source.weights}
    return [variable for variable in source.variables if id(variable) not in weights]


def compile_like(new: Any, old: Any) -> None:
    """Compile a model as another was: a fresh optimizer with the same settings, the same loss and metrics."""
    if not old.compiled:
        return
    config = old.get_compile_config()
    if not config:
        return
    try:
        new.compile_from_config(config)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"model {old.name!r}: its loss, metrics or optimizer cannot be made again ({error}); "
            "register them with keras.saving.register_keras_serializable"
        ) from error


def set_learning_rate(model: Any, rate: float) -> None:
    """Train a model that has not been trained yet at this rate, in place of its optimizer's own or its schedule."""
    optimizer = model.optimizer
    model.optimizer = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def clone(model: Any) -> Any:
    """A model of its own with the same weights, compiled like the first.

    Raises:
        InputError: Keras cannot clone it (most subclassed models).
    """
    keras = import_keras()
    try:
        lambdas = any(type(layer) is keras.layers.Lambda for layer in single_layers(model))
        twin = keras.models.clone_model(model, **({"clone_function": again, "recursive": True} if lambdas else {}))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"model {model.name!r} cannot be cloned ({error}); give a functional or sequential model, "
            "or train it in place with the callback edgecnn.training.Pruning"
        ) from error
    if type(twin) is not type(model) and own_steps(model, twin):
        raise _not_made_again(model, twin)
    if not twin.built:
        twin.build(model.input_shape)
    copy_state(model, twin)
    if not twin.compiled:
        compile_like(twin, model)
    return twin


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of Keras and TensorFlow, which our callers can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def batches(data: Any, batch_size: int, name: str = "data") -> Any:
    """Data as batches that can be gone through again and again.

    Args:
        data: (x, y) or (x, y, sample_weight) of arrays (x and y: an array, or a list or dict of them), or a data set that gives
            such batches each time it is iterated (keras.utils.PyDataset, tf.data.Dataset, a list of batches).
        batch_size: images in a batch, for arrays.

    Raises:
        InputError: no such data, none at all, data without end, arrays of different lengths, images that are no numbers.
    """
    batch_list = isinstance(data, list) and all(isinstance(part, tuple) for part in data)
    if isinstance(data, tuple | list) and not batch_list and len(data) in (2, 3) and all(map(_is_arrays, data)):
        return ArrayBatches(data, batch_size, name)
    if iter_once(data):
        raise InputError(
            f"{name}: a generator can be used once only; give arrays (x, y), a PyDataset or a tf.data.Dataset"
        )
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise InputError(f"{name}: wanted arrays (x, y) or a data set of batches, given {type(data).__name__}")
    if is_endless(data):
        raise InputError(f"{name}: it has no end; give data.take(n), n batches that are an epoch")
    if not any(True for _ in iterate(data, 1)):
        raise InputError(f"{name}: there is no batch in it")
    return data


def iter_once(data: Any) -> bool:
    """Whether going through the data uses it up."""
    return hasattr(data, "__next__")


def is_endless(data: Any) -> bool:
    """Whether a data set says that going through it never ends, as after `repeat()`."""
    if callable(getattr(data, "cardinality", None)):
        return int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    return hasattr(data, "num_batches") and data.num_batches is None  # keras.utils.PyDataset


def iterate(data: Any, most: int | None = None) -> Iterator[Any]:
    """The first batches of a data set."""
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        count = len(data) if most is None else min(len(data), most)
        return (data[i] for i in range(count))
    return islice(iter(data), most)


def _is_arrays(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(hasattr(part, "shape") for part in value)
    return hasattr(value, "shape")


class ArrayBatches:
    """Arrays as batches, in their own order, or in one that depends on seed and epoch alone.

    `shuffled` is what training wants: a run that goes on after an interruption sees what it would have seen.
    """

    def __init__(self, parts: Sequence[Any], size: int, name: str) -> None:
        tree = import_keras().tree
        # Tuples, not lists: what Keras feeds a model with may turn lists into tensors.
        self.parts = tuple(tree.lists_to_tuples(tree.map_structure(np.asarray, part)) for part in parts)
        lengths = {len(array) if array.ndim else 0 for array in self.arrays()}
        if len(lengths) != 1:
            raise InputError(f"{name}: images and labels differ in number: {sorted(lengths)}")
        (self.count,) = lengths
        if not self.count:
            raise InputError(f"{name}: there are no images in it")
        self.size = whole(size, "batch_size", 1)
        for array in self.arrays():
            _check_numbers(array, name)

    @property
    def y(self) -> Any:
        """Labels, as they were given."""
        return self.parts[1]

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.take(slice(index * self.size, (index + 1) * self.size))

    def take(self, places: Any) -> tuple[Any, ...]:
        """Images, labels and, if there are any, weights of samples at these places."""
        map_structure = import_keras().tree.map_structure
        return tuple(map_structure(lambda array: array[places], part) for part in self.parts)

    def arrays(self) -> list[Array]:
        """All arrays, images first."""
        return list(import_keras().tree.flatten(self.parts))

    def shuffled(self, seed: int) -> Any:
        """A keras.utils.PyDataset; its epochs are numbered by the caller, in `epoch`."""
        return _shuffled_class()(self, seed)


def _check_numbers(array: Array, name: str) -> None:
    """Refuse what would make NaN of every weight."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    for start in range(0, len(array), 1024):
        finite = np.isfinite(array[start : start + 1024]).reshape(len(array[start : start + 1024]), -1).all(axis=1)
        if not finite.all():
            raise InputError(
                f"{name}: sample {start + int(np.argmin(finite))} holds NaN or infinity; leave it out, or mend it "
                "(np.nan_to_num): one such sample makes NaN of every weight"
            )


def _shuffled_class() -> Any:
    keras = import_keras()

    class Shuffled(keras.utils.PyDataset):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self, arrays: ArrayBatches, seed: int) -> None:
            super().__init__()
            self.arrays, self.seed, self.epoch = arrays, seed, 0

        def __len__(self) -> int:
            return len(self.arrays)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.arrays.count)
            return self.arrays.take(order[index * self.arrays.size : (index + 1) * self.arrays.size])

    return Shuffled


def check_data(model: Any, data: Any, name: str) -> None:
    """Hold the first batch against the model's inputs and loss.

    Raises:
        InputError: images of another shape; labels that the loss cannot take.
    """
    keras = import_keras()
    first = next(iter(iterate(data, 1)))
    if not isinstance(first, tuple | list) or len(first) < 2:
        raise InputError(f"{name}: wanted batches of (images, labels); without labels nothing can be learnt")
    given = keras.tree.flatten(first[0])
    if len(given) != len(model.inputs):
        raise InputError(f"{name}: model {model.name!r} takes {len(model.inputs)} inputs, given {len(given)}")
    for spec, array in zip(model.inputs, given, strict=True):
        wanted, found = tuple(spec.shape), tuple(array.shape)
        fits = len(wanted) == len(found) and all(
            w is None or w == f for w, f in zip(wanted[1:], found[1:], strict=True)
        )
        if not fits:
            hint = ""
            if len(found) == len(wanted) - 1:
                hint = "; grey pictures? add the channel axis: x[..., None]"
            elif len(found) == 4 and len(wanted) == 4 and (found[2:] + found[1:2])[-1] == wanted[-1]:
                hint = "; looks like NCHW: try x.transpose(0, 2, 3, 1)"
            raise InputError(
                f"{name}: input {spec.name!r} of model {model.name!r} wants {_sizes(wanted)}, given {_sizes(found)}{hint}"
            )
    _check_labels(model, first, data, name)


def _sizes(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join(["N", *("any" if size is None else str(size) for size in shape[1:])]) + ")"


def _check_labels(model: Any, batch: Sequence[Any], data: Any, name: str) -> None:
    x, y = batch[0], batch[1]
    weights = batch[2] if len(batch) > 2 else None
    keras = import_keras()
    outputs = model(x, training=False)
    labels = keras.tree.flatten(data.y if isinstance(data, ArrayBatches) else y)
    answers = keras.tree.flatten(outputs)
    if "sparse_categorical" in _loss_name(model) and len(labels) == len(answers) == 1:
        values, classes = np.asarray(labels[0]), answers[0].shape[-1]
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise InputError(
                f"{name}: labels from {values.min()} to {values.max()}; the model tells {classes} classes apart, 0 to {classes - 1}"
            )
    try:
        loss = float(to_array(model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weights)))
    except Exception as error:  # whatever the backend says of shapes that do not fit
        shapes = [tuple(label.shape) for label in keras.tree.flatten(y)]
        raise InputError(
            f"{name}: labels of shape {shapes} do not fit loss {_loss_name(model) or 'of the model'} and outputs of shape "
            f"{[tuple(answer.shape) for answer in answers]}: {str(error).splitlines()[0]}"
        ) from error
    if not np.isfinite(loss):
        raise InputError(f"{name}: the loss of the first batch is {loss}; are there NaN in images, labels or weights?")


def _loss_name(model: Any) -> str:
    loss = getattr(model, "loss", None)
    text = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(text).lower()


def check_compiled(model: Any, doing: str) -> None:
    """Refuse a model that cannot be trained.

    Raises:
        InputError: it has no loss.
    """
    if not model.compiled or getattr(model, "loss", None) is None:
        raise InputError(
            f"model {model.name!r} is not compiled; {doing} trains: compile it with a loss, for example "
            'model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])'
        )


def evaluate(model: Any, data: Any) -> dict[str, float]:
    """Loss and metrics over a data set."""
    given = data.shuffled(0) if isinstance(data, ArrayBatches) else as_dataset(data)
    found = model.evaluate(given, verbose=0, return_dict=True)
    return {name: float(to_array(value)) for name, value in found.items()}


def as_dataset(data: Any) -> Any:
    """What model.fit takes, for what `batches` has let through."""
    keras = import_keras()
    if not isinstance(data, list | tuple):
        return data

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined, unused-ignore]
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> Any:
            return tuple(data[index])

    return Batches()


def accuracy_of(metrics: dict[str, float]) -> float | None:
    """The accuracy among the metrics of a model, whatever it is called; None if it has none."""
    for name, value in metrics.items():
        if name in ("acc", "accuracy") or name.endswith("_accuracy"):
            return value
    return None


def refresh_statistics(model: Any, data: Any, most: int = REFRESH_BATCHES) -> int:
    """Set the statistics of batch normalisation to their averages over batches of data.

    Fine-tuning's moving averages still remember the network as it was before; these do not.

    Args:
        model: changed in place. Layers with trainable=False keep what they have.
        data: as for `prune`, from `batches`.
        most: how many batches to go through.

    Returns:
        How many layers were refreshed.
    """
    keras = import_keras()
    layers = [
        layer
        for layer in single_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    try:
        source = data.shuffled(0) if isinstance(data, ArrayBatches) else data
        for number, batch in enumerate(iterate(source, most)):
            # With momentum k / (k + 1) the moving average of the k-th batch is the mean of all so far.
            for layer in layers:
                layer.momentum = number / (number + 1)
            model(batch[0], training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return len(layers)


def seed_random_layers(model: Any, seed: int) -> None:
    """Let dropout and its kind draw the same numbers each time."""
    for number, state in enumerate(_without_weights(model)):
        if tuple(state.shape) == (2,):
            state.assign(np.array([seed, number], np.uint32))


def load_model(path: str | os.PathLike[str]) -> Any:
    """A Keras model from a .keras or .h5 file; code in it is refused.

    Raises:
        DataFileError: the file is missing, damaged or unsafe.
        InputError: another kind of file.
    """
    keras = import_keras()
    name = os.fspath(path)
    if not os.path.exists(name):
        raise DataFileError(f"{name}: no such file")
    if not name.lower().endswith((".keras", ".h5", ".hdf5")):
        raise InputError(f"{name}: wanted a Keras model (.keras, .h5 or .hdf5)")
    try:
        with quiet():
            return keras.saving.load_model(path)
    except Exception as error:
        raise DataFileError(f"{name}: Keras {keras.__version__} cannot read it: {error}") from error
