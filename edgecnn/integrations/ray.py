"""Ray Data: a class for `map_batches`, one model an actor, on the cores or the GPU that Ray grants it.

ds = ray.data.read_images("photos", size=(224, 224), mode="RGB", include_paths=True)
ds = ds.map_batches(
    Predictor,
    fn_constructor_kwargs={"model": open("model.ecnn", "rb").read(), "inputs": "image", "top": 1},
    batch_size=64,
    concurrency=(1, 4),
    num_cpus=1,
)
ds.write_parquet("answers")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from edgecnn.errors import InputError, MissingPackageError
from edgecnn.integrations.columns import Array, ColumnModel, ColumnOptions, load_model
from edgecnn.runtime import threads as threading_rules


@dataclass(frozen=True)
class Grant:
    """What Ray grants to the running actor or task.

    Attributes:
        threads: whole cores of `num_cpus`, at least 1, at most what this machine has; None outside Ray's workers.
        device: "gpu" where it has a GPU, or a share of one, else "cpu".
    """

    threads: int | None = None
    device: str = "cpu"


def granted() -> Grant:
    """What Ray grants here; EDGECNN_THREADS, where it is set, stands above its cores.

    Raises:
        MissingPackageError: ray is not installed.
    """
    ray = _ray()
    if not ray.is_initialized():
        return Grant()
    context = ray.get_runtime_context()
    if context.get_task_id() is None and context.get_actor_id() is None:
        return Grant()  # the driver, to which Ray grants nothing and forbids nothing
    resources: Mapping[str, float] = context.get_assigned_resources()
    device = "gpu" if resources.get("GPU", 0) > 0 else "cpu"
    if os.environ.get("EDGECNN_THREADS", "").strip():
        return Grant(None, device)
    return Grant(min(max(1, int(resources.get("CPU", 0))), threading_rules.available()), device)


class Predictor:
    """A model for Ray Data's `map_batches`.

    Args:
        model: path of an .ecnn file on every worker's machine; or its bytes, which travel with the job; or what
            `ray.put` gave for its bytes, which every machine then fetches once.
        device: "cpu", "gpu"; default: "gpu" where Ray grants the actor a GPU (`num_gpus`).
        threads: default: the whole cores that Ray grants the actor (`num_cpus`), at least 1.
        options: inputs, outputs, top, keep_inputs, preprocess, damaged: see `columns.ColumnOptions`.

    Raises:
        MissingPackageError: ray is not installed.
        ModelFileError: the model cannot be read.
        DeviceError: the device is not there.
        InputError: the options do not fit the model.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str | None = None,
        threads: int | None = None,
        **options: Unpack[ColumnOptions],
    ) -> None:
        ray = _ray()
        if isinstance(model, ray.ObjectRef):
            model = ray.get(model)
        grant = granted()
        device = device or grant.device
        if threads is None and device == "cpu":  # TensorFlow has threads of its own
            threads = grant.threads
        self._columns = ColumnModel(load_model(model, threads, device), options)
        self.model = self._columns.model

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        """Answer a batch of columns (`batch_format="numpy"`); see `columns.ColumnModel`."""
        if not isinstance(batch, Mapping):
            raise InputError(f'given a batch of {type(batch).__name__}; wanted map_batches(..., batch_format="numpy")')
        return self._columns(batch)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError('this needs Ray: pip install "edgecnn[ray]"') from error
    return ray
