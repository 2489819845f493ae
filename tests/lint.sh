#!/bin/sh
# What a text search can check: layout, layers, banned words, sizes; and
# cppcheck.  Prints only what is wrong; `make lint` goes on to clang-tidy.
set -u

found=$(mktemp) && bad=$(mktemp) || exit 1
trap 'rm -f "$found" "$bad"' EXIT
complain() { # complain RULE, findings on standard input
    if grep . >"$found"; then
        printf '%s:\n' "$1"
        sed 's/^/  /' "$found"
        echo "$1" >>"$bad" # a file: this runs in a pipe's subshell
    fi
}

dirs=
for d in common engine proto coordinator worker client tests; do
    [ -d "$d" ] && dirs="$dirs $d"
done
# shellcheck disable=SC2086
files=$(find $dirs -name '*.[ch]' | sort)
# Of these, those that ship.
ship=$(printf '%s\n' "$files" | grep -v '^tests/')
grep_c() { # grep_c REGEX FILES: without comment-only lines
    regex=$1
    shift
    grep -nHE "$regex" "$@" /dev/null | grep -vE '^[^:]*:[0-9]+: *(/\*|\*|//)'
}

# shellcheck disable=SC2086
clang-format --dry-run -Werror $files 2>&1 | grep 'error:' |
    sed 's/error: code should be.*/run clang-format -i/' |
    complain "layout (.clang-format)"

# Includes point down only.
layer() { # layer DIR ALLOWED|ALLOWED
    [ -d "$1" ] || return 0
    find "$1" -name '*.[ch]' -exec grep -nHE '^ *# *include +"' {} + |
        grep -vE "\"($2)/" | complain "$1/ includes only $2"
}
layer common 'common'
layer engine 'common|engine'
layer proto 'common|engine|proto'
layer coordinator 'common|engine|proto|coordinator'
layer worker 'common|engine|proto|worker'
layer client 'common|engine|proto|client'

only_in() { # only_in HEADER-REGEX FILE-NAME-REGEX
    # shellcheck disable=SC2086
    grep_c "^ *# *include +[<\"]([^>\"]*/)?($1)[>\"]" $ship |
        grep -vE "^([^:]*/)?($2):" | complain "$1 is included only in $2"
}
only_in '(uv|zmq)\.h' '(net|http|exec|main)\.c'
only_in 'protobuf-c[^>"]*|[a-z_]*\.pb-c\.h' 'wire[a-z_]*\.[ch]'
only_in 'cblas\.h' 'kernels_sgemm\.c'
only_in 'curl\.h' 'http\.c'
[ ! -d engine ] || find engine -name '*.[ch]' \
    -exec grep -nHE 'include <(uv|zmq|sys/socket|netinet/|microhttpd)' {} + |
    complain "engine knows no sockets"

# shellcheck disable=SC2086
grep_c '(^|[^A-Za-z0-9_])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|sscanf|rand|srand|alloca|system)\(' \
    $files | complain "banned (CONTRIBUTING.md, Style)"
# shellcheck disable=SC2086
grep_c '(^|[^A-Za-z0-9_.>])(malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup|asprintf)\(' \
    $files | grep -vE '^(common/mem\.c|tests/fuzz/replay_main\.c|tests/lint_models\.h):' |
    complain "allocation only through common/mem.h"
# shellcheck disable=SC2086
grep_c '(^|[^A-Za-z0-9_])(_?exit|abort)\(' $ship |
    grep -vE '^([a-z]+/main\.c|common/mem\.c|engine/numerics\.c|client/spawn\.c|coordinator/child\.c):' |
    complain "only main.c ends the program"
# shellcheck disable=SC2086
grep -nHwE 'TODO|FIXME|XXX' $files /dev/null | complain "unfinished work"
# shellcheck disable=SC2086
grep -nHE '[[:space:]]+$' $files /dev/null | complain "space at a line's end"
for f in $files; do
    case $f in tests/golden/*.h | */*_table.h | */*_tables.c | */*_table.c)
        continue ;;
    esac
    n=$(wc -l <"$f")
    [ "$n" -le 800 ] || echo "$f: $n lines, limit 800"
done | complain "file size"
for f in $files; do
    case $f in *.h)
        grep -q '^#ifndef [A-Z0-9_]*_H$' "$f" || echo "$f" ;;
    esac
done | complain "header without include guard"

# Uninitialised values are left to clang's analyzer, which follows the status
# that guards them.
# shellcheck disable=SC2086
cppcheck --quiet --std=c11 --enable=warning,performance,portability \
    --inline-suppr -j "$(nproc)" -I. --suppress=missingIncludeSystem \
    --suppress=uninitvar --suppress=uninitStructMember \
    --template='{file}:{line}: {id}: {message}' $ship 2>&1 |
    complain "cppcheck"

[ ! -s "$bad" ]
