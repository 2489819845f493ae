#!/bin/sh
# Speed of this build on this machine; asserts nothing.  Called by
# `make bench`:
#
#   sh tests/bench/run.sh [NODE_MODULES]
#   BENCH_MODELS="FILE.gguf ..." BENCH_OPTIONS="-p 512 -n 64" make bench
#
# With NODE_MODULES, a folder that holds node-llama-cpp, beside llama.cpp, and
# into docs/PERFORMANCE.md; without it, or with BENCH_MODELS, our side alone.
# Then bench_pool (as root also over shaped links).
set -eu
out=${POTLUCK_BUILD:-build/release}
modules=${1:-}

if [ ! -x "$out/potluck" ]; then
    echo "bench: $out/potluck does not exist yet" >&2
    exit 1
fi
if [ -z "${BENCH_MODELS:-}" ] && [ -d "$modules/node-llama-cpp" ] &&
    command -v node >/dev/null 2>&1; then
    sh tests/bench/compare.sh "$modules"
    node tests/bench/report.mjs
    exit
fi
if [ -z "${BENCH_MODELS:-}" ]; then
    echo "bench: without node and the npm package node-llama-cpp" \
        "(MODULES=DIR or NODE_PATH) only our side is measured"
    BENCH_MODELS=build/bench/llama-1b-q4_k_m.gguf
    if [ ! -f "$BENCH_MODELS" ]; then
        mkdir -p build/bench
        "$out/tests/tools/make_model" --preset llama-1b-shape --seed 1 \
            "$BENCH_MODELS"
    fi
fi
for model in $BENCH_MODELS; do
    echo "== potluck bench $model"
    # shellcheck disable=SC2086
    "$out/potluck" bench "$model" ${BENCH_OPTIONS:-}
done
if [ -x "$out/tests/bench/bench_pool" ]; then
    echo "== bench_pool: two workers of one thread against one"
    "$out/tests/bench/bench_pool" 2>/dev/null
fi
