"""Which weights go: worked out by hand, or from the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgecnn.errors import InputError
from edgecnn.training.masks import (
    Pattern,
    Schedule,
    choose,
    expand,
    most_sparsity,
    normalised,
    parse_pattern,
    unit_scores,
)

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 40))


def kernel(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("weight", Pattern("weight")),
        ("block", Pattern("block", 16)),
        ("block:4", Pattern("block", 4)),
        ("2:4", Pattern("n:m", keep=2, of=4)),
        ("channel", Pattern("channel")),
    ],
)
def test_patterns_are_named(text: str, wanted: Pattern) -> None:
    assert parse_pattern(text) == wanted
    assert parse_pattern(str(wanted)) == wanted


@pytest.mark.parametrize("text", ["", "blocks", "block:5", "block:0", "4:4", "5:4", "0:4", "row", 3])
def test_other_patterns_are_refused(text: Any) -> None:
    with pytest.raises(InputError, match="wanted weight, block"):
        parse_pattern(text)


def test_kernels_are_divided_by_largest_value_or_root_mean_square() -> None:
    w = np.array([[3.0, -4.0], [0.0, 0.0]])
    assert normalised(w, None).tolist() == [[3, 4], [0, 0]]
    assert normalised(w, "max").tolist() == [[0.75, 1], [0, 0]]
    assert normalised(w, "rms").tolist() == [[1.2, 1.6], [0, 0]]  # sqrt(25 / 4) = 2.5
    assert normalised(np.zeros((2, 2)), "rms").tolist() == [[0, 0], [0, 0]]


def test_a_block_counts_by_its_root_mean_square_and_the_last_one_may_be_shorter() -> None:
    w = np.array([[3.0, 4.0, 3.0, 4.0, 2.0, 2.0]])
    scores, sizes = unit_scores(w, Pattern("block", 4))
    assert scores.tolist() == [np.sqrt(50 / 4), 2.0]
    assert sizes.tolist() == [4, 2]
    assert expand(np.array([True, False]), w.shape, Pattern("block", 4)).tolist() == [[False] * 4 + [True] * 2]


def test_two_of_four_keeps_the_two_largest_of_each_group_of_input_channels() -> None:
    w = np.array([[1.0], [4.0], [3.0], [2.0], [5.0], [6.0], [7.0]])
    scores, sizes = unit_scores(w, Pattern("n:m", keep=2, of=4))
    (dropped,) = choose([scores], [sizes], sparsity=1.0)
    # Of the three channels that are left over, two stay: half, rounded up.
    assert expand(dropped, w.shape, Pattern("n:m", keep=2, of=4)).ravel().tolist() == [0, 1, 1, 0, 0, 1, 1]
    assert most_sparsity(Pattern("n:m", keep=2, of=4), [w.shape]) == 3 / 7


@given(SHAPES, st.floats(0, 0.99), st.integers(0, 100))
def test_the_quantile_zeroes_the_smallest_weights_and_as_many_as_wanted(
    shape: tuple[int, ...], sparsity: float, seed: int
) -> None:
    magnitude = normalised(kernel(shape, seed), "rms")
    scores, sizes = unit_scores(magnitude, Pattern("weight"))
    (dropped,) = choose([scores], [sizes], sparsity=sparsity)
    assert abs(dropped.sum() - min(sparsity * scores.size, scores.size - 1)) <= 0.5 + 1e-6
    if dropped.any():
        assert scores[dropped].max() <= scores[~dropped].min()


@given(SHAPES, st.sampled_from([4, 8, 16, 32]), st.floats(0, 0.99))
def test_masks_of_blocks_are_whole_blocks(shape: tuple[int, ...], size: int, sparsity: float) -> None:
    pattern = Pattern("block", size)
    scores, sizes = unit_scores(normalised(kernel(shape), "rms"), pattern)
    (dropped,) = choose([scores], [sizes], sparsity=sparsity)
    mask = expand(dropped, shape, pattern)
    assert mask.shape == shape
    assert mask.any()
    for start in range(0, shape[-1], size):
        block = mask[..., start : start + size]
        assert (block.all(axis=-1) | ~block.any(axis=-1)).all()


@given(SHAPES, st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 8)]))
def test_no_group_of_n_to_m_keeps_more_than_n(shape: tuple[int, ...], numbers: tuple[int, int]) -> None:
    keep, of = numbers
    pattern = Pattern("n:m", keep=keep, of=of)
    scores, sizes = unit_scores(normalised(kernel(shape), None), pattern)
    (dropped,) = choose([scores], [sizes], sparsity=1.0)
    mask = expand(dropped, shape, pattern)
    for start in range(0, shape[-2], of):
        assert mask[..., start : start + of, :].sum(axis=-2).max() <= keep


def test_over_the_network_the_weaker_layer_loses_more_but_keeps_its_best_unit() -> None:
    weak, strong = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 3.0, 4.0])
    ones = np.ones(4, int)
    each = choose([weak, strong], [ones, ones], sparsity=0.5)
    assert [drop.tolist() for drop in each] == [[1, 1, 0, 0], [1, 1, 0, 0]]
    together = choose([weak, strong], [ones, ones], sparsity=0.5, scope="network")
    assert [drop.tolist() for drop in together] == [[1, 1, 1, 0], [1, 0, 0, 0]]


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])),
    st.floats(0, 0.999),
    st.integers(1, 16),
)
def test_units_of_one_size_go_as_if_they_were_sorted(scores: Any, share: float, size: int) -> None:
    (dropped,) = choose([scores], [np.full(len(scores), size)], sparsity=share)
    held = scores.copy()
    held[np.argmax(held)] = np.inf
    order = sorted(range(len(scores)), key=lambda place: (held[place], place))
    count = sum((place + 0.5) < share * len(scores) for place in range(len(scores)))
    wanted = [place for place in order[:count] if np.isfinite(held[place])]
    assert sorted(wanted) == np.flatnonzero(dropped).tolist()


def test_a_threshold_zeroes_what_scores_less() -> None:
    (dropped,) = choose([np.array([0.1, 0.5, 0.49, 2.0])], [np.ones(4, int)], threshold=0.5)
    assert dropped.tolist() == [True, False, True, False]


def test_the_cubic_schedule_rises_as_in_the_paper() -> None:
    schedule = Schedule(begin=100, end=300, frequency=50)
    assert [step for step in range(400) if schedule.chosen(step - 1, step) == step] == [100, 150, 200, 250, 300]
    assert [schedule.chosen(*steps) for steps in ((100, 149), (100, 203), (240, 500), (300, 301))] == [
        None,
        200,
        300,
        None,
    ]
    assert [schedule.share(step) for step in (0, 99, 100, 200, 300, 1000)] == [0, 0, 0, 1 - 0.5**3, 1, 1]
    assert Schedule(0, 10, 3, initial=0.5).share(0) == 0.5
    assert Schedule().share(0) == 1
    assert Schedule().chosen(-1, 0) == 0
    assert Schedule.over(1000) == Schedule(0, 500, 10)
    assert Schedule.over(1) == Schedule(0, 1, 1)


@pytest.mark.parametrize("fields", [(-1, 0, 1), (5, 4, 1), (0, 1, 0), (0, 1, 1, 1.5)])
def test_a_schedule_that_cannot_be_meant_is_refused(fields: Any) -> None:
    with pytest.raises(InputError, match="begin <= end"):
        Schedule(*fields)


@pytest.mark.parametrize("fields", [(0.5, 1.5), (0, 4, 1.0), (0, 4, True), ("0", 4), (0, 4, 1, "all")])
def test_a_schedule_counts_in_whole_numbers(fields: Any) -> None:
    with pytest.raises(InputError, match=r"Schedule: \w+=.*: wanted a"):
        Schedule(*fields)
    assert Schedule(np.int64(0), np.int32(4)) == Schedule(0, 4)
