"""AlexNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecnn.zoo.inputs import InputShape, check_input
from edgecnn.accelerators.keras_layers import local_response_normalization_class

if TYPE_CHECKING:
    import keras

SMALLEST = 67
"""Pixels: the last pool, unpadded like the first convolution and the other pools, still finds a 3 x 3 window."""


def alexnet(input_shape: InputShape = (227, 227, 3), classes: int = 1000, groups: int = 2) -> keras.Model:
    """AlexNet: grouped convolutions, overlapping pools, local response normalisation. Weights are random.

    Args:
        input_shape: (height, width, channels), height and width 67 or more. The paper says 224, but the sizes of its
            layers, 55 x 55, 27 x 27 and 13 x 13, need 227.
        classes: 2 or more.
        groups: into how many parts the second, fourth and fifth convolutions are cut; 2 as in the paper, where each
            part has a GPU of its own, 1 for none. A divisor of 32.

    Returns:
        A model float32 (N, height, width, channels) -> (N, classes), the probabilities of the classes.

    Raises:
        ValueError: an argument is out of range.

    Source: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012,
        sections 3.3 to 3.5 and 4.2, Figure 2.
    """
    import keras
    from keras import layers

    check_input("alexnet", input_shape, classes, smallest=SMALLEST, sized=True)
    if groups < 1 or 32 % groups:
        raise ValueError(f"alexnet: groups is {groups}, wanted a divisor of 32, which all its channel counts share")
    local_response_normalization = local_response_normalization_class()

    def pool(name: str) -> keras.Layer:
        return layers.MaxPooling2D(3, strides=2, name=name)

    def convolution(name: str, filters: int, kernel_size: int, groups: int = 1) -> keras.Layer:
        return layers.Conv2D(filters, kernel_size, padding="same", groups=groups, activation="relu", name=name)

    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1"),
            local_response_normalization(name="norm1"),
            pool("pool1"),
            convolution("conv2", 256, 5, groups),
            local_response_normalization(name="norm2"),
            pool("pool2"),
            convolution("conv3", 384, 3),
            convolution("conv4", 384, 3, groups),
            convolution("conv5", 256, 3, groups),
            pool("pool5"),
            layers.Flatten(name="flatten"),
            layers.Dense(4096, activation="relu", name="fc6"),
            layers.Dropout(0.5, name="dropout6"),
            layers.Dense(4096, activation="relu", name="fc7"),
            layers.Dropout(0.5, name="dropout7"),
            layers.Dense(classes, activation="softmax", name="predictions"),
        ],
        name="alexnet",
    )
