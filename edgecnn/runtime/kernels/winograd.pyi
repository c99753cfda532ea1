from edgecnn.runtime.cpu import InstructionSet
from edgecnn.runtime.executor import Step
from edgecnn.runtime.kernels.packing import WinogradForm
from edgecnn.runtime.planner import Placed

def forms(instruction_set: InstructionSet) -> tuple[WinogradForm, ...]: ...
def prepare_winograd(placed: Placed, form: WinogradForm) -> Step: ...
