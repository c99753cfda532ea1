"""The networks of edgecnn.zoo are those of their papers: counts, shapes, and local response normalisation."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import zoo
from edgecnn.zoo.googlenet import INCEPTION

with warnings.catch_warnings():
    # Importing TensorFlow warns of its own deprecations.
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL: dict[str, Any] = {"input_shape": (32, 32, 3), "classes": 7}

# Bottleneck blocks in each stage: Table 1 of the ResNet paper; SENet-154 stacks them as ResNet-152 does.
BLOCKS = {
    "se_resnet50": (3, 4, 6, 3),
    "se_resnet101": (3, 4, 23, 3),
    "se_resnet152": (3, 8, 36, 3),
    "senet154": (3, 8, 36, 3),
}

# Multiply-adds that the paper states, and for SENet-154 https://github.com/osmr/imgclsmob. They count pools and products
# with the convolutions and dense layers that are counted here.
STATED_MACS = {"se_resnet50": 3.87e9, "se_resnet101": 7.60e9, "se_resnet152": 11.32e9, "senet154": 20.7458e9}


@pytest.fixture(scope="module")
def alexnet() -> Any:
    """With the paper's input and classes: 244 MB of weights."""
    return zoo.alexnet()


@pytest.fixture(scope="module")
def googlenet() -> Any:
    return zoo.googlenet()


def learned(model: Any) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def macs(layer: Any) -> int:
    """Multiply-adds of a convolution or a dense layer: each weight meets each position once."""
    kernel = getattr(layer, "kernel", None)
    return 0 if kernel is None else math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])


def pictures(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, *shape), np.float32)


def convolution_parameters(kernel: int, inputs: int, filters: int, groups: int = 1, biases: bool = True) -> int:
    return kernel**2 * (inputs // groups) * filters + (filters if biases else 0)


def inception_parameters(inputs: int, module: str) -> int:
    plain, (before_3x3, of_3x3), (before_5x5, of_5x5), projection = INCEPTION[module]
    count = convolution_parameters
    ones = sum(count(1, inputs, filters) for filters in (plain, before_3x3, before_5x5, projection))
    return ones + count(3, before_3x3, of_3x3) + count(5, before_5x5, of_5x5)


def googlenet_parameters(classes: int) -> int:
    total = convolution_parameters(7, 3, 64) + convolution_parameters(1, 64, 64) + convolution_parameters(3, 64, 192)
    channels = 192
    for module, (plain, (_, of_3x3), (_, of_5x5), projection) in INCEPTION.items():
        total += inception_parameters(channels, module)
        channels = plain + of_3x3 + of_5x5 + projection
    return total + (channels + 1) * classes


def senet_parameters(name: str, classes: int, reduction: int = 16) -> int:
    """Convolutions without biases, two numbers for each normalised channel, biases in excitations and classifier."""

    def normalized(kernel: int, inputs: int, filters: int, groups: int = 1) -> int:
        return convolution_parameters(kernel, inputs, filters, groups, biases=False) + 2 * filters

    large = name == "senet154"
    stem = [(3, 3, 64), (3, 64, 64), (3, 64, 128)] if large else [(7, 3, 64)]
    total, channels = sum(normalized(*layer) for layer in stem), stem[-1][2]
    for stage, blocks in enumerate(BLOCKS[name]):
        filters = 256 * 2**stage
        narrow, wide, groups = (filters // 2, filters, 64) if large else (filters // 4, filters // 4, 1)
        total += normalized(3 if large and stage > 0 else 1, channels, filters)
        for _ in range(blocks):
            total += (
                normalized(1, channels, narrow) + normalized(3, narrow, wide, groups) + normalized(1, wide, filters)
            )
            inner = filters // reduction
            total += (filters + 1) * inner + (inner + 1) * filters
            channels = filters
    return total + (channels + 1) * classes


def test_alexnet_has_the_parameters_of_its_layers(alexnet: Any) -> None:
    expected = {
        "conv1": 11 * 11 * 3 * 96 + 96,
        "conv2": 5 * 5 * 48 * 256 + 256,
        "conv3": 3 * 3 * 256 * 384 + 384,
        "conv4": 3 * 3 * 192 * 384 + 384,
        "conv5": 3 * 3 * 192 * 256 + 256,
        "fc6": 6 * 6 * 256 * 4096 + 4096,
        "fc7": 4096 * 4096 + 4096,
        "predictions": 4096 * 1000 + 1000,
    }
    assert {layer.name: layer.count_params() for layer in alexnet.layers if layer.count_params()} == expected
    assert alexnet.count_params() == sum(expected.values()) == 60_965_224
    # The multiply-adds of the same layers, at 55 x 55, 27 x 27 and 13 x 13 positions.
    assert sum(map(macs, alexnet.layers)) == 724_406_816


def test_alexnet_has_as_many_neurons_as_its_paper_counts(alexnet: Any) -> None:
    found = [math.prod(layer.output.shape[1:]) for layer in alexnet.layers if re.match(r"conv|fc|pred", layer.name)]
    # Section 3.5, but for the first layer: 253,440 stands there, which is not the 55 x 55 x 96 of Figure 2.
    assert found == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


def test_alexnet_in_one_group_has_twice_the_weights_in_three_layers() -> None:
    one, two = zoo.alexnet((67, 67, 3), 2, groups=1), zoo.alexnet((67, 67, 3), 2)
    split = 5 * 5 * 48 * 256 + 3 * 3 * 192 * 384 + 3 * 3 * 192 * 256
    assert one.count_params() - two.count_params() == split


def test_googlenet_has_the_parameters_and_sizes_of_its_table(googlenet: Any) -> None:
    assert googlenet.count_params() == googlenet_parameters(1000) == 6_998_552
    sizes = {
        "conv1": (112, 112, 64),
        "pool1": (56, 56, 64),
        "conv2": (56, 56, 192),
        "pool2": (28, 28, 192),
        "inception_3a_concatenate": (28, 28, 256),
        "inception_3b_concatenate": (28, 28, 480),
        "pool3": (14, 14, 480),
        "inception_4a_concatenate": (14, 14, 512),
        "inception_4b_concatenate": (14, 14, 512),
        "inception_4c_concatenate": (14, 14, 512),
        "inception_4d_concatenate": (14, 14, 528),
        "inception_4e_concatenate": (14, 14, 832),
        "pool4": (7, 7, 832),
        "inception_5a_concatenate": (7, 7, 832),
        "inception_5b_concatenate": (7, 7, 1024),
        "pool5": (1024,),
    }
    assert {name: googlenet.get_layer(name).output.shape[1:] for name in sizes} == sizes


def test_googlenet_takes_the_multiply_adds_of_its_table(googlenet: Any) -> None:
    found = {
        module: sum(macs(layer) for layer in googlenet.layers if layer.name.startswith(f"inception_{module}"))
        for module in INCEPTION
    }
    # In millions; 5a is left out, for which Table 1 says 54 M where its own filters need 51 M.
    stated = {"3a": 128, "3b": 304, "4a": 73, "4b": 88, "4c": 100, "4d": 119, "4e": 170, "5b": 71}
    assert {name: found[name] / 1e6 for name in stated} == pytest.approx(stated, abs=1)
    conv2 = sum(macs(layer) for layer in googlenet.layers if layer.name.startswith("conv2"))
    assert conv2 / 1e6 == pytest.approx(360, abs=1)
    # The table's 1502 M hold 34 M for the first convolution, which needs 118 M.
    assert sum(map(macs, googlenet.layers)) / 1e6 == pytest.approx(1502 - 34 + 118, abs=5)


def test_auxiliary_classifiers_read_4_by_4_positions_and_add_what_section_5_says() -> None:
    model = zoo.googlenet(auxiliary=True)
    added = sum(
        convolution_parameters(1, channels, 128) + (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000
        for channels in (512, 528)
    )
    assert model.count_params() == googlenet_parameters(1000) + added
    assert model.get_layer("auxiliary_4a_pool").output.shape[1:] == (4, 4, 512)
    assert model.get_layer("auxiliary_4d_pool").output.shape[1:] == (4, 4, 528)
    assert model.output_names == ["predictions", "auxiliary_4a_predictions", "auxiliary_4d_predictions"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("se_resnet50", 28_088_024),
        ("se_resnet101", 49_326_872),
        ("se_resnet152", 66_821_848),
        ("senet154", 115_088_984),
    ],
)
def test_senets_have_the_parameters_and_multiply_adds_of_their_paper(name: str, parameters: int) -> None:
    model = getattr(zoo, name)()
    assert learned(model) == senet_parameters(name, 1000) == parameters
    assert sum(map(macs, model.layers)) == pytest.approx(STATED_MACS[name], rel=0.005)
    last = [model.get_layer(f"conv{stage}_block{n}_relu") for stage, n in enumerate(BLOCKS[name], 2)]
    assert [layer.output.shape[1:] for layer in last] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


def test_squeeze_and_excitation_adds_what_equation_5_says_to_resnet_50() -> None:
    model = zoo.se_resnet50(**SMALL)
    excitations = [layer for layer in model.layers if "excitation" in layer.name]
    blocks = zip(BLOCKS["se_resnet50"], (256, 512, 1024, 2048), strict=True)
    assert len(excitations) == 2 * 16
    assert sum(math.prod(layer.kernel.shape) for layer in excitations) == sum(2 * n * c**2 // 16 for n, c in blocks)


def test_a_reduction_of_32_has_fewer_parameters_than_one_of_16() -> None:
    assert learned(zoo.se_resnet50(**SMALL, reduction=32)) == senet_parameters("se_resnet50", 7, 32)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (zoo.alexnet, (67, 71, 3)),
        (zoo.googlenet, (33, 32, 3)),
        (zoo.se_resnet50, (32, 33, 3)),
    ],
    ids=["alexnet", "googlenet", "se_resnet50"],
)
def test_probabilities_sum_to_one(build: Callable[..., Any], shape: tuple[int, ...]) -> None:
    model = build(shape, 7)
    answers = np.asarray(model(pictures(2, *shape), training=False))
    assert answers.shape == (2, 7)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_each_output_of_googlenet_with_auxiliary_classifiers_is_a_probability() -> None:
    model = zoo.googlenet((65, 65, 3), 7, auxiliary=True)
    answers = [np.asarray(answer) for answer in model(pictures(2, 65, 65, 3), training=False)]
    assert [answer.shape for answer in answers] == [(2, 7)] * 3
    assert np.allclose([answer.sum(axis=1) for answer in answers], 1, atol=1e-5)


@pytest.mark.parametrize("build", [zoo.googlenet, zoo.se_resnet50], ids=["googlenet", "se_resnet50"])
def test_networks_that_end_in_a_mean_take_any_size(build: Callable[..., Any]) -> None:
    assert build((None, None, 1), 7).output_shape == (None, 7)
    assert build((1, 1, 3), 7).output_shape == (None, 7)


@pytest.mark.parametrize(
    ("build", "dropouts"),
    [(zoo.alexnet, [0.5, 0.5]), (zoo.googlenet, [0.4]), (zoo.se_resnet50, [])],
    ids=["alexnet", "googlenet", "se_resnet50"],
)
def test_dropout_is_the_papers(build: Callable[..., Any], dropouts: list[float]) -> None:
    model = build((67, 67, 3), 7)
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == dropouts


def test_networks_are_made_of_keras_layers_and_local_response_normalisation() -> None:
    models = [zoo.alexnet((67, 67, 3), 7), zoo.googlenet(**SMALL), zoo.se_resnet50(**SMALL)]
    kinds = {type(layer) for model in models for layer in model.layers}
    names = {kind.__name__ for kind in kinds if not kind.__module__.startswith("keras.src.layers.")}
    assert names == {"LocalResponseNormalization"}
    assert "Lambda" not in {kind.__name__ for kind in kinds}


@pytest.mark.parametrize(
    ("build", "arguments", "wanted"),
    [
        (zoo.alexnet, {"input_shape": (66, 67, 3)}, "67 x 67 pixels at least"),
        (zoo.alexnet, {"input_shape": (None, 67, 3)}, "need height and width"),
        (zoo.alexnet, {"groups": 3}, "groups is 3"),
        (zoo.alexnet, {"classes": 1}, "classes is 1"),
        (zoo.googlenet, {"input_shape": (224, 3)}, "wanted (height, width, channels)"),
        (zoo.googlenet, {"input_shape": (64, 65, 3), "auxiliary": True}, "65 x 65 pixels at least"),
        (zoo.se_resnet50, {"reduction": 0}, "reduction is 0"),
        (zoo.se_resnet50, {"reduction": 257}, "reduction is 257"),
        (zoo.senet154, {"input_shape": (0, 32, 3)}, "1 x 1 pixels at least"),
    ],
)
def test_arguments_out_of_range_are_refused(build: Callable[..., Any], arguments: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wanted)):
        build(**arguments)


def neighbours_normalized(x: np.ndarray, size: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """The formula of section 3.3, channel by channel, in float64."""
    channels = x.shape[-1]
    y = np.empty(x.shape)
    for channel in range(channels):
        first, last = channel - (size - 1) // 2, channel + size // 2
        total = sum(x[..., j].astype(float) ** 2 for j in range(max(0, first), min(channels - 1, last) + 1))
        y[..., channel] = x[..., channel] / (bias + alpha * total) ** beta
    return y


@pytest.mark.parametrize("shape", [(4, 5, 11), (3, 2), (1,)], ids=str)
@pytest.mark.parametrize(
    "numbers", [(5, 2.0, 1e-4, 0.75), (1, 1.0, 0.5, 0.5), (4, 0.5, 0.3, 2.0), (23, 3.0, 0.1, 0.25)], ids=str
)
def test_local_response_normalisation_is_the_papers_formula(
    shape: tuple[int, ...], numbers: tuple[int, float, float, float]
) -> None:
    x = 20 * pictures(3, *shape)
    layer = zoo.local_response_normalization_class()(*numbers)
    # A sum of squares, a power, a division: each good to a few units in the last place.
    np.testing.assert_allclose(np.asarray(layer(x)), neighbours_normalized(x, *numbers), rtol=1e-5)
    assert layer.compute_output_shape(x.shape) == x.shape


def test_local_response_normalisation_of_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        zoo.local_response_normalization_class()(size=0)


def test_the_layer_is_one_class_under_one_registered_name() -> None:
    layer_class = zoo.local_response_normalization_class()
    assert zoo.LocalResponseNormalization is layer_class is zoo.local_response_normalization_class()
    assert keras.saving.get_registered_name(layer_class) == "edgecnn>LocalResponseNormalization"
    config = layer_class(3, 1.5, 0.25, 0.5, name="norm").get_config()
    copy = layer_class.from_config(config)
    assert (copy.size, copy.bias, copy.alpha, copy.beta, copy.name) == (3, 1.5, 0.25, 0.5, "norm")


def test_a_name_that_the_zoo_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zoo.nothing  # noqa: B018


def test_alexnet_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    model = zoo.alexnet((67, 67, 3), 7)
    model.save(tmp_path / "alexnet.keras")
    with zipfile.ZipFile(tmp_path / "alexnet.keras") as file:
        layers = json.loads(file.read("config.json"))["config"]["layers"]
    names = {layer["registered_name"] for layer in layers if layer["class_name"] == "LocalResponseNormalization"}
    assert names == {"edgecnn>LocalResponseNormalization"}
    again = keras.saving.load_model(tmp_path / "alexnet.keras")
    x = pictures(2, 67, 67, 3)
    np.testing.assert_array_equal(np.asarray(again(x, training=False)), np.asarray(model(x, training=False)))


def test_importing_the_zoo_loads_no_keras() -> None:
    # -P: the working folder, which may be a checkout without the compiled modules, is no place to import from.
    code = "import sys, edgecnn.zoo; sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
