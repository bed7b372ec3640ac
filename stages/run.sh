#!/bin/sh
# sh stages/run.sh STAGE [ITEM]: run a stage with the Python that dvc runs in, whether or not its environment is active.
# A dvc of its own environment (pipx, a system package) lacks this project's packages: then .venv of the checkout or
# of the repository that a copy lies in (.dvc/tmp/exps/*), then the Python on the path.

of_dvc() { # dvc starts this script itself, or through a shell
    parent=$PPID
    for _ in 1 2; do
        [ -r "/proc/$parent/cmdline" ] || return
        python=$(tr '\0' '\n' <"/proc/$parent/cmdline" | sed -n 1p)
        case $python in
            /*) ;;
            */*) python=$(readlink "/proc/$parent/cwd")/$python ;;
        esac
        case ${python##*/} in python*) printf '%s' "$python" && return ;; esac
        parent=$(sed 's/.*) . //; s/ .*//' "/proc/$parent/stat")
    done
}

of_repository() { # .venv of the nearest folder that has one
    folder=$PWD
    while [ -n "$folder" ] && [ ! -x "$folder/.venv/bin/python" ]; do folder=${folder%/*}; done
    printf '%s' "$folder/.venv/bin/python"
}

has_packages() {
    [ -n "$1" ] && "$1" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("ultralytics") is None)' 2>/dev/null
}

stage=$1
shift
for python in "$(of_dvc)" "$(of_repository)" python python3; do
    if has_packages "$python"; then exec "$python" -m "stages.$stage" "$@"; fi
done
echo "ERROR $stage: no Python with this project's packages: run 'make repro', which sets up .venv, or activate your environment" >&2
exit 1
