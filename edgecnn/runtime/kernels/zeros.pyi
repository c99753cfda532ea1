import numpy as np

from edgecnn.runtime.kernels.filling import Filling

PART: int

def block_counts(weights: np.ndarray, groups: int, width: int) -> np.ndarray: ...
def lay_blocks(
    counts: np.ndarray, groups: int, filters: int, channels: int, width: int, cut: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...

class BlockFilling(Filling):
    def __init__(
        self,
        weights: np.ndarray,
        bias: np.ndarray | None,
        counts: np.ndarray,
        packed: np.ndarray,
        panels: np.ndarray,
        width: int,
    ) -> None: ...

class SingleFilling(Filling):
    def __init__(
        self,
        weights: np.ndarray,
        values: np.ndarray,
        places: np.ndarray,
        rows: np.ndarray,
        slices: np.ndarray,
        parts: np.ndarray,
        size: int,
    ) -> None: ...

class MaskedFilling(Filling):
    def __init__(
        self, weights: np.ndarray, values: np.ndarray, masks: np.ndarray, first: np.ndarray, lanes: int, vectors: int
    ) -> None: ...
