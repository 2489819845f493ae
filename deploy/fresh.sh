#!/bin/sh
# The demo on a bare Debian: a minimal chroot with git alone, a clone of what
# is committed, then deploy/demo.sh
#   - as a user without sudo, before anything is installed: must name the
#     packages to install and exit 1,
#   - as root, who installs them,
#   - as the user, who now needs no root,
#   - again with OpenBLAS's threaded variant installed beside the serial one.
#
#   sh deploy/fresh.sh [SUITE]       default: bookworm; as root
#
# Mirror, keys and proxies are those of this machine's own apt.
set -eu
cd "$(dirname "$0")/.."
suite=${1:-bookworm}

if [ "$(id -u)" != 0 ]; then
    echo "fresh: needs root, for debootstrap and chroot; run:" >&2
    echo "  sudo sh deploy/fresh.sh $suite" >&2
    exit 1
fi
for tool in debootstrap git chroot; do
    if ! command -v $tool >/dev/null 2>&1; then
        echo "fresh: $tool is missing; run: sh deploy/deps.sh check" >&2
        exit 1
    fi
done

top=$(mktemp -d "${TMPDIR:-/tmp}/potluck-fresh.XXXXXX")
root=$top/root
log=$top/log
: >"$log"
cleanup() {
    status=$?
    trap - EXIT INT TERM
    for dir in dev proc; do
        if grep -q " $root/$dir " /proc/mounts; then
            umount "$root/$dir" || umount -l "$root/$dir"
        fi
    done
    # Never delete through a mount that is still there.
    if grep -q " $root/" /proc/mounts; then
        echo "fresh: still mounted below $root, left in place" >&2
    else
        rm -rf --one-file-system "$top"
    fi
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

began=$(date +%s) start=$(date +%s) peak=0
stage_end() { # stage_end NAME
    now=$(date +%s)
    used=$(du -sxm "$root" | cut -f 1)
    [ "$used" -le "$peak" ] || peak=$used
    printf '%-34s %5d s %6d MB\n' "$1" $((now - start)) "$used"
    start=$(date +%s)
}
give_up() {
    echo "fresh: $1" >&2
    tail -n 40 "$log" >&2
    exit 1
}

# --------------------------------------------------- apt as it is here
# "URI RELEASE COMPONENT FILE:LINE" for every source that holds this suite.
# shellcheck disable=SC2016
sources=$(apt-get indextargets \
    --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SOURCESENTRY)' \
    'Created-By: Packages' | sort -u | awk -v s="$suite" \
    '$2 == s || index($2, s "-") == 1 || index($2, s "/") == 1')
[ -n "$sources" ] || give_up "no source of apt here holds $suite"
mirror=$(echo "$sources" | awk -v s="$suite" '$2 == s { print $1; exit }')
# The keyrings that those sources name.
keyrings=$(echo "$sources" | awk '{ sub(/:[0-9]+$/, "", $4); print $4 }' |
    sort -u | xargs sed -nE 's,.*[Ss]igned-[Bb]y[:=] *(/[^] ]+).*,\1,p' |
    sort -u)
keyring=$(echo "$keyrings" | head -n 1)
proxies=$(apt-config dump | grep -E \
    '^Acquire::(http|https|ftp)::|^Acquire::(Check-|Retries|ForceIPv)' || true)
http=$(apt-config shell P Acquire::http::Proxy | sed "s/^P='//; s/'$//")
https=$(apt-config shell P Acquire::https::Proxy | sed "s/^P='//; s/'$//")
[ -z "$http" ] || [ "$http" = DIRECT ] || export http_proxy="$http"
[ -z "$https" ] || [ "$https" = DIRECT ] || export https_proxy="$https"

# shellcheck disable=SC2086
debootstrap --variant=minbase --include=git \
    ${keyring:+--keyring="$keyring"} "$suite" "$root" "$mirror" \
    >>"$log" 2>&1 || give_up "debootstrap failed"

rm -f "$root/etc/apt/sources.list"
echo "$sources" | awk '{ print "deb", $1, $2, $3 }' \
    >"$root/etc/apt/sources.list"
for key in $keyrings; do
    cp "$key" "$root/etc/apt/trusted.gpg.d/"
done
echo "$proxies" >"$root/etc/apt/apt.conf.d/90as-the-host"
for part in auth.conf auth.conf.d trusted.gpg.d; do
    [ ! -e "/etc/apt/$part" ] || cp -a "/etc/apt/$part" "$root/etc/apt/"
done
if echo "$sources" | grep -q '^https:' && [ -d /etc/ssl/certs ]; then
    mkdir -p "$root/etc/ssl" # a bare system trusts nobody yet
    cp -aL /etc/ssl/certs "$root/etc/ssl/" 2>/dev/null || true
fi
for file in resolv.conf hosts; do
    [ ! -e "/etc/$file" ] || cp -L "/etc/$file" "$root/etc/$file"
done
mount -t proc proc "$root/proc"
# Where debootstrap may not make device nodes.
[ -c "$root/dev/null" ] || mount --bind /dev "$root/dev"
stage_end "bare $suite with git"

# ------------------------------------------------------------- the clone
git bundle create -q "$root/tmp/potluck.bundle" HEAD
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] ||
    echo "fresh: what is not committed is not tried" >&2
chroot "$root" useradd -m student

inside() { # inside USER COMMAND: nothing of this machine's environment
    who=$1
    shift
    home=/home/$who
    [ "$who" != root ] || home=/root
    # shellcheck disable=SC2086
    chroot --userspec="$who" --groups= "$root" env -i \
        HOME="$home" USER="$who" LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        ${http_proxy:+http_proxy="$http_proxy"} \
        ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "cd '$home' && $*"
}
chmod a+r "$root/tmp/potluck.bundle"
for who in root student; do
    inside "$who" "git -c advice.detachedHead=false clone -q \
        /tmp/potluck.bundle potluck && cd potluck &&
        git -c advice.detachedHead=false checkout -q $commit" \
        >>"$log" 2>&1 || give_up "git clone failed"
done
stage_end "clone"

# ------------------------------------------------------------- the demo
demo() { # demo USER STAGE
    inside "$1" "cd potluck && sh deploy/demo.sh" >"$top/out" 2>"$log" ||
        give_up "demo.sh as $1 failed ($2)"
    [ -s "$top/out" ] || give_up "demo.sh as $1 printed no answer ($2)"
    stage_end "$2"
}

status=0
inside student "cd potluck && sh deploy/demo.sh" >"$log" 2>&1 || status=$?
[ "$status" = 1 ] ||
    give_up "demo.sh without packages or root: exit $status, want 1"
grep -q 'apt-get install' "$log" ||
    give_up "demo.sh without root does not print the command to run"
stage_end "user, nothing installed: refused"

demo root "root: installs, builds, answers"
answer=$(cat "$top/out")
demo student "user: builds, answers"
[ "$(cat "$top/out")" = "$answer" ] || give_up "the user got another answer"

inside root "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
    --no-install-recommends libopenblas0-pthread" >"$log" 2>&1 ||
    give_up "cannot install libopenblas0-pthread"
demo student "user, with threaded OpenBLAS too"
[ "$(cat "$top/out")" = "$answer" ] ||
    give_up "another OpenBLAS variant gave another answer"

printf '%-34s %5d s %6d MB at most\n' "in all" $(($(date +%s) - began)) "$peak"
