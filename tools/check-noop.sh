#!/bin/sh
# Shows that the patches change no bit of what a run without merging computes: stock-dump from a
# pristine and from a patched build, on every pair of files given, must write the same embeddings
# and logits, whatever the threads, attention kernel, batch size and cache type.
#
#   tools/check-noop.sh DIR...      each DIR holds text.gguf and mmproj.gguf
set -eu

[ $# -ge 1 ] || {
    echo "usage: tools/check-noop.sh DIR..." >&2
    exit 2
}
programs=$("$(dirname "$0")/stock-build.sh")
stock=$(printf '%s\n' "$programs" | sed -n 1p)
patched=$(printf '%s\n' "$programs" | sed -n 2p)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/stock" "$scratch/patched"
same=0
for pair in "$@"; do
    # threads, flash attention, n_ubatch, KV type. A quantised V needs flash attention.
    while read -r threads flash ubatch kv; do
        for build in stock patched; do
            [ $build = stock ] && program=$stock || program=$patched
            "$program" "$pair/text.gguf" "$pair/mmproj.gguf" "$scratch/$build" \
                "$threads" "$flash" "$ubatch" "$kv" >/dev/null
        done
        for values in embeddings logits; do
            [ -s "$scratch/stock/$values.f32" ] && cmp "$scratch/stock/$values.f32" "$scratch/patched/$values.f32" || {
                echo "$pair: $values differ at threads=$threads flash=$flash ubatch=$ubatch kv=$kv" >&2
                exit 1
            }
            same=$((same + 1))
        done
    done <<SETTINGS
1 1 512 f16
2 1 64 f16
2 0 512 f32
1 1 512 q8_0
SETTINGS
done
echo "$same outputs, each the same to the last bit"
