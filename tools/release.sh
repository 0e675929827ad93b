#!/bin/sh
# Builds illava for any processor of the architecture and packs it for release: the stripped program, completions,
# manual pages, licence and third-party notices, with a SHA-256 beside the archive.
#   tools/release.sh [PROGRAM]      a PROGRAM that is built already is packed instead
# Writes illava-VERSION-TARGET.tar.gz into archives/ of cargo's target folder.
set -eu
cd "$(dirname "$0")/.."
. tools/target.sh

host=$(rustc -vV | sed -n 's/^host: //p')
program=${1:-}
if [ -z "$program" ]; then
    # A folder of its own: the checkout's build is for this machine's processor.
    GGML_NATIVE=OFF ILLAVA_NATIVE_DIR="$target/portable/native" CARGO_TARGET_DIR="$target/portable" \
        cargo build --release --locked --bin illava
    program=$target/portable/release/illava
fi

version=$("$program" --version | sed -n '1s/^illava \([^ ]*\).*/\1/p')
name=illava-$version-$host
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name/completions" "$stage/$name/man" "$target/archives"

# Debug lines are most of the program's size.
strip -o "$stage/$name/illava" "$program"
for shell in bash fish zsh; do
    "$program" completions "$shell" >"$stage/$name/completions/illava.$shell"
done
"$program" man "$stage/$name/man"
cp LICENSE README.md CHANGELOG.md "$stage/$name/"
python3 tools/notices.py >"$stage/$name/THIRD-PARTY.txt"

# The same files give the same bytes, if tar and gzip can leave out times and owners.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
set -- --format=ustar
if tar --version 2>/dev/null | grep -q GNU; then
    set -- --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" "$@"
fi
tar "$@" -C "$stage" -cf - "$name" | gzip -n -9 >"$target/archives/$name.tar.gz"
cd "$target/archives"
if command -v sha256sum >/dev/null; then sha256sum "$name.tar.gz"; else shasum -a 256 "$name.tar.gz"; fi >"$name.tar.gz.sha256"
echo "$target/archives/$name.tar.gz: $(wc -c <"$name.tar.gz") bytes, the program $(wc -c <"$stage/$name/illava")"
