"""Where the time of a model goes, as a table, JSON, a trace, a page or a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from typing import Any

from edgecnn.errors import InputError, MissingPackageError
from edgecnn.files import suffix_of, write_file
from edgecnn.runtime.model import load
from edgecnn.runtime.profiling import CALL, Profile
from edgecnn.tools.arrays import read_arrays
from edgecnn.tools.info import cpu_name
from edgecnn.tools.page import render
from edgecnn.tools.text import Bar, Block, Table

SUFFIXES = (".json", ".html", ".png", ".trace.json")

COLOURS = ("#c62d1f", "#ee8a52", "#f3cf76", "#86b8dc", "#2f67b1")
"""From no efficiency to all of it; the same as in pages/page.css."""


def profile_file(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    runs: int = 50,
) -> Profile:
    """Measure an .ecnn file's steps on one image.

    Args:
        path: the model.
        data: .npy or .npz for its inputs, of which the first image is taken; None: zeros.
        threads: as for `load`.
        runs: how many times; medians are given.

    Raises:
        ModelFileError, DataFileError: a file cannot be read.
        InputError: the data do not fit, or a size is not known.
    """
    model = load(path, threads=threads)
    x = None if data is None else read_arrays(data, [spec.name for spec in model.inputs])
    unknown = [spec.name for spec in model.inputs if None in spec.shape[1:]]
    if x is None and unknown:
        raise InputError(
            f"{path}: the size of input {unknown[0]!r} is unknown; give an image of the size you want with --data"
        )
    return model.profile(x, runs)


def profile_blocks(profile: Profile) -> list[Block]:
    """The profile for a terminal: `Profile.table` with bars, as long as the time and coloured by efficiency."""
    longest = max((step["median_ms"] for step in profile.steps), default=1.0) or 1.0
    rows = [
        (
            f"{step['median_ms']:.4f}",
            f"{100 * step['share']:.1f} %",
            Bar(step["median_ms"] / longest, step["efficiency"]),
            f"{step['gflops']:.1f}",
            f"{100 * step['share_of_peak']:.0f} %",
            f"{step['bandwidth']:.1f}",
            step["operator"],
            step["kernel"],
            step["node"],
        )
        for step in profile.steps
    ]
    header = ("ms", "share", "efficiency by colour", "GFLOP/s", "of peak", "GB/s", "operator", "kernel", "node")
    return [Table(header, rows, "rrlrrrlll"), *profile.table().splitlines()[-2:]]


def save(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Write a profile; see `Profile.save`."""
    write_file(path, WRITERS[suffix_of(path, SUFFIXES, "a profile")](profile))


def as_json(profile: Profile) -> bytes:
    """All its fields."""
    return (json.dumps(profile.to_json(), indent=1) + "\n").encode()


def as_page(profile: Profile) -> bytes:
    """A page that needs nothing else."""
    data = {**profile.to_json(), "machine": cpu_name()}
    return render("profile", f"{profile.model}: profile", data).encode()


def as_trace(profile: Profile) -> bytes:
    """The recorded runs, one after the other, in the Trace Event Format that Perfetto and chrome://tracing read; times in
    microseconds, the bytes that live in the arena as a counter.

    Source: "Trace Event Format", Google, 2016: complete events (X), counters (C) and metadata (M).
    """
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": 1, "name": "process_name", "args": {"name": f"edgecnn {profile.model}"}},
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": f"{profile.threads} threads"}},
    ]
    alive = [
        sum(place["size"] for place in profile.placements if place["first"] <= index <= place["last"])
        for index in range(len(profile.steps))
    ]
    now = 0.0
    for number, run in enumerate(profile.recorded):
        events.append(_event(f"run {number + 1}", now, 1e3 * sum(run), {"threads": profile.threads}))
        for step, milliseconds, live in zip(profile.steps, run, alive, strict=True):
            told = ("operator", "kernel", "shape", "macs", "bytes", "weight_bytes")
            events.append(_event(step["node"], now, 1e3 * milliseconds, {key: step[key] for key in told}))
            events.append({"ph": "C", "pid": 1, "name": "arena", "ts": now, "args": {"bytes": live}})
            now += 1e3 * milliseconds
    record = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"instruction_set": profile.instruction_set}}
    return (json.dumps(record) + "\n").encode()


def _event(name: str, start: float, duration: float, told: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "pid": 1, "tid": 1, "name": name, "cat": "step", "ts": start, "dur": duration, "args": told}


def as_picture(profile: Profile) -> bytes:
    """A PNG: the bar of the steps, the longest ones, and the roofline.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError('pictures of profiles need matplotlib: pip install "edgecnn[plot]"') from error
    colours = LinearSegmentedColormap.from_list("efficiency", COLOURS)
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(0.7, 4), width_ratios=(1.15, 1))
    _draw_bar(figure.add_subplot(grid[0, :]), profile, colours)
    _draw_longest(figure.add_subplot(grid[1, 0]), profile, colours)
    _draw_roofline(figure.add_subplot(grid[1, 1]), profile, colours)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    return drawn.getvalue()


def _plain(name: str, most: int = 42) -> str:
    """A name as matplotlib shall show it: "$" would begin a formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def _colour(step: dict[str, Any], colours: Any) -> Any:
    return "#9aa3b0" if step["operator"] == CALL else colours(step["efficiency"])


def _draw_bar(axes: Any, profile: Profile, colours: Any) -> None:
    start = 0.0
    for step in profile.steps:
        axes.barh(0, step["median_ms"], left=start, color=_colour(step, colours), edgecolor="white", linewidth=0.4)
        start += step["median_ms"]
    threads = f"{profile.threads} thread{'s' if profile.threads != 1 else ''}"
    axes.set_title(
        f"{_plain(profile.model)}: {profile.total_ms:.3g} ms, {profile.instruction_set}, {threads}",
        loc="left",
        fontsize=13,
    )
    axes.set_yticks([])
    axes.set_xlim(0, max(start, 1e-9))
    axes.set_xlabel("ms, step after step; red: little of what this machine can, blue: nearly all")
    axes.spines[["left", "top", "right"]].set_visible(False)


def _draw_longest(axes: Any, profile: Profile, colours: Any) -> None:
    longest = sorted(profile.steps, key=lambda step: -step["median_ms"])[:14][::-1]
    names = [_plain(step["node"], 34) for step in longest]
    places = range(len(longest))
    axes.barh(places, [step["median_ms"] for step in longest], color=[_colour(step, colours) for step in longest])
    axes.set_yticks(places, names, fontsize=8)
    for place, step in zip(places, longest, strict=True):
        axes.text(step["median_ms"], place, f" {100 * step['share']:.1f} %", va="center", fontsize=8, color="#5a6472")
    axes.margins(x=0.12)
    axes.set_title("longest steps, ms", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_roofline(axes: Any, profile: Profile, colours: Any) -> None:
    shown = [step for step in profile.steps if step["macs"] and step["bytes"]]
    intensities = [2 * step["macs"] / step["bytes"] for step in shown]
    ridges = [profile.peak_gflops / width for width in (profile.bandwidth, profile.cache_bandwidth)]
    low, high = min([0.5, *intensities, *ridges]) / 2, max([*intensities, *ridges]) * 2
    for width, name, style in ((profile.bandwidth, "memory", "--"), (profile.cache_bandwidth, "cache", "-")):
        ridge = profile.peak_gflops / width
        line = ([low, ridge, high], [low * width, profile.peak_gflops, profile.peak_gflops])
        axes.plot(*line, style, color="#5a6472", linewidth=1.3, label=f"{name} {width:.0f} GB/s")
    axes.scatter(
        intensities,
        [step["gflops"] for step in shown],
        s=[20 + 900 * step["share"] for step in shown],
        c=[colours(step["efficiency"]) for step in shown],
        edgecolors="white",
        linewidths=0.5,
        zorder=3,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("FLOP for each byte moved")
    axes.set_title(f"GFLOP/s; peak {profile.peak_gflops:.0f}", loc="left", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.grid(color="#e2e6ec", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


WRITERS: dict[str, Callable[[Profile], bytes]] = {
    ".json": as_json,
    ".html": as_page,
    ".png": as_picture,
    ".trace.json": as_trace,
}
