#!/bin/sh
# From a bare machine to an answer: installs what is missing, builds, runs a
# pool of a coordinator and three workers here.
#
#   sh deploy/demo.sh [--model FILE.gguf] [PROMPT]
#
# Without --model it is the small model that comes with potluck
# (deploy/demo/recipe tells how it was made).
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
if [ -n "$model" ] && [ ! -r "$model" ]; then
    echo "demo: cannot read $model" >&2
    exit 1
fi

say() { printf '\n== %s\n' "$*" >&2; }

say "packages"
sh deploy/deps.sh demo
say "build"
make -j"$(nproc)" all >&2

say "a pool of three workers on this machine"
[ -z "$model" ] || set -- --model "$model" "$@"
build/release/potluck demo --workers 3 "$@"
