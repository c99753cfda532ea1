"""Which variables Keras' layers have, in the order in which Keras makes them: what the order of a file's arrays means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Config = Mapping[str, Any]
Names = tuple[str, ...]

_AXES = ("1D", "2D", "3D")


def _with_bias(*names: str) -> Callable[[Config, int], Names]:
    return lambda config, keras: (*names, "bias") if _is_true(config, "use_bias") else names


def _depthwise(config: Config, keras: int) -> Names:
    return _with_bias("depthwise_kernel" if keras < 3 else "kernel")(config, keras)


def _scale_and_offset(config: Config, keras: int) -> Names:
    rms = bool(config.get("rms_scaling"))
    gamma, beta = _is_true(config, "scale") or rms, _is_true(config, "center") and not rms
    return ("gamma",) * gamma + ("beta",) * beta


def _only(*names: str) -> Callable[[Config, int], Names]:
    return lambda config, keras: names


def _is_true(config: Config, name: str) -> bool:
    value = config.get(name)
    return True if value is None else bool(value)


CONVOLUTIONS = tuple(f"{name}{axes}" for name in ("Conv", "Convolution") for axes in _AXES)
TRANSPOSED = (
    *(f"{name}{axes}Transpose" for name in ("Conv", "Convolution") for axes in _AXES),
    "Deconvolution2D",
    "Deconvolution3D",
)
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")

_TRAINABLE: dict[str, Callable[[Config, int], Names]] = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED, "Dense", "LocallyConnected1D", "LocallyConnected2D"), _with_bias("kernel")),
    **dict.fromkeys(DEPTHWISE, _depthwise),
    **dict.fromkeys(SEPARABLE, _with_bias("depthwise_kernel", "pointwise_kernel")),
    **dict.fromkeys(
        ("BatchNormalization", "SyncBatchNormalization", "LayerNormalization", "GroupNormalization"), _scale_and_offset
    ),
    "RMSNormalization": _only("scale"),
    "PReLU": _only("alpha"),
    "LayerScale": _only("gamma"),
    "Embedding": _only("embeddings"),
    **dict.fromkeys(("SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _with_bias("kernel", "recurrent_kernel")),
}  # fmt: skip


def _adapted(config: Config, keras: int) -> Names:
    return () if config.get("mean") is not None else ("mean", "variance", "count")


_NON_TRAINABLE: dict[str, Callable[[Config, int], Names]] = {
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _only("moving_mean", "moving_variance")),
    "Normalization": _adapted,
}

_WINDOWS: Names = ("MaxPooling", "MaxPool", "AveragePooling", "AvgPool", "GlobalMaxPooling", "GlobalMaxPool")
_WINDOWS += ("GlobalAveragePooling", "GlobalAvgPool", "AdaptiveAveragePooling", "AdaptiveMaxPooling")
_WINDOWS += ("UpSampling", "ZeroPadding", "Cropping", "SpatialDropout")

WITHOUT_VARIABLES = {
    *(f"{name}{axes}" for name in _WINDOWS for axes in _AXES),
    "InputLayer", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU", "Add", "Subtract", "Multiply",
    "Average", "Maximum", "Minimum", "Concatenate", "Dot", "CustomScaleLayer", "Dropout", "GaussianDropout", "GaussianNoise",
    "AlphaDropout", "ActivityRegularization", "Identity", "StochasticDepth", "Flatten", "Reshape", "Permute", "RepeatVector",
    "UnitNormalization", "Rescaling", "Resizing", "CenterCrop", "RandomCrop", "AugMix", "CutMix", "MixUp", "RandAugment",
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomWidth", "RandomZoom", "Lambda", "Masking", "edgecnn>LocalResponseNormalization",
    "LocalResponseNormalization", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer",
}  # fmt: skip

PRUNED = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED, "Dense", "LocallyConnected1D", "LocallyConnected2D"), "kernel"),
    **dict.fromkeys(SEPARABLE, "pointwise_kernel"),
    "Embedding": "embeddings",
}
"""The variable of each class that tensorflow_model_optimization prunes. Source: tfmot 0.8,
sparsity/keras/prune_registry.py."""


def around_of(wrapper: str, inner: str) -> tuple[str, ...] | None:
    """Variables of a wrapper beside those of the layer inside; None where they are not known. Those of Keras' own wrappers come
    before, those of tfmot's behind the others that are not trained.

    What SpectralNormalization keeps from step to step of the training is not needed afterwards: its kernel is stored normalised.
    """
    if wrapper == "SpectralNormalization":
        return ("vector_u",)
    if wrapper == "PruneLowMagnitude":
        known = inner in PRUNED or inner in WITHOUT_VARIABLES or inner in _TRAINABLE
        return (("mask", "threshold") if inner in PRUNED else ()) + ("pruning_step",) if known else None
    return ()


OTHER_NAMES = {
    "vector_u": ("sn_u",),
    "alpha": ("alphas",),
    "kernel": ("W",),
    "bias": ("b",),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_std",),
    "depthwise_kernel": ("kernel",),
}
"""What other versions of Keras call the same variable."""

KNOWN = {
    *("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "depthwise_kernel", "pointwise_kernel", "alpha"),
    *("mask", "threshold", "pruning_step", "scale", "mean", "variance", "count", "embeddings", "recurrent_kernel"),
    *(other for others in OTHER_NAMES.values() for other in others),
}  # fmt: skip
"""Names that tell which variable of a layer one is."""


def variables_of(class_name: str, config: Config, keras: int) -> tuple[Names, Names] | None:
    """The trainable and the other variables of a layer; None of a class that is not known.

    Args:
        class_name, config: of the layer.
        keras: major version of the Keras that wrote the file.
    """
    if class_name.startswith(("ops.", "tf.")) or class_name in WITHOUT_VARIABLES:
        return (), ()
    if class_name not in _TRAINABLE and class_name not in _NON_TRAINABLE:
        return None
    trainable = _TRAINABLE.get(class_name, _only())(config, keras)
    return trainable, _NON_TRAINABLE.get(class_name, _only())(config, keras)


def masked(class_name: str, arrays: Mapping[str, Array], mask: Array) -> dict[str, Array]:
    """A pruned layer's arrays, its zeros applied: tfmot multiplies at every call.

    Raises:
        ValueError: the mask is that of another array.
    """
    name = PRUNED[class_name]
    if arrays[name].shape != mask.shape:
        raise ValueError(f"{name} has the shape {arrays[name].shape}, and its mask {mask.shape}")
    return {**arrays, name: arrays[name] * mask}


def is_called(path: str, variable: str) -> bool:
    """Whether a stored name ("block/conv/kernel:0", "conv_W") may be that of a variable ("kernel"). What says nothing
    ("Variable:0", "param_3") may be any."""
    last = path.rsplit("/", 1)[-1].split(":")[0]
    said = _said(last)
    return said is None or said == variable or said in OTHER_NAMES.get(variable, ())


def _said(last: str) -> str | None:
    """Which known variable the end of a name says: kernel, kernel_1 (the second of that name), dense_1_W (Keras 1)."""
    if last in KNOWN:
        return last
    plain = last.rstrip("0123456789")
    if plain != last and plain.endswith("_") and plain[:-1] in KNOWN:
        return plain[:-1]
    ends = [known for known in KNOWN if last.endswith(f"_{known}")]
    return max(ends, key=len) if ends else None


def misfit(class_name: str, config: Config, arrays: Mapping[str, Array]) -> str | None:
    """How a layer's arrays contradict its configuration; None if they do not."""
    axes = next((int(c) for c in class_name if c.isdigit()), 0)
    filters, units = config.get("filters"), config.get("units")
    for name, array in arrays.items():
        wanted: dict[int, Any] = {}
        window = name in ("kernel", "depthwise_kernel") and axes
        if window and class_name in (*CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE):
            if array.ndim != axes + 2:
                return f"{name} has the shape {array.shape}; wanted {axes + 2} axes"
            sizes = config.get("kernel_size")
            sizes = list(sizes) if isinstance(sizes, list | tuple) else [sizes] * axes
            wanted |= dict(enumerate(sizes * axes if len(sizes) == 1 else sizes))
        if name == "kernel" and class_name in CONVOLUTIONS:
            wanted[axes + 1] = filters
        if name == "kernel" and class_name in TRANSPOSED:
            wanted[axes] = filters
        if name == "pointwise_kernel":
            wanted[axes + 1] = filters
        if name == "kernel" and class_name == "Dense":
            wanted[1] = units
        if name == "bias" and class_name in ("Dense", *CONVOLUTIONS, *TRANSPOSED, *SEPARABLE):
            wanted[0] = units if class_name == "Dense" else filters
        for axis, size in wanted.items():
            if isinstance(size, int) and (axis >= array.ndim or array.shape[axis] != size):
                return f"{name} has the shape {array.shape}; wanted {size} at axis {axis}"
    vectors = {
        array.shape for name, array in arrays.items() if name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    return f"its vectors have the shapes {sorted(vectors)}" if len(vectors) > 1 else None
