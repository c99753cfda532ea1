"""SavedModels: what they take, give, and never overwrite."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.accelerators.saved_model import write_saved_model
from edgecnn.format import encode, write
from edgecnn.graph import Graph, Port
from small_models import convolution, dense_pair, mean_classifier

tf = pytest.importorskip("tensorflow")

# Importing TensorFlow warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


def signatures(folder: Path) -> dict[str, Any]:
    # What was loaded goes with the last reference to it.
    signatures.loaded = tf.saved_model.load(str(folder))  # type: ignore[attr-defined]
    return dict(signatures.loaded.signatures)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["path", "bytes", "graph", "model"])
def test_answers_are_those_of_the_runtime(kind: str, tmp_path: Path) -> None:
    write(convolution(), tmp_path / "model.ecnn")
    model = edgecnn.load(convolution())
    sources = {"path": tmp_path / "model.ecnn", "bytes": encode(convolution()), "graph": convolution(), "model": model}
    write_saved_model(sources[kind], tmp_path / "models" / "1")
    found = signatures(tmp_path / "models" / "1")
    assert list(found) == ["serving_default"]
    for count in (1, 5):
        x = images(count, 16, 16, 4)
        np.testing.assert_allclose(found["serving_default"](x=tf.constant(x))["y"].numpy(), model(x), atol=1e-5)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["1"]


def test_inputs_and_outputs_have_their_public_names(tmp_path: Path) -> None:
    write_saved_model(dense_pair(), tmp_path / "1")
    serve = signatures(tmp_path / "1")["serving_default"]
    specs = serve.structured_input_signature[1]
    assert {name: spec.shape.as_list() for name, spec in specs.items()} == {"left": [None, 3], "right": [None, 3]}
    left, right = images(2, 3), 2 * images(2, 3)
    found = serve(left=tf.constant(left), right=tf.constant(right))
    assert set(found) == {"sum", "double"}
    np.testing.assert_allclose(found["sum"], left + right)
    np.testing.assert_allclose(found["double"], 2 * left)


def renamed(graph: Graph, *names: str) -> Graph:
    ports = tuple(Port(name, port.tensor) for name, port in zip(names, graph.inputs, strict=True))
    return replace(graph, inputs=ports)


def test_names_that_tensorflow_does_not_take_are_changed(tmp_path: Path) -> None:
    write_saved_model(renamed(dense_pair(), "a/b:0", "1 x"), tmp_path / "1")
    serve = signatures(tmp_path / "1")["serving_default"]
    assert set(serve.structured_input_signature[1]) == {"a_b_0", "input_1_x"}
    left, right = images(2, 3), 2 * images(2, 3)
    np.testing.assert_allclose(serve(a_b_0=tf.constant(left), input_1_x=tf.constant(right))["double"], 2 * left)


def test_names_that_would_be_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(edgecnn.InputError, match="different names"):
        write_saved_model(renamed(dense_pair(), "a/b", "a:b"), tmp_path / "1")
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("offset", [-1.0, [0.0, 0.5, -0.5]])
def test_pictures_are_taken_as_the_metadata_say(offset: float | list[float], tmp_path: Path) -> None:
    graph = mean_classifier(metadata={"preprocessing": {"scale": 1 / 127.5, "offset": offset}})
    write_saved_model(graph, tmp_path / "1")
    found = signatures(tmp_path / "1")
    assert set(found) == {"serving_default", "pictures"}
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    wanted = (pictures / 127.5 + np.array(offset)).mean(axis=(1, 2))
    np.testing.assert_allclose(found["pictures"](image=tf.constant(pictures))["means"], wanted, atol=1e-6)
    plain = found["serving_default"](image=tf.constant(pictures, tf.float32))["means"]
    np.testing.assert_allclose(plain, pictures.mean(axis=(1, 2)), rtol=1e-6)


def test_preprocessing_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(edgecnn.InputError, match="2 entries"):
        write_saved_model(mean_classifier(metadata={"preprocessing": {"scale": [1, 2]}}), tmp_path / "1")


def test_open_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(edgecnn.InputError, match="--input-shape"):
        write_saved_model(mean_classifier(size=None), tmp_path / "1")


def test_what_is_there_is_kept_unless_it_is_a_saved_model_to_replace(tmp_path: Path) -> None:
    target = tmp_path / "1"
    write_saved_model(mean_classifier(), target)
    with pytest.raises(edgecnn.InputError, match="overwrite=True"):
        write_saved_model(dense_pair(), target)
    write_saved_model(dense_pair(), target, overwrite=True)
    assert set(signatures(target)["serving_default"].structured_outputs) == {"sum", "double"}
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("kept")
    with pytest.raises(edgecnn.InputError, match="no SavedModel"):
        write_saved_model(dense_pair(), tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "precious").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "home"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(edgecnn.DataFileError, match="cannot be written"):
        write_saved_model(mean_classifier(), tmp_path / "file" / "1")


def test_without_tensorflow_the_line_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(edgecnn.MissingPackageError, match="pip install"):
        write_saved_model(mean_classifier(), tmp_path / "1")
