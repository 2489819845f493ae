#!/bin/sh
# Speed of this build on this machine; asserts nothing.  Called by
# `make bench`:
#
#   BENCH_MODELS="FILE.gguf ..." BENCH_OPTIONS="-p 512 -n 64" make bench
#
# Without BENCH_MODELS a model with random weights and the shape of Llama 3.2
# 1B is made, big enough to be bound by memory.  Then bench_pool (as root also
# over shaped links).  The other benchmarks of the folder (bench_*.c) have
# their own uses and are run by hand.
set -eu
out=${POTLUCK_BUILD:-build/release}

if [ ! -x "$out/potluck" ]; then
    echo "bench: $out/potluck does not exist yet" >&2
    exit 1
fi
if [ -z "${BENCH_MODELS:-}" ]; then
    BENCH_MODELS=build/bench/llama-1b-shape.gguf
    if [ ! -f "$BENCH_MODELS" ]; then
        mkdir -p build/bench
        "$out/tests/tools/make_model" --preset llama-1b-shape --seed 1 \
            "$BENCH_MODELS"
    fi
fi
sed -n 's/^model name[^:]*: */cpu: /p' /proc/cpuinfo | head -n 1
for model in $BENCH_MODELS; do
    echo "== potluck bench $model"
    # shellcheck disable=SC2086
    "$out/potluck" bench "$model" ${BENCH_OPTIONS:-}
done
if [ -x "$out/tests/bench/bench_pool" ]; then
    echo "== bench_pool: two workers of one thread against one"
    "$out/tests/bench/bench_pool" 2>/dev/null
fi
