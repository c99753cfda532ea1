"""The script for a cluster, with the cores of this machine in place of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patience import HUNG
from small_models import dense_pair, mean_classifier, save

pytest.importorskip("ray", reason="Ray is not installed")

SCRIPT = Path(__file__).parents[1] / "examples" / "ray_cluster" / "classify_folder.py"
RGB = {"labels": ["red", "green", "blue"], "preprocessing": {"scale": 1 / 255}}


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(SCRIPT), *map(str, arguments)]
    variables = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=HUNG, check=False)


@pytest.mark.slow
def test_a_folder_is_classified_and_a_damaged_photo_is_marked(tmp_path: Path) -> None:
    from PIL import Image
    from pyarrow import parquet

    model = save(mean_classifier(metadata=RGB), tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., number % 3] = 255
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "damaged.png").write_bytes(b"no picture")
    done = run(tmp_path, model, "photos", "answers", "--workers", "1:2", "--batch", "4", "--cpus", "0.5")
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^10 photos in [\d.]+ s, [\d.]+ a second; 1 could not be read$", done.stdout, re.MULTILINE)
    rows = parquet.read_table(tmp_path / "answers").to_pylist()
    answers = {Path(row["path"]).stem: (row["class_label"], row["error"]) for row in rows}
    assert len(rows) == 10
    assert {name: label for name, (label, _) in answers.items() if name != "damaged"} == {
        str(number): ("red", "green", "blue")[number % 3] for number in range(9)
    }
    assert answers["damaged"][0] == ""
    assert "no picture" in answers["damaged"][1]
    again = run(tmp_path, model, "photos", "answers")
    assert again.returncode == 2
    assert "has files already" in again.stderr


def test_what_is_wrong_with_the_model_is_told_before_a_cluster_starts(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "none.ecnn", "photos", "answers")
    assert done.returncode == 3
    assert "none.ecnn" in done.stderr
    done = run(tmp_path, save(dense_pair(), tmp_path), "photos", "answers")
    assert done.returncode == 2
    assert "one input" in done.stderr
