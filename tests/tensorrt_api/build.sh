#!/usr/bin/env bash
# Fetch NVIDIA's Python bindings and build the stand-in for their native libraries: build.sh PYTHON OUT
# Without a network or a compiler it warns, and the tests that need them skip.
set -euo pipefail
python=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
warn() { echo "warning: $1; tests/tensorrt_api will skip" >&2; exit 0; }

command -v c++ >/dev/null || warn "no C++ compiler (c++)"
for major in 10 11; do
    mkdir -p "$out/lib$major"
    for name in nvinfer nvonnxparser nvinfer_plugin; do
        soname=lib$name.so.$major
        c++ -std=c++17 -shared -fPIC -O1 -ftemplate-depth=1024 "-Wl,-soname,$soname" "$here/fake.cpp" \
            -o "$out/lib$major/$soname" || warn "the stand-in did not compile"
    done
done
mkdir -p "$out/cuda"
c++ -std=c++17 -shared -fPIC -O1 "$here/cudart.cpp" -o "$out/cuda/libcudart.so" || warn "the stand-in did not compile"
for package in tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==10.16.1.11 tensorrt-cu13-bindings==11.4.0.106; do
    version=${package#*==}
    [ -d "$out/$version" ] && continue
    rm -rf "$out/wheel"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --dest "$out/wheel" "$package" \
        || warn "$package is not to be had for this Python and platform"
    "$python" -m zipfile -e "$out"/wheel/*.whl "$out/$version"
done
rm -rf "$out/wheel"
