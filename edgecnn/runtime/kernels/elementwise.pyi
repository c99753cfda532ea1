from edgecnn.runtime.executor import Step
from edgecnn.runtime.planner import Placed

BINARIES: dict[str, int]

def prepare_activation(placed: Placed) -> Step: ...
def prepare_binary(placed: Placed) -> Step: ...
