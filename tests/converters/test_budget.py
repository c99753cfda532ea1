"""What a source may make a conversion allocate: charged to its account before it is made."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.budget import Budget, charge, charge_work, charged_to
from edgecnn.converters.builder import Builder
from edgecnn.converters.passes import pipeline
from edgecnn.errors import ConversionError
from edgecnn.graph import Tensor
from hostile_graphs import shared_weights


def test_an_array_of_any_size_is_refused_before_it_is_made() -> None:
    build = Builder()
    with (
        pytest.raises(ConversionError, match=r"shape \(1073741824, 4\) for multiply would take 17179869184 bytes"),
        charged_to(Budget(error=ConversionError)),
    ):
        build("multiply", Tensor("x", (None, 1, 4)), build.full((2**30, 4)))


def test_looks_of_passes_are_charged_to_the_conversion() -> None:
    graph, budget = shared_weights(3, 4), Budget(error=ConversionError)
    with charged_to(budget):
        pipeline.run(graph)
    assert budget.worked >= len(pipeline.PASSES) * pipeline.PASS_WORK * len(graph.nodes)


def run_out() -> None:
    with charged_to(Budget(error=ConversionError)):
        charge(10, ("constant", "w"))
        raise MemoryError


def test_running_out_of_memory_is_an_error_of_the_conversion() -> None:
    with pytest.raises(ConversionError, match="constant 'w': the system has no more memory"):
        run_out()


def test_outside_a_conversion_nothing_is_charged() -> None:
    charge(2**60, "anything")
    charge_work(2**60, "anything")
    assert Builder().full((2, 3), 4.0).tolist() == np.full((2, 3), 4.0).tolist()
