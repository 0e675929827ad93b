#!/bin/sh
# Writes the tiny random-weight pairs that the tests read, unless they are there already.
#   tools/test-models.sh [DIRECTORY]      default: target/test-models
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/target/test-models}

# The generator is seeded: what it writes depends on its own text alone.
stamp=$(cat "$root/tools/make_model.py" "$root"/tools/testmodels/*.py "$root/tools/requirements.txt" | cksum)
if [ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ]; then
    exit 0
fi

venv=$root/target/python
if ! [ -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/tools/requirements.txt"

mkdir -p "$out"
for pair in siglip-qwen2 clip-llama qwen2vl siglip-qwen2-wide; do
    for type in f32 f16 q8_0 q4_0; do
        "$venv/bin/python" "$root/tools/make_model.py" --out "$out/$pair-$type" --pair "$pair" --type "$type" >/dev/null
    done
done
"$venv/bin/python" "$root/tools/make_model.py" --out "$out/siglip-qwen2-wide-q4_k" --pair siglip-qwen2-wide --type q4_k >/dev/null
echo "$stamp" > "$out/stamp"
