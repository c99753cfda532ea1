from collections.abc import Sequence

from edgecnn.runtime.executor import Step
from edgecnn.runtime.memory import View
from edgecnn.runtime.planner import Placed

Span = tuple[int, int, int]

def band_of(
    spans: Sequence[Span], heights: Sequence[int], widths: Sequence[int], budget: int
) -> tuple[int, list[int]] | None: ...
def prepare_chain(
    placed: Placed, steps: Sequence[tuple[Step, View, View]], spans: Sequence[Span], budget: int
) -> Step: ...
