"""GoogLeNet, the first Inception network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecnn.zoo.inputs import InputShape, check_input
from edgecnn.accelerators.keras_layers import local_response_normalization_class

if TYPE_CHECKING:
    import keras

SMALLEST_WITH_AUXILIARY = 65
"""Pixels: four halvings, rounded up, leave the 5 x 5 that the auxiliary classifiers' pools need."""

# Table 1: filters of the 1x1, the 3x3 with its 1x1 before it, the 5x5 with its own, and the projection after the pool.
INCEPTION = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
POOLED_AFTER = {"3b": "pool3", "4e": "pool4"}
CLASSIFIED_AFTER = ("4a", "4d")


def googlenet(input_shape: InputShape = (224, 224, 3), classes: int = 1000, auxiliary: bool = False) -> keras.Model:
    """GoogLeNet, also called Inception v1. Weights are random.

    Every convolution and max pool pads as Keras' "same" does: the paper gives sizes only, and with 224 x 224 pixels
    these are the sizes. Two more things that the paper leaves open: local response normalisation has AlexNet's
    constants, and the first convolution, of which Table 1 counts 2.7K weights, is the plain 7x7 of its text with 9.4K.

    Args:
        input_shape: (height, width, channels); any height and width, None too, but 65 or more with auxiliary.
        classes: 2 or more.
        auxiliary: whether the model also has the two classifiers that help training.

    Returns:
        A model float32 (N, height, width, channels) -> (N, classes), the probabilities of the classes. With auxiliary,
        three such outputs: the network's own, and those of the classifiers on modules 4a and 4d.

    Raises:
        ValueError: an argument is out of range.

    Source: Szegedy et al.: Going Deeper with Convolutions, 2014, Table 1, Figures 2(b) and 3; auxiliary: section 5.
    """
    import keras
    from keras import layers

    check_input("googlenet", input_shape, classes, SMALLEST_WITH_AUXILIARY if auxiliary else 1, sized=auxiliary)
    local_response_normalization = local_response_normalization_class()

    image = keras.Input(input_shape, name="image")
    x = _convolution(image, 64, 7, "conv1", strides=2)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    x = local_response_normalization(name="norm1")(x)
    x = _convolution(x, 64, 1, "conv2_reduce")
    x = _convolution(x, 192, 3, "conv2")
    x = local_response_normalization(name="norm2")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool2")(x)
    helpers = []
    for module in INCEPTION:
        x = _inception(x, module)
        if auxiliary and module in CLASSIFIED_AFTER:
            helpers.append(_auxiliary_classifier(x, module, classes))
        if module in POOLED_AFTER:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=POOLED_AFTER[module])(x)
    # 7x7 at the paper's size; the mean of all positions lets other sizes in.
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    answer = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, [answer, *helpers] if auxiliary else answer, name="googlenet")


def _convolution(x: Any, filters: int, kernel_size: int, name: str, strides: int = 1) -> Any:
    from keras import layers

    layer = layers.Conv2D(filters, kernel_size, strides=strides, padding="same", activation="relu", name=name)
    return layer(x)


def _inception(x: Any, module: str) -> Any:
    """An Inception module with dimension reductions: four branches side by side."""
    from keras import layers

    plain, (reduce_3x3, filters_3x3), (reduce_5x5, filters_5x5), projection = INCEPTION[module]
    name = f"inception_{module}"
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _convolution(x, plain, 1, f"{name}_1x1"),
        _convolution(_convolution(x, reduce_3x3, 1, f"{name}_3x3_reduce"), filters_3x3, 3, f"{name}_3x3"),
        _convolution(_convolution(x, reduce_5x5, 1, f"{name}_5x5_reduce"), filters_5x5, 5, f"{name}_5x5"),
        _convolution(pooled, projection, 1, f"{name}_projection"),
    ]
    return layers.Concatenate(name=f"{name}_concatenate")(branches)


def _auxiliary_classifier(x: Any, module: str, classes: int) -> Any:
    from keras import layers

    name = f"auxiliary_{module}"
    x = layers.AveragePooling2D(5, strides=3, name=f"{name}_pool")(x)
    x = _convolution(x, 128, 1, f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation="softmax", name=f"{name}_predictions")(x)
