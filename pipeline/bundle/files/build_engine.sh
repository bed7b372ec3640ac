#!/bin/sh
# TensorRT engines from the ONNX files of this bundle, built on the device that will run them. `--help` says how.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'HELP'
Build TensorRT engines on this device, one per ONNX file, for TensorRT 10 and 11.

    sh build_engine.sh                       fp32, fp16 and int8, as far as models/ has them
    sh build_engine.sh models/fp16.onnx      only this one
    sh build_engine.sh --batch 8             for up to 8 images at once, tuned for 8

    --batch N        most images of one call (default 1), which the engine is tuned for and benchmark.sh times; needs a
                     model with a free batch axis
    --workspace MIB  memory that the builder may use (default 1024)

An engine runs only on the GPU, operating system and TensorRT version that built it. Its precision is the ONNX file's:
the network is strongly typed, no flag lowers it. For int8, models/int8-tensorrt.onnx is taken; TensorRT refuses the
unsigned activations of models/int8.onnx.

Writes engines/NAME.plan, NAME.profile (its smallest, tuned and largest batch), NAME.layers.json (every layer with its
precision: the proof of what was built) and NAME.log, and engines/timing-GPU-VERSION.cache, which makes the next build on
this GPU fast. trtexec is taken from $TRTEXEC, the PATH or
/usr/src/tensorrt/bin. Exit status: 0 all built, 1 a build failed, 2 wrong usage or no usable TensorRT.
HELP
}

fail() {
    echo "build_engine.sh: $1" >&2
    exit "${2:-2}"
}

is_count() {
    case $1 in '' | *[!0-9]* | 0*) return 1 ;; esac
}

batch=1
workspace=1024
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --batch) batch=${2:-}; is_count "$batch" || fail "--batch: expected a number from 1 on, got '$batch'"; shift 2 ;;
        --workspace)
            workspace=${2:-}
            is_count "$workspace" || fail "--workspace: expected MiB, got '$workspace'"
            shift 2
            ;;
        -*) fail "unknown option $1, see --help" ;;
        *) break ;;
    esac
done

. ./bundle.env   # IMAGE_SIZE_PX, DYNAMIC_BATCH, ...
. ./trtexec.sh   # TRTEXEC, TENSORRT_VERSION, TENSORRT_MAJOR

if [ "$batch" -gt 1 ] && [ "$DYNAMIC_BATCH" = 0 ]; then
    fail "--batch $batch: these models take one image at a time; export with export.dynamic_batch: true"
fi
if [ $# -eq 0 ]; then
    for name in fp32 fp16 int8-tensorrt; do
        [ -f "models/$name.onnx" ] || continue
        set -- "$@" "models/$name.onnx"
    done
fi

mkdir -p engines
work=$(mktemp -d engines/.build.XXXXXX) # a new name: neither a second build nor a link that lies there gets in the way
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Put what was written into place; mv alone would follow a link of that name to a folder.
publish() {
    rm -f "$2"
    mv "$1" "$2"
}

for model in "$@"; do
    [ -f "$model" ] || fail "$model: no such file; models/ has $(ls models)"
    name=$(basename "$model" .onnx)
    [ "$name" != int8 ] || fail "$model: its activations are unsigned, which TensorRT refuses: take models/int8-tensorrt.onnx"
    engine=engines/$name
    set -- "--onnx=$model" "--saveEngine=$work/plan" "--memPoolSize=workspace:$workspace" \
        --builderOptimizationLevel=3 --profilingVerbosity=detailed "--exportLayerInfo=$work/layers" --skipInference
    if [ -n "$GPU_NAME" ]; then # else a cache could be another GPU's
        slug=$(printf '%s' "$GPU_NAME" | tr -cs 'A-Za-z0-9_' '-')
        set -- "$@" "--timingCacheFile=engines/timing-$slug-$TENSORRT_VERSION.cache"
    fi
    if [ "$DYNAMIC_BATCH" = 1 ]; then
        sides=3x${IMAGE_SIZE_PX}x${IMAGE_SIZE_PX}
        set -- "$@" "--minShapes=images:1x$sides" "--optShapes=images:${batch}x$sides" "--maxShapes=images:${batch}x$sides"
    fi
    if [ "$TENSORRT_MAJOR" = 10 ]; then set -- "$@" --stronglyTyped; fi # 11 knows nothing else
    echo "$model -> $engine.plan (TensorRT $TENSORRT_VERSION, batch 1 to $batch, tuned for $batch, log in $engine.log)"
    failed=0
    "$TRTEXEC" "$@" >"$work/log" 2>&1 || failed=1
    publish "$work/log" "$engine.log"
    if [ "$failed" = 1 ]; then
        grep '\[E\]' "$engine.log" >&2 || tail -n 20 "$engine.log" >&2
        fail "TensorRT $TENSORRT_VERSION cannot build $model; the whole log is $engine.log" 1
    fi
    echo "1 $batch $batch" >"$work/profile"
    publish "$work/layers" "$engine.layers.json"
    publish "$work/profile" "$engine.profile"
    publish "$work/plan" "$engine.plan"
done
echo "Built. Next: python3 check.py, then sh benchmark.sh"
