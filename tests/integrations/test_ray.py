"""Ray Data: a real cluster on this machine, of two cores, one of whose workers is killed."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import DeviceError, InputError, MissingPackageError, ModelFileError
from edgecnn.format.writer import encode
from edgecnn.graph import Graph
from edgecnn.integrations.ray import Grant, Predictor, granted
from graph_strategies import GraphBuilder, Weights, conv
from patience import HUNG
from small_models import mean_classifier, save

pytest.importorskip("ray", reason="Ray is not installed")

# Ray's own: it sets options of its own that it has deprecated, and leaves files open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

IMAGES = 10_000
BATCH = 50
SCALED: dict[str, Any] = {"preprocessing": {"scale": 1 / 255}}
RGB = {"labels": ["red", "green", "blue"], **SCALED}


def left_over(folder: str) -> list[str]:
    """Command lines of processes that name a folder: all of Ray's name that of their session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in command:
            found.append(command)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on two cores and a GPU that it only counts."""
    if sys.platform == "linux" and not os.access("/dev/shm", os.W_OK):
        pytest.skip("Ray's object store needs /dev/shm, which cannot be written here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        patch.delenv("EDGECNN_THREADS", raising=False)
        import ray

        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie in it, whose names have bounds
        # Workers import from the folder that the driver works in: that of the checkout has no compiled modules.
        patch.chdir(folder)
        ray.init(
            num_cpus=2,
            num_gpus=1,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        # Workers cannot import this module: what they need of it travels as code.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        try:
            yield
        finally:
            ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
            ray.shutdown()
            gc.collect()  # what Ray left open is found here, where it is allowed, and not in a later test
            deadline = time.monotonic() + HUNG
            while (left := left_over(folder)) and time.monotonic() < deadline:
                time.sleep(0.1)
            shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def classifier() -> Graph:
    """(N, 8, 8, 3) -> (N, 10): a convolution, a dense layer, softmax."""
    b, w = GraphBuilder(), Weights(0)
    x = conv(b, w, b.input("image", 8, 8, 3), 16, 3, activation="relu")
    x = b.add("dense", b.add("reshape", x, shape=(-1,)), w.normal(6 * 6 * 16, 10, fan_in=6 * 6))
    graph = b.graph(b.add("softmax", x, axis=1, name="probs"))
    return replace(graph, input_structure="single", output_structure="single", metadata=SCALED)


def pictures(ids: np.ndarray) -> np.ndarray:
    """A picture (8, 8, 3) of scattered values for each id."""
    places = np.arange(8 * 8 * 3, dtype=np.uint64)
    mixed = (ids.astype(np.uint64)[:, None] * np.uint64(2654435761) + places * np.uint64(40503)) >> np.uint64(7)
    return (mixed % np.uint64(256)).astype(np.uint8).reshape(-1, 8, 8, 3)


def generated(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"id": batch["id"], "image": pictures(batch["id"])}


class Watched(Predictor):
    """A predictor that leaves a file for each batch, and on its way through the middle picture waits to be killed."""

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self.folder = Path(folder)

    def __call__(self, batch: Any) -> dict[str, np.ndarray]:
        answers = super().__call__(batch)
        if IMAGES // 2 in batch["id"] and not (self.folder / "killing").exists():
            (self.folder / "victim.part").write_text(str(os.getpid()))
            (self.folder / "victim.part").rename(self.folder / "victim")
            time.sleep(HUNG)
        time.sleep(0.01)
        (self.folder / f"done-{os.getpid()}-{batch['id'][0]}").touch()
        return answers


@dataclass
class Killing:
    """Kills the worker that waits for it; then `victim` is its process, `before` the batches that were done."""

    folder: Path
    victim: int = 0
    before: int = 0

    def __call__(self) -> None:
        deadline = time.monotonic() + HUNG
        while not (self.folder / "victim").exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        victim = int((self.folder / "victim").read_text())
        self.before = len(list(self.folder.glob("done-*")))
        (self.folder / "killing").touch()
        os.kill(victim, signal.SIGKILL)
        self.victim = victim


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ten_thousand_images_are_each_answered_once_though_a_worker_is_killed(tmp_path: Path) -> None:
    import ray

    content = encode(classifier())
    killing = Killing(tmp_path)
    killer = threading.Thread(target=killing)
    killer.start()
    answers = (
        ray.data.range(IMAGES, override_num_blocks=IMAGES // 100)
        .map_batches(generated)
        .map_batches(
            Watched,
            fn_constructor_kwargs={"folder": str(tmp_path), "model": ray.put(content), "inputs": "image"},
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
        )
    )
    found = {"id": [], "probs": []}
    for batch in answers.iter_batches(batch_size=1000):
        assert sorted(batch) == ["id", "probs"]
        for name, values in batch.items():
            found[name].append(values)
    killer.join()

    assert killing.victim
    done = [path.name.split("-") for path in tmp_path.glob("done-*")]
    assert 0 < killing.before < len(done)
    assert {int(pid) for _, pid, _ in done} - {killing.victim}
    ids, probs = np.concatenate(found["id"]), np.concatenate(found["probs"])
    assert np.array_equal(np.sort(ids), np.arange(IMAGES))
    alone = edgecnn.load(content)(pictures(np.arange(IMAGES)) * np.float32(1 / 255))
    assert len(np.unique(alone, axis=0)) == IMAGES  # so that no answer can stand for another one
    assert np.array_equal(probs, alone[ids])


@pytest.mark.usefixtures("cluster")
def test_threads_and_device_are_what_ray_grants() -> None:
    import ray

    class Asked:
        def grant(self) -> Grant:
            return granted()

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {
        ("num_cpus", 1.0): Grant(1, "cpu"),
        ("num_cpus", 0.5): Grant(1, "cpu"),
        ("num_cpus", 1.5): Grant(1, "cpu"),
        ("num_cpus", 2.0): Grant(min(2, cores), "cpu"),
        ("num_gpus", 0.5): Grant(1, "gpu"),
    }
    for (option, value), grant in wanted.items():
        actor = ray.remote(Asked).options(**{option: value}).remote()
        assert ray.get(actor.grant.remote()) == grant
        ray.kill(actor)
    assert ray.get(ray.remote(granted).options(num_cpus=2).remote()) == Grant(min(2, cores), "cpu")
    assert granted() == Grant(None, "cpu")  # here, in the driver


@pytest.mark.usefixtures("cluster")
def test_the_environment_variable_for_threads_stands_above_the_grant() -> None:
    import ray

    variables = {"EDGECNN_THREADS": "3"}
    told = ray.remote(granted).options(num_cpus=1, runtime_env={"env_vars": variables})
    assert ray.get(told.remote()) == Grant(None, "cpu")


@pytest.mark.usefixtures("cluster")
def test_a_predictor_computes_with_what_its_actor_has() -> None:
    import ray

    class Asked(Predictor):
        def threads(self) -> int:
            return self.model.threads

    actor = ray.remote(Asked).options(num_cpus=1).remote(ray.put(encode(mean_classifier())))
    assert ray.get(actor.threads.remote()) == 1
    actor = ray.remote(Asked).options(num_cpus=1).remote(encode(mean_classifier()), threads=2)
    assert ray.get(actor.threads.remote()) == 2


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_has_a_gpu_computes_there_or_not_at_all() -> None:
    import ray

    class Asked(Predictor):
        def device(self) -> str:
            return self.model.device

    actor = ray.remote(Asked).options(num_gpus=0.5).remote(encode(mean_classifier()))
    try:
        found = ray.get(actor.device.remote())
    except ray.exceptions.RayActorError as error:  # Ray counts a GPU here, whether there is one or not
        found = str(error)
    assert found.startswith("gpu") or "DeviceError" in found
    ray.kill(actor)


@pytest.mark.usefixtures("cluster")
def test_the_best_classes_with_their_names_reach_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet
    import ray

    images = np.zeros((3, 4, 4, 3), np.uint8)
    for number in range(3):
        images[number, ..., number] = 255
        images[number, ..., (number + 1) % 3] = 51
    rows = [{"name": f"picture {number}", "image": images[number]} for number in range(3)]
    for top in (1, 2):
        ray.data.from_items(rows).map_batches(
            Predictor,
            fn_constructor_kwargs={
                "model": encode(mean_classifier(metadata=RGB)),
                "inputs": "image",
                "outputs": "class",
                "top": top,
            },
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=1,
        ).write_parquet(tmp_path / str(top))
    one = pyarrow.parquet.read_table(tmp_path / "1").sort_by("name").to_pydict()
    assert one == {
        "name": ["picture 0", "picture 1", "picture 2"],
        "class_label": ["red", "green", "blue"],
        "class_score": [1.0, 1.0, 1.0],
    }
    two = pyarrow.parquet.read_table(tmp_path / "2").sort_by("name").to_pydict()
    assert two["class_label"] == [["red", "green"], ["green", "blue"], ["blue", "red"]]
    assert np.allclose(two["class_score"], [[1.0, 0.2]] * 3)


def test_a_predictor_works_without_a_cluster(tmp_path: Path) -> None:
    image = np.full((2, 4, 4, 3), 51, np.uint8)
    predict = Predictor(save(mean_classifier(metadata=RGB), tmp_path), outputs="means")
    answers = predict({"image": image, "id": np.arange(2)})
    assert sorted(answers) == ["id", "means"]
    assert np.allclose(answers["means"], 0.2)


def test_another_format_of_batches_is_told() -> None:
    predict = Predictor(encode(mean_classifier()))
    with pytest.raises(InputError, match=r'given a batch of list; wanted map_batches.*batch_format="numpy"'):
        predict([1])  # type: ignore[arg-type]


def test_without_ray_the_line_that_installs_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r'pip install "edgecnn\[ray\]"'):
        Predictor(encode(mean_classifier()))


def test_a_path_that_this_machine_lacks_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.ecnn: no such file on this machine .* give the model's bytes"):
        Predictor(tmp_path / "none.ecnn")


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceError):
        Predictor(encode(mean_classifier()), device="abacus")
