import numpy as np

from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Step
from edgecnn.runtime.kernels.filling import Later
from edgecnn.runtime.kernels.packing import Panel, WinogradForm
from edgecnn.runtime.planner import Placed

def forms(instruction_set: InstructionSet) -> tuple[WinogradForm, ...]: ...
def prepare_winograd(placed: Placed, form: WinogradForm) -> Step: ...
def pack_winograd(
    weights: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    form: WinogradForm,
    instruction_set: InstructionSet,
    later: Later,
) -> tuple[np.ndarray, tuple[Panel, ...], np.ndarray]: ...
