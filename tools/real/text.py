"""The language model in PyTorch, with image rows in its prompt."""

import os
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils.logging import disable_progress_bar

PLACE = "<image>"


class Text:
    """SmolLM2 from a GGUF file's bytes, weights frozen."""

    def __init__(self, gguf_bytes: bytes, dtype: torch.dtype = torch.bfloat16):
        disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "text.gguf"), "wb") as file:
                file.write(gguf_bytes)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="text.gguf")
            # Packed weights would be unpacked again in every product.
            self.model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file="text.gguf", dtype=dtype, quantization_config=GgufConfig(dequantize=True)
            )
        self.model.requires_grad_(False).eval()
        self.words = self.model.get_input_embeddings()

    def tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embedded(self, ids: list[int]) -> torch.Tensor:
        """Token ids -> rows [n, 576]."""
        return self.words(torch.tensor(ids))

    def meaning(self, phrase: str) -> torch.Tensor:
        """The mean of the phrase's token rows in float32, [576]: what an image row that shows it is drawn towards."""
        return self.embedded(self.tokens(" " + phrase)).float().mean(0)

    def around(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids before and behind the image in a prompt that asks `question`."""
        turn = [{"role": "user", "content": f"{PLACE}\n{question}"}]
        prompt = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before, behind = prompt.split(PLACE)
        return self.tokens(before), self.tokens(behind)

    def loss(self, images: list[torch.Tensor], questions: list[str], answers: list[str]) -> torch.Tensor:
        """Mean cross entropy of the answers' tokens, end of turn included; `images` are rows [n, 576] each."""
        end = self.tokens("<|im_end|>")
        rows, targets = [], []
        for image, question, answer in zip(images, questions, answers, strict=True):
            before, behind = self.around(question)
            said = self.tokens(answer) + end
            rows.append(torch.cat([self.embedded(before), image.to(self.words.weight.dtype), self.embedded(behind + said[:-1])]))
            targets.append(said)
        longest = max(len(row) for row in rows)
        # Right padding: no answer token sees what stands behind it.
        padded = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        hidden = self.model.model(inputs_embeds=padded, use_cache=False).last_hidden_state
        spoken = torch.cat([h[len(row) - len(said) : len(row)] for h, row, said in zip(hidden, rows, targets, strict=True)])
        logits = self.model.lm_head(spoken).float()
        return torch.nn.functional.cross_entropy(logits, torch.tensor(sum(targets, [])))

    @torch.no_grad()
    def answer(self, image: torch.Tensor, question: str, most: int = 12) -> str:
        """The greedy answer."""
        before, behind = self.around(question)
        row = torch.cat([self.embedded(before), image.to(self.words.weight.dtype), self.embedded(behind)])[None]
        said = self.model.generate(inputs_embeds=row, max_new_tokens=most, do_sample=False)
        return self.tokenizer.decode(said[0], skip_special_tokens=True).strip()
