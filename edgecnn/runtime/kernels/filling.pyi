from collections.abc import Sequence

import numpy as np

from edgecnn.runtime.kernels.packing import Panel

class Filling: ...

class PanelFilling(Filling):
    def __init__(
        self, weights: np.ndarray, bias: np.ndarray | None, packed: np.ndarray, panels: Sequence[Panel], lanes: int
    ) -> None: ...

def fill_all(fillings: Sequence[Filling], threads: int) -> None: ...
