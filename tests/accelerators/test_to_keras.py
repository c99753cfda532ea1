"""Graphs as Keras models: the same answers, and the same file when they are converted again."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgecnn
import tolerances
from edgecnn.converters.passes import pipeline
from edgecnn.errors import MissingPackageError, ModelFileError, UnsupportedLayerError
from edgecnn.graph import OPERATORS, Graph, reference
from edgecnn.graph.names import layer_name
from examples import examples
from graph_strategies import GraphBuilder, cnn_graphs, random_inputs
from operator_strategies import Case, cases
from patience import HUNG
from training_networks import compiled

keras = pytest.importorskip("keras")

TOLERANCE = 2e-5
"""Of the largest output."""
BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def answers(model: Any, graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A rebuilt model's outputs by public name."""
    arrays = [inputs[port.name] for port in graph.inputs]
    given: Any = {"single": arrays[0], "list": arrays, "dict": inputs}[graph.input_structure]
    found = model(given, training=False)
    names = [port.name for port in graph.outputs]
    by_name = found if isinstance(found, dict) else dict(zip(names, keras.tree.flatten(found), strict=True))
    return {name: keras.ops.convert_to_numpy(by_name[name]) for name in names}


def refused(case: Case) -> bool:
    """Whether Keras cannot compute a case."""
    attributes, images = case.node.attributes, len(next(iter(case.inputs.values())))
    if case.node.operator == "conv_transpose":
        # Strides and dilations at once are refused by Keras, dilations alone by TensorFlow's kernels for the CPU.
        return max(attributes["dilations"]) > 1
    if "add" in (case.node.operator, *(node.operator for node in case.graph.nodes)):
        # Keras 3.15's add takes a second operand of shape (n, 1, 1) for a bias where n images meet n channels.
        x, *others = [case.graph.shape(name) for name in case.node.inputs if name]
        return any(shape[1:] != x[1:] and images in (x[1:2] + x[-1:]) for shape in others if shape[:1] == (None,))
    return False


@pytest.mark.filterwarnings("ignore:[\\s\\S]*softmax over axis:UserWarning")
@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(
    max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
def test_each_operator_agrees_with_its_meaning(operator: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator))
    if refused(case):
        return
    values = reference.run_all(case.graph, case.inputs)
    keras.backend.clear_session()
    found = answers(edgecnn.to_keras(case.graph), case.graph, case.inputs)
    allowed = 4 * tolerances.bound(case.graph, case.node, values) + 1e-7
    assert found["result"].shape == values["result"].shape
    np.testing.assert_array_less(np.abs(found["result"] - values["result"]), allowed)


@given(cnn_graphs(), st.integers(0, 1000))
@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_networks_answer_alike(graph: Graph, seed: int) -> None:
    after, _ = pipeline.run(graph)
    keras.backend.clear_session()
    inputs = random_inputs(after, seed)
    found = answers(edgecnn.to_keras(after), after, inputs)
    for name, exact in reference.run(after, inputs).items():
        np.testing.assert_allclose(found[name], exact, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(exact).max())))


def transfer(layers: Any) -> Any:
    """A model in a model, called twice, with an addition of the two."""
    inner = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="act"),
        ],
        name="stem",
    )
    a, b = layers.Input((8, 8, 3), name="left"), layers.Input((8, 8, 3), name="right")
    x = layers.Add(name="sum")([inner(a), inner(b)])
    return keras.Model(
        [a, b], layers.Dense(4, name="out")(layers.GlobalAveragePooling2D(name="pool")(x)), name="two_eyes"
    )


def residual(layers: Any) -> Any:
    """Both operands of the sum are convolutions; padding, two activations, a dropout, a second output."""
    x = inputs = layers.Input((9, 9, 4), name="image")
    x = layers.ZeroPadding2D(((1, 0), (2, 1)), name="pad")(x)
    x = layers.BatchNormalization(name="n0")(layers.Conv2D(8, 3, strides=2, name="c0")(x))
    x = layers.ReLU(6.0, name="a0")(x)
    y = layers.Conv2D(8, 1, activation="swish", name="c1")(x)
    y = layers.BatchNormalization(name="n2")(layers.Conv2D(8, 3, padding="same", use_bias=False, name="c2")(y))
    short = layers.BatchNormalization(name="n3")(layers.Conv2D(8, 1, name="c3")(x))
    y = layers.Activation("elu", name="a3")(layers.Add(name="plus")([y, short]))
    y = layers.Dropout(0.2, name="drop")(y)
    flat = layers.Flatten(name="flat")(y)
    return keras.Model(inputs, {"classes": layers.Dense(5, "softmax", name="classes")(flat), "map": y}, name="residual")


def separable(layers: Any) -> Any:
    """Layers that become several nodes."""
    x = inputs = layers.Input((10, 10, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="scale")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", name="sep1")(x)
    x = layers.BatchNormalization(name="norm1")(x)
    x = layers.LeakyReLU(0.1, name="leaky")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="sep2")(x)
    x = layers.Concatenate(name="join")(
        [layers.MaxPooling2D(2, name="max")(x), layers.AveragePooling2D(2, padding="same", name="mean")(x)]
    )
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="tanh", name="up")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="wide")(x)
    x = layers.Cropping2D(((1, 2), (0, 3)), name="crop")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.Permute((2, 1, 3), name="turn")(
        layers.Reshape((17, 17, 4), name="shape")(layers.Resizing(17, 17, name="size")(x))
    )
    return keras.Model(inputs, layers.LayerNormalization(name="layer_norm")(x), name="separable")


def sequence(layers: Any) -> Any:
    """Over time: causal and dilated convolutions, a depthwise one, group normalisation; sizes that are not known."""
    x = inputs = layers.Input((None, 6), name="sound")
    x = layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu", name="the.past")(x)
    x = layers.DepthwiseConv1D(3, padding="same", name="each")(x)
    x = layers.GroupNormalization(2, name="groups")(x)
    return keras.Model(
        inputs, [layers.GlobalMaxPooling1D(name="most")(x), layers.Conv1D(2, 1, name="each_time")(x)], name="sequence"
    )


def gated(layers: Any) -> Any:
    """Functions of keras.ops between layers, and squeeze and excitation."""
    ops = keras.ops
    x = inputs = layers.Input((6, 6, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = ops.multiply(x, ops.sigmoid(ops.subtract(x, np.linspace(-1, 1, 8, dtype=np.float32))))
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gate")([x, gate])
    return keras.Model(inputs, ops.mean(ops.clip(x, -1.0, 1.0), axis=(1, 2)), name="gated")


NETWORKS: dict[str, Callable[[Any], Any]] = {f.__name__: f for f in (transfer, residual, separable, sequence, gated)}


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> Any:
    keras.backend.clear_session()
    return compiled(NETWORKS[request.param](keras.layers))


@pytest.mark.parametrize("compiled_too", [False, True], ids=["eager", "xla"])
def test_names_stand_in_compiled_functions(compiled_too: bool, tmp_path: Path) -> None:
    network = compiled(residual(keras.layers))
    edgecnn.convert(network, tmp_path / "m.ecnn")
    again = edgecnn.to_keras(tmp_path / "m.ecnn")
    again.compile(jit_compile=compiled_too)
    x = np.random.default_rng(0).standard_normal((2, 9, 9, 4)).astype(np.float32)
    found, wanted = again.predict_on_batch(x), edgecnn.load(tmp_path / "m.ecnn")(x)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=TOLERANCE * np.abs(array).max())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kept", ["live", "keras", "h5"])
def test_a_second_conversion_gives_the_same_bytes(network: Any, kept: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.ecnn", tmp_path / "second.ecnn"
    edgecnn.convert(network, first)
    again = edgecnn.to_keras(first)
    if kept != "live":
        again.save(tmp_path / f"again.{kept}")
    edgecnn.convert(again if kept == "live" else tmp_path / f"again.{kept}", second)
    assert second.read_bytes() == first.read_bytes()


def test_the_rebuilt_model_answers_as_the_first(network: Any, tmp_path: Path) -> None:
    edgecnn.convert(network, tmp_path / "m.ecnn")
    rng = np.random.default_rng(0)
    inputs = {
        x.name: rng.standard_normal((2, *(size or 11 for size in x.shape[1:]))).astype(np.float32)
        for x in network.inputs
    }
    graph = edgecnn.load(tmp_path / "m.ecnn").graph
    wanted = answers(network, graph, inputs)
    for name, array in answers(edgecnn.to_keras(graph), graph, inputs).items():
        assert array.shape == wanted[name].shape
        np.testing.assert_allclose(array, wanted[name], rtol=0, atol=TOLERANCE * np.abs(wanted[name]).max())


def test_layers_keep_their_names_and_kinds(tmp_path: Path) -> None:
    edgecnn.convert(compiled(residual(keras.layers)), tmp_path / "m.ecnn")
    model = edgecnn.to_keras(tmp_path / "m.ecnn")
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert kinds["pad"] == "ZeroPadding2D"
    assert kinds["c0->n0"] == "Conv2D"
    assert kinds["a0"] == "ReLU"
    assert kinds["c1"] == "Conv2D"
    assert kinds["plus"] == "Add"
    assert kinds["classes"] == "Softmax"
    assert model.get_layer("c1").activation is keras.activations.silu
    assert model.output_names == ["classes", "map"]


def test_the_rebuilt_model_trains(tmp_path: Path) -> None:
    network = compiled(gated(keras.layers))
    edgecnn.convert(network, tmp_path / "m.ecnn")
    model = edgecnn.to_keras(tmp_path / "m.ecnn")
    x = np.random.default_rng(0).standard_normal((16, 6, 6, 4)).astype(np.float32)
    y = np.zeros((16, 8), np.float32)
    model.compile("adam", "mse")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=3, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before


def test_a_scale_that_was_no_statistic_is_not_trained_as_one() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 3)
    y = b.add("batch_normalization", x, np.full(3, 2.0), np.ones(3), np.zeros(3), np.ones(3), epsilon=0.0)
    graph = b.graph(y)
    model = edgecnn.to_keras(graph)
    (layer,) = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert not layer.trainable
    (found,) = keras.tree.flatten(model([np.ones((2, 4, 4, 3), np.float32)], training=True))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), 3.0, rtol=1e-6)


def test_encodings_are_read(tmp_path: Path) -> None:
    network = compiled(residual(keras.layers))
    edgecnn.convert(network, tmp_path / "half.ecnn", weights="float16", compress=True)
    loaded = edgecnn.load(tmp_path / "half.ecnn")
    x = np.random.default_rng(0).standard_normal((2, 9, 9, 4)).astype(np.float32)
    wanted = loaded(x)
    for source in (tmp_path / "half.ecnn", (tmp_path / "half.ecnn").read_bytes(), loaded, loaded.graph):
        found = answers(edgecnn.to_keras(source), loaded.graph, {"image": x})
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (3, 1, 1), (3,), (3, 3, 3)])
def test_a_constant_is_added_along_its_own_axis(shape: tuple[int, ...]) -> None:
    """Keras' add on TensorFlow takes a vector of three along any axis for a bias along the last one."""
    b = GraphBuilder()
    constant = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    graph = b.graph(b.add("add", b.input("x", 3, 3, 3), constant))
    x = np.random.default_rng(1).normal(size=(2, 3, 3, 3)).astype(np.float32)
    (found,) = keras.tree.flatten(edgecnn.to_keras(graph)([x]))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), x + constant, atol=1e-6)


def test_what_keras_cannot_say_is_listed() -> None:
    b = GraphBuilder()
    x = b.input("x", None, None, 3)
    y = b.add("slice", x, starts=(5, 0, 0), stops=(0, 2**31 - 1, 2**31 - 1), steps=(-1, 1, 1), name="back")
    z = b.add("pad", x, pads=(1, 1, 0, 0, 0, 0), mode="edge", name="edge")
    with pytest.raises(UnsupportedLayerError) as error:
        edgecnn.to_keras(b.graph(b.add("reduce_mean", y, axes=(1, 2)), b.add("reduce_mean", z, axes=(1, 2))))
    assert [item.path for item in error.value.items] == ["back", "edge"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        edgecnn.to_keras(tmp_path / "nothing.ecnn")


def test_without_keras_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("activation", b.input("x", 4), activation="tanh"))
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingPackageError, match=r'pip install "edgecnn\[train\]"'):
        edgecnn.to_keras(graph)


def test_odd_names_are_made_plain() -> None:
    b = GraphBuilder()
    x = b.input("in put:0", 4, 4, 3)
    y = b.add("activation", x, activation="tanh", name="/a b/Tanh", layers=("/a b/Tanh",))
    model = edgecnn.to_keras(b.graph(b.add("activation", y, activation="sigmoid", name="/a b/Tanh_1")))
    assert layer_name("/a b/Tanh", ("/a b/Tanh",)) in [layer.name for layer in model.layers]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each network as a file, with inputs, and the CPU runtime's answers."""
    folder = tmp_path_factory.mktemp("files")
    for name, build in NETWORKS.items():
        keras.backend.clear_session()
        edgecnn.convert(compiled(build(keras.layers)), folder / f"{name}.ecnn")
        model = edgecnn.load(folder / f"{name}.ecnn")
        rng = np.random.default_rng(1)
        inputs = {
            s.name: rng.standard_normal((2, *(n or 13 for n in s.shape[1:]))).astype(np.float32) for s in model.inputs
        }
        np.savez(folder / f"{name}.npz", **inputs)
    return folder


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_every_backend_of_keras_agrees_with_the_cpu(backend: str, files: Path) -> None:
    if importlib.util.find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"Keras' backend {backend} is not installed")
    run_backend(backend, files)


def run_backend(backend: str, folder: Path) -> None:
    """Each file of a folder under a backend, held against the CPU runtime."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).with_name("keras_runner.py")
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == backend
    for path in sorted(folder.glob("*.ecnn")):
        with np.load(path.with_suffix(".npz")) as given:
            wanted = edgecnn.load(path).run({name: given[name] for name in given.files})
        with np.load(path.with_suffix(".out.npz")) as found:
            assert len(found.files) == len(wanted)
            by_order = wanted.values() if len(wanted) == 1 else [wanted[k] for k in _flat_order(path, wanted)]
            for index, array in enumerate(by_order):
                np.testing.assert_allclose(
                    found[str(index)], array, rtol=0, atol=TOLERANCE * np.abs(array).max(), err_msg=path.stem
                )


def _flat_order(path: Path, outputs: dict[str, np.ndarray]) -> list[str]:
    """Names in the order in which Keras flattens outputs: a dict by its keys."""
    structure = edgecnn.load(path).graph.output_structure
    return sorted(outputs) if structure == "dict" else list(outputs)


def zoo_networks() -> dict[str, Callable[[], Any]]:
    """The networks of edgecnn.zoo, and landmarks of keras.applications."""
    from edgecnn import zoo

    found: dict[str, Callable[[], Any]] = {
        name: getattr(zoo, name)
        for name in ("alexnet", "googlenet", "se_resnet50", "se_resnet101", "se_resnet152", "senet154")
    }
    for name in (
        "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "ResNet50", "ResNet50V2", "Xception", "DenseNet121",
        "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "NASNetMobile", "VGG16", "ConvNeXtTiny",
    ):  # fmt: skip
        found[name] = lambda name=name: getattr(keras.applications, name)(weights=None)  # type: ignore[misc]
    return found


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(zoo_networks()))
def test_landmark_networks_come_back(name: str, tmp_path: Path) -> None:
    """The same bytes, and under every backend the CPU's answers."""
    keras.backend.clear_session()
    model = zoo_networks()[name]()
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            for weight in layer.weights:
                low, high = (0.5, 1.5) if weight.name in ("gamma", "moving_variance") else (-0.2, 0.2)
                weight.assign(rng.uniform(low, high, weight.shape))
    edgecnn.convert(model, tmp_path / "m.ecnn")
    edgecnn.convert(edgecnn.to_keras(tmp_path / "m.ecnn"), tmp_path / "again.ecnn")
    assert (tmp_path / "again.ecnn").read_bytes() == (tmp_path / "m.ecnn").read_bytes()
    (tmp_path / "again.ecnn").unlink()
    sizes = [size or 224 for size in model.input_shape[1:]]
    name = edgecnn.load(tmp_path / "m.ecnn").inputs[0].name
    np.savez(tmp_path / "m.npz", **{name: rng.random((1, *sizes), np.float32)})
    for backend in [name for name, package in BACKENDS.items() if importlib.util.find_spec(package) is not None]:
        run_backend(backend, tmp_path)
