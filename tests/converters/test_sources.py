"""Models as they come: every structure and kind of file; and files that are damaged, hostile, or something else."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from keras_answers import keras_answers

pytestmark = pytest.mark.filterwarnings("ignore")

KERASES = ("keras", "tf_keras")
SUFFIXES = (".h5", ".keras")


def sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((9, 8, 3), name="photo"),
            layers.Conv2D(4, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(6.0, name="relu"),
            layers.Conv2D(5, 3, strides=2, padding="same", name="second"),
            layers.Dropout(0.5, name="drop"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="classes"),
        ],
        name="in_a_row",
    )


def sequential_without_input(keras: Any) -> Any:
    model = keras.Sequential(
        [keras.layers.Conv2D(4, 3, name="first"), keras.layers.GlobalAveragePooling2D(name="mean")]
    )
    model.build((None, 7, 7, 2))
    return model


def residual(keras: Any) -> Any:
    layers = keras.layers
    x = given = layers.Input((8, 8, 3), name="photo")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    shortcut = x = layers.Activation("relu", name="stem_relu")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.BatchNormalization(scale=False, name="norm")(x)
    x = layers.Add(name="sum")([shortcut, x])
    x = layers.Activation("relu", name="relu")(x)
    gate = layers.GlobalAveragePooling2D(name="squeeze")(x)
    gate = layers.Dense(6, activation="sigmoid", name="excite")(gate)
    gate = layers.Reshape((1, 1, 6), name="gate")(gate)
    x = layers.Multiply(name="scale")([x, gate])
    x = layers.Concatenate(name="join")([x, shortcut])
    return keras.Model(given, layers.Conv2D(2, 1, name="head")(x), name="residual")


def listed(keras: Any) -> Any:
    layers = keras.layers
    a, b = layers.Input((6, 6, 3), name="left"), layers.Input((6, 6, 3), name="right")
    total = layers.Add(name="total")([a, b])
    return keras.Model([a, b], [layers.Conv2D(2, 3, name="conv")(total), layers.MaxPooling2D(name="pool")(total)])


def named(keras: Any) -> Any:
    layers = keras.layers
    a, b = layers.Input((6, 6, 3), name="a"), layers.Input((6, 6, 2), name="b")
    x = layers.Concatenate(name="join")([a, b])
    outputs = {"mean": layers.GlobalAveragePooling2D(name="g")(x), "map": layers.Conv2D(2, 1, name="c")(x)}
    return keras.Model({"a": a, "b": b}, outputs)


def shared(keras: Any) -> Any:
    layers = keras.layers
    a, b = layers.Input((6, 6, 3), name="a"), layers.Input((6, 6, 3), name="b")
    tower, norm = layers.Conv2D(4, 3, name="tower"), layers.BatchNormalization(name="norm")
    return keras.Model([a, b], layers.Multiply(name="both")([norm(tower(a)), norm(tower(b))]))


def any_size(keras: Any) -> Any:
    layers = keras.layers
    given = layers.Input((None, None, 3), name="photo")
    x = layers.Conv2D(4, 3, padding="same", strides=2, name="conv")(given)
    return keras.Model(given, layers.GlobalMaxPooling2D(name="max")(x))


def same_classes_again(keras: Any) -> Any:
    """Layers of one class, whose weights lie in numbered groups of a .keras file, in another order than their names."""
    x = given = keras.layers.Input((8, 8, 2), name="photo")
    for name in ("zeta", "alpha", "mid", "beta", "conv2d_7", "conv"):
        x = keras.layers.Conv2D(3, 2, name=name)(x)
    return keras.Model(given, x)


MODELS: tuple[Callable[[Any], Any], ...] = (
    sequential,
    sequential_without_input,
    residual,
    listed,
    named,
    shared,
    any_size,
    same_classes_again,
)


def randomised(model: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if "variance" in v.name else rng.uniform(-1, 1, w.shape)
            for v, w in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model


def inputs_of(graph: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        port.name: rng.uniform(-1, 1, [3, *(size or 7 for size in graph.shape(port.tensor)[1:])]).astype(np.float32)
        for port in graph.inputs
    }


def answers_of(model: Any, xs: dict[str, np.ndarray], structure: str) -> list[np.ndarray]:
    given: Any = xs if structure == "dict" else list(xs.values())
    answers = keras_answers(model, given if len(xs) > 1 else next(iter(xs.values())))
    return list(answers.values()) if isinstance(answers, dict) else answers if isinstance(answers, list) else [answers]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("which", KERASES)
def test_every_structure_from_every_kind_of_source(which: str, make: Callable[[Any], Any], tmp_path: Path) -> None:
    keras = pytest.importorskip(which)
    model = randomised(make(keras))
    files = set()
    for source in (model, *(tmp_path / f"model{suffix}" for suffix in SUFFIXES)):
        if isinstance(source, Path):
            model.save(source)
        graph = to_graph(source)
        xs = inputs_of(graph)
        loaded = edgecnn.load(graph)
        expected = answers_of(model, xs, graph.input_structure)
        answers = loaded.run(xs)
        for (name, answer), wanted in zip(answers.items(), expected, strict=True):
            np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max(), err_msg=name)
        target = tmp_path / "out.ecnn"
        edgecnn.convert(source, target, overwrite=True)
        files.add(target.read_bytes())
    assert len(files) == 1, "the kinds of source give different bytes"


@pytest.mark.parametrize("which", KERASES)
def test_names_and_structures_are_keras_own(which: str) -> None:
    keras = pytest.importorskip(which)
    model = edgecnn.load(to_graph(listed(keras)))
    assert [spec.name for spec in model.inputs] == ["left", "right"]
    assert [spec.name for spec in model.outputs] == ["conv", "pool"]
    zeros = np.zeros((1, 6, 6, 3), np.float32)
    assert isinstance(model(zeros, zeros), list)
    model = edgecnn.load(to_graph(named(keras)))
    answer = model({"a": np.zeros((1, 6, 6, 3)), "b": np.zeros((1, 6, 6, 2))})
    assert set(answer) == {"mean", "map"}


def test_the_report_tells_what_became_of_every_layer(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    report = edgecnn.convert(randomised(sequential(keras)), tmp_path / "m.ecnn")
    found = {row.path: row.outcome for row in report.layers}
    assert list(found) == ["photo", "first", "norm", "relu", "second", "drop", "flat", "classes"]
    assert found["photo"] == "input"
    assert found["norm"] == "in first"
    assert found["drop"] == "dropped"
    assert "softmax" in found["classes"]
    assert (report.size, report.source_size) == ((tmp_path / "m.ecnn").stat().st_size, None)
    assert "in first" in str(report)
    assert json.loads(json.dumps(report.to_json()))["size"] == report.size


def test_half_precision_weights_make_half_the_file(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    x = given = keras.layers.Input((8, 8, 32))
    for _ in range(3):
        x = keras.layers.Conv2D(32, 3, padding="same")(x)
    model = randomised(keras.Model(given, x))
    whole = edgecnn.convert(model, tmp_path / "whole.ecnn")
    half = edgecnn.convert(model, tmp_path / "half.ecnn", weights="float16")
    assert half.size < 0.55 * whole.size
    photo = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 32)).astype(np.float32)
    a, b = edgecnn.load(tmp_path / "whole.ecnn")(photo), edgecnn.load(tmp_path / "half.ecnn")(photo)
    assert 0 < np.abs(a - b).max() < 5e-3 * np.abs(a).max()


# --- What is not a sound Keras model ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.h5 and model.keras."""
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("saved")
    model = randomised(sequential(keras))
    for suffix in SUFFIXES:
        model.save(folder / f"model{suffix}")
    model.save_weights(folder / "only.weights.h5")
    tf_keras = pytest.importorskip("tf_keras")
    sequential(tf_keras).save_weights(folder / "old_weights.h5")
    return folder


def refused(source: Path, *words: str) -> edgecnn.ConversionError:
    """The error of a conversion that must fail, and must leave nothing and lose nothing."""
    target = source.parent / f"{source.name}.precious.ecnn"
    target.write_bytes(b"precious")
    before = set(source.parent.iterdir())
    with pytest.raises(edgecnn.ConversionError) as caught:
        edgecnn.convert(source, target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert set(source.parent.iterdir()) == before
    target.unlink()
    assert all(word in str(caught.value) for word in (str(source), *words)), str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_refused(saved: Path, suffix: str, tmp_path: Path) -> None:
    whole = (saved / f"model{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for end in sorted({1, 7, 8, 100, *range(0, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 1}):
        path.write_bytes(whole[:end])
        refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_bytes_never_crash(saved: Path, suffix: str, tmp_path: Path) -> None:
    whole = (saved / f"model{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / f"changed{suffix}"
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 5):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            edgecnn.convert(path, tmp_path / "out.ecnn", overwrite=True)
        except edgecnn.ConversionError:
            continue


def test_files_of_weights_alone_are_explained(saved: Path) -> None:
    for name in ("only.weights.h5", "old_weights.h5"):
        refused(saved / name, "weights only", "model.save")


def test_a_zip_that_is_no_model_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "photos.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"...")
    refused(path, "config.json", "model.weights.h5")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.h5", b"", "empty"),
        ("a.h5", b"nonsense", "nonsense"),
        ("a.tflite", b"\x1c\0\0\0TFL3", "damaged LiteRT"),
        ("a.tflite", b"\x1c\0\0\0TFL2", "named like a LiteRT"),
        ("a.onnx", b"\x08\x07", "ONNX"),
        ("a.keras", b"PK\x03\x04junk", "zip"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    if word == "damaged LiteRT":
        pytest.importorskip("tflite")
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, word)


def test_no_file_and_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(edgecnn.ConversionError, match="no such file"):
        edgecnn.convert(tmp_path / "nothing.h5")
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(edgecnn.ConversionError, match="SavedModel"):
        edgecnn.convert(tmp_path, tmp_path.parent / "x.ecnn")
    with pytest.raises(edgecnn.ConversionError, match="int"):
        edgecnn.convert(5, tmp_path / "x.ecnn")


def test_arguments_that_cannot_be_meant_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(edgecnn.InputError, match="int8"):
        edgecnn.convert(saved / "model.h5", tmp_path / "x.ecnn", weights="int8")
    (tmp_path / "x.ecnn").write_bytes(b"precious")
    with pytest.raises(edgecnn.InputError, match="exists already"):
        edgecnn.convert(saved / "model.h5", tmp_path / "x.ecnn")
    assert (tmp_path / "x.ecnn").read_bytes() == b"precious"


def edited(saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """model.h5 with its configuration changed."""
    path = tmp_path / "edited.h5"
    path.write_bytes((saved / "model.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_all_unsupported_layers_are_named_at_once(saved: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        layers[1]["class_name"] = "MultiHeadAttention"
        layers[2]["class_name"] = "LSTM"
        layers[3]["class_name"] = "mine>Relu"
        layers[4]["config"]["activation"] = "unheard_of"
        layers[5]["class_name"] = "Lambda"

    error = refused(edited(saved, tmp_path, change), "5 layers")
    assert isinstance(error, edgecnn.UnsupportedLayerError)
    assert [(item.path, item.class_name) for item in error.items] == [
        ("first", "MultiHeadAttention"),
        ("norm", "LSTM"),
        ("relu", "mine>Relu"),
        ("second", "Conv2D"),
        ("drop", "Lambda"),
    ]
    assert all(item.reason and item.hint and item.path in str(error) for item in error.items)
    assert pickle.loads(pickle.dumps(error)).items == error.items


def test_a_lambda_is_not_run(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    trap = tmp_path / "trap"
    given = keras.layers.Input((4, 4, 3))
    code = "(lambda x: (open(trap, 'w').close(), x)[1])"
    lambda_layer = keras.layers.Lambda(eval(code, {"trap": str(trap)}), name="trap")
    model = keras.Model(given, lambda_layer(given))
    for suffix in SUFFIXES:
        model.save(tmp_path / f"lambda{suffix}")
    trap.unlink(missing_ok=True)
    for suffix in SUFFIXES:
        error = refused(tmp_path / f"lambda{suffix}", "never run")
        assert isinstance(error, edgecnn.UnsupportedLayerError)
    assert not trap.exists()


def test_a_class_of_the_same_name_from_elsewhere_is_not_taken_for_keras_own(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    with zipfile.ZipFile(saved / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][1] |= {"module": "attack", "registered_name": "attack>Conv2D"}
                data = json.dumps(config).encode()
            target.writestr(name, data)
    error = refused(path, "attack>Conv2D")
    assert isinstance(error, edgecnn.UnsupportedLayerError)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(config=None),
        lambda c: c.update(class_name="Subclassed"),
        lambda c: c["config"].update(layers=[]),
        lambda c: c["config"].update(layers=5),
        lambda c: c["config"]["layers"][1].pop("config"),
        lambda c: c["config"]["layers"][1]["config"].update(strides="many"),
        lambda c: c["config"]["layers"][1]["config"].update(strides=[0, 1]),
        lambda c: c["config"]["layers"][1]["config"].update(strides=[2**40, 1]),
        lambda c: c["config"]["layers"][1]["config"].update(groups=0),
        lambda c: c["config"]["layers"][1]["config"].update(name="stranger"),
        lambda c: c["config"]["layers"][2]["config"].update(epsilon="small"),
        lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, 2, 2, 3]),
        lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, -1, 8, 3]),
        lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, 9, 8, 4]),
    ],
)
def test_a_damaged_configuration_is_explained(saved: Path, tmp_path: Path, change: Callable[[Any], None]) -> None:
    refused(edited(saved, tmp_path, change))


def test_links_out_of_the_file_are_not_followed(saved: Path, tmp_path: Path) -> None:
    for link in (h5py.ExternalLink("/etc/hostname", "/"), h5py.SoftLink("/model_weights/second/second/kernel")):
        path = edited(saved, tmp_path, lambda config: None)
        with h5py.File(path, "r+") as file:
            group = file["model_weights/first/in_a_row/first"]
            del group["kernel"]
            group["kernel"] = link
        refused(path, "safety")


def test_datasets_kept_elsewhere_or_claiming_too_much_are_refused(saved: Path, tmp_path: Path) -> None:
    def replaced(make: Callable[[Any], None]) -> Path:
        path = edited(saved, tmp_path, lambda config: None)
        with h5py.File(path, "r+") as file:
            group = file["model_weights/first/in_a_row/first"]
            del group["kernel"]
            make(group)
        return path

    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(3 * 3 * 3 * 4 * 4))
    external = [(str(outside), 0, h5py.h5f.UNLIMITED)]
    refused(replaced(lambda g: g.create_dataset("kernel", (3, 3, 3, 4), "f4", external=external)), "another file")
    refused(replaced(lambda g: g.create_dataset("kernel", (2**20, 2**20), "f4", chunks=(64, 64))), "claims")
    refused(replaced(lambda g: g.create_dataset("kernel", data=np.zeros((3, 3, 3, 4), "S4"))), "text")
    refused(replaced(lambda g: g.create_dataset("kernel", data=np.zeros((3, 3, 9, 4), "f4"))), "first")
    refused(replaced(lambda g: g.create_group("kernel")), "array")


def test_a_zip_bomb_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", (zipfile.ZipFile(saved / "model.keras")).read("config.json"))
        archive.writestr("model.weights.h5", bytes(80 * 2**20))
    refused(path, "safety")


def test_weights_that_are_not_finite_are_a_warning(saved: Path, tmp_path: Path) -> None:
    path = edited(saved, tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        file["model_weights/second/in_a_row/second/kernel"][0, 0, 0, 0] = np.nan
    report = edgecnn.convert(path, tmp_path / "nan.ecnn")
    assert any("NaN" in warning for warning in report.warnings)


def test_conversion_needs_neither_tensorflow_nor_keras(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras'): sys.modules[name] = None\n"
        "import edgecnn\n"
        "for source in sys.argv[1:]: print(edgecnn.convert(source, source + '.ecnn').size)"
    )
    for suffix in SUFFIXES:
        (tmp_path / f"m{suffix}").write_bytes((saved / f"model{suffix}").read_bytes())
    arguments = [sys.executable, "-P", "-c", code, *(str(tmp_path / f"m{suffix}") for suffix in SUFFIXES)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert len(set(done.stdout.split())) == 1
