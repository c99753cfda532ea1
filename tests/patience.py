"""How long tests wait for what ends by itself. No machine is so slow: who waits so long waits for something that hangs."""

from __future__ import annotations

HUNG = 1800
"""Seconds: emulated CPUs, sanitizers and loaded machines take a hundred times as long as a desk computer."""
