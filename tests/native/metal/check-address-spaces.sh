#!/bin/sh
# Usage: check-address-spaces.sh CLANG GGML_METAL_DIRECTORY
#
# Every pointer of a Metal kernel names its address space, and none can be taken for another. A C++
# compiler does not know that; Clang's C++ for OpenCL does, without its generic address space.
set -eu
clang=$1 metal=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# $1 a kernel file; attributes are Metal's own.
compile() {
    sed 's/ *\[\[[a-z_]*\(([^)]*)\)\{0,1\}\]\]//g' "$1" >"$work/kernel.clcpp"
    "$clang" -x cl -cl-std=clc++2021 -target spir64 -fsyntax-only -Wall -Werror \
        -Xclang -finclude-default-header \
        -Xclang -cl-ext=-__opencl_c_generic_address_space,-__opencl_c_pipes,-__opencl_c_device_enqueue \
        -include "$here/opencl/metal_stdlib" -I"$here/opencl" -I"$metal" -I"$metal/kernels" "$work/kernel.clcpp"
}

kernel=$metal/kernels/attn_score.metal
compile "$kernel"

# The check is worth something only if it refuses what is wrong.
for edit in 's/threadgroup float \* logits/float * logits/' \
    's/(device const T \*) row/(const T *) row/' \
    's/(device const half \*) mask/(threadgroup const half *) mask/' \
    's/threadgroup float \* sq = shmem/device float * sq = shmem/'; do
    sed "$edit" "$kernel" >"$work/wrong.metal"
    ! cmp -s "$kernel" "$work/wrong.metal" || { echo "nothing to change: $edit" >&2; exit 1; }
    ! compile "$work/wrong.metal" 2>/dev/null || { echo "not refused: $edit" >&2; exit 1; }
done
echo "address spaces of attn_score.metal: right, and 4 wrong ones refused"
