#!/bin/sh
# Instructions that a small model's prompt and answer take, against those
# recorded in counts.list: a regression guard that no other work on the machine
# disturbs.  Counts, not seconds.
#
#   sh tests/bench/counts.sh             compare; `make counts`
#   sh tests/bench/counts.sh --record    write counts.list; `make counts-record`
#
# Callgrind counts what runs inside step_run, in functions of the program
# itself: those of libc differ by processor.  One thread, no OpenBLAS, an ISA
# that is forced and that valgrind knows.  A function of at least a hundredth
# of the whole, and the whole, may take 3 percent more than recorded.  Less is
# reported too, so that the record follows.  Another compiler gives other
# counts: then nothing is compared, and the case is a skipped one.
set -eu
cd "$(dirname "$0")/../.."
build=${POTLUCK_BUILD:-build/release}
list=tests/bench/counts.list
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
compiler=$(${CC:-cc} --version | head -n 1)

# Self cost of each function of potluck, from callgrind's file: "COUNT NAME".
# shellcheck disable=SC2016
sum='
    function name(text, map,   id, rest) {
        id = text
        sub(/\).*/, ")", id)
        rest = substr(text, length(id) + 2)
        if (rest != "") map[id] = rest
        return map[id]
    }
    /^ob=/ { ours = name(substr($0, 4), objects) ~ /\/potluck$/; next }
    /^cob=/ { name(substr($0, 5), objects); next }
    /^fn=/ { f = name(substr($0, 4), functions); next }
    /^cfn=/ { name(substr($0, 5), functions); next }
    /^calls=/ { getline; next }
    /^[0-9+*-]/ && ours { count[f] += $2; total += $2 }
    END {
        printf "%d total\n", total
        for (f in count) {
            if (count[f] >= total / 100) printf "%d %s\n", count[f], f
        }
    }'

# count ISA TYPE: lines "ISA TYPE FUNCTION COUNT", the total first.
count() {
    POTLUCK_ISA=$1 valgrind --tool=callgrind -q --collect-atstart=no \
        --toggle-collect=step_run --callgrind-out-file="$tmp/out" \
        "$build/potluck" local "$tmp/$2.gguf" --raw -t 1 --blas never \
        --temp 0 -n 12 'counted' >"$tmp/text" 2>"$tmp/log" || {
        cat "$tmp/log" >&2
        return 1
    }
    awk "$sum" "$tmp/out" | sort -k1,1nr -k2 | awk -v isa="$1" -v type="$2" '
        { print isa, type, $2, $1 }'
}

: >"$tmp/now"
isas=
for isa in sse4 avx2; do
    # a processor without a level says so
    if POTLUCK_ISA=$isa "$build/potluck" local --help >/dev/null 2>&1 &&
        grep -q -w "$([ $isa = avx2 ] && echo avx2 || echo sse4_1)" \
            /proc/cpuinfo; then
        isas="$isas $isa"
    fi
done
if [ -z "$isas" ]; then
    echo "counts: for x86-64 processors with SSE4.1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
for type in q4_k_m q8_0; do
    "$build/tests/tools/make_model" --preset tiny-dense --type $type \
        --set n_embd=512 --set head_dim=64 --set n_ff=1024 --set n_layer=2 \
        "$tmp/$type.gguf" >/dev/null
    for isa in $isas; do
        count $isa $type >>"$tmp/now"
    done
done

if [ "${1:-}" = --record ]; then
    {
        echo "# tests/bench/counts.sh --record wrote this:"
        echo "# ISA, type of the weights, function, instructions"
        echo "compiler $compiler"
        cat "$tmp/now"
    } >$list
    echo "counts: wrote $list"
    exit 0
fi

recorded=$(sed -n 's/^compiler //p' $list)
if [ "$recorded" != "$compiler" ]; then
    echo "counts: recorded with $recorded; this is $compiler"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
status=0
awk '
    /^#/ || /^compiler / { next }
    { key = $1 " " $2 " " $3; whole = $1 " " $2 " total" }
    NR == FNR { was[key] = $4; next }
    { is[key] = $4; seen[$1] = 1 }
    key in was {
        part = $4 / was[key] - 1
        if (part > 0.03 || part < -0.03) {
            printf "%s: %d instructions, %d recorded (%+.1f %%)\n", key, $4, \
                was[key], 100 * part
        }
        if (part > 0.03) worse++
        if (part < -0.03) better++
        if ($3 == "total") cases++
        next
    }
    # one about the hundredth may be there or not
    $4 < 0.015 * is[whole] { next }
    { printf "%s: %d instructions, none recorded\n", key, $4; fresh++ }
    END {
        for (key in was) {
            split(key, k, " ")
            if (!(k[1] in seen) || key in is) continue
            if (was[key] < 0.015 * was[k[1] " " k[2] " total"]) continue
            printf "%s: %d recorded, now less than a hundredth\n", key, \
                was[key]
            gone++
        }
        if (worse) {
            print "counts: more instructions than recorded; if they are " \
                "worth it, make counts-record"
        } else if (better || fresh || gone) {
            print "counts: the record is out of date; make counts-record"
        }
        bad = worse || better || fresh || gone
        printf "%d passed, %d failed\n", bad ? 0 : cases, bad ? 1 : 0
        exit bad
    }' $list "$tmp/now" || status=1
exit $status
