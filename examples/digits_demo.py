"""The whole path on real data: train in Keras, convert, classify with edgecnn, compare.

Trains a small depthwise-separable CNN with batch normalisation on scikit-learn's handwritten digits (1797 pictures of
8 x 8 pixels), converts it with the command edgecnn-convert, classifies the held-back digits with edgecnn, and compares
answers, file sizes and latency with Keras and LiteRT. Everything it makes lies in examples/output/.

Without TensorFlow it starts from the trained examples/digits.h5 and the held-back digits in examples/digits_test.npz,
which also holds what Keras answered when that model was trained.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# TensorFlow reads these when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

import edgecnn

FOLDER = Path(os.path.relpath(Path(__file__).resolve().parent))
TRAINED = FOLDER / "digits.h5"
HELD_BACK = FOLDER / "digits_test.npz"

EPOCHS = 30
SEED = 0
ROUNDS = 51
ROUND_SECONDS = 0.01
TOLERANCE = 1e-5

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Digits:
    """Pictures, (N, 8, 8, 1) of 0 to 16 as float32, and the digits that they show, (N,)."""

    images: Array
    digits: Array


class Steps:
    """Says what is being done, with the number of the step."""

    def __init__(self, first: int, last: int) -> None:
        self.number, self.last = first - 1, last

    def __call__(self, text: str) -> None:
        self.number += 1
        print(f"[{self.number}/{self.last}] {text}", flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what native libraries print to themselves; shows it if they fail."""
    with tempfile.TemporaryFile() as noise:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)
            if failed:
                noise.seek(0)
                sys.stderr.write(noise.read().decode(errors="replace"))


def missing() -> str:
    """What training needs and is not here, or cannot be imported (TensorFlow may be built for another CPU); or ""."""
    for package, name in (("tensorflow", "TensorFlow"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(package) is None:
            return name
        if subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            return name
    return ""


def load_digits() -> tuple[Digits, Digits]:
    """Three quarters to train on and a quarter held back, each digit in the same share."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    source = load()
    images = source.images.astype(np.float32)[..., None]
    parts = train_test_split(images, source.target, test_size=0.25, random_state=SEED, stratify=source.target)
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


def build_network() -> Any:
    """A stem and three depthwise-separable blocks: 8 x 8 pixels to 10 digits."""
    import keras
    from keras import layers

    def activate(x: Any, name: str) -> Any:
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))

    def separable(x: Any, filters: int, strides: int, name: str) -> Any:
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = activate(x, f"{name}_depthwise")
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x)
        return activate(x, f"{name}_pointwise")

    image = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16, name="rescale")(image)
    x = activate(layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x), "stem")
    x = separable(x, 32, 1, "block_1")
    x = separable(x, 64, 2, "block_2")
    y = separable(x, 64, 1, "block_3")
    x = layers.Add(name="residual")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x), name="digits")


def train(data: Digits) -> Any:
    """A trained Keras model; the same one each time on the same machine."""
    import keras

    keras.utils.set_random_seed(SEED)
    model = build_network()
    steps = EPOCHS * -(-len(data.images) // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(data.images, data.digits, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


def save_keras(model: Any, path: Path) -> None:
    """Write the model without its optimizer's state."""
    with quiet():
        model.save(path, include_optimizer=False)


def convert_with_command(source: Path, target: Path, labels: Path) -> None:
    """Run edgecnn-convert, as a user would."""
    beside = Path(sys.executable).with_name("edgecnn-convert")
    command = [str(beside) if beside.exists() else "edgecnn-convert", str(source), "-o", str(target)]
    command += ["--labels", str(labels), "--force"]
    print("$ edgecnn-convert " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def to_litert(model: Any, path: Path) -> Callable[[Array], Array] | None:
    """Write the model as .tflite and give the function that computes it; None without a LiteRT."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return None
    import tensorflow as tf

    with quiet():
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def compute(image: Array) -> Array:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target))

    return compute


def compile_keras(model: Any) -> Callable[[Array], Array]:
    """Keras' fastest plain way for one picture: the model as a traced function."""
    import tensorflow as tf

    function = tf.function(
        lambda x: model(x, training=False), input_signature=[tf.TensorSpec((1, 8, 8, 1), tf.float32)]
    )
    return lambda image: np.asarray(function(image))


def measure(engines: dict[str, Callable[[Array], Array]], image: Array) -> dict[str, float]:
    """Milliseconds for one picture: the engines take turns, and each one's median over the rounds counts."""
    calls = {}
    for name, compute in engines.items():
        for _ in range(20):
            compute(image)
        started = time.perf_counter()
        for _ in range(10):
            compute(image)
        calls[name] = max(1, round(ROUND_SECONDS / ((time.perf_counter() - started) / 10)))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, compute in engines.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                compute(image)
            times[name].append(1e3 * (time.perf_counter() - started) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def draw(data: Digits, predicted: Array, path: Path) -> bool:
    """A grid of digits with what was read under each, the wrong ones first and in red. False without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        return False
    columns, rows, cell, text, margin = 12, 6, 64, 18, 6
    wrong = predicted != data.digits
    order = np.argsort(~wrong, kind="stable")[: columns * rows]
    width, height = cell + margin, cell + text + margin
    sheet = Image.new("RGB", (columns * width + margin, rows * height + margin), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for place, index in enumerate(order):
        left, top = margin + place % columns * width, margin + place // columns * height
        pixels = np.clip(255 - data.images[index, :, :, 0] * (255 / 16), 0, 255).astype(np.uint8)
        sheet.paste(Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST), (left, top))
        caption = f"{predicted[index]}, is {data.digits[index]}" if wrong[index] else str(predicted[index])
        color = "#c00000" if wrong[index] else "#007000"
        pen.text((left + cell // 2, top + cell + text // 2), caption, fill=color, font=font, anchor="mm")
        pen.rectangle((left - 1, top - 1, left + cell, top + cell), outline=color if wrong[index] else "#c0c0c0")
    sheet.save(path)
    return True


def percent(correct: Array) -> str:
    return f"{100 * float(np.mean(correct)):.2f} % ({int(np.sum(correct))} of {len(correct)})"


def compare_answers(data: Digits, keras_answers: Array, answers: Array) -> bool:
    """Print accuracy and agreement; whether edgecnn gives Keras' numbers."""
    largest = float(np.max(np.abs(keras_answers - answers)))
    print(f"      accuracy in Keras    {percent(keras_answers.argmax(1) == data.digits)}")
    print(f"      accuracy in edgecnn  {percent(answers.argmax(1) == data.digits)}")
    print(f"      same digit           {percent(keras_answers.argmax(1) == answers.argmax(1))}")
    print(f"      largest difference   {largest:.1e} of a probability")
    return largest <= TOLERANCE


def print_sizes(paths: list[Path]) -> None:
    """Sizes of the files that are there."""
    for path in paths:
        if path.exists():
            print(f"      {path.name:<13} {path.stat().st_size:>9,} bytes")


def print_latency(engines: dict[str, Callable[[Array], Array]], image: Array) -> None:
    """Check that the engines agree on the picture, then time them."""
    expected = engines["edgecnn"](image)
    for name, compute in engines.items():
        if not np.allclose(compute(image), expected, rtol=0, atol=1e-4):
            raise SystemExit(f"{name} and edgecnn differ on the picture that is timed")
    times = measure(engines, image)
    for name, milliseconds in times.items():
        print(f"      {name:<8} {milliseconds:8.4f} ms   {milliseconds / times['edgecnn']:6.2f} times edgecnn's")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-tensorflow", action="store_true", help="start from the trained examples/digits.h5")
    parser.add_argument("--keep", action="store_true", help="write the trained model to examples/digits.h5 as well")
    parser.add_argument("--first-step", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    say = Steps(arguments.first_step, arguments.first_step + 4)
    output = FOLDER / "output"
    output.mkdir(exist_ok=True)
    source, target, lite = output / "model.h5", output / "model.ecnn", output / "model.tflite"
    for path in (source, lite):
        path.unlink(missing_ok=True)

    model = None
    lacking = "TensorFlow" if arguments.without_tensorflow else missing()
    if not lacking:
        say(f"Training a small CNN on scikit-learn's handwritten digits in TensorFlow ({EPOCHS} epochs)")
        with quiet():
            import tensorflow as tf

            # One thread: so the latencies compare, and the training gives the same numbers each time.
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        training, data = load_digits()
        started = time.perf_counter()
        model = train(training)
        keras_answers = np.asarray(model.predict(data.images, verbose=0))
        save_keras(model, source)
        print(f"      {model.count_params():,} parameters, {time.perf_counter() - started:.0f} s")
        if arguments.keep:
            TRAINED.write_bytes(source.read_bytes())
            images, digits = data.images[..., 0].astype(np.uint8), data.digits.astype(np.uint8)
            np.savez_compressed(HELD_BACK, images=images, digits=digits, keras_answers=keras_answers)
    else:
        say(
            f"{lacking} is not {'used' if arguments.without_tensorflow else 'available here'}: starting from the trained examples/digits.h5"
        )
        with np.load(HELD_BACK) as kept:
            data = Digits(kept["images"].astype(np.float32)[..., None], kept["digits"].astype(np.int64))
            keras_answers = kept["keras_answers"]
        source.write_bytes(TRAINED.read_bytes())

    say("Converting it")
    labels = output / "labels.txt"
    labels.write_text("zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
    convert_with_command(source, target, labels)

    say(f"Classifying the {len(data.digits)} digits held back")
    single = edgecnn.load(target, threads=1)
    answers = edgecnn.load(target)(data.images)
    agrees = compare_answers(data, keras_answers, answers)

    say("Comparing file sizes, and latency of one picture on one thread (medians, taking turns)")
    engines: dict[str, Callable[[Array], Array]] = {"edgecnn": lambda image: np.asarray(single(image))}
    if model is not None:
        engines["Keras"] = compile_keras(model)
        litert = to_litert(model, lite)
        if litert is not None:
            engines["LiteRT"] = litert
    print_sizes([source, lite, target])
    print_latency(engines, data.images[:1])
    for name in ("Keras", "LiteRT"):
        if name not in engines:
            print(f"      {name:<8} not available here")

    say("Drawing digits with what was read")
    picture = output / "digits.png"
    drawn = draw(data, answers.argmax(1), picture)
    print(f"      {picture}" if drawn else "      no picture: Pillow is not available here")
    if not agrees:
        print(f"edgecnn differs from Keras by more than {TOLERANCE}: this is a bug, please report it", file=sys.stderr)
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
