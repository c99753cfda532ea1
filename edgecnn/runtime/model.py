"""What users hold: a loaded model."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn import format as file_format
from edgecnn.budget import Budget
from edgecnn.errors import InputError, printable
from edgecnn.graph import Graph, Node
from edgecnn.runtime import cpu
from edgecnn.runtime import threads as threading_rules
from edgecnn.runtime.bands import macs_of
from edgecnn.runtime.executor import Executor, clock_seconds
from edgecnn.runtime.machine import measure_machine
from edgecnn.runtime.planner import PackedWeights, Plan, budget_of, open_for, plan, possible_algorithms, read_in_place
from edgecnn.runtime.profiling import RECORDED, Profile, placements_of, summarise

MOST_PLANS = 8
"""Plans kept for models that take several sizes; the oldest goes first."""

Array = np.ndarray[Any, Any]

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class TensorSpec:
    """A public input or output.

    Attributes:
        name: as in the Keras model.
        shape: batch first; None = any size.
        dtype: NumPy's name, "float32".
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes.

    Attributes:
        file: its file; None if it came from memory.
        weights: packed.
        arena: of one image.
        in_place: weights that are read where they lie, in the copy of the file or the mapped file.
        scratch: of all threads of one call.
    """

    file: int | None
    weights: int
    arena: int
    in_place: int = 0
    scratch: int = 0

    @property
    def total(self) -> int:
        """Weights, arena and scratch: what computing one image needs beside Python."""
        return self.weights + self.in_place + self.arena + self.scratch


class Model:
    """A model ready to compute. It does not change; any number of threads may call it at once.

    Made by `edgecnn.load`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int | None = None,
        file_size: int | None = None,
        isa: str | None = None,
        algorithms: Mapping[str, str] | None = None,
        release: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self._describe(graph, file_size)
        self._budget = budget or budget_of(graph)
        self._algorithms = dict(algorithms or {})
        self._instruction_set = cpu.choose(isa)
        self._threads = threading_rules.choose(threads)
        # Other sizes may need other algorithms, whose weights are packed anew.
        self._weights = PackedWeights(self._threads, release and self._sizes_known)
        if self._sizes_known:
            self._plan(self._own_sizes)
        self._budget.deadline = None  # it is one for loading

    def _describe(self, graph: Graph, file_size: int | None) -> None:
        """What is known of a model wherever it computes."""
        self._graph = graph
        self._file_size = file_size
        self._plans: dict[tuple[tuple[int, ...], ...], Any] = {}
        self._usual: Executor | None = None
        """Of the size planned last: it may answer a call by itself."""
        self.inputs = tuple(TensorSpec(port.name, graph.tensors[port.tensor].shape) for port in graph.inputs)
        self.outputs = tuple(TensorSpec(port.name, graph.tensors[port.tensor].shape) for port in graph.outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        name = self._instruction_set.name
        return _unpickle, (
            self._graph,
            self._threads,
            self._file_size,
            name,
            self._algorithms,
            self._budget.max_bytes,
        )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{spec.name} {spec.shape}" for spec in self.inputs)
        outputs = ", ".join(f"{spec.name} {spec.shape}" for spec in self.outputs)
        return f"<edgecnn.Model {self._graph.name!r}: {printable(inputs)} -> {printable(outputs)}>"

    @property
    def name(self) -> str:
        """The Keras model's name."""
        return self._graph.name

    @property
    def graph(self) -> Graph:
        """The portable graph behind the model; read only."""
        return self._graph

    @property
    def threads(self) -> int:
        """Threads that a call uses."""
        return self._threads

    @property
    def device(self) -> str:
        """Where it computes: "cpu"."""
        return "cpu"

    @property
    def instruction_set(self) -> str:
        """The instruction set that its kernels use."""
        return str(self._instruction_set.name)

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of what the file says beside the graph."""
        copied: dict[str, Any] = json.loads(json.dumps(dict(self._graph.metadata)))
        return copied

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, if the file has them."""
        labels = self._graph.metadata.get("labels")
        return tuple(map(str, labels)) if isinstance(labels, list) and labels else None

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one image; None while a size is unknown."""
        return self._graph.macs

    @property
    def memory(self) -> Memory:
        """Bytes of file, weights, arena and scratch (the largest among the sizes used so far)."""
        plans: tuple[Plan, ...] = tuple(self._plans.values())
        arena = max((plan.layout.arena for plan in plans), default=0)
        scratch = max((plan.executor.scratch_bytes for plan in plans), default=0)
        in_place = sum(read_in_place(self._graph, self._graph.nodes, self._weights).values()) if plans else 0
        return Memory(self._file_size, self._weights.nbytes, arena, in_place, self.threads * scratch)

    def __call__(self, *inputs: Any) -> Any:
        """Compute.

        Args:
            inputs: an array (N, ...) for each input; or one list, tuple or dict of them. Any N, the same for all. Other
                dtypes are converted where NumPy calls that safe of kind; values are not scaled.

        Returns:
            An array (N, ...) of float32, or a list or dict of them, as the Keras model gives.

        Raises:
            InputError: the arrays do not fit; the message has what was wanted, what was given and the likely mend.
        """
        if self._usual is not None and len(inputs) == 1:
            answer = self._usual.answer(inputs[0], self._threads)
            if answer is not None:
                return answer
        arrays, images = self._check_inputs(self._by_order(inputs))
        return self._structure(self._compute(arrays, images))

    def run(self, inputs: Any, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Compute by names.

        Args:
            inputs: a dict of arrays by input name (or what `__call__` takes).
            out: arrays by output name to write the answers to: float32, C-contiguous, writable, of the answer's shape.
                Outputs not named are allocated.

        Returns:
            A dict of arrays by output name; those of `out` are the caller's own.

        Raises:
            InputError: arrays do not fit.
        """
        arrays, images = self._check_inputs(self._by_order((inputs,)))
        if out:
            given = [array for array in out.values() if isinstance(array, np.ndarray)]
            arrays = [x.copy() if any(np.may_share_memory(x, array) for array in given) else x for x in arrays]
        outputs = self._compute(arrays, images, out)
        return {spec.name: array for spec, array in zip(self.outputs, outputs, strict=True)}

    def predict(self, xs: Any, batch_size: int = 32, progress: bool | None = None) -> Any:
        """Compute for many images, a batch at a time.

        Args:
            xs: what `__call__` takes, of any length; or an iterator of single images without batch axis (arrays, or
                tuples or dicts of arrays for several inputs).
            batch_size: images at a time.
            progress: a line on stderr; None: on a terminal, when it takes over a second.

        Returns:
            As `__call__`, for all images.
        """
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
            raise InputError(f"batch_size={batch_size!r}: wanted a whole number of at least 1")
        total: int | None = None
        batches: Iterator[list[Array]]
        if hasattr(xs, "__next__"):
            batches = self._gather_batches(xs, batch_size)
        else:
            arrays, total = self._check_inputs(self._by_order((xs,)), convert=False)
            batches = ([a[i : i + batch_size] for a in arrays] for i in range(0, total, batch_size))
        show = _Progress(total, progress)
        parts: list[list[Array]] = []
        for outputs in self._compute_each(self._check_inputs(batch) for batch in batches):
            parts.append(outputs)
            show.advance(len(outputs[0]))
        show.finish()
        if not parts:
            return self._structure(self._compute([np.empty((0, *sizes), np.float32) for sizes in self._own_sizes], 0))
        return self._structure([np.concatenate(column) for column in zip(*parts, strict=True)])

    def profile(self, x: Any = None, runs: int = 50) -> Profile:
        """Measure the time of each step on one image.

        Every run is made twice, with the steps timed and without: the whole call's time is that of the latter. Peak and
        bandwidth of the machine are measured once a minute, which takes a fifth of a second.

        Args:
            x: what `__call__` takes (its first image is used); None: zeros.
            runs: how many times, at least 1; medians are given.

        Raises:
            InputError: the arrays do not fit, a size is not known, or runs is no number above zero.
        """
        if isinstance(runs, bool) or not hasattr(runs, "__index__") or runs < 1:
            raise InputError(f"runs={runs!r}: wanted a whole number of at least 1")
        given = self._by_order((x,)) if x is not None else [np.zeros((1, *s), np.float32) for s in self._own_sizes]
        arrays, images = self._check_inputs(given)
        if images < 1:
            raise InputError("profile: wanted at least one image, given none")
        arrays = [np.ascontiguousarray(a[:1]) for a in arrays]
        chosen: Plan = self._plan_for(arrays)
        everything = (*arrays, *self._allocate(chosen, 1))
        threads, executor = self.threads, chosen.executor
        times = np.empty((runs, len(chosen.steps) + 1))  # the last column: what lies outside the steps
        wholes = np.empty(runs)
        for run in range(-3, runs):  # the first ones warm the caches
            row = times[max(run, 0)]
            seconds = row[:-1]
            started = time.perf_counter()
            executor.time_steps(everything, threads, seconds)
            between = time.perf_counter()
            executor.run(everything, 1, threads)
            ended = time.perf_counter()
            wholes[max(run, 0)] = ended - between
            row[-1] = between - started - seconds.sum()
        times[:, :-1] = np.maximum(times[:, :-1] - clock_seconds(), 0)
        total = 1e3 * float(np.median(wholes))
        machine = measure_machine(threads, self.instruction_set)
        steps = summarise(self._graph, chosen, self._weights, times, total, machine)
        return Profile(
            steps,
            total,
            int(runs),
            threads,
            model=self.name,
            instruction_set=self.instruction_set,
            peak_gflops=machine.peak_gflops,
            bandwidth=machine.bandwidth,
            cache_bandwidth=machine.cache_bandwidth,
            arena=chosen.layout.arena,
            placements=placements_of(self._graph, chosen),
            memory={"file": self._file_size, "weights": self._weights.nbytes, "scratch": executor.scratch_bytes},
            recorded=tuple(tuple(map(float, 1e3 * row)) for row in times[-RECORDED:]),
        )

    def summary(self) -> str:
        """A line a step: operator, output shape, kernel and instruction set, MACs, bytes of weights."""
        lines = [repr(self)]
        if not self._plans:
            lines.append("sizes are known only when it is called; call it once to see its steps")
            return "\n".join(lines)
        chosen: Plan = tuple(self._plans.values())[-1]
        lines.append(f"{'operator':<22} {'shape':<16} {'kernel':<32} {'MACs':>14} {'weight bytes':>12}  node")
        for step, nodes in zip(chosen.steps, chosen.step_nodes, strict=True):
            constants = [self._graph.constants[n] for node in nodes for n in node.inputs if n in self._graph.constants]
            size = sum(constant.nbytes for constant in constants)
            shape = "x".join(str(size) for size in chosen.shapes[nodes[-1].output]) if nodes else ""
            macs = macs_of(nodes, self._graph, chosen.shapes)
            lines.append(
                f"{_operators(nodes):<22} {shape:<16} {step.kernel:<32} {macs:>14,} {size:>12,}  {printable(step.name)}"
            )
        memory = self.memory
        macs_text = "unknown" if self.macs is None else f"{self.macs:,}"
        lines.append(
            f"{len(chosen.steps)} steps, {macs_text} MACs, weights {memory.weights:,} bytes packed, "
            f"arena {memory.arena:,} bytes, {self.threads} threads, {self.instruction_set}"
        )
        return "\n".join(lines)

    def possible_algorithms(self) -> dict[str, tuple[str, ...]]:
        """Names of the algorithms that can compute a node, where there are several: the one of least estimated cost first.

        Raises:
            InputError: the model leaves sizes of its inputs open.
        """
        return possible_algorithms(self._graph, self._by_tensor(self._own_sizes), self._instruction_set)

    @property
    def _sizes_known(self) -> bool:
        """Whether the model says every size of its inputs."""
        return all(None not in spec.shape[1:] for spec in self.inputs)

    @property
    def _own_sizes(self) -> tuple[tuple[int, ...], ...]:
        """The sizes of one image for each input, where the model says them."""
        for spec in self.inputs:
            if None in spec.shape[1:]:
                raise InputError(
                    f"the size of an input of shape {spec.shape} is unknown; give an array of the size you want"
                )
        return tuple(tuple(size for size in spec.shape[1:] if size is not None) for spec in self.inputs)

    def _by_tensor(self, sizes: Sequence[tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Sizes in the order of the inputs, by the name of each one's tensor."""
        return {port.tensor: size for port, size in zip(self._graph.inputs, sizes, strict=True)}

    def _by_order(self, inputs: Sequence[Any]) -> list[Any]:
        """What the caller gave, as one value for each input, in order."""
        if len(inputs) == len(self.inputs) == 1 and type(inputs[0]) is np.ndarray:
            return list(inputs)
        names = [spec.name for spec in self.inputs]
        given: Any = inputs
        if len(inputs) == 1 and (
            isinstance(inputs[0], Mapping) or (len(names) > 1 and isinstance(inputs[0], list | tuple))
        ):
            given = inputs[0]
        if isinstance(given, Mapping):
            unknown, missing = set(given) - set(names), set(names) - set(given)
            if unknown or missing:
                raise InputError(f"inputs named {sorted(map(str, given))}; wanted {names}")
            return [given[name] for name in names]
        if len(given) != len(names):
            raise InputError(f"given {len(given)} inputs; wanted {len(names)}: {names}")
        return list(given)

    def _check_inputs(self, values: Sequence[Any], convert: bool = True) -> tuple[list[Array], int]:
        """Arrays of the wanted rank and sizes (float32 and contiguous if `convert`), and the number of images."""
        arrays = [_as_array(value, spec, convert) for value, spec in zip(values, self.inputs, strict=True)]
        images = len(arrays[0])
        if len(arrays) > 1 and any(len(a) != images for a in arrays):
            shapes = ", ".join(f"{spec.name} {a.shape}" for spec, a in zip(self.inputs, arrays, strict=True))
            raise InputError(f"inputs of different batch sizes: {shapes}; wanted the same for all")
        return arrays, images

    def _compute(self, arrays: list[Array], images: int, out: Mapping[str, Any] | None = None) -> list[Array]:
        """The outputs for checked arrays: the caller's own of `out`, checked here, the others new."""
        chosen: Plan = self._plan_for(arrays)
        outputs = self._allocate(chosen, images, out)
        chosen.executor.run((*arrays, *outputs), images, self.threads)
        return outputs

    def _compute_each(self, batches: Iterable[tuple[list[Array], int]]) -> Iterator[list[Array]]:
        """`_compute` for one batch after the other."""
        for arrays, images in batches:
            yield self._compute(arrays, images)

    def _plan_for(self, arrays: Sequence[Array]) -> Any:
        return self._plan(tuple([a.shape[1:] for a in arrays]))

    def _plan(self, sizes: tuple[tuple[int, ...], ...]) -> Any:
        # No lock: two threads that plan the same size at once do the same work twice, and one of the plans stays.
        found = self._plans.get(sizes)
        if found is None:
            found = self._make_plan(sizes)
            for old in list(self._plans)[: max(0, len(self._plans) + 1 - MOST_PLANS)]:
                self._plans.pop(old, None)
            self._plans[sizes] = found
        return found

    def _make_plan(self, sizes: tuple[tuple[int, ...], ...]) -> Any:
        """What computes images of these sizes. Its `shapes` has those of all tensors, without the batch."""
        budget = self._budget.again(self._budget.held + self._weights.nbytes)
        made = plan(self._graph, self._by_tensor(sizes), self._instruction_set, self._weights, self._algorithms, budget)
        if self._graph.output_structure == "single":
            self._usual = made.executor
        return made

    def _allocate(self, chosen: Any, images: int, out: Mapping[str, Any] | None = None) -> list[Array]:
        """An array for each output: the caller's, checked, or a new one."""
        if not out:
            return [np.empty((images, *chosen.shapes[port.tensor]), FLOAT32) for port in self._graph.outputs]
        given = dict(out)
        outputs: list[Array] = []
        for spec, port in zip(self.outputs, self._graph.outputs, strict=True):
            shape = (images, *chosen.shapes[port.tensor])
            if spec.name not in given:
                outputs.append(np.empty(shape, np.float32))
                continue
            array = given.pop(spec.name)
            if not isinstance(array, np.ndarray):
                raise InputError(f"out[{spec.name!r}]: wanted a NumPy array, given {type(array).__name__}")
            if array.dtype != np.float32 or array.shape != shape:
                raise InputError(f"out[{spec.name!r}]: given {array.dtype} {array.shape}; wanted float32 {shape}")
            if not array.flags.c_contiguous or not array.flags.writeable:
                raise InputError(f"out[{spec.name!r}]: wanted a C-contiguous, writable array; given one that is not")
            outputs.append(array)
        if given:
            raise InputError(f"out names {sorted(map(str, given))}; wanted {[spec.name for spec in self.outputs]}")
        return outputs

    def _structure(self, outputs: list[Array]) -> Any:
        if self._graph.output_structure == "single":
            return outputs[0]
        if self._graph.output_structure == "dict":
            return {spec.name: array for spec, array in zip(self.outputs, outputs, strict=True)}
        return outputs

    def _gather_batches(self, images: Iterator[Any], batch_size: int) -> Iterator[list[Array]]:
        while chunk := list(itertools.islice(images, batch_size)):
            rows = [self._by_order((image,)) for image in chunk]
            try:
                yield [np.stack([np.asarray(value) for value in column]) for column in zip(*rows, strict=True)]
            except ValueError as error:
                raise InputError(f"images of different shapes in one batch: {error}") from error


def _unpickle(
    graph: Graph,
    threads: int,
    file_size: int | None,
    isa: str,
    algorithms: Mapping[str, str],
    max_bytes: int | None = None,
) -> Model:
    # On another machine the instruction set may be missing: the best one there is taken then.
    known = [entry.name for entry in cpu.supported()]
    isa_here = isa if isa in known else None
    budget = budget_of(graph, max_bytes)
    return Model(graph, threads=threads, file_size=file_size, isa=isa_here, algorithms=algorithms, budget=budget)


def _operators(nodes: Sequence[Node]) -> str:
    """What a step computes."""
    return " > ".join(node.operator for node in nodes) or "copy"


def _as_array(value: Any, spec: TensorSpec, convert: bool) -> Array:
    if (
        type(value) is np.ndarray
        and value.dtype == np.float32
        and value.ndim == len(spec.shape)
        and value.flags.c_contiguous
        and value.shape[1:] == spec.shape[1:]
    ):
        return value  # as is: the usual case, worth a shortcut where a whole network takes microseconds
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"input {spec.name!r}: cannot be made an array: {error}") from error
    if array.dtype.kind not in "buif":
        raise InputError(
            f"input {spec.name!r}: given dtype {array.dtype}; wanted float32, or another float, integer or bool dtype"
        )
    if not _fits(array.shape, spec.shape):
        wanted = (
            "("
            + ", ".join("N" if i == 0 else str(s) for i, s in enumerate(spec.shape))
            + ("," * (len(spec.shape) == 1))
            + ")"
        )
        hint = _mend(array, spec.shape)
        raise InputError(
            f"input {spec.name!r}: given {array.dtype} {array.shape}; wanted float32 {wanted}"
            + (f"; {hint}" if hint else "")
        )
    if convert:
        # float64 beyond float32's range becomes infinite, as in Keras; no warning for that.
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, np.float32)
    return array


def _fits(given: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return (
        len(given) == len(wanted)
        and all(w is None or g == w for g, w in zip(given[1:], wanted[1:], strict=True))
        and all(size > 0 for size in given[1:])
    )


def _mend(array: Array, wanted: Sequence[int | None]) -> str:
    """The likely mend for an array that does not fit."""
    shape = array.shape
    if len(wanted) == 4 and len(shape) == 4 and _fits((shape[0], shape[2], shape[3], shape[1]), wanted):
        return "looks like NCHW: try x.transpose(0, 2, 3, 1)"
    if (
        len(wanted) == 4
        and len(shape) == 3
        and _fits((1, shape[1], shape[2], shape[0]), wanted)
        and shape[0] != shape[2]
    ):
        return "one image in CHW? try x.transpose(1, 2, 0)[None]"
    if _fits((1, *shape), wanted):
        return "one image? add the batch axis: x[None]"
    if _fits((*shape, 1), wanted):
        return "no channel axis? try x[..., None]"
    if _fits((1, *shape, 1), wanted):
        return "one image without channel axis? try x[None, ..., None]"
    return ""


class _Progress:
    """A line on stderr that says how far a long prediction is."""

    def __init__(self, total: int | None, wanted: bool | None) -> None:
        self.total, self.wanted = total, wanted
        self.done = 0
        self.started = self.shown = time.monotonic()
        self.visible = False

    def advance(self, images: int) -> None:
        self.done += images
        now = time.monotonic()
        wanted = sys.stderr is not None and sys.stderr.isatty() if self.wanted is None else self.wanted
        if not wanted or now - self.started < 1.0 or now - self.shown < 0.2:
            return
        self.shown, self.visible = now, True
        rate = self.done / (now - self.started)
        share = f"{self.done}/{self.total} ({100 * self.done // self.total} %)" if self.total else f"{self.done}"
        print(f"\r{share} images, {rate:.1f} a second ", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.visible:
            print(file=sys.stderr)


Maker = Callable[[Graph, int | None], Model]
"""Makes a model of a graph and the size of its file (None if it came from memory)."""

open_device: Callable[[str, str], Maker] | None = None
"""What finds a device that is not the CPU, by name and precision, and gives what makes models for it. It lives on a higher
floor, and the package puts it here (see edgecnn/__init__.py)."""


def load(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | Graph,
    threads: int | None = None,
    device: str = "cpu",
    max_bytes: int | None = None,
    tune: bool = False,
    precision: str = "float32",
    mmap: bool = False,
    max_seconds: float | None = None,
) -> Model:
    """Load a model. It does not depend on its file any more: whoever changes or deletes that changes no answer.

    Args:
        source: path of an .ecnn file, its bytes, or a graph.
        threads: how many a call may use; None: EDGECNN_THREADS, or what affinity mask and cgroup quota allow. TensorFlow has
            threads of its own: on other devices than "cpu" leave it out.
        device: "cpu"; "gpu" or "gpu:1" (by TensorFlow: `pip install "edgecnn[gpu]"`), "gpus" (all of this machine, the batch
            shared out), or "tensorflow" (whatever device TensorFlow has).
        max_bytes: most bytes that the file may make this process allocate: decoded and packed weights, tables, and what one
            image takes (outputs, arena, and the scratch of each thread); refused before they are allocated. None: for what
            loading allocates 64 MiB and 512 for each byte of the file, for what an image takes three quarters of this
            machine's memory. Python's own objects, which grow with the file, are not counted.
        tune: measure which algorithm computes each convolution fastest here, and use that; on "cpu" only. It takes some dozens
            of calls; the result is kept in EDGECNN_CACHE, or the user's cache folder, and found there the next time. Answers
            may then differ in their last bits from those of a model that is not tuned.
        precision: what is computed in: "float32"; on other devices than "cpu" also "tf32" (float32 whose products a GPU
            rounds to 11 bits), "float16" or "bfloat16". Inputs and outputs are float32 all the same.
        max_seconds: the longest that loading may take; looked at between pieces of the file, nodes and weights. None: no deadline; a file may then
            make loading work in proportion to its size, beside half a second.
        mmap: keep the file mapped into memory in place of reading it, for devices with little memory: weights that are packed, or
            used once a call, then take none beside the system's own copy of the file. Such a file must not be changed while the
            model is in use: who overwrites it changes answers, and who cuts it short ends the process (SIGBUS). To replace
            it, write another beside it and rename that.

    Raises:
        ModelFileError: the file cannot be read (CorruptFileError, VersionError), or it would take more bytes, work or time than
            it may; the message names the node or the weights.
        DeviceError: there is no such device here, or EDGECNN_ISA names an instruction set that is not there.
        MissingPackageError: the device needs TensorFlow, which is not installed.
        InputError: threads, precision or tune do not go with the device, or an argument is no sensible value.
    """
    for name, flag in (("mmap", mmap), ("tune", tune)):
        if not isinstance(flag, bool):
            raise InputError(f"{name}={flag!r}: wanted True or False")
    budget = Budget(max_bytes, max_seconds)
    make = _maker(device, threads, tune, precision, not isinstance(source, Graph), budget)
    size: int | None = None
    if isinstance(source, Graph):
        source.check()
        graph = source
        open_for(graph, budget)
        model = make(graph, None)
    else:
        with file_format.reading(source, budget, mapped=mmap) as graph:
            size = len(source) if isinstance(source, bytes | bytearray | memoryview) else os.stat(source).st_size
            model = make(graph, size)
    if not tune:
        return model
    from edgecnn.runtime.tuning import tuned  # here: it is for few, and makes models itself

    return Model(graph, threads=threads, file_size=size, algorithms=tuned(model).algorithms, budget=budget)


def _maker(device: str, threads: int | None, tune: bool, precision: str, owned: bool, budget: Budget) -> Maker:
    """What makes a model for a device, which is there.

    Args:
        owned: whether nobody else has its graph.
    """
    if device == "cpu":
        if precision != "float32":
            raise InputError(f'precision={precision!r}: on device="cpu" edgecnn computes in "float32"')
        release = owned and not tune
        return lambda graph, size: Model(graph, threads=threads, file_size=size, release=release, budget=budget)
    assert open_device is not None  # the package has put it there
    make = open_device(device, precision)
    if threads is not None:
        raise InputError(
            f"threads={threads}, device={device!r}: TensorFlow has threads of its own (tf.config.threading); "
            'leave threads out, or take device="cpu"'
        )
    if tune:
        raise InputError(f'tune=True, device={device!r}: only the kernels of device="cpu" are tuned; leave it out')
    return make
