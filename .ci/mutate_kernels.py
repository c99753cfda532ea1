#!/usr/bin/env python3
"""Changes each floating constant of the vector templates by one part in ten and shows that the tests' data notice.

    .ci/mutate_kernels.py [--isa neon] [--file functions_f32.h] [--list]

A driver of a few lines is compiled with the templates of one instruction set (natively, or for 64-bit and 32-bit ARM with Debian's
cross compilers and run by qemu); it computes every function at the points of tests/functions.py, and every form of Winograd's
transformations. What it gives is held against float64 with the bounds of tests/runtime/test_functions.py. A constant survives when
neither 1.1 nor 0.9 of it is noticed.

Ends with 0: none survived but those of ROOM; 1: some did, or the unchanged templates fail; 77: no compiler for the set.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import functions  # noqa: E402

TEMPLATES = ROOT / "edgecnn/runtime/microkernels"
FILES = ("functions_f32.h", "elementwise_f32.h", "winograd_f32.h")
COMMON = ["-std=c11", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-w"]
SETS: dict[str, tuple[int, list[str], list[str]]] = {
    # Bytes of a vector, compiler and flags, what runs the result.
    "portable": (16, ["gcc"], []),
    "avx2": (32, ["gcc", "-mavx2", "-mfma", "-mf16c", "-mpopcnt"], []),
    "avx512": (64, ["gcc", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mpopcnt"], []),
    "neon": (16, ["aarch64-linux-gnu-gcc"], ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]),
    "neon32": (
        16,
        [
            *("arm-linux-gnueabihf-gcc", "-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard"),
            *("-funsafe-math-optimizations", "-fno-associative-math", "-fno-reciprocal-math"),
            *("-fsigned-zeros", "-ftrapping-math"),
        ],
        ["qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf"],
    ),
}
ROOM = {
    # Limits that may lie anywhere in a range, and what only costs or measures.
    ("functions_f32.h", "vmin(vsplat(20.0f)"): "1 is tanh, and x is mish, from 9 on",
    ("functions_f32.h", "vmax(vsplat(-104.0f)"): "exp is 0 beyond",
    ("functions_f32.h", "vmax(vsplat(1e-37f)"): "any small number, in place of a division of zeros",
    ("functions_f32.h", "vsplat(0x1p63f)"): "any number whose square is a float, from 1e13 on",
    ("functions_f32.h", "x > 80.0f"): "exp and expm1 agree from 17 to 88",
    ("functions_f32.h", "vabs(x) < 1.5f"): "both branches hold there",
    ("functions_f32.h", "vmax(vsplat(-87.0f)"): "expm1 is -1 beyond -17",
    ("elementwise_f32.h", "< 1e5f"): "from where on double precision is used",
    ("elementwise_f32.h", "0.1f * (float)i"): "measures",
    ("elementwise_f32.h", "volatile float source = 0.5f"): "measures",
    ("elementwise_f32.h", "source * 0.25f"): "measures",
}
DRIVER = r"""
#define EC_VECTOR_BYTES %d
#include <stdio.h>
#include <stdlib.h>
#include "elementwise_f32.h"
#include "winograd_f32.h"
#define ACTIVATE(NAME) activate_##NAME,
#define BINARY(NAME) NAME##_f32,
static const ec_activate functions[] = {EC_FUNCTION_LIST(ACTIVATE)};
static const ec_binary binaries[] = {EC_BINARY_LIST(BINARY)};
static const ec_winograd winograds[] = {EC_WINOGRAD_LIST(EC_WINOGRAD_ENTRY)};
int main(void) {
    struct { int kind, index; float parameters[3]; unsigned n; } r;
    static const float bias[LANES];
    while (fread(&r, sizeof r, 1, stdin) == 1) {
        float *x = malloc(4 * (r.n + LANES)), *y = calloc(r.n + 64 * LANES, 4);
        if (fread(x, 4, r.n, stdin) != r.n) return 2;
        unsigned n = r.n;
        if (r.kind == 0) {
            for (unsigned i = 0; i < n; i++) y[i] = x[i];
            functions[r.index](&y, 1, 0, n, r.parameters);
        } else if (r.kind == 1) n /= 2, binaries[r.index](x, x + n, y, n);
        else if (r.kind == 2) softmax_f32(x, y, n);
        else if (r.kind == 3) log_softmax_f32(x, y, n);
        else if (r.kind == 4) n -= 2, respond_f32(x, 1, 3, r.parameters[0], r.parameters[1], r.parameters[2], y, n);
        else {
            const ec_winograd *w = winograds + r.index;
            if (r.kind == 5) w->input(x, w->width_points * LANES, LANES, LANES, y, LANES);
            else {
                ec_winograd_end end = {w->height_outputs, w->width_outputs, w->width_outputs * LANES, LANES, 0, 0, -1e30f, 1e30f};
                w->output(x, LANES, &end, bias, NULL, y, LANES);
                n = w->height_outputs * w->width_outputs * LANES;
            }
        }
        fwrite(y, 4, n, stdout);
        free(x), free(y);
    }
    return 0;
}
"""


def listed(macro: str) -> list[str]:
    """The names in a list macro of table.h."""
    text = (TEMPLATES / "table.h").read_text().replace("\\\n", " ")
    return re.findall(r"X\((\w+)", re.search(rf"#define {macro}\(X\)(.*)", text).group(1))  # type: ignore[union-attr]


def of_driver(name: str, parameters: tuple[float, ...]) -> tuple[str, tuple[float, ...]]:
    """The micro-kernel and its parameters, as kernels/activations.pyx passes them."""
    if name == "hard_sigmoid":
        if parameters[0] == 0:
            return "threshold", (np.inf, parameters[1], np.inf)
        high = float(np.float32(parameters[1] / parameters[0]))
        return name, (parameters[0], high, parameters[1] / parameters[0] - high)
    if name == "threshold":
        return name, (*parameters, np.inf)
    if name == "relu" and parameters[0] == 0 and parameters[2] != 0:
        return "threshold", (parameters[2], 0.0, parameters[1])
    return name, parameters


class Questions:
    """What the driver is asked, and what it should answer within which error."""

    def __init__(self, lanes: int) -> None:
        self.records: list[bytes] = []
        self.checks: list[tuple[int, Any]] = []  # how many floats, and whether they are right
        x, rng = functions.points(), np.random.default_rng(0)
        names, binaries = listed("EC_FUNCTION_LIST"), listed("EC_BINARY_LIST")
        for name, given in functions.VARIANTS:
            if name == "linear":
                continue
            kernel, parameters = of_driver(name, given)
            wanted = functions.exact(name, given, x)
            most = functions.SHARES.get(name, 1)
            self.ask(
                0, names.index(kernel), parameters, x, lambda y, w=wanted, m=most: functions.excess(y, w).max() <= m
            )
            values = functions.WITHOUT_NUMBER_AT.get((name, given))
            if values:
                three = np.float32([np.inf, -np.inf, np.nan])
                self.ask(0, names.index(kernel), parameters, three, lambda y, w=values: self.close(y, w, 1e-6))
        a, b = (rng.uniform(-9, 9, 999).astype(np.float32) for _ in range(2))
        b[:9] = a[:9]
        pair = {"prelu": np.where(a > 0, a, a * b), "keep": a, "equal": a == b, "less": a < b}
        for name in binaries:
            with np.errstate(all="ignore"):
                exact = np.asarray(pair[name] if name in pair else getattr(np, name)(a.astype(float), b.astype(float)))
            both = np.concatenate([a, b])
            self.ask(1, binaries.index(name), (), both, lambda y, w=exact: self.close(y, w, 1e-6))
        shares = np.exp(a[:77].astype(float) - a[:77].max())
        self.ask(2, 0, (), a[:77], lambda y: self.close(y, shares / shares.sum(), 2e-6))
        self.ask(3, 0, (), a[:77], lambda y: self.close(y, np.log(shares / shares.sum()), 2e-6))
        middle = np.pad(a[:77], 1)
        power = (1 + 0.5 * (middle[:-2].astype(float) ** 2 + middle[1:-1] ** 2 + middle[2:] ** 2)) ** 0.75
        self.ask(4, 0, (1.0, 0.5, 0.75), middle, lambda y: self.close(y, a[:77] / power, 2e-6))
        self.transformations(rng, lanes)

    @staticmethod
    def close(got: Any, wanted: Any, relative: float) -> bool:
        return np.allclose(got, np.asarray(wanted, float), rtol=relative, atol=1e-7, equal_nan=True)

    def ask(self, kind: int, index: int, parameters: tuple[float, ...], x: Any, check: Any) -> None:
        given = (*parameters, 0.0, 0.0, 0.0)[:3]
        x = np.ascontiguousarray(x, np.float32).ravel()
        self.records.append(struct.pack("<ii3fI", kind, index, *given, x.size) + x.tobytes())
        answers = {1: x.size // 2, 4: x.size - 2}.get(kind, x.size)
        self.checks.append((answers, check))

    def transformations(self, rng: Any, lanes: int) -> None:
        """Each form of Winograd's algorithm on a random tile; the filters' side is that of kernels/packing.py."""
        from edgecnn.runtime.kernels.packing import filter_transformation

        text = (TEMPLATES / "table.h").read_text().replace("\\\n", " ")
        forms = re.findall(r"X\(\w+, (\d), (\d), (\d), (\d)\)", text)
        for index, form in enumerate(forms):
            nh, mh, nw, mw = map(int, form)
            rh, rw = nh - mh + 1, nw - mw + 1
            gh = filter_transformation(nh, rh) if nh > 1 else np.ones((1, 1))
            gw = filter_transformation(nw, rw) if nw > 1 else np.ones((1, 1))
            tile, kernel = rng.uniform(-1, 1, (nh, nw, lanes)).astype(np.float32), rng.uniform(-1, 1, (rh, rw))
            direct = np.zeros((mh, mw, lanes))
            for i in range(rh):
                for j in range(rw):
                    direct += kernel[i, j] * tile[i : i + mh, j : j + mw]
            transformed: list[Any] = []
            self.ask(5, index, (), tile, lambda y, keep=transformed: keep.append(y) or True)
            # The products are linear in the tile: unit products tell the way back.
            units = np.eye(nh * nw)
            back: list[Any] = []
            for unit in units:
                products = np.repeat(unit[:, None], lanes, axis=1)
                self.ask(6, index, (), products, lambda y, keep=back: keep.append(y) or True)
                self.checks[-1] = (mh * mw * lanes, self.checks[-1][1])

            def right(
                _: Any,
                v: Any = transformed,
                b: Any = back,
                u: Any = gh @ kernel @ gw.T,
                d: Any = direct,
                n: int = nh * nw,
            ) -> bool:
                products = v[-1].reshape(n, lanes) * u.reshape(n, 1)
                got = sum(products[i] * b[i - n].reshape(-1, lanes) for i in range(n))
                return bool(np.abs(got - d.reshape(-1, lanes)).max() < 2e-4)

            self.checks.append((0, right))

    def answered(self, output: bytes) -> bool:
        """Whether all answers are right."""
        values, place = np.frombuffer(output, np.float32), 0
        if values.size != sum(n for n, _ in self.checks):
            return False
        for n, check in self.checks:
            if not check(values[place : place + n]):
                return False
            place += n
        return True


def literals(file: str) -> list[tuple[int, int, str]]:
    """Start, end and line of each floating constant that is not zero, comments apart."""
    text = (TEMPLATES / file).read_text()
    blank = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)
    found = []
    for match in re.finditer(r"(?<![\w.])(?:0x[0-9a-f.]+p-?\d+|\d+\.\d*(?:e-?\d+)?|\d+e-?\d+)f\b", blank):
        if float.fromhex(match.group()[:-1]) if "x" in match.group() else float(match.group()[:-1]):
            line = text[text.rfind("\n", 0, match.start()) + 1 : text.find("\n", match.end())]
            found.append((match.start(), match.end(), line.strip()))
    return found


def passes(isa: str, questions: Questions, changed: dict[str, str]) -> bool:
    """Whether templates, some of them changed, give right answers."""
    width, compiler, runner = SETS[isa]
    with tempfile.TemporaryDirectory() as folder:
        for path in TEMPLATES.glob("*.h"):
            (Path(folder) / path.name).write_text(changed.get(path.name) or path.read_text())
        Path(folder, "driver.c").write_text(DRIVER % width)
        compiled = [*compiler, *COMMON, f"-I{folder}", "-c", f"{folder}/driver.c", "-o", f"{folder}/driver.o"]
        # Linked without the flags: with "unsafe" arithmetic GCC adds code that turns subnormal numbers off.
        linked = [compiler[0], f"{folder}/driver.o", "-o", f"{folder}/driver", "-lm"]
        if any(subprocess.run(command, capture_output=True).returncode for command in (compiled, linked)):
            return False
        done = subprocess.run([*runner, f"{folder}/driver"], input=b"".join(questions.records), capture_output=True)
    return done.returncode == 0 and questions.answered(done.stdout)


def mutate(isa: str, files: list[str], workers: int) -> int:
    """Prints what survived; how many that should not have."""
    lanes = SETS[isa][0] // 4
    if not passes(isa, Questions(lanes), {}):
        raise SystemExit(f"{isa}: the unchanged templates give wrong answers")

    def killed(file: str, start: int, end: int) -> bool:
        text = (TEMPLATES / file).read_text()
        questions = Questions(lanes)
        changes = [f"({factor}f * {text[start:end]})" for factor in ("1.1", "0.9")]
        return any(not passes(isa, questions, {file: text[:start] + c + text[end:]}) for c in changes)

    jobs = [(file, *place) for file in files for place in literals(file)]
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda job: killed(*job[:3]), jobs))
    wrong = 0
    for (file, start, end, line), dead in zip(jobs, results, strict=True):
        if not dead:
            text = (TEMPLATES / file).read_text()
            reason = next((why for (f, part), why in ROOM.items() if f == file and part in line), None)
            wrong += reason is None
            print(f"{isa}: {text[start:end]} survived in {file}: {line} ({reason or 'NOT EXPECTED'})")
    print(f"{isa}: {sum(results)} of {len(jobs)} changed constants were noticed, {wrong} were missed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", action="append", choices=SETS, help="by default neon")
    parser.add_argument("--file", action="append", choices=FILES, help="by default all")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    wrong = 0
    for isa in options.isa or ["neon"]:
        missing = [tool for tool in (SETS[isa][1][0], *SETS[isa][2][:1]) if shutil.which(tool) is None]
        if missing:
            print(f"{isa}: {', '.join(missing)} is not here")
            return 77
        wrong += mutate(isa, options.file or list(FILES), options.workers)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
