"""The threads that compute beside the one that calls."""

import os
import sys
import warnings

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from edgecnn.runtime.step cimport EC_ASK_AFTER, ec_now, ec_watch

from edgecnn.runtime.threads import available


cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)
    int PyErr_CheckSignals()
    unsigned long PyThread_get_thread_ident()
    unsigned long PyThread_start_new_thread(void (*)(void *) noexcept nogil, void *)

cdef extern from *:
    """
    /* Passes on the exception that is set already. */
    static inline int ec_raise(int raised) { return raised ? -1 : 0; }
    """
    int ec_raise(int raised) except -1

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
    try:
        while len(taken) < count:
            try:  # not a look first: without the interpreter's lock another thread may be faster
                worker = _idle.pop()
            except IndexError:
                worker = start()
            if worker is None:
                break
            taken.append(worker)
        if refused and not told:
            warnings.warn(
                f"this system starts no more threads: computing with {len(taken) + 1} in place of {count + 1}",
                RuntimeWarning,
                stacklevel=2,
            )
    except BaseException:  # where warnings are errors, and for what the handler of a signal raises
        give_back(taken)
        raise
    # All shares of a work wait for each other: what is still being started would be waited for by the others.
    late = [worker for worker in taken if not ec_is_ready(worker.worker)]
    if late:
        taken = [worker for worker in taken if worker not in late]
        _idle[:0] = late
    return taken


cdef bint is_interruptible() except -1:
    """Whether signals are handled by this thread: by the main one alone."""
    # Without this module there is one thread, and importing it takes as long as a small network's first answer.
    threading = sys.modules.get("threading")
    return threading is None or threading.main_thread().ident == PyThread_get_thread_ident()


cdef int ask(void *state) noexcept nogil:
    """Let the interpreter run the handlers of signals that have come; gives whether one raised an exception, which
    stays set."""
    cdef PyThreadState **kept = <PyThreadState **>state
    cdef int raised
    PyEval_RestoreThread(kept[0])
    raised = PyErr_CheckSignals()
    kept[0] = PyEval_SaveThread()
    return raised


cdef int share_out(list hired, ec_job job, void *work, ec_watch *watch) except -1:
    """Do all shares of `work`, the first one on this thread, without the GIL; returns when all are done.

    Args:
        watch: what the job looks at in order to end early; it is made ready here. Where the handler of a signal raises
            an exception meanwhile, that is raised when all shares have ended. NULL: signals wait until the work is
            done.
    """
    global _shared, _cores
    cdef int i, count = len(hired), crowded = True
    cdef PyThreadState *state
    # How many cores there are takes as long to find out as a small network's first answer: not for the first work.
    if count > 0 and _shared:
        if _cores is None:
            _cores = available()
        crowded = len(_started) >= _cores
    cdef ec_worker **team = <ec_worker **>malloc((count + 1) * sizeof(ec_worker *))
    if team == NULL:
        raise MemoryError("no memory for a team of threads")
    for i in range(count):
        team[i] = (<Worker>hired[i]).worker
    if count > 0:
        _shared = True
    if watch != NULL:
        memset(watch, 0, sizeof(ec_watch))
        watch.next, watch.ask, watch.argument = ec_now() + EC_ASK_AFTER, ask, &state
    state = PyEval_SaveThread()
    ec_share_out(team, count, job, work, crowded)
    PyEval_RestoreThread(state)
    free(team)
    return ec_raise(watch != NULL and watch.stop)


cdef void give_back(list hired) except *:
    """Let others have the workers."""
    _idle.extend(hired)
