"""The language model in PyTorch, with image rows in its prompt."""

import os
import tempfile

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GgufConfig
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
        self.end = self.tokens("<|im_end|>")
        self.before, _ = self.around("")
        with torch.no_grad():
            cache = DynamicCache()
            self.model.model(input_ids=torch.tensor([self.before]), past_key_values=cache, use_cache=True)
            # Keys and values of the text before the image: the same in every prompt.
            self.start = [(layer.keys, layer.values) for layer in cache.layers]

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

    def cache(self, batch: int) -> DynamicCache:
        """A cache that holds the text before the image, `batch` times."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.start):
            cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
        return cache

    def hidden(self, images: torch.Tensor, asked: list[list[list[int]]]) -> tuple[torch.Tensor, list[list[int]]]:
        """Last hidden rows [B, n, 576] of images [B, n_image, 576], each followed by several texts of token ids.

        No text sees another: each stands behind the image as if alone. Also returns where each text begins.
        """
        batch, count, _ = images.shape
        past = len(self.before)
        longest = count + max(sum(len(ids) for ids in texts) for texts in asked)
        rows = torch.zeros(batch, longest, images.shape[2], dtype=self.words.weight.dtype)
        positions = torch.zeros(batch, longest, dtype=torch.long)
        sees = torch.ones(longest, past + longest, dtype=torch.bool).tril(past).repeat(batch, 1, 1)
        starts = []
        for b, texts in enumerate(asked):
            at = count
            starts.append([])
            positions[b, :count] = past + torch.arange(count)
            for ids in texts:
                starts[-1].append(at)
                rows[b, at : at + len(ids)] = self.embedded(ids)
                positions[b, at : at + len(ids)] = past + count + torch.arange(len(ids))
                sees[b, at : at + len(ids), past + count : past + at] = False
                at += len(ids)
        rows = torch.cat([images.to(rows.dtype), rows[:, count:]], 1)
        mask = torch.zeros(sees.shape, dtype=rows.dtype).masked_fill_(~sees, torch.finfo(rows.dtype).min)[:, None]
        given = self.model.model(
            inputs_embeds=rows, attention_mask=mask, position_ids=positions, past_key_values=self.cache(batch), use_cache=True
        )
        return given.last_hidden_state, starts

    def loss(self, images: torch.Tensor, asked: list[list[tuple[str, str]]]) -> torch.Tensor:
        """Mean cross entropy of the answers' tokens, end of turn included, over (question, answer) pairs per image.

        Every pair counts alike, however long its answer is.
        """
        behind = [[self.around(question)[1] for question, _ in pairs] for pairs in asked]
        said = [[self.tokens(answer) + self.end for _, answer in pairs] for pairs in asked]
        texts = [[q + a[:-1] for q, a in zip(*both, strict=True)] for both in zip(behind, said, strict=True)]
        hidden, starts = self.hidden(images, texts)
        spoken, targets, weights = [], [], []
        for b, places in enumerate(starts):
            for place, q, a in zip(places, behind[b], said[b], strict=True):
                first = place + len(q) - 1
                spoken.append(hidden[b, first : first + len(a)])
                targets += a
                weights += [1 / len(a)] * len(a)
        logits = self.model.lm_head(torch.cat(spoken)).float()
        each = F.cross_entropy(logits, torch.tensor(targets), reduction="none")
        return (each * torch.tensor(weights)).sum() / sum(weights)

    @torch.no_grad()
    def answer(self, image: torch.Tensor, question: str, most: int = 12) -> str:
        """The greedy answer about an image of rows [n, 576]."""
        row = torch.cat([self.embedded(self.before), image.to(self.words.weight.dtype), self.embedded(self.around(question)[1])])
        said = self.model.generate(inputs_embeds=row[None], max_new_tokens=most, do_sample=False)
        return self.tokenizer.decode(said[0], skip_special_tokens=True).strip()
