"""What this CPU has: the instruction sets of the build, the one to use, and the measured peak."""

import os
import time

from edgecnn.errors import DeviceError


cdef extern from "cpu.h":
    enum:
        EC_INSTRUCTION_SETS

    ctypedef struct ec_instruction_set:
        const ec_table *table
        const char *needs
        int supported

    enum:
        EC_NEON_UNIT
        EC_FUSED
        EC_UNKNOWN

    int ec_arm_features()
    void ec_instruction_sets(ec_instruction_set *, int features)
    long ec_second_level_bytes()


SECOND_LEVEL_BYTES = min(max(ec_second_level_bytes(), 256 << 10), 2 << 20)
"""Of a core's cache, for the size of blocks: what the system tells, within what edge CPUs have. Speed depends on it,
no bit of an answer does."""


cdef class InstructionSet:
    """One instruction set's micro-kernels: name, what it needs, whether this CPU runs it, floats in a vector."""

    def __repr__(self):
        return f"<InstructionSet {self.name}>"


CPUINFO = "/proc/cpuinfo"
_features_needed = EC_NEON_UNIT | EC_FUSED


def _features(path=CPUINFO):
    """What an ARM CPU has by the words that Linux lists: where a system hides the hardware-capability words."""
    try:
        with open(path, errors="replace") as file:
            lines = [line.partition(":")[2] for line in file if line.startswith("Features")]
    except OSError:
        return 0
    # Cores may differ: what one of them lacks is not there.
    words = set.intersection(*(set(line.split()) for line in lines)) if lines else set()
    if "asimd" in words:
        return EC_NEON_UNIT | EC_FUSED
    return ("neon" in words) * EC_NEON_UNIT | ("vfpv4" in words) * EC_FUSED


def _list(features=None):
    cdef ec_instruction_set sets[EC_INSTRUCTION_SETS]
    cdef InstructionSet entry
    if features is None:
        features = ec_arm_features()
        if features == EC_UNKNOWN:
            features = _features()
    ec_instruction_sets(sets, features)
    result = []
    for i in range(EC_INSTRUCTION_SETS):
        entry = InstructionSet.__new__(InstructionSet)
        entry.table = sets[i].table
        entry.name = sets[i].table.name.decode()
        entry.needs = sets[i].needs.decode()
        entry.supported = bool(sets[i].supported)
        entry.lanes = sets[i].table.lanes
        result.append(entry)
    return tuple(result)


INSTRUCTION_SETS = _list()


def supported():
    """The instruction sets that this CPU runs, best first."""
    return tuple(entry for entry in INSTRUCTION_SETS if entry.supported)


def choose(name=None):
    """The instruction set to use.

    Args:
        name: one of the build's; None: what EDGECNN_ISA says, or else the best that this CPU runs.

    Raises:
        DeviceError: there is no such set, or this CPU lacks it. It is never quietly replaced.
    """
    wanted = name or os.environ.get("EDGECNN_ISA", "").strip().lower()
    if not wanted:
        return supported()[0]
    source = "" if name else "EDGECNN_ISA="
    for entry in INSTRUCTION_SETS:
        if entry.name == wanted:
            if not entry.supported:
                raise DeviceError(
                    f"{source}{wanted}: this CPU lacks it (it needs {entry.needs}); "
                    f"it has {', '.join(e.name for e in supported())}"
                )
            return entry
    raise DeviceError(
        f"{source}{wanted}: no such instruction set; this build has {', '.join(e.name for e in INSTRUCTION_SETS)}"
    )


def measure_peak(double seconds=0.05, InstructionSet instruction_set=None):
    """Multiply-adds in registers only, on this thread: the peak that no kernel can pass.

    Args:
        seconds: about how long to measure.

    Returns:
        GFLOP/s (a multiply-add counts as two), the best of several runs.
    """
    cdef const ec_table *table = (<InstructionSet>(instruction_set or choose())).table
    cdef long rounds = 1000
    cdef double macs, best = 0.0
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        with nogil:
            macs = table.measure_peak(rounds)
        taken = time.perf_counter() - start
        if taken < 0.001:
            rounds *= 4
            continue
        best = max(best, 2e-9 * macs / taken)
        if time.perf_counter() > end:
            return best
