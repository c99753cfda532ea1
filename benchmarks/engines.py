"""The engines: what each reads, and how it is loaded. One row an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        package: what `pip install` calls it.
        modules: what loading imports; importing is no part of the time to the first answer.
        formats: keys of networks.FILES that it can read; where there are several, the fastest is taken.
        tolerance: how far its answer may be from Keras', as a share of the largest output.
        load: (file, threads) -> a function from an input, float32 (1, height, width, channels), to the answer.
    """

    name: str
    package: str
    modules: tuple[str, ...]
    formats: tuple[str, ...]
    tolerance: float
    load: Callable[[Path, int], Run]


def load_edgecnn(path: Path, threads: int) -> Run:
    """edgecnn; EDGECNN_ISA chooses the instruction set."""
    import edgecnn

    return edgecnn.load(path, threads=threads)


def load_litert(path: Path, threads: int) -> Run:
    """LiteRT, with XNNPACK as it is by default."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(x: Array) -> Array:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(made))

    return run


def load_onnxruntime(path: Path, threads: int) -> Run:
    """ONNX Runtime, every graph optimisation, its threads spinning as they do by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def load_openvino(path: Path, threads: int) -> Run:
    """OpenVINO: one stream, least latency, float32 throughout (its default would be bfloat16 where the CPU has it)."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


OURS = "edgecnn"

ENGINES = {
    engine.name: engine
    for engine in (
        Engine(OURS, "edgecnn", ("edgecnn",), ("ecnn",), 2e-5, load_edgecnn),
        Engine("LiteRT", "ai-edge-litert", ("ai_edge_litert.interpreter",), ("tflite",), 1e-4, load_litert),
        Engine("ONNX Runtime", "onnxruntime", ("onnxruntime",), ("onnx",), 1e-4, load_onnxruntime),
        Engine("OpenVINO", "openvino", ("openvino",), ("ir", "onnx-ir"), 1e-4, load_openvino),
    )
}


def difference(answer: Array, expected: Array) -> float:
    """Largest difference, as a share of the largest output; infinite for another shape or for NaN."""
    answer = np.asarray(answer)
    if answer.shape != expected.shape or not np.isfinite(answer).all():
        return float("inf")
    return float(np.abs(answer - expected).max() / np.abs(expected).max())
