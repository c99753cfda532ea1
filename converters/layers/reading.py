"""Nothing unread: each key of a layer's configuration, each argument of a call and each stored variable is read by the layer's
function, or listed here as without effect at inference, or refused by name.

A layer's function gets a `Recorded` configuration, `Recorded` keywords, `RecordedArguments` and `RecordedWeights`. They remember
what the function asked for. After the function returns, `refuse_unread` compares that with what the model has.
Functions that users register get plain mappings: only they know what their class's keys mean. Arguments of calls are checked for
them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from edgecnn.converters.sources.description import WeightReader, leaves
from edgecnn.graph import Tensor

Array = np.ndarray[Any, Any]


class Unsupported(Exception):
    """Raised by a layer function for a configuration that cannot be converted: collected with all others, never seen by
    users as such.

    Args:
        reason: what cannot be done.
        hint: what the user can do.
    """

    def __init__(self, reason: str, hint: str) -> None:
        self.reason, self.hint = reason, hint
        super().__init__(reason)


class Recorded(Mapping[str, Any]):
    """A mapping that remembers which keys were asked for. It cannot be walked: who copies all keys has read none."""

    def __init__(self, values: Mapping[str, Any], asked: set[str] | None = None) -> None:
        self.values_by_key = values
        self.asked: set[str] = set() if asked is None else asked

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self.values_by_key[key]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a layer's function asks for each key by name: what it does not ask for is refused")

    def __len__(self) -> int:
        return len(self.values_by_key)

    def __bool__(self) -> bool:
        return bool(self.values_by_key)

    def taken(self) -> dict[str, Any]:
        """All of it, read: for a function that hands everything on."""
        self.asked.update(self.values_by_key)
        return dict(self.values_by_key)

    def changed(self, **changes: Any) -> Recorded:
        """The same with other values for some keys; what is asked of the copy counts for this one."""
        return Recorded({**self.values_by_key, **changes}, self.asked)

    def unread(self) -> dict[str, Any]:
        """What nobody asked for, but for None, which says nothing."""
        return {k: v for k, v in self.values_by_key.items() if k not in self.asked and v is not None}


class RecordedArguments(Sequence[Any]):
    """The positional arguments of a call, which remember which of them were taken."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)
        self.taken: set[int] = set()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        places = range(len(self.values))[index]
        self.taken.update([places] if isinstance(places, int) else places)
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def unread(self) -> list[Any]:
        """What nobody took, but for None."""
        return [v for place, v in enumerate(self.values) if place not in self.taken and v is not None]


class RecordedWeights:
    """A reader of a layer's variables that remembers which were read."""

    def __init__(self, reader: WeightReader) -> None:
        self.reader = reader
        self.read: set[str] = set()

    def __call__(self, names: Sequence[str]) -> list[Array]:
        self.read.update(names)
        return self.reader(names)

    def unread(self) -> list[str]:
        """Names of stored variables that were not read; none where the source cannot tell (see `WeightReader`)."""
        list_stored = getattr(self.reader, "stored", None)
        stored: Sequence[str] = () if list_stored is None else list_stored()
        last = [name.split("/")[-1].split(":")[0] for name in stored]
        if not self.read <= set(last) and len(self.read) == len(stored):
            return []  # read by place: the variables have other names than the layer's class gives them
        return [path for path, name in zip(stored, last, strict=True) if name not in self.read]


_SAID_ALREADY = (
    "name",
    "function",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "input_dim",
    "input_length",
    "input_dtype",
)
"""Keys that the source reads, or that repeat what follows from the weights' shapes."""
_TRAINING = (
    "trainable", "autocast", "dynamic", "seed", "rng_type", "force_generator", "activity_regularizer", "init", "beta_init",
    "gamma_init", "W_regularizer", "b_regularizer", "W_constraint", "b_constraint",
)  # fmt: skip
"""Keys of how a layer starts and how it is trained; the last ones are those of Keras 1."""
WITHOUT_EFFECT = frozenset((*_SAID_ALREADY, *_TRAINING))
"""Keys that change no answer at inference, whatever layer they belong to."""
_ENDINGS = ("_initializer", "_regularizer", "_constraint")
"""Endings of such keys: how variables start, and what training adds to the loss or does to them after a step."""
NEUTRAL: Mapping[str, Sequence[Any]] = {
    "lora_rank": (0,),
    "quantization_config": ({},),
    "synchronized": (False,),
    # Arguments of TensorFlow's functions.
    "conjugate": (False,),
    "preserve_aspect_ratio": (False,),
    "batch_dims": (0,),
    "use_cudnn_on_gpu": (True, False),
    "out_type": ("int32", "int64"),
    "data_format": ("NHWC", "NWC", "NDHWC"),
}
"""Values, for any layer, that say what a layer without the key does."""
_BATCH_NORMALIZATION = frozenset(
    (
        "momentum",
        "renorm",
        "renorm_clipping",
        "renorm_momentum",
        "fused",
        "virtual_batch_size",
        "adjustment",
        "synchronized",
    )
)
WITHOUT_EFFECT_OF: Mapping[str, frozenset[str]] = {
    # Only the training step differs: what it normalises by, and how it shares that among machines.
    "BatchNormalization": _BATCH_NORMALIZATION,
    "SyncBatchNormalization": _BATCH_NORMALIZATION,
    # Stored kernels are divided by their norm already.
    "SpectralNormalization": frozenset({"power_iterations", "layer"}),
    "TimeDistributed": frozenset({"layer"}),
    # The shape of the stored slopes says it.
    "PReLU": frozenset({"shared_axes"}),
    # What a variable is made with.
    "LayerScale": frozenset({"init_values"}),
    # How a softmax treats masks, which are refused.
    "Softmax": frozenset({"robust_masking"}),
    # Nothing is cut by chance: it takes images of the wanted size only, and boxes are no output of a model.
    "RandomCrop": frozenset({"factor", "bounding_box_format", "data_format"}),
    "Resizing": frozenset({"factor", "bounding_box_format"}),
    "CenterCrop": frozenset({"factor", "bounding_box_format"}),
}
"""More such keys of single classes."""
VARIABLES_WITHOUT_EFFECT: Mapping[str, frozenset[str]] = {
    "BatchNormalization": frozenset({"renorm_mean", "renorm_stddev", "moving_stddev"}),
    "Normalization": frozenset({"mean", "variance", "count"}),
    "SpectralNormalization": frozenset({"vector_u", "u", "sn_u"}),
}
"""Stored variables that training alone needs (or, of Normalization, that repeat its configuration)."""
HEEDS_NO_TRAINING: set[str] = set()
"""Classes whose recorded call may say training=True: core.py enters those that say so by themselves."""
NOTHING_AT_INFERENCE: set[str] = set()
"""Classes that give back their input at inference, whatever their configuration says: core.py enters them."""

FLOAT_POLICIES = ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16", "_infer")
"""Policies that are computed in float32: rounding in 16 bits is not imitated."""


def policy_names(value: Any) -> list[str]:
    """The names of the policies that a configuration's dtype holds: a name, an object, or a map of objects."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [str(value)]
    config = value.get("config")
    if not isinstance(config, Mapping):
        return [str(value.get("class_name"))]
    if "policy_map" in config:
        inner = config["policy_map"]
        inner = list(inner.values()) if isinstance(inner, Mapping) else []
        return [name for policy in (config.get("default_policy"), *inner) for name in policy_names(policy)]
    if "mode" in config or str(value.get("class_name", "")).startswith("Quantized"):
        return [f"{config.get('mode') or value.get('class_name')}_from_{config.get('source_name', 'float32')}"]
    return [str(config.get("name", value.get("class_name")))]


def refuse_policy(config: Mapping[str, Any], integers: Sequence[str] = ()) -> None:
    """Refuses a layer that computes in quantised or whole numbers, or whose kernel is not all that it multiplies by.

    Args:
        integers: whole types that its policy may name, of a layer that only moves values of such a type.
    """
    if config.get("lora_rank") or config.get("lora_alpha"):
        raise Unsupported(
            f"it has LoRA (lora_rank={config.get('lora_rank')!r}): small matrices that are added to its kernel",
            "add them first: build the model without LoRA, and give its layer the weights [layer.kernel, layer.bias]",
        )
    for name in policy_names(config.get("dtype")):
        if name in FLOAT_POLICIES or name in integers:
            continue
        if "_from_" in name:
            raise Unsupported(
                f"it is quantised (dtype {name}): its weights are small whole numbers with scales",
                "convert the model as it was before model.quantize()",
            )
        raise Unsupported(f"it computes in {name}", "give it a float dtype")


def refuse_unread(layer: Any) -> None:
    """Refuses a layer by what its function has not read; called when the function is done.

    Args:
        layer: the `registry.Layer` that the function got.
    """
    _refuse_unread_configuration(layer)
    _refuse_unread_arguments(layer)
    _refuse_unread_variables(layer)


def refuse_unread_keys(class_name: str, config: Recorded) -> None:
    """The same for a configuration alone: of an activation that is given as a layer."""
    if class_name in NOTHING_AT_INFERENCE:
        return
    known = WITHOUT_EFFECT | WITHOUT_EFFECT_OF.get(class_name, frozenset()) | {"dtype"}
    for key, value in config.unread().items():
        if key in known or key.endswith(_ENDINGS) or value in NEUTRAL.get(key, ()):
            continue
        raise Unsupported(
            f"its {key}={value!r} is unknown to the converter, which cannot tell what it changes",
            "leave this argument at its default, or take a newer edgecnn",
        )


def _refuse_unread_configuration(layer: Any) -> None:
    if isinstance(layer.config, Recorded):
        refuse_unread_keys(layer.class_name, layer.config)


def _refuse_unread_arguments(layer: Any) -> None:
    """Tensors count as read in layers, which get them as their inputs; functions of keras.ops and tf take them by place."""
    by_place = layer.class_name.startswith(("ops.", "tf."))
    named = layer.keywords.unread() if isinstance(layer.keywords, Recorded) else {}
    placed = layer.arguments.unread() if isinstance(layer.arguments, RecordedArguments) else []
    for name, value in [*named.items(), *(("", value) for value in placed)]:
        if name in ("name", "training") or (name and value in NEUTRAL.get(name, ())):
            continue  # (refuse_training has looked at training)
        rest = [leaf for leaf in leaves(value) if leaf is not None]
        if not by_place:
            rest = [leaf for leaf in rest if not isinstance(leaf, Tensor)]
        if rest:
            shown = "a tensor" if isinstance(rest[0], Tensor) else repr(value)[:80]
            said = f"{name}={shown}" if name else shown
            raise Unsupported(f"it is called with {said}, which the converter does not heed", "leave this argument out")


def _refuse_unread_variables(layer: Any) -> None:
    if not isinstance(layer.weights, RecordedWeights) or not isinstance(layer.config, Recorded):
        return
    known = VARIABLES_WITHOUT_EFFECT.get(layer.class_name, frozenset())
    left = [name for name in layer.weights.unread() if name.split("/")[-1].split(":")[0] not in known]
    if left and layer.class_name not in NOTHING_AT_INFERENCE:
        lora = any("lora" in name for name in left)
        what = "LoRA's matrices" if lora else "a quantised model's scales" if any("scale" in n for n in left) else ""
        raise Unsupported(
            f"it has variables that nothing reads: {', '.join(left[:6])}" + (f" ({what})" if what else ""),
            "save the model as it was before it was quantised or given LoRA" if what else "take a newer edgecnn",
        )


def refuse_training(layer_class: str, keywords: Mapping[str, Any]) -> None:
    """Refuses a call with training=True: by the statistics of the batch, with dropout."""
    if keywords.get("training") not in (None, False, 0) and layer_class not in HEEDS_NO_TRAINING:
        raise Unsupported(
            f"it is called with training={keywords['training']!r}: by the statistics of the batch, and by chance",
            "call it without; inference is deterministic",
        )
