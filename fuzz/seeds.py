"""The files that the fuzzer starts from, one small model of each kind a format can hold: `python fuzz/seeds.py` writes them to
fuzz/corpus/FORMAT/seed-NAME.gz, which takes Keras, TensorFlow and onnx. They are kept, so that fuzzing needs none of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import edgecnn.converters
from edgecnn.format import encode
from targets import CORPUS, keep


def keras_models() -> dict[str, Any]:
    """Small models that have a layer of each family."""
    import keras
    from keras import layers as L

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = L.BatchNormalization()(x)
    y = L.DepthwiseConv2D(3, padding="same")(x)
    x = L.Add()([x, y])
    x = L.ReLU(max_value=6)(L.Concatenate()([x, L.MaxPooling2D(2, 1, padding="same")(x)]))
    x = L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x))
    classifier = keras.Model(image, x, name="classifier")

    left, right = keras.Input((None, None, 2), name="left"), keras.Input((6, 4), name="right")
    a = L.Conv2DTranspose(3, 2, strides=2)(L.ZeroPadding2D(((1, 0), (0, 2)))(left))
    a = L.UpSampling2D(2, interpolation="bilinear")(L.LeakyReLU()(a))
    b = L.Conv1D(3, 3, padding="causal", dilation_rate=2)(right)
    b = L.Reshape((3, 6))(L.LayerNormalization()(b))
    many = keras.Model(
        [left, right], {"a": a, "b": L.Permute((2, 1))(b), "mean": keras.ops.mean(b, axis=1)}, name="many"
    )

    inner = keras.Sequential([L.Input((5, 4)), L.Dense(3, "tanh"), L.Dropout(0.5)], name="inner")
    frames = keras.Input((5, 4))
    nested = keras.Model(frames, L.Flatten()(inner(L.TimeDistributed(L.Dense(4))(frames))), name="nested")

    series = keras.Sequential(
        [L.Input((12, 4)), L.Conv1D(3, 3, activation="relu"), L.MaxPooling1D(2), L.Flatten(), L.Dense(2, "sigmoid")],
        name="series",
    )
    return {"classifier": classifier, "many": many, "nested": nested, "series": series}


def onnx_models() -> dict[str, bytes]:
    """Small ONNX models of different opsets."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    def model(nodes: list[Any], shape: list[Any], constants: list[Any], opset: int) -> bytes:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
        return bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()
        )

    node = helper.make_node
    sizes = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    shape = numpy_helper.from_array(np.array([0, -1], np.int64), "flat")
    return {
        "network": model(
            [
                node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
                node("Relu", ["c"], ["r"]),
                node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_UPPER"),
                node("Reshape", ["m", "flat"], ["f"]),
                node("Gemm", ["f", "k"], ["g"], transB=1),
                node("Softmax", ["g"], ["y"], axis=-1),
            ],
            ["n", 3, 8, 8],
            [weights("w", 4, 3, 3, 3), weights("b", 4), weights("k", 3, 64), shape],
            13,
        ),
        "image": model(
            [
                node("Resize", ["x", "", "scales"], ["s"], mode="linear", coordinate_transformation_mode="half_pixel"),
                node("Pad", ["s", "pads"], ["p"], mode="reflect"),
                node("Slice", ["p", "starts", "ends"], ["t"]),
                node("Split", ["t"], ["u", "v"], axis=1, num_outputs=2),
                node("Concat", ["v", "u"], ["z"], axis=1),
                node("ReduceMean", ["z", "axes"], ["q"], keepdims=1),
                node("Mul", ["q", "z"], ["y"]),
            ],
            ["n", 2, 4, 5],
            [
                sizes,
                numpy_helper.from_array(np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64), "pads"),
                numpy_helper.from_array(np.array([0, 0, 1, 1], np.int64), "starts"),
                numpy_helper.from_array(np.array([2**31, 9, -1, 9], np.int64), "ends"),
                numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            ],
            18,
        ),
        "shapes": model(
            [
                node("Shape", ["x"], ["shape"]),
                node("Gather", ["shape", "zero"], ["batch"], axis=0),
                node("Unsqueeze", ["batch"], ["first"], axes=[0]),
                node("Concat", ["first", "minus"], ["wanted"], axis=0),
                node("Reshape", ["x", "wanted"], ["f"]),
                node("MatMul", ["f", "k"], ["g"]),
                node("Clip", ["g"], ["h"], min=-1.0, max=1.0),
                node("Erf", ["h"], ["y"]),
            ],
            ["n", 3, 2, 2],
            [
                numpy_helper.from_array(np.array(0, np.int64), "zero"),
                numpy_helper.from_array(np.array([-1], np.int64), "minus"),
                weights("k", 12, 3),
            ],
            9,
        ),
    }


def write(kind: str, name: str, data: bytes) -> None:
    print(f"{keep(CORPUS / kind, f'seed-{name}', data)}: {len(data)} bytes")


def main() -> None:
    import tensorflow as tf

    for name, model in keras_models().items():
        for suffix in ("h5", "keras"):
            path = CORPUS / f"model.{suffix}"
            model.save(path)
            write(suffix, name, path.read_bytes())
            path.unlink()
        write("ecnn", name, encode(edgecnn.converters.to_graph(model)))
        if name in ("classifier", "series"):  # TensorFlow gives the others a batch that moves
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            write("tflite", name, converter.convert())
    for name, data in onnx_models().items():
        write("onnx", name, data)
        path = CORPUS / "model.onnx"
        path.write_bytes(data)
        write("ecnn", f"onnx-{name}", encode(edgecnn.converters.to_graph(path)))
        path.unlink()
    for golden in sorted((Path(__file__).parents[1] / "tests" / "format" / "golden").glob("*.ecnn")):
        write("ecnn", golden.stem, golden.read_bytes())


if __name__ == "__main__":
    main()
