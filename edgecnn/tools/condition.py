"""Whether the machine is fit to be measured: clock, heat, power, other load. What cannot be read is not judged."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPU_FOLDER = Path("/sys/devices/system/cpu")
RASPBERRY_PI = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")

THROTTLED_BITS = {
    0: "the supply's voltage is too low",
    1: "the clock is capped",
    2: "the CPU is throttled",
    3: "the soft temperature limit is reached",
}
"""Bits of a Raspberry Pi's get_throttled that tell of now.

Source: Raspberry Pi documentation, vcgencmd get_throttled.
"""

LOW_CLOCK = 0.6
"""Below this share of the highest clock a core at work is held back; turbo clocks that many cores share stay above."""


@dataclass(frozen=True)
class Condition:
    """The machine at one moment.

    Attributes:
        throttle_count: how often the CPU has throttled itself since it was started; None if unknown.
        clock: the highest clock of a core now as a share of the highest possible; None if unknown.
        complaints: what the firmware says is wrong.
        load: processes that want to run, averaged over a minute; None if unknown.
    """

    throttle_count: int | None
    clock: float | None
    complaints: tuple[str, ...]
    load: float | None


def condition(folder: Path = CPU_FOLDER, raspberry_pi: Path = RASPBERRY_PI) -> Condition:
    """Read the machine's condition.

    Args:
        folder, raspberry_pi: where the kernel shows it.
    """
    counts = _numbers(folder, "cpu[0-9]*/thermal_throttle/core_throttle_count")
    now = _numbers(folder, "cpu[0-9]*/cpufreq/scaling_cur_freq")
    highest = _numbers(folder, "cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    try:
        load: float | None = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = None
    return Condition(
        sum(counts) if counts else None,
        max(now) / max(highest) if now and highest and max(highest) > 0 else None,
        _firmware_complaints(raspberry_pi),
        load,
    )


def _numbers(folder: Path, pattern: str) -> list[int]:
    found = []
    for path in folder.glob(pattern):
        try:
            found.append(int(path.read_text().strip()))
        except (OSError, ValueError):
            continue
    return found


def _firmware_complaints(path: Path) -> tuple[str, ...]:
    """What a Raspberry Pi's firmware says of power and heat."""
    try:
        text = path.read_text()
    except OSError:
        text = _vcgencmd()
    try:
        bits = int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return ()
    return tuple(meaning for bit, meaning in THROTTLED_BITS.items() if bits >> bit & 1)


def _vcgencmd() -> str:
    command = shutil.which("vcgencmd")
    if command is None:
        return ""
    try:
        return subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def judge(before: Condition, after: Condition) -> list[str]:
    """What is against trusting a measurement made between the two."""
    warnings = []
    if before.throttle_count is not None and after.throttle_count is not None:
        times = after.throttle_count - before.throttle_count
        if times > 0:
            warnings.append(f"throttled: the CPU slowed itself down {times} times while it was measured; cool it")
    warnings += [f"throttled: {complaint}" for complaint in after.complaints]
    if after.clock is not None and after.clock < LOW_CLOCK:
        warnings.append(
            f"throttled: the clock is at {100 * after.clock:.0f} % of its highest; look at the governor and the cooling"
        )
    return warnings
