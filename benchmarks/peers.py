"""edgecnn against LiteRT, ONNX Runtime and OpenVINO: one process, alternating rounds, medians, answers checked first.

python benchmarks/peers.py                                        # all networks, on 1 thread and on all cores
python benchmarks/peers.py --networks MobileNetV2,ResNet50 --threads 1,2 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import edgecnn
from edgecnn.runtime import cpu
from edgecnn.runtime.threads import available
from edgecnn.tools.bench import measure_peak
from edgecnn.tools.condition import condition, judge
from engines import ENGINES, OURS, Array, Engine, Run, difference
from first_answer import FirstAnswer, measure, median
from networks import NETWORKS, PRUNED, Prepared, prepare

SHORTEST_SAMPLE = 2.0
"""Milliseconds: calls that are faster are timed several at a time, for the clock and what surrounds a call to weigh little."""

SHORTEST_MEASUREMENT = 3.0
"""Seconds: fast networks get more rounds than asked for."""

FEWEST_ROUNDS = 5
"""Rounds that are made however long they take."""

WARM_UP, TRIAL = 3, 8
"""Untimed calls of a loaded engine; rounds that choose between formats of one."""

SLICE, IDLE_SHARE, LONGEST_WAIT = 0.002, 0.05, 0.25
"""Seconds slept at a time, share of them in which this process may compute and still counts as idle, seconds after which
to go on all the same."""

WAKE = 0.05
"""Seconds of untimed calls before a sample. For MobileNetV2 on two threads of two cores (AMD EPYC, Zen 5) one call was not
enough: the kernel first had to spread the woken threads over the cores again. Medians after one call, 30 and 60 ms: OpenVINO
4.2, 2.2 and 2.1 ms; edgecnn among peers 2.7, 2.0 and 2.0 ms, and 2.0 ms alone."""

PEAK_SECONDS = 0.01
"""How long the multiply-add peak is measured in each round."""


@dataclass
class Figures:
    """What is known of an engine on a network.

    Attributes:
        format: which of its files it ran (networks.FILES); None: none.
        lacks: why it was not timed, or what its file is not; "" if there is nothing to say.
        error: largest difference from Keras' answer, as a share of the largest output.
        calls: how many calls each time is the mean of.
        times: milliseconds a call, one for each round.
        first: load to first answer, and memory; None where not measured.
    """

    format: str | None = None
    lacks: str = ""
    error: float | None = None
    calls: int = 1
    times: list[float] = field(default_factory=list)
    first: FirstAnswer | None = None

    @property
    def median(self) -> float | None:
        """Milliseconds; None if not timed."""
        return statistics.median(self.times) if self.times else None

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        record = {"format": self.format, "lacks": self.lacks, "error": self.error, "calls": self.calls}
        record |= {"median_ms": self.median, "minimum_ms": min(self.times, default=None), "rounds": len(self.times)}
        return record | (asdict(self.first) if self.first else {})


@dataclass(frozen=True)
class Result:
    """A network on a number of threads.

    Attributes:
        peak_gflops: median of the multiply-add peak of as many threads, measured in the same rounds.
        macs: multiply-accumulates for one image.
    """

    network: str
    threads: int
    macs: int
    peak_gflops: float
    figures: dict[str, Figures]

    @property
    def best_peer(self) -> str | None:
        """The fastest engine but edgecnn."""
        timed = {name: f.median for name, f in self.figures.items() if name != OURS and f.median is not None}
        return min(timed, key=lambda name: timed[name]) if timed else None

    @property
    def ratio(self) -> float | None:
        """Best peer's time / edgecnn's: above 1 edgecnn is faster."""
        ours, peer = self.median(OURS), self.median(self.best_peer)
        return None if ours is None or peer is None else peer / ours

    @property
    def share_of_peak(self) -> float | None:
        """edgecnn's multiply-adds a second, as a share of the peak."""
        ours = self.median(OURS)
        return None if ours is None else 2e-6 * self.macs / ours / self.peak_gflops

    def median(self, engine: str | None) -> float | None:
        """Milliseconds; None if not timed."""
        return self.figures[engine].median if engine in self.figures else None

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        record = {"network": self.network, "threads": self.threads, "macs": self.macs, "peak_gflops": self.peak_gflops}
        record |= {"best_peer": self.best_peer, "ratio": self.ratio, "share_of_peak": self.share_of_peak}
        return record | {"engines": {name: figures.to_json() for name, figures in self.figures.items()}}


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds at least, seconds at most for a network and a number of threads, loads of each engine."""

    rounds: int
    seconds: float
    loads: int


def settle() -> None:
    """Wait until no thread of this process computes.

    Thread pools spin for a while after their work, to start the next sooner; on the cores of the engine that is measured
    next they would be other load.
    """
    end = time.perf_counter() + LONGEST_WAIT
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(SLICE)
        if time.process_time() - before < IDLE_SHARE * SLICE:
            return


def sample(run: Run, x: Array, calls: int) -> float:
    """Milliseconds a call, of an engine whose threads are awake, each on a core, and whose weights are in the caches."""
    settle()
    end = time.perf_counter() + WAKE
    run(x)
    while time.perf_counter() < end:
        run(x)
    started = time.perf_counter()
    for _ in range(calls):
        run(x)
    return 1e3 * (time.perf_counter() - started) / calls


def rounds(runs: dict[str, Callable[[], float]], fewest: int, least: float, most: float) -> dict[str, list[float]]:
    """Let all take turns, another one first in each round.

    Args:
        runs: name -> a function that gives one sample.
        fewest: rounds.
        least, most: seconds. The latter wins over `fewest`, but for FEWEST_ROUNDS.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names, made, started = list(runs), 0, time.perf_counter()
    while names:
        for i in range(len(names)):
            name = names[(made + i) % len(names)]
            samples[name].append(runs[name]())
        made += 1
        passed = time.perf_counter() - started
        if made >= FEWEST_ROUNDS and (passed >= most or (made >= fewest and passed >= least)):
            break
    return samples


def loaded(engine: Engine, network: Prepared, threads: int) -> tuple[Run | None, Figures]:
    """The engine with its fastest file that gives Keras' answer, and what is to be said about that."""
    figures, notes, runs = Figures(), [], {}
    errors: dict[str, float] = {}
    for format in engine.formats:
        if format not in network.files:
            notes.append(f"no {format} file ({network.lacks.get(format, 'not made')})")
            continue
        try:
            run = engine.load(network.files[format], threads)
            errors[format] = difference(run(network.x), network.expected)
        except Exception as error:  # Whatever an engine raises, the others are still measured.
            notes.append(f"{format} fails ({type(error).__name__}: {' '.join(str(error).split())[:300]})")
            continue
        if errors[format] <= engine.tolerance:
            runs[format] = run
        else:
            notes.append(f"{format} answers wrongly, by {errors[format]:.1e} of the largest output")
    figures.lacks = "; ".join(notes)
    if not runs:
        figures.error = min(errors.values(), default=None)
        return None, figures
    figures.format = fastest(runs, network.x)
    figures.error = errors[figures.format]
    return runs[figures.format], figures


def fastest(runs: dict[str, Run], x: Array) -> str:
    """Which of an engine's files is faster."""
    if len(runs) == 1:
        return next(iter(runs))
    trial = {name: (lambda run=run: sample(run, x, 1)) for name, run in runs.items()}
    times = rounds(trial, TRIAL, 0, math.inf)
    return min(times, key=lambda name: statistics.median(times[name][1:]))


def calls_of(run: Run, x: Array) -> int:
    """How many calls a sample needs."""
    milliseconds = min(sample(run, x, 1) for _ in range(WARM_UP))
    return max(1, math.ceil(SHORTEST_SAMPLE / milliseconds))


def compare(network: Prepared, engines: Sequence[Engine], threads: int, effort: Effort, isa: str) -> Result:
    """Measure one network on one number of threads."""
    figures: dict[str, Figures] = {}
    samplers: dict[str, Callable[[], float]] = {}
    x = network.x
    for engine in engines:
        run, figures[engine.name] = loaded(engine, network, threads)
        if run is not None:
            calls = figures[engine.name].calls = calls_of(run, x)
            samplers[engine.name] = lambda run=run, calls=calls: sample(run, x, calls)

    def sample_peak() -> float:
        settle()
        # More threads than cores take turns: together they have no more than the cores.
        return measure_peak(min(threads, available()), isa, PEAK_SECONDS)

    samples = rounds({"peak": sample_peak, **samplers}, effort.rounds, SHORTEST_MEASUREMENT, effort.seconds)
    for name in samplers:
        figures[name].times = samples[name]
    macs = edgecnn.load(network.files["ecnn"], threads=1).macs or 0
    return Result(network.name, threads, macs, statistics.median(samples["peak"]), figures)


def measure_first_answers(network: Prepared, result: Result, loads: int) -> None:
    """Add load to first answer and memory to the figures, engines taking turns."""
    measured: dict[str, list[FirstAnswer]] = {name: [] for name, f in result.figures.items() if f.format}
    for _ in range(loads):
        for name, answers in measured.items():
            file = network.files[result.figures[name].format or ""]
            answers.append(measure(name, file, network.folder / "input.npy", result.threads))
    for name, answers in measured.items():
        result.figures[name].first = median(answers) if answers else None


def number(value: float | None, digits: int) -> str:
    """A number for a table; a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, aligned for a terminal and readable as Markdown; all columns but the first to the right."""
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


class Notes:
    """Numbered notes below a table."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """What stands in the cell."""
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" ({self.texts.index(text) + 1})"

    def __str__(self) -> str:
        return "\n".join(f"({i}) {text}" for i, text in enumerate(self.texts, 1))


def speed_table(results: Sequence[Result], engines: Sequence[str]) -> str:
    """Medians, ratio to the best peer and share of the peak, with what cells lack below."""
    notes = Notes()

    def cell(result: Result, engine: str) -> str:
        figures = result.figures[engine]
        return number(figures.median, 3) + notes.mark(f"{engine}: {figures.lacks}" if figures.lacks else "")

    rows = [
        [
            result.network,
            *(cell(result, engine) for engine in engines),
            number(result.ratio, 3),
            "-" if result.share_of_peak is None else f"{100 * result.share_of_peak:.0f} %",
        ]
        for result in results
    ]
    header = ["network", *(f"{engine} ms" for engine in engines), f"best peer / {OURS}", "share of peak"]
    ratios = [result.ratio for result in results if result.ratio is not None]
    parts = [markdown(header, rows), str(notes)]
    if ratios:
        lowest = min((r for r in results if r.ratio is not None), key=lambda r: r.ratio or 0)
        parts.append(
            f"best peer / {OURS} over {len(ratios)} networks: geometric mean {statistics.geometric_mean(ratios):.3f}, "
            f"minimum {lowest.ratio:.3f} ({lowest.network})"
        )
    return "\n\n".join(part for part in parts if part)


def first_table(results: Sequence[Result], engines: Sequence[str]) -> str:
    """Load to first answer, and memory."""

    def cells(result: Result) -> Iterator[str]:
        answers = [result.figures[engine].first for engine in engines]
        yield from (number(answer and answer.load_ms, 1) for answer in answers)
        yield from (number(answer and answer.peak_bytes / 1e6, 1) for answer in answers)

    header = ["network", *(f"{engine} load ms" for engine in engines), *(f"{engine} peak MB" for engine in engines)]
    parts = [markdown(header, [[result.network, *cells(result)] for result in results])]
    for engine in engines[1:] if OURS in engines else ():
        pairs = [(r.figures[engine].first, r.figures[OURS].first) for r in results]
        both = [(theirs, ours) for theirs, ours in pairs if theirs and ours]
        if both:
            load = statistics.geometric_mean(theirs.load_ms / ours.load_ms for theirs, ours in both)
            memory = statistics.geometric_mean(max(1, t.peak_bytes) / max(1, o.peak_bytes) for t, o in both)
            parts.append(
                f"{engine} / {OURS}, geometric means: load to first answer {load:.2f}, peak memory {memory:.2f}"
            )
    return "\n".join([parts[0], "", *parts[1:]])


def machine(isa: str) -> dict[str, Any]:
    """What the figures stand on."""
    from importlib import metadata

    versions = {engine.package: metadata.version(engine.package) for engine in ENGINES.values()}
    return {"cpu": _cpu_name(), "cores": available(), "instruction_set": isa, "versions": versions}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Parses names with commas between them."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: wanted some of {', '.join(known)}")
        return [name for name in known if name in names]

    return parse


def _counts(text: str) -> list[int]:
    """Numbers of threads with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) >= 1 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted whole numbers of at least 1, such as 1,2,4")
    return sorted({int(part) for part in parts})


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks, engines = list(NETWORKS), list(ENGINES)
    new.add_argument(
        "--networks",
        type=_names([*networks, *PRUNED]),
        default=networks,
        metavar="A,B",
        help=f"default: {networks[0]} to {networks[-1]}; also {next(iter(PRUNED))} and so on, with zeros",
    )
    new.add_argument("--engines", type=_names(engines), default=engines, metavar="A,B", help="default: all")
    counts = sorted({1, available()})
    new.add_argument(
        "--threads", type=_counts, default=counts, metavar="N,N", help="default: 1, and the cores there are"
    )
    new.add_argument("--rounds", type=int, default=40, help="at least, as long as --seconds lasts (default: 40)")
    new.add_argument("--seconds", type=float, default=60.0, help="at most, for a network and threads (default: 60)")
    new.add_argument(
        "--loads", type=int, default=3, help="how often each engine is loaded for the second table; 0: never"
    )
    cache = Path(__file__).resolve().parent / "output"
    new.add_argument("--cache", type=Path, default=cache, help="folder of built networks (default: benchmarks/output)")
    new.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, after each network")
    return new


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, then print."""
    arguments = parser().parse_args()
    isa = cpu.choose().name
    engines = [ENGINES[name] for name in arguments.engines]
    effort = Effort(arguments.rounds, arguments.seconds, arguments.loads)
    header, before = machine(isa), condition()
    # Building takes all cores for minutes: none of it between measurements.
    prepared = [prepare(name, arguments.cache.resolve(), tell) for name in arguments.networks]
    results: list[Result] = []
    for network in prepared:
        for threads in arguments.threads:
            result = compare(network, engines, threads, effort, isa)
            if threads == max(arguments.threads):
                measure_first_answers(network, result, effort.loads)
            results.append(result)
            times = ", ".join(f"{name} {number(f.median, 3)}" for name, f in result.figures.items())
            tell(f"{network.name}, threads {threads}: {times}; ratio {number(result.ratio, 3)}")
        if arguments.json:
            record = {**header, "results": [each.to_json() for each in results]}
            arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _print(results, arguments.engines, header, judge(before, condition()))


def _print(results: Sequence[Result], engines: Sequence[str], header: dict[str, Any], warnings: Sequence[str]) -> None:
    versions = ", ".join(f"{package} {version}" for package, version in header["versions"].items())
    print(f"{header['cpu']}, {header['cores']} cores; {OURS} with {header['instruction_set']}; {versions}")
    for warning in warnings:
        print(f"warning: {warning}")
    counts = sorted({result.threads for result in results})
    for threads in counts:
        rows = [result for result in results if result.threads == threads]
        peak = statistics.median(result.peak_gflops for result in rows)
        print(f"\nthreads: {threads}; peak {peak:.1f} GFLOP/s\n\n{speed_table(rows, engines)}")
    most = [result for result in results if result.threads == counts[-1]]
    if any(figures.first for result in most for figures in result.figures.values()):
        print(f"\nload to first answer and peak memory, threads: {counts[-1]}\n\n{first_table(most, engines)}")


if __name__ == "__main__":
    main()
