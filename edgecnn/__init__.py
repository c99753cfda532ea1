"""edgecnn: fast CNN inference on edge CPUs, straight from Keras models.

import edgecnn
edgecnn.convert("model.h5", "model.ecnn")
model = edgecnn.load("model.ecnn")
y = model(x)
"""
