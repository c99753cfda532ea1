"""Layers that do nothing at inference."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.reading import HEEDS_NO_TRAINING, NOTHING_AT_INFERENCE, Unsupported
from edgecnn.converters.layers.registry import Layer, is_channels_first, layer, only
from edgecnn.graph import Tensor

NOISE = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "AlphaDropout")  # fmt: skip
AUGMENTATION = (
    "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
    "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom",
)  # fmt: skip
NOTHING_AT_INFERENCE.update((*NOISE, *AUGMENTATION, "StochasticDepth", "ActivityRegularization", "Identity"))
# Augmentation records training=True by itself, and heeds what the model is called with all the same.
HEEDS_NO_TRAINING.update((*AUGMENTATION, "RandomCrop", "CenterCrop", "Resizing"))


@layer(*NOISE, *AUGMENTATION, "StochasticDepth", "ActivityRegularization", "Identity")
def convert_identity(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Dropout, noise, augmentation and regularisation: at inference the input itself."""
    return only(inputs)


@layer("RandomCrop")
def convert_random_crop(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """RandomCrop of images that have its size already; what it does with others depends on the version of Keras."""
    x = only(inputs, 4)
    size = x.shape[2:] if is_channels_first(layer) else x.shape[1:3]
    wanted = (layer.config["height"], layer.config["width"])
    if size != wanted:
        raise Unsupported(f"it cuts images of {size} to {wanted}", "use CenterCrop or Resizing for inference")
    return x
