"""One module a kernel family: `prepare` in Python at load, a C step at run time.

`FAMILIES` is the one table from an operator to the function that prepares its step. Each takes a `planner.Placed` and gives
a `Step`, or None where nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgecnn.runtime.kernels.convolution import prepare_conv2d, prepare_dense
from edgecnn.runtime.kernels.copying import prepare_concatenate, prepare_copy, prepare_zero_padding2d
from edgecnn.runtime.kernels.depthwise import prepare_depthwise_conv2d
from edgecnn.runtime.kernels.elementwise import prepare_activation, prepare_binary
from edgecnn.runtime.kernels.normalization import prepare_batch_normalization
from edgecnn.runtime.kernels.pooling import prepare_global_pool, prepare_pool
from edgecnn.runtime.kernels.softmax import prepare_softmax

if TYPE_CHECKING:
    from edgecnn.runtime.executor import Step
    from edgecnn.runtime.planner import Placed

FAMILIES: Mapping[str, Callable[[Placed], Step | None]] = {
    "conv2d": prepare_conv2d,
    "depthwise_conv2d": prepare_depthwise_conv2d,
    "dense": prepare_dense,
    "batch_normalization": prepare_batch_normalization,
    "activation": prepare_activation,
    "add": prepare_binary,
    "multiply": prepare_binary,
    "softmax": prepare_softmax,
    "max_pool2d": prepare_pool,
    "average_pool2d": prepare_pool,
    "global_average_pool2d": prepare_global_pool,
    "global_max_pool2d": prepare_global_pool,
    "concatenate": prepare_concatenate,
    "reshape": prepare_copy,
    "identity": prepare_copy,
    "zero_padding2d": prepare_zero_padding2d,
}
