from collections.abc import Sequence

import numpy as np

class Filling: ...

class PanelFilling(Filling):
    def __init__(
        self, weights: np.ndarray, bias: np.ndarray | None, packed: np.ndarray, panels: np.ndarray, lanes: int
    ) -> None: ...

def fill_all(fillings: Sequence[Filling], threads: int) -> None: ...
