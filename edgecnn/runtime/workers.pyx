"""The threads that compute beside the one that calls."""

import os
import warnings

from libc.stdlib cimport calloc, free, malloc

from edgecnn.runtime.threads import available


cdef extern from "Python.h" nogil:
    unsigned long PyThread_start_new_thread(void (*)(void *) noexcept nogil, void *)

# PYTHREAD_INVALID_THREAD_ID, which the stable interface lacks.
cdef unsigned long INVALID_THREAD = <unsigned long>-1


cdef extern from "worker.h" nogil:
    ctypedef struct ec_worker:
        pass
    void ec_serve(void *) noexcept
    bint ec_is_ready(ec_worker *) noexcept
    void ec_share_out(ec_worker **workers, int count, ec_job job, void *work, int crowded) noexcept


cdef class Worker:
    """A thread that waits for its share of some work. It is never ended: what it waits on outlives this object."""

    cdef ec_worker *worker


most = 1 << 16
"""More threads than this are not started."""
refused = False
"""Whether the system refused to start a thread."""

_idle = []
_started = []
_cores = None
_shared = False


def started():
    """How many threads this process has started."""
    return len(_started)


def _after_fork():
    # Threads do not survive a fork: the child starts its own.
    _idle.clear()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef Worker start():
    """A new worker, or None where the system starts no more threads."""
    global refused
    cdef Worker result = Worker.__new__(Worker)
    if len(_started) >= most:
        refused = True
        return None
    result.worker = <ec_worker *>calloc(1, sizeof(ec_worker))
    if result.worker == NULL:
        raise MemoryError("no memory for a thread")
    if PyThread_start_new_thread(ec_serve, result.worker) == INVALID_THREAD:
        free(result.worker)
        refused = True
        return None
    _started.append(result)
    return result


cdef list hire(int count):
    """So many idle workers, or fewer: those of them that run, and with a warning where the system starts no more. They
    are the caller's until it gives them back."""
    cdef list taken = [], late = []
    cdef Worker worker
    cdef bint told = refused
    while len(taken) < count:
        try:
            worker = _idle.pop()
        except IndexError:
            worker = start()
            if worker is None:
                break
        taken.append(worker)
    if refused and not told:
        try:
            warnings.warn(
                f"this system starts no more threads: computing with {len(taken) + 1} in place of {count + 1}",
                RuntimeWarning,
                stacklevel=2,
            )
        except RuntimeWarning:
            give_back(taken)
            raise
    # All shares of a work wait for each other: what is still being started would be waited for by the others.
    late = [worker for worker in taken if not ec_is_ready(worker.worker)]
    if late:
        taken = [worker for worker in taken if worker not in late]
        _idle[:0] = late
    return taken


cdef int share_out(list hired, ec_job job, void *work) except -1:
    """Do all shares of `work`, the first one on this thread, without the GIL; returns when all are done."""
    global _shared, _cores
    cdef int i, count = len(hired), crowded = True
    if count == 0:
        with nogil:
            job(work, 0, 1)
        return 0
    # How many cores there are takes as long to find out as a small network's first answer: not for the first work.
    if _shared:
        if _cores is None:
            _cores = available()
        crowded = len(_started) >= _cores
    _shared = True
    cdef ec_worker **team = <ec_worker **>malloc((count + 1) * sizeof(ec_worker *))
    if team == NULL:
        raise MemoryError("no memory for a team of threads")
    for i in range(count):
        team[i] = (<Worker>hired[i]).worker
    with nogil:
        ec_share_out(team, count, job, work, crowded)
    free(team)
    return 0


cdef void give_back(list hired) except *:
    """Let others have the workers."""
    _idle.extend(hired)
