"""One module a kernel family: `prepare` in Python at load, a C step at run time.

`FAMILIES` is the one table from an operator to the function that prepares its step. Each takes a `planner.Placed` and gives
a `Step`, or None where nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgecnn.runtime.kernels.algorithms import prepare_conv
from edgecnn.runtime.kernels.convolution import prepare_conv_transpose
from edgecnn.runtime.kernels.copying import (
    prepare_concatenate,
    prepare_copy,
    prepare_pad,
    prepare_slice,
    prepare_transpose,
)
from edgecnn.runtime.kernels.depthwise import prepare_depthwise_conv
from edgecnn.runtime.kernels.elementwise import BINARIES, prepare_activation, prepare_binary
from edgecnn.runtime.kernels.matmul import prepare_matmul
from edgecnn.runtime.kernels.normalization import (
    prepare_batch_normalization,
    prepare_group_normalization,
    prepare_layer_normalization,
    prepare_local_response_normalization,
)
from edgecnn.runtime.kernels.pooling import prepare_pool
from edgecnn.runtime.kernels.reduction import prepare_reduction
from edgecnn.runtime.kernels.resize import prepare_resize
from edgecnn.runtime.kernels.softmax import prepare_softmax, prepare_sparsemax

if TYPE_CHECKING:
    from edgecnn.runtime.executor import Step
    from edgecnn.runtime.planner import Placed

FAMILIES: Mapping[str, Callable[[Placed], Step | None]] = {
    "conv": prepare_conv,
    "conv_transpose": prepare_conv_transpose,
    "depthwise_conv": prepare_depthwise_conv,
    "dense": prepare_conv,
    "matmul": prepare_matmul,
    "batch_normalization": prepare_batch_normalization,
    "layer_normalization": prepare_layer_normalization,
    "group_normalization": prepare_group_normalization,
    "local_response_normalization": prepare_local_response_normalization,
    "activation": prepare_activation,
    **dict.fromkeys(BINARIES, prepare_binary),
    "softmax": prepare_softmax,
    "sparsemax": prepare_sparsemax,
    "max_pool": prepare_pool,
    "average_pool": prepare_pool,
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), prepare_reduction),
    "concatenate": prepare_concatenate,
    "reshape": prepare_copy,
    "identity": prepare_copy,
    "transpose": prepare_transpose,
    "slice": prepare_slice,
    "pad": prepare_pad,
    "resize": prepare_resize,
}
