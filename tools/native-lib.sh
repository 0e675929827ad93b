# Sourced by the scripts beside it: the folders of native builds, and CMake's call for them.

root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/target.sh"
native=${ILLAVA_NATIVE_DIR:-$target/native}
host=$(rustc -vV | sed -n 's/^host: //p')
jobs=${NUM_JOBS:-$(getconf _NPROCESSORS_ONLN)}
# As the build script has it: equal sources hit in a compiler cache wherever a build lies.
export CCACHE_NOHASHDIR=1

# Makes $1 the patched tree, or with --stock the pristine one.
materialise() {
    (cd "$root" && cargo run --quiet --release -p patched-source --example materialise -- "$@")
}

# Configures tests/native in $1 from the tree $2, with further options for CMake behind them.
configure() {
    build=$1 tree=$2
    shift 2
    set -- -DILLAVA_SOURCE="$tree" "$@"
    [ -e "$build/CMakeCache.txt" ] || ! command -v ninja >/dev/null || set -- -G Ninja "$@"
    if [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
        set -- -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
    fi
    cmake -S "$root/tests/native" -B "$build" "$@" >"$build.log" 2>&1 || {
        cat "$build.log" >&2
        exit 1
    }
}
