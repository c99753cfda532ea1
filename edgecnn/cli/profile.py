"""edgecnn profile: where the time of a model goes."""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command, file_name
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file")
    parser.add_argument(
        "--save",
        action="append",
        default=[],
        type=file_name,
        metavar="FILE",
        help=".html (a page), .png (a picture; needs matplotlib), .json, or .trace.json (for ui.perfetto.dev); may be repeated",
    )
    parser.add_argument(
        "--data",
        type=file_name,
        metavar="FILE",
        help=".npy, or .npz with the input names; the first image is used (default: zeros)",
    )
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="runs to take medians of (default: 50)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: what the process may use")
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.files import check_free, suffix_of
    from edgecnn.tools.profile import SUFFIXES, profile_blocks, profile_file

    for path in arguments.save:
        suffix_of(path, SUFFIXES, "a profile")
        check_free(path, arguments.force)
    with progress(f"measuring {arguments.model}"):
        profile = profile_file(arguments.model, arguments.data, arguments.threads, arguments.runs)
        for path in arguments.save:
            profile.save(path)
    text = "\n".join([profile.table(), *(f"written: {path}" for path in arguments.save)])
    blocks = [*profile_blocks(profile), *(f"written: {path}" for path in arguments.save)]
    return Answer({**profile.to_json(), "file": arguments.model, "written": arguments.save}, text, blocks=blocks)


COMMAND = Command(
    "profile",
    "Show where the time of a model goes: each step's time, work, bytes, kernel, and share of what this machine can.",
    "edgecnn profile model.ecnn\nedgecnn profile model.ecnn --save profile.html --save profile.trace.json",
    _add_arguments,
    _run,
    "Times are taken inside the runtime where one step ends and the next begins; the whole call is measured with that off. Efficiency is\n"
    "how near a step comes to the nearest of two limits, multiply-adds in registers and the cache's bandwidth, both measured here.",
)
