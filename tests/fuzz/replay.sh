#!/bin/sh
# Runs every recorded input through its fuzz target, in a process for each,
# without a fuzzer.  Called by `make fuzz-replay`:
#
#   sh tests/fuzz/replay.sh build/asan NAME...
#
# An input passes if the target returns 0 on it within 20 s.
set -u
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
out=$1
shift
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for name in "$@"; do
    n=0
    for input in tests/fuzz/corpus/"$name"/*; do
        [ -f "$input" ] || continue
        n=$((n + 1))
        if timeout -k 5 20 "$out/tests/fuzz/replay_$name" "$input" \
            >"$log" 2>&1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "$input: exit status of $name is not 0:"
            sed 's/^/    /' "$log"
        fi
    done
    echo "$name: $n inputs"
    if [ "$n" = 0 ]; then
        echo "$name: tests/fuzz/corpus/$name is empty"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
