"""The front is what no other beats; time ends the search; the files are the candidates'."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import InputError
from edgecnn.training import explore
from edgecnn.training.explore import Candidate, Exploration, beats
from training_networks import NETWORKS, images, values

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_candidate_beats_another_if_it_is_nowhere_worse_and_somewhere_better() -> None:
    middle = Candidate("middle", 0.9, 1000, 1.0)
    assert not beats(middle, middle)
    assert beats(dataclasses.replace(middle, ms=0.9), middle)
    assert beats(dataclasses.replace(middle, accuracy=0.91), middle)
    assert not beats(dataclasses.replace(middle, accuracy=0.91, bytes=1001), middle)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing that takes no two seconds a candidate."""
    from edgecnn.training import files

    monkeypatch.setattr(files, "SECONDS", 0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_candidates_are_measured_and_the_front_is_saved(tmp_path: Path) -> None:
    model, told = NETWORKS["plain"](keras), []
    found = explore(
        model,
        images(32),
        images(32, 1),
        sparsities=(0.5,),
        patterns=("channel",),
        folder=tmp_path,
        progress=told.append,
    )
    names = {candidate.name for candidate in found.candidates}
    assert {"as it is", "separable", "average pooling", "50 % by channel", "separable + 50 % by channel"} <= names
    # Its activations are rectifiers already, and stay; everything else can be made.
    assert len(told) == len(found.candidates) + len(found.left_out)
    assert found.candidates == tuple(sorted(found.candidates, key=lambda candidate: candidate.ms))
    assert found.front
    x, _ = images(4, 2)
    for candidate in found.front:
        assert not any(beats(other, candidate) for other in found.candidates)
        answer = values(keras.saving.load_model(candidate.keras)(x))
        np.testing.assert_allclose(edgecnn.load(candidate.ecnn)(x), answer, rtol=0, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2 * len(found.front)
    found.plot(tmp_path / "front.png")
    assert "as it is" in str(found)
    by_name = {candidate.name: candidate for candidate in found.candidates}
    assert by_name["50 % by channel"].bytes < by_name["as it is"].bytes


@pytest.mark.usefixtures("short")
def test_when_time_is_up_the_rest_is_named() -> None:
    found = explore(NETWORKS["plain"](keras), images(16), images(16), seconds=1e-6)
    assert [candidate.name for candidate in found.candidates] == ["as it is"]
    assert found.candidates[0].front
    assert {reason for _, reason in found.left_out} == {"no time left"}
    assert "not tried: separable: no time left" in str(found)


@pytest.mark.parametrize("options", [{"seconds": 0}, {"epochs": 0}, {"sparsities": (1.0,)}, {"patterns": ("rows",)}])
def test_what_cannot_be_meant_is_told_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        explore(NETWORKS["plain"](keras), images(16), images(16), **options)


def test_the_line_of_a_picture_never_falls() -> None:
    """A candidate may be on the front for its bytes alone, slower and less accurate than others."""
    found = Exploration(
        tuple(
            Candidate(name, accuracy, size, ms, True)
            for name, accuracy, size, ms in (
                ("a", 0.5, 9, 1.0),
                ("b", 0.4, 1, 2.0),
                ("c", 0.9, 5, 3.0),
                ("d", 0.9, 4, 3.5),
            )
        ),
        (),
    )
    assert [candidate.name for candidate in found._best_in_time()] == ["a", "c"]
