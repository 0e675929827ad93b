#!/bin/sh
# Runs both examples on the demo pair: the answer of `ask` is that of `illava run`, and `captions` writes a text beside
# the picture of a folder and leaves the other file out.
set -eu
cd "$(dirname "$0")/.."
. tools/target.sh
cargo build --release --locked --workspace --examples --bins
text=models/demo/text.gguf projector=models/demo/mmproj.gguf picture=models/demo/images/scene.png
question="How many objects are there?"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

asked=$("$target/release/examples/ask" $text $projector $picture "$question" 2>"$folder/log")
said=$("$target/release/illava" run -m $text -mm $projector --image $picture -p "$question" --temp 0 -n 300 2>/dev/null)
if [ -z "$asked" ] || [ "$(echo $asked)" != "$(echo $said)" ] || ! grep -q '^[0-9]* visual tokens$' "$folder/log"; then
    echo "examples/ask.rs answers \"$asked\" where the program answers \"$said\"" >&2
    exit 1
fi

mkdir "$folder/pictures"
cp $picture "$folder/pictures/"
echo "no picture" >"$folder/pictures/notes.md"
"$target/release/examples/captions" $text $projector "$folder/pictures" 2>"$folder/log"
if ! [ -s "$folder/pictures/scene.txt" ] || [ -e "$folder/pictures/notes.txt" ] || ! grep -q notes.md "$folder/log"; then
    echo "examples/captions.rs does not caption one picture of two files" >&2
    exit 1
fi
echo "both examples run"
