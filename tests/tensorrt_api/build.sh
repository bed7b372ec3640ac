#!/usr/bin/env bash
# Fetch NVIDIA's Python bindings and build the stand-in for their native libraries: build.sh PYTHON OUT
# Exits with 1 where a compiler or a download is missing; the tests that need it skip.
set -euo pipefail
python=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
packages="tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==10.16.1.11 tensorrt-cu13-bindings==11.4.0.106"
missing=0
warn() { echo "warning: $1, so tests in tests/tensorrt_api skip" >&2; missing=1; }

compile() { c++ -std=c++17 -shared -fPIC -O1 -ftemplate-depth=1024 "$@"; }

build() {
    for major in 10 11; do
        mkdir -p "$out/lib$major"
        for name in nvinfer nvonnxparser nvinfer_plugin; do
            soname=lib$name.so.$major
            compile "$here/fake.cpp" "-Wl,-soname,$soname" -o "$out/lib$major/$soname" || return 1
        done
    done
    mkdir -p "$out/cuda"
    compile "$here/cudart.cpp" -o "$out/cuda/libcudart.so"
}

fetch() {
    rm -rf "$out/wheel"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --dest "$out/wheel" "$1" || return 1
    "$python" -m zipfile -e "$out"/wheel/*.whl "$out/${1#*==}"
}

command -v c++ >/dev/null && build || warn "the stand-in for TensorRT's libraries needs a C++ compiler (c++)"
for package in $packages; do
    [ -d "$out/${package#*==}" ] || fetch "$package" || warn "$package is not to be had here"
done
rm -rf "$out/wheel"
exit $missing
