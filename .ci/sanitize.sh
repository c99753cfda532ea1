#!/usr/bin/env bash
# The tests of the C code on a build under AddressSanitizer and UndefinedBehaviorSanitizer, and the places where threads meet
# under ThreadSanitizer, in a program without Python.
#
#   .ci/sanitize.sh [FOLDER]    the build and its environment stay in FOLDER (else build/sanitize) for the next run
#
# Needs Linux and gcc with its sanitizers' libraries. EDGECNN_EXAMPLES: the share of hypothesis' examples, in percent (default: 10).
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(realpath -m "${1:-build/sanitize}")
python=${PYTHON:-python3}
unset PYTHONPATH PYTHONHOME
mkdir -p "$work/source"
[ -x "$work/venv/bin/python" ] || "$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check -qq install -r <("$python" .ci/build_requirements.py) numpy h5py pytest pytest-xdist hypothesis

# --- threads

gcc -std=c11 -O1 -g -fsanitize=thread -Iedgecnn/runtime -o "$work/threads" tests/runtime/threads.c -lpthread
TSAN_OPTIONS=halt_on_error=1 setarch "$(uname -m)" -R "$work/threads"

# --- memory and undefined behaviour

rm -rf "$work"/source/{edgecnn,converters} "$work"/source/build/lib*
tar --exclude='*.so' --exclude=__pycache__ -cf - edgecnn converters pyproject.toml setup.py README.md LICENSE | tar -C "$work/source" -xf -
(cd "$work/source" && EDGECNN_SANITIZE=address,undefined "$work/venv/bin/python" -m pip --disable-pip-version-check -q install \
    --no-deps --no-build-isolation --force-reinstall .)
echo "built with AddressSanitizer and UndefinedBehaviorSanitizer"
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
# The interpreter keeps memory until the end, which is no leak; tests ask for absurd sizes on purpose.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export EDGECNN_EXAMPLES="${EDGECNN_EXAMPLES:-10}" PYTHONMALLOC=malloc
"$work/venv/bin/python" -P -m pytest -q -p no:cacheprovider -n "${WORKERS:-2}" tests/runtime tests/format tests/networks/test_stored.py
"$work/venv/bin/python" -P fuzz/run.py --formats ecnn --seconds 30 --seed 1 --memory 0
