"""Chat templates in the structure that models are published with: which tags, filters and kinds of content they use.

The letters they write are those of the models; the Jinja is written anew. `make_template_fixtures.py` renders them with
transformers, `tests/templates.rs` with ours.
"""

# Pictures of a message first, then its texts; the assistant's text is marked for training.
_LLAVA_15 = """\
{% for message in messages %}
    {% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}
    {# pictures go first #}
    {% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}
    {% if message['role'] == 'assistant' %}
        {% for part in message['content'] | selectattr('type', 'equalto', 'text') %}
            {% generation %}{{ part['text'] + ' ' }}{% endgeneration %}
        {% endfor %}
    {% else %}
        {% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}
"""

_NEXT_VICUNA = """\
{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] + ' ' }}{% else %}\
{{ message['role'].upper() + ': ' }}\
{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
{% if message['role'] != 'assistant' %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}\
{% else %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}\
{%- generation -%}{{ part['text'] + ' ' }}{%- endgeneration -%}{% endfor %}{% endif %}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

_NEXT_MISTRAL = """\
{% for message in messages %}{% if message['role'] == 'system' %}\
{{ '<<SYS>>\\n' + message['content'][0]['text'] + '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'user' %}\
{{ '[INST] ' }}{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{% generation %}{{ ' ' + message['content'][0]['text'] + '</s>' }}\
{% endgeneration %}{% else %}{{ raise_exception('Only user and assistant take turns here') }}{% endif %}{% endfor %}"""

_NEXT_34B = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}\
{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# A space behind the role; the line break stands before each text.
_ONEVISION = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + ' ' }}
{%- for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}
{%- for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}
{%- if message['role'] != 'assistant' %}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + part['text'] }}{% endfor %}
{%- else %}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') %}\
{% generation %}{{ '\\n' + part['text'] }}{% endgeneration %}{% endfor %}
{%- endif %}
{{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

_QWEN2_VL = """\
{% set pictures = namespace(value=0) %}{% set videos = namespace(value=0) %}{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}{% set pictures.value = pictures.value + 1 %}\
{% if add_vision_id %}Picture {{ pictures.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part['type'] == 'video' or 'video' in part %}{% set videos.value = videos.value + 1 %}\
{% if add_vision_id %}Video {{ videos.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_QWEN2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Instructions about tools are in the published one; the conversations here have none.
_LLAMA_31 = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- the system message opens the conversation #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.tool_calls | length != 1 %}
        {{- raise_exception("one tool call at a time") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("user and assistant take turns after the system message") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("no role " + message["role"]) }}
    {%- endif %}
{%- endfor %}
"""

# Everything a template may do beside these: macros, call blocks, filters with arguments, slices, string methods.
_VARIED = """\
{%- macro part_of(content) -%}
  {%- if content is string -%}{{ content }}{%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'image' -%}<image>{%- continue -%}{%- endif -%}
      {{- part.text -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro turn(role) -%}<|im_start|>{{ role | capitalize }}{{ '\\n' }}{{ caller() }}<|im_end|>{%- endmacro -%}
{%- set names = {'user': 'person', 'assistant': 'model'} -%}
{%- set first, rest = messages[0], messages[1:] -%}
{{ [first.role, none, true, 1.5] }} {{ {'roles': messages | map(attribute='role') | list} | tojson }}
  {{ messages | map(attribute='role') | unique | join(', ') | title }} {{ 'a-b-c'.rsplit('-', 1) | first }}
{%- for message in [first] + rest %}
  {%- call turn(names.get(message.role, message.role)) -%}
    {%- if loop.last and message.role == 'assistant' -%}{%- generation -%}{{ part_of(message.content) }}{%- endgeneration -%}
    {%- else -%}{{ part_of(message.content) }}{%- endif -%}
  {%- endcall -%}
{%- endfor %}
{% raw %}{% generation %}{% endraw %}
{%- filter upper %}{{ messages | length }} turns of {{ messages[-1].role }}{% endfilter %}
{{ 'x'.center(5, '.') ~ '%s:%02d' | format('n', 7) }}{{ [3, 1, 2] | sort | join }}{{ {'a': [1, {'b': 'é'}]} | tojson(indent=2, ensure_ascii=true) }}
{%- if add_generation_prompt %}<|im_start|>Model{{ '\\n' }}{% endif %}
"""

# Name: source, and the tiny checkpoint whose tokenizer reads what it writes.
PUBLISHED = {
    "llava-1.5": (_LLAVA_15, "llava"),
    "llava-next-vicuna": (_NEXT_VICUNA, "llava_next"),
    "llava-next-mistral": (_NEXT_MISTRAL, "llava_next_mistral"),
    "llava-next-34b": (_NEXT_34B, "llava_onevision"),
    "llava-onevision-qwen2": (_ONEVISION, "llava_onevision"),
    "qwen2-vl": (_QWEN2_VL, "qwen2_vl"),
    "qwen2": (_QWEN2, "llava_onevision"),
    "llama-3.1": (_LLAMA_31, "llava_llama3"),
    "mistral-instruct": (_MISTRAL, "llava_next_mistral"),
    "varied": (_VARIED, "llava_onevision"),
}
