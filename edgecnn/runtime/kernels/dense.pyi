import numpy as np

from edgecnn.runtime.executor import Step
from edgecnn.runtime.planner import Placed

def prepare_dense(placed: Placed) -> Step: ...
def prepare_vector(placed: Placed, weights: np.ndarray) -> Step: ...
