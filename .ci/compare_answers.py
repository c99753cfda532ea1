"""Holds what emulated CPUs answered against what this machine did: usage compare_answers.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TOLERANCE = 2e-5
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76", "max", "cortex-a7", "cortex-a9", "Haswell", "Nehalem")


def main() -> int:
    """0 when all answers agree and all converted files are the same bytes."""
    folder = Path(sys.argv[1])
    names = sorted(path.name.split(".")[0] for path in folder.glob("*.native.npz"))
    failures = 0 if names else 1
    for name in names:
        with np.load(folder / f"{name}.native.npz") as file:
            expected, digest = file["answer"], str(file["sha256"])
        worst = ("", 0.0)
        for cpu in CPUS:
            with np.load(folder / f"{name}.{cpu}.npz") as file:
                difference = float(np.abs(file["answer"] - expected).max() / np.abs(expected).max())
                if difference > worst[1]:
                    worst = (cpu, difference)
                if str(file["sha256"]) != digest:
                    print(f"{name}: {cpu} converts to other bytes")
                    failures += 1
        print(
            f"{name}: same file on {len(CPUS)} CPUs; largest difference to this machine {worst[1]:.1e} ({worst[0] or 'none'})"
        )
        failures += worst[1] > TOLERANCE
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
