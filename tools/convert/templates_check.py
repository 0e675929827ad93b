"""Whether a chat template runs: it is rendered by transformers' own rules before a byte is written."""

from transformers.utils.chat_template_utils import render_jinja_template

from .problem import Problem

_PICTURE = {"type": "image"}
_TEXT = {"type": "text", "text": "What is this?"}
# A template takes content as a list of parts, or as a string.
_QUESTIONS = ([_PICTURE, _TEXT], [_TEXT], _TEXT["text"])


def check_template(where: str, source: str, special: dict[str, str]) -> None:
    """Raises Problem for a template that renders no question at all. `special` are bos_token and eos_token."""
    reason = None
    for content in _QUESTIONS:
        try:
            rendered, _ = render_jinja_template(
                [[{"role": "user", "content": content}]], chat_template=source, add_generation_prompt=True, **special
            )
        except Exception as error:  # a template raises what it likes
            lines = str(error).strip().splitlines()
            reason = reason or (lines[0] if lines else type(error).__name__)
            continue
        if _TEXT["text"] in rendered[0]:
            return
        reason = reason or "it leaves the question out"
    raise Problem(f"{where}: the chat template does not run ({reason}); give another with --chat-template FILE")
