#!/bin/sh
# Builds, checks and measures the merging on this machine's GPU: run.sh of the bundle that
# tools/gpu-bundle.sh makes. Needs nvcc, cmake and a C++ compiler; no network, no Rust, no Python.
#
#   ./run.sh                       everything, into result.json
#   ./run.sh --arch 90             another card than nvidia-smi names
#   ./run.sh --only ops --rounds 9 a part (ops, pairs, speed), flags of gpu-report
#   ./run.sh --cpu --small         the same program on the processor, to try it without a GPU
set -eu
cd "$(dirname "$0")"
root=$PWD

arch= cpu=
for flag in "$@"; do
    [ "$flag" != --cpu ] || cpu=yes
done
if [ "${1:-}" = --arch ]; then
    arch=${2:?--arch needs a number, as 90 for 9.0}
    shift 2
fi

fail() {
    echo "run.sh: $*" >&2
    exit 2
}
command -v cmake >/dev/null || fail "cmake is missing"
jobs=${NUM_JOBS:-$(getconf _NPROCESSORS_ONLN)}

set -- --models "$root/models" --work "$root" "$@"
case $cpu in
    yes) build=$root/build-cpu ;;
    *)
        build=$root/build
        command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
        command -v nvcc >/dev/null || fail "nvcc is missing (looked on the path and in /usr/local/cuda/bin)"
        [ -n "$arch" ] || arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
        [ -n "$arch" ] || fail "nvidia-smi names no card: say which with --arch, as 90 for 9.0"
        ;;
esac

begin=$(date +%s)
if [ "$cpu" = yes ]; then
    cmake -S tests/native -B "$build" -DILLAVA_SOURCE="$root/source" >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 2; }
else
    # One card's code, and that uncompressed: what takes the time of a build is nvcc.
    cmake -S tests/native -B "$build" -DILLAVA_SOURCE="$root/source" -DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF \
        -DCMAKE_CUDA_ARCHITECTURES="$arch-real" -DGGML_CUDA_COMPRESSION_MODE=none >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 2; }
fi
echo "run.sh: building with $jobs jobs" >&2
cmake --build "$build" --target gpu-report --parallel "$jobs" >>"$build.log" 2>&1 || { tail -n 60 "$build.log" >&2; exit 2; }
report=$(find "$build" -name gpu-report -type f -perm -u+x | head -n 1)
set -- --note "build_seconds=$(($(date +%s) - begin))" --note "build_jobs=$jobs" "$@"

# Races and accesses out of bounds in the kernels: the small cases, since everything runs many times slower.
if [ -z "$cpu" ] && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        echo "run.sh: compute-sanitizer $tool" >&2
        if compute-sanitizer --tool "$tool" --error-exitcode 99 \
            "$report" --small --only ops --out "$root/sanitizer-$tool.json" >"$root/sanitizer-$tool.log" 2>&1; then
            set -- --note "sanitizer_$tool=clean" "$@"
        else
            set -- --note "sanitizer_$tool=$(grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "$root/sanitizer-$tool.log" | tail -n 1 | tr -d '=')" "$@"
        fi
    done
else
    set -- --note "sanitizer=not there" "$@"
fi

echo "run.sh: checks and figures" >&2
status=0
"$report" --out "$root/result.json" "$@" || status=$?
[ $status != 127 ] || fail "the program does not start: the NVIDIA driver (libcuda.so.1) or the toolkit's libcublas is missing, or not on the loader's path"
exit $status
