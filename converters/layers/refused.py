"""Keras' layers that are not converted, each with its reason: the one documented list."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from edgecnn.converters.layers.registry import LAYERS

_RECURRENT = ("recurrent: what it computes depends on the steps before", "use Conv1D layers over the steps")
_ATTENTION = (
    "an attention layer; edgecnn is for convolutional networks",
    "use a convolutional network, or another runtime",
)
_TEXT = ("works on words or categories, not on images or signals", "do it before the model, in Python")
_PICTURES = ("changes pictures by their histogram or for training only", "do it before the model, in Python")
_FOREIGN = ("runs code of another framework, which is never run", "rebuild it from layers of Keras")
_FLOW = ("is control flow: what it computes depends on values", "export the model without loops and conditions")
_STATE = ("keeps a state from call to call", "export the model with its weights as constants")
_BATCHES = ("mixes the images of a batch, and no convolution between the two undoes it", "use a dilated convolution")
_INDICES = ("works with the places of maxima", "use a strided convolution and a transposed one")
_ABSTRACT = ("is a base for other classes and computes nothing itself", "use a layer of Keras")

REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("RNN", "SimpleRNN", "SimpleRNNCell", "LSTM", "LSTMCell", "GRU", "GRUCell"), _RECURRENT),
    **dict.fromkeys(("StackedRNNCells", "AbstractRNNCell", "Bidirectional"), _RECURRENT),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _RECURRENT),
    **dict.fromkeys(("CuDNNLSTM", "CuDNNGRU"), _RECURRENT),
    **dict.fromkeys(("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"), _ATTENTION),
    "EinsumDense": ("a product over named axes, made for attention", "use Dense, or Conv layers with a kernel of 1"),
    **dict.fromkeys(("Embedding", "ReversibleEmbedding", "DenseFeatures"), _TEXT),
    **dict.fromkeys(("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "HashedCrossing"), _TEXT),
    **dict.fromkeys(("CategoryEncoding", "Discretization"), _TEXT),
    **dict.fromkeys(("AutoContrast", "Equalization", "Solarization", "MaxNumBoundingBoxes"), _PICTURES),
    "ContrastLimitedAdaptiveHistogramEqualization": _PICTURES,
    "MelSpectrogram": ("computes Fourier transforms", "compute the spectrogram before the model, in Python"),
    "STFTSpectrogram": ("computes Fourier transforms", "compute the spectrogram before the model, in Python"),
    "Masking": ("hides steps from recurrent layers", "leave it out; convolutions do not heed masks"),
    "Lambda": (
        "holds Python code, which is never run",
        "say what it is made of with edgecnn.converters.register('Lambda', ...), or replace it by layers of Keras or keras.ops",
    ),
    **dict.fromkeys(("TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"), _FOREIGN),
    **dict.fromkeys(("Layer", "Wrapper", "InputSpec"), _ABSTRACT),
    "Pipeline": ("is a chain of preprocessing layers", "call these layers one after another in the model"),
    **dict.fromkeys(("tflite.IF", "tflite.WHILE", "tflite.CALL_ONCE"), _FLOW),
    **dict.fromkeys(("tflite.VAR_HANDLE", "tflite.READ_VARIABLE", "tflite.ASSIGN_VARIABLE"), _STATE),
    **dict.fromkeys(("tflite.LSTM", "tflite.UNIDIRECTIONAL_SEQUENCE_LSTM", "tflite.RNN", "tflite.SVDF"), _RECURRENT),
    **dict.fromkeys(("tflite.BIDIRECTIONAL_SEQUENCE_LSTM", "tflite.UNIDIRECTIONAL_SEQUENCE_RNN"), _RECURRENT),
    **dict.fromkeys(("tflite.SPACE_TO_BATCH_ND", "tflite.BATCH_TO_SPACE_ND"), _BATCHES),
    **dict.fromkeys(("tflite.MaxPoolingWithArgmax2D", "tflite.MaxUnpooling2D"), _INDICES),
    "tflite.CUMSUM": ("adds up along an axis", "use a convolution, or another runtime"),
    "LocallyConnected1D": ("has weights of its own for each place; Keras 3 has dropped it", "use Conv1D"),
    "LocallyConnected2D": ("has weights of its own for each place; Keras 3 has dropped it", "use Conv2D"),
}
"""Class name -> (reason, hint)."""

_INT8 = ("computes with 8-bit integers", "convert the model as it was before it was quantised")
_FLOW = (
    "chooses at run time what is computed",
    "export the model so that it is decided beforehand (fixed sizes, inference mode)",
)
_CHOICE = ("gives what depends on values: places, or a number of results", "do it after the model, in Python")
_FOURIER = ("computes Fourier transforms", "compute the spectrogram before the model, in Python")

ONNX_REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
    **dict.fromkeys(("Attention", "MultiHeadAttention"), _ATTENTION),
    **dict.fromkeys(("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"), _INT8),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QLinearAdd"), _INT8),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearConcat", "QLinearMul", "QLinearSigmoid", "QGemm"), _INT8),
    **dict.fromkeys(("DynamicQuantizeMatMul", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearSoftmax"), _INT8),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _FLOW),
    **dict.fromkeys(("NonMaxSuppression", "TopK", "NonZero", "Unique", "Compress", "RoiAlign", "MaxRoiPool"), _CHOICE),
    **dict.fromkeys(("GatherND", "GatherElements", "ScatterND", "ScatterElements", "OneHot"), _CHOICE),
    **dict.fromkeys(("STFT", "DFT", "MelWeightMatrix"), _FOURIER),
    "Input": ("is a single number, or of unknown rank", "make it a constant of the model"),
}
"""The same for operators of ONNX, of any domain."""


def reason_to_refuse(class_name: str, config: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Why a class is not converted, and what to do.

    Args:
        config: the layer's; an ONNX operator's names the tensors that it reads.
    """
    if class_name in REFUSED:
        return REFUSED[class_name]
    if class_name.startswith("onnx.") and (name := class_name.split(".")[-1]) in ONNX_REFUSED:
        reason, hint = ONNX_REFUSED[name]
        names = [repr(tensor) for tensor in (config or {}).get("reads", ()) if tensor]
        within = " ".join(
            value
            for value in (config or {}).get("attributes", {}).values()
            if isinstance(value, str) and "graph of" in value
        )
        if recurrent := [kind for kind in ("LSTM", "GRU", "RNN") if kind in within.replace(",", "").split()]:
            reason += f"; {recurrent[0]} among it, which is recurrent"
        cut = f" (onnx.utils.extract_model ends a model at the tensors that this one reads: {', '.join(names)})"
        return reason, hint + (cut if (reason, hint) == _CHOICE and names else "")
    if class_name.startswith(("ops.", "tf.", "onnx.", "tflite.")):
        source, name = class_name.split(".", 1)
        kind = {"ops": "keras.ops", "tf": "TensorFlow", "onnx": "ONNX", "tflite": "LiteRT"}[source]
        near = get_close_matches(class_name, LAYERS, 3)
        also = f" (near it: {', '.join(near)})" if near else ""
        return f"is {kind}'s {name}, which is not supported", f"use functions that are{also}"
    plain = class_name.split(">")[-1]
    hint = f"say what it is made of with edgecnn.converters.register({plain!r}, ...), or build it from layers of Keras"
    return "is a class of your own, or of another package, whose code is never run", hint
