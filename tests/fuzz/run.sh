#!/bin/sh
# libFuzzer over each target for FUZZ_SECONDS.  Called by `make fuzz`:
#
#   sh tests/fuzz/run.sh build/fuzz NAME...
#
# New inputs go to build/fuzz/corpus/NAME; a crash goes to
# build/fuzz/crashes/NAME and is to be copied into tests/fuzz/corpus/NAME,
# which `make fuzz-replay` runs for ever after.
set -u
out=$1
shift
failed=0
for name in "$@"; do
    found=$out/corpus/$name crashes=$out/crashes/$name
    seeds=tests/fuzz/corpus/$name
    mkdir -p "$found" "$crashes"
    [ -d "$seeds" ] || seeds=
    echo "== $name, ${FUZZ_SECONDS:-60} s"
    # shellcheck disable=SC2086
    if ! "$out/tests/fuzz/fuzz_$name" -max_total_time="${FUZZ_SECONDS:-60}" \
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$crashes/" "$found" $seeds; then
        failed=$((failed + 1))
        echo "$name: see $crashes" >&2
    fi
done
[ $# != 0 ] || { echo "no fuzz target" >&2; exit 1; }
[ "$failed" = 0 ]
