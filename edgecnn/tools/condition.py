"""Whether the machine is fit to be measured: clock, heat, power, other load. What cannot be read is not judged."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPU_FOLDER = Path("/sys/devices/system/cpu")
RASPBERRY_PI = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
THERMAL = Path("/sys/class/thermal")

THROTTLED_BITS = {
    0: "the supply's voltage is too low",
    1: "the clock is capped",
    2: "the CPU is throttled",
    3: "the soft temperature limit is reached",
}
"""Bits of a Raspberry Pi's get_throttled that tell of now; sixteen higher, whether it has happened since the start.

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
        past_complaints: what the firmware says has been wrong at any time since the start.
        governor: the rule by which the clock is chosen, "performance" or "ondemand" for example; None if unknown.
        temperature: of the hottest place that the CPU measures, in degrees Celsius; None if unknown.
    """

    throttle_count: int | None
    clock: float | None
    complaints: tuple[str, ...]
    load: float | None
    past_complaints: tuple[str, ...] = ()
    governor: str | None = None
    temperature: float | None = None

    def __str__(self) -> str:
        parts = [] if self.governor is None else [f"governor {self.governor}"]
        parts += [] if self.clock is None else [f"clock {100 * self.clock:.0f} % of the highest"]
        parts += [] if self.temperature is None else [f"{self.temperature:.0f} °C"]
        return ", ".join(parts) or "clock, governor and temperature unknown"


def condition(folder: Path = CPU_FOLDER, raspberry_pi: Path = RASPBERRY_PI, thermal: Path = THERMAL) -> Condition:
    """Read the machine's condition.

    Args:
        folder, raspberry_pi, thermal: where the kernel shows it.
    """
    bits = _firmware_bits(raspberry_pi)
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
        _meanings(bits),
        load,
        _meanings(bits >> 16),
        _governor(folder),
        temperature(thermal),
    )


def temperature(folder: Path = THERMAL) -> float | None:
    """Degrees Celsius of the CPU: of the zones that are its own, or of all, the hottest; None if the system does not tell."""
    zones: dict[bool, list[int]] = {True: [], False: []}
    for zone in folder.glob("thermal_zone*"):
        try:
            kind = (zone / "type").read_text().lower()
            millidegrees = int((zone / "temp").read_text().strip())
        except (OSError, ValueError):
            continue
        zones["cpu" in kind or "soc" in kind or "x86_pkg" in kind].append(millidegrees)
    found = zones[True] or zones[False]
    return max(found) / 1000 if found else None


def _governor(folder: Path) -> str | None:
    found = set()
    for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(path.read_text().strip())
        except OSError:
            continue
    return "/".join(sorted(found)) or None


def _numbers(folder: Path, pattern: str) -> list[int]:
    found = []
    for path in folder.glob(pattern):
        try:
            found.append(int(path.read_text().strip()))
        except (OSError, ValueError):
            continue
    return found


def _firmware_bits(path: Path) -> int:
    """What a Raspberry Pi's firmware says of power and heat; 0 elsewhere."""
    try:
        text = path.read_text()
    except OSError:
        text = _vcgencmd()
    try:
        return int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return 0


def _meanings(bits: int) -> tuple[str, ...]:
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
    # What is over again may have happened in between.
    passed = [c for c in after.past_complaints if c not in (*before.past_complaints, *after.complaints)]
    warnings += [f"throttled meanwhile: {complaint}" for complaint in passed]
    if after.clock is not None and after.clock < LOW_CLOCK:
        warnings.append(
            f"throttled: the clock is at {100 * after.clock:.0f} % of its highest; look at the governor and the cooling"
        )
    return warnings
