#!/bin/sh
# Speed of this build on this machine; asserts nothing.  Called by
# `make bench`:
#
#   BENCH_MODELS="FILE.gguf ..." make bench
#
# Without BENCH_MODELS a model with random weights is made, big enough to be
# bound by memory.  Other benchmarks of the folder (bench_*.c) run first.
set -eu
out=${POTLUCK_BUILD:-build/release}

for bench in "$out"/tests/bench/bench_*; do
    case $bench in *.o | *.d | *'*') continue ;; esac
    echo "== $bench"
    "$bench"
done

if [ ! -x "$out/potluck" ]; then
    echo "bench: $out/potluck does not exist yet" >&2
    exit 1
fi
if [ -z "${BENCH_MODELS:-}" ]; then
    BENCH_MODELS=build/bench/${BENCH_PRESET:-bench-1b}.gguf
    if [ ! -f "$BENCH_MODELS" ]; then
        mkdir -p build/bench
        "$out/tests/tools/make_model" --preset "${BENCH_PRESET:-bench-1b}" \
            --seed 1 "$BENCH_MODELS"
    fi
fi
sed -n 's/^model name[^:]*: */cpu: /p' /proc/cpuinfo | head -n 1
for model in $BENCH_MODELS; do
    echo "== potluck bench $model"
    "$out/potluck" bench "$model"
done
