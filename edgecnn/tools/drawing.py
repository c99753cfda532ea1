"""Where the boxes and lines of a drawn graph lie: from top to bottom, in layers, with few crossings.

Source: Sugiyama, Tagawa & Toda 1981, "Methods for visual understanding of hierarchical system structures"; places along a
layer by isotonic regression, which keeps the order and the distances and is nearest to where the neighbours are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 8
"""Down and up, for the order in a layer."""
PULLS = 30
"""Rounds in which boxes move towards their neighbours."""
BEND = 0.28
"""Room that a line takes between two boxes, as a part of theirs."""


@dataclass(frozen=True)
class Drawing:
    """Places in units of a box and its distance.

    Attributes:
        places: (x, layer) of the middle of every box, x from 0 on.
        lines: for each edge the places that it goes through, both ends included.
        width, layers: how much it takes.
    """

    places: Mapping[str, tuple[float, int]]
    lines: Mapping[tuple[str, str], tuple[tuple[float, int], ...]]
    width: float
    layers: int


def lay_out(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Drawing:
    """Places for a graph without circles.

    Args:
        names: of the boxes, each after all that lead to it.
        edges: pairs of names, each pair once.
    """
    layer = dict.fromkeys(names, 0)
    into: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:
        into[end].append(start)
    for name in names:
        layer[name] = max((layer[start] + 1 for start in into[name]), default=0)
    count = max(layer.values(), default=-1) + 1
    rows: list[list[object]] = [[] for _ in range(count)]
    above: dict[object, list[object]] = {}
    below: dict[object, list[object]] = {}
    for name in names:
        rows[layer[name]].append(name)
        above[name], below[name] = [], []
    bends: dict[tuple[str, str], list[object]] = {}
    for start, end in edges:
        # A line through several layers gets a place in each, so that no box is drawn over it.
        way: list[object] = [start]
        for level in range(layer[start] + 1, layer[end]):
            bend = (start, end, level)
            rows[level].append(bend)
            above[bend], below[bend] = [], []
            way.append(bend)
        way.append(end)
        for one, other in itertools.pairwise(way):
            below[one].append(other)
            above[other].append(one)
        bends[start, end] = way[1:-1]
    _order(rows, above, below)
    x = _pull(rows, above, below)
    left = min(x.values(), default=0.0)
    places = {name: (x[name] - left, layer[name]) for name in names}
    lines = {
        edge: (
            places[edge[0]],
            *((x[bend] - left, layer[edge[0]] + 1 + i) for i, bend in enumerate(way)),
            places[edge[1]],
        )
        for edge, way in bends.items()
    }
    return Drawing(places, lines, max(x.values(), default=0.0) - left + 1, count)


Links = Mapping[object, list[object]]


def _order(rows: list[list[object]], above: Links, below: Links) -> None:
    """Sort each layer by the middle of its neighbours' places, down and up again."""
    index = {box: place for row in rows for place, box in enumerate(row)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for row in rows[1:] if down else reversed(rows[:-1]):
            middle = {
                box: sum(index[n] for n in neighbours[box]) / len(neighbours[box]) if neighbours[box] else index[box]
                for box in row
            }
            row.sort(key=lambda box: middle[box])
            index.update({box: place for place, box in enumerate(row)})


def _pull(rows: list[list[object]], above: Links, below: Links) -> dict[object, float]:
    """Places along the layers."""
    x: dict[object, float] = {box: place - (len(row) - 1) / 2 for row in rows for place, box in enumerate(row)}
    for _ in range(PULLS):
        for order in (rows, rows[::-1]):
            for row in order:
                wanted = []
                for box in row:
                    around = above[box] + below[box]
                    wanted.append(sum(x[n] for n in around) / len(around) if around else x[box])
                distances = [(_room(one) + _room(other)) / 2 for one, other in itertools.pairwise(row)]
                x.update(zip(row, _spread(wanted, distances), strict=True))
    return x


def _room(box: object) -> float:
    return BEND if isinstance(box, tuple) else 1.0


def _spread(wanted: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by least squares, that keep at least these distances from one to the next."""
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    # Pool adjacent violators: blocks of boxes that touch each other, with the mean of where they would be.
    blocks: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        mean, size = place - offset, 1
        while blocks and blocks[-1][0] >= mean:
            other, more = blocks.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        blocks.append((mean, size))
    found = [mean for mean, size in blocks for _ in range(size)]
    return [mean + offset for mean, offset in zip(found, offsets, strict=True)]
