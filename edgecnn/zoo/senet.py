"""Residual networks with squeeze-and-excitation: SE-ResNet-50, -101 and -152, and SENet-154.

Where the paper leaves a choice (strides, padding, biases), it is that of the authors' own models,
https://github.com/hujie-frank/SENet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.zoo.inputs import InputShape, check_input

if TYPE_CHECKING:
    import keras

STAGE_FILTERS = (256, 512, 1024, 2048)
"""Channels that the blocks of each stage, conv2 to conv5, give."""


@dataclass(frozen=True)
class Design:
    """What tells these networks apart.

    Attributes:
        name: the model's.
        blocks: bottleneck blocks in each stage.
        stem: (filters, kernel size) of the convolutions before the first pool; the first has stride 2.
        reduction: of an excitation's channels between its two layers.
        narrow: a block's first convolution has 1/narrow of its output's channels.
        wide: a block's 3x3 convolution has 1/wide of them.
        groups: of that 3x3 convolution.
        stride_first: whether the first convolution of a stage halves the size, else the 3x3 does.
        projection: kernel size of the shortcut where the size is halved.
        dropout: before the classifier.
    """

    name: str
    blocks: tuple[int, int, int, int]
    stem: tuple[tuple[int, int], ...] = ((64, 7),)
    reduction: int = 16
    narrow: int = 4
    wide: int = 4
    groups: int = 1
    stride_first: bool = True
    projection: int = 1
    dropout: float = 0.0


def se_resnet50(input_shape: InputShape = (224, 224, 3), classes: int = 1000, reduction: int = 16) -> keras.Model:
    """SE-ResNet-50: ResNet-50, stride in the first 1x1 of a stage, with squeeze-and-excitation in each block.

    The squeeze follows a block's last batch normalisation and its scale precedes the addition. Weights are random.

    Args:
        input_shape: (height, width, channels); any height and width, None too. 32 pixels leave 1 in the last stage.
        classes: 2 or more.
        reduction: channels of an excitation over those between its two layers, 1 to 256; r of the paper.

    Returns:
        A model float32 (N, height, width, channels) -> (N, classes), the probabilities of the classes.

    Raises:
        ValueError: an argument is out of range.

    Source: Hu et al.: Squeeze-and-Excitation Networks, 2017, section 3, Figure 3, Table 1; He et al.: Deep Residual
        Learning for Image Recognition, 2015, Table 1.
    """
    return _network(Design("se_resnet50", (3, 4, 6, 3), reduction=reduction), input_shape, classes)


def se_resnet101(input_shape: InputShape = (224, 224, 3), classes: int = 1000, reduction: int = 16) -> keras.Model:
    """SE-ResNet-101; arguments, result, errors and source as of se_resnet50."""
    return _network(Design("se_resnet101", (3, 4, 23, 3), reduction=reduction), input_shape, classes)


def se_resnet152(input_shape: InputShape = (224, 224, 3), classes: int = 1000, reduction: int = 16) -> keras.Model:
    """SE-ResNet-152; arguments, result, errors and source as of se_resnet50."""
    return _network(Design("se_resnet152", (3, 8, 36, 3), reduction=reduction), input_shape, classes)


def senet154(input_shape: InputShape = (224, 224, 3), classes: int = 1000) -> keras.Model:
    """SENet-154: a 64x4d ResNeXt-152 with squeeze-and-excitation, the winner of ILSVRC 2017. Weights are random.

    Against ResNeXt: half the channels in the first 1x1 of a block, three 3x3 in place of the first 7x7, 3x3 in place
    of the 1x1 in shortcuts of stride 2, dropout of 0.2 before the classifier.

    Args:
        input_shape: (height, width, channels); any height and width, None too. 32 pixels leave 1 in the last stage.
        classes: 2 or more.

    Returns:
        A model float32 (N, height, width, channels) -> (N, classes), the probabilities of the classes.

    Raises:
        ValueError: an argument is out of range.

    Source: Hu et al.: Squeeze-and-Excitation Networks, 2017, appendix "Details of SENet-154".
    """
    design = Design(
        "senet154",
        (3, 8, 36, 3),
        stem=((64, 3), (64, 3), (128, 3)),
        narrow=2,
        wide=1,
        groups=64,
        stride_first=False,
        projection=3,
        dropout=0.2,
    )
    return _network(design, input_shape, classes)


def _network(design: Design, input_shape: InputShape, classes: int) -> keras.Model:
    import keras
    from keras import layers

    check_input(design.name, input_shape, classes)
    if not 1 <= design.reduction <= STAGE_FILTERS[0]:
        raise ValueError(f"{design.name}: reduction is {design.reduction}, wanted 1 to {STAGE_FILTERS[0]}")
    image = x = keras.Input(input_shape, name="image")
    for number, (filters, kernel_size) in enumerate(design.stem, 1):
        name = f"conv1_{number}" if len(design.stem) > 1 else "conv1"
        x = _relu(_normalized_convolution(x, filters, kernel_size, name, strides=2 if number == 1 else 1), name)
    # Of an even size, "same" pads one pixel at the end, which is Caffe's rounding up.
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for stage, (blocks, filters) in enumerate(zip(design.blocks, STAGE_FILTERS, strict=True), 2):
        for number in range(1, blocks + 1):
            strides = 2 if number == 1 and stage > 2 else 1
            x = _bottleneck(x, design, filters, strides, projected=number == 1, name=f"conv{stage}_block{number}")
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    if design.dropout:
        x = layers.Dropout(design.dropout, name="dropout")(x)
    answer = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, answer, name=design.name)


def _bottleneck(x: Any, design: Design, filters: int, strides: int, projected: bool, name: str) -> Any:
    """1x1, 3x3, 1x1, squeeze-and-excitation, and the sum with the shortcut, which a stage's first block projects."""
    from keras import layers

    shortcut = x
    if projected:
        kernel_size = design.projection if strides > 1 else 1
        shortcut = _normalized_convolution(x, filters, kernel_size, f"{name}_projection", strides)
    first, second = (strides, 1) if design.stride_first else (1, strides)
    y = _relu(_normalized_convolution(x, filters // design.narrow, 1, f"{name}_reduce", first), f"{name}_reduce")
    y = _normalized_convolution(y, filters // design.wide, 3, f"{name}_3x3", second, design.groups)
    y = _normalized_convolution(_relu(y, f"{name}_3x3"), filters, 1, f"{name}_increase")
    y = _squeeze_and_excitation(y, filters, design.reduction, name)
    return _relu(layers.Add(name=f"{name}_add")([y, shortcut]), name)


def _squeeze_and_excitation(x: Any, filters: int, reduction: int, name: str) -> Any:
    """Each channel times a number that depends on the means of all (sections 3.1, 3.2)."""
    from keras import layers

    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    y = layers.Dense(filters // reduction, activation="relu", name=f"{name}_excitation_reduce")(y)
    y = layers.Dense(filters, activation="sigmoid", name=f"{name}_excitation_increase")(y)
    return layers.Multiply(name=f"{name}_scale")([x, y])


def _normalized_convolution(
    x: Any, filters: int, kernel_size: int, name: str, strides: int = 1, groups: int = 1
) -> Any:
    """A convolution without biases, and its batch normalisation."""
    from keras import layers

    padding = "same"
    if strides > 1 and kernel_size > 1:
        # The authors pad both ends alike; of an even size, "same" pads less in front.
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    convolution = layers.Conv2D(
        filters, kernel_size, strides, padding, groups=groups, use_bias=False, name=f"{name}_conv"
    )
    # Caffe's epsilon, which the authors' models keep.
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_norm")(convolution(x))


def _relu(x: Any, name: str) -> Any:
    from keras import layers

    return layers.ReLU(name=f"{name}_relu")(x)
