"""What ends a kernel: a node's activation attributes as a clamp and, where that is not enough, a micro-kernel."""

import numpy as np

from libc.math cimport INFINITY

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.microkernels cimport EC_FUNCTIONS, ec_activation, ec_function_names

FUNCTIONS = {ec_function_names[i].decode(): i for i in range(EC_FUNCTIONS)}


cdef ec_activation as_activation(attributes, InstructionSet instruction_set) except *:
    """The C form of attributes `activation` and `activation_parameters`; a ReLU that clamps needs no function."""
    cdef ec_activation result
    function, parameters = attributes["activation"], attributes["activation_parameters"]
    result.low, result.high, result.function = -INFINITY, INFINITY, NULL
    for i in range(3):
        result.parameters[i] = parameters[i] if i < len(parameters) else 0.0
    if function == "linear":
        return result
    if function == "relu" and parameters[0] == 0.0 and parameters[2] == 0.0 and parameters[1] >= 0.0:
        result.low, result.high = 0.0, parameters[1]
        return result
    if function == "clip":
        result.low, result.high = parameters
        return result
    if function == "relu" and parameters[0] == 0.0 and parameters[2] != 0.0:
        # With a threshold of its own it chooses: of NaN, too, it gives zero.
        function = "threshold"
        result.parameters[0], result.parameters[1], result.parameters[2] = parameters[2], 0.0, parameters[1]
    elif function == "threshold":
        result.parameters[2] = INFINITY
    elif function == "hard_sigmoid" and parameters[0] == 0.0:
        function = "threshold"
        result.parameters[0], result.parameters[1] = INFINITY, min(max(parameters[1], 0.0), 1.0)
        result.parameters[2] = INFINITY
    elif function == "hard_sigmoid":
        # slope (x + shift), which is exact where the sum is near zero; the shift is two floats.
        shift = parameters[1] / parameters[0]
        high = float(np.float32(shift))
        result.parameters[1], result.parameters[2] = high, shift - high
    result.function = instruction_set.table.activate[<int>FUNCTIONS[function]]
    return result
