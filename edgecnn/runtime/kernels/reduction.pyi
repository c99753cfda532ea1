from edgecnn.runtime.executor import Step
from edgecnn.runtime.planner import Placed

def prepare_reduction(placed: Placed) -> Step: ...
