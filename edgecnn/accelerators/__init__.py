"""The graph on other engines: TensorFlow, Keras, ONNX.

tensorflow.py              the graph as one tf.function: `edgecnn.load(device="gpu")`
tensorflow_operators.py    each operator of the table in TensorFlow
saved_model.py             the graph as a SavedModel, for TensorFlow Serving and Triton
to_keras.py                the graph as a Keras model
"""
