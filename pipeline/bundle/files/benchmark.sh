#!/bin/sh
# The latency of this bundle's models on this device, as one record that comes back. `--help` says how.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'HELP'
Measure latency on this device and write records/FINGERPRINT.json.

    sh benchmark.sh [--seconds N]     N seconds per model (default 5)

Where trtexec and engines/*.plan are (sh build_engine.sh makes them), TensorRT is measured, and Python is not needed:
batch 1, input and output copies included, CUDA graph and spin wait on, alike for TensorRT 10 and 11. Elsewhere
benchmark.py measures ONNX Runtime on the CPU (python3 with numpy and onnxruntime).

Fix clocks and power first, or the slowest percent means nothing: on a Jetson `sudo nvpmodel -m 0 && sudo jetson_clocks`,
else `sudo nvidia-smi --lock-gpu-clocks=...`. What can be read of them goes into the record; no clock time, no host name.
On the pipeline's machine: python -m pipeline import-records THIS_FOLDER
HELP
}

seconds=5
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --seconds) seconds=${2:-} ;;
    '') ;;
    *) echo "benchmark.sh: unknown option $1, see --help" >&2; exit 2 ;;
esac
case $seconds in '' | *[!0-9]* | 0*) echo "benchmark.sh: --seconds: expected a number, got '$seconds'" >&2; exit 2 ;; esac

has_trtexec() { [ -n "${TRTEXEC:-}" ] || command -v trtexec >/dev/null || [ -x /usr/src/tensorrt/bin/trtexec ]; }
if ! has_trtexec; then
    exec python3 benchmark.py --seconds "$seconds"
fi
. ./bundle.env
. ./trtexec.sh
set -- engines/*.plan
if [ ! -f "$1" ]; then echo "benchmark.sh: no engine here: run sh build_engine.sh first" >&2; exit 2; fi

# JSON text as Python's json.dumps writes it; what is not ASCII goes.
text() { printf '"%s"' "$(printf '%s' "$1" | tr -cd '\040-\176' | sed 's/[\\"]/\\&/g; s/^ *//; s/ *$//')"; }
text_or_null() { if [ -n "$1" ]; then text "$1"; else printf null; fi; }

# The fingerprint is the digest of this text, as pipeline/device.py takes it: keys sorted, ", " and ": " between.
cpu=$(sed -n 's/^model name[[:space:]]*: *//p' /proc/cpuinfo | head -n 1)
if [ -z "$cpu" ] && [ -r /proc/device-tree/model ]; then cpu=$(tr -d '\0' </proc/device-tree/model); fi
threads=$(unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc)
gpus=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || true)
driver=$(printf '%s\n' "$gpus" | sed -n '1s/.*, *//p')
gpu=$(printf '%s\n' "$gpus" | awk -F ', *' '
    NF == 2 { if (!count[$1]++) names[++kinds] = $1 }
    END {
        for (i = 1; i <= kinds; i++) {
            if (i > 1) printf ", "
            if (count[names[i]] > 1) printf "%d x ", count[names[i]]
            printf "%s", names[i]
        }
    }')
device="\"cpu\": $(text "${cpu:-$(uname -m)}"), \"cpu_threads\": $threads, \"gpu\": $(text_or_null "$gpu"), \
\"gpu_driver\": $(text_or_null "$driver"), \"versions\": {\"tensorrt\": $(text "$TENSORRT_VERSION")}"
fingerprint=$(printf '{%s}' "$device" | sha256sum | cut -c 1-16)

# trtexec's summary: `[I] Latency: min = 1 ms, ..., median = 1 ms, percentile(90%) = 1 ms, ...`
number_of() { sed -n "s/.*\[I\] $1: .*$2 = \([0-9.e+-]*\) ms.*/\1/p" "$3" | tail -n 1; }

timings=
for engine in "$@"; do
    name=$(basename "$engine" .plan)
    log=engines/$name.benchmark.log
    set -- "--loadEngine=$engine" --warmUp=500 "--duration=$seconds" --iterations=100 "--percentile=90,95,99"
    if [ "$DYNAMIC_BATCH" = 1 ]; then set -- "$@" "--shapes=images:1x3x${IMAGE_SIZE_PX}x${IMAGE_SIZE_PX}"; fi
    if [ "$TENSORRT_MAJOR" = 10 ]; then
        set -- "$@" --useCudaGraph --useSpinWait # defaults of 11
    else
        set -- "$@" --includeDataTransfers # default of 10
    fi
    if ! "$TRTEXEC" "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "benchmark.sh: $engine does not run here; build it on this device. The whole log is $log" >&2
        exit 1
    fi
    runs=$(sed -n 's/.*Timing trace has \([0-9]*\) queries.*/\1/p' "$log" | tail -n 1)
    p50=$(number_of Latency median "$log")
    p99=$(number_of Latency 'percentile(99%)' "$log")
    if [ -z "$runs" ] || [ -z "$p50" ] || [ -z "$p99" ]; then
        echo "benchmark.sh: $log has no latency summary of the kind that TensorRT 10 and 11 print" >&2
        exit 1
    fi
    echo "tensorrt $name: p50 $p50 ms, p99 $p99 ms over $runs runs"
    timings="$timings${timings:+,}
    {\"runtime\": \"tensorrt\", \"runtime_version\": $(text "$TENSORRT_VERSION"), \"precision\": $(text "$name"),
     \"batch_size\": 1, \"runs\": $runs, \"mean_ms\": $(number_of Latency mean "$log"), \"p50_ms\": $p50,
     \"p90_ms\": $(number_of Latency 'percentile(90%)' "$log"), \"p99_ms\": $p99,
     \"compute_p50_ms\": $(number_of 'GPU Compute Time' median "$log")}"
done

# Read after the work, when clocks are where it put them.
state=
read_state() { if [ -n "$2" ]; then state="$state${state:+, }\"$1\": $(text "$2")"; fi; }
read_state power_mode "$(nvpmodel -q 2>/dev/null | sed -n 's/.*Power Mode: *//p' | head -n 1)"
read_state gpu_clocks "$(nvidia-smi --query-gpu=clocks.sm,clocks.max.sm,power.limit --format=csv,noheader 2>/dev/null | head -n 1)"
read_state cpu_governor "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null || true)"

mkdir -p records
cat >"records/$fingerprint.partial" <<RECORD
{
  "format": 1, "task": "$TASK", "student": "$STUDENT", "checkpoint_digest": "$CHECKPOINT_DIGEST",
  "image_size_px": $IMAGE_SIZE_PX, "commit": "$COMMIT", "threads": null,
  "device": {$device, "fingerprint": "$fingerprint"},
  "state": {$state},
  "timings": [$timings
  ]
}
RECORD
mv "records/$fingerprint.partial" "records/$fingerprint.json"
echo "records/$fingerprint.json"
