#!/bin/sh
# Installs the packages that are missing: Debian 12, Ubuntu 22.04 and newer.
#
#   sh deploy/deps.sh demo     to build and run
#   sh deploy/deps.sh check    the same, and what the tests need
#
# Nothing missing: no root, no network.  Without root it uses sudo if that
# asks for no password; otherwise it prints the command to run, and exits 1.
set -eu

demo="gcc libc6-dev make git pkg-config libopenblas-serial-dev libjansson-dev
    libprotobuf-c-dev protobuf-c-compiler libsodium-dev libzmq3-dev libuv1-dev
    libmicrohttpd-dev libcurl4-gnutls-dev libpcre2-dev libutf8proc-dev"
check="$demo libcmocka-dev clang libclang-rt-dev clang-format clang-tidy
    cppcheck valgrind gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    qemu-user util-linux debootstrap iproute2 procps"

case ${1:-} in
demo) wanted=$demo ;;
check) wanted=$check ;;
*)
    echo "usage: sh deploy/deps.sh demo|check" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: this system has no dpkg; install what corresponds to:" >&2
    echo "  $wanted" | tr -s ' \n' ' ' >&2
    echo >&2
    exit 1
fi

# A name or text from os-release; empty if there is none.
release() {
    # shellcheck disable=SC1091
    (. /etc/os-release 2>/dev/null && eval "echo \"\${$1:-}\"") || true
}

# There, the run-time libraries of clang come with clang itself.
if [ "$(release ID)-$(release VERSION_ID)" = ubuntu-22.04 ]; then
    wanted=$(echo "$wanted" | sed 's/libclang-rt-dev//')
fi
# On 64-bit ARM the compiler itself is the one the cross check would use.
if [ "$(dpkg --print-architecture)" = arm64 ]; then
    wanted=$(echo "$wanted" |
        sed 's/gcc-aarch64-linux-gnu//; s/libc6-dev-arm64-cross//')
fi

missing=
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
        grep -x installed | head -n 1) || true
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# apt waits for another apt instead of failing, and asks nothing.
options="-y --no-install-recommends -o DPkg::Lock::Timeout=300"
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    {
        echo "deps: not installed:$missing"
        echo "deps: this needs root; run, then start again:"
        echo "  sudo apt-get update && sudo apt-get install" \
            "$options$missing"
    } >&2
    exit 1
fi

echo "deps: installing$missing" >&2
apt() { $as_root DEBIAN_FRONTEND=noninteractive apt-get "$@"; }
# shellcheck disable=SC2086
apt update -q -o DPkg::Lock::Timeout=300 >&2
# shellcheck disable=SC2086
apt install -q $options $missing >&2
