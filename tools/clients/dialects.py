"""Drives a running server with the clients of each dialect: openai, anthropic, ollama, litellm, huggingface_hub, llm.

    python -m venv ENV && ENV/bin/pip install -r tools/clients/dialects.txt
    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
    ENV/bin/python tools/clients/dialects.py http://127.0.0.1:8080 models/demo/images/crowd-448.png

Needs any model that sees; what it answers is shown, and only its form is judged. A client that is not installed is
named and passed over.
"""

import argparse
import base64
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "count": {"enum": [1, 2, 3]}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
ASK = "Say something."


def fits(text):
    answer = json.loads(text)
    assert answer["colour"] in ("red", "green", "blue") and answer["count"] in (1, 2, 3), answer
    return text


class OpenAi:
    def __init__(self, server, picture):
        import openai

        self.url = f"data:image/png;base64,{picture}"
        self.client = openai.OpenAI(base_url=f"{server}/v1", api_key="any", timeout=600)
        self.tool = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}

    def responses(self):
        parts = [{"type": "input_image", "image_url": self.url, "detail": "auto"}, {"type": "input_text", "text": "What is it?"}]
        answer = self.client.responses.create(model="any", input=[{"role": "user", "content": parts}], max_output_tokens=16)
        assert answer.id.startswith("resp_") and answer.usage.output_tokens > 0
        return answer.output_text

    def responses_stream(self):
        text, last = "", None
        for event in self.client.responses.create(model="any", input=ASK, max_output_tokens=16, stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        assert last.type in ("response.completed", "response.incomplete") and last.response.output_text == text
        return text

    def responses_structured(self):
        form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}
        return fits(self.client.responses.create(model="any", input="A colour and a count.", text=form).output_text)

    def responses_tools(self):
        flat = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
        answer = self.client.responses.create(model="any", input="Paris?", tools=[flat], tool_choice="required")
        call = answer.output[0]
        assert call.type == "function_call" and json.loads(call.arguments)["city"] in ("Paris", "Rome")
        back = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
        history = [{"role": "user", "content": "Paris?"}, call.model_dump(exclude_none=True), back]
        self.client.responses.create(model="any", input=history, tools=[flat], tool_choice="none", max_output_tokens=8)
        return call.arguments

    def completions(self):
        answer = self.client.completions.create(model="any", prompt="The colour is", max_tokens=8, logprobs=2)
        assert answer.choices[0].finish_reason in ("stop", "length") and answer.choices[0].logprobs.tokens
        streamed = self.client.completions.create(model="any", prompt="The colour is", max_tokens=8, stream=True)
        return answer.choices[0].text + "".join(chunk.choices[0].text for chunk in streamed if chunk.choices)

    def tools(self):
        ask = [{"role": "user", "content": "Paris?"}]
        named = {"type": "function", "function": {"name": "weather"}}
        answer = self.client.chat.completions.create(model="any", messages=ask, tools=[self.tool], tool_choice=named)
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls" and json.loads(choice.message.tool_calls[0].function.arguments)
        back = {"role": "tool", "tool_call_id": choice.message.tool_calls[0].id, "content": "Sun."}
        history = [*ask, choice.message, back]
        self.client.chat.completions.create(model="any", messages=history, tools=[self.tool], tool_choice="none", max_tokens=8)
        with self.client.chat.completions.stream(model="any", messages=ask, tools=[self.tool], tool_choice="required") as stream:
            call = stream.get_final_completion().choices[0].message.tool_calls[0]
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
        return call.function.arguments

    def models(self):
        name = self.client.models.list().data[0].id
        assert self.client.models.retrieve(name).id == name
        return name


class Anthropic:
    def __init__(self, server, picture):
        import anthropic

        self.module, self.picture = anthropic, picture
        self.client = anthropic.Anthropic(base_url=server, api_key="any", timeout=600)
        self.tool = {"name": "weather", "description": "Tells it.", "input_schema": WEATHER}

    def messages(self):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": self.picture}}
        ask = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]
        answer = self.client.messages.create(model="any", max_tokens=16, system="Be brief.", messages=ask, stop_sequences=["\n\n"])
        assert answer.stop_reason in ("end_turn", "max_tokens", "stop_sequence") and answer.usage.output_tokens > 0
        counted = self.client.messages.count_tokens(model="any", system="Be brief.", messages=ask)
        assert counted.input_tokens > 0
        return answer.content[0].text

    def stream(self):
        with self.client.messages.stream(model="any", max_tokens=16, messages=[{"role": "user", "content": ASK}]) as stream:
            text = "".join(stream.text_stream)
            assert stream.get_final_message().content[0].text == text
        return text

    def tools(self):
        ask = [{"role": "user", "content": "Paris?"}]
        choice = {"type": "tool", "name": "weather"}
        answer = self.client.messages.create(model="any", max_tokens=99, messages=ask, tools=[self.tool], tool_choice=choice)
        call = answer.content[-1]
        assert answer.stop_reason == "tool_use" and call.input["city"] in ("Paris", "Rome")
        back = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sun."}]}
        history = [*ask, {"role": "assistant", "content": answer.content}, back]
        self.client.messages.create(model="any", max_tokens=8, messages=history, tools=[self.tool], tool_choice={"type": "none"})
        with self.client.messages.stream(model="any", max_tokens=99, messages=ask, tools=[self.tool], tool_choice=choice) as stream:
            assert stream.get_final_message().content[-1].input["city"] in ("Paris", "Rome")
        return json.dumps(call.input)

    def errors(self):
        try:
            self.client.messages.create(model="any", max_tokens=5, stop_sequences=["x"] * 17, messages=[{"role": "user", "content": ASK}])
        except self.module.BadRequestError as error:
            assert error.body["error"]["type"] == "invalid_request_error"
            return error.body["error"]["message"]
        raise AssertionError("17 stop sequences were taken")


class Ollama:
    def __init__(self, server, picture):
        import ollama

        self.module, self.picture = ollama, picture
        self.client = ollama.Client(host=server, timeout=600)

    def chat(self):
        ask = [{"role": "user", "content": "What is it?", "images": [self.picture]}]
        answer = self.client.chat(model="any", messages=ask, options={"num_predict": 16})
        assert answer.done and answer.eval_count > 0
        return answer.message.content

    def chat_stream(self):
        parts = list(self.client.chat(model="any", messages=[{"role": "user", "content": ASK}], stream=True, options={"num_predict": 16}))
        assert parts[-1].done and parts[-1].done_reason in ("stop", "length")
        return "".join(part.message.content for part in parts)

    def generate(self):
        return self.client.generate(model="any", prompt="What is it?", images=[self.picture], options={"num_predict": 16}).response

    def structured(self):
        return fits(self.client.chat(model="any", messages=[{"role": "user", "content": "A colour and a count."}], format=SCHEMA).message.content)

    def tools(self):
        tool = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}
        ask = [{"role": "user", "content": "Paris?"}]
        # Ollama has no tool_choice: among the options the server reads one, for models that do not call by themselves.
        must = {"num_predict": 64, "tool_choice": "required"}
        answer = self.client.chat(model="any", messages=ask, tools=[tool], options=must)
        (call,) = answer.message.tool_calls
        assert call.function.name == "weather" and call.function.arguments["city"] in ("Paris", "Rome"), call
        back = {"role": "tool", "tool_name": call.function.name, "content": "Sun."}
        self.client.chat(model="any", messages=[*ask, answer.message, back], tools=[tool], options={"num_predict": 8})
        parts = self.client.chat(model="any", messages=ask, tools=[tool], options=must, stream=True)
        streamed = [call for part in parts for call in part.message.tool_calls or []]
        assert streamed[0].function.arguments == call.function.arguments, streamed
        return str(call.function)

    def models(self):
        name = self.client.list().models[0].model
        assert "vision" in self.client.show(name).capabilities and self.client.ps().models[0].model == name
        return name

    def errors(self):
        try:
            self.client.chat(model="any", messages=[{"role": "user", "content": ASK}], options={"temperature": -1})
        except self.module.ResponseError as error:
            assert error.status_code == 400 and "options.temperature" in error.error
            return error.error
        raise AssertionError("a temperature of -1 was taken")


class Litellm:
    def __init__(self, server, picture):
        import litellm

        self.module, self.server = litellm, server
        self.ask = [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}, {"type": "text", "text": "What is it?"}]}]

    def by_each_dialect(self):
        said = []
        for model, base in (("openai/any", f"{self.server}/v1"), ("anthropic/any", self.server), ("ollama_chat/any", self.server)):
            answer = self.module.completion(model=model, api_base=base, api_key="any", messages=self.ask, max_tokens=16)
            stream = self.module.completion(model=model, api_base=base, api_key="any", messages=self.ask, max_tokens=16, stream=True)
            said.append(answer.choices[0].message.content + "|" + "".join(part.choices[0].delta.content or "" for part in stream))
        return " / ".join(said)


class HuggingFace:
    def __init__(self, server, picture):
        import huggingface_hub

        self.client = huggingface_hub.InferenceClient(base_url=f"{server}/v1", api_key="any", timeout=600)
        self.url = f"data:image/png;base64,{picture}"

    def chat(self):
        ask = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": self.url}}, {"type": "text", "text": "What is it?"}]}]
        whole = self.client.chat_completion(model="any", messages=ask, max_tokens=16).choices[0].message.content
        parts = self.client.chat_completion(model="any", messages=ask, max_tokens=16, stream=True)
        return whole + "|" + "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    def structured(self):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
        ask = [{"role": "user", "content": "A colour and a count."}]
        return fits(self.client.chat_completion(model="any", messages=ask, response_format=form).choices[0].message.content)

    def tools(self):
        tool = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}
        ask = [{"role": "user", "content": "Paris?"}]
        answer = self.client.chat_completion(model="any", messages=ask, tools=[tool], tool_choice="required")
        arguments = answer.choices[0].message.tool_calls[0].function.arguments
        assert json.loads(arguments)["city"] in ("Paris", "Rome"), arguments
        return arguments


class Llm:
    """The program `llm`, with the server as one of its extra models."""

    def __init__(self, server, picture):
        importlib.import_module("llm")
        self.folder = pathlib.Path(tempfile.mkdtemp())
        (self.folder / "extra-openai-models.yaml").write_text(
            f"- model_id: here\n  model_name: any\n  api_base: {server}/v1\n  vision: true\n  supports_schema: true\n")
        self.picture = self.folder / "picture.png"
        self.picture.write_bytes(base64.b64decode(picture))

    def _run(self, *words):
        command = [sys.executable, "-m", "llm", "-m", "here", *words]
        environment = {**os.environ, "LLM_USER_PATH": str(self.folder), "OPENAI_API_KEY": "any"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def picture_in_a_stream(self):
        said = self._run("-a", str(self.picture), "-o", "max_tokens", "16", "What is it?")
        assert said.strip()
        return said

    def text_whole(self):
        return self._run("--no-stream", "-o", "max_tokens", "16", ASK)

    def structured(self):
        return fits(self._run("--schema", json.dumps(SCHEMA), "A colour and a count."))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="http://127.0.0.1:8080")
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--only", help="one client")
    args = parser.parse_args()
    picture = base64.b64encode(args.picture.read_bytes()).decode()
    tried = failed = 0
    for kind in (OpenAi, Anthropic, Ollama, Litellm, HuggingFace, Llm):
        if args.only and kind.__name__.lower() != args.only.lower():
            continue
        try:
            client = kind(args.server.rstrip("/"), picture)
        except ImportError as error:
            print(f"{kind.__name__}: passed over ({error})")
            continue
        for name in [name for name in vars(kind) if not name.startswith("_")]:
            tried += 1
            try:
                print(f"{kind.__name__}.{name}: {getattr(client, name)()!r}")
            except Exception as error:  # noqa: BLE001: every client has errors of its own
                failed += 1
                print(f"{kind.__name__}.{name}: FAILED: {type(error).__name__}: {error}")
    print(f"{tried - failed} of {tried} checks passed")
    sys.exit(0 if tried and not failed else 1)


if __name__ == "__main__":
    main()
