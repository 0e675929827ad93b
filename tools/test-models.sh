#!/bin/sh
# Writes the tiny random-weight pairs that the tests read, unless they are there already.
#   tools/test-models.sh [DIRECTORY]      default: target/test-models
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/target.sh"
out=${1:-$target/test-models}

# The generator is seeded: what it writes depends on its own text alone.
stamp=$(cat "$root"/tools/make_model.py "$root"/tools/testmodels/*.py "$root"/tools/make_checkpoint.py \
    "$root"/tools/checkpoints/*.py "$root"/tools/convert.py "$root"/tools/convert_scorer.py "$root"/tools/convert/*.py \
    "$root"/tools/requirements.txt "$root"/tools/requirements-convert.txt | cksum)
if [ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ]; then
    exit 0
fi

venv=$target/python
if ! [ -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/tools/requirements-convert.txt"

mkdir -p "$out"
for pair in siglip-qwen2 clip-llama qwen2vl siglip-qwen2-wide; do
    for type in f32 f16 q8_0 q4_0; do
        "$venv/bin/python" "$root/tools/make_model.py" --out "$out/$pair-$type" --pair "$pair" --type "$type" >/dev/null
    done
done
"$venv/bin/python" "$root/tools/make_model.py" --out "$out/siglip-qwen2-wide-q4_k" --pair siglip-qwen2-wide --type q4_k >/dev/null
for pair in onevision-27 siglip-gelu; do
    "$venv/bin/python" "$root/tools/make_model.py" --out "$out/$pair-f32" --pair "$pair" --type f32 >/dev/null
done
# One pair of each projector type that llama.cpp runs by its own rules and that tests/projectors.rs knows.
for kind in qwen3vl_merger gemma3 internvl idefics3 pixtral mistral_small lightonocr lfm2 kimivl phi4 dots_ocr paddleocr kimik25 \
    nemotron_v2_vl ling3vl glm4v llama4 gemma4v resampler minicpmv4_6 glm5v gemma4uv step3vl minimax_m3 mimovl exaone4_5 \
    youtuvl muse-glimmer dots3note_v cogvlm adapter ldp ldpv2 yasa2; do
    "$venv/bin/python" "$root/tools/make_model.py" --out "$out/projector-$kind" --projector "$kind" >/dev/null
done
# The encoder of Qwen2.5-VL, whose pictures are laid out here, and the encoders that merge in 16 bits (tests/towers.rs).
"$venv/bin/python" "$root/tools/make_model.py" --out "$out/tower-qwen2.5vl" --projector qwen2.5vl_merger >/dev/null
for kind in gemma3 idefics3 internvl mistral_small pixtral qwen2.5vl_merger qwen3vl_merger; do
    "$venv/bin/python" "$root/tools/make_model.py" --out "$out/tower-f16-$kind" --projector "$kind" --type f16 >/dev/null
done
for side in 364 384; do
    "$venv/bin/python" "$root/tools/make_model.py" --out "$out/tiles-idefics3-$side" --projector "idefics3-$side" >/dev/null
done
# One text model of each architecture that merges and is in no pair.
for arch in ernie4_5 gemma3 gemma4 gemma4-moe glm4 glm4moe granite internlm2 mistral3 paddleocr phi3 qwen3 qwen3moe \
    qwen3vl qwen3vlmoe smollm3; do
    "$venv/bin/python" "$root/tools/make_model.py" --out "$out/decoder-$arch" --decoder "$arch" >/dev/null
done
# Checkpoints as models are released, and the pairs that the converter makes of them.
for family in llava llava_next llava_next_mistral llava_llama3 llava_onevision qwen2_vl; do
    "$venv/bin/python" "$root/tools/make_checkpoint.py" --out "$out/checkpoints/$family" --family "$family"
    for type in f32 f16; do
        pair=$out/hf-$family-$type
        "$venv/bin/python" "$root/tools/convert.py" "$out/checkpoints/$family" --out "$pair" --name tiny \
            --type "$type" --tower-type "$type" 2>"$out/log" || { cat "$out/log" >&2; exit 1; }
        mv "$pair"/tiny-*.gguf "$pair/text.gguf"
        mv "$pair"/mmproj-tiny-*.gguf "$pair/mmproj.gguf"
    done
done
# Text-image models, for the strategies that crop.
for kind in clip clipseg clipseg-simple; do
    "$venv/bin/python" "$root/tools/make_checkpoint.py" --out "$out/checkpoints/$kind" --family "$kind"
    for type in f32 f16 q8_0; do
        "$venv/bin/python" "$root/tools/convert_scorer.py" "$out/checkpoints/$kind" --out "$out/scorers" --type "$type" \
            2>"$out/log" || { cat "$out/log" >&2; exit 1; }
    done
done
echo "$stamp" > "$out/stamp"
