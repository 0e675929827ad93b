#!/bin/sh
# Runs each fuzz target (fuzz/src/lib.rs) under libFuzzer, on stable Rust, from its seeds and what earlier runs found.
#   tools/fuzz.sh [SECONDS [TARGET...]]      default: 60, all
# Prints a row for each: executions, branches reached, faults. A fault leaves its input in target/fuzz/TARGET/crashes.
set -eu
cd "$(dirname "$0")/.."
. tools/target.sh
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- request batch_line grammar gguf data_uri trace questions frame

RUSTC_WORKSPACE_WRAPPER=$PWD/tools/fuzz-rustc.sh cargo build --release --locked -p illava-fuzz --features libfuzzer
faults=0
echo "| target | seconds | executions | branches | faults |"
echo "|---|---|---|---|---|"
for name; do
    folder=$target/fuzz/$name
    mkdir -p "$folder/corpus" "$folder/crashes"
    fault=0
    "$target/release/fuzz_$name" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=4096 -max_len=65536 -use_value_profile=1 \
        -print_final_stats=1 -artifact_prefix="$folder/crashes/" "$folder/corpus" "fuzz/seeds/$name" >"$folder/log" 2>&1 || fault=1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
    reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$folder/log" | tail -n 1)
    echo "| $name | $seconds | ${runs:-?} | ${reached:-?} | $fault |"
    if [ $fault = 1 ]; then
        faults=1
        tail -n 20 "$folder/log" >&2
    fi
done
exit $faults
