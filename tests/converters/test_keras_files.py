"""What surrounds the weights in Keras' files: the order of arrays, who trained them, how groups and classes were called."""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import registry
from edgecnn.converters.sources.operation_names import KERAS_OPERATIONS
from edgecnn.converters.sources.variables import variables_of
from keras_answers import keras_answers

pytestmark = pytest.mark.filterwarnings("ignore")

STORED = Path(__file__).parent / "stored"
KERASES = ("keras", "tf_keras")


def randomised(model: Any) -> Any:
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(0.5, 1.5, w.shape) * rng.choice([-1, 1], w.shape) ** (w.ndim > 1) for w in model.get_weights()]
    )
    return model


def assert_answers(source: Any, expected: np.ndarray, x: np.ndarray) -> None:
    answer = edgecnn.load(to_graph(source))(x)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)


def refused(source: Path, *words: str) -> None:
    with pytest.raises(edgecnn.ConversionError) as caught:
        to_graph(source)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """An .h5 file's configuration changed."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


# --- Files that TensorFlow 2.13 and 2.14 wrote ---


@pytest.mark.parametrize("name", ["tf213_nested", "tf214_with_preprocessing"])
def test_groups_are_numbered_as_each_version_of_keras_did(name: str) -> None:
    """Written by TensorFlow 2.13.1 and 2.14.1 themselves, their answers beside them."""
    given = np.load(STORED / f"{name}.keras.npz")
    assert_answers(STORED / f"{name}.keras", given["y"], given["x"])


def rewritten(source: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """A .keras file with its weights changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "model.weights.h5":
                inner = target.with_suffix(".inner")
                inner.write_bytes(data)
                with h5py.File(inner, "r+") as file:
                    change(file)
                data = inner.read_bytes()
            new.writestr(name, data)
    return target


def test_groups_numbered_in_no_known_way_are_refused(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        root = file["_layer_checkpoint_dependencies"]
        root.move("dense_2", "dense_5")

    refused(rewritten(STORED / "tf213_nested.keras", tmp_path / "a.keras", change), "numbered")


def test_groups_that_windows_named_are_found(tmp_path: Path) -> None:
    """Keras 2.12 to 2.15 joined paths with os.path.join: on Windows a group is called layers\\conv2d."""
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers
    inner = keras.Sequential([layers.Input((6, 6, 4)), layers.Conv2D(4, 3), layers.Conv2D(4, 3)])
    model = keras.Sequential([layers.Input((6, 6, 3)), layers.Conv2D(4, 1), inner, layers.Flatten(), layers.Dense(2)])
    randomised(model).save(tmp_path / "a.keras")

    def change(file: h5py.File) -> None:
        groups: list[str] = []
        file.visit(lambda path: groups.append(path) if path.endswith("/vars") else None)
        for path in groups:
            file.move(path, path.removesuffix("/vars").replace("/", "\\") + "/vars")
        del file["layers"]

    x = image(6, 6, 3)
    assert_answers(rewritten(tmp_path / "a.keras", tmp_path / "b.keras", change), keras_answers(model, x), x)


# --- Zip files ---


def zipped(source: Path, target: Path, name_of: Callable[[str], str]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name)
            info.filename = name_of(name)
            new.writestr(info, old.read(name))
    return target


def test_members_behind_backslashes_and_in_a_folder_are_found(tmp_path: Path) -> None:
    given = np.load(STORED / "tf213_nested.keras.npz")
    for name_of in ("model\\{}", "model/{}", ".\\{}", "./{}"):
        path = zipped(STORED / "tf213_nested.keras", tmp_path / "a.keras", name_of.format)
        assert_answers(path, given["y"], given["x"])


def test_doubled_and_encrypted_members_are_refused(tmp_path: Path) -> None:
    source = (STORED / "tf213_nested.keras").read_bytes()
    path = tmp_path / "a.keras"
    path.write_bytes(source)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    refused(path, "2 times")
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data = bytearray(source)
        at = 0
        while (at := data.find(mark, at)) >= 0:
            data[at + flags] |= 1
            at += 4
        source = bytes(data)
    path.write_bytes(source)
    refused(path, "encrypted")


def test_a_configuration_that_unpacks_to_far_more_than_the_file_is_refused(tmp_path: Path) -> None:
    """64 MiB of "[]," would take 1.4 GB when parsed; they fit into 65 kB."""
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b"[" + b"[]," * (60 * 2**20 // 3) + b"[]]")
        archive.writestr("model.weights.h5", b"")
    assert path.stat().st_size < 2**17
    refused(path, "safety")


# --- Keras 2 and 3, .h5 ---


@pytest.mark.parametrize("name", ["BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2"])
def test_names_of_classes_of_tensorflow_1_are_those_of_today(tmp_path: Path, name: str) -> None:
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers
    stack = [layers.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
    model = randomised(keras.Sequential([*stack, layers.GlobalMaxPooling2D()]))
    model.save(tmp_path / "a.h5")

    def change(config: dict[str, Any]) -> None:
        layer = next(e for e in config["config"]["layers"] if e["class_name"] == "BatchNormalization")
        layer["class_name"] = name

    edited(tmp_path / "a.h5", change)
    x = image(6, 6, 3)
    assert_answers(tmp_path / "a.h5", keras_answers(model, x), x)


def branch(keras: Any, name: str, slash: str, shared: Any = None) -> Any:
    layers = keras.layers
    given = layers.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name=f"conv1{slash}conv")(given)
    x = layers.BatchNormalization(name=f"conv1{slash}bn")(x)
    x = layers.Activation("relu", name=f"conv1{slash}relu")(x)
    x = shared(x) if shared is not None else layers.Conv2D(3, 3, padding="same", name=f"block{slash}1{slash}conv")(x)
    x = layers.BatchNormalization(name=f"block{slash}1{slash}bn")(x)
    return keras.Model(given, x, name=name)


def nested(keras: Any, slash: str) -> Any:
    layers = keras.layers
    return keras.Sequential([branch(keras, "densenet", slash), layers.GlobalAveragePooling2D(), layers.Dense(3)])


def nested_twice(keras: Any, slash: str) -> Any:
    layers = keras.layers
    given = layers.Input((8, 8, 3))
    inner = branch(keras, "inner", slash)
    x = layers.Conv2D(3, 3, padding="same", name=f"own{slash}conv")(inner(given))
    middle = keras.Model(
        given, layers.BatchNormalization(name="own_norm")(x), name=f"outer{slash}enc" if slash == "/" else "enc"
    )
    again = layers.Input((8, 8, 3))
    return keras.Model(again, layers.Conv2D(2, 1, name=f"head{slash}fc")(middle(again)))


def nested_frozen(keras: Any, slash: str) -> Any:
    model = nested_twice(keras, slash)
    middle = next(layer for layer in model.layers if hasattr(layer, "layers"))
    inner = next(layer for layer in middle.layers if hasattr(layer, "layers"))
    inner.trainable = False
    return model


def nested_partly_frozen(keras: Any, slash: str) -> Any:
    model = nested(keras, slash)
    model.layers[0].get_layer(f"conv1{slash}bn").trainable = False
    return model


def called_twice(keras: Any, slash: str) -> Any:
    layers = keras.layers
    a, b = layers.Input((8, 8, 3)), layers.Input((8, 8, 3))
    inner = branch(keras, "inner", slash)
    merged = layers.Subtract()([inner(a), inner(inner(b))])
    model = keras.Model([a, b], layers.Conv2D(2, 1)(merged))
    given = layers.Input((8, 8, 3))
    return keras.Model(given, model([given, given]))


def around_layers(keras: Any, slash: str) -> Any:
    layers = keras.layers
    given = layers.Input((4, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(3, 3), name=f"each{slash}conv")(given)
    x = layers.TimeDistributed(layers.Conv2D(3, 3), name=f"each{slash}again")(x)
    inner = keras.Model(given, x, name="inner")
    return keras.Sequential([inner, layers.Flatten(), layers.Dense(2)])


NESTED = (nested, nested_twice, nested_frozen, nested_partly_frozen, called_twice, around_layers)


@pytest.mark.parametrize("make", NESTED, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("which", "slash"), [("tf_keras", "/"), ("tf_keras", "_"), ("keras", "_")])
def test_arrays_of_models_inside_models_are_known_by_their_order(
    tmp_path: Path, which: str, slash: str, make: Callable[[Any, str], Any]
) -> None:
    keras = pytest.importorskip(which)
    model = make(keras, slash)
    x = image(*model.input_shape[1:]) if which == "keras" or model.built else image(8, 8, 3)
    keras_answers(model, x)
    randomised(model)
    for suffix in (".h5", ".keras"):
        model.save(tmp_path / f"a{suffix}")
        assert_answers(tmp_path / f"a{suffix}", keras_answers(model, x), x)
    assert_answers(model, keras_answers(model, x), x)


@pytest.mark.parametrize("which", KERASES)
def test_a_layer_that_two_models_share_is_right_from_h5_and_refused_from_keras(tmp_path: Path, which: str) -> None:
    """Both Kerases write its arrays once to .keras, and find them for one of the two models only."""
    keras = pytest.importorskip(which)
    layers = keras.layers
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    a, b = branch(keras, "a", "_", shared), branch(keras, "b", "_", shared)
    given = layers.Input((8, 8, 3))
    model = randomised(keras.Model(given, layers.Subtract()([a(given), b(given)])))
    x = image(8, 8, 3)
    model.save(tmp_path / "a.h5")
    assert_answers(tmp_path / "a.h5", keras_answers(model, x), x)
    model.save(tmp_path / "a.keras")
    refused(tmp_path / "a.keras", "shared", "two models")


def test_arrays_whose_names_contradict_their_order_are_refused(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    randomised(nested(keras, "/")).save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        group = file["model_weights/densenet"]
        names = list(group.attrs["weight_names"])
        names[0], names[3] = names[3], names[0]  # two kernels of one shape
        group.attrs["weight_names"] = names
    refused(tmp_path / "a.h5", "cannot be told")


def test_variables_that_a_layer_does_not_have_are_refused(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    model = keras.Sequential([keras.layers.Input((4, 4, 3)), keras.layers.Conv2D(2, 3, name="conv")])
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        group = file["model_weights/conv"]
        group["conv/kernel_scale:0"] = np.ones(2, "f4")
        group.attrs["weight_names"] = [b"conv/kernel:0", b"conv/bias:0", b"conv/kernel_scale:0"]
    refused(tmp_path / "a.h5", "kernel_scale")


# --- Theano ---


def convolutions(keras: Any) -> dict[str, tuple[Any, tuple[int, ...]]]:
    layers = keras.layers
    inner = keras.Sequential([layers.Input((7, 7, 3)), layers.Conv2D(3, 3, name="inside")], name="inner")
    return {
        "conv1d": ([layers.Conv1D(4, 3)], (9, 3)),
        "conv2d": ([layers.Conv2D(4, (3, 2), strides=2)], (9, 8, 3)),
        "conv3d": ([layers.Conv3D(4, (3, 2, 1))], (5, 5, 5, 2)),
        "transpose": ([layers.Conv2DTranspose(4, 3, strides=2)], (5, 5, 3)),
        "inside": ([layers.Conv2D(3, 3, name="before"), inner, layers.Flatten(), layers.Dense(2)], (9, 9, 3)),
        "each": ([layers.TimeDistributed(layers.Conv2D(3, 3))], (2, 6, 6, 3)),
        "depthwise": ([layers.DepthwiseConv2D(3), layers.SeparableConv2D(3, 3)], (9, 9, 3)),
    }


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d", "transpose", "inside", "each", "depthwise"])
@pytest.mark.parametrize("backend", ["theano", "cntk", "tensorflow"])
def test_kernels_that_theano_trained_are_turned(tmp_path: Path, name: str, backend: str) -> None:
    """keras 2.3.1, preprocess_weights_for_loading: all spatial axes run backwards; Theano's depthwise convolution turns them itself."""
    keras = pytest.importorskip("tf_keras")
    stack, shape = convolutions(keras)[name]
    model = randomised(keras.Sequential([keras.layers.Input(shape), *stack]))
    x = image(*shape)
    expected = keras_answers(model, x)
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for group in (file, file["model_weights"]):
            group.attrs["backend"] = backend.encode()
            group.attrs["keras_version"] = b"2.1.3"

        def turn(path: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and path.endswith("/kernel:0") and item.ndim > 2 and backend == "theano":
                item[...] = np.flip(item[()], tuple(range(item.ndim - 2)))

        file["model_weights"].visititems(turn)
    assert_answers(tmp_path / "a.h5", expected, x)


def test_what_keras_and_theano_disagree_about_is_refused(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    model = keras.Sequential([keras.layers.Input((4, 4, 4, 2)), keras.layers.Conv3DTranspose(2, 3)])
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["backend"] = file["model_weights"].attrs["backend"] = b"theano"
    refused(tmp_path / "a.h5", "Conv3DTranspose", "Theano")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["backend"] = b"tensorflow"
    refused(tmp_path / "a.h5", "'theano'", "'tensorflow'")


# --- tensorflow_model_optimization ---


def pruned(path: Path, model: Any, masks: dict[str, np.ndarray], names: dict[str, str]) -> None:
    """A model as tfmot 0.8.1 saves it, each layer in a wrapper; `names`: the pruned variable of each layer."""
    model.save(path)

    def wrap(config: dict[str, Any]) -> None:
        for place, entry in enumerate(config["config"]["layers"]):
            if entry["class_name"] != "InputLayer":
                wrapped = {
                    "name": f"prune_low_magnitude_{entry['config']['name']}",
                    "trainable": True,
                    "dtype": "float32",
                }
                wrapped |= {"layer": entry, "pruning_schedule": {"class_name": "ConstantSparsity", "config": {}}}
                wrapped |= {"block_size": [1, 1], "block_pooling_type": "AVG"}
                config["config"]["layers"][place] = {"class_name": "PruneLowMagnitude", "config": wrapped}

    edited(path, wrap)
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        for name in [layer.name for layer in model.layers]:
            weights.move(name, f"prune_low_magnitude_{name}")
            group = weights[f"prune_low_magnitude_{name}"]
            stored = list(group.attrs["weight_names"])
            for kind, value in (
                ("mask", masks.get(name)),
                ("threshold", np.float32(0.1)),
                ("pruning_step", np.int64(7)),
            ):
                if name in names or kind == "pruning_step":
                    group[f"prune_low_magnitude_{name}/{kind}:0"] = value
                    stored.append(f"prune_low_magnitude_{name}/{kind}:0")
            group.attrs["weight_names"] = [s.encode() if isinstance(s, str) else s for s in stored]
        weights.attrs["layer_names"] = [f"prune_low_magnitude_{layer.name}".encode() for layer in model.layers]


def test_wrappers_left_in_by_pruning_are_taken_off_and_their_masks_applied(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers
    stack = [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")]
    stack += [layers.SeparableConv2D(5, 3, name="separable"), layers.ReLU(name="relu"), layers.Flatten(name="flat")]
    model = randomised(keras.Sequential([*stack, layers.Dense(3, name="dense")]))
    names = {"conv": "kernel", "separable": "pointwise_kernel", "dense": "kernel"}
    rng = np.random.default_rng(2)
    masks = {}
    for layer, variable in names.items():
        shape = getattr(model.get_layer(layer), variable).shape
        masks[layer] = (rng.random(shape) > 0.5).astype(np.float32)
    pruned(tmp_path / "a.h5", model, masks, names)
    for layer, variable in names.items():  # tfmot multiplies at every call
        value = getattr(model.get_layer(layer), variable)
        value.assign(value * masks[layer])
    x = image(8, 8, 3)
    assert_answers(tmp_path / "a.h5", keras_answers(model, x), x)
    edited(tmp_path / "a.h5", lambda c: c["config"]["layers"][1]["config"].update(unheard_of=1))
    refused(tmp_path / "a.h5", "unheard_of")
    edited(tmp_path / "a.h5", lambda c: c["config"]["layers"][1].update(class_name="QuantizeWrapperV2"))
    refused(tmp_path / "a.h5", "QuantizeWrapperV2")


# --- Functions of keras.ops in .h5, which keeps no modules ---


@pytest.mark.parametrize("name", ["cast", "ones_like", "zeros_like", "convert_to_tensor"])
def test_functions_whose_configuration_has_a_dtype_are_no_layers(tmp_path: Path, name: str) -> None:
    keras = pytest.importorskip("keras")
    ops, layers = keras.ops, keras.layers
    function = {"cast": lambda x: ops.cast(x, "float32")}.get(name, getattr(ops, name))
    given = layers.Input((4, 4, 3))
    model = randomised(keras.Model(given, layers.Conv2D(2, 1)(given + function(given))))
    model.save(tmp_path / "a.h5")
    x = image(4, 4, 3)
    assert_answers(tmp_path / "a.h5", keras_answers(model, x), x)


def test_a_layer_of_the_user_s_without_trainable_is_called_by_its_name(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    class Halved(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x / 2

        def get_config(self) -> dict[str, Any]:
            return {"dtype": "float32"}

    given = keras.layers.Input((4, 4, 3))
    model = keras.Model(given, Halved(name="half")(given))
    model.save(tmp_path / "a.h5")
    refused(tmp_path / "a.h5", "Halved", "class of your own")


def test_every_function_of_keras_ops_is_known() -> None:
    keras = pytest.importorskip("keras")
    from keras.src import ops as modules

    found = {
        name
        for module in vars(modules).values()
        if inspect.ismodule(module) and module.__name__.startswith("keras.src.ops.")
        for name, item in vars(module).items()
        if inspect.isclass(item) and issubclass(item, keras.Operation) and item.__module__ == module.__name__
    }
    assert found - {"Operation", "Function", "SegmentReduction"} <= KERAS_OPERATIONS


# --- The table of variables ---


def test_every_layer_of_the_registry_has_its_variables_listed() -> None:
    names = [name for name in registry.LAYERS if "." not in name]
    around = ("TimeDistributed", "SpectralNormalization")
    assert [name for name in names if variables_of(name, {}, 3) is None and name not in around] == []


@pytest.mark.parametrize("which", KERASES)
@pytest.mark.parametrize("bias", [True, False])
def test_variables_are_listed_as_keras_makes_them(which: str, bias: bool) -> None:
    keras = pytest.importorskip(which)
    layers, given = keras.layers, {"use_bias": bias}
    examples = [
        (layers.Conv2D(4, 3, **given), (8, 8, 3)),
        (layers.Conv2DTranspose(4, 3, **given), (8, 8, 3)),
        (layers.DepthwiseConv2D(3, **given), (8, 8, 3)),
        (layers.SeparableConv2D(4, 3, **given), (8, 8, 3)),
        (layers.Dense(4, **given), (5,)),
        (layers.BatchNormalization(scale=bias), (8, 8, 3)),
        (layers.LayerNormalization(center=bias), (8, 8, 3)),
        (layers.GroupNormalization(3, scale=bias), (8, 8, 3)),
        (layers.PReLU(), (8, 8, 3)),
        (layers.Normalization(), (8, 8, 3)),
        (layers.Embedding(5, 3), (4,)),
    ]
    for layer, shape in examples:
        layer.build((None, *shape))
        listed = variables_of(type(layer).__name__, layer.get_config(), 2 if which == "tf_keras" else 3)
        made = [
            [variable.name.split("/")[-1].split(":")[0] for variable in variables]
            for variables in (layer.trainable_weights, layer.non_trainable_weights)
        ]
        assert listed is not None
        assert [list(names) for names in listed] == made, type(layer).__name__


def test_beside_layers_of_unknown_classes_only_exact_names_count(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers

    class Scaled(layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(name="factor", shape=(shape[-1],), initializer="ones")

        def call(self, x: Any) -> Any:
            return x * self.factor

    def inner(first: str, second: str) -> Any:
        given = layers.Input((8, 8, 3))
        x = Scaled(name="scaled")(layers.Conv2D(3, 3, name=first)(given))
        return keras.Model(given, layers.Conv2D(3, 3, name=second)(x), name="inner")

    def scaled(layer: Any, build: Any, inputs: Any) -> Any:
        (factor,) = layer.weights(["factor"])
        return build("multiply", inputs[0], factor)

    edgecnn.converters.register("Scaled", scaled)
    try:
        model = randomised(keras.Sequential([inner("a/conv", "b/conv"), layers.Flatten(), layers.Dense(2)]))
        model.save(tmp_path / "a.h5")
        x = image(8, 8, 3)
        assert_answers(tmp_path / "a.h5", keras_answers(model, x), x)
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            group = file["model_weights/inner"]
            group.move("a/conv", "other/conv")
            names = [str(name).replace("a/conv", "other/conv").encode() for name in group.attrs["weight_names"]]
            group.attrs["weight_names"] = names
        refused(tmp_path / "a.h5", "a/conv", "cannot be told")
    finally:
        del registry.REGISTERED["Scaled"]
