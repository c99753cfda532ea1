"""What ends a kernel: a node's activation attributes as a clamp and, where that is not enough, a micro-kernel."""

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
    result.function = instruction_set.table.activate[<int>FUNCTIONS[function]]
    return result
