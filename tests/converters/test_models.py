"""Models in models, shared layers, wrappers, both data formats, unknown sizes, mixed precision, layers of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.cli import main
from edgecnn.converters import register, to_graph
from edgecnn.converters.layers import REGISTERED
from edgecnn.format import describe
from edgecnn.graph import Graph
from keras_answers import keras_answers

pytestmark = pytest.mark.filterwarnings("ignore")

SUFFIXES = (".h5", ".keras")
BOTH = ("keras", "tf_keras")


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with random weights; variances and scales positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low = 0.5 if any(word in variable.name for word in ("variance", "gamma")) else -0.5
        variable.assign(rng.uniform(low, 1.0 if low > 0 else 0.5, variable.shape))
    return model


def answers_of(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        return [np.asarray(value[name], np.float32) for name in sorted(value)]
    return [np.asarray(v, np.float32) for v in (value if isinstance(value, list | tuple) else [value])]


def assert_agrees(model: Any, source: Any, seed: int = 1, tolerance: float = 2e-5, sizes: int = 12) -> Graph:
    """The converted model answers as Keras does; gives its graph."""
    rng = np.random.default_rng(seed)
    graph = to_graph(source)
    shapes = [graph.shape(port.tensor)[1:] for port in graph.inputs]
    xs = [rng.uniform(-1, 1, (5, *(s or sizes for s in shape))).astype(np.float32) for shape in shapes]
    if graph.input_structure == "dict":
        given: Any = {port.name: x for port, x in zip(graph.inputs, xs, strict=True)}
    else:
        given = xs if len(xs) > 1 else xs[0]
    expected = answers_of(keras_answers(model, given))
    got = answers_of(edgecnn.load(graph)(given))
    for answer, wanted in zip(got, expected, strict=True):
        assert answer.shape == wanted.shape
        assert np.abs(answer - wanted).max() <= tolerance * max(1e-3, np.abs(wanted).max())
    return graph


def nested(keras: Any) -> Any:
    """A model in a model in a model, with names that come again, called twice."""
    layers = keras.layers
    deep = keras.Sequential(
        [layers.Input((6, 6, 4)), layers.Conv2D(4, 1, name="deep_conv"), layers.BatchNormalization(name="deep_norm")],
        name="deep",
    )
    given = layers.Input((6, 6, 4))
    x = layers.Conv2D(4, 3, padding="same", name="middle_conv")(given)
    x = deep(layers.BatchNormalization(name="middle_norm")(x))
    middle = keras.Model(given, [x, layers.Conv2D(2, 1, name="head")(x)], name="middle")
    picture = layers.Input((6, 6, 4), name="picture")
    a, b = middle(layers.Conv2D(4, 1, name="outer_conv")(picture))
    c, d = middle(a)
    return keras.Model(picture, layers.Concatenate(name="all")([a, b, c, d]), name="outer")


def transfer(keras: Any) -> Any:
    """A backbone as the first layer of a Sequential: the usual transfer learning."""
    layers = keras.layers
    given = layers.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2)(given)))
    backbone = keras.Model(given, layers.DepthwiseConv2D(3)(x), name="backbone")
    return keras.Sequential([backbone, layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")])


def shared(keras: Any) -> Any:
    """One convolution over two inputs: a Siamese network."""
    layers = keras.layers
    left, right = layers.Input((8, 8, 3), name="left"), layers.Input((8, 8, 3), name="right")
    convolution = layers.Conv2D(5, 3, activation="relu", name="twin")
    a, b = (layers.Flatten()(convolution(x)) for x in (left, right))
    return keras.Model([left, right], layers.Dot(1, normalize=True)([a, b]))


def any_size(keras: Any) -> Any:
    layers = keras.layers
    given = layers.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(given)
    y = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.Concatenate()([layers.LayerNormalization()(x), y])
    return keras.Model(given, layers.GlobalMaxPooling2D(keepdims=True)(layers.Cropping2D(1)(x)))


def channels_first(keras: Any) -> Any:
    """Every kind of neighbour that a transposition must pass."""
    layers = keras.layers
    first = {"data_format": "channels_first"}
    given = layers.Input((3, 16, 16))
    x = layers.ZeroPadding2D(1, **first)(given)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, **first)(x)
    x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
    y = layers.BatchNormalization(axis=1)(layers.DepthwiseConv2D(3, padding="same", use_bias=False, **first)(x))
    y = layers.Conv2D(8, 1, use_bias=False, **first)(layers.Activation("swish")(y))
    s = layers.GlobalAveragePooling2D(keepdims=True, **first)(y)
    s = layers.Conv2D(8, 1, use_bias=False, activation="sigmoid", **first)(s)
    x = layers.Add()([x, layers.Multiply()([y, s])])
    x = layers.Concatenate(axis=1)([layers.MaxPooling2D(2, **first)(x), layers.AveragePooling2D(2, **first)(x)])
    x = layers.Cropping2D(((1, 0), (0, 1)), **first)(x)
    x = layers.Conv2DTranspose(6, 3, use_bias=False, **first)(x)
    x = layers.Permute((1, 2, 3))(x)
    flat = layers.Reshape((6 * 5 * 5,))(x)
    return keras.Model(given, layers.Dense(4)(flat))


def wrapped(keras: Any) -> Any:
    """A video: a convolution, a pooling and a dense layer for each picture."""
    layers = keras.layers
    video = layers.Input((4, 10, 10, 3))
    x = layers.TimeDistributed(layers.Conv2D(5, 3, strides=2, activation="relu"), name="each")(video)
    x = layers.TimeDistributed(layers.BatchNormalization(), name="norm")(x)
    x = layers.TimeDistributed(layers.MaxPooling2D(2), name="pool")(x)
    x = layers.TimeDistributed(layers.Flatten(), name="flat")(x)
    x = layers.TimeDistributed(layers.Dense(6, activation="tanh"), name="dense")(x)
    return keras.Model(video, layers.Conv1D(3, 2)(x))


def wrapped_more(keras: Any) -> Any:
    layers = keras.layers
    given = layers.Input((3, 9, 4))
    x = layers.TimeDistributed(layers.ZeroPadding1D((1, 2)))(given)
    x = layers.TimeDistributed(layers.Conv1D(5, 3, dilation_rate=2))(x)
    x = layers.TimeDistributed(layers.AveragePooling1D(2))(x)
    x = layers.TimeDistributed(layers.Dropout(0.5))(layers.TimeDistributed(layers.Activation("elu"))(x))
    x = layers.TimeDistributed(layers.Reshape((5, -1)))(x)
    return keras.Model(given, layers.TimeDistributed(layers.GlobalMaxPooling1D())(x))


def spectral(keras: Any) -> Any:
    layers = keras.layers
    given = layers.Input((8, 8, 3))
    x = layers.SpectralNormalization(layers.Conv2D(5, 3, activation="relu"))(given)
    return keras.Model(given, layers.SpectralNormalization(layers.Dense(2))(layers.Flatten()(x)))


def structures(keras: Any) -> Any:
    """Inputs and outputs in dicts, an inner model called with a dict."""
    layers = keras.layers
    a, b = layers.Input((6, 6, 2), name="a"), layers.Input((6, 6, 3), name="b")
    inner = keras.Model({"a": a, "b": b}, layers.Concatenate()([layers.Conv2D(3, 1)(a), b]), name="inner")
    x, y = layers.Input((6, 6, 2), name="x"), layers.Input((6, 6, 3), name="y")
    z = inner({"a": x, "b": y})
    return keras.Model({"x": x, "y": y}, {"pooled": layers.GlobalMaxPooling2D()(z), "map": layers.Conv2D(2, 1)(z)})


def adjusted(keras: Any) -> Any:
    """Preprocessing inside the model."""
    layers = keras.layers
    given = layers.Input((20, 24, 3))
    x = layers.Resizing(16, 16)(layers.CenterCrop(18, 18)(given))
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.RandomRotation(0.1)(layers.RandomFlip()(x))
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x)
    return keras.Model(given, layers.Conv2D(4, 3)(x))


MODELS = (nested, transfer, shared, any_size, channels_first, wrapped, wrapped_more, spectral, structures, adjusted)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("which", BOTH)
def test_models_from_every_kind_of_source(which: str, make: Callable[[Any], Any], tmp_path: Path) -> None:
    keras = pytest.importorskip(which)
    if make is spectral and which == "tf_keras":
        pytest.skip("SpectralNormalization of tf-keras 2.21 cannot be called on a tensor of a functional model")
    model = randomised(make(keras))
    files = set()
    for source in (model, *(tmp_path / f"model{suffix}" for suffix in SUFFIXES)):
        if isinstance(source, Path):
            model.save(source)
        assert_agrees(model, source)
        edgecnn.convert(source, tmp_path / "out.ecnn", overwrite=True)
        files.add((tmp_path / "out.ecnn").read_bytes())
    assert len(files) == 1, "the kinds of source give different bytes"


@pytest.mark.parametrize("which", BOTH)
def test_no_transposition_is_left_inside_a_channels_first_network(which: str) -> None:
    keras = pytest.importorskip(which)
    graph = assert_agrees(model := randomised(channels_first(keras)), model)
    moved = [node for node in graph.nodes if node.operator == "transpose"]
    assert [node.inputs[0] for node in moved] == [graph.inputs[0].tensor]  # only that of the input
    assert "batch_normalization" not in {node.operator for node in graph.nodes}


def test_a_channels_first_copy_computes_what_its_original_does() -> None:
    keras = pytest.importorskip("keras")

    def network(data_format: str) -> Any:
        layers, axis = keras.layers, 1 if data_format == "channels_first" else -1
        x = given = layers.Input((3, 32, 32) if axis == 1 else (32, 32, 3))
        for filters in (8, 16):
            y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, data_format=data_format)(x)
            y = layers.ReLU()(layers.BatchNormalization(axis=axis)(y))
            z = layers.Conv2D(filters, 3, padding="same", use_bias=False, data_format=data_format)(y)
            x = layers.Add()([y, layers.BatchNormalization(axis=axis)(z)])
        x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
        return keras.Model(given, layers.Dense(5)(x))

    last = randomised(network("channels_last"))
    first = network("channels_first")
    first.set_weights(last.get_weights())
    graphs = [to_graph(last), to_graph(first)]
    assert [n.operator for n in graphs[1].nodes] == ["transpose", *(n.operator for n in graphs[0].nodes)]
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    a, b = edgecnn.load(graphs[0])(x), edgecnn.load(graphs[1])(x.transpose(0, 3, 1, 2))
    assert a.tobytes() == b.tobytes()


def test_shared_layers_and_models_keep_their_weights_once() -> None:
    keras = pytest.importorskip("keras")
    for make in (nested, shared):
        model = randomised(make(keras))
        graph = to_graph(model, passes=False)
        assert sum(c.array.size for c in graph.constants.values()) <= model.count_params() + 8


@pytest.mark.parametrize("wanted", [(2, 2), (3, 5), 1])
def test_adaptive_average_pooling_of_any_size(wanted: Any) -> None:
    keras = pytest.importorskip("keras")
    if not hasattr(keras.layers, "AdaptiveAveragePooling2D"):
        pytest.skip("this Keras has no AdaptiveAveragePooling2D")
    x = keras.Input((None, None, 3))
    model = keras.Model(x, keras.layers.AdaptiveAveragePooling2D(wanted)(x))
    for sizes in (7, 10, 15):
        assert_agrees(model, model, sizes=sizes)


@pytest.mark.parametrize("sizes", [8, 13, 30])
def test_plans_are_made_for_each_size_that_comes(sizes: int) -> None:
    keras = pytest.importorskip("keras")
    model = randomised(any_size(keras))
    assert_agrees(model, model, sizes=sizes + sizes % 2)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"])
def test_models_of_other_precisions(policy: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    keras.config.set_dtype_policy(policy)
    try:
        model = randomised(transfer(keras))
        for suffix in SUFFIXES:
            model.save(tmp_path / f"model{suffix}")
        # Keras rounds every value to 11 or 8 bits on its way; we compute in float32.
        for source in (model, *(tmp_path / f"model{suffix}" for suffix in SUFFIXES)):
            assert_agrees(model, source, tolerance=0.03)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def own_layer() -> Iterator[Any]:
    """A Keras with a layer of a user's own: x * factor + offset, where x is positive."""
    keras = pytest.importorskip("keras")

    @keras.saving.register_keras_serializable(package="mine")
    class Bent(keras.layers.Layer):  # type: ignore[misc,name-defined]
        def __init__(self, power: float = 2.0, **others: Any) -> None:
            super().__init__(**others)
            self.power = power

        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(shape=(shape[-1],), name="factor")

        def call(self, x: Any) -> Any:
            return keras.ops.maximum(x, 0) ** self.power * self.factor

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "power": self.power}

    yield Bent
    REGISTERED.clear()


def test_a_layer_of_a_user_is_refused_until_it_is_registered(own_layer: Any, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input((6, 6, 3))
    model = randomised(keras.Model(given, own_layer(3.0)(keras.layers.Conv2D(4, 3)(given))))
    sources = [model, *(tmp_path / f"model{suffix}" for suffix in SUFFIXES)]
    for source in sources[1:]:
        model.save(source)
    for source in sources:
        with pytest.raises(edgecnn.UnsupportedLayerError, match=r"register\('Bent'"):
            to_graph(source)

    @register("Bent")
    def bent(layer: Any, build: Any, inputs: Any) -> Any:
        (factor,) = layer.weights(["factor"])
        positive = build.activation(inputs[0], "relu")
        return build("multiply", build("power", positive, np.full(1, layer.config["power"])), factor)

    for source in sources:
        assert_agrees(model, source)


def test_registering_refuses_keras_own_names() -> None:
    with pytest.raises(edgecnn.InputError, match="Conv2D"):
        register("Conv2D", lambda layer, build, inputs: inputs[0])
    with pytest.raises(edgecnn.InputError, match="name"):
        register("", lambda layer, build, inputs: inputs[0])
    for nothing in (3, "relu", np.ones(3)):
        with pytest.raises(edgecnn.InputError, match="register: 'Bent': wanted a function of"):
            register("Bent", nothing)
        with pytest.raises(edgecnn.InputError, match="wanted a function of"):
            register("Bent")(nothing)
    assert not REGISTERED


def divided(layer: Any, build: Any, inputs: Any) -> Any:
    return 1 / 0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (divided, "the function registered for 'Bent' raised ZeroDivisionError: division by zero"),
        (lambda layer, build, inputs: layer.config["slope"], "for 'Bent' raised KeyError: 'slope'"),
        (
            lambda layer, build, inputs: build("mulitply", *inputs),
            "raised GraphError: there is no operator 'mulitply'; .*multiply",
        ),
        (lambda layer, build, inputs: build("add", inputs[0]), "for 'Bent' raised GraphError: add"),
        (lambda layer, build, inputs: build("add"), "for 'Bent' raised GraphError: add: has no inputs"),
        (
            lambda layer, build, inputs: build("softmax", inputs[0]),
            r"raised GraphError: softmax: wanted its attributes \['axis'\]",
        ),
        (lambda layer, build, inputs: build("relu6", inputs[0]), "raised GraphError: there is no operator 'relu6'"),
        (lambda layer, build, inputs: None, "the function registered for 'Bent' gives None; give back a tensor"),
        (lambda layer, build, inputs: [], r"the function registered for 'Bent' gives \[\]; give back a tensor"),
        (
            lambda layer, build, inputs: np.ones(3),
            "the function registered for 'Bent' gives ndarray; give back a tensor",
        ),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_faults_of_a_registered_function_are_told_as_its_own(
    function: Any, words: str, wrapped: bool, own_layer: Any
) -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input((5, 6, 6, 3) if wrapped else (6, 6, 3))
    layer = own_layer(3.0, name="bent")
    model = keras.Model(given, (keras.layers.TimeDistributed(layer, name="bent") if wrapped else layer)(given))
    register("Bent", function)
    with pytest.raises(edgecnn.ConversionError, match=words) as caught:
        to_graph(model)
    assert "bent" in str(caught.value)
    assert "damaged" not in str(caught.value)
    if function is divided:
        assert isinstance(caught.value.__cause__, ZeroDivisionError)  # whose traceback leads to the line


def test_faults_of_a_registered_activation_are_told_as_its_own() -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input((6, 6, 3))
    model = keras.Model(given, keras.layers.Conv2D(4, 3, activation=bent_activation, name="stem")(given))
    try:
        register("bent_activation", divided)
        with pytest.raises(
            edgecnn.ConversionError, match=r"'stem' .*registered for 'bent_activation' raised ZeroDivisionError"
        ):
            to_graph(model)
    finally:
        REGISTERED.clear()


def bent_activation(x: Any) -> Any:
    return x * 2


def test_an_activation_without_a_name_is_told_as_such(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input((6, 6, 3))
    model = keras.Model(given, keras.layers.Conv2D(4, 3, activation=lambda x: x * 2, name="stem")(given))
    sources = [model, *(tmp_path / f"model{suffix}" for suffix in SUFFIXES)]
    for source in sources[1:]:
        model.save(source)
    for source in sources:
        with pytest.raises(edgecnn.UnsupportedLayerError) as caught:
            to_graph(source)
        assert "stem (Conv2D): its activation is a Python function without a name (a lambda)" in str(caught.value)
        assert "None" not in str(caught.value)


def test_a_model_written_as_a_class_is_not_supported(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.inner = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.inner(x)

    model = Own()
    model(np.zeros((1, 4), np.float32))
    model.save(tmp_path / "m.keras")
    for source in (model, tmp_path / "m.keras"):
        with pytest.raises(
            edgecnn.UnsupportedLayerError, match=r"Own \(Own\): a model written as a class.*; rebuild it"
        ) as caught:
            to_graph(source)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize("training", [True, False])
def test_a_call_for_training_is_refused(training: bool) -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input((6, 6, 3))
    model = keras.Model(given, keras.layers.BatchNormalization()(given, training=training))
    if training:
        with pytest.raises(edgecnn.UnsupportedLayerError, match="training"):
            to_graph(model)
    else:
        assert_agrees(randomised(model), model)


@pytest.mark.parametrize("name", ["RandomFlip", "RandomZoom", "RandomContrast", "AugMix", "RandomErasing", "MixUp"])
def test_augmentation_does_nothing_at_inference(name: str) -> None:
    keras = pytest.importorskip("keras")
    if not hasattr(keras.layers, name):
        pytest.skip(f"this Keras has no {name}")
    arguments: dict[str, Any] = {"RandomZoom": {"height_factor": 0.2}, "RandomContrast": {"factor": 0.2}}.get(name, {})
    given = keras.layers.Input((8, 8, 3))
    model = keras.Model(given, getattr(keras.layers, name)(**arguments)(given))
    graph = to_graph(model)
    assert [node.operator for node in graph.nodes] == ["identity"]


def test_a_thresholded_relu_of_keras_2() -> None:
    keras = pytest.importorskip("tf_keras")
    given = keras.layers.Input((8, 8, 3))
    model = keras.Model(given, keras.layers.ThresholdedReLU(0.25)(given))
    assert_agrees(model, model)


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_beside_a_json_configuration(which: str, suffix: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(which)
    if which == "keras" and suffix == ".h5":
        pytest.skip("Keras 3 saves weights as .weights.h5 only")
    model = randomised(transfer(keras) if suffix == ".weights.h5" else any_size(keras))
    weights, config = tmp_path / f"model{suffix}", tmp_path / "model.json"
    model.save_weights(weights)
    config.write_text(model.to_json())
    edgecnn.convert(weights, tmp_path / "from_both.ecnn", config=config)
    edgecnn.convert(model, tmp_path / "from_model.ecnn")
    assert (tmp_path / "from_both.ecnn").read_bytes() == (tmp_path / "from_model.ecnn").read_bytes()


def test_weights_of_layers_with_other_names_are_taken_in_order(tmp_path: Path) -> None:
    """Keras counts names on within a session: whoever builds the same model again gets conv2d_2 for conv2d."""
    keras = pytest.importorskip("tf_keras")

    def build() -> Any:
        layers = keras.layers
        given = layers.Input((8, 8, 3))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(given))
        x = layers.Activation("relu")(layers.Add()([x, layers.Conv2D(4, 3, padding="same")(given)]))
        return keras.Model(given, layers.Dense(3)(layers.Flatten()(layers.MaxPooling2D()(x))))

    model, again = build(), build()
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).uniform(0.1, 1, weight.shape))
    model.save_weights(tmp_path / "weights.h5")
    (tmp_path / "model.json").write_text(again.to_json())
    edgecnn.convert(tmp_path / "weights.h5", tmp_path / "out.ecnn", config=tmp_path / "model.json")
    x = np.random.default_rng(2).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(
        edgecnn.load(tmp_path / "out.ecnn")(x), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max()
    )

    more = keras.Sequential([*(keras.layers.Conv2D(3, 1) for _ in range(6))])
    more.build((None, 8, 8, 3))
    (tmp_path / "more.json").write_text(more.to_json())
    with pytest.raises(edgecnn.ConversionError, match=r"belong to another model|has weights"):
        edgecnn.convert(tmp_path / "weights.h5", tmp_path / "no.ecnn", config=tmp_path / "more.json")


def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = transfer(keras)
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "whole.h5")
    (tmp_path / "m.json").write_text(model.to_json())
    (tmp_path / "other.json").write_text(any_size(keras).to_json())
    (tmp_path / "none.json").write_text("no json")
    cases = {
        ("m.weights.h5", "other.json"): "weights",
        ("m.weights.h5", "none.json"): "no JSON",
        ("m.weights.h5", "absent.json"): "no such file",
        ("whole.h5", "m.json"): "whole model",
        ("m.json", "m.json"): "no HDF5",
    }
    for (source, config), words in cases.items():
        with pytest.raises(edgecnn.ConversionError, match=words):
            edgecnn.convert(tmp_path / source, tmp_path / "out.ecnn", config=tmp_path / config)
    with pytest.raises(edgecnn.InputError, match="config"):
        edgecnn.convert(model, tmp_path / "out.ecnn", config=tmp_path / "m.json")
    with pytest.raises(edgecnn.ConversionError, match="--config"):
        edgecnn.convert(tmp_path / "m.weights.h5", tmp_path / "out.ecnn")
    assert not (tmp_path / "out.ecnn").exists()


def test_open_sizes_can_be_fixed(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = randomised(any_size(keras))
    free, fixed = to_graph(model), to_graph(model, input_shapes={"": (24, 20, 3)})
    name = fixed.inputs[0].name
    assert fixed.shape(fixed.inputs[0].tensor) == (None, 24, 20, 3)
    assert (free.macs is None, fixed.macs is None) == (True, False)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 24, 20, 3)).astype(np.float32)
    assert edgecnn.load(free)(x).tobytes() == edgecnn.load(fixed)(x).tobytes()
    for wrong in (
        {"other": (24, 20, 3)},
        {name: (24, 20)},
        {name: (24, 20, 4)},
        {name: (24, -1, 3)},
        {name: (24, None, 3)},
    ):
        with pytest.raises(edgecnn.InputError, match="input_shapes"):
            to_graph(model, input_shapes=wrong)
    model.save(tmp_path / "m.keras")
    arguments = ["convert", str(tmp_path / "m.keras"), "-o", str(tmp_path / "m.ecnn"), "--input-shape"]
    assert main([*arguments, "24,20,3"]) == 0
    assert edgecnn.load(tmp_path / "m.ecnn").inputs[0].shape == (None, 24, 20, 3)
    assert main([*arguments, "24,x", "--force"]) == 2
    assert main([*arguments, "24,20,3", "--input-shape", "1,2,3", "--force"]) == 2


def with_zeros(share: float) -> Any:
    """A model so much of whose kernels is zero, with batch normalisations whose scales have both signs."""
    keras = pytest.importorskip("keras")
    from keras import layers

    rng = np.random.default_rng(0)
    x = inputs = keras.Input((14, 14, 16))
    for filters in (64, 96):
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
        x = layers.ReLU()(x)
    model = keras.Model(inputs, layers.Dense(40)(layers.GlobalAveragePooling2D()(x)))
    for variable in model.weights:
        values = rng.uniform(-0.5, 0.5, variable.shape)
        if "variance" in variable.path:
            values = np.abs(values) + 0.5
        if "kernel" in variable.path:
            values[rng.random(values.shape) < share] = 0
        variable.assign(values)
    return model


@pytest.mark.parametrize(("weights", "value_bytes"), [("float32", 4), ("float16", 2)])
@pytest.mark.parametrize("share", [0.8, 0.9])
def test_zeros_take_no_room_in_the_file(weights: str, value_bytes: int, share: float, tmp_path: Path) -> None:
    model = with_zeros(share)
    dense = edgecnn.convert(with_zeros(0), tmp_path / "dense.ecnn").size
    size = edgecnn.convert(model, tmp_path / "sparse.ecnn", weights=weights).size
    # What is there, a bit a place, and everything else: names, biases, the graph.
    assert size < dense * ((1 - share) * value_bytes / 4 + 1 / 32) + 4000
    kinds = [c.encoding for c in describe(tmp_path / "sparse.ecnn").constants if "weights" in c.name]
    assert kinds
    assert all(kind.startswith(f"sparse_{weights} ") for kind in kinds)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 14, 14, 16)).astype(np.float32)
    wanted = np.asarray(model(x))
    tolerance = 1e-5 if weights == "float32" else 5e-3
    np.testing.assert_allclose(edgecnn.load(tmp_path / "sparse.ecnn")(x), wanted, rtol=0, atol=tolerance)


def test_few_zeros_stay_where_they_can_be_mapped(tmp_path: Path) -> None:
    edgecnn.convert(with_zeros(0.1), tmp_path / "model.ecnn")
    assert {constant.encoding for constant in describe(tmp_path / "model.ecnn").constants} == {"float32"}
