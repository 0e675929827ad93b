"""The pair's tokenizer: byte-level BPE (GGUF model `gpt2`, pre-tokenizer `qwen2`) in which
every known word is one token.

The merges of a word are its prefixes, grown letter by letter.  A merge's rank is its place in the
list and BPE applies the lowest rank first, so two orders matter. Words with a leading space come
before those without (else `wh` of a sentence's first "what" would break up " white"). "where" comes
before "read" (else its last `re` would join first).
"""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond")
PLURALS = ("circles", "squares", "triangles", "stars", "crosses", "rings", "diamonds")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen "
           "fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()
GLYPHS = "0123456789ACEFHKLPTX"

_OPENERS = ("what", "which", "where", "how", "is", "describe", "read")
_WORDS = (*SHAPES, *PLURALS, *COLORS, *NUMBERS,
          *"color shape the object objects many are there a an image row column line place "
           "yes no top bottom left right of above below bar bars high highest lowest cell "
           "has more first second both neither moves way does move up down video".split(), *_OPENERS)
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<image>", "<video>")
SIZE = 768

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>"
    "{{ message['content'] }}<|assistant|>{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
)


def _byte_symbols():
    """GPT-2's printable stand-in for each byte: printable Latin-1 stands for itself."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


BYTES = _byte_symbols()
_SPACE = BYTES[ord(" ")]


def _grow():
    tokens, merges = list(BYTES), []
    known = set(tokens)
    spaced = [_SPACE + w for w in (*_WORDS, *(o.capitalize() for o in _OPENERS))]
    bare = [o.capitalize() for o in _OPENERS] + list(_OPENERS)
    for word in spaced + bare:
        for end in range(2, len(word) + 1):
            if word[:end] not in known:
                known.add(word[:end])
                tokens.append(word[:end])
                merges.append((word[:end - 1], word[end - 1]))
    return tokens, merges


TOKENS, MERGES = _grow()
ORDINARY = len(TOKENS)
TOKENS += SPECIAL
if len(TOKENS) > SIZE:
    raise RuntimeError(f"{len(TOKENS)} tokens do not fit a vocabulary of {SIZE}")
TOKENS += [f"<|unused{i}|>" for i in range(len(TOKENS), SIZE)]
IDS = {token: i for i, token in enumerate(TOKENS)}
PAD, END, USER, ASSISTANT = (IDS[s] for s in SPECIAL[:4])


def number(n):
    """`n` up to 40 in words."""
    return NUMBERS[n] if n <= 20 else f"twenty {NUMBERS[n - 20]}"


def encode(text):
    """Token ids of `text`, which must consist of known words, punctuation, newlines and glyphs.

    Splits as the pre-tokenizer does for such text: a word takes the one space before it.
    """
    ids, start = [], 0
    while start < len(text):
        end = start + 1
        if text[start].isalpha() or (text[start] == " " and text[start + 1:start + 2].isalpha()):
            while end < len(text) and text[end].isalpha():
                end += 1
        piece = "".join(BYTES[b] for b in text[start:end].encode())
        ids += [IDS[piece]] if piece in IDS else [IDS[symbol] for symbol in piece]
        start = end
    return ids


def decode(ids):
    """Text of ordinary token ids; special tokens give nothing."""
    to_byte = {symbol: b for b, symbol in enumerate(BYTES)}
    return bytes(to_byte[s] for i in ids if i < ORDINARY for s in TOKENS[i]).decode(errors="replace")
