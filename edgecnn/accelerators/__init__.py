"""The graph on other engines: TensorFlow, Keras, ONNX."""
