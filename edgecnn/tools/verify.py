"""Golden samples: inputs and the answers that a model must give for them, kept in its file and checked on the device.

The answers are computed in float64 by the plain meaning of each operator (graph/reference.py), which shares no kernel with the
runtime. Inputs are not stored: they follow from their shape, by an arithmetic that is the same on every machine.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecnn.errors import CorruptFileError, InputError, VerificationError
from edgecnn.graph import Graph, reference
from edgecnn.runtime.model import Model, load
from edgecnn.tools.text import table

Array = np.ndarray[Any, Any]

KEY = "golden_sample"
"""The sample's name in a file's metadata."""
TOLERANCE = 1e-4
"""Largest difference that passes, as a part of the largest value: float32 kernels of any instruction set stay far below."""
MOST_VALUES = 16384
"""Values kept of each output; of a larger one every k-th."""
UNKNOWN_SIZE = 64
"""Given to sizes that the model leaves open."""


@dataclass(frozen=True)
class OutputCheck:
    """One output against its golden values.

    Attributes:
        name: the output's.
        values: how many were compared.
        error: largest difference, as a part of the largest golden value.
    """

    name: str
    values: int
    error: float


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Attributes:
        checks: one an output.
        tolerance: largest error that passes.
        instruction_set, threads: what computed.
    """

    checks: tuple[OutputCheck, ...]
    tolerance: float
    instruction_set: str
    threads: int

    @property
    def passed(self) -> bool:
        """Whether every error is within the tolerance; a NaN is not."""
        return all(check.error <= self.tolerance for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        rows = [(check.name, str(check.values), f"{check.error:.1e}") for check in self.checks]
        verdict = "this CPU reproduces them" if self.passed else "this CPU does NOT reproduce them"
        return (
            table(("output", "values", "error"), rows, "lrr")
            + f"\n{verdict}: {self.instruction_set}, {self.threads} threads, tolerance {self.tolerance:g} of the largest value"
        )


def sample_inputs(graph: Graph) -> dict[str, Array]:
    """Inputs for one image, float32 from -1 to 1, by public name: scattered by Knuth's multiplicative hash.

    Source: Knuth, The Art of Computer Programming, vol. 3, section 6.4.
    """
    inputs = {}
    for number, port in enumerate(graph.inputs):
        shape = [size or UNKNOWN_SIZE for size in graph.shape(port.tensor)[1:]]
        index = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(1000003 * number + 1)
        hashed = (index * np.uint64(2654435761)) % np.uint64(2**32)
        inputs[port.name] = (hashed.astype(np.float64) / 2**31 - 1).astype(np.float32).reshape(1, *shape)
    return inputs


def golden_sample(graph: Graph) -> dict[str, Any]:
    """A sample for a graph's metadata: for each output its shape, the step between the values kept, and these values."""
    answers = reference.run(graph, sample_inputs(graph))
    outputs = {}
    for name, answer in answers.items():
        step = -(-answer.size // MOST_VALUES)
        kept = answer.reshape(-1)[::step].astype("<f4")
        outputs[name] = {
            "shape": list(answer.shape),
            "step": step,
            "values": base64.b64encode(kept.tobytes()).decode("ascii"),
        }
    return {"tolerance": TOLERANCE, "outputs": outputs}


def verify(source: str | os.PathLike[str] | Model, *, threads: int | None = None) -> Verification:
    """Compute a file's golden sample on this CPU and compare.

    Args:
        source: an .ecnn file, or a loaded model.
        threads: for a file, as for `load`.

    Raises:
        InputError: the file holds no golden sample.
        CorruptFileError: its sample is damaged.
        VerificationError: an answer is off by more than the tolerance; the message has the figures.
    """
    model = source if isinstance(source, Model) else load(source, threads=threads)
    sample = model.metadata.get(KEY)
    if sample is None:
        raise InputError(
            f"{model.name}: the file holds no golden sample; convert the model with --verify (convert(verify=True))"
        )
    result = check(model, sample)
    if not result.passed:
        raise VerificationError(f"{model.name}: answers differ from the golden sample\n{result}")
    return result


def check(model: Model, sample: Any) -> Verification:
    """A model's answers against a sample, whatever comes of it."""
    try:
        tolerance = float(sample["tolerance"])
        wanted = {str(name): _golden(entry) for name, entry in sample["outputs"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise CorruptFileError(
            f"{model.name}: its golden sample is damaged ({type(error).__name__}: {error})"
        ) from error
    answers = model.run(sample_inputs(model.graph))
    if answers.keys() != wanted.keys():
        raise CorruptFileError(f"{model.name}: its golden sample is of outputs {sorted(wanted)}, not {sorted(answers)}")
    checks = []
    for name, answer in answers.items():
        shape, step, values = wanted[name]
        kept = answer.reshape(-1)[::step]
        if answer.shape != shape or kept.shape != values.shape:
            raise CorruptFileError(
                f"{model.name}: its golden {name!r} has shape {shape}; the answer has {answer.shape}"
            )
        checks.append(OutputCheck(name, values.size, relative_error(kept, values)))
    return Verification(tuple(checks), tolerance, model.instruction_set, model.threads)


def relative_error(found: Array, wanted: Array) -> float:
    """Largest difference as a part of the largest wanted value; NaN where only one of both is NaN or infinite."""
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return math.nan
    if not finite.any():
        return 0.0
    largest = float(np.abs(wanted[finite]).max())
    difference = float(np.abs(found[finite].astype(np.float64) - wanted[finite]).max())
    return difference / largest if largest else difference


def _golden(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], int, Array]:
    shape, step = tuple(int(size) for size in entry["shape"]), int(entry["step"])
    if step < 1:
        raise ValueError(f"a step of {step}")
    return shape, step, np.frombuffer(base64.b64decode(entry["values"], validate=True), "<f4")
