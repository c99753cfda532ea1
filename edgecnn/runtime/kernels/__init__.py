"""One module a kernel family: `prepare` in Python at load, a C step at run time.

`FAMILIES` is the one table from an operator to the function that prepares its step. Each takes a `planner.Placed` and gives
a `Step`, or None where nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgecnn.runtime.kernels import convolution, copying, depthwise, elementwise, normalization, pooling, softmax

if TYPE_CHECKING:
    from edgecnn.runtime.executor import Step
    from edgecnn.runtime.planner import Placed

FAMILIES: Mapping[str, Callable[[Placed], Step | None]] = {
    "conv2d": convolution.prepare_conv2d,
    "depthwise_conv2d": depthwise.prepare,
    "dense": convolution.prepare_dense,
    "batch_normalization": normalization.prepare,
    "activation": elementwise.prepare_activation,
    "add": elementwise.prepare_binary,
    "multiply": elementwise.prepare_binary,
    "softmax": softmax.prepare,
    "max_pool2d": pooling.prepare_pool,
    "average_pool2d": pooling.prepare_pool,
    "global_average_pool2d": pooling.prepare_global_pool,
    "global_max_pool2d": pooling.prepare_global_pool,
    "concatenate": copying.prepare_concatenate,
    "reshape": copying.prepare_copy,
    "identity": copying.prepare_copy,
    "zero_padding2d": copying.prepare_zero_padding2d,
}
