"""The graph on other engines: TensorFlow, Keras, ONNX.

tensorflow.py              the graph as one tf.function: `edgecnn.load(device="gpu")`
tensorflow_operators.py    each operator of the table in TensorFlow
to_keras.py                the graph as a Keras model
keras_layers.py            the one layer that Keras lacks
saved_model.py             the graph as a SavedModel, for TensorFlow Serving and Triton
export.py                  the formats that `edgecnn convert --to` writes
onnx.py                    the graph as a standard ONNX model
onnx_builder.py            in which order a tensor's axes lie there
onnx_operators.py          each operator of the table in ONNX
"""
