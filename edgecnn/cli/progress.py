"""A sign of life on stderr for work that takes over a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from edgecnn.cli import terminal
from edgecnn.tools.text import printable

PATIENCE = 1.0
"""Seconds of silence before the first line."""


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is being done once it has taken a second; then at once whatever the block reports.

    Yields:
        A function that takes what is being done now.
    """
    started = time.monotonic()
    lock = threading.Lock()
    current = text
    shown = ""
    ended = False

    status: Any = None

    def show() -> None:
        nonlocal shown, status
        with lock:
            if shown == current or ended:
                return
            shown = current
            target = terminal.console(sys.stderr)
            if target is None:
                if sys.stderr is not None:
                    with suppress(OSError):  # nobody can be told; the work goes on
                        print(f"{printable(current)} ...", file=sys.stderr, flush=True)
                return
            from rich.text import Text

            if status is None:
                status = target.status(Text(printable(current)))
                status.start()
            else:
                status.update(Text(printable(current)))

    def tell(now: str) -> None:
        nonlocal current
        current = now
        if time.monotonic() - started > PATIENCE:
            show()

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        with lock:
            ended = True
            if status is not None:
                status.stop()
