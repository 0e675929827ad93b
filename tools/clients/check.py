"""Drives a running server with the clients people have: the openai package, LangChain's ChatOpenAI, and litellm.

    python -m venv ENV && ENV/bin/pip install -r tools/clients/requirements.txt
    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
    ENV/bin/python tools/clients/check.py http://127.0.0.1:8080/v1 models/demo/images [--key KEY]

Needs any model that sees; what it answers is shown, and only its form is judged.
"""

import argparse
import base64
import json
import pathlib
import sys

import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "count": {"enum": [1, 2, 3]}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def picture(path):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"}}


def text(words):
    return {"type": "text", "text": words}


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


class Checks:
    def __init__(self, server, key, pictures):
        self.server, self.key = server, key
        self.client = openai.OpenAI(base_url=server, api_key=key, timeout=300)
        self.model = self.client.models.list().data[0].id
        self.chat = ChatOpenAI(base_url=server, api_key=key, model=self.model, temperature=0, max_tokens=100)
        self.pictures = pictures

    def ask(self, messages, **more):
        return self.client.chat.completions.create(
            model=self.model, messages=messages, temperature=0, **{"max_tokens": 24} | more
        )

    def words_only(self):
        answer = self.ask(user(text("Say something.")))
        assert answer.choices[0].finish_reason in ("stop", "length")
        assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
        return answer.choices[0].message.content

    def one_picture(self):
        answer = self.ask(user(picture(self.pictures[0]), text("Describe the image.")))
        assert answer.usage.prompt_tokens_details.cached_tokens >= 0
        return answer.choices[0].message.content

    def three_pictures(self):
        one = self.ask(user(picture(self.pictures[0]), text("Describe the image.")))
        parts = [part for path in self.pictures[:3] for part in (picture(path), text("and"))]
        three = self.ask(user(*parts, text("Describe the images.")))
        assert three.usage.prompt_tokens > 2 * one.usage.prompt_tokens
        return three.choices[0].message.content

    def a_stream(self):
        messages = user(picture(self.pictures[0]), text("Describe the image."))
        whole = self.ask(messages).choices[0].message.content
        pieces, usage = [], None
        for chunk in self.ask(messages, stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        assert usage.completion_tokens > 0
        assert "".join(pieces) == whole, (pieces, whole)
        return whole

    def a_schema(self):
        form = {"type": "json_schema", "json_schema": {"name": "pair", "strict": True, "schema": SCHEMA}}
        messages = user(picture(self.pictures[0]), text("What is the colour?"))
        answer = self.ask(messages, response_format=form, max_tokens=100)
        content = answer.choices[0].message.content
        value = json.loads(content)
        assert value["colour"] in ("red", "green", "blue") and isinstance(value["count"], int), value
        return content

    def fields_that_change_nothing(self):
        messages = user(text("Say something."))
        fields = {
            "user": "u", "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True,
            "prompt_cache_key": "k", "safety_identifier": "s", "n": 1, "logit_bias": {}, "top_p": 1,
            "presence_penalty": 0, "frequency_penalty": 0, "response_format": {"type": "text"}, "modalities": ["text"],
            "verbosity": "medium", "reasoning_effort": "none", "tool_choice": "none",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        }
        plain, full = self.ask(messages), self.ask(messages, **fields)
        assert plain.choices[0].message.content == full.choices[0].message.content
        return full.choices[0].message.content

    def an_answer_sent_back(self):
        messages = user(text("Say something."))
        answer = self.ask(messages).choices[0].message
        return self.ask([*messages, answer.model_dump(), *user(text("Sure?"))]).choices[0].message.content

    def an_error(self):
        try:
            self.ask(user(text("x")), n=1000)
        except openai.BadRequestError as error:
            assert error.body["type"] == "invalid_request_error", error.body
            return error.body["message"]
        raise AssertionError("no error for n=1000")

    def langchain_words(self):
        return self.chat.invoke("Say something.").content

    def langchain_picture(self):
        message = HumanMessage(content=[text("Describe the image."), picture(self.pictures[0])])
        answer = self.chat.invoke([message])
        assert answer.usage_metadata["input_tokens"] > 0
        return answer.content

    def langchain_stream(self):
        message = HumanMessage(content=[text("Describe the image."), picture(self.pictures[0])])
        pieces = [chunk.content for chunk in self.chat.stream([message])]
        assert "".join(pieces) == self.chat.invoke([message]).content
        return "".join(pieces)

    def litellm_picture(self):
        import litellm

        for provider in ("openai", "hosted_vllm", "lm_studio"):
            messages = user(text("Describe the image."), picture(self.pictures[0]))
            answer = litellm.completion(
                model=f"{provider}/{self.model}", api_base=self.server, api_key=self.key, messages=messages,
                temperature=0, max_tokens=24, user="me",
            )
            assert answer.usage.completion_tokens > 0, provider
        return answer.choices[0].message.content

    def langchain_schema(self):
        structured = self.chat.with_structured_output({"title": "pair"} | SCHEMA, method="json_schema")
        message = HumanMessage(content=[text("What is the colour?"), picture(self.pictures[0])])
        value = structured.invoke([message])
        assert value["colour"] in ("red", "green", "blue"), value
        return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("pictures", type=pathlib.Path, help="folder with at least three PNG files")
    parser.add_argument("--key", default="none")
    given = parser.parse_args()
    checks = Checks(given.server, given.key, sorted(given.pictures.glob("*.png")))
    tried = failed = 0
    for name in [name for name in vars(Checks) if not name.startswith("_") and name != "ask"]:
        tried += 1
        try:
            print(f"ok    {name}: {getattr(checks, name)()!r}", flush=True)
        except Exception as error:  # one check's failure must not hide the others
            failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{tried - failed} of {tried} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
