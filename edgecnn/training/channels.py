"""Whole channels: which can go together, and how a Keras model loses them.

Every channel of every tensor has a label. What makes new channels (a convolution, a dense layer) gives new labels; what
works on each channel alone passes them on; a concatenation puts them one after the other; a sum or product joins the
labels of its operands, since a channel can leave a sum only on both sides:

    conv a -> bn -> relu --+
                           add -> relu -> conv c        channel i of a and channel i of b: one group
    conv b -> bn ----------+

A group can be removed when every layer that mixes channels (the next convolution) reads zeros there: its weights for
them add nothing, with any padding. So masks of whole channels also hold what would make a zero channel something else:
biases, and scale, shift and mean of batch normalisation.

Source: Li et al. 2017, arXiv 1608.08710 (filters by magnitude); Fang et al. 2023, arXiv 2301.12900 (groups by dependency).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecnn.errors import InputError
from edgecnn.training.keras_models import (
    Copier,
    again,
    check_model,
    import_keras,
    inputs_of,
    is_graph,
    rebuild,
    to_array,
    walk,
)
from edgecnn.training.masks import normalised

Array = np.ndarray[Any, Any]

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
MIXING = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, "Dense")
"""Each of their outputs reads all channels."""

POINTWISE = ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU")
WINDOWS = (
    "MaxPooling",
    "AveragePooling",
    "ZeroPadding",
    "Cropping",
    "UpSampling",
    "GlobalMaxPooling",
    "GlobalAveragePooling",
)
AS_IT_IS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "Identity")
SUMS = ("Add", "Subtract", "Average", "Maximum", "Minimum")

MIXED_BY_ACTIVATION = ("softmax", "log_softmax", "sparsemax", "glu")


@dataclass(frozen=True)
class Channels:
    """What is known of a tensor.

    Attributes:
        labels: of each channel, along the last axis.
        zero: whether the channel is zero for every image.
        tensor: Keras' symbolic one, for its shape.
    """

    labels: Array
    zero: Array
    tensor: Any


@dataclass
class Wiring:
    """A model's channels.

    Attributes:
        made: for each layer that makes channels, their labels.
        read: for each layer that mixes channels, the labels of what it reads.
        passed: for each other layer with weights for channels, their labels.
        layers: the layers by identity.
        live: labels that some mixing layer, or an output, reads as not zero, or of which nothing is known.
    """

    parents: list[int] = field(default_factory=list)
    made: dict[int, Array] = field(default_factory=dict)
    read: dict[int, Array] = field(default_factory=dict)
    passed: dict[int, Array] = field(default_factory=dict)
    layers: dict[int, Any] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)

    def new(self, count: int) -> Array:
        """Labels that nothing else has."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, label: int) -> int:
        """The label that stands for all that have been joined with this one."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: Array) -> Array:
        """`root` of each."""
        return np.array([self.root(int(label)) for label in labels], np.int64)

    def join(self, first: Array, second: Array) -> None:
        """Make each label of the first the same as its partner."""
        for a, b in zip(first, second, strict=True):
            a, b = self.root(int(a)), self.root(int(b))
            self.parents[max(a, b)] = min(a, b)

    def live_roots(self) -> set[int]:
        """Labels of groups that must stay."""
        return {self.root(label) for label in self.live}


def wiring(model: Any, dead: Callable[[Any], bool] | None = None) -> Wiring:
    """Follow the channels of a model.

    Args:
        model: functional or sequential.
        dead: for the question what could be removed: layers whose channels are taken for zero, with all that masks of
            whole channels hold. None: what is zero in the weights as they are.
    """
    found = Wiring()
    # Labels are joined on the way, and whether a channel is dead depends on all of its group: a second walk sees the groups.
    _walk(model, found, lambda labels: np.zeros(len(labels), bool))
    if dead is None:
        return found
    found.live = set()
    alive = {
        found.root(int(label)) for key, made in found.made.items() if not dead(found.layers[key]) for label in made
    }
    gone = {found.root(int(label)) for made in found.made.values() for label in made} - alive
    _walk(model, found, lambda labels: np.isin(found.roots(labels), list(gone)))
    return found


def _walk(model: Any, found: Wiring, gone: Callable[[Array], Array]) -> None:
    tree = import_keras().tree

    def call(path: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        given = [value for value in tree.flatten((arguments, options)) if isinstance(value, Channels)]
        symbolic = tree.map_structure(lambda v: v.tensor if isinstance(v, Channels) else v, (arguments, options))
        tensor = layer.compute_output_spec(*symbolic[0], **symbolic[1])
        return _follow(found, layer, given, arguments, tensor, gone)

    def unknown(tensor: Any) -> Channels:
        return _unknown(found, tensor)

    for value in tree.flatten(walk(model, tree.map_structure(unknown, inputs_of(model)), call)):
        found.live.update(int(label) for label in value.labels)


def _unknown(found: Wiring, tensor: Any) -> Channels:
    """A tensor whose channels must all stay."""
    labels = found.new((tensor.shape[-1] if len(tensor.shape) else 1) or 1)
    found.live.update(int(label) for label in labels)
    return Channels(labels, np.zeros(len(labels), bool), tensor)


def _follow(
    found: Wiring, layer: Any, given: list[Channels], arguments: Any, tensor: Any, gone: Callable[[Array], Array]
) -> Any:
    """What is known of a layer's output."""
    tree = import_keras().tree
    kind = type(layer).__name__
    many = tree.is_nested(tensor)
    if not many and _channels_are_last(layer):
        if len(given) == 1:
            known = _from_one(found, layer, kind, given[0], arguments, tensor, gone)
        else:
            known = _from_several(found, layer, kind, given, tensor)
        if known is not None:
            return known
    for value in given:
        found.live.update(int(label) for label in value.labels)
    return tree.map_structure(lambda one: _unknown(found, one), tensor)


def _channels_are_last(layer: Any) -> bool:
    return getattr(layer, "data_format", "channels_last") in ("channels_last", None)


def _from_one(
    found: Wiring, layer: Any, kind: str, x: Channels, arguments: Any, tensor: Any, gone: Callable[[Array], Array]
) -> Channels | None:
    if kind in MIXING and getattr(layer, "groups", 1) == 1:
        return _mixing(found, layer, kind, x, tensor, gone)
    if kind in DEPTHWISE:
        repeat = layer.depth_multiplier
        labels = _pass(found, layer, np.repeat(x.labels, repeat))
        bias = np.zeros(len(labels)) if layer.bias is None else to_array(layer.bias)
        zero = np.repeat(x.zero, repeat) & ((bias == 0) | gone(labels))
        return _activated(found, layer, Channels(labels, zero, tensor))
    if kind == "BatchNormalization" and _axis(layer, x) == len(x.tensor.shape) - 1:
        labels = _pass(found, layer, x.labels)
        return Channels(labels, x.zero & ((_shift(layer) == 0) | gone(labels)), tensor)
    if kind in POINTWISE and not _mixes(layer):
        labels = _pass(found, layer, x.labels) if kind == "PReLU" else x.labels
        return Channels(labels, x.zero & (kind == "PReLU" or _keeps_zero(layer)), tensor)
    if kind in AS_IT_IS or kind.startswith(WINDOWS):
        return Channels(x.labels, x.zero, tensor)
    if kind == "Multiply" and _is_number(arguments):
        return Channels(x.labels, x.zero, tensor)
    if kind in ("Flatten", "Reshape"):
        return _reshaped(x, tensor)
    return None


def _mixing(found: Wiring, layer: Any, kind: str, x: Channels, tensor: Any, gone: Callable[[Array], Array]) -> Channels:
    key = id(layer)
    if key in found.read:
        found.join(found.read[key], x.labels)
    else:
        found.layers[key], found.read[key] = layer, x.labels
        found.made[key] = found.new(tensor.shape[-1])
    found.live.update(int(label) for label in x.labels[~x.zero])
    labels = found.made[key]
    kernel = to_array(layer.pointwise_kernel if kind in SEPARABLE else layer.kernel)
    kernel = np.swapaxes(kernel, -1, -2) if kind in TRANSPOSED else kernel
    zero = (kernel == 0).reshape(-1, kernel.shape[-1]).all(axis=0)
    if layer.bias is not None:
        zero &= to_array(layer.bias) == 0
    return _activated(found, layer, Channels(labels, zero | gone(labels), tensor))


def _activated(found: Wiring, layer: Any, x: Channels) -> Channels:
    """After the activation that is part of a layer."""
    if _mixes(layer):
        found.live.update(int(label) for label in x.labels)
        return Channels(x.labels, np.zeros(len(x.zero), bool), x.tensor)
    return x if _keeps_zero(layer) else Channels(x.labels, np.zeros(len(x.zero), bool), x.tensor)


def _from_several(found: Wiring, layer: Any, kind: str, given: list[Channels], tensor: Any) -> Channels | None:
    if not given:
        return None
    ranks = {len(value.tensor.shape) for value in given}
    last = tensor.shape[-1]
    if kind == "Concatenate" and len(ranks) == 1:
        rank = len(tensor.shape)
        if layer.axis % rank == rank - 1:
            return Channels(
                np.concatenate([value.labels for value in given]),
                np.concatenate([value.zero for value in given]),
                tensor,
            )
        if layer.axis % rank:
            return _joined(found, given, tensor, np.logical_and)
        return None
    if kind in SUMS or kind == "Multiply":
        if any(len(value.labels) != last for value in given):
            return None
        return _joined(found, given, tensor, np.logical_or if kind == "Multiply" else np.logical_and)
    return None


def _joined(found: Wiring, given: list[Channels], tensor: Any, zero: Any) -> Channels:
    first = given[0]
    for other in given[1:]:
        found.join(first.labels, other.labels)
    return Channels(first.labels, zero.reduce([value.zero for value in given]), tensor)


def _reshaped(x: Channels, tensor: Any) -> Channels | None:
    sizes = x.tensor.shape[1:]
    if tensor.shape[-1] == len(x.labels) and sizes:
        return Channels(x.labels, x.zero, tensor)
    if len(tensor.shape) == 2 and None not in sizes:
        positions = int(np.prod(sizes[:-1]))
        return Channels(np.tile(x.labels, positions), np.tile(x.zero, positions), tensor)
    return None


def _pass(found: Wiring, layer: Any, labels: Array) -> Array:
    """Remember a layer that has weights for each channel; of a shared one the channels belong together."""
    key = id(layer)
    if key in found.passed:
        found.join(found.passed[key], labels)
    found.layers[key] = layer
    return found.passed.setdefault(key, labels)


def _axis(layer: Any, x: Channels) -> int:
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    return int(axis) % len(x.tensor.shape)


def _shift(layer: Any) -> Array:
    """What a batch normalisation makes of zero."""
    scale = 1 / np.sqrt(to_array(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * to_array(layer.gamma)
    shift = -to_array(layer.moving_mean) * scale
    return np.asarray(shift if layer.beta is None else shift + to_array(layer.beta))


def _activation_name(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    return str(getattr(activation, "__name__", ""))


def _mixes(layer: Any) -> bool:
    return _activation_name(layer) in MIXED_BY_ACTIVATION


def _keeps_zero(layer: Any) -> bool:
    """Whether the activation, part of a layer or one of its own, makes zero of zero."""
    keras = import_keras()
    activation = getattr(layer, "activation", None)
    if activation is None and type(layer).__name__ not in POINTWISE:
        return True
    zero = np.zeros((1, 1), np.float32)
    function: Any = layer if type(layer).__name__ in POINTWISE else activation
    answer = function(keras.ops.convert_to_tensor(zero))
    return bool((keras.ops.convert_to_numpy(answer) == 0).all())


def _is_number(arguments: Any) -> bool:
    return all(isinstance(value, Channels | int | float) for value in arguments)


class ChannelUnits:
    """Groups of channels that can go, and the masks of what they consist of. See `edgecnn.training.pruning.Units`."""

    def __init__(self, model: Any, layers: Sequence[Any], normalise: str | None) -> None:
        if not is_graph(model):
            raise InputError(
                f"model {model.name!r}: channels are removed from functional and sequential models; this one is a "
                "subclass whose structure cannot be followed; use pattern='block' or 'weight'"
            )
        self.normalise = normalise
        chosen = {id(layer) for layer in layers}
        self.wiring = wiring(model, lambda layer: id(layer) in chosen)
        live = self.wiring.live_roots()
        self.kernels = {key: kernel_of(self.wiring.layers[key]) for key in self.wiring.made if key in chosen}
        members: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for key, made in self.wiring.made.items():
            for place, root in enumerate(self.wiring.roots(made)):
                members[int(root)].append((key, place))
        self.spaces: dict[frozenset[int], list[list[tuple[int, int]]]] = defaultdict(list)
        self.space_roots: dict[frozenset[int], list[int]] = defaultdict(list)
        for root, group in members.items():
            makers = frozenset(key for key, _ in group)
            if root not in live and makers <= chosen:
                self.spaces[makers].append(group)
                self.space_roots[makers].append(root)

    def __len__(self) -> int:
        return len(self.spaces)

    def layers(self) -> list[Any]:
        """Whose channels can go."""
        return [self.wiring.layers[key] for key in dict.fromkeys(key for space in self.spaces for key in space)]

    def scores(self) -> tuple[list[Array], list[Array]]:
        """For each set of layers that share their channels: how much each channel counts, and its weights."""
        squares, counts = {}, {}
        for key, variable in self.kernels.items():
            magnitude = normalised(to_array(variable), self.normalise)
            squares[key] = np.square(magnitude).reshape(-1, magnitude.shape[-1]).sum(axis=0)
            counts[key] = magnitude.size // magnitude.shape[-1]
        scores, sizes = [], []
        for groups in self.spaces.values():
            weights = np.array([sum(counts[key] for key, _ in group) for group in groups])
            total = np.array([sum(squares[key][place] for key, place in group) for group in groups])
            scores.append(np.sqrt(total / weights))
            sizes.append(weights)
        return scores, sizes

    def masks(self, dropped: Iterable[Array]) -> list[tuple[Any, Array]]:
        """Variables and their masks: kernels, and what would make something of a channel of zeros."""
        gone: set[int] = set()
        for roots, drop in zip(self.space_roots.values(), dropped, strict=True):
            gone.update(root for root, goes in zip(roots, drop, strict=True) if goes)
        found = []
        for key, labels in (*self.wiring.made.items(), *self.wiring.passed.items()):
            stays = ~np.isin(self.wiring.roots(labels), list(gone))
            found += [
                (variable, np.broadcast_to(stays, tuple(variable.shape)).copy())
                for variable in held_with(self.wiring.layers[key])
            ]
        return found


def kernel_of(layer: Any) -> Any:
    """The kernel whose last axis are the output channels; None for layers without one."""
    kind = type(layer).__name__
    if kind in SEPARABLE:
        return layer.pointwise_kernel
    return layer.kernel if kind in (*CONVOLUTIONS, "Dense", *DEPTHWISE) else None


def held_with(layer: Any) -> list[Any]:
    """Variables that are zero where a channel is: their last axis are the layer's output channels."""
    kind = type(layer).__name__
    if kind == "BatchNormalization":
        found = [layer.gamma, layer.beta, layer.moving_mean]
    elif kind in DEPTHWISE:
        found = [layer.bias]
    elif kind in MIXING and kind not in TRANSPOSED:
        found = [kernel_of(layer), layer.bias]
    else:
        found = []
    return [variable for variable in found if variable is not None]


def remove_channels(model: Any, name: str | None = None) -> Any:
    """A smaller model that answers the same: without the channels that no layer reads as anything but zero.

    Args:
        model: functional or sequential, with channels of zeros as `pattern="channel"` leaves them (any other zeros count
            too). Models inside it become part of the new model, whose layers keep their names where these are unique.
        name: the new model's; None: as before.

    Returns:
        A plain Keras model, compiled as the first one was. Answers are the same sums without their zeros; only the order of
        additions, and so the last bits, may differ.

    Raises:
        InputError: no Keras model that can be followed.

    Source: see the module.
    """
    keras = check_model(model)
    if not is_graph(model):
        raise InputError(f"model {model.name!r}: wanted a functional or sequential model; this is a subclass")
    found = wiring(model)
    gone = _removable(found)
    stay = {
        key: (
            _staying(found, found.read.get(key), gone),
            _staying(found, found.made.get(key, found.passed.get(key)), gone),
        )
        for key in found.layers
    }
    copier = Copier()

    def call(path: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(layer, keras.layers.Reshape) and layer.target_shape[-1] != -1:
            return _reshape(copier, path, layer, arguments[0])
        if id(layer) not in stay:
            return copier.copy(path, layer, *arguments, **options)
        if id(layer) in copier.copies:
            return copier.copies[id(layer)](*arguments, **options)
        reads, makes = stay[id(layer)]
        sizes = {size: int(makes.sum()) for size in ("filters", "units") if hasattr(layer, size)}
        twin = copier.copies[id(layer)] = again(layer, name=copier.unique(path), **sizes)
        answer = twin(*arguments, **options)
        for old, new in zip(layer.weights, twin.weights, strict=True):
            new.assign(_cut(layer, old, reads, makes))
        return answer

    return rebuild(model, call, name)


def _removable(found: Wiring) -> set[int]:
    """Groups that go. Every layer keeps one channel at least."""
    live = found.live_roots()
    gone = {int(root) for made in found.made.values() for root in found.roots(made)} - live
    for labels in (*found.made.values(), *found.read.values()):
        roots = found.roots(labels)
        if np.isin(roots, list(gone)).all():
            gone.discard(int(roots[0]))
    return gone


def _staying(found: Wiring, labels: Array | None, gone: set[int]) -> Any:
    return None if labels is None else ~np.isin(found.roots(labels), list(gone))


def _cut(layer: Any, variable: Any, reads: Any, makes: Any) -> Array:
    """A variable without the channels that go."""
    array, kind = to_array(variable), type(layer).__name__
    if kind in DEPTHWISE and array.ndim > 1:
        return array[..., makes.reshape(array.shape[-2:])[:, 0], :]
    if kind in SEPARABLE and variable is layer.depthwise_kernel:
        return array[..., reads, :]
    if kind in SEPARABLE and variable is layer.pointwise_kernel:
        return array[..., np.repeat(reads, layer.depth_multiplier), :][..., makes]
    if kind in TRANSPOSED and array.ndim > 1:
        return array[..., makes, :][..., reads]
    if kind in MIXING and array.ndim > 1:
        return array[..., reads, :][..., makes]
    return array[..., makes]


def _reshape(copier: Copier, path: str, layer: Any, x: Any) -> Any:
    """A Reshape to the channels that are left: the sizes before the last one stay."""
    keras = import_keras()
    if id(layer) not in copier.copies:
        target = (*layer.target_shape[:-1], -1)
        if -1 in target[:-1]:
            return copier.copy(path, layer, x)
        copier.copies[id(layer)] = keras.layers.Reshape(target, name=copier.unique(path))
    return copier.copies[id(layer)](x)
