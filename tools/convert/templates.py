"""The chat template: the checkpoint's own, or what the authors' code writes around a question."""

from pathlib import Path

from .checkpoint import Checkpoint
from .model import Model
from .problem import Problem
from .templates_check import check_template
from .vocabulary import Vocabulary

# Content may be a string or a list of parts; a picture is `<image>` and a line break.
_SAY = (
    "{%- macro say(content) -%}"
    "{%- if content is string -%}{{ content }}{%- else -%}"
    "{%- for part in content -%}"
    "{%- if part.type == 'text' -%}{{ part.text }}{%- else -%}{{ '<' + part.type + '>\\n' }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
)

VICUNA = _SAY + (
    "{%- if messages[0].role != 'system' -%}"
    "{{ 'A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human\\'s questions. ' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ say(message.content) + ' ' }}"
    "{%- elif message.role == 'user' -%}{{ 'USER: ' + say(message.content) + ' ' }}"
    "{%- else -%}{{ 'ASSISTANT: ' + say(message.content) + '</s>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}"
)

# The instruction format has no place for a system prompt: it opens the first turn.
MISTRAL = _SAY + (
    "{%- set start = namespace(text='') -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set start.text = say(message.content) + '\\n\\n' -%}"
    "{%- elif message.role == 'user' -%}{{ '[INST] ' + start.text + say(message.content) + ' [/INST]' }}"
    "{%- set start.text = '' -%}"
    "{%- else -%}{{ ' ' + say(message.content) + '</s>' }}{%- endif -%}"
    "{%- endfor -%}"
)


def _chatml(system: str, end: str) -> str:
    return _SAY + (
        "{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\\n" + system + end + "' }}{%- endif -%}"
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message.role + '\\n' + say(message.content) + '" + end + "' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    )


QWEN = _chatml("You are a helpful assistant.", "<|im_end|>\\n")
# LLaVA-NeXT on Yi-34B was trained without a line break between turns.
YI = _chatml("Answer the questions.", "<|im_end|>")


def chat_template(
    checkpoint: Checkpoint, model: Model, vocabulary: Vocabulary, given: Path | None = None
) -> str | None:
    """The template of the file `given`, else of the checkpoint; for the authors' layout, whose tokenizers carry that of
    the text model at best, their conversation. Raises Problem for one that does not run."""
    if given is None:
        source, where = _chosen(checkpoint, model, vocabulary), str(checkpoint.folder)
    else:
        try:
            source, where = given.read_text(encoding="utf-8"), str(given)
        except (OSError, ValueError) as error:
            raise Problem(f"--chat-template {given} cannot be read ({error})") from None
    if source is not None:
        tokens = {f"{name}_token": vocabulary.tokens[place] for name, place in vocabulary.special.items()}
        check_template(where, source, tokens)
    return source


def _chosen(checkpoint: Checkpoint, model: Model, vocabulary: Vocabulary) -> str | None:
    stored = _stored(checkpoint)
    if stored is not None and not model.original:
        return stored
    marks = "<|im_start|>" in vocabulary.tokens
    known = {"qwen": QWEN, "mistral": MISTRAL, "llama": YI if marks else VICUNA}
    return known.get(model.conversation, stored)


def _stored(checkpoint: Checkpoint) -> str | None:
    """The processor's template knows pictures and goes before the tokenizer's."""
    written = checkpoint.text("chat_template.jinja")
    if written is not None:
        return written
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        found = checkpoint.json(name).get("chat_template")
        if isinstance(found, list):
            found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
        if isinstance(found, str):
            return found
    return None
