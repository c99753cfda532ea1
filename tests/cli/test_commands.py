"""What every command keeps to: help, one JSON record, exit codes, one readable line, no file lost."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import cli
from edgecnn.cli import COMMANDS, convert_main, main
from edgecnn.cli.command import Answer, Command
from edgecnn.tools.verify import KEY, golden_sample
from small_models import convolution, mean_classifier, save

NAMES = [command.name for command in COMMANDS]

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.h5"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with model.h5, model.ecnn (mean of each channel), golden.ecnn (with a sample) and x.npy for them."""
    (tmp_path / "model.h5").write_bytes(DIGITS.read_bytes())
    save(mean_classifier(metadata={"labels": ["red", "green", "blue"]}), tmp_path)
    golden = mean_classifier()
    save(replace(golden, metadata={KEY: golden_sample(golden)}), tmp_path, "golden.ecnn")
    np.save(tmp_path / "x.npy", np.full((1, 4, 4, 3), 2.0))
    digits = np.random.default_rng(0).uniform(0, 16, (20, 8, 8, 1)).astype(np.float32)
    (tmp_path / "taken.json").write_text("{}")
    np.savez(tmp_path / "data.npz", x=digits, y=np.arange(20) % 10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replace_command(monkeypatch: pytest.MonkeyPatch, name: str, run: Any) -> None:
    commands = tuple(replace(command, run=run) if command.name == name else command for command in COMMANDS)
    monkeypatch.setattr(cli, "COMMANDS", commands)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr, where stdout stayed empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"example:\n  edgecnn {name}" in page
    assert "exit codes: 0 done" in page


def test_the_short_command_s_help_shows_the_short_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert_main(["--help"]) == 0
    page = capsys.readouterr().out
    assert "example:\n  edgecnn-convert model.h5" in page
    assert "edgecnn convert" not in page


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert [name for name in NAMES if f"\n    {name}" not in page] == []


def test_examples_are_understood_by_the_command_they_belong_to(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        for line in command.example.splitlines():
            words = line.split()
            assert words[:2] == ["edgecnn", command.name]
            assert main([*words[1:], "--no-such-option"]) == 2
            assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    import edgecnn

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgecnn {edgecnn.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "model.h5", "-o", "new.ecnn"],
        ["inspect", "model.ecnn"],
        ["run", "model.ecnn", "x.npy"],
        ["verify", "golden.ecnn"],
        ["compare", "model.ecnn", "golden.ecnn", "--data", "x.npy"],
        ["bench", "model.ecnn", "--runs", "10", "--threads", "1"],
        ["check", "model.h5", "--target", "pi4"],
        ["profile", "model.ecnn", "--runs", "3", "--threads", "1"],
        ["tune", "model.ecnn", "--threads", "1"],
        ["prune", "model.h5", "--data", "data.npz", "--epochs", "0", "--loss", "sparse_categorical_crossentropy"],
        ["info"],
        ["completion", "bash"],
    ],
    ids=NAMES,
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' variables, in NumPy 2
def test_json_is_one_record_on_stdout_and_nothing_else(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[:1] == ["prune"]:
        pytest.importorskip("keras")
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert isinstance(json.loads(captured.out), dict)
    # Work of over a second tells what it is doing.
    assert [line for line in captured.err.splitlines() if not (arguments[0] == "prune" and line.endswith(" ..."))] == []


def test_what_prune_is_told_reaches_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        """Instead of training."""

    def prune_file(*files: Any, **options: Any) -> None:
        given.update(options)
        raise Stop

    given: dict[str, Any] = {}
    monkeypatch.setattr("edgecnn.training.files.prune_file", prune_file)
    told = ["--distill", "0.25", "--epochs", "7", "--learning-rate", "0.5", "--normalise", "none", "--scope", "network"]
    with pytest.raises(Stop):
        main(["prune", "model.h5", "--data", "data.npz", *told])
    wanted = {"distill": 0.25, "epochs": 7, "learning_rate": 0.5, "normalise": None, "scope": "network"}
    assert {name: given[name] for name in wanted} == wanted


def test_json_has_no_nan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.full((1, 4, 4, 3), np.nan))
    assert main(["run", "model.ecnn", "x.npy", "--json"]) == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    record = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert record["outputs"]["means"]["max"] is None


def test_an_empty_name_of_a_file_is_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    tried = 0
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        for action in parser._actions:
            if action.metavar == "FILE":
                given = ["x"] * sum(not other.option_strings for other in parser._actions)
                assert main([command.name, *given, action.option_strings[-1], ""]) == 2
                assert f"{action.option_strings[-1]}: an empty name; wanted that of a file" in last_line(capsys)
                tried += 1
    assert tried >= 10
    assert convert_main(["model.h5", "-o", ""]) == 2
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("compare pipe.keras model.ecnn", "pipe.keras: is a pipe; wanted the file of a model"),
        ("compare pipe.onnx model.ecnn", "pipe.onnx: is a pipe; wanted the file of a model"),
        ("compare model.ecnn model.ecnn --data pipe.npz", "pipe.npz: is a pipe; wanted an .npy or .npz file"),
        ("run model.ecnn pipe.npy", "pipe.npy: is a pipe; wanted an .npy or .npz file"),
        ("run model.ecnn pipe.jpg", "pipe.jpg: is a pipe; wanted a picture"),
        ("run model.ecnn /dev/zero", "/dev/zero: is a device; wanted a picture"),
        ("profile model.ecnn --data pipe.npy", "pipe.npy: is a pipe; wanted an .npy or .npz file"),
        ("convert model.h5 -o new.ecnn --labels pipe.txt", "pipe.txt: is a pipe; wanted a text file of labels"),
        ("convert model.h5 -o new.ecnn --labels /dev/zero", "/dev/zero: is a device; wanted a text file of labels"),
        ("convert model.h5 -o new.ecnn --config pipe.json", "pipe.json: is a pipe; wanted"),
    ],
)
def test_what_is_no_file_is_refused_and_nobody_waits(
    arguments: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words.endswith("a picture"):
        pytest.importorskip("PIL")
    for word in arguments.split():
        if word.startswith("pipe"):
            os.mkfifo(word)
    assert main(arguments.split()) == 3
    assert f"error: {words}" in last_line(capsys)


def test_an_error_is_a_json_record_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "nothing.ecnn", "--json"]) == 3
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert (error["type"], error["exit_code"]) == ("ModelFileError", 3)
    assert "nothing.ecnn: no such file" in error["message"]
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "model.ecnn"],
        ["run", "model.ecnn", "x.npy", "--top", "0"],
        ["run", "model.ecnn", "x.npy", "--scale", "1/0"],
        ["run", "model.ecnn", "x.npy", "--threads", "0"],
        ["run", "model.ecnn", "x.npy", "--threads", "100000"],
        ["run", "model.ecnn", "x.npy", "--output", "answers.txt"],
        ["bench", "model.ecnn", "--threads", "1,,2"],
        ["bench", "model.ecnn", "--batch", "0"],
        ["bench", "model.ecnn", "--seconds", "nan"],
        ["check", "model.h5", "--target", "pi6"],
        ["check", "model.h5", "--max-ms", "-1"],
        ["profile", "model.ecnn", "--runs", "0"],
        ["profile", "model.ecnn", "--save", "profile.txt"],
        ["profile", "model.ecnn", "--save", "x.npy"],
        ["profile", "model.ecnn", "--save", "taken.json"],
        ["convert", "."],
        ["convert", "model.h5", "-o", "model.h5", "--force"],
        ["convert", "model.h5", "-o", "new.ecnn", "--weights", "int4"],
        ["convert", "model.h5", "-o", "new.ecnn", "--weights", "int8"],
        ["prune", "model.h5"],
        ["prune", "model.h5", "--data", "data.npz", "--sparsity", "1.0"],
        ["prune", "model.h5", "--data", "data.npz", "--pattern", "rows"],
        ["prune", "model.h5", "--data", "data.npz", "--distill", "2"],
        ["prune", "model.h5", "--data", "x.npy"],
        ["prune", "model.h5", "--data", "data.npz", "-o", "pruned.h5"],
        ["prune", "model.ecnn", "--data", "data.npz"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if arguments[:1] == ["prune"]:
        pytest.importorskip("keras")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == 2
    assert "error: " in last_line(capsys)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_int8_is_refused_with_a_sentence_that_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "model.h5", "-o", "new.ecnn", "--weights", "int8"]) == 2
    assert "does not quantize; use --weights float16" in last_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "nothing.h5"],
        ["convert", "x.npy"],
        ["convert", "cut.h5", "-o", "new.ecnn"],
        ["convert", "model.h5", "-o", "no/such/folder/m.ecnn"],
        ["convert", "model.h5", "-o", "new.ecnn", "--labels", "nothing.txt"],
        ["convert", "model.h5", "-o", "new.ecnn", "--labels", "x.npy"],
        ["convert", "model.h5", "-o", "new.ecnn", "--labels", "empty.txt"],
        ["inspect", "nothing.ecnn"],
        ["inspect", "x.npy"],
        ["inspect", "cut.h5"],
        ["inspect", "."],
        ["run", "cut.ecnn", "x.npy"],
        ["run", "model.ecnn", "nothing.npy"],
        ["run", "model.ecnn", "nothing.jpg"],
        ["run", "model.ecnn", "model.h5"],
        ["run", "model.ecnn", "x.npy", "--output", "no/such/folder/y.npy"],
        ["bench", "cut.ecnn"],
        ["check", "nothing.keras"],
        ["check", "cut.h5"],
        ["profile", "cut.ecnn"],
        ["profile", "model.ecnn", "--save", "no/such/folder/p.json"],
        ["prune", "nothing.keras", "--data", "data.npz"],
        ["prune", "cut.h5", "--data", "data.npz"],
        ["prune", "model.h5", "--data", "nothing.npz"],
        ["prune", "model.h5", "--data", "data.npz", "-o", "no/such/folder/m.keras"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_missing_or_corrupt_is_3(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[:1] == ["prune"]:
        pytest.importorskip("keras")
    (folder / "cut.h5").write_bytes(DIGITS.read_bytes()[:20_000])
    (folder / "cut.ecnn").write_bytes((folder / "model.ecnn").read_bytes()[:-1])
    (folder / "empty.txt").write_text("\n\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == 3
    assert last_line(capsys).startswith(f"edgecnn {arguments[0]}: error: ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture(scope="module")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.h5 with the class of two layers changed to one that does not exist."""
    import h5py

    path = tmp_path_factory.mktemp("unsupported") / "model.h5"
    path.write_bytes(DIGITS.read_bytes())
    with h5py.File(path, "r+") as file:
        configuration = json.loads(file.attrs["model_config"])
        for layer in configuration["config"]["layers"]:
            if layer["config"]["name"] in ("stem_relu", "block_1_depthwise_relu"):
                layer["class_name"] = "MagicActivation"
        file.attrs["model_config"] = json.dumps(configuration)
    return path


def test_unsupported_layers_are_4_and_all_are_listed(
    unsupported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m.ecnn"
    assert main(["convert", str(unsupported), "-o", str(target)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "stem_relu (MagicActivation)" in captured.err
    assert "block_1_depthwise_relu (MagicActivation)" in captured.err
    assert not target.exists()


def test_unsupported_layers_are_items_of_the_json_record(
    unsupported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert_main([str(unsupported), "-o", str(tmp_path / "m.ecnn"), "--json"]) == 4
    layers = json.loads(capsys.readouterr().out)["error"]["layers"]
    assert [layer["path"] for layer in layers] == ["stem_relu", "block_1_depthwise_relu"]
    assert {layer["class_name"] for layer in layers} == {"MagicActivation"}


def test_a_missing_package_is_7_with_the_line_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["run", "model.ecnn", "photo.jpg"]) == 7
    assert 'pip install "edgecnn[image]"' in last_line(capsys)


def test_a_missing_instruction_set_is_7(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGECNN_ISA", "mmx")
    assert main(["bench", "model.ecnn"]) == 7
    assert "mmx" in last_line(capsys)


def test_a_bug_is_1_with_a_plea_and_without_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Any) -> Answer:
        raise ZeroDivisionError("one by none")

    replace_command(monkeypatch, "inspect", fail)
    assert main(["inspect", "model.ecnn"]) == 1
    error = capsys.readouterr().err
    assert "error: ZeroDivisionError: one by none" in error
    assert "a bug of edgecnn; please report it" in error
    assert "--debug" in error
    assert "Traceback" not in error


def test_debug_adds_the_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "nothing.ecnn", "--debug"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.splitlines()[-1].startswith("edgecnn inspect: error: nothing.ecnn")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (MemoryError(), 3),
        (PermissionError(13, "Permission denied", "model.ecnn"), 3),
    ],
)
def test_what_the_system_does_is_no_bug(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Any) -> Answer:
        raise error

    replace_command(monkeypatch, "info", fail)
    assert main(["info"]) == code
    assert "bug" not in capsys.readouterr().err


# With and without the buffer that a pipe or a file gets, and with nothing else that this machine may have set.
BARE = pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])

OUTPUTS = pytest.mark.parametrize(
    "arguments", [["info"], ["info", "--json"], ["inspect", "model.ecnn"], ["--help"], ["--version"], ["run", "--help"]]
)


def alone(arguments: list[str], environment: dict[str, str], **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """`edgecnn` in a process that has these variables and no others."""
    code = f"import sys; from edgecnn.cli import main; sys.exit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=False, **streams)


@BARE
@OUTPUTS
def test_a_reader_that_goes_away_makes_no_noise(
    folder: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = alone(arguments, environment, stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


@BARE
def test_an_error_stays_what_it_is_when_nobody_reads_its_record(folder: Path, environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = alone(["inspect", "none.ecnn", "--json"], environment, stdout=gone, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr.decode().splitlines() == ["edgecnn inspect: error: none.ecnn: no such file"]


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")


@FULL
@BARE
@OUTPUTS
def test_an_output_that_is_full_is_told(folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        done = alone(arguments, environment, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert line.endswith("error: standard output: No space left on device")


@FULL
@BARE
def test_an_exit_code_stands_when_its_reason_cannot_be_written(folder: Path, environment: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        assert alone(["inspect", "none.ecnn"], environment, stdout=subprocess.DEVNULL, stderr=full).returncode == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 3), ("2>&-", 0), ("<&-", 0)])
def test_streams_that_are_closed_from_the_start(folder: Path, closed: str, code: int) -> None:
    call = "import sys; from edgecnn.cli import main; sys.exit(main(['inspect', 'model.ecnn']))"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -P -c "$1" {closed}', sys.executable, call],
        capture_output=True,
        env={},
        check=False,
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_control_characters_of_a_file_never_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "evil\x1b[2J\x07\u202e"
    path = save(mean_classifier(name=evil, metadata={"labels": [evil] * 3, evil: evil}), tmp_path)
    np.save(tmp_path / "x.npy", np.ones((4, 4, 3)))
    for arguments in (["inspect", str(path)], ["run", str(path), str(tmp_path / "x.npy")]):
        for option in ([], ["--json"]):
            assert main([*arguments, *option]) == 0
            assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_control_characters_in_an_error_never_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "a\x1b[2Jb.ecnn")]) == 3
    assert "a\\x1b[2Jb.ecnn" in last_line(capsys)


def test_a_terminal_of_few_characters_gets_escapes(folder: Path) -> None:
    save(mean_classifier(metadata={"labels": ["grün", "rot", "blau"]}), folder, "german.ecnn")
    code = "import sys; from edgecnn.cli import main; sys.exit(main(['run', 'german.ecnn', 'x.npy']))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=environment, check=True)
    assert b"gr\\xfcn" in done.stdout


def test_work_of_over_a_second_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    from edgecnn.cli import progress

    monkeypatch.setattr(progress, "PATIENCE", 3600)
    with progress.progress("counting") as tell:
        tell("counting on")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    told = ""
    with progress.progress("counting") as tell:
        while not told:
            time.sleep(0.01)
            told = capsys.readouterr().err
        tell("counting on")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told + captured.err == "counting ...\ncounting on ...\n"


def test_every_command_is_a_file_of_its_own() -> None:
    for command in COMMANDS:
        assert isinstance(command, Command)
        assert command.run.__module__ == f"edgecnn.cli.{command.name}"


def test_the_installed_commands_work(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        [scripts / "edgecnn-convert", "model.h5", "--force"], capture_output=True, text=True, check=True
    )
    assert "DepthwiseConv2D" in done.stdout
    done = subprocess.run([scripts / "edgecnn", "inspect", "model.ecnn"], capture_output=True, text=True, check=True)
    assert "depthwise_conv" in done.stdout
    assert done.stderr == ""


def test_inspect_shows_what_convolutions_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(save(convolution(), tmp_path))]) == 0
    page = capsys.readouterr().out
    for word in ("conv", "N x 16 x 16 x 8", "relu", "float32", "73,728", "296", "weights", "CRC-32"):
        assert word in page
