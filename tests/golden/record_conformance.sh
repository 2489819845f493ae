#!/bin/sh
# Record what llama.cpp answers for every case of conformance.list.
#
#   make tools, then: tests/golden/record_conformance.sh NODE_MODULES OUT_DIR [FAMILY]...
#
# NODE_MODULES as of record_all.sh; records go to OUT_DIR/FAMILY-TYPE.json,
# without FAMILY all of them.  POTLUCK_BUILD: where the tools were built.
set -eu
modules=$1 out=$2
shift 2
here=$(dirname "$0")
tools=${POTLUCK_BUILD:-build/release}/tests/tools
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$out"

# record FAMILY MARGIN TYPE PRESET SETTING...
record() {
    family=$1 margin=$2 type=$3 preset=$4
    shift 4
    args= list=
    for s in "$@" "type=$type"; do
        args="$args --set $s"
        list="$list${list:+,}\"$s\""
    done
    # No setting contains white space.
    # shellcheck disable=SC2086
    hash=$("$tools/make_model" --preset "$preset" $args "$tmp/m.gguf")
    "$tools/pick_tokens" "$tmp/m.gguf" 64 7 "$margin" > "$tmp/ids" 2> "$tmp/margin"
    least=$(sed -n 's/^least margin //p' "$tmp/margin")
    name=$family-$(echo "$type" | tr '[:upper:]' '[:lower:]')
    printf '%s: ' "$name" >&2
    node "$here/record_oracle.mjs" --modules "$modules" --conform --top 64 \
        --model "$tmp/m.gguf" --tokens "$tmp/ids" --out "$out/$name.json" \
        --info "{\"model\":{\"preset\":\"$preset\",\"set\":[$list],\"fnv1a\":\"$hash\"},\"least_margin\":$least}"
}

grep -v '^#' "$here/conformance.list" | grep . |
    while read -r family margin types preset settings; do
        case " ${*:-$family} " in
        *" $family "*) ;;
        *) continue ;;
        esac
        for type in $(echo "$types" | tr ',' ' '); do
            # shellcheck disable=SC2086
            record "$family" "$margin" "$type" "$preset" $settings
        done
    done
