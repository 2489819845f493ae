#!/bin/sh
# potluck beside llama.cpp: same GGUF, same threads, same ISA level, in turn.
# Part of `make bench`; asserts nothing.
#
#   sh tests/bench/compare.sh NODE_MODULES [JOB...]
#
# NODE_MODULES holds the npm package node-llama-cpp (3.22.1 was used) with its
# prebuilt binaries, installed with --ignore-scripts: its install script may
# build llama.cpp anew, for this processor only.  The jobs are in the table
# below.  Each gives PAIRS files of each side in build/bench/results, and what
# is there is not measured again (FRESH=1: all of it is), so the table can be
# made in pieces; the job `kernels` is bench_kernels.  tests/bench/report.mjs
# makes docs/PERFORMANCE.md of them.
#
# Environment: PAIRS (3), BENCH_WRAP (a command in front of each pair, as one
# that keeps other work off the machine).
set -eu
out=${POTLUCK_BUILD:-build/release}
dir=build/bench
results=$dir/results
pairs=${PAIRS:-3}
modules=$(cd "$1" && pwd)
shift

# job | model | threads | ISA | peer's variant | prompt | steps | depths | streams
# ISA -: the best of either side.
jobs="
q4km-2t    | llama-1b-q4_k_m  | 2 | -    | -           | 512 | 48 | 0,4096 | 1
q4km-1t    | llama-1b-q4_k_m  | 1 | -    | -           | 512 | 32 | 0      | 1
q4km-16-2t | llama-1b-q4_k_m  | 2 | -    | -           | 0   | 16 | 16     | 16
q4km-16-1t | llama-1b-q4_k_m  | 1 | -    | -           | 0   | 8  | 16     | 16
q8-2t      | llama-1b-q8_0    | 2 | -    | -           | 512 | 24 | 0      | 1
q4_0-2t    | llama-1b-q4_0    | 2 | -    | -           | 512 | 32 | 0      | 1
moe-2t     | mixtral-like-2b  | 2 | -    | -           | 512 | 48 | 0      | 1
70b-2t     | llama-70b-group  | 2 | -    | -           | 128 | 16 | 0      | 1
avx2-2t    | llama-1b-q4_k_m  | 2 | avx2 | haswell     | 512 | 32 | 0      | 1
avx-2t     | llama-1b-q4_k_m  | 2 | avx  | sandybridge | 128 | 24 | 0      | 1
sse4-2t    | llama-1b-q4_k_m  | 2 | sse4 | sse42       | 128 | 24 | 0      | 1
"

make_model() { # NAME
    file=$dir/$1.gguf
    [ ! -f "$file" ] || return 0
    echo "making $file" >&2
    case $1 in
    llama-1b-*) set -- --preset llama-1b-shape --type "${1#llama-1b-}" ;;
    *) set -- --preset "$1" ;;
    esac
    "$out/tests/tools/make_model" "$@" --seed 1 "$file.part" >/dev/null
    mv "$file.part" "$file"
}

# A copy of the package that has one variant only, so that it takes that.
modules_for() { # VARIANT
    [ "$1" != - ] || { echo "$modules"; return 0; }
    copy=$dir/peer-$1/node_modules
    if [ ! -d "$copy" ]; then
        rm -rf "$dir/peer-$1.part"
        mkdir -p "$dir/peer-$1.part"
        cp -a "$modules" "$dir/peer-$1.part/node_modules"
        find "$dir/peer-$1.part" -name 'libggml-cpu-*.so' \
            ! -name "libggml-cpu-$1.so" -exec rm {} +
        mv "$dir/peer-$1.part" "$dir/peer-$1"
    fi
    echo "$copy"
}

# llama.cpp's cache of a depth takes long to compute and is no part of what is
# measured: it lies in a file before.
prepare_cache() { # MODEL THREADS DEPTHS
    for depth in $(echo "$3" | tr , ' '); do
        [ "$depth" -ge 256 ] || continue
        file=$(echo "$dir/peer-cache/$1.gguf"-*-"$depth".state)
        [ ! -f "$file" ] || continue
        echo "bench: llama.cpp computes a cache of $depth positions" >&2
        for part in 1024 2048 3072 "$depth"; do # none of them takes long
            [ "$part" -le "$depth" ] || continue
            ${BENCH_WRAP:-} node tests/bench/peer.mjs --modules "$modules" \
                --model "$dir/$1.gguf" --threads "$2" --prompt 0 --tokens 1 \
                --runs 1 --depth "$part" --cache "$dir/peer-cache" >/dev/null
        done
        for part in 1024 2048 3072; do
            [ "$part" = "$depth" ] ||
                rm -f "$dir/peer-cache/$1.gguf"-*-$part.state
        done
    done
}

# One side writes its file only when it is whole.
keep() { # FILE COMMAND...
    to=$1
    shift
    "$@" >"$to.part" || { rm -f "$to.part"; return 1; }
    mv "$to.part" "$to"
}

# Both sides of one pair, each once; called by itself, behind BENCH_WRAP.
run_pair() { # JOB PAIR MODEL THREADS ISA VARIANT PROMPT STEPS DEPTHS STREAMS
    at=$results/$1.$2
    runs=1
    prompt=$7
    [ "$prompt" != 0 ] || prompt=1
    set -- "$@" "$dir/$3.gguf"
    if [ ! -f "$at.ours" ]; then
        isa=
        [ "$5" = - ] || isa=--isa=$5
        # shellcheck disable=SC2086
        keep "$at.ours" "$out/potluck" bench "${11}" --json -t "$4" $isa \
            -p "$prompt" -n "$8" -d "$9" -b "${10}" -r $runs
    fi
    if [ ! -f "$at.peer" ]; then
        variant=
        [ "$6" = - ] || variant=--variant=$6
        # shellcheck disable=SC2086
        keep "$at.peer" node tests/bench/peer.mjs \
            --modules "$(modules_for "$6")" $variant --model "${11}" \
            --threads "$4" --prompt "$7" --tokens "$8" --depth "$9" \
            --streams "${10}" --runs $runs --cache "$dir/peer-cache"
    fi
}

if [ "${1:-}" = --pair ]; then
    shift
    run_pair "$@"
    exit
fi

mkdir -p "$results"
[ -z "${FRESH:-}" ] || rm -f "$results"/*.ours "$results"/*.peer \
    "$results"/kernels.*
failed=0
only=" $* "
rows=$(echo "$jobs" | tr -d ' ' | grep .)
pair=1
# all jobs once, then again: a run that breaks off has something of each
while [ $pair -le "$pairs" ]; do
    for row in $rows; do
        job=${row%%|*}
        case $only in
        "  " | *" $job "*) ;;
        *) continue ;;
        esac
        [ ! -f "$results/$job.$pair.ours" ] ||
            [ ! -f "$results/$job.$pair.peer" ] || continue
        # shellcheck disable=SC2086
        set -- $(echo "$row" | tr '|' ' ')
        make_model "$2"
        modules_for "$5" >/dev/null
        prepare_cache "$2" "$3" "$8"
        shift
        echo "bench: $job, pair $pair of $pairs" >&2
        # shellcheck disable=SC2086
        ${BENCH_WRAP:-} sh "$0" "$modules" --pair "$job" $pair "$@" || {
            echo "bench: $job: pair $pair did not end well" >&2
            failed=1
        }
    done
    pair=$((pair + 1))
done

# One thread, each kernel: a slice for each level that this processor has.
for isa in sse4 avx avx2 avxvnni avx512vnni; do
    case $only in
    "  " | *" kernels "*) ;;
    *) continue ;;
    esac
    file=$results/kernels.$isa.md
    [ ! -f "$file" ] || continue
    echo "bench: kernels of $isa" >&2
    keep "$file" ${BENCH_WRAP:-} "$out/tests/bench/bench_kernels" \
        --isa $isa || echo "bench: no kernels of $isa here" >&2
done
exit $failed
