#!/bin/sh
# Cargo's wrapper of rustc for tools/fuzz.sh: has our own crates count which branches ran, for libFuzzer. The options are
# stable ones; the libraries that we use are left as they are, and come from the ordinary build.
case " $* " in
    *" --crate-name illava "* | *" --crate-name illava_fuzz "* | *" --crate-name fuzz_"*)
        exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks ;;
esac
exec "$@"
