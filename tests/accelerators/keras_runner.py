"""Run by a test, under the Keras backend that KERAS_BACKEND names: what files give as Keras models.

python keras_runner.py FOLDER      for each NAME.ecnn and NAME.npz of inputs: NAME.out.npz, of outputs by public name
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

import edgecnn

for path in sorted(Path(sys.argv[1]).glob("*.ecnn")):
    model = edgecnn.to_keras(path)
    with np.load(path.with_suffix(".npz")) as given:
        arrays = [given[name] for name in given.files]
    outputs = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    flat = keras.tree.flatten(outputs)
    np.savez(path.with_suffix(".out.npz"), **{str(i): keras.ops.convert_to_numpy(y) for i, y in enumerate(flat)})
print(keras.backend.backend())
