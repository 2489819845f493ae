#!/bin/sh
# Record the files of test_oracle in tests/golden/oracle anew (see
# record_oracle.mjs); record_conformance.sh has those of test_conformance.
#
#   make tools, then: tests/golden/record_all.sh NODE_MODULES [TOOLS_DIR]
#
# Needs Node 20 and the npm packages node-llama-cpp 3.22.1 and its binary for
# this machine in NODE_MODULES; TOOLS_DIR is where make_model and pick_tokens
# are (build/release/tests/tools).
set -eu
modules=$1
here=$(dirname "$0")
tools=${2:-build/release/tests/tools}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# record NAME MARGIN TOP PRESET [SETTING]...
record() {
    name=$1 margin=$2 top=$3 preset=$4
    shift 4
    args= list=
    for s in "$@"; do
        args="$args --set $s"
        list="$list${list:+,}\"$s\""
    done
    # No setting contains white space.
    # shellcheck disable=SC2086
    hash=$("$tools/make_model" --preset "$preset" $args "$tmp/m.gguf")
    "$tools/pick_tokens" "$tmp/m.gguf" 64 7 "$margin" > "$tmp/ids"
    node "$here/record_oracle.mjs" --modules "$modules" \
        --model "$tmp/m.gguf" --tokens "$tmp/ids" --top "$top" \
        --info "{\"model\":{\"preset\":\"$preset\",\"set\":[$list],\"fnv1a\":\"$hash\"}}" \
        --out "$here/oracle/$name.json"
}

record moe-f32 0.06 32 tiny-moe
record moe-q4_k_m 0.06 16 tiny-moe type=q4_k_m
record dense-f32 0 16 tiny-dense
record dense-q4_k_m 0 16 tiny-dense type=q4_k_m
record dense-tied-f32 0 16 tiny-dense tied=1
record dense-rope_freqs 0 16 tiny-dense head_dim=64 n_head_kv=2 \
    rope_base=500000 rope_factor=8
record dense-tied-q4_k_m 0 16 tiny-dense tied=1 type=q4_k_m rope_factor=32
