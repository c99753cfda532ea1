"""Classify what a camera sees, as fast as this computer can, always the newest picture.

    python camera.py model.ecnn                        # the Raspberry Pi camera, or the first USB camera
    python camera.py model.ecnn --source /dev/video2   # a USB camera (needs OpenCV)
    python camera.py model.ecnn --source film.mp4      # a video (needs OpenCV)
    python camera.py model.ecnn --source photos/       # a folder of pictures in place of a camera (needs Pillow)

Pictures that come while one is computed are dropped, so that answers never lag behind: only the newest one waits. Once a
second a line tells pictures a second, the time from picture to answer, how many were dropped, and the CPU's temperature;
--display shows the same on a screen. Ctrl-C, or systemd's stop, ends it.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgecnn
from edgecnn.tools.condition import condition
from edgecnn.tools.images import preprocessing_of, read_image

Array = np.ndarray[Any, Any]

WINDOW = 30
"""Pictures over which rate and latency are averaged."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Newest:
    """A place for one picture. What is put there takes the place of what nobody has taken: that one is dropped."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.picture: tuple[float, Array] | None = None
        self.ended = False
        self.dropped = 0
        self.error: Exception | None = None

    def put(self, picture: Array) -> None:
        """Put a picture there, with the time."""
        with self.changed:
            self.dropped += self.picture is not None
            self.picture = (time.monotonic(), picture)
            self.changed.notify()

    def end(self, error: Exception | None = None) -> None:
        """Tell that no picture will come."""
        with self.changed:
            self.ended, self.error = True, self.error or error
            self.changed.notify()

    def take(self) -> tuple[float, Array] | None:
        """Wait for a picture; None when there will be none."""
        with self.changed:
            while self.picture is None and not self.ended:
                self.changed.wait(1.0)  # with a limit, so that signals are seen
            picture, self.picture = self.picture, None
            return picture


def folder_pictures(folder: Path, shape: tuple[int | None, ...], rate: float) -> Iterator[Array]:
    """The pictures of a folder, over and over, so many a second."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise FileNotFoundError(f"{folder}: no pictures ({', '.join(PICTURES)})")
    images = [read_image(file, shape)[0] for file in files]
    due = time.monotonic()
    for image in itertools.cycle(images):
        yield image
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


def opencv_pictures(source: str, shape: tuple[int | None, ...]) -> Iterator[Array]:
    """The pictures of a USB camera or a video, in the model's size."""
    import cv2

    device: int | str = int(source) if source.isdecimal() else source
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        raise OSError(f"{source}: no camera or video that OpenCV can open")
    live = isinstance(device, int) or str(device).startswith("/dev/")
    pause = 0.0 if live else 1 / (capture.get(cv2.CAP_PROP_FPS) or 30)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    try:
        while True:
            there, picture = capture.read()
            if not there:
                return
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            if shape[1] and shape[2]:
                picture = cv2.resize(picture, (shape[2], shape[1]), interpolation=cv2.INTER_AREA)
            yield picture
            time.sleep(pause)
    finally:
        capture.release()


def raspberry_pi_pictures(shape: tuple[int | None, ...]) -> Iterator[Array]:
    """The pictures of the Raspberry Pi's own camera, scaled by its image processor."""
    from picamera2 import Picamera2

    camera = Picamera2()
    size = (shape[2] or 640, shape[1] or 480)
    # Picamera2 calls this order of bytes BGR888; in memory it is red, green, blue.
    camera.configure(camera.create_video_configuration(main={"size": size, "format": "BGR888"}))
    camera.start()
    try:
        while True:
            yield camera.capture_array("main")[: size[1], : size[0]]
    finally:
        camera.stop()


def pictures(source: str, shape: tuple[int | None, ...], rate: float) -> Iterator[Array]:
    """Where the pictures come from, by what is named and what is installed."""
    if source == "camera":
        try:
            import picamera2  # noqa: F401
        except ImportError:
            source = "0"
        else:
            return raspberry_pi_pictures(shape)
    if Path(source).is_dir():
        return folder_pictures(Path(source), shape, rate)
    return opencv_pictures(source, shape)


@dataclass
class Meter:
    """Rate and latency of the last pictures, and what the machine says."""

    def __post_init__(self) -> None:
        self.times: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self.count = 0

    def note(self, taken: float, done: float) -> None:
        """A picture taken at one time was answered at another."""
        self.times.append((taken, done))
        self.count += 1

    def text(self, dropped: int) -> str:
        """The line that is shown."""
        if not self.times:
            return "no picture yet"
        latency = sum(done - taken for taken, done in self.times) / len(self.times)
        span = self.times[-1][1] - self.times[0][1]
        rate = (len(self.times) - 1) / span if span > 0 else 0.0
        now = condition()
        heat = "" if now.temperature is None else f", {now.temperature:.0f} °C"
        return f"{rate:.1f} a second, {1e3 * latency:.0f} ms, {dropped} dropped{heat}" + "".join(
            f", {complaint.upper()}" for complaint in now.complaints
        )


def best(model: edgecnn.Model, answer: Array) -> str:
    """The likeliest class and its value."""
    values = answer.reshape(-1)
    index = int(np.argmax(values))
    label = model.labels[index] if model.labels and len(model.labels) == len(values) else str(index)
    return f"{label} {values[index]:.2f}"


def show(picture: Array, lines: list[str]) -> bool:
    """Draw the picture and the lines in a window; whether to go on (Q ends)."""
    import cv2

    large = cv2.resize(cv2.cvtColor(picture.astype(np.uint8), cv2.COLOR_RGB2BGR), (640, 480))
    for number, line in enumerate(lines):
        place = (10, 30 + 30 * number)
        cv2.putText(large, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 4)
        cv2.putText(large, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    cv2.imshow("edgecnn", large)
    return cv2.waitKey(1) & 0xFF != ord("q")


def main() -> int:
    """0: ended as asked; 3: a file or camera is not there; 7: a package is missing; the exit codes of edgecnn otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    parser.add_argument("model", type=Path, help="an .ecnn file")
    parser.add_argument(
        "--source", default="camera", help="a camera's number or device, a video, or a folder of pictures"
    )
    parser.add_argument("--threads", type=int, help="how many cores to use (all)")
    parser.add_argument("--pictures", type=int, help="end after so many answers")
    parser.add_argument("--rate", type=float, default=30.0, help="pictures a second from a folder (30)")
    parser.add_argument("--display", action="store_true", help="show the pictures in a window (needs OpenCV)")
    arguments = parser.parse_args()

    newest, stop = Newest(), threading.Event()
    try:
        model = edgecnn.load(arguments.model, threads=arguments.threads)
        (wanted,) = model.inputs
        preprocessing = preprocessing_of(model.metadata)
        stream = pictures(arguments.source, wanted.shape, arguments.rate)
    except edgecnn.Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ValueError:
        print(f"{arguments.model}: takes {len(model.inputs)} inputs; a camera gives one", file=sys.stderr)
        return 2

    def watch() -> None:
        try:
            for picture in stream:
                if stop.is_set():
                    break
                newest.put(picture)
            newest.end()
        except Exception as error:
            newest.end(error)

    def end(*_: object) -> None:
        stop.set()
        newest.ended = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()

    meter, told = Meter(), time.monotonic()
    while not stop.is_set() and (item := newest.take()) is not None:
        taken, picture = item
        answer = model(preprocessing.apply(picture[None]))
        done = time.monotonic()
        meter.note(taken, done)
        seen = best(model, answer)
        if arguments.display and not show(picture, [seen, meter.text(newest.dropped)]):
            break
        if done - told >= 1:
            told = done
            print(f"{seen}  ({meter.text(newest.dropped)})", flush=True)
        if arguments.pictures and meter.count >= arguments.pictures:
            break
    stop.set()
    watcher.join(2)
    print(f"{meter.count} pictures answered: {meter.text(newest.dropped)}")
    if isinstance(newest.error, ImportError):
        print(f"{newest.error}: pip install opencv-python-headless, or apt install python3-opencv", file=sys.stderr)
        return 7
    if newest.error is not None:
        print(newest.error, file=sys.stderr)
        return getattr(newest.error, "exit_code", 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
