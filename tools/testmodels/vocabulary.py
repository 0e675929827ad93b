"""Small byte-level BPE vocabularies (GPT-2 scheme) with each family's special tokens."""

from collections import Counter
from dataclasses import dataclass, field, replace

from gguf import TokenType

# Merges are learned from this text, so that ordinary English takes more than bytes.
CORPUS = (
    "what is in the image? describe the picture. how many shapes are there? "
    "is there a red circle on the left? which colour is the square? the answer is no. "
    "the image shows a blue triangle and a green circle. you are a helpful assistant. "
    "user: what colour is the large shape? assistant: the large shape is yellow."
)
MERGES = 64

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte in GPT-2 style vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {b: chr(b) for b in printable}
    rest = (b for b in range(256) if b not in symbols)
    symbols.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return [symbols[b] for b in range(256)]


def learn_merges(text: str, count: int) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first; equal counts go by the pair itself."""
    symbols = byte_symbols()
    words = Counter(
        tuple(symbols[b] for b in (" " + word).encode()) for word in text.split()
    )
    merges = []
    for _ in range(count):
        pairs: Counter = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_apply(word, best): n for word, n in words.items()})
    return merges


def _apply(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF stores it. `specials` follow bytes and merged tokens."""

    pre: str
    specials: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str
    size: int
    chat_template: str | None = None
    merges: list[tuple[str, str]] = field(default_factory=lambda: learn_merges(CORPUS, MERGES))

    def tokens(self) -> list[str]:
        base = byte_symbols() + [a + b for a, b in self.merges] + list(self.specials)
        if len(base) > self.size:
            raise ValueError(f"{len(base)} tokens do not fit a vocabulary of {self.size}")
        return base + [f"<|unused_{i}|>" for i in range(self.size - len(base))]

    def token_types(self) -> list[TokenType]:
        normal = 256 + len(self.merges)
        control = len(self.specials)
        return (
            [TokenType.NORMAL] * normal
            + [TokenType.CONTROL] * control
            + [TokenType.UNUSED] * (self.size - normal - control)
        )

    def id(self, special: str) -> int:
        return 256 + len(self.merges) + self.specials.index(special)

    def write(self, writer) -> None:
        """Adds the tokenizer's keys to a GGUFWriter."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens())
        writer.add_token_types(self.token_types())
        writer.add_token_merges([f"{a} {b}" for a, b in self.merges])
        if self.bos is not None:
            writer.add_bos_token_id(self.id(self.bos))
        writer.add_add_bos_token(self.bos is not None)
        writer.add_eos_token_id(self.id(self.eos))
        writer.add_pad_token_id(self.id(self.pad))
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)


def qwen2(size: int) -> Vocabulary:
    return Vocabulary(
        pre="qwen2",
        specials=(
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|vision_pad|>",
            "<|image_pad|>",
            "<|video_pad|>",
            "<image>",
        ),
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        size=size,
        chat_template=CHATML,
    )


def marked(size: int, marks: tuple[str, ...]) -> Vocabulary:
    """Qwen2's with the marks that llama.cpp puts around a picture, and two line breaks as one token."""
    plain = qwen2(size)
    merges = [*learn_merges(CORPUS, MERGES - 1), ("\u010a", "\u010a")]
    return replace(plain, specials=plain.specials + marks, merges=merges)


def llava15(size: int) -> Vocabulary:
    """As the first LLaVA files: begin and end marks only, and no chat template."""
    return Vocabulary(
        pre="gpt-2",
        specials=("<s>", "</s>", "<pad>", "<image>"),
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        size=size,
    )
