"""What zeros save: networks with some of their weights zeroed against the same networks dense, in one process, in turn.

python benchmarks/sparse.py MobileNet.ecnn ResNet50.ecnn --isa avx512 avx2

Which weights go is drawn at random: times do not depend on it, and a trained network's own zeros are no kinder. Only convolutions of
1 x 1 and 3 x 3 from at least 8 channels lose weights. The sparse answer must be that of the same zeros computed by dense kernels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgecnn import format as file_format
from edgecnn.graph import Constant, Graph
from edgecnn.runtime.model import Model

LEAST_CHANNELS = 8
TOLERANCE = 1e-5
"""Of the largest output: between sparse and dense kernels on the same weights."""


def zeroed(graph: Graph, block: int, sparsity: float, seed: int = 0) -> Graph:
    """A graph some of whose weights are zero: blocks of neighbouring output channels at one position and input channel."""
    rng = np.random.default_rng(seed)
    constants = dict(graph.constants)
    for node in graph.nodes:
        weights = constants[node.inputs[1]].array if node.operator == "conv" else np.zeros(0)
        if weights.shape[:-2] not in ((1, 1), (3, 3)) or weights.shape[-2] < LEAST_CHANNELS:
            continue
        *rest, filters = weights.shape
        gone = np.repeat(rng.random((*rest, -(-filters // block))) < sparsity, block, axis=-1)[..., :filters]
        constants[node.inputs[1]] = Constant(node.inputs[1], np.where(gone, np.float32(0), weights))
    return replace(graph, constants=constants)


def measure(models: Sequence[Model], x: np.ndarray, rounds: int) -> list[float]:
    """Median milliseconds of each, in alternating rounds after one to warm up."""
    times: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        for model, column in zip(models, times, strict=True):
            started = time.perf_counter()
            model(x)
            if number:
                column.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(column) for column in times]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each network, instruction set, pattern and sparsity; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help=".ecnn files of dense networks")
    parser.add_argument("--isa", nargs="+", default=[None], help="instruction sets (default: the best one)")
    parser.add_argument("--blocks", nargs="+", type=int, default=[1, 16], help="output channels of a block; 1: single")
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    wrong = 0
    for file in options.files:
        graph = file_format.read(file)
        shape = [size or 224 for size in graph.tensors[graph.inputs[0].tensor].shape[1:]]
        x = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
        for isa in options.isa:
            dense = Model(graph, threads=options.threads, isa=isa)
            for block in options.blocks:
                for sparsity in options.sparsity:
                    pruned = zeroed(graph, block, sparsity)
                    sparse = Model(pruned, threads=options.threads, isa=isa)
                    by_products = {node.name: "direct" for node in graph.nodes if node.operator == "conv"}
                    wanted = Model(pruned, isa=isa, algorithms=by_products)(x)
                    error = np.abs(sparse(x) - wanted).max() / np.abs(wanted).max()
                    before, after = measure((dense, sparse), x, options.rounds)
                    pattern = "single weights" if block == 1 else f"blocks of {block}"
                    print(
                        f"{file.stem:<14} {dense.instruction_set:<9} {pattern:<14} {sparsity:4.0%} {before:8.2f} ms dense "
                        f"{after:8.2f} ms {before / after:6.2f}x  error {error:.1e}  "
                        f"weights {sparse.memory.weights / dense.memory.weights:.2f}x",
                        flush=True,
                    )
                    if not error <= TOLERANCE:
                        print("  WRONG: sparse and dense kernels differ", file=sys.stderr)
                        wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
