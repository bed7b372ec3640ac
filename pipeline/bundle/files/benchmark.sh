#!/bin/sh
# The latency of this bundle's models on this device, as one record that comes back. `--help` says how.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'HELP'
Measure latency on this device and write records/FINGERPRINT-SETTING.json.

    sh benchmark.sh                   5 seconds per model, each at the batch that its engine is tuned for
    --seconds N                       N seconds per model
    --batch N                         N images a call, whatever the engines are tuned for
    --threads N                       N CPU threads of ONNX Runtime (default: OMP_NUM_THREADS, else all)

Where trtexec and engines/*.plan are (sh build_engine.sh makes them), TensorRT is measured, and Python is not needed:
trtexec's own random input, copies from and to pinned memory included, CUDA graph and spin wait on, alike for TensorRT 10
and 11. Elsewhere benchmark.py measures ONNX Runtime on the CPU (python3 with numpy and onnxruntime).

Fix clocks and power first, or the slowest percent means nothing: on a Jetson `sudo nvpmodel -m 0 && sudo jetson_clocks`,
else `sudo nvidia-smi --lock-gpu-clocks=...`. Clocks, and what held them down, are read while the models run. The record
has no clock time and no host name. Another power mode, batch size or engine profile is another record. A percentile is
left out where fewer than ten runs lie beyond it: the 99th needs 1000.
On the pipeline's machine: python -m pipeline import-records THIS_FOLDER
HELP
}

fail() {
    echo "benchmark.sh: $1" >&2
    exit "${2:-2}"
}

require_count() {
    case $2 in '' | *[!0-9]* | 0*) fail "$1: expected a number from 1 on, got '$2'" ;; esac
}

seconds=5
asked_batch=
asked_threads=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --seconds) seconds=${2:-}; require_count --seconds "$seconds"; shift 2 ;;
        --batch) asked_batch=${2:-}; require_count --batch "$asked_batch"; shift 2 ;;
        --threads) asked_threads=${2:-}; require_count --threads "$asked_threads"; shift 2 ;;
        *) fail "unknown option $1, see --help" ;;
    esac
done

has_trtexec() { [ -n "${TRTEXEC:-}" ] || command -v trtexec >/dev/null || [ -x /usr/src/tensorrt/bin/trtexec ]; }
if ! has_trtexec; then
    [ "${asked_batch:-1}" = 1 ] || fail "--batch $asked_batch: without trtexec, ONNX Runtime is measured at batch 1"
    exec python3 benchmark.py --seconds "$seconds" ${asked_threads:+--threads "$asked_threads"}
fi
[ -z "$asked_threads" ] || fail "--threads is of ONNX Runtime: python3 benchmark.py measures that beside trtexec"
. ./bundle.env
. ./trtexec.sh
set -- engines/*.plan
if [ ! -f "$1" ]; then fail "no engine here: run sh build_engine.sh first"; fi

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

work=$(mktemp -d engines/.benchmark.XXXXXX)
sampler=
trap 'if [ -n "$sampler" ]; then kill "$sampler" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Clocks and what holds them down, once a second while trtexec runs: on idle they say nothing.
REASONS=sw_power_cap,hw_slowdown,hw_thermal_slowdown,hw_power_brake_slowdown,sw_thermal_slowdown
query() { nvidia-smi -i 0 "--query-gpu=$1" --format=csv,noheader,nounits 2>/dev/null; }
fields_of() { printf '%s' "$REASONS" | sed "s/[a-z_]*/$1.&/g"; }
reasons=
for prefix in clocks_event_reasons clocks_throttle_reasons; do # the second is its name in older drivers
    if [ -z "$reasons" ] && query "$(fields_of $prefix)" | grep -q Active; then reasons=$(fields_of $prefix); fi
done
sample() {
    query clocks.sm >>"$work/clocks" || cat /sys/class/devfreq/*gpu*/cur_freq 2>/dev/null |
        awk 'NR == 1 { print $1 / 1000000 }' >>"$work/clocks" || true
    if [ -n "$reasons" ]; then query "$reasons" >>"$work/reasons" || true; fi
}
sample_while() { while [ -e "$1" ]; do sample; sleep 1; done; } # a signal alone can be lost just after the fork
median_clock() {
    grep -x '[0-9.]*' "$work/clocks" 2>/dev/null | sort -n | awk '
        { clock[NR] = $1 }
        END { if (NR) printf "median %s, lowest %s, highest %s of %d", clock[int((NR + 1) / 2)], clock[1], clock[NR], NR }'
}
active_reasons() {
    [ -s "$work/reasons" ] || return 0
    awk -F ', *' -v names="$REASONS" '
        { for (i = 1; i <= NF; i++) if ($i == "Active") seen[i] = 1 }
        END {
            split(names, name, ",")
            for (i = 1; i in name; i++) if (seen[i]) { printf "%s%s", found ? ", " : "", name[i]; found = 1 }
            if (!found) printf "none"
        }' "$work/reasons"
}

# trtexec's summary: `[I] Latency: min = 1 ms, ..., median = 1 ms, percentile(90%) = 1 ms, ...`
number_of() { sed -n "s/.*\[I\] $1: .*$2 = \([0-9.e+-]*\) ms.*/\1/p" "$3" | tail -n 1; }
enough() { if [ "$1" -ge "$2" ]; then printf '%s' "$3"; else printf null; fi; } # ten runs beyond a percentile

limit= # 100 runs of a slow model must end too; where there is no such program they end when they end
if command -v timeout >/dev/null; then limit="timeout $((10 * seconds + 600))"; fi
timings=
shapes=
for engine in "$@"; do
    name=$(basename "$engine" .plan)
    log=engines/$name.benchmark.log
    least='' tuned='' most='' range='' profile=null
    if [ -f "engines/$name.profile" ]; then read -r least tuned most <"engines/$name.profile" || true; fi
    case $least/$tuned/$most in
        /* | *//* | */ | *[!0-9/]*)
            batch=${asked_batch:-1}
            echo "benchmark.sh: $engine has no usable engines/$name.profile: for which batch it is tuned is unknown" >&2
            ;;
        *)
            batch=${asked_batch:-$tuned}
            if [ "$batch" -lt "$least" ] || [ "$batch" -gt "$most" ]; then
                fail "--batch $batch: $engine takes $least to $most images; build it with sh build_engine.sh --batch $batch"
            fi
            profile="{\"min\": $least, \"opt\": $tuned, \"max\": $most}"
            range=$least-$tuned-$most
            if [ "$batch" != "$tuned" ]; then
                echo "benchmark.sh: $engine is tuned for $tuned images and timed at $batch: slower than it could be" >&2
            fi
            ;;
    esac
    set -- "--loadEngine=$engine" --warmUp=500 "--duration=$seconds" --iterations=100 "--percentile=90,95,99"
    if [ "$DYNAMIC_BATCH" = 1 ]; then set -- "$@" "--shapes=images:${batch}x3x${IMAGE_SIZE_PX}x${IMAGE_SIZE_PX}"; fi
    if [ "$TENSORRT_MAJOR" = 10 ]; then
        set -- "$@" --useCudaGraph --useSpinWait # defaults of 11
    else
        set -- "$@" --includeDataTransfers # default of 10
    fi
    echo "tensorrt $name, batch $batch: measuring for $seconds s"
    : >"$work/running"
    sample_while "$work/running" >/dev/null 2>&1 &
    sampler=$!
    failed=0
    $limit "$TRTEXEC" "$@" >"$work/log" 2>&1 || failed=1
    rm -f "$work/running"
    kill "$sampler" 2>/dev/null || true
    wait "$sampler" 2>/dev/null || true
    sampler=
    rm -f "$log"
    mv "$work/log" "$log"
    if [ "$failed" = 1 ]; then
        tail -n 20 "$log" >&2
        fail "$engine does not run here, or not within its time; build it on this device. The whole log is $log" 1
    fi
    runs=$(sed -n 's/.*Timing trace has \([0-9]*\) queries.*/\1/p' "$log" | tail -n 1)
    p50=$(number_of Latency median "$log")
    p90=$(number_of Latency 'percentile(90%)' "$log")
    p99=$(number_of Latency 'percentile(99%)' "$log")
    if [ -z "$runs" ] || [ -z "$p50" ] || [ -z "$p99" ]; then
        fail "$log has no latency summary of the kind that TensorRT 10 and 11 print" 1
    fi
    p90=$(enough "$runs" 100 "$p90")
    p99=$(enough "$runs" 1000 "$p99")
    echo "tensorrt $name, batch $batch: p50 $p50 ms, p99 $p99 ms over $runs runs" | sed 's/ p99 null ms/ no p99/'
    shapes="$shapes$batch:$range
"
    timings="$timings${timings:+,}
    {\"runtime\": \"tensorrt\", \"runtime_version\": $(text "$TENSORRT_VERSION"), \"precision\": $(text "$name"),
     \"batch_size\": $batch, \"profile\": $profile, \"inputs\": \"noise\", \"runs\": $runs,
     \"mean_ms\": $(number_of Latency mean "$log"), \"p50_ms\": $p50, \"p90_ms\": $p90, \"p99_ms\": $p99,
     \"compute_p50_ms\": $(number_of 'GPU Compute Time' median "$log")}"
done

state=
plain() { printf '%s' "$1" | tr -cd '\040-\176' | sed 's/^ *//; s/ *$//'; }
read_state() { if [ -n "$2" ]; then state="$state${state:+, }\"$1\": $(text "$2")"; fi; }
power_mode=$(plain "$(nvpmodel -q 2>/dev/null | sed -n 's/.*Power Mode: *//p' | head -n 1)")
power_limit=$(plain "$(nvidia-smi -i 0 --query-gpu=power.limit --format=csv,noheader 2>/dev/null | grep '[0-9]' || true)")
governor=$(plain "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null || true)")
read_state power_mode "$power_mode"
read_state gpu_power_limit "$power_limit"
read_state cpu_governor "$governor"
read_state gpu_clock_mhz "$(median_clock)"
read_state gpu_clock_reasons "$(active_reasons)"

# One record per setting: the digest of this text, as pipeline/bundle/device_records.py takes it.
shapes=$(printf '%s' "$shapes" | LC_ALL=C sort -u | tr '\n' ',' | sed 's/,$//')
setting=$(printf '%s|%s|%s||%s' "$power_mode" "$power_limit" "$governor" "$shapes" | sha256sum | cut -c 1-8)
record=records/$fingerprint-$setting.json
mkdir -p records
cat >"$work/record" <<RECORD
{
  "format": 1, "task": "$TASK", "student": "$STUDENT", "checkpoint_digest": "$CHECKPOINT_DIGEST",
  "image_size_px": $IMAGE_SIZE_PX, "commit": "$COMMIT", "threads": null,
  "device": {$device, "fingerprint": "$fingerprint"},
  "state": {$state},
  "timings": [$timings
  ]
}
RECORD
rm -f "$record"
mv "$work/record" "$record"
echo "$record"
