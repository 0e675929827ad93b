#!/bin/sh
# Shows that the patches change no bit of what a run without merging computes. On every pair of files given,
# stock-dump from a pristine and from a patched build must write the same embeddings and logits. This holds
# for any threads, attention kernel, batch size and cache type.
#
#   tools/check-noop.sh DIR...      each DIR holds text.gguf and mmproj.gguf
set -eu

[ $# -ge 1 ] || {
    echo "usage: tools/check-noop.sh DIR..." >&2
    exit 2
}
# Folder names with blanks are not expected of test models.
pairs=$*
programs=$("$(dirname "$0")/stock-build.sh")
stock=$(printf '%s\n' "$programs" | sed -n 1p)
patched=$(printf '%s\n' "$programs" | sed -n 2p)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/stock" "$scratch/patched"
same=0

fail() {
    echo "check-noop.sh: $*" >&2
    exit 1
}

# Runs program $1 on $pair into $scratch/$2 with the settings that follow.
dump() {
    program=$1 into=$scratch/$2
    shift 2
    "$program" "$pair/text.gguf" "$pair/mmproj.gguf" "$into" "$@" >/dev/null 2>"$into/log"
}

for pair in $pairs; do
    # threads, flash attention, n_ubatch, KV type. A quantised V needs flash attention.
    while read -r threads flash ubatch kv; do
        set -- "$threads" "$flash" "$ubatch" "$kv"
        setting="$pair at threads=$threads flash=$flash ubatch=$ubatch kv=$kv"
        if ! dump "$stock" stock "$@"; then
            # Tiny heads have no quantised cache. The other build must refuse what one refuses.
            ! dump "$patched" patched "$@" || fail "$setting: only the patched build runs it"
            echo "$setting: refused by both"
            continue
        fi
        dump "$patched" patched "$@" || fail "$setting: only the stock build runs it"
        for values in embeddings logits; do
            [ -s "$scratch/stock/$values.f32" ] || fail "$setting: no $values"
            cmp "$scratch/stock/$values.f32" "$scratch/patched/$values.f32" || fail "$setting: $values differ"
            same=$((same + 1))
        done
    done <<SETTINGS
1 1 512 f16
2 1 64 f16
2 0 512 f32
1 1 512 q8_0
SETTINGS
done
[ $same -gt 0 ] || fail "no setting ran"
echo "$same outputs, each the same to the last bit"
