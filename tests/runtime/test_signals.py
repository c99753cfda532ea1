"""Signals: what a handler raises arrives, whatever compiled code is doing, and ends a long call early."""

from __future__ import annotations

import _thread
import collections
import gc
import operator
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import CorruptFileError, Error
from edgecnn.format import encode
from edgecnn.format.primitives import Input
from edgecnn.runtime import workers
from edgecnn.runtime.executor import Executor
from edgecnn.runtime.kernels.zeros import block_counts
from small_models import convolution

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")

SIGNALS = int(os.environ.get("EDGECNN_SIGNALS", "1000"))
"""Of the storm."""


class Stop(Exception):
    """What the handler raises."""


@contextmanager
def handled() -> Iterator[list[int]]:
    """SIGALRM raises Stop; the list has an entry for each time."""
    ran: list[int] = []

    def handler(number: int, frame: Any) -> None:
        ran.append(number)
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield ran
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def with_pending_signal(function: Callable[[], Any]) -> None:
    """Call a compiled function while a signal waits for its handler: no line of Python runs between the two."""
    collections.deque(map(operator.call, [partial(_thread.interrupt_main, signal.SIGALRM), function]), 0)


def run_handlers() -> None:
    """The interpreter runs the handlers of signals that have come when a function of Python begins."""


def forever(function: Callable[[], Any]) -> None:
    """Call a function until it raises."""
    while True:
        function()


def raising() -> dict[str, Callable[[], Any]]:
    """Compiled functions that raise, from every module whose functions can be called directly."""
    executor = Executor([], 0, [(1,)], [(1,)], 1)
    short = np.zeros(1, np.float32)
    return {
        "a section that ends": Input(b"", "here").varint,
        "a string that is not UTF-8": Input(b"\x01\xff", "here").text,
        "an array too short": partial(executor.run, (short, short), 2, 1),
        "a width too large": partial(block_counts, np.zeros((4, 4), np.float32), 1, 300),
    }


@pytest.mark.parametrize("name", sorted(raising()))
def test_what_a_handler_raises_while_compiled_code_raises_is_not_lost(name: str) -> None:
    expected: type[BaseException] | None = None
    try:
        raising()[name]()
    except (Error, ValueError) as error:
        expected = type(error)
    assert expected is not None
    with handled() as ran:
        caught: BaseException | None = None
        try:
            try:
                with_pending_signal(raising()[name])
            except expected:
                run_handlers()
        except Stop as error:
            caught = error
        assert len(ran) == 1
        assert isinstance(caught, Stop)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_call_with_a_signal_waiting_does_not_crash(threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 4), np.float32)
    expected = edgecnn.load(convolution(), threads=threads)(x)
    model = edgecnn.load(convolution(), threads=threads)
    usual: Any = model._usual

    def call() -> None:
        with_pending_signal(partial(usual.answer, x, threads))
        run_handlers()

    with handled() as ran, pytest.raises(Stop):
        call()
    assert len(ran) == 1
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [16, 64])
def test_a_model_works_on_after_a_signal_has_ended_a_call(size: int, threads: int) -> None:
    model = edgecnn.load(convolution(filters=64, size=size), threads=threads)
    some = np.random.default_rng(1).standard_normal((2, size, size, 4), np.float32)
    expected = model(some)
    x = np.zeros((2**21 // (size * size), size, size, 4), np.float32)
    with handled() as ran:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Stop):
            forever(lambda: model(x))
        assert len(ran) == 1
    np.testing.assert_array_equal(model(some), expected)


WAITS = """
import signal, sys
sys.path.insert(0, sys.argv[3])
import numpy as np
import edgecnn
from small_models import convolution

class Stop(Exception):
    pass

def handler(number, frame):
    raise Stop

images, threads = int(sys.argv[1]), int(sys.argv[2])
model = edgecnn.load(convolution(filters=64, size=64), threads=threads)
x = np.zeros((images, 64, 64, 4), np.float32)
out = np.full((images, 64, 64, 64), -1, np.float32)  # no value after a ReLU is negative
model(x[:2])
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    model.run(x, out={"y": out})
except Stop:
    done = (out >= 0).all(axis=(1, 2, 3))
    print("stopped", int(done.sum()) < images)
else:
    print("finished")
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_left_of_a_call_is_not_computed(threads: int) -> None:
    # 600 images of 38 million multiply-adds: more than any CPU does in a tenth of a second with two threads.
    images = 600
    run = subprocess.run(
        [sys.executable, "-c", WAITS, str(images), str(threads), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert run.stdout.split() == ["stopped", "True"], run.stderr


def test_threads_that_are_not_the_main_one_compute_on() -> None:
    model = edgecnn.load(convolution(filters=64), threads=2)
    x = np.random.default_rng(0).standard_normal((2000, 16, 16, 4), np.float32)
    expected, answers = model(x), []
    worker = threading.Thread(target=lambda: answers.append(model(x)))
    with handled():
        worker.start()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Stop):
            # Not in join: Python 3.11 takes a thread for ended when a signal ends its join.
            forever(lambda: time.sleep(0.001))
    worker.join()
    np.testing.assert_array_equal(answers[0], expected)


def test_workers_are_given_back_when_a_warning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = edgecnn.load(convolution(), threads=2)
    x = np.zeros((4, 16, 16, 4), np.float32)
    model(x)
    monkeypatch.setattr(workers, "refused", False)
    monkeypatch.setattr(workers, "most", workers.started())
    many = edgecnn.load(convolution(), threads=workers.started() + 2)
    with pytest.raises(RuntimeWarning, match="starts no more threads"):
        many(x)  # the tests make warnings errors
    before = workers.started()
    np.testing.assert_array_equal(many(x), model(x))
    assert workers.started() == before


def test_a_storm_of_signals_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path))
    content = encode(convolution(filters=16))
    damaged = content[:-1]
    x = np.random.default_rng(0).standard_normal((3, 16, 16, 4), np.float32)
    expected = edgecnn.load(content, threads=1)(x)
    drawn = random.Random(0)

    def work(model: edgecnn.Model, round: int) -> None:
        np.testing.assert_array_equal(model(x), expected)
        other = edgecnn.load(content, threads=1 + round % 2)
        np.testing.assert_array_equal(other(x[:1]), expected[:1])
        other.profile(x, runs=1)
        other.predict(iter(x), batch_size=2)
        with suppress(CorruptFileError):
            edgecnn.load(damaged)
        if round % 16 == 0:
            edgecnn.load(content, threads=1, tune=True)
            pickle.loads(pickle.dumps(other))
        del other
        if round % 64 == 0:
            gc.collect()

    # What a handler raises in a destructor or a callback of the garbage collector the interpreter tells and drops.
    dropped: list[str] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda told: isinstance(told.exc_value, Stop) and dropped.append(repr(told.object))
    )
    caught, rounds = 0, 0
    model = edgecnn.load(content, threads=2)
    work(model, 0)  # an import that a signal ends would leave a file of the interpreter open
    with handled() as ran:
        while len(ran) < SIGNALS:
            try:
                armed = len(ran)
                signal.setitimer(signal.ITIMER_REAL, drawn.uniform(1e-5, 4e-3))
                while len(ran) == armed:
                    rounds += 1
                    work(model, rounds)
                assert len(ran) == caught + len(dropped), "an exception of the handler was lost"
            except Stop:
                caught += 1
    assert len(ran) == caught + len(dropped)
    assert not [where for where in dropped if "edgecnn" in where]
    np.testing.assert_array_equal(model(x), expected)
