import numpy as np

from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Step
from edgecnn.runtime.kernels.packing import Panel, Shelf, WinogradForm
from edgecnn.runtime.planner import Placed

def forms(instruction_set: InstructionSet) -> tuple[WinogradForm, ...]: ...
def prepare_winograd(placed: Placed, form: WinogradForm) -> Step: ...
def pack_winograd(
    weights: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    form: WinogradForm,
    instruction_set: InstructionSet,
    shelf: Shelf,
) -> tuple[np.ndarray, tuple[Panel, ...], np.ndarray]: ...
