"""Question by question: the engine's answers against the float64 account of the same pair; in tools/:

    python -m evidence.agreement -m text.gguf -mm mmproj.gguf --set questions.jsonl

Prints how many answers of `illava batch` are those of tools/reference_model, which shares no code with the engine. It
does so for merging off, in the decoder alone and in the encoder alone, and says for the others by how little theirs
won. For a LLaVA pair whose pictures have the tower's own size. Needs what requirements-real-train.txt lists, Pillow and
an `illava`.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer

from reference_model.arithmetic import SINGLE
from reference_model.assembly import Tile, plain
from reference_model.decoder import Decoder
from reference_model.encoder import Encoder
from reference_model.weights import Weights

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """Tokens removed by encoder layer, and the share that stays by decoder layer."""

    name: str
    encoder: dict[int, int] = field(default_factory=dict)
    decoder: dict[int, float] = field(default_factory=dict)

    def merge(self) -> dict:
        """As a request has it: the paper's rule, survivors at their own positions, sizes counted."""
        if not (self.encoder or self.decoder):
            return {"preset": "off"}
        halves = {"vit_layers": list(self.encoder), "vit_r": list(self.encoder.values())} if self.encoder else {}
        if self.decoder:
            halves |= {"llm_layers": list(self.decoder), "llm_keep": list(self.decoder.values())}
        return {**halves, "strategy": "merge", "positions": "own"}


SETTINGS = (
    Setting("off"),
    Setting("decoder, 70 % from layer 2 on", decoder={2: 0.7}),
    Setting("encoder, 4 x 12 in layers 2 to 5", encoder={2: 12, 3: 12, 4: 12, 5: 12}),
    Setting("encoder, 4 x 25 in layers 2 to 5", encoder={2: 25, 3: 25, 4: 25, 5: 25}),
)


class Account:
    """The pair in float64, but for the roundings to f16 that a CPU run of an F32 file makes."""

    def __init__(self, text: Path, mmproj: Path):
        self.tower, self.text = Weights(mmproj), Weights(text)
        self.encoder, self.decoder = Encoder(self.tower, SINGLE, "first"), Decoder(self.text, SINGLE)
        self.tokenizer = AutoTokenizer.from_pretrained(text.resolve().parent, gguf_file=text.name)
        fields = self.tower.fields
        self.side = fields["clip.vision.image_size"]
        self.mean, self.std = (np.array(fields[f"clip.vision.image_{name}"]) for name in ("mean", "std"))
        self.seen = {}

    def span(self, picture: Path, setting: Setting):
        """The picture's rows with their places and sizes; each picture is encoded once by each setting."""
        key = picture, setting.name
        if key not in self.seen:
            pixels = np.asarray(Image.open(picture).convert("RGB"))
            if pixels.shape[:2] != (self.side, self.side):
                raise SystemExit(f"{picture}: {pixels.shape[1]} x {pixels.shape[0]} pixels; this account resizes nothing, give {self.side} x {self.side}")
            encoded = self.encoder.encode(torch.from_numpy((pixels / 255 - self.mean) / self.std), setting.encoder)
            self.seen[key] = plain([Tile(encoded.embeddings, encoded.cells, encoded.rows, encoded.columns, encoded.counts)], None)
        return self.seen[key]

    def answer(self, picture: Path, question: str, setting: Setting, most: int) -> tuple[str, float]:
        """The greedy answer of at most `most` tokens, and by how much its least certain token won, in logits."""
        turn = [{"role": "user", "content": f"<image>{question}"}]
        given = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before, behind = (self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in given.split("<image>"))
        span = self.span(picture, setting)
        said, stops, least = [], self.ends(), float("inf")
        while len(said) < most:
            after = len(before) + span.length
            rows = [*range(len(before)), *(len(before) + place for place in span.places)]
            rows += range(after, after + len(behind) + len(said))
            positions = torch.tensor(rows, dtype=torch.float64)[:, None].expand(len(rows), 3)
            logits, _ = self.decoder.prefill_spans([before, span.rows, behind + said], positions, setting.decoder, [span.sizes])
            first, second = logits.topk(2).values.tolist()
            best, least = int(logits.argmax()), min(least, first - second)
            if best in stops:
                break
            said.append(best)
        return self.tokenizer.decode(said).strip(), least

    def ends(self) -> set[int]:
        """Tokens that end an answer."""
        names = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        return {self.text.fields[name] for name in names if name in self.text.fields}


def of_engine(illava: str, model: Path, mmproj: Path, asked: list[dict], setting: Setting, most: int) -> list[str]:
    """Answers of `illava batch`, in order."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        lines = [
            {"id": str(i), "image": str(q["path"]), "prompt": q["question"], "merge": setting.merge(), "max_tokens": most, "temperature": 0}
            for i, q in enumerate(asked)
        ]
        given.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [illava, "batch", str(given), "-o", str(out), "-m", str(model), "-mm", str(mmproj), "-t", "1", "--kernels", "stock"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"agreement: {' '.join(command)}\n{done.stderr.strip()}")
        found = {line["id"]: line for line in map(json.loads, out.read_text().splitlines())}
    return [found[str(i)]["text"].strip() for i in range(len(asked))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="evidence.agreement", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True, help="text model")
    parser.add_argument("-mm", "--mmproj", type=Path, required=True, help="image encoder and projector")
    parser.add_argument("--set", type=Path, required=True, help=".jsonl of `illava eval`, one picture a question")
    parser.add_argument("--limit", type=int, default=60, help="questions asked, the first ones")
    parser.add_argument("-n", type=int, default=24, help="tokens of an answer at most")
    parser.add_argument("--illava", default=str(ROOT / "target/release/illava"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = [json.loads(line) for line in given.set.read_text().splitlines()][: given.limit]
    for q in asked:
        q["path"] = (given.set.parent / (q.get("image") or q["images"][0])).resolve()
    account = Account(given.model, given.mmproj)
    for setting in SETTINGS:
        said = of_engine(given.illava, given.model, given.mmproj, asked, setting, given.n)
        agreed = 0
        for q, answer in zip(asked, said, strict=True):
            expected, least = account.answer(q["path"], q["question"], setting, given.n)
            agreed += answer == expected
            if answer != expected:
                print(f"  {q['path'].name}, {q['question']}: engine {answer!r}, account {expected!r} by {least:.3f} logits")
        print(f"{setting.name}: {agreed} of {len(asked)} agree", flush=True)


if __name__ == "__main__":
    main()
