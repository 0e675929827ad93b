#!/bin/sh
# Compiles the CUDA kernels of the overlay, and the file of upstream's that the series hooks them into. It needs no GPU
# and no CUDA toolkit: the compilers come as wheels from the Python package index, about 650 MB once, of which 470 MB
# are kept in target/cuda.
#
#   sm_80, sm_90   nvcc 13.0, whole files, host and device code
#   sm_61          NVRTC 12.9, the kernels alone: CUDA 13 has dropped this card, and the wheels of
#                  CUDA 12 hold no nvcc
#
# If the wheels cannot be had, it says so and ends with success: there is nothing wrong with the code.
set -eu
. "$(dirname "$0")/native-lib.sh"

toolkit=${ILLAVA_CUDA_DIR:-$target/cuda}
python=$target/python/bin/python
[ -x "$python" ] || python=python3

skip() {
    echo "cuda-check: skipped: $*" >&2
    # ./test says at its end what did not run.
    [ -z "${ILLAVA_NOT_RUN:-}" ] || echo "the CUDA compilers ($*)" >>"$ILLAVA_NOT_RUN"
    exit 0
}

case $(uname -s)-$(uname -m) in
    Linux-x86_64) ;;
    *) skip "the compilers' wheels are for Linux on x86_64" ;;
esac
"$python" -m pip --version >/dev/null 2>&1 || skip "there is no pip for $python"

# fetch WHEEL WHAT: unpacks those files of a wheel whose path has WHAT.
fetch() {
    [ ! -e "$toolkit/have/$1" ] || return 0
    echo "cuda-check: fetching $1" >&2
    mkdir -p "$toolkit/have" "$toolkit/wheel"
    "$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
        --dest "$toolkit/wheel" "$1" >"$toolkit/pip.log" 2>&1 || skip "$1 cannot be had: $(tail -n 1 "$toolkit/pip.log")"
    "$python" - "$toolkit" "$2" <<'PYTHON'
import glob, os, sys, zipfile
toolkit, what = sys.argv[1:]
for path in glob.glob(os.path.join(toolkit, "wheel", "*.whl")):
    with zipfile.ZipFile(path) as wheel:
        for entry in wheel.infolist():
            if what in entry.filename:
                out = wheel.extract(entry, toolkit)
                os.chmod(out, 0o755 if "/bin/" in entry.filename else 0o644)
    os.remove(path)
PYTHON
    : >"$toolkit/have/$1"
}

fetch "nvidia-cuda-nvcc==13.0.88"         nvidia/
fetch "nvidia-cuda-crt==13.0.88"          nvidia/
fetch "nvidia-nvvm==13.0.88"              nvidia/
fetch "nvidia-cuda-runtime==13.0.96"      nvidia/
fetch "nvidia-cuda-cccl==13.0.85"         nvidia/
fetch "nvidia-cublas==13.0.2.14"          /include/
fetch "nvidia-cuda-nvrtc-cu12==12.9.86"   /lib/
fetch "nvidia-cuda-runtime-cu12==12.9.79" /include/
fetch "nvidia-cuda-nvcc-cu12==12.9.86"    /include/

source=$toolkit/source
materialise "$source" 2>"$toolkit/source.log" || { cat "$toolkit/source.log" >&2; exit 1; }
cuda=$source/ggml/src/ggml-cuda

# As upstream's CMake has them. Warnings as errors: what is new is to be clean.
for file in illava-score ggml-cuda; do
    echo "cuda-check: $file.cu for sm_80 and sm_90" >&2
    strict=
    [ $file = ggml-cuda ] || strict="-Werror all-warnings"
    # word splitting is wanted: $strict is two words or none
    # shellcheck disable=SC2086
    "$toolkit/nvidia/cu13/bin/nvcc" -std=c++17 -use_fast_math -extended-lambda $strict \
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 --threads 2 \
        -I"$toolkit/nvidia/cu13/include/cccl" -I"$source/ggml/include" -I"$source/ggml/src" -DGGML_CUDA_USE_GRAPHS -DNDEBUG \
        -c "$cuda/$file.cu" -o "$toolkit/$file.o"
done

echo "cuda-check: the events of benches/gpu" >&2
c++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -DILLAVA_CUDA -I"$toolkit/nvidia/cu13/include" \
    -I"$source/ggml/include" -I"$source/ggml/src" -I"$source/vendor" "$root/benches/gpu/machine.cpp"

echo "cuda-check: the kernels for sm_61" >&2
"$python" "$root/tools/cuda_rtc.py" sm_61 "$toolkit/nvidia/cuda_nvrtc/lib" "$cuda" \
    "$toolkit/nvidia/cuda_runtime/include" "$toolkit/nvidia/cuda_nvcc/include"
