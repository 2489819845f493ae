#!/bin/sh
# Runs the engine's tests for 64-bit ARM in an emulator, as three processors.
#
#   sh tests/arm64/run.sh DIR      DIR holds the programs, test_NAME
#
# Environment: QEMU_ARM64 (qemu-aarch64), and that of tests/run.sh.
# The last line is `N passed, N failed`: of all three.
set -u
cd "$(dirname "$0")/../.." || exit 1
qemu=${QEMU_ARM64:-qemu-aarch64}
if ! command -v "$qemu" >/dev/null 2>&1; then
    echo "arm64: $qemu is missing (Debian: qemu-user)" >&2
    exit 1
fi
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# as CPU LEVEL NAME...: the tests, which also see that LEVEL is what they run.
as() {
    cpu=$1 level=$2
    shift 2
    echo "$cpu: $level"
    # shellcheck disable=SC2046
    TIMEOUT=900 WRAP="$qemu -cpu $cpu -E WANT_ISA=$level" sh tests/run.sh \
        $(for name in "$@"; do echo "$dir/test_$name"; done) 2>&1 |
        tee -a "$log"
}

dir=$1
# A Raspberry Pi 4, a Raspberry Pi 5, and all that the emulator knows.
as cortex-a72 neon kernels vec attention
as cortex-a76 neondotprod vec attention head moe
as max neondotprod kernels vec numerics quant attention head moe step
awk '/^[0-9]+ passed, [0-9]+ failed/ { ok += $1; bad += $3; n++ }
    END {
        if (n != 3) bad++
        print ok + 0 " passed, " bad + 0 " failed"
        exit bad != 0
    }' "$log"
