"""What a file from a stranger may make this process allocate and do: one account through reading, planning and conversion.

Whatever has a size that comes from a file is charged here before it is allocated, and every loop whose length comes from a
file before it runs. A charge that exceeds the bound is an error that names what asked for it. docs/decisions/budgets.md has
the reasons and the figures.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from edgecnn.errors import ConversionError, InputError, ModelFileError

What = str | tuple[str, str]
"""What a charge is for, for the error: a text, or a text and the name that comes from the file ("constant", "conv1/weights")."""

BASE_BYTES, BYTES_FOR_ONE = 2**26, 512
"""What may be allocated without a bound of the user's: 64 MiB, and so many bytes for each byte of the file. Pruning by 99 % and
compression shrink weights to a 130th, packing widens groups of single filters by up to 32."""

BASE_WORK, WORK_FOR_ONE = 4 * 10**6, 16
"""Units of work: half a second at most, and so many units for each byte of the file."""

MACS_OF_A_UNIT, MOST_FROM_MACS = 2**12, 10**7
"""Multiply-accumulates of one call that allow for one more unit of work while planning it, and the most units that they allow for."""

SMALL_BYTES = 2**28
"""Tensors of fewer bytes are not held against this machine's memory, which takes some system calls to find out."""

SHARE_OF_MEMORY = 0.75
"""Of this machine's memory, what tensors may take."""


class Budget:
    """The account of one file.

    Args:
        max_bytes: most bytes, of everything together; None: see `BASE_BYTES`, and for tensors three quarters of this
            machine's memory.
        max_seconds: from now on; the deadline is looked at between pieces of the file, nodes and constants, and in long loops. None: no deadline.
        error: what a refusal raises.

    Raises:
        InputError: a bound is no positive number.
    """

    def __init__(
        self,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        error: type[ModelFileError] | type[ConversionError] = ModelFileError,
    ) -> None:
        for name, bound in (("max_bytes", max_bytes), ("max_seconds", max_seconds)):
            try:
                sound = bound is None or (not isinstance(bound, bool | str) and 0 < float(bound) < float("inf"))
            except (TypeError, ValueError, OverflowError):
                sound = False
            if not sound:
                raise InputError(f"{name}={bound!r}: wanted a finite number above 0, or None for no bound of your own")
        self.max_bytes, self.max_seconds, self.error = max_bytes, max_seconds, error
        self.deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.where = "<graph>"
        self.most_bytes = self.most_work = 0
        self.held = self.worked = 0
        self.macs: Callable[[], int] | None = None
        self.last: What = "reading"
        """What was charged last: where memory runs out, that is what it ran out for."""
        self.open(self.where, 0)

    def open(self, where: str, size: int) -> None:
        """Say what the account is of.

        Args:
            where: the file's name, for errors.
            size: its bytes.
        """
        self.where = where
        self.most_bytes = BASE_BYTES + BYTES_FOR_ONE * size if self.max_bytes is None else int(self.max_bytes)
        self.most_work = BASE_WORK + WORK_FOR_ONE * size

    def again(self, held: int) -> Budget:
        """A new account with the same bounds, for one of a model's plans.

        Args:
            held: bytes that are held already.
        """
        other = Budget(self.max_bytes, self.max_seconds, self.error)
        other.deadline = self.deadline
        other.where, other.most_bytes, other.most_work = self.where, self.most_bytes, self.most_work
        other.held = held
        return other

    def allow(self, macs: Callable[[], int]) -> None:
        """Allow for the work of planning a network.

        Args:
            macs: counts its multiply-accumulates; asked where the file's size alone does not allow for the work.
        """
        self.macs = macs

    def hold(self, size: int, what: What) -> None:
        """Charge bytes that are about to be allocated and stay."""
        self.borrow(size, what)
        self.held += size

    def borrow(self, size: int, what: What) -> None:
        """Charge bytes that are about to be allocated, and given back soon."""
        self.last = what
        if size > self.most_bytes - self.held:
            self._refuse(size, what, self.most_bytes)

    def compute(self, size: int, what: Callable[[], What]) -> None:
        """Charge the bytes that a call will allocate: tensors and scratch. They are held against this machine's memory.

        Args:
            what: asked where they are too many.
        """
        self.last = "computing one image"
        if self.max_bytes is not None:
            held, most = self.held, self.most_bytes
        else:
            held, most = 0, size if size <= SMALL_BYTES else int(SHARE_OF_MEMORY * memory_of_machine())
        if size > most - held:
            self._refuse(size, what(), most)

    def work(self, units: int, what: What) -> None:
        """Charge work that is about to be done.

        Args:
            units: of about 100 ns: a step of a loop in Python, or some dozens in C.
        """
        self.worked += units
        if self.worked > self.most_work and self.macs is not None:
            self.most_work += min(self.macs() // MACS_OF_A_UNIT, MOST_FROM_MACS)
            self.macs = None
        if self.worked > self.most_work:
            raise self.error(
                f"{self.where}: {_named(what)} would take {units} units of work, {self.worked} with what was done; the bound "
                f"for a file of its size is {self.most_work}. No network that computes something needs so much: the file "
                "is damaged, or made to do harm"
            )
        if self.deadline is not None:
            self.look(what)

    def look(self, what: What) -> None:
        """Look at the deadline."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise self.error(
                f"{self.where}: {_named(what)} was reached after more than {self.max_seconds:g} s; give it longer "
                "(max_seconds), or leave the deadline out"
            )

    def run_out(self) -> ModelFileError | ConversionError:
        """The error for a MemoryError: what asked for the memory, and what is held."""
        return self.error(
            f"{self.where}: {_named(self.last)}: the system has no more memory; {self.held} bytes are held for this file"
        )

    def _refuse(self, size: int, what: What, most: int) -> None:
        if issubclass(self.error, ConversionError):
            whose, way_out = "for a file of its size", ": the file is damaged, or made to do harm"
        else:
            whose = "max_bytes" if self.max_bytes is not None else "by default, see max_bytes"
            way_out = ". Raise it with max_bytes if you trust the file"
        raise self.error(
            f"{self.where}: {_named(what)} would take {size} bytes of memory, beside {self.held} that are held; the bound is "
            f"{most} ({whose}){way_out}"
        )


_current: ContextVar[Budget | None] = ContextVar("edgecnn_budget", default=None)


@contextlib.contextmanager
def charged_to(budget: Budget) -> Iterator[None]:
    """Within the block `charge` and `charge_work` go to an account: that of the conversion under way, whose layer functions are
    many and need not hand it from one to the next. Running out of memory becomes the account's error."""
    token = _current.set(budget)
    try:
        yield
    except MemoryError as error:
        raise budget.run_out() from error
    finally:
        _current.reset(token)


def charge(size: int, what: What) -> None:
    """Charge bytes that are about to be allocated to the conversion under way, if there is one; see `Budget.hold`."""
    budget = _current.get()
    if budget is not None:
        budget.hold(size, what)


def charge_work(units: int, what: What) -> None:
    """Charge work that is about to be done to the conversion under way, if there is one; see `Budget.work`."""
    budget = _current.get()
    if budget is not None:
        budget.work(units, what)


def _named(what: What) -> str:
    return what if isinstance(what, str) else f"{what[0]} {what[1]!r}"


def memory_of_machine() -> int:
    """Bytes of memory that this process may have: the machine's, or what its control group or its own limit leaves of it."""
    bounds = [2**47]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not a POSIX system
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                bounds.append(int(file.read()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    try:
        import resource
    except ImportError:  # not a POSIX system
        return min(bound for bound in bounds if bound > 0)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(bound for bound in (*bounds, limit) if bound > 0)
