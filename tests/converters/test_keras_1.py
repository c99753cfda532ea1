"""Files of Keras 1, written here as Keras 1.2.2 wrote them: the answers are those of the same network in today's Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from keras_answers import keras_answers

pytestmark = pytest.mark.filterwarnings("ignore")

TRAINING = dict.fromkeys(("W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint", "b_constraint"))
TRAINING |= {"init": "glorot_uniform"}


def entry(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def first(layer: dict[str, Any], *shape: int) -> dict[str, Any]:
    """The layer with the input's shape, which Keras 1 keeps in the first layer."""
    layer["config"] |= {"batch_input_shape": [None, *shape], "input_dtype": "float32"}
    return layer


def conv2d(name: str = "c", order: str = "tf", class_name: str = "Convolution2D", **config: Any) -> dict[str, Any]:
    given = {
        "nb_filter": 4,
        "nb_row": 3,
        "nb_col": 2,
        "activation": "linear",
        "border_mode": "valid",
        "subsample": [1, 1],
    }
    return entry(class_name, name, **given | {"dim_ordering": order, "bias": True, **TRAINING} | config)


def dense(name: str = "d", **config: Any) -> dict[str, Any]:
    given = {"output_dim": 3, "activation": "linear", "bias": True, "input_dim": None, **TRAINING}
    return entry("Dense", name, **given | config)


def write(
    path: Path, layers: Any, arrays: dict[str, list[tuple[str, np.ndarray]]], class_name: str = "Sequential"
) -> None:
    """An .h5 file: groups of arrays by layer, each with the end of its name ("W", "running_std")."""
    names = list(arrays)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": class_name, "config": layers}).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = weights.create_group(name)
            group.attrs["weight_names"] = [f"{name}_{end}".encode() for end, _ in arrays[name]]
            for end, values in arrays[name]:
                group[f"{name}_{end}"] = values.astype(np.float32)


def random_model(keras: Any, *layers: Any) -> Any:
    model = keras.Sequential(list(layers))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)


def check(path: Path, model: Any, x: np.ndarray, given: np.ndarray | None = None) -> None:
    answer = edgecnn.load(to_graph(path))(x)
    expected = keras_answers(model, x if given is None else given)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def named(layer: Any, *ends: str) -> list[tuple[str, np.ndarray]]:
    return list(zip(ends, layer.get_weights(), strict=True))


@pytest.fixture
def keras() -> Any:
    return pytest.importorskip("tf_keras")


@pytest.mark.parametrize("border_mode", ["valid", "same"])
@pytest.mark.parametrize("subsample", [(1, 1), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution(keras: Any, tmp_path: Path, border_mode: str, subsample: tuple[int, int], bias: bool) -> None:
    layers = keras.layers
    options = {"strides": subsample, "padding": border_mode, "activation": "relu", "use_bias": bias}
    model = random_model(
        keras, layers.Input((9, 8, 3)), layers.Conv2D(4, (3, 2), **options), layers.GlobalMaxPooling2D()
    )
    conv = conv2d(border_mode=border_mode, subsample=list(subsample), activation="relu", bias=bias)
    written = [first(conv, 9, 8, 3), entry("GlobalMaxPooling2D", "g", dim_ordering="tf")]
    write(tmp_path / "a.h5", written, {"c": named(model.layers[0], *"Wb"[: 1 + bias]), "g": []})
    check(tmp_path / "a.h5", model, image(9, 8, 3))


def test_channels_first(keras: Any, tmp_path: Path) -> None:
    """Kernels as [filters, channels, rows, columns]; what does not tell its order has that of the others."""
    layers = keras.layers
    stack = [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Conv2D(4, (3, 2)), layers.BatchNormalization(epsilon=0.01)]
    stack += [layers.UpSampling2D((2, 1)), layers.SeparableConv2D(5, 3), layers.Conv2DTranspose(3, 2, strides=1)]
    model = random_model(keras, layers.Input((9, 8, 3)), *stack, layers.MaxPooling2D((2, 2)), layers.Permute((3, 1, 2)))
    _, conv, norm, _, separable, transposed, *_ = model.layers
    written = [
        first(entry("ZeroPadding2D", "z", padding={"top_pad": 1, "bottom_pad": 2, "right_pad": 3}), 3, 9, 8),
        conv2d("c", "th"),
        entry("BatchNormalization", "n", epsilon=0.01, mode=0, axis=1, momentum=0.99, gamma_regularizer=None, beta_regularizer=None),
        entry("UpSampling2D", "u", size=[2, 1]),
        conv2d("s", "th", "SeparableConvolution2D", nb_filter=5, nb_col=3, depth_multiplier=1),
        conv2d("t", "th", "Deconvolution2D", nb_filter=3, nb_row=2, output_shape=[None, 3, 19, 9]),
        entry("MaxPooling2D", "p", pool_size=[2, 2], strides=[2, 2], border_mode="valid", dim_ordering="th"),
    ]  # fmt: skip
    kernel, bias = conv.get_weights()
    depthwise, pointwise, own = separable.get_weights()
    arrays = {
        "z": [],
        "c": [("W", kernel.transpose(3, 2, 0, 1)), ("b", bias)],
        "n": named(norm, "gamma", "beta", "running_mean", "running_std"),
        "u": [],
        "s": [
            ("depthwise_kernel", depthwise.transpose(3, 2, 0, 1)),
            ("pointwise_kernel", pointwise.transpose(3, 2, 0, 1)),
            ("b", own),
        ],
        "t": [("W", transposed.get_weights()[0].transpose(2, 3, 0, 1)), ("b", transposed.get_weights()[1])],
        "p": [],
    }
    write(tmp_path / "a.h5", written, arrays)
    x = image(9, 8, 3)
    check(tmp_path / "a.h5", model, x.transpose(0, 3, 1, 2), x)
    report = edgecnn.convert(tmp_path / "a.h5", tmp_path / "a.ecnn")
    assert any("Theano" in warning for warning in report.warnings)


@pytest.mark.parametrize("old", [False, True])
def test_one_axis(keras: Any, tmp_path: Path, old: bool) -> None:
    """Kernels have an axis of one more, and before Keras 1.2 another order."""
    layers = keras.layers
    stack = [layers.ZeroPadding1D((1, 2)), layers.Conv1D(4, 3, strides=2), layers.Conv1D(4, 2, dilation_rate=2)]
    stack += [
        layers.MaxPooling1D(2, strides=1, padding="same"),
        layers.UpSampling1D(3),
        layers.GlobalAveragePooling1D(),
    ]
    model = random_model(keras, layers.Input((17, 3)), *stack)
    given = {"nb_filter": 4, "border_mode": "valid", "activation": "linear", "bias": True, "input_dim": 3, **TRAINING}
    written = [
        first(entry("ZeroPadding1D", "z", padding=[1, 2]), 17, 3),
        entry("Convolution1D", "a", **given, filter_length=3, subsample_length=2, input_length=None),
        entry(
            "AtrousConvolution1D", "b", **given, filter_length=2, subsample_length=1, atrous_rate=2, input_length=None
        ),
        entry("MaxPooling1D", "p", stride=1, pool_length=2, border_mode="same"),
        entry("UpSampling1D", "u", length=3),
        entry("GlobalAveragePooling1D", "g"),
    ]
    arrays: dict[str, Any] = {"z": []}
    for name, layer in (("a", model.layers[1]), ("b", model.layers[2])):
        kernel, bias = layer.get_weights()
        kernel = kernel.transpose(2, 1, 0)[..., None] if old else kernel[:, None]
        arrays[name] = [("W", kernel), ("b", bias)]
    write(tmp_path / "a.h5", written, arrays | {"p": [], "u": [], "g": []})
    check(tmp_path / "a.h5", model, image(17, 3))


def test_volumes(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    model = random_model(keras, layers.Input((5, 6, 7, 2)), layers.Conv3D(3, (2, 3, 2)), layers.Permute((4, 1, 2, 3)))
    kernel, bias = model.layers[0].get_weights()
    given = {"kernel_dim1": 2, "kernel_dim2": 3, "kernel_dim3": 2, "nb_filter": 3, "activation": "linear", "bias": True}
    given |= {"dim_ordering": "th", "border_mode": "valid", "subsample": [1, 1, 1], **TRAINING}
    arrays = {"c": [("W", kernel.transpose(4, 3, 0, 1, 2)), ("b", bias)]}
    write(tmp_path / "a.h5", [first(entry("Convolution3D", "c", **given), 2, 5, 6, 7)], arrays)
    x = image(5, 6, 7, 2)
    check(tmp_path / "a.h5", model, x.transpose(0, 4, 1, 2, 3), x)


def test_small_layers(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    stack = [layers.Dense(4, activation="hard_sigmoid"), layers.PReLU(), layers.LeakyReLU(0.2), layers.ELU(0.7)]
    stack += [layers.ThresholdedReLU(0.1), layers.RepeatVector(3), layers.Reshape((4, 3)), layers.Permute((2, 1))]
    stack += [layers.Flatten(), layers.Dense(3, use_bias=False, activation="softmax")]
    model = random_model(keras, layers.Input((5,)), *stack)
    written = [
        first(dense("a", output_dim=4, activation="hard_sigmoid"), 5),
        entry("Dropout", "x", p=0.5),
        entry("GaussianNoise", "y", sigma=0.1),
        entry("PReLU", "b", init="zero"),
        entry("LeakyReLU", "e", alpha=0.2),
        entry("ELU", "f", alpha=0.7),
        entry("ThresholdedReLU", "g", theta=0.1),
        entry("RepeatVector", "h", n=3),
        entry("Reshape", "i", target_shape=[4, 3]),
        entry("Permute", "j", dims=[2, 1]),
        entry("Flatten", "k"),
        dense("l", bias=False, activation="softmax"),
    ]
    arrays = {layer["config"]["name"]: [] for layer in written}
    arrays |= {
        "a": named(model.layers[0], "W", "b"),
        "b": named(model.layers[1], "alphas"),
        "l": named(model.layers[-1], "W"),
    }
    write(tmp_path / "a.h5", written, arrays)
    check(tmp_path / "a.h5", model, image(5))


MERGING = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}


@pytest.mark.parametrize("mode", MERGING)
@pytest.mark.parametrize("sequential", [False, True])
def test_merging(keras: Any, tmp_path: Path, mode: str, sequential: bool) -> None:
    """Functional, and as the first layer of a Sequential model around others, whose arrays lie among the model's own."""
    layers = keras.layers
    options: dict[str, Any] = {"concat": {"axis": 1}, "dot": {"axes": (1, 1)}}.get(mode, {})
    a, b = layers.Input((5,), name="a_input"), layers.Input((5,), name="b_input")
    left, right, last = layers.Dense(4), layers.Dense(4), layers.Dense(3)
    model = keras.Model([a, b], last(getattr(layers, MERGING[mode])(**options)([left(a), right(b)])))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    merge = {"name": "m", "mode": mode, "mode_type": "raw", "concat_axis": 1, "dot_axes": [1, 1], "arguments": {}}
    merge |= {"output_shape": None, "output_shape_type": "raw", "output_mask": None, "output_mask_type": "raw"}
    written: Any
    if sequential:
        merge["layers"] = [
            {"class_name": "Sequential", "config": [first(dense(name, output_dim=4), 5)]} for name in ("a", "b")
        ]
        written = [{"class_name": "Merge", "config": merge}, dense("d")]
    else:
        nodes = []
        for name in ("a_input", "b_input"):
            config = {"batch_input_shape": [None, 5], "input_dtype": "float32", "sparse": False, "name": name}
            nodes.append({"class_name": "InputLayer", "name": name, "config": config, "inbound_nodes": []})
        nodes += [
            dense(name, output_dim=4) | {"name": name, "inbound_nodes": [[[f"{name}_input", 0, 0]]]}
            for name in ("a", "b")
        ]
        inbound = [[["a", 0, 0], ["b", 0, 0]]]
        nodes.append({"class_name": "Merge", "name": "m", "config": merge, "inbound_nodes": inbound})
        nodes.append(dense("d") | {"name": "d", "inbound_nodes": [[["m", 0, 0]]]})
        written = {"name": "model", "layers": nodes}
        written |= {"input_layers": [["a_input", 0, 0], ["b_input", 0, 0]], "output_layers": [["d", 0, 0]]}
    arrays: dict[str, Any] = {name: named(layer, "W", "b") for name, layer in (("a", left), ("b", right), ("d", last))}
    write(tmp_path / "a.h5", written, arrays, "Sequential" if sequential else "Model")
    xs = [image(5), image(5) + 1]
    answer = edgecnn.load(to_graph(tmp_path / "a.h5")).run({"a_input": xs[0], "b_input": xs[1]})
    np.testing.assert_allclose(next(iter(answer.values())), keras_answers(model, xs), rtol=1e-4, atol=1e-5)


def test_a_model_inside_the_model(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Conv2D(4, (3, 2)), layers.BatchNormalization(epsilon=0.01), layers.Conv2D(4, (3, 2))]
    )
    model = random_model(keras, layers.Input((9, 8, 3)), inner, layers.Flatten(), layers.Dense(3))
    norm = entry("BatchNormalization", "n", epsilon=0.01, mode=0, axis=-1, momentum=0.9)
    written = [
        {"class_name": "Sequential", "config": [first(conv2d("c"), 9, 8, 3), norm, conv2d("e")], "name": "inner"},
        entry("Flatten", "f"),
        dense("d"),
    ]
    written[0]["config"][0]["config"]["name"] = "c"
    a, n, b = inner.layers
    gamma, beta, mean, variance = n.get_weights()
    held = [*a.get_weights(), gamma, beta, *b.get_weights(), mean, variance]
    ends = ["c_W", "c_b", "n_gamma", "n_beta", "e_W", "e_b", "n_running_mean", "n_running_std"]
    arrays = {"inner": list(zip(ends, held, strict=True)), "f": [], "d": named(model.layers[-1], "W", "b")}
    write(tmp_path / "a.h5", written, arrays)
    check(tmp_path / "a.h5", model, image(9, 8, 3))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (conv2d(unheard_of=1), ["unheard_of", "Convolution2D"]),
        (conv2d(border_mode="full"), ["full"]),
        (entry("BatchNormalization", "c", epsilon=0.01, mode=1, axis=-1, momentum=0.9), ["mode 1 or 2"]),
        (entry("UpSampling2D", "c", size=[2, 2]), ["channels come first or last"]),
        (entry("MaxoutDense", "c", output_dim=3), ["MaxoutDense", "Maximum"]),
        (entry("Conv2D", "c", filters=3), ["Keras 1 does not have"]),
        (entry("LSTM", "c", output_dim=3), ["recurrent"]),
        ({"class_name": "Merge", "config": {"name": "c", "mode": "cos", "mode_type": "raw"}}, ["cos"]),
        ({"class_name": "Merge", "config": {"name": "c", "mode": "e30=", "mode_type": "lambda"}}, ["never run"]),
    ],
)
def test_what_cannot_be_said_in_today_s_words_is_refused_by_name(
    tmp_path: Path, layer: dict[str, Any], words: list[str]
) -> None:
    layers = [first(entry("Activation", "a", activation="relu"), 9, 8, 3), layer]
    write(tmp_path / "a.h5", layers, {"a": [], "c": []})
    with pytest.raises(edgecnn.UnsupportedLayerError) as caught:
        to_graph(tmp_path / "a.h5")
    assert all(word in str(caught.value) for word in [*words, "c ("]), str(caught.value)
