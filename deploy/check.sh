#!/bin/sh
# Builds and tests everything.
#
#   sh deploy/check.sh          build and tests
#   sh deploy/check.sh --full   and lint, sanitizers, fuzz replays, mutants,
#                               64-bit ARM: all compiled, the engine's tests
#                               in an emulator
#
# Every stage runs even if an earlier one failed, except that nothing runs
# without a build.  The last line is `N passed, N failed`: the test cases of
# all stages; a stage that has none (lint) counts only if it fails.
set -u
cd "$(dirname "$0")/.." || exit 1

full=
case ${1:-} in
'') ;;
--full) full=yes ;;
*)
    echo "usage: sh deploy/check.sh [--full]" >&2
    exit 2
    ;;
esac

jobs=$(nproc)
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0 summary=
all_start=$(date +%s)

# stage NAME COMMAND...: its output as it comes, its seconds, its counts.
stage() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    start=$(date +%s)
    { "$@" 2>&1; echo "stage status $?"; } | tee "$log" |
        grep -v '^stage status '
    status=$(sed -n 's/^stage status //p' "$log" | tail -n 1)
    seconds=$(($(date +%s) - start))
    counts=$(awk '
        /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
            counts = $1 " " $3 " " $5 + 0
        }
        END { print counts ? counts : "0 0 0" }' "$log")
    # shellcheck disable=SC2086
    set -- $counts
    # A stage can fail with no failed case: a test that did not compile.
    bad=$2
    [ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
    passed=$((passed + $1)) failed=$((failed + bad)) skipped=$((skipped + $3))
    word=ok
    [ "$status" = 0 ] || word=FAILED
    summary="$summary$(printf '%-14s %-6s %5d s' "$name" "$word" "$seconds")
"
    [ "$status" = 0 ]
}

stage packages sh deploy/deps.sh check && stage build make -j"$jobs" && {
    stage tests make -j"$jobs" check
    if [ -n "$full" ]; then
        stage lint make lint
        stage asan make -j"$jobs" asan
        stage tsan make -j"$jobs" tsan
        stage valgrind make valgrind-pool
        stage counts make counts
        stage fuzz-replay make -j"$jobs" fuzz-replay
        # all of them take too long here: an eighth, another one with every
        # commit; `make mutants` plants them all
        stage mutants env SHARE="$(($(git rev-list --count HEAD) % 8 + 1))/8" \
            make mutants
        if command -v aarch64-linux-gnu-gcc >/dev/null 2>&1; then
            stage arm64 make -j"$jobs" arm64 &&
                stage arm64-check make -j"$jobs" arm64-check
        fi
    fi
}

printf '\n%sin all %d s\n' "$summary" $(($(date +%s) - all_start))
line="$passed passed, $failed failed"
[ "$skipped" = 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" = 0 ]
