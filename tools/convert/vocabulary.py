"""A tokenizer as GGUF stores it."""

import re
from dataclasses import dataclass, field

import gguf
from gguf import TokenType

# Marks that no text of a person may become, whatever a tokenizer says of them: places of pictures, turns.
_MARK = re.compile(r"<\|[^|<>]+\|>|<(image|video|pad|im_patch|im_start|im_end)>")
# Score of an added token that no merge makes.
ADDED_SCORE = -1000.0


@dataclass
class Vocabulary:
    """`model` is gpt2 (byte-level BPE, with `merges`) or llama (sentencepiece, with `scores`)."""

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    scores: list[float] | None = None
    merges: list[str] | None = None
    add_space_prefix: bool | None = None
    space_after_special: bool = True  # whether text behind a special token begins with a space, too
    add_bos: bool = False
    add_eos: bool = False
    special: dict[str, int] = field(default_factory=dict)
    chat_template: str | None = None

    def put(self, place: int, token: str, special: bool) -> None:
        """An added token, which may be one of the vocabulary already; places between stay unused."""
        while len(self.tokens) <= place:
            self.tokens.append(f"[PAD{len(self.tokens)}]")
            self.types.append(TokenType.UNUSED)
            if self.scores is not None:
                self.scores.append(ADDED_SCORE)
        self.tokens[place] = token
        if self.types[place] not in (TokenType.UNKNOWN, TokenType.BYTE):
            control = special or _MARK.fullmatch(token)
            self.types[place] = TokenType.CONTROL if control else TokenType.USER_DEFINED

    def mark_pieces(self) -> None:
        """Pieces of the base vocabulary that are marks by their look: sentencepiece does not say so."""
        for place, token in enumerate(self.tokens):
            if self.types[place] == TokenType.NORMAL and _MARK.fullmatch(token):
                self.types[place] = TokenType.CONTROL

    def fit(self, rows: int) -> int:
        """Makes the vocabulary as long as the table of token vectors; returns how many tokens were cut off."""
        cut = max(len(self.tokens) - rows, 0)
        for values in (self.tokens, self.types, self.scores):
            if values is not None:
                del values[rows:]
        if rows > len(self.tokens):
            self.put(rows - 1, f"[PAD{rows - 1}]", False)
            self.types[rows - 1] = TokenType.UNUSED
        self.special = {name: place for name, place in self.special.items() if place < rows}
        return cut

    def write(self, writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        for name, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id),
                          ("unk", writer.add_unk_token_id), ("pad", writer.add_pad_token_id)):
            if name in self.special:
                add(self.special[name])
        writer.add_add_bos_token(self.add_bos and "bos" in self.special)
        writer.add_add_eos_token(self.add_eos)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        if self.add_space_prefix and not self.space_after_special:
            writer.add_bool("illava.tokenizer.space_after_special", False)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)
