#!/bin/sh
# Plants one-line bugs, one at a time, and sees that the named test goes red.
#
#   sh tests/mutants/run.sh [ID...]     all of tests/mutants/list, or these
#
# The list's format is described at its top.  A mutant that its test survives,
# that does not compile, or whose old text is not found exactly once fails the
# run.  Environment: JOBS (2), TIMEOUT of a test in seconds (300), SHARE as in
# 2/4: the second, sixth, tenth... of them only.
set -u
cd "$(dirname "$0")/../.." || exit 1
tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' INT TERM
# A mutant may well give a warning, and a skipped test must not count as red.
unset CI MAKEFLAGS MFLAGS MAKELEVEL
export TREE="$tree" TIMEOUT="${TIMEOUT:-300}"
list=tests/mutants/list
mkdir "$tree/m"

# Each mutant becomes four files: ID/file, test, old, new.
awk -v dir="$tree/m" -v only=" $* " '
    function bad(why) {
        print FILENAME ":" FNR ": " why > "/dev/stderr"
        failed = 1
        exit 1
    }
    /^#/ || /^$/ { next }
    /^@ / {
        if (NF != 4) bad("want: @ ID FILE TEST")
        if ($2 in seen) bad("the id " $2 " is there twice")
        if (id != "" && n != 2) bad(id " lacks a - or + line")
        seen[$2] = 1
        id = $2
        n = 0
        take = only == "  " || index(only, " " id " ") > 0
        if (take) {
            to = dir "/" id
            system("mkdir " to)
            print $3 > (to "/file")
            print $4 > (to "/test")
            close(to "/file")
            close(to "/test")
        }
        next
    }
    /^- / && n == 0 { n = 1; if (take) { print substr($0, 3) > (to "/old") } next }
    /^[+] / && n == 1 { n = 2; if (take) { print substr($0, 3) > (to "/new") } next }
    { bad("neither a comment, nor @, -, + in this order") }
    END { if (!failed && id != "" && n != 2) bad(id " lacks a - or + line") }
' $list || exit 1
all=$(ls "$tree/m")
ids=$(echo "$all" | awk -v share="${SHARE:-1/1}" '
    BEGIN { split(share, s, "/") }
    NF && NR % s[2] == s[1] % s[2]')
[ -n "$ids" ] || { echo "mutants: none of that name" >&2; exit 1; }
echo "mutants: $(echo "$ids" | wc -l) of $(echo "$all" | wc -l)"
tests=$(for id in $ids; do cat "$tree/m/$id/test"; done | sort -u)

# Every old text must be there once, or the list is out of date.
stale=0
for id in $all; do
    file=$(cat "$tree/m/$id/file")
    count=$(awk 'NR == FNR { old = $0; next }
        {
            line = $0
            while ((at = index(line, old)) > 0) {
                n++
                line = substr(line, at + length(old))
            }
        }
        END { print n + 0 }' "$tree/m/$id/old" "$file")
    if [ "$count" != 1 ]; then
        echo "$id: its old text stands $count times in $file, want 1" >&2
        stale=1
    fi
done
[ "$stale" = 0 ] || exit 1

# One tree, built once; each mutant gets a copy and builds what changed.
base=$tree/base
mkdir "$base"
for part in Makefile common engine proto coordinator worker client tests; do
    [ ! -e "$part" ] || cp -a "$part" "$base/"
done
ln -s "$PWD/deploy" "$base/deploy" # read only: the bundled model

# What is built already need not be built again: objects of the programs, and
# of the tests that are wanted.  -Werror, which CI=true adds, changes no object,
# so the flags may forget it without looking newer.
built=$base/build/release
if [ -f build/release/flags ]; then
    mkdir -p "$built"
    (cd build/release && find . -type f \( -name '*.[aod]' -o -name flags -o \
        -name '*.pb-c.[ch]' \) ! -path '*/unit/*' ! -path '*/net/*' \
        ! -path '*/golden/*' ! -path '*/fuzz/*' ! -path '*/bench/*' |
        tar --format=posix -cf - -T -) | tar -xf - -C "$built" || exit 1
    for t in $tests; do
        mkdir -p "$(dirname "$built/$t")"
        for file in "build/release/$t.o" "build/release/$t.d"; do
            [ ! -e "$file" ] || cp -p "$file" "$base/$file"
        done
    done
    cp -p "$built/flags" "$tree/flags"
    sed 's/ -Werror\b//' "$tree/flags" >"$built/flags"
    touch -r "$tree/flags" "$built/flags"
fi
programs=$(for t in $tests; do echo "build/release/$t"; done)
echo "mutants: building once"
# shellcheck disable=SC2086
(cd "$base" && "${MAKE:-make}" -s -j"${JOBS:-2}" V=1 tools $programs) ||
    exit 1
for t in $tests; do
    if ! (cd "$base" &&
        POTLUCK_BUILD=build/release timeout "$TIMEOUT" "build/release/$t" \
            >"$tree/log" 2>&1 </dev/null); then
        cat "$tree/log"
        echo "mutants: $t is red without any mutant" >&2
        exit 1
    fi
done
# Programs the mutants do not need would only be copied about.
find "$base/build/release/tests" -type f -perm -u+x ! -path '*/tools/*' \
    -exec rm -f {} +

# shellcheck disable=SC2016
printf '%s\n' "$ids" | xargs -P "${JOBS:-2}" -I{} sh -c '
    id=$1
    m=$TREE/m/$id work=$TREE/work-$id
    file=$(cat "$m/file") test=$(cat "$m/test")
    cp -a "$TREE/base" "$work" && cd "$work" || exit 1
    awk "FILENAME == ARGV[1] { old = \$0; next }
        FILENAME == ARGV[2] { new = \$0; next }
        (at = index(\$0, old)) > 0 {
            \$0 = substr(\$0, 1, at - 1) new substr(\$0, at + length(old))
        }
        { print }" "$m/old" "$m/new" "$file" >"$m/mutated"
    cp "$m/mutated" "$file"
    if ! ${MAKE:-make} -s V=1 "build/release/$test" >"$m/log" 2>&1; then
        echo broken >"$m/result"
    elif POTLUCK_BUILD=build/release timeout -k 5 "$TIMEOUT" \
        "build/release/$test" >"$m/log" 2>&1 </dev/null; then
        echo survived >"$m/result"
    else
        echo killed >"$m/result"
    fi
    cd / && rm -rf "$work"
' mutant {}

passed=0 failed=0
for id in $ids; do
    result=$(cat "$tree/m/$id/result" 2>/dev/null || echo broken)
    test=$(cat "$tree/m/$id/test")
    case $result in
    killed) passed=$((passed + 1)) ;;
    survived)
        failed=$((failed + 1))
        echo "$id SURVIVED: $test stays green with"
        sed 's/^/    /' "$tree/m/$id/new"
        ;;
    *)
        failed=$((failed + 1))
        echo "$id does not build:"
        tail -n 20 "$tree/m/$id/log" 2>/dev/null | sed 's/^/    /'
        ;;
    esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
