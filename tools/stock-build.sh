#!/bin/sh
# Builds stock-dump (tests/native/stock_dump.cpp) twice with the same settings: against the pristine
# library and against the patched one that cargo has built. Prints the two programs' paths, the
# stock one first.
set -eu
. "$(dirname "$0")/native-lib.sh"

mkdir -p "$native/stock"
materialise "$native/stock/source" --stock
configure "$native/stock/build" "$native/stock/source"
cmake --build "$native/stock/build" --target stock-dump --parallel "$jobs" >&2

patched=$native/$host/cpu/build
(cd "$root" && cargo build --quiet --release -p llama-cpp-sys-2) >&2
cmake -B "$patched" -DILLAVA_NATIVE_TESTS=ON >/dev/null
cmake --build "$patched" --target stock-dump --parallel "$jobs" >&2

find "$native/stock/build" "$patched" -name stock-dump -type f -perm -u+x
