"""Local response normalisation, as a Keras layer."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def local_response_normalization_class() -> Any:
    """The layer class `LocalResponseNormalization(size=5, bias=2.0, alpha=1e-4, beta=0.75)`, which Keras lacks.

    Made on the first call, which imports Keras, and registered as "edgecnn>LocalResponseNormalization": call this
    before keras.saving.load_model in a process that has built no network with it. Its input and output have one shape,
    (..., channels), and one floating dtype. The arguments:

        size: how many neighbouring channels are summed, 1 or more; of an even size, the odd one out comes after.
        bias: k of the paper.
        alpha: factor of the sum. Not divided by size, unlike Caffe's.
        beta: exponent.

    Returns:
        The same class on every call.

    Source: Krizhevsky et al. 2012, section 3.3.
    """
    import keras

    @keras.saving.register_keras_serializable(package="edgecnn")
    class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
        """y = x / (bias + alpha * sum of x^2 over `size` neighbouring channels) ^ beta; beyond the ends lie zeros."""

        def __init__(
            self, size: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **options: Any
        ) -> None:
            super().__init__(**options)
            if size < 1:
                raise ValueError(f"LocalResponseNormalization: size is {size}, wanted 1 channel at least")
            self.size, self.bias, self.alpha, self.beta = int(size), float(bias), float(alpha), float(beta)

        def call(self, inputs: Any) -> Any:
            edges = [(0, 0)] * (len(inputs.shape) - 1) + [((self.size - 1) // 2, self.size // 2)]
            squares = keras.ops.pad(keras.ops.square(inputs), edges)
            # Slices, not a pooling over channels: backends pool pictures only, and in floats of their own choice.
            total = sum(squares[..., first : first + 1 - self.size or None] for first in range(self.size))
            return inputs / keras.ops.power(self.bias + self.alpha * total, self.beta)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            own = {"size": self.size, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
            return {**super().get_config(), **own}

    return LocalResponseNormalization
