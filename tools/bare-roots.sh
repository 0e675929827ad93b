#!/bin/sh
# Runs one of the README's commands in a bare Debian, on the tracked files alone and with nothing of this machine's.
#
#   tools/bare-roots.sh SUITE COMMAND...     as: tools/bare-roots.sh bookworm ./demo
#
# Needs root, debootstrap and unshare (util-linux). The root lies in $target/roots/SUITE and is made anew each time.
# Mounts stand in a namespace of their own, inside which the system's /proc and terminals are new ones: nothing of the
# host is mounted into the root, and all of it is gone before the root is removed.
# BARE_CERTIFICATES: file of certificates to trust, for networks whose proxy signs with its own.
set -eu
cd "$(dirname "$0")/.."
. tools/target.sh

[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "bare-roots.sh: run as root: it makes device files" >&2; exit 1; }
for program in debootstrap unshare git; do
    command -v "$program" >/dev/null || { echo "bare-roots.sh: $program is missing: install it" >&2; exit 1; }
done
suite=$1
shift
root=$target/roots/$suite
mkdir -p "$target/roots"
rm -rf --one-file-system "$root"
debootstrap --variant=minbase "$suite" "$root" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 1; }
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Written by installers, not by debootstrap.
echo "127.0.0.1 localhost" >"$root/etc/hosts"
if [ -n "${BARE_CERTIFICATES:-}" ]; then
    mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
    cp "$BARE_CERTIFICATES" "$root/usr/local/share/trusted.pem"
    certificates=/usr/local/share/trusted.pem
    set -- env SSL_CERT_FILE=$certificates CURL_CA_BUNDLE=$certificates CARGO_HTTP_CAINFO=$certificates \
        PIP_CERT=$certificates REQUESTS_CA_BUNDLE=$certificates "$@"
fi
mkdir -p "$root/root/illava"
git archive HEAD | tar -x -C "$root/root/illava"

# env -i: a bare machine has no settings of this one's.
status=0
unshare --mount --propagation private --pid --fork --kill-child sh -c '
    root=$1
    shift
    mount -t proc proc "$root/proc"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    mount -t tmpfs tmpfs "$root/dev/shm"
    ln -sf pts/ptmx "$root/dev/ptmx"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        chroot "$root" sh -c "cd /root/illava && exec \"\$@\"" sh "$@"
' sh "$root" "$@" || status=$?
# After a failure the root stays, to be looked into.
[ "$status" != 0 ] || rm -rf --one-file-system "$root"
echo "bare-roots.sh: $suite: $* ended with status $status"
exit "$status"
