"""Say what is on each photo of a folder, by as many workers as a Ray cluster has, into Parquet files.

    python classify_folder.py model.ecnn photos/ answers/                          # the cores of this machine
    python classify_folder.py model.ecnn photos/ answers/ --address auto           # the cluster that this machine is part of
    python classify_folder.py model.ecnn s3://bucket/photos s3://bucket/answers --address auto --workers 8:64 --gpus 1

Needs `pip install "edgecnn[ray]"` on every machine of the cluster; the model travels with the job. A worker that is lost is started again,
and what it had not answered is answered by another: each photo is answered once. A photo that cannot be read is answered with
nothing, and the column "error" says why.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import edgecnn
from edgecnn.errors import InputError, MissingPackageError
from edgecnn.integrations.ray import Predictor

PICTURES = ["jpg", "jpeg", "png", "bmp", "webp"]


def workers(text: str) -> tuple[int, int]:
    """ "4" or "1:8": how many there may be."""
    least, _, most = text.partition(":")
    return int(least), int(most or least)


def main() -> int:
    """0: done; the exit codes of edgecnn otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an .ecnn file on this machine")
    parser.add_argument("photos", help="a folder that every worker can read")
    parser.add_argument("answers", help="a folder for the Parquet files, that every worker can write")
    parser.add_argument("--top", type=int, default=1, help="how many classes to name (1)")
    parser.add_argument("--batch", type=int, default=64, help="photos that a worker takes at once (64)")
    parser.add_argument("--workers", type=workers, help="how many, or least:most (1 to as many as there are cores)")
    parser.add_argument("--cpus", type=float, default=1, help="cores of a worker (1)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker, or its share of one (0)")
    parser.add_argument("--address", help="a running cluster's, or auto (one is started on this machine)")
    arguments = parser.parse_args()

    try:
        model = edgecnn.load(arguments.model)  # here already: what is wrong with it is told before anything starts
        content = arguments.model.read_bytes()
        if len(model.inputs) != 1:
            raise InputError(f"{arguments.model}: wanted a model with one input, given {len(model.inputs)}")
        if Path(arguments.answers).exists() and any(Path(arguments.answers).iterdir()):
            raise InputError(
                f"{arguments.answers}: has files already, whose answers would be counted too; name another folder"
            )
        try:
            import ray
        except ImportError as error:
            raise MissingPackageError('this needs Ray: pip install "edgecnn[ray]"') from error
        ray.init(address=arguments.address or "local", include_dashboard=None if arguments.address else False)
        least, most = arguments.workers or (
            1,
            max(1, int(ray.cluster_resources().get("CPU", 1) / (arguments.cpus or 1))),
        )
        held = ray.put(content)  # one copy on each machine; held to the end, for workers that are started again
        answers = ray.data.read_binary_files(
            arguments.photos, include_paths=True, file_extensions=PICTURES
        ).map_batches(
            Predictor,
            fn_constructor_kwargs={
                "model": held,
                "inputs": {model.inputs[0].name: "bytes"},
                "outputs": {model.outputs[0].name: "class"},
                "top": arguments.top,
                "damaged": "mark",
            },
            batch_size=arguments.batch,
            compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            num_cpus=arguments.cpus,
            num_gpus=arguments.gpus,
            max_restarts=-1,
            max_task_retries=-1,
        )
        started = time.perf_counter()
        answers.write_parquet(arguments.answers)
        seconds = time.perf_counter() - started
        count = damaged = 0
        for batch in ray.data.read_parquet(arguments.answers).select_columns(["error"]).iter_batches():
            count += len(batch["error"])
            damaged += int((batch["error"] != "").sum())
        ray.shutdown()
    except edgecnn.Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{count} photos in {seconds:.1f} s, {count / seconds:.1f} a second; {damaged} could not be read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
