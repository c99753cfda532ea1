"""How many cases hypothesis draws."""

from __future__ import annotations

import os


def examples(count: int) -> int:
    """So many, or the share of them that EDGECNN_EXAMPLES asks for in percent: emulated CPUs take thirty times as long."""
    return max(3, count * int(os.environ.get("EDGECNN_EXAMPLES", "100")) // 100)
