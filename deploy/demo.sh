#!/bin/sh
# From a bare machine to an answer: installs what is missing, builds, runs a
# pool of a coordinator and three workers here.
#
#   sh deploy/demo.sh [--model FILE.gguf] [PROMPT]
#
# Without --model the demonstration model is made here, from random weights:
# it shows that everything runs, and its answer means nothing.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: sh deploy/demo.sh [--model FILE.gguf] [PROMPT]" >&2
    exit 2
}
model=
case ${1:-} in
--model)
    [ $# -ge 2 ] || usage
    model=$2
    shift 2
    ;;
-*) usage ;;
esac
[ $# -le 1 ] || usage
prompt=${1:-Once upon a time}
if [ -n "$model" ] && [ ! -r "$model" ]; then
    echo "demo: cannot read $model" >&2
    exit 1
fi

say() { printf '\n== %s\n' "$*" >&2; }

say "packages"
sh deploy/deps.sh demo
say "build"
make -j"$(nproc)" all >&2

if [ -z "$model" ]; then
    say "a model with random weights (for a real one: --model FILE.gguf)"
    make -j"$(nproc)" build/release/tests/tools/make_model >&2
    model=build/demo/tiny-moe.gguf
    mkdir -p build/demo
    build/release/tests/tools/make_model --preset tiny-moe --seed 1 "$model" \
        >&2
    echo "Its weights are random numbers, so its answer is noise: what you" \
        "see below proves the pool, not the model." >&2
fi

say "a pool of three workers on this machine"
build/release/potluck demo --model "$model" --workers 3 "$prompt"
