"""Counts what the inner loops of the compiled NEON tiles execute, exactly, and holds a budget.

    arm_kernels.py SOURCE FOLDER [LLVM_MCA]

SOURCE is where the kernels were compiled for aarch64, FOLDER takes what is written. An emulator says nothing about time, but
each instruction can be counted: two runs of different depth differ by the inner loop alone. Where LLVM_MCA names an llvm-mca of
LLVM 19 or newer, it analyses the same loops. docs/performance.md tells what the figures mean.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

TILES = {(7, 3): 0.70, (9, 2): 0.68, (8, 2): 0.67}
"""(rows, vectors): least share of multiply-adds among all instructions of the inner loop."""
LOADS = 0.26
"""Most floats' vectors loaded for a multiply-add."""
A53 = 0.70
"""Least share of the peak by the bound for Cortex-A53."""
PEAK = {"cortex-a72": 1, "neoverse-n1": 2}
"""Vector multiply-adds in a cycle, by LLVM's models; neoverse-n1 stands for Cortex-A76."""
THROUGHPUT = 0.85

SHALLOW, DEEP = 256, 512

HARNESS = r"""
#include <stdio.h>
#include <stdlib.h>
#include "table.h"
static float weights[512 * 12] __attribute__((aligned(64))), start[12] __attribute__((aligned(64))), x[14][512], y[14][12];
int main(int count, char **text) {
    int rows = atoi(text[1]), vectors = atoi(text[2]);
    const float *a[14];
    float *out[14];
    if (count != 4) return 2;
    for (int m = 0; m < 14; m++) a[m] = x[m], out[m] = y[m];
    ec_panel panel = {weights, start, 1, atoi(text[3]), 0, rows, vectors * 4, -1, 1, {(char *)weights, (char *)weights}};
    ec_table_neon.gemm[vectors - 1][rows - 1](&panel, a, out, NULL, 0);
    return 0;
}
"""


def run(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def disassembly(binary: Path, symbol: str) -> dict[int, str]:
    """Instructions of a function by address, as an assembler takes them."""
    text = run("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", f"--disassemble={symbol}", binary)
    found = re.findall(r"^ +([0-9a-f]+):\t(.*?)(?:\s*//.*)?$", text, re.MULTILINE)
    return {int(address, 16): instruction.replace("\t", " ").strip() for address, instruction in found}


def executed(binary: Path, symbol: str, code: dict[int, str], rows: int, vectors: int, depth: int) -> Counter[int]:
    """How often each instruction of the function was executed."""
    log = binary.with_suffix(".log")
    run(
        *("qemu-aarch64-static", "-cpu", "cortex-a53", "-singlestep", "-d", "nochain,exec", "-D", log),
        *("-dfilter", f"{min(code):#x}..{max(code):#x}", binary, str(rows), str(vectors), str(depth)),
    )
    counts: Counter[int] = Counter()
    for line in log.read_text().splitlines():
        match = re.search(r"\[[0-9a-f]+/([0-9a-f]+)/", line)
        if match and int(match[1], 16) in code:
            counts[int(match[1], 16)] += 1
    return counts


def vectors_loaded(instruction: str) -> int:
    name, _, operands = instruction.partition(" ")
    if not name.startswith(("ld", "ldr")):
        return 0
    return len(re.findall(r"\b[qs]\d+\b", operands.split("[")[0]))


def mca(tool: str, cpu: str, loop: list[str], multiply_adds: int) -> float:
    """Vector multiply-adds in a cycle by LLVM's model of a CPU."""
    body = "\n".join(line for line in loop if not line.startswith("b")) + "\n"
    command = [tool, "-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=200"]
    text = subprocess.run(command, input=body, check=True, capture_output=True, text=True).stdout
    cycles = re.search(r"Total Cycles:\s+(\d+)", text)
    assert cycles
    return 200 * multiply_adds / int(cycles[1])


def main() -> int:
    """0 when every tile keeps its budget."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    (compiled,) = source.glob("build/temp*/edgecnn/runtime/microkernels/neon.o")
    program, kernels, binary = folder / "kernels.c", folder / "kernels.o", folder / "kernels"
    # A static library knows no versions of its functions.
    plain = [f"--redefine-sym={name}@GLIBC_2.17={name}" for name in ("logf", "powf", "pow")]
    run("aarch64-linux-gnu-objcopy", *plain, compiled, kernels)
    program.write_text(HARNESS)
    include = source / "edgecnn/runtime/microkernels"
    run("aarch64-linux-gnu-gcc", "-O1", "-static", "-no-pie", f"-I{include}", program, kernels, "-lm", "-o", binary)
    failures = 0
    for (rows, vectors), least in TILES.items():
        symbol = f"gemm_f32_{rows}x{vectors}"
        code = disassembly(binary, symbol)
        shallow, deep = (executed(binary, symbol, code, rows, vectors, depth) for depth in (SHALLOW, DEEP))
        turns = (DEEP - SHALLOW) // 4
        loop = [a for a in sorted(code) if deep[a] - shallow[a] == turns]
        total = deep.total() - shallow.total()
        assert total == len(loop) * turns, "instructions outside the loop depend on the depth"
        text = [code[address] for address in loop]
        adds = sum(line.startswith("fmla") for line in text)
        assert adds * turns * 4 == rows * vectors * 4 * (DEEP - SHALLOW), "another loop than that of four k"
        loads = sum(map(vectors_loaded, text))
        spills = sum("[sp" in line for line in text)
        # Cortex-A53: a vector multiply-add and two instructions a cycle; a vector's load takes the load unit twice.
        cycles = max(adds, 2 * loads, len(text) / 2)
        told = (
            f"{rows} x {4 * vectors}: {len(text)} instructions for {adds} multiply-adds ({adds / len(text):.0%}), "
            f"{loads / adds:.3f} loads for each, {spills} spills; A53 at most {adds / cycles:.0%} of its peak "
            f"({adds / (adds + 2 * loads):.0%} if loads overlap with nothing)"
        )
        good = adds / len(text) >= least and loads / adds <= LOADS and spills == 0 and adds / cycles >= A53
        if len(sys.argv) > 3:
            for cpu, peak in PEAK.items():
                share = mca(sys.argv[3], cpu, text, adds) / peak
                told += f"; {cpu} {share:.0%}"
                good = good and share >= THROUGHPUT
        print(told if good else f"OVER BUDGET: {told}")
        failures += not good
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
