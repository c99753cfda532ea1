"""The native build: the extensions, and which compiler flags each source gets. Everything else is in pyproject.toml.

Sources of one extension are compiled for different instruction sets: `microkernels/avx512.c` with AVX-512 flags,
everything else for the baseline, so that one wheel runs on every CPU of its architecture. Environment variables:

    EDGECNN_DEBUG=1                        bounds checks on in Cython, -O1 and assertions in C
    EDGECNN_SANITIZE=address,undefined     GCC's or Clang's sanitizers in C, at -O1; see .ci/sanitize.sh
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("EDGECNN_DEBUG", "0") == "1"
SANITIZE = os.environ.get("EDGECNN_SANITIZE", "")


def target() -> str:
    """What is built for: "x86_64", "aarch64", "arm" (32 bits, floats in registers), or "other".

    The interpreter tells, not the machine: they differ in cross-compilation (_PYTHON_HOST_PLATFORM), and on a Raspberry Pi
    whose 64-bit kernel runs a 32-bit system.
    """
    machine = sysconfig.get_platform().lower().rpartition("-")[2]
    if machine == "universal2":  # python.org's for macOS: what is built here is for this machine alone
        machine = os.uname().machine
        os.environ.setdefault("ARCHFLAGS", f"-arch {machine}")
    if sysconfig.get_config_var("SIZEOF_VOID_P") == 4:
        hard_float = "eabihf" in str(sysconfig.get_config_var("SOABI"))
        return "arm" if machine.startswith(("aarch64", "arm")) and hard_float else "other"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


TARGET = target()
RUNTIME = "edgecnn/runtime"
MICROKERNELS = f"{RUNTIME}/microkernels"
GENERATED = "build/cython"
# Of the interpreter that is built for: PYTHON_GIL=1 turns the lock on for a while, and the build stays what it is.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

# -ffp-contract=fast: -std=c11 alone turns the fusing of a multiply and an add off, and with it the FMA instructions.
# Nothing here throws: without the tables for that a wheel is smaller by a twentieth.
COMMON = [
    "-std=c11",
    "-O1" if DEBUG or SANITIZE else "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
]
COMMON += [] if SANITIZE or sys.platform == "win32" else ["-fno-asynchronous-unwind-tables"]
SANITIZERS = (
    [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"] if SANITIZE else []
)
CYTHON_ONLY = ["-Wno-unused-function", "-fno-strict-aliasing"]
FLAGS = {
    "avx2.c": ["-mavx2", "-mfma", "-mf16c", "-mpopcnt"],
    # Without the second flag GCC 12 vectorises the leftovers with 256 bits and prefers these.
    "avx512.c": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mfma",
        "-mpopcnt",
        "-mprefer-vector-width=512",
    ],
    # GCC's scheduler before the allocation of registers moves loads up until there are too few registers.
    "neon.c": ["-fno-schedule-insns"],
    # GCC uses NEON's arithmetic only where subnormal numbers do not matter, and asks for "unsafe" to be told so. What else
    # that allows is taken back: sums keep their order, divisions are divisions.
    "neon32.c": [
        *("-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard", "-fno-schedule-insns"),
        *("-funsafe-math-optimizations", "-fno-associative-math", "-fno-reciprocal-math"),
        *("-fsigned-zeros", "-ftrapping-math"),
    ],
}
INSTRUCTION_SETS = {"x86_64": ["avx2.c", "avx512.c"], "aarch64": ["neon.c"], "arm": ["neon32.c"]}


class BuildPerSource(build_ext):
    """Compiles each source alone, with the flags of its instruction set added, on every core."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        if sys.platform == "win32":
            # cl.exe has no vector extensions; clang-cl has, and takes the MSVC options that setuptools passes.
            self.compiler.initialize()  # type: ignore[attr-defined]
            self.compiler.cc = os.environ.get("CLANG_CL", "clang-cl.exe")  # type: ignore[attr-defined]
        compile_source = self.compiler.compile

        def compile_each(sources, extra_postargs=None, **options):  # type: ignore[no-untyped-def]
            objects = []
            for source in sources:
                extra = list(extra_postargs or []) + FLAGS.get(Path(source).name, [])
                if Path(source).is_relative_to(GENERATED):
                    extra += ["-include", f"{RUNTIME}/traceback.h"]
                if sys.platform == "win32":
                    extra = [f"/clang:{flag}" for flag in extra]
                objects += compile_source([source], extra_postargs=extra, **options)
            return objects

        self.compiler.compile = compile_each
        super().build_extensions()


class Abi3Wheel(bdist_wheel):
    """Tags the wheel cp311-abi3: it runs on Python 3.11 and every later one (free-threaded builds apart)."""

    def finalize_options(self) -> None:
        if not FREE_THREADED:
            self.py_limited_api = "cp311"
        super().finalize_options()


def extension(module: str, *sources: str) -> Extension:
    macros = [("EDGECNN_DEBUG", "1")] if DEBUG else [("NDEBUG", "1")]
    if not FREE_THREADED:
        macros.append(("Py_LIMITED_API", "0x030B0000"))
    return Extension(
        f"edgecnn.{module}",
        [f"edgecnn/{module.replace('.', '/')}.pyx", *(f"{MICROKERNELS}/{source}" for source in sources)],
        include_dirs=[RUNTIME, MICROKERNELS, "edgecnn/format"],
        define_macros=macros,
        extra_compile_args=COMMON + CYTHON_ONLY + SANITIZERS,
        extra_link_args=SANITIZERS,
        libraries=[] if sys.platform == "win32" else ["m"],
        depends=[str(path) for path in sorted(Path("edgecnn").rglob("*.h"))],
        py_limited_api=not FREE_THREADED,
    )


EXTENSIONS = [
    *(extension(f"format.{path.stem}") for path in sorted(Path("edgecnn/format").glob("*.pyx"))),
    extension("runtime.cpu", "portable.c", *INSTRUCTION_SETS.get(TARGET, [])),
    extension("runtime.arena"),
    extension("runtime.workers"),
    extension("runtime.executor"),
    *(extension(f"runtime.kernels.{path.stem}") for path in sorted(Path(RUNTIME, "kernels").glob("*.pyx"))),
]

setup(
    packages=[
        "edgecnn",
        *(
            f"edgecnn.{path.parent.relative_to('edgecnn').as_posix().replace('/', '.')}"
            for path in sorted(Path("edgecnn").glob("*/**/__init__.py"))
        ),
        "edgecnn.converters",
        *(f"edgecnn.converters.{path.parent.name}" for path in sorted(Path("converters").glob("*/__init__.py"))),
    ],
    package_dir={"edgecnn": "edgecnn", "edgecnn.converters": "converters"},
    include_package_data=False,
    package_data={"edgecnn": ["py.typed", "**/*.pyi", "tools/pages/*", "cli/completions/*"]},
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir=GENERATED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "auto_pickle": False,
            "cdivision": True,
            "embedsignature": False,
            # What modules keep for all threads are lists and numbers that change in single operations of the interpreter; what
            # a call works on is its own.
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildPerSource, "bdist_wheel": Abi3Wheel},
)
