#!/bin/sh
# Builds a program of tests/native or benches/native twice with the same settings: against the
# pristine library and against the patched one that cargo has built. Prints the two programs' paths,
# the stock one first.
#   tools/stock-build.sh [TARGET]      default: stock-dump (tests/native/stock_dump.cpp)
set -eu
. "$(dirname "$0")/native-lib.sh"
program=${1:-stock-dump}

mkdir -p "$native/stock"
materialise "$native/stock/source" --stock
configure "$native/stock/build" "$native/stock/source"
cmake --build "$native/stock/build" --target "$program" --parallel "$jobs" >&2

patched=$native/$host/cpu/build
(cd "$root" && cargo build --quiet --release -p llama-cpp-sys-2) >&2
cmake "$patched" -DILLAVA_NATIVE_TESTS=ON >/dev/null
cmake --build "$patched" --target "$program" --parallel "$jobs" >&2

find "$native/stock/build" "$patched" -name "$program" -type f -perm -u+x
