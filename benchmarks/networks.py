"""The networks that are measured, and the files that each engine reads of them.

Building needs TensorFlow, whose threads and memory would disturb the measurement: it happens in a process of its own, once,
and what it made is kept in a cache. Only the .ecnn file is made anew when edgecnn's converter has changed, from the kept .keras.

python benchmarks/networks.py NAME FOLDER    # what `prepare` runs: builds one network into a folder
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import edgecnn

BUILD = 2
"""Goes up when what is built below changes: older caches are then not taken."""

SEED = 1

MOST_MEMORY = 12 << 30
"""Bytes that a build may take. Past that it fails with an error, before the machine runs out of memory."""

LARGE_WEIGHT = 32 << 20
"""Bytes from which a weight goes around the ONNX exporter, which copies every constant many times: VGG16's first dense layer
alone has 411 MB, and its export would take over 20 GB."""

PIXELS = (0.0, 255.0)
"""Range of the inputs of networks that rescale pictures themselves."""

PICTURE = (224, 224, 3)
"""Where keras.applications leaves height and width open."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        build: makes the Keras model.
        range: of its inputs.
        zeros: share of the weights of its 1 x 1 and 3 x 3 convolutions that are zero.
        block: neighbouring filters whose weights are zero together.
    """

    build: Callable[[], Any]
    range: tuple[float, float] = (-1.0, 1.0)
    zeros: float = 0.0
    block: int = 1


@dataclass(frozen=True)
class Prepared:
    """What is measured of a network.

    Attributes:
        files: format -> file; a format that could not be made is absent.
        lacks: format -> why it is absent.
        x, expected: an input, float32 (1, height, width, channels), and Keras' answer.
    """

    name: str
    folder: Path
    files: dict[str, Path]
    lacks: dict[str, str]
    x: Array
    expected: Array


def application(name: str, **options: Any) -> Callable[[], Any]:
    """A network of keras.applications, weights random."""

    def build() -> Any:
        import keras

        return getattr(keras.applications, name)(weights=None, **options)

    return build


def zoo(name: str) -> Callable[[], Any]:
    """A network of edgecnn.zoo, weights random."""

    def build() -> Any:
        from edgecnn import zoo

        return getattr(zoo, name)()

    return build


def small_cnn() -> Any:
    """Two convolutions with their pools and two dense layers, for pictures of 32 x 32."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="small_cnn",
    )


NETWORKS = {
    "SmallCNN": Network(small_cnn),
    "MobileNet": Network(application("MobileNet")),
    "MobileNetV2": Network(application("MobileNetV2")),
    "MobileNetV3Small": Network(application("MobileNetV3Small", input_shape=PICTURE), PIXELS),
    "MobileNetV3Large": Network(application("MobileNetV3Large", input_shape=PICTURE), PIXELS),
    "NASNetMobile": Network(application("NASNetMobile")),
    "EfficientNetB0": Network(application("EfficientNetB0"), PIXELS),
    "GoogLeNet": Network(zoo("googlenet")),
    "ResNet50": Network(application("ResNet50")),
    "SE-ResNet50": Network(zoo("se_resnet50")),
    "DenseNet121": Network(application("DenseNet121")),
    "InceptionV3": Network(application("InceptionV3")),
    "Xception": Network(application("Xception")),
    "AlexNet": Network(zoo("alexnet")),
    "VGG16": Network(application("VGG16")),
}

PRUNED = {
    f"{name}-{percent}-{pattern}": Network(NETWORKS[name].build, zeros=percent / 100, block=block)
    for name in ("MobileNet", "ResNet50")
    for percent in (80, 90)
    for pattern, block in (("blocks", 16), ("single", 1))
}
"""The same with zeros, for who asks for them by name. The peers get their ordinary files: none has a use for zeros on x86."""

LEAST_CHANNELS = 8
"""Of the input, for a convolution to lose weights."""

FILES = {"ecnn": "model.ecnn", "tflite": "model.tflite", "onnx": "model.onnx", "ir": "saved.xml", "onnx-ir": "onnx.xml"}
"""Format -> file. OpenVINO's own format is made twice, from the SavedModel and from ONNX: which is faster differs."""


def prepare(name: str, cache_folder: Path, tell: Callable[[str], None]) -> Prepared:
    """A network's files, from the cache or built.

    Raises:
        ChildProcessError: it could not be built.
    """
    folder = cache_folder / f"{name}-{_key(name)}"
    if not folder.exists():
        tell(f"{name}: building, once")
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".building-") as temporary:
            built = Path(temporary) / name
            built.mkdir()
            _run_python(str(Path(__file__).resolve()), name, str(built))
            built.replace(folder)
    files = {format: folder / file for format, file in FILES.items() if (folder / file).exists()}
    files["ecnn"] = _ecnn(name, folder, tell)
    return Prepared(
        name,
        folder,
        files,
        json.loads((folder / "lacks.json").read_text(encoding="utf-8")),
        np.load(folder / "input.npy"),
        np.load(folder / "expected.npy"),
    )


def _ecnn(name: str, folder: Path, tell: Callable[[str], None]) -> Path:
    """The .ecnn file that the installed converter makes."""
    path = folder / f"model-{_sources('converters', 'graph', 'format')}.ecnn"
    if not path.exists():
        tell(f"{name}: converting for edgecnn")
        for old in folder.glob("model-*.ecnn"):
            old.unlink()
        code = "import sys, edgecnn; edgecnn.convert(sys.argv[1], sys.argv[2])"
        _run_python("-P", "-c", code, str(folder / "model.keras"), str(path))
    return path


def _run_python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ChildProcessError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-4000:]}")


@cache
def _sources(*folders: str) -> str:
    """Hash of Python files of the installed edgecnn."""
    root = Path(edgecnn.__file__).parent
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _key(name: str) -> str:
    """Hash of all that decides what is built."""
    versions = [
        _version(package) for package in ("tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "onnx", "openvino")
    ]
    settings = [BUILD, SEED, name, (NETWORKS | PRUNED)[name].range, versions, _sources("zoo")]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# What follows runs in the building process.


def build(name: str, folder: Path) -> None:
    """Write input, expected answer, .keras and every peer's file. What a peer's exporter refuses is noted in lacks.json."""
    import keras

    network = (NETWORKS | PRUNED)[name]
    keras.utils.set_random_seed(SEED)
    model = network.build()
    rng = np.random.default_rng(SEED)
    shape = model.input_shape[1:]
    randomize(model, network, rng, rng.uniform(*network.range, (4, *shape)).astype(np.float32))
    x = rng.uniform(*network.range, (1, *shape)).astype(np.float32)
    np.save(folder / "input.npy", x)
    np.save(folder / "expected.npy", np.asarray(model(x, training=False)))
    model.save(folder / "model.keras")
    lacks = {}
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        signature = [keras.InputSpec(dtype="float32", shape=(1, *shape), name="image")]
        model.export(saved, format="tf_saved_model", verbose=False, input_signature=signature)
        exports: dict[str, Callable[[Path], None]] = {
            "tflite": lambda path: export_tflite(saved, path),
            "ir": lambda path: export_openvino(saved, path),
            "onnx": lambda path: export_onnx(model, path),
            "onnx-ir": lambda path: export_openvino(folder / FILES["onnx"], path),
        }
        for format, export in exports.items():
            try:
                export(folder / FILES[format])
            except Exception as error:  # Whatever an exporter raises, the other engines are still measured.
                lacks[format] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                (folder / FILES[format]).unlink(missing_ok=True)
    (folder / "lacks.json").write_text(json.dumps(lacks), encoding="utf-8")


def randomize(model: Any, network: Network, rng: np.random.Generator, images: Array) -> None:
    """Weights with which a wrong layer shows in the answer and rounding does not.

    Kernels are drawn as He et al. 2015 (arXiv 1502.01852) say, so that activations keep their scale; batch normalisation
    gets the statistics that it would have learnt from the images; the last kernel is scaled so that the logarithms of the
    probabilities spread by 1. With Keras' own initial weights all probabilities would be alike, whatever the layers
    before computed.
    """
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
        for variable in layer.weights:
            values = _values(variable, layer, rng)
            if network.zeros and type(layer).__name__ == "Conv2D" and values.ndim == 4:
                values = _with_zeros(values, network, rng)
            variable.assign(values)
    model(images, training=True)
    spread = np.log(np.asarray(model(images, training=False))).std()
    last = [layer for layer in model.layers if hasattr(layer, "kernel")][-1]
    last.kernel.assign(np.asarray(last.kernel) / spread)


def _with_zeros(weights: Array, network: Network, rng: np.random.Generator) -> Array:
    """A kernel without the share of its weights that the network lacks; the others are larger, so that sums keep their scale."""
    *window, channels, filters = weights.shape
    if window not in ([1, 1], [3, 3]) or channels < LEAST_CHANNELS:
        return weights
    blocks = rng.random((*window, channels, -(-filters // network.block))) < network.zeros
    gone = np.repeat(blocks, network.block, axis=-1)[..., :filters]
    return np.where(gone, 0, weights / np.sqrt(1 - network.zeros))


def _values(variable: Any, layer: Any, rng: np.random.Generator) -> Array:
    """Random values for one variable; its own where they are statistics."""
    shape, kind = variable.shape, variable.path.split("/")[-1]
    if "kernel" in kind:
        # A depthwise kernel is (height, width, channels, multiplier): each filter sees one channel.
        receptive = shape[:-2] if "depthwise" in variable.path or "Depthwise" in type(layer).__name__ else shape[:-1]
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(receptive)))
    if kind == "gamma":
        return rng.uniform(0.7, 1.3, shape)
    if kind == "beta":
        # Around zero, differences as small as rounding errors would grow from layer to layer (Yang et al. 2019,
        # arXiv 1902.08129): ResNet50's answers would differ by 5e-5 between any two engines, instead of 2e-6.
        return rng.uniform(0, 1, shape)
    if kind == "bias":
        return rng.normal(0, 0.1, shape)
    return np.asarray(variable)


def export_tflite(saved: str, path: Path) -> None:
    """LiteRT's format, float32, from a SavedModel."""
    import tensorflow as tf

    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())


def export_openvino(source: str | Path, path: Path) -> None:
    """OpenVINO's format, float32, from a SavedModel or an .onnx file."""
    import openvino

    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)


def export_onnx(model: Any, path: Path) -> None:
    """ONNX of batch 1 by tf2onnx, as Keras' own export, but for three things that go wrong there.

    The function is frozen first: Keras' export takes tensors that a layer holds beside its variables (mean and variance
    of EfficientNet's Normalization) for inputs. Large weights are inputs of what is exported, and become constants after.
    Grouped convolutions, which Keras wraps in functions of their own for XLA, are traced without: tf2onnx does not look
    into functions.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    trainable = len(model.trainable_variables)
    large = {i: f"weight_{i}" for i, v in enumerate(variables) if 4 * np.prod(v.shape) >= LARGE_WEIGHT}

    @tf.function  # type: ignore[untyped-decorator]
    def answer(image: Any, weights: dict[str, Any]) -> Any:
        values = [weights[large[i]] if i in large else v.value for i, v in enumerate(variables)]
        return model.stateless_call(values[:trainable], values[trainable:], image, training=False)[0]

    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    weights = {name: tf.TensorSpec(variables[i].shape, tf.float32, name=name) for i, name in large.items()}
    with mock.patch.object(tf, "function", return_value=lambda function: function):
        traced = answer.get_concrete_function(image, weights)
    frozen = convert_variables_to_constants_v2(traced)
    exported, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[tensor.name for tensor in frozen.inputs],
        output_names=[tensor.name for tensor in frozen.outputs],
        opset=18,
    )
    for i, name in large.items():
        for port in _ports(exported.graph, name):
            exported.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(variables[i].value), port.name))
            exported.graph.input.remove(port)
    onnx.save(exported, path)


def _ports(graph: Any, name: str) -> Iterator[Any]:
    """The inputs of an ONNX graph that stand for a tensor of TensorFlow."""
    yield from [port for port in graph.input if port.name.split(":")[0] == name]


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))


if __name__ == "__main__":
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    if sys.platform == "linux":
        _limit_memory()
    build(sys.argv[1], Path(sys.argv[2]))
