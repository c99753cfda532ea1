"""What Keras answers: the expected values of the converter's tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def keras_answers(model: Any, given: Any) -> Any:
    """What a model of Keras 3 or tf-keras answers: an array, or a list or dict of arrays as the model gives it.

    On most CPUs TensorFlow computes convolutions and poolings of channels_first images only where XLA compiles them.
    """

    def call(x: Any) -> Any:
        return model(x, training=False)

    if "channels_first" in model.to_json():
        import tensorflow as tf

        try:
            return _arrays(call(given))
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            # Only where it must: TensorFlow 2.21's XLA resizes by linear interpolation wrongly where a pixel is hit exactly.
            call = tf.function(call, jit_compile=True)
    return _arrays(call(given))


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: np.asarray(tensor) for name, tensor in value.items()}
    return [np.asarray(tensor) for tensor in value] if isinstance(value, list | tuple) else np.asarray(value)
