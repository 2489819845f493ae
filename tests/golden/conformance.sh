#!/bin/sh
# Compare with llama.cpp on the spot: `make conformance MODULES=DIR`.
#
#   sh tests/golden/conformance.sh [NODE_MODULES]
#
# Records every case of conformance.list anew into $POTLUCK_BUILD/conformance,
# compares, and prints the tables.  Without NODE_MODULES the records of
# tests/golden/oracle stand.  DOC=1: the tables go into docs/CONFORMANCE.md.
set -eu
modules=${1:-}
build=${POTLUCK_BUILD:-build/release}
here=$(dirname "$0")
work=$build/conformance
mkdir -p "$work"
cases=$work/cases.md mistakes=$work/mistakes.md exact=$work/exact.md
POTLUCK_CONFORMANCE=$here/oracle
if [ -n "$modules" ]; then
    POTLUCK_BUILD=$build sh "$here/record_conformance.sh" "$modules" "$work"
    POTLUCK_CONFORMANCE=$work
fi
{
    echo '| case | positions | first token | llama.cpp itself | mean KL | largest KL | bound |'
    echo '|---|---|---|---|---|---|---|'
} > "$cases"
{
    echo '| case | mistake | mean KL |'
    echo '|---|---|---|'
} > "$mistakes"
{
    echo '| case | apart | potluck from exact | llama.cpp from exact | potluck from f64, f32 scales | llama.cpp from f64, f16 scales |'
    echo '|---|---|---|---|---|---|'
} > "$exact"
failed=0
POTLUCK_CONFORMANCE=$POTLUCK_CONFORMANCE CONFORMANCE_TABLE=$cases \
    CONFORMANCE_MISTAKES=$mistakes \
    "$build/tests/golden/test_conformance" > "$work/log" 2>&1 || failed=1
POTLUCK_CONFORMANCE=$POTLUCK_CONFORMANCE CONFORMANCE_EXACT=$exact \
    "$build/tests/golden/test_exact" >> "$work/log" 2>&1 || failed=1
cat "$cases" "$mistakes" "$exact"
if [ $failed = 1 ]; then
    grep 'FAILED\|ERROR' "$work/log" >&2
    exit 1
fi
[ -n "${DOC:-}" ] || exit 0
awk -v cases="$cases" -v mistakes="$mistakes" -v exact="$exact" '
    /^<!-- end/ { skip = 0 }
    !skip { print }
    /^<!-- cases/ { skip = 1; while ((getline l < cases) > 0) print l }
    /^<!-- exact/ { skip = 1; while ((getline l < exact) > 0) print l }
    /^<!-- mistakes/ { skip = 1; while ((getline l < mistakes) > 0) print l }
' docs/CONFORMANCE.md > "$work/doc.md"
cp "$work/doc.md" docs/CONFORMANCE.md
