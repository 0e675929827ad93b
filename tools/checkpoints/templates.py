"""Chat templates as the -hf releases write them: content is a list of parts, pictures first."""

from .shapes import Family

_IMAGES = "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
_VIDEOS = "{% for c in m['content'] if c['type'] == 'video' %}{{ '<video>\\n' }}{% endfor %}"
_TEXTS = "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}"

# The assistant's text is marked for training, as in the releases.
_TRAINED = "{% generation %}" + _TEXTS + "{% endgeneration %}"

_VICUNA = (
    "{% for m in messages %}{{ m['role'].upper() }}: " + _IMAGES
    + "{% if m['role'] == 'assistant' %}" + _TRAINED + "{% else %}" + _TEXTS + "{% endif %}"
    " {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] " + _IMAGES + _TEXTS + " [/INST]"
    "{% else %} " + _TRAINED + "</s>{% endif %}{% endfor %}"
)
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + _IMAGES + _VIDEOS
    + "{% if m['role'] == 'assistant' %}" + _TRAINED + "{% else %}" + _TEXTS + "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n" + _IMAGES + _TEXTS
    + "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_QWEN2VL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_template(family: Family) -> str:
    if family.name == "qwen2_vl":
        return _QWEN2VL
    if family.tokenizer == "llama3":
        return _LLAMA3
    return {"qwen2": _CHATML, "llama": _VICUNA, "mistral": _MISTRAL}[family.text]
