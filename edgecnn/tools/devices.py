"""Devices that `edgecnn check` knows without having seen them. docs/cost-model.md has the sources of every figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.errors import InputError
from edgecnn.runtime import cpu
from edgecnn.tools.costs import Rates

COPY_SHARE = 0.43
"""Of a memory interface's rate, what copying reaches: a Raspberry Pi 4's 5.5 of 12.8 GB/s."""


@dataclass(frozen=True)
class Device:
    """One device; all of it is an estimate.

    Attributes:
        title: its name.
        cores, clock: how many, and GHz.
        flops: of a core in a cycle: 2 for each multiply-add in single precision.
        reached: share of that which register tiles reach on this core.
        memory: GB/s of its interface.
        cache: bytes that a core copies in its second-level cache in a cycle.
        ram: bytes.
    """

    title: str
    cores: int
    clock: float
    flops: int
    reached: float
    memory: float
    cache: float
    ram: int


DEVICES: Mapping[str, Device] = {
    "pi-zero-2w": Device("Raspberry Pi Zero 2 W (4 x Cortex-A53)", 4, 1.0, 8, 0.6, 3.6, 4.0, 512 << 20),
    "pi3": Device("Raspberry Pi 3 B+ (4 x Cortex-A53)", 4, 1.4, 8, 0.6, 3.6, 4.0, 1 << 30),
    "pi4": Device("Raspberry Pi 4 B (4 x Cortex-A72)", 4, 1.5, 8, 0.8, 12.8, 8.0, 1 << 30),
    "pi5": Device("Raspberry Pi 5 (4 x Cortex-A76)", 4, 2.4, 16, 0.85, 17.1, 16.0, 2 << 30),
}
"""By the name that --target takes."""

STEP_CYCLES, SERIAL_CYCLES, CALL_CYCLES = 5000, 800, 60000
"""Of a step that threads share, of one that they do not, and of a call, beside the work."""


def rates_of(name: str, threads: int | None = None) -> Rates:
    """What a device can, by estimate.

    Args:
        name: of `DEVICES`.
        threads: None: all cores.

    Raises:
        InputError: there is no such device, or it has not so many cores.
    """
    if name not in DEVICES:
        raise InputError(f"--target {name}: wanted here, {', '.join(DEVICES)}")
    device = DEVICES[name]
    count = device.cores if threads is None else threads
    if not 1 <= count <= device.cores:
        raise InputError(f"--threads {threads}: the {device.title} has {device.cores} cores")
    hertz = 1e9 * device.clock
    memory = 1e9 * COPY_SHARE * device.memory
    return Rates(
        hertz * count * device.flops / 2 * device.reached,
        memory,
        memory,  # there is nothing between the second-level cache and memory but the Pi 5's 2 MB
        max(hertz * count * device.cache, memory),
        STEP_CYCLES / hertz if count > 1 else SERIAL_CYCLES / hertz,
        SERIAL_CYCLES / hertz,
        CALL_CYCLES / hertz,
        # Vectors of four floats and the same tiles as NEON's.
        cpu.INSTRUCTION_SETS[-1],
    )
