"""Models computed by TensorFlow: `edgecnn.load(device="gpu")` and its like.

The graph becomes one `tf.function` for each size of image and each device, compiled by XLA on GPUs; weights lie on the device.
A call cuts its batch into pieces that fit the device's memory; two pieces are under way on each device, so that the copies
of one overlap with the computing of the other. Several devices take pieces of the same batch.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.accelerators.tensorflow_operators import dtype_of, evaluate
from edgecnn.errors import DeviceError, InputError, MissingPackageError, printable
from edgecnn.graph import Graph
from edgecnn.graph.reference import values_of
from edgecnn.runtime.model import Array, Maker, Memory, Model
from edgecnn.runtime.planner import infer_shapes
from edgecnn.runtime.profiling import Profile
from edgecnn.runtime.threads import available

PRECISIONS = {"float32": "float32", "tf32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
"""What can be asked for, and the dtype that tensors have then."""

KNOWN = 'known are "cpu", "gpu" (the first), "gpu:1" and so on, "gpus" and "tensorflow"'

PIECE_BYTES = {"GPU": 4 * 2**30, "CPU": 256 * 2**20}
"""Intermediate tensors of the pieces that a batch is first cut into: enough to keep a device busy, and what most have. Pieces
that do not fit all the same are halved."""

AT_ONCE = 2
"""Pieces under way on a device: one is computed while the other is copied."""

Sizes = tuple[tuple[int, ...], ...]
Piece = tuple[int, int]


def import_tensorflow(wanted_by: str) -> Any:
    """TensorFlow, without its notes about itself unless TF_CPP_MIN_LOG_LEVEL asks for them.

    Args:
        wanted_by: what needs it, for the error.

    Raises:
        MissingPackageError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own deprecations
            import tensorflow
    except ImportError as error:
        raise MissingPackageError(
            f"{wanted_by} needs TensorFlow, which cannot be imported ({error}): "
            'pip install "edgecnn[gpu]" (Linux, with CUDA), or pip install tensorflow'
        ) from error
    return tensorflow


def find_devices(device: str) -> tuple[str, ...]:
    """TensorFlow's names of the devices that a name stands for.

    Raises:
        DeviceError: no such name, or no such device here.
        MissingPackageError: TensorFlow is not installed.
    """
    match = re.fullmatch(r"tensorflow|gpus|gpu(?::(\d{1,4}))?", device) if isinstance(device, str) else None
    if match is None:
        raise DeviceError(f"device={device!r}: no such device; {KNOWN}")
    tf = import_tensorflow(f"device={device!r}")
    gpus = [found.name for found in tf.config.list_logical_devices("GPU")]
    if device == "gpus":
        chosen = gpus
    elif device == "tensorflow":
        chosen = [*gpus, "/device:CPU:0"][:1]
    else:
        chosen = gpus[int(match[1] or 0) :][:1]
    if not chosen:
        seen = ", ".join(found.name.removeprefix("/device:") for found in tf.config.list_logical_devices())
        cuda = "" if tf.test.is_built_with_cuda() else ", built without CUDA,"
        mend = "" if gpus else '; with a driver for it, pip install "edgecnn[gpu]" brings what is missing'
        raise DeviceError(
            f"device={device!r}: TensorFlow {tf.__version__}{cuda} sees no such GPU here, only {seen}{mend}"
        )
    return tuple(chosen)


def open_device(device: str, precision: str) -> Maker:
    """What makes models for a device, having looked whether it is there.

    Raises:
        DeviceError: no such name, or no such device here.
        InputError: no such precision.
        MissingPackageError: TensorFlow is not installed.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r}: wanted one of {', '.join(PRECISIONS)}")
    find_devices(device)
    return lambda graph, size: TensorFlowModel(graph, device, precision=precision, file_size=size)


class TensorFlowModel(Model):
    """A model that TensorFlow computes. It does not change; any number of threads may call it at once.

    Made by `edgecnn.load`. Unlike a model on the CPU it does not work in a process that was forked after TensorFlow started.

    Args:
        device: as for `edgecnn.load`.
        precision: a key of PRECISIONS.
        devices: TensorFlow's names of the devices to share batches among; None: what `device` stands for.
        compiled: whether XLA compiles the function; None: on GPUs. On CPUs its depthwise convolutions are slow.
    """

    def __init__(
        self,
        graph: Graph,
        device: str = "tensorflow",
        *,
        precision: str = "float32",
        file_size: int | None = None,
        devices: Sequence[str] | None = None,
        compiled: bool | None = None,
    ) -> None:
        names = tuple(devices) if devices else find_devices(device)
        self._tf = import_tensorflow(f"device={device!r}")
        self._describe(graph, file_size)
        self._made_of = (device, precision, file_size, devices, compiled)
        self._device, self._precision = device, precision
        self._compiled = all("GPU" in name for name in names) if compiled is None else compiled
        self._process = os.getpid()
        self._replicas = [_Replica(self._tf, graph, name, PRECISIONS[precision]) for name in names]
        if self._sizes_known:
            self._plan(self._own_sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self._graph, *self._made_of)

    @property
    def threads(self) -> int:
        """Threads that TensorFlow uses for an operator on the CPU."""
        return int(self._tf.config.threading.get_intra_op_parallelism_threads()) or available()

    @property
    def device(self) -> str:
        """Where it computes, as `edgecnn.load` was told."""
        return self._device

    @property
    def instruction_set(self) -> str:
        """TensorFlow, with its version: it chooses its kernels by itself."""
        return f"TensorFlow {self._tf.__version__}"

    @property
    def memory(self) -> Memory:
        """Bytes of file, of weights on all devices, and of the tensors of one image that are needed at the same time (the
        largest among the sizes used so far). TensorFlow's allocator may hold much more."""
        weights = sum(replica.nbytes for replica in self._replicas)
        return Memory(self._file_size, weights, max((p.image_bytes for p in self._plans.values()), default=0))

    def profile(self, x: Any = None, runs: int = 50) -> Profile:
        """Refused: TensorFlow does not tell the time of each step.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"profile: TensorFlow computes this model ({self._device}); its own profiler shows where the time goes: "
            'tf.profiler.experimental.start(folder), or load the model with device="cpu"'
        )

    def possible_algorithms(self) -> dict[str, tuple[str, ...]]:
        """Nothing: TensorFlow chooses."""
        return {}

    def summary(self) -> str:
        """A line a node: operator, output shape, MACs, bytes of weights; where and how it is computed."""
        graph = self._graph
        lines = [repr(self), f"{'operator':<28} {'shape':<16} {'MACs':>14} {'weight bytes':>12}  node"]
        for node in graph.nodes:
            size = sum(graph.constants[name].array.nbytes for name in node.inputs if name in graph.constants)
            shape = "x".join("?" if size is None else str(size) for size in graph.shape(node.output)[1:])
            macs = graph.macs_of(node)
            count = "unknown" if macs is None else f"{macs:,}"
            lines.append(f"{node.operator:<28} {shape:<16} {count:>14} {size:>12,}  {printable(node.name)}")
        names = ", ".join(replica.device.removeprefix("/device:") for replica in self._replicas)
        total = "unknown" if self.macs is None else f"{self.macs:,}"
        lines.append(
            f"{len(graph.nodes)} nodes, {total} MACs, {self.instruction_set} on {names}, {self._precision}, "
            f"{'compiled by XLA' if self._compiled else 'operator by operator'}"
        )
        return "\n".join(lines)

    def _make_plan(self, sizes: Sizes) -> _Program:
        shapes = infer_shapes(self._graph, self._by_tensor(sizes))
        image_bytes = _bytes_at_once(self._graph, shapes)
        kind = "GPU" if "GPU" in self._replicas[0].device else "CPU"
        most = max(1, PIECE_BYTES[kind] // max(1, image_bytes))
        functions = self._functions(shapes, self._compiled)
        return _Program(shapes, functions, self._compiled, image_bytes, 1 << (most.bit_length() - 1))

    def _functions(self, shapes: Mapping[str, tuple[int, ...]], compiled: bool) -> tuple[Callable[..., Any], ...]:
        return tuple(replica.function(shapes, compiled) for replica in self._replicas)

    def _compute(self, arrays: list[Array], images: int, out: Mapping[str, Any] | None = None) -> list[Array]:
        if os.getpid() != self._process:
            raise DeviceError(
                "this process was forked after TensorFlow started, which TensorFlow does not survive; start it by "
                'multiprocessing.get_context("spawn"), or load the model in it'
            )
        program: _Program = self._plan_for(arrays)
        outputs = self._allocate(program, images, out)
        if images:
            with tensor_float_32(self._tf, self._precision == "tf32"):
                self._fill(program, arrays, outputs)
        return outputs

    def _compute_each(self, batches: Iterable[tuple[list[Array], int]]) -> Iterator[list[Array]]:
        waiting: deque[Future[list[Array]]] = deque()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for arrays, images in batches:
                waiting.append(pool.submit(self._compute, arrays, images))
                if len(waiting) > AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _fill(self, program: _Program, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Compute piece by piece, on all devices."""
        images = len(arrays[0])
        share = -(-images // len(self._replicas))
        size = min(share, program.most)
        pieces: deque[Piece] = deque((first, min(first + size, images)) for first in range(0, images, size))
        alone: list[Piece] = []

        def work(index: int) -> None:
            # Pieces are shared; each is taken by one thread, which alone writes its rows of the outputs.
            with contextlib.suppress(IndexError):
                while True:
                    piece = pieces.popleft()
                    if self._try(program, index, piece, arrays, outputs):
                        continue
                    first, last = piece
                    middle = (first + last) // 2
                    program.most = max(1, min(program.most, middle - first))
                    if last - first == 1:
                        alone.append(piece)
                    else:
                        pieces.extend(((first, middle), (middle, last)))

        if len(pieces) == 1:
            work(0)
        else:
            workers = [index for _ in range(AT_ONCE) for index in range(len(self._replicas))][: len(pieces)]
            with ThreadPoolExecutor(len(workers)) as pool:
                list(pool.map(work, workers))
        for piece in (*pieces, *alone):  # what did not fit beside another piece
            if not self._try(program, 0, piece, arrays, outputs):
                raise DeviceError(f"one image does not fit the free memory of {self._replicas[0].device}")

    def _try(
        self, program: _Program, index: int, piece: Piece, arrays: Sequence[Array], outputs: Sequence[Array]
    ) -> bool:
        """Compute a piece on a device; whether its memory was enough."""
        (first, last), replica, functions = piece, self._replicas[index], program.functions
        errors = self._tf.errors
        try:
            answers = replica.run(functions[index], [a[first:last] for a in arrays], program.compiled)
            for output, answer in zip(outputs, answers, strict=True):
                output[first:last] = answer.numpy()
            return True
        except errors.ResourceExhaustedError:
            return False
        except errors.OpError as error:
            reason = f"{replica.device.removeprefix('/device:')}: {str(error).strip().splitlines()[0]}"
            if not isinstance(error, _not_compiled(errors)) or (
                functions is program.functions and not program.compiled
            ):
                raise DeviceError(f"TensorFlow failed on {reason}") from error
            if functions is program.functions:  # else another thread has met it too
                warnings.warn(
                    f"XLA does not compile {self.name!r} on {reason}; TensorFlow goes operator by operator, which is slower",
                    RuntimeWarning,
                    stacklevel=2,
                )
                program.functions, program.compiled = self._functions(program.shapes, False), False
                self._compiled = False
        return self._try(program, index, piece, arrays, outputs)


def _not_compiled(errors: Any) -> tuple[type[Exception], ...]:
    """What TensorFlow raises where XLA knows no such operator, or lacks a part of CUDA."""
    return (errors.UnimplementedError, errors.InvalidArgumentError, errors.InternalError, errors.NotFoundError)


@dataclass
class _Program:
    """What computes images of one size.

    Attributes:
        shapes: of every tensor, without the batch.
        functions: for each device.
        compiled: whether XLA compiles them.
        image_bytes: tensors of one image that are needed at the same time.
        most: images in a piece. It only shrinks, when the memory was not enough; two threads that shrink it at once leave one
            of their numbers, and the next call finds the other out again.
    """

    shapes: Mapping[str, tuple[int, ...]]
    functions: tuple[Callable[..., Any], ...]
    compiled: bool
    image_bytes: int
    most: int


class _Replica:
    """The weights on one device, and functions that compute there."""

    def __init__(self, tf: Any, graph: Graph, device: str, dtype: str) -> None:
        self.device = device
        self._tf, self._graph, self._dtype = tf, graph, dtype
        self._constants: dict[tuple[str, str], Any] = {}
        with tf.device(device):
            for node in graph.nodes:
                own = dtype_of(node, dtype)
                for name in node.inputs:
                    if name in graph.constants and (name, own) not in self._constants:
                        values = tf.constant(values_of(graph.constants[name], np.float32))
                        self._constants[name, own] = tf.cast(values, own)

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return sum(int(np.prod(tensor.shape)) * int(tensor.dtype.size) for tensor in self._constants.values())

    def function(self, shapes: Mapping[str, tuple[int, ...]], compiled: bool) -> Callable[..., Any]:
        """A traced `tf.function` of tensors (N, ...), float32, one for each input; any N."""
        tf = self._tf

        def compute(*inputs: Any) -> list[Any]:
            return evaluate(tf, self._graph, shapes, inputs, lambda *key: self._constants[key], self._dtype)

        signature = [tf.TensorSpec((None, *shapes[port.tensor]), tf.float32) for port in self._graph.inputs]
        function = tf.function(compute, input_signature=signature, jit_compile=compiled, autograph=False)
        # Traced here, when the model is loaded; TensorFlow warns of functions that are traced often, as this one is by
        # whoever loads many models.
        with tf.device(self.device):
            traced: Callable[..., Any] = function.get_concrete_function()
        return traced

    def run(self, function: Callable[..., Any], arrays: Sequence[Array], compiled: bool) -> list[Any]:
        """The outputs for a piece, on the device, perhaps still being computed."""
        tf, images = self._tf, len(arrays[0])
        more = _rounded(images) - images if compiled else 0
        with tf.device(self.device):
            tensors = [tf.constant(array) for array in arrays]
            if more:
                tensors = [tf.pad(x, [(0, more)] + [(0, 0)] * (len(x.shape) - 1)) for x in tensors]
            answers = function(*tensors)
            return [answer[:images] for answer in answers] if more else list(answers)


class _TensorFloat32:
    """Whether GPUs round the factors of float32 products to 11 bits: one setting of the whole process, which is put back as soon as
    no model computes. Models that want it the same way compute at the same time, others wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._now = self._before = False

    @contextlib.contextmanager
    def __call__(self, tf: Any, wanted: bool) -> Iterator[None]:
        config = tf.config.experimental
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._now == wanted)
            if not self._users:
                self._before, self._now = bool(config.tensor_float_32_execution_enabled()), wanted
                config.enable_tensor_float_32_execution(wanted)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if not self._users:
                    config.enable_tensor_float_32_execution(self._before)
                    self._changed.notify_all()


tensor_float_32 = _TensorFloat32()


def _rounded(images: int) -> int:
    """The batch that XLA compiles for: four sizes from each power of two to the next, so that few programs serve all batches
    (each takes seconds to compile) and at most a fifth of the work is in vain."""
    step = 1 << max(0, images.bit_length() - 3)
    return -(-images // step) * step


def _bytes_at_once(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The most that the tensors of one image take at the same time, in float32."""
    left = {name: len(readers) for name, readers in graph.readers.items()}
    size = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
    held = {port.tensor for port in graph.inputs}
    most = now = sum(size[name] for name in held)
    for node in graph.nodes:
        now += sum(size[name] for name in node.outputs)
        held.update(node.outputs)
        most = max(most, now)
        for name in node.inputs:
            left[name or ""] = left.get(name, 0) - 1
            if name in held and left[name] == 0 and name not in graph.output_tensors:
                held.remove(name)
                now -= size[name]
    return most


def _unpickle(
    graph: Graph,
    device: str,
    precision: str,
    file_size: int | None,
    devices: Sequence[str] | None,
    compiled: bool | None,
) -> TensorFlowModel:
    return TensorFlowModel(graph, device, precision=precision, file_size=file_size, devices=devices, compiled=compiled)
