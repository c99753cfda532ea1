"""What the fuzzer ever found stays mended, and the fuzzer does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from edgecnn.errors import Error
from mutations import MUTATIONS
from records import read_ecnn, read_message, write_ecnn, write_message
from targets import FORMATS, corpus, run, unmended

FUZZ = Path(__file__).parents[1] / "fuzz"

NEEDS = {"h5": "h5py", "keras": "h5py", "onnx": "onnx", "tflite": "tflite"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FORMATS for name in corpus(kind)])
def test_what_was_found_costs_an_error_that_is_documented(kind: str, name: str, tmp_path: Path) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    if name in unmended():
        pytest.skip(f"not mended yet: {unmended()[name]}")
    run(kind, corpus(kind)[name], str(tmp_path))


@pytest.mark.parametrize("kind", FORMATS)
def test_seeds_are_sound(kind: str, tmp_path: Path) -> None:
    """A seed that is refused would leave all that lies behind it untried."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    import edgecnn
    from edgecnn.converters import to_graph

    seeds = {name: data for name, data in corpus(kind).items() if name.startswith("seed-")}
    assert seeds
    for name, data in seeds.items():
        path = tmp_path / f"{name}.{kind}"
        path.write_bytes(data)
        assert edgecnn.load(path if kind == "ecnn" else to_graph(path)).inputs


def test_records_go_together_again() -> None:
    for data in (data for name, data in corpus("ecnn").items() if name.startswith("seed-")):
        assert write_ecnn(read_ecnn(data)) == data
    for data in (data for name, data in corpus("onnx").items() if name.startswith("seed-")):
        fields = read_message(data)
        assert fields
        assert write_message(fields) == data


@pytest.mark.parametrize("kind", FORMATS)
def test_mutations_are_repeated_by_their_seed(kind: str) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    first, second, *_ = corpus(kind).values()

    def mutants() -> list[bytes]:
        random = Random(1)
        return [MUTATIONS[kind](random, first, second) for _ in range(20)]

    made = mutants()
    assert len(set(made)) > 10
    assert kind == "h5" or made == mutants()  # HDF5 files hold the time of their making


def test_most_mutations_of_records_get_behind_the_checksums() -> None:
    """Of an .ecnn file's mutants more than half have a sound container."""
    from edgecnn.format.container import Checksums, parse_head

    random = Random(0)
    first, second, *_ = corpus("ecnn").values()
    sound = 0
    for _ in range(200):
        data = memoryview(MUTATIONS["ecnn"](random, first, second))
        try:
            _, sections = parse_head(data, "mutant")
            Checksums(data, sections, "mutant").wait()
            sound += 1
        except Error:
            pass
    assert sound > 100


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what a process uses")
def test_a_campaign_tries_files_and_keeps_what_it_finds(tmp_path: Path) -> None:
    command = [sys.executable, "-P", str(FUZZ / "run.py"), "--seconds", "3", "--seed", "1", "--formats", "ecnn"]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[0] == "seed 1"
    assert lines[-1].startswith("ecnn: ")
    kept = list(tmp_path.glob("ecnn/*.gz"))
    assert done.returncode == bool(kept)
    assert lines[-1].endswith(f" {len(kept)} new findings")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what a process uses")
def test_a_paced_campaign_tries_the_same_files_each_time(tmp_path: Path) -> None:
    command = [sys.executable, "-P", str(FUZZ / "run.py"), "--seconds", "1", "--seed", "1", "--formats", "ecnn"]
    told = []
    for _ in range(2):
        done = subprocess.run(
            [*command, "--paced", "--keep", str(tmp_path)], capture_output=True, text=True, check=True
        )
        told.append(re.sub(r"\d+ a second", "", done.stdout))
    assert told[0] == told[1]
    assert f"ecnn: {1000 + len(corpus('ecnn'))} files" in told[0]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what a process uses")
def test_a_crash_where_a_file_is_made_is_no_finding(tmp_path: Path) -> None:
    """libhdf5, which mutates files of earlier mutations, is not what is tried."""
    copy_fuzzer(tmp_path, ("ecnn",))
    mutations = tmp_path / "mutations.py"
    mutations.write_text(mutations.read_text().replace("MUTATIONS: dict", "import os\nMUTATIONS: dict", 1))
    mutations.write_text(mutations.read_text().replace('"ecnn": ecnn,', '"ecnn": lambda *_: os.abort(),', 1))
    command = [sys.executable, "-P", str(tmp_path / "run.py"), "--formats", "ecnn", "--seconds", "2"]
    done = subprocess.run([*command, "--keep", str(tmp_path / "kept")], capture_output=True, text=True, check=False)
    assert "ecnn: ended with -6 where a file was made" in done.stdout
    assert done.returncode == 0
    assert not (tmp_path / "kept").exists()


def copy_fuzzer(folder: Path, kinds: tuple[str, ...]) -> None:
    for path in (*FUZZ.glob("*.py"), FUZZ / "open.txt"):
        (folder / path.name).write_text(path.read_text())
    for kind in kinds:
        (folder / "corpus" / kind).mkdir(parents=True)
        for path in (FUZZ / "corpus" / kind).glob("seed-*"):
            (folder / "corpus" / kind / path.name).write_bytes(path.read_bytes())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what a process uses")
@pytest.mark.parametrize(
    ("fault", "found"), [("os.abort()", "ended with -6"), ("while True: pass", "hang"), ("1 / 0", "ZeroDivisionError")]
)
def test_crashes_hangs_and_other_errors_are_findings(fault: str, found: str, tmp_path: Path) -> None:
    """A fuzzer whose target does wrong with every file."""
    copy_fuzzer(tmp_path, ("ecnn",))
    targets = tmp_path / "targets.py"
    targets.write_text(
        targets.read_text().replace(
            '"""Load from memory, describe, call."""',
            f"global tried\n    tried = globals().get('tried', 0) + 1\n    if tried > 20:\n        {fault}",
            1,
        )
    )
    command = [sys.executable, "-P", str(tmp_path / "run.py"), "--formats", "ecnn", "--seconds"]
    seconds = "12" if found == "hang" else "4"
    done = subprocess.run(
        [*command, seconds, "--keep", str(tmp_path / "kept")], capture_output=True, text=True, check=False
    )
    assert f"ecnn: {found}" in done.stdout
    assert done.returncode == 1
    assert list((tmp_path / "kept" / "ecnn").iterdir())
