import numpy as np

from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Step
from edgecnn.runtime.kernels.filling import Later
from edgecnn.runtime.kernels.packing import Panel
from edgecnn.runtime.planner import Placed

BLOCK: int

def pack_halves(
    weights: np.ndarray, bias: np.ndarray | None, instruction_set: InstructionSet, later: Later
) -> tuple[np.ndarray, tuple[Panel, ...], np.ndarray]: ...
def prepare_strassen(placed: Placed) -> Step: ...
