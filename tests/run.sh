#!/bin/sh
# Runs test programs, one process each, JOBS at a time, each with a timeout,
# and counts their cases from cmocka's TAP lines.
#
#   sh tests/run.sh PROGRAM...
#
# Environment: JOBS (1), TIMEOUT in seconds (300), WRAP (a command in front,
# such as valgrind), CI=true (a skipped case is a failure).
# The last line is `N passed, N failed` or `N passed, N failed, N skipped`.
set -u

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

export CMOCKA_MESSAGE_OUTPUT=TAP
# Tests ask for absurd sizes to see them refused, not to end the program.
export ASAN_OPTIONS="allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
# A race, even in a test that passes, must give a non-zero exit.
TSAN_OPTIONS="exitcode=66:allocator_may_return_null=1:${TSAN_OPTIONS:-}"
if [ -f tests/tsan.supp ]; then
    TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp:$TSAN_OPTIONS"
fi
export TSAN_OPTIONS
export RUN_DIR="$dir" TIMEOUT="${TIMEOUT:-300}" WRAP="${WRAP:-}"
case ${1:-} in
build/tsan/*)
    # Old TSan runtimes cannot map their shadow where the kernel randomises
    # addresses widely; without randomisation they can.
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        WRAP="setarch $(uname -m) -R $WRAP"
    fi
    ;;
esac

# One program: its output and its exit status into files of its name.
# shellcheck disable=SC2016
[ $# = 0 ] || printf '%s\n' "$@" | xargs -P "${JOBS:-1}" -I{} sh -c '
    name=$(printf %s "$1" | tr / _)
    start=$(date +%s)
    timeout -k 10 "$TIMEOUT" $WRAP "$1" >"$RUN_DIR/$name.out" 2>&1 </dev/null
    echo $? >"$RUN_DIR/$name.rc"
    echo $(($(date +%s) - start)) >"$RUN_DIR/$name.s"
' run {}

passed=0 failed=0 skipped=0
for program in "$@"; do
    name=$(printf %s "$program" | tr / _)
    rc=$(cat "$dir/$name.rc" 2>/dev/null || echo 127)
    # An unfinished program has fewer lines than its plan "1..N" promises;
    # what is missing has failed.  A program that says 0 and lost a line (a
    # test printed half a line in front of it) has passed it.
    counts=$(awk -v rc="$rc" '
        /^1\.\.[0-9]+/ { plan += substr($1, 4) }
        /^(not )?ok [0-9]+ # SKIP/ { skip++; next }
        /^ok [0-9]+/ { ok++ }
        /^not ok [0-9]+/ { bad++ }
        END {
            lost = plan - ok - bad - skip
            if (lost > 0 && rc == 0) ok += lost
            if (lost > 0 && rc != 0) bad += lost
            if (rc != 0 && bad == 0) bad = 1
            print ok + 0, bad + 0, skip + 0
        }' "$dir/$name.out")
    # shellcheck disable=SC2086
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    line="$1 passed"
    [ "$2" = 0 ] || line="$line, $2 FAILED"
    [ "$3" = 0 ] || line="$line, $3 skipped"
    [ "$rc" != 124 ] && [ "$rc" != 137 ] ||
        line="$line, stopped after $TIMEOUT s"
    seconds=$(cat "$dir/$name.s" 2>/dev/null || echo 0)
    [ "$seconds" -lt 5 ] || line="$line, $seconds s"
    printf '%-44s %s\n' "$program" "$line"
    if [ "$2" != 0 ]; then
        echo "    exit status $rc; its output:"
        sed 's/^/    /' "$dir/$name.out"
    elif [ "$3" != 0 ]; then
        grep -i 'skip' "$dir/$name.out" | sed 's/^/    /'
    fi
done

if [ $((passed + failed)) = 0 ]; then
    echo "no test ran" >&2
    failed=1
fi
if [ "$skipped" != 0 ] && [ "${CI:-}" = true ]; then
    echo "CI=true: a skipped test is a failure" >&2
fi
line="$passed passed, $failed failed"
[ "$skipped" = 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" = 0 ] || exit 1
[ "$skipped" = 0 ] || [ "${CI:-}" != true ] || exit 1
