# Read by the other scripts: finds trtexec, its version and the GPU. Sets TRTEXEC, TENSORRT_VERSION (10.3.0.26),
# TENSORRT_MAJOR (10), GPU_NAME (empty where nothing tells it).
# shellcheck shell=sh

find_trtexec() {
    for candidate in "${TRTEXEC:-}" "$(command -v trtexec || true)" /usr/src/tensorrt/bin/trtexec; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            TRTEXEC=$candidate
            return 0
        fi
    done
    return 1
}

if ! find_trtexec; then
    echo "trtexec not found: install TensorRT 10 or 11 with its command-line tools, or set TRTEXEC to the program" >&2
    exit 2
fi
# Its first line: &&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --help
banner=$("$TRTEXEC" --help 2>&1 | sed -n '/\[TensorRT v[0-9]*\]/{p;q;}')
number=$(printf '%s\n' "$banner" | sed 's/.*\[TensorRT v\([0-9]*\)\].*/\1/')
build=$(printf '%s\n' "$banner" | sed -n 's/.*\[b\([0-9]*\)\].*/.\1/p')
TENSORRT_MAJOR=$((${number:-0} / 10000))
# shellcheck disable=SC2034  # read by whoever reads this file
TENSORRT_VERSION=$TENSORRT_MAJOR.$((${number:-0} / 100 % 100)).$((${number:-0} % 100))$build
if [ "$TENSORRT_MAJOR" != 10 ] && [ "$TENSORRT_MAJOR" != 11 ]; then
    echo "$TRTEXEC: expected TensorRT 10 or 11, got '${banner:-no version line}'" >&2
    exit 2
fi
GPU_NAME=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 || true)
if [ -z "$GPU_NAME" ] && [ -r /proc/device-tree/model ]; then GPU_NAME=$(tr -d '\0' </proc/device-tree/model); fi
