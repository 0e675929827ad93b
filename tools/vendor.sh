#!/bin/sh
# Puts the crates of both lock files into target/vendored, for builds without a registry. A plain `cargo vendor`
# writes to vendor/ and deletes what it does not know there, vendor/upstream among it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
vendored=$root/target/vendored
mkdir -p "$vendored"
cargo vendor --locked --sync vendor/upstream/Cargo.toml "$vendored" >"$vendored.toml" 2>"$vendored.log" || { cat "$vendored.log" >&2; exit 1; }
echo "vendored: build with \`cargo build --release --offline\` once the lines of $vendored.toml stand in" \
    "\$CARGO_HOME/config.toml, which the build script's own call of cargo reads too" >&2
