#!/bin/sh
# Builds and runs the native tests (tests/native). Without an option they link the library that
# cargo has built; with --sanitize everything is compiled anew with address and undefined-behaviour
# checks, in a directory of its own.
set -eu
. "$(dirname "$0")/native-lib.sh"

case ${1:-} in
    "")
        (cd "$root" && cargo build --release -p llama-cpp-sys-2)
        build=$native/$host/cpu/build
        cmake "$build" -DILLAVA_NATIVE_TESTS=ON >/dev/null
        ;;
    --sanitize)
        checks=${ILLAVA_SANITIZE:-address,undefined}
        mkdir -p "$native/sanitize"
        build=$native/sanitize/build
        materialise "$native/sanitize/source"
        # -O1 keeps reports readable and the tests quick enough. NDEBUG as in the library that ships:
        # upstream's asserts hold values to be finite, and some tests feed it files whose values are not.
        configure "$build" "$native/sanitize/source" -DILLAVA_SANITIZE="$checks" \
            "-DCMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG" "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"
        ;;
    *)
        echo "usage: tools/native-tests.sh [--sanitize]" >&2
        exit 2
        ;;
esac

# Under the sanitizers GCC warns of its own standard library by the page: the log is for failures.
cmake --build "$build" --target illava-native-tests --parallel "$jobs" >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    exit 1
}
# Some tests read the tiny models that tools/test-models.sh writes.
export ILLAVA_TEST_MODELS="${ILLAVA_TEST_MODELS:-$target/test-models}"
# GCC 13 and later give each frame a stack of its own, to see what is used after its return: fibres, which emulate a GPU's
# threads, leak these by the gigabyte.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=0}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
# Tests side by side share the cores: waiting threads are to leave theirs.
export OMP_WAIT_POLICY=passive
ctest --test-dir "$build" --parallel "$jobs" --output-on-failure
