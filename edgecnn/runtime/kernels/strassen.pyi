import numpy as np

from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Step
from edgecnn.runtime.kernels.packing import Panel, Shelf
from edgecnn.runtime.planner import Placed

BLOCK: int

def pack_halves(
    weights: np.ndarray, bias: np.ndarray | None, instruction_set: InstructionSet, shelf: Shelf
) -> tuple[np.ndarray, tuple[Panel, ...], np.ndarray]: ...
def prepare_strassen(placed: Placed) -> Step: ...
