"""The language model in PyTorch, with image rows in its prompt."""

import os
import tempfile

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GgufConfig
from transformers.utils.logging import disable_progress_bar

from .decoder import Decoder
from .merged import Merged

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
            self.decoder = Decoder(self.model.model, [(layer.keys, layer.values) for layer in cache.layers])

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

    def hidden(
        self, images: torch.Tensor, asked: list[list[list[int]]], at: Merged | None = None
    ) -> tuple[torch.Tensor, list[list[int]]]:
        """Last hidden rows [B, n, 576] of images [B, n_image, 576], each followed by several texts of token ids.

        No text sees another: each stands behind the image as if alone. Also returns the place at which each text
        begins. `at` gives the rows' own places and sizes; without it they stand side by side and count once.
        """
        batch, count, _ = images.shape
        past, span = len(self.before), count if at is None else at.span
        longest = count + max(sum(len(ids) for ids in texts) for texts in asked)
        rows = torch.zeros(batch, longest, images.shape[2], dtype=self.words.weight.dtype)
        positions = torch.zeros(batch, longest, dtype=torch.long)
        positions[:, :count] = past + (torch.arange(count) if at is None else at.place)
        sees = torch.ones(longest, past + longest, dtype=torch.bool).tril(past).repeat(batch, 1, 1)
        starts = []
        for b, texts in enumerate(asked):
            begin = count
            starts.append([])
            for ids in texts:
                starts[-1].append(begin)
                rows[b, begin : begin + len(ids)] = self.embedded(ids)
                positions[b, begin : begin + len(ids)] = past + span + torch.arange(len(ids))
                sees[b, begin : begin + len(ids), past + count : past + begin] = False
                begin += len(ids)
        rows = torch.cat([images.to(rows.dtype), rows[:, count:]], 1)
        mask = torch.zeros(sees.shape)
        if at is not None:
            mask[:, :, past : past + count] = at.size.log()[:, None]
        return self.decoder(rows, positions, mask.masked_fill_(~sees, torch.finfo(rows.dtype).min)), starts

    def spoken(
        self, images: torch.Tensor, asked: list[list[tuple[str, str]]], at: Merged | None = None
    ) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """For every (question, answer) of each image the logits [tokens, vocabulary] and the answer's tokens, its end too."""
        behind = [[self.around(question)[1] for question, _ in pairs] for pairs in asked]
        said = [[self.tokens(answer) + self.end for _, answer in pairs] for pairs in asked]
        texts = [[q + a[:-1] for q, a in zip(*both, strict=True)] for both in zip(behind, said, strict=True)]
        hidden, starts = self.hidden(images, texts, at)
        firsts = [[place + len(q) - 1 for place, q in zip(*both, strict=True)] for both in zip(starts, behind, strict=True)]
        counts = [len(a) for answers in said for a in answers]
        rows = [hidden[b, first : first + len(a)] for b in range(len(asked)) for first, a in zip(firsts[b], said[b], strict=True)]
        logits = iter(self.model.lm_head(torch.cat(rows)).float().split(counts))
        return [[(next(logits), torch.tensor(a)) for a in answers] for answers in said]

    def loss(self, images: torch.Tensor, asked: list[list[tuple[str, str]]], at: Merged | None = None) -> torch.Tensor:
        """Mean cross entropy of the answers' tokens, end of turn included, over (question, answer) pairs per image.

        Every pair counts alike, however long its answer is.
        """
        each = [F.cross_entropy(logits, said) for pairs in self.spoken(images, asked, at) for logits, said in pairs]
        return torch.stack(each).mean()

    @torch.no_grad()
    def answer(self, image: torch.Tensor, question: str, most: int = 12) -> str:
        """The greedy answer about an image of rows [n, 576]."""
        row = torch.cat([self.embedded(self.before), image.to(self.words.weight.dtype), self.embedded(self.around(question)[1])])
        said = self.model.generate(inputs_embeds=row[None], max_new_tokens=most, do_sample=False)
        return self.tokenizer.decode(said[0], skip_special_tokens=True).strip()
