#!/bin/sh
# The tests of products under each OpenBLAS that Debian has: serial, pthread,
# openmp. Those that are not installed are fetched by apt and unpacked into a
# temporary folder; nothing is installed.  Called by `make blas-variants`.
set -eu
out=${POTLUCK_BUILD:-build/release}
arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null ||
    gcc -print-multiarch)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
trap 'exit 130' INT TERM

for variant in serial pthread openmp; do
    dir=/usr/lib/$arch/openblas-$variant
    if [ ! -e "$dir/libopenblas.so.0" ]; then
        mkdir "$top/$variant"
        (cd "$top/$variant" && apt-get download -qq \
            "libopenblas0-$variant" >log 2>&1 &&
            dpkg -x ./*.deb .) || {
            echo "blas-variants: libopenblas0-$variant is not to be had:" >&2
            cat "$top/$variant/log" >&2
            exit 1
        }
        dir=$top/$variant$dir
    fi
    for test in test_blas test_kernels test_kernels_extreme; do
        if LD_LIBRARY_PATH=$dir "$out/tests/unit/$test" >"$top/log" 2>&1; then
            echo "ok   $variant $test$(sed -n 's/^OpenBLAS:/:/p' "$top/log")"
        else
            cat "$top/log"
            echo "FAIL $variant $test"
            exit 1
        fi
    done
done
