from collections.abc import Sequence
from typing import Any

import numpy as np

class Step:
    name: str
    portion: float
    kernel: str
    scratch: int
    span: tuple[int, int, int]

class Executor:
    arena_bytes: int
    scratch_bytes: int
    def __init__(
        self,
        steps: Sequence[Step],
        arena: int,
        inputs: Sequence[tuple[int, ...]],
        outputs: Sequence[tuple[int, ...]],
        widest: int,
    ) -> None: ...
    def answer(self, x: object, threads: int) -> np.ndarray[Any, Any] | None: ...
    def run(self, arrays: tuple[np.ndarray[Any, Any], ...], images: int, threads: int) -> None: ...
    def time_steps(
        self, arrays: tuple[np.ndarray[Any, Any], ...], threads: int, seconds: np.ndarray[Any, Any]
    ) -> None: ...

def clock_seconds() -> float: ...
