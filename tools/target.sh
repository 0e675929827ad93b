# Sourced: sets $target, the folder that cargo builds into (CARGO_TARGET_DIR, build.target-dir or target/ of the checkout),
# and puts the native build there too. $root is the checkout, without it the folder one is in.

: "${root:=$PWD}"
target=$(cd "$root" && cargo metadata --no-deps --offline --format-version 1 2>/dev/null |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
: "${target:=${CARGO_TARGET_DIR:-$root/target}}"
if [ "$target" != "$root/target" ] && [ -z "${ILLAVA_NATIVE_DIR:-}" ]; then
    export ILLAVA_NATIVE_DIR="$target/native"
fi
