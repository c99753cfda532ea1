"""The scripts for the Raspberry Pi, with folders of pictures in place of a camera."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patience import HUNG
from small_models import mean_classifier, save

SCRIPTS = Path(__file__).parents[1] / "examples" / "raspberry_pi"
LABELS = {"labels": ["red", "green", "blue"], "preprocessing": {"scale": 1 / 255}}


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("red", "green", "blue")):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., number] = 255
        image.fromarray(pixels).save(folder / f"{number}_{name}.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(mean_classifier(metadata=LABELS), tmp_path)


def test_a_photo_and_a_folder_are_classified(model: Path, photos: Path) -> None:
    done = run("classify.py", model, photos / "1_green.png", "--top", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  1 green +1\.0", done.stdout, re.MULTILINE)
    done = run("classify.py", model, photos, "--top", "1")
    assert re.findall(r"^  \d (\w+)", done.stdout, re.MULTILINE) == ["red", "green", "blue"]
    assert "3 photos, " in done.stdout


def test_a_photo_that_cannot_be_read_does_not_end_the_folder(model: Path, photos: Path) -> None:
    (photos / "0_damaged.png").write_bytes(b"no picture")
    done = run("classify.py", model, photos)
    assert done.returncode == 1
    assert "0_damaged.png" in done.stderr
    assert "blue" in done.stdout
    assert run("classify.py", model, model.parent / "photos" / "none").returncode == 1


def test_a_folder_stands_in_for_a_camera(model: Path, photos: Path) -> None:
    done = run("camera.py", model, "--source", photos, "--pictures", 20, "--rate", 200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"20 pictures answered: [\d.]+ a second, \d+ ms, \d+ dropped", done.stdout)


def test_what_is_not_taken_in_time_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    import camera

    newest = camera.Newest()
    for number in range(5):
        newest.put(np.full((1,), number))
    taken = newest.take()
    assert taken is not None
    assert taken[1] == [4]
    assert newest.dropped == 4
    newest.end()
    assert newest.take() is None


def test_the_camera_stops_at_a_signal(model: Path, photos: Path) -> None:
    command = [sys.executable, "-P", str(SCRIPTS / "camera.py"), str(model), "--source", str(photos)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert " a second, " in process.stdout.readline()  # the first line comes after a second
        process.terminate()
        output, errors = process.communicate(timeout=HUNG)
    assert process.returncode == 0, errors
    assert "pictures answered" in output


def test_a_camera_that_is_not_there_is_told(model: Path, tmp_path: Path) -> None:
    done = run("camera.py", model, "--source", tmp_path / "none.mp4")
    assert done.returncode in (3, 7)  # 7: there is no OpenCV either
    assert done.stderr.count("\n") >= 1
    assert "Traceback" not in done.stderr


def test_the_unit_starts_the_script() -> None:
    text = (SCRIPTS / "edgecnn-camera.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert (SCRIPTS / command.split()[1]).exists()
