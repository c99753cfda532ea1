"""Say what is on a photo, or on each photo of a folder.

    python classify.py model.ecnn photo.jpg
    python classify.py model.ecnn photos/ --top 3

The model is what `edgecnn-convert` wrote; reading pictures needs Pillow (`pip install "edgecnn[image]"`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import edgecnn
from edgecnn.tools.condition import temperature
from edgecnn.tools.run import answer_file

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def pictures(path: Path) -> list[Path]:
    """The photo itself, or those of a folder, by name."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)


def main() -> int:
    """0: every photo was classified; 1: some could not be read; the exit codes of edgecnn otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an .ecnn file")
    parser.add_argument("source", type=Path, help="a photo, or a folder of photos")
    parser.add_argument("--top", type=int, default=5, help="how many classes to name (5)")
    parser.add_argument("--threads", type=int, help="how many cores to use (all)")
    arguments = parser.parse_args()

    try:
        model = edgecnn.load(arguments.model, threads=arguments.threads)
    except edgecnn.Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    found = pictures(arguments.source)
    if not found:
        print(f"{arguments.source}: no photos ({', '.join(PICTURES)})", file=sys.stderr)
        return 3
    failures, computing, started = 0, 0.0, time.perf_counter()
    for path in found:
        try:
            answers = answer_file(model, path, top=arguments.top)
        except edgecnn.Error as error:
            print(error, file=sys.stderr)
            failures += 1
            continue
        computing += answers.milliseconds
        print(f"{path.name}  {answers.milliseconds:.1f} ms")
        print(answers, flush=True)
    done = len(found) - failures
    if done > 1:
        seconds, degrees = time.perf_counter() - started, temperature()
        heat = "" if degrees is None else f", {degrees:.0f} °C"
        print(
            f"{done} photos, {done / seconds:.1f} a second with reading, {computing / done:.1f} ms each without{heat}"
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
