#!/bin/sh
# Gathers what a GPU machine needs to check and measure the merging: the patched source, the program
# benches/gpu, the tiny pairs and run.sh. There, with nvcc and cmake alone:
#
#   tar xzf illava-gpu.tar.gz && illava-gpu/run.sh
#
#   tools/gpu-bundle.sh [FILE.tar.gz]     default: target/illava-gpu.tar.gz
set -eu
. "$(dirname "$0")/native-lib.sh"

out=${1:-$target/illava-gpu.tar.gz}
stage=$target/gpu-bundle
bundle=$stage/illava-gpu
models=${ILLAVA_TEST_MODELS:-$target/test-models}
[ -d "$models" ] || "$root/tools/test-models.sh"

rm -rf "$stage"
mkdir -p "$bundle/vendor/llama-cpp-sys-2" "$bundle/tests" "$bundle/models"
materialise "$bundle/source" >/dev/null 2>&1 || materialise "$bundle/source"
cp "$root/vendor/llama-cpp-sys-2/CMakeLists.txt" "$root/vendor/llama-cpp-sys-2/sanitize.cmake" "$bundle/vendor/llama-cpp-sys-2/"
cp -R "$root/tests/native" "$bundle/tests/"
cp -R "$root/benches" "$bundle/"
for pair in siglip-qwen2 clip-llama qwen2vl siglip-qwen2-wide; do
    cp -RL "$models/$pair-f16" "$bundle/models/"
done
cp "$root/tools/gpu-run.sh" "$bundle/run.sh"
chmod +x "$bundle/run.sh"

tar -C "$stage" -czf "$out" illava-gpu
rm -rf "$stage"
echo "$out: $(du -h "$out" | cut -f 1)"
