"""What tests run in a child process: a spawned child imports it by name, which it cannot do with a test module."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np

import edgecnn


def answer(model: edgecnn.Model, x: np.ndarray[Any, Any], queue: multiprocessing.Queue[bytes]) -> None:
    """Put the bytes of a model's answer into the queue."""
    queue.put(model(x).tobytes())
