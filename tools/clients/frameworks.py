"""Drives a running server with the frameworks above openai's client: instructor, LangChain, litellm, LlamaIndex, pydantic-ai.

    python -m venv ENV && ENV/bin/pip install -r tools/clients/frameworks.txt
    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
    ENV/bin/python tools/clients/frameworks.py http://127.0.0.1:8080 models/demo/images/crowd-448.png

Needs any model that sees; what it answers is shown, and only its form is judged. A framework that is not installed is
named and passed over. LlamaIndex needs an older openai than the others, and an environment of its own. The command
fails if a check fails or if no framework is installed.
"""

import argparse
import base64
import json
import pathlib
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict

ASK, SHORT, LONG = "What is it?", 16, 400


class Closed(BaseModel):
    # A small model goes on inventing properties if the schema allows more.
    model_config = ConfigDict(extra="forbid")


class Pair(Closed):
    """A colour and how often it is seen."""

    colour: Literal["red", "green", "blue"]
    count: Literal[1, 2, 3]


class Weather(Closed):
    """Tells the weather of a city."""

    city: Literal["Paris", "Rome"]


TOOL = {"type": "function", "function": {"name": "Weather", "description": Weather.__doc__, "parameters": Weather.model_json_schema()}}


class Framework:
    def __init__(self, server, picture):
        self.base, self.picture = f"{server}/v1", picture
        self.url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        self.parts = [{"type": "image_url", "image_url": {"url": self.url}}, {"type": "text", "text": ASK}]
        self.connect()


class Instructor(Framework):
    def connect(self):
        import instructor
        import openai

        self.modes = instructor.Mode
        plain = openai.OpenAI(base_url=self.base, api_key="any", timeout=600)
        self.client = lambda mode: instructor.from_openai(plain, mode=mode)

    def ask(self, mode):
        messages = [{"role": "user", "content": self.parts}]
        settings = {"model": "any", "response_model": Pair, "max_retries": 0, "max_tokens": LONG}
        return self.client(mode).chat.completions.create(messages=messages, **settings)

    def tools(self):
        return self.ask(self.modes.TOOLS).model_dump()

    def structured(self):
        return self.ask(self.modes.JSON_SCHEMA).model_dump()

    def stream(self):
        client = self.client(self.modes.TOOLS).chat.completions
        messages = [{"role": "user", "content": self.parts}]
        settings = {"model": "any", "response_model": Pair, "max_retries": 0, "max_tokens": LONG}
        *_, last = client.create_partial(messages=messages, **settings)
        return Pair.model_validate(last.model_dump()).model_dump()


class LangChain(Framework):
    def connect(self):
        from langchain_core.messages import HumanMessage, ToolMessage
        from langchain_openai import ChatOpenAI

        self.tool_message = ToolMessage
        self.message = HumanMessage(content=self.parts)
        self.chat = ChatOpenAI(base_url=self.base, api_key="any", model="any", temperature=0, max_tokens=LONG)

    def picture_and_stream(self):
        whole = self.chat.invoke([self.message]).content
        assert whole and "".join(part.content for part in self.chat.stream([self.message])) == whole
        return whole

    def tools(self):
        bound = self.chat.bind_tools([Weather], tool_choice="any")
        answer = bound.invoke([self.message])
        call = answer.tool_calls[0]
        Weather.model_validate(call["args"])
        self.chat.invoke([self.message, answer, self.tool_message("Sun.", tool_call_id=call["id"])])
        streamed = None
        for part in bound.stream([self.message]):
            streamed = part if streamed is None else streamed + part
        assert streamed.tool_calls[0]["args"] == call["args"], streamed
        return call["args"]

    def structured(self):
        return self.chat.with_structured_output(Pair, method="json_schema").invoke([self.message]).model_dump()


class Litellm(Framework):
    def connect(self):
        import litellm

        self.complete = litellm.completion

    def ask(self, **more):
        settings = {"model": "openai/any", "api_base": self.base, "api_key": "any", "temperature": 0, "max_tokens": LONG}
        return self.complete(messages=[{"role": "user", "content": self.parts}], **settings | more)

    def picture_and_stream(self):
        whole = self.ask().choices[0].message.content
        assert whole and "".join(part.choices[0].delta.content or "" for part in self.ask(stream=True)) == whole
        return whole

    def each_provider(self):
        root = self.base.removesuffix("/v1")
        bases = {"hosted_vllm": self.base, "lm_studio": self.base, "anthropic": root, "ollama_chat": root}
        said = {}
        for provider, base in bases.items():
            model = {"model": f"{provider}/any", "api_base": base, "max_tokens": SHORT}
            whole = self.ask(**model)
            parts = list(self.ask(**model, stream=True))
            assert whole.usage.completion_tokens > 0, provider
            assert any(part.choices and part.choices[0].delta.content for part in parts), provider
            said[provider] = whole.choices[0].message.content
        return said

    def tools(self):
        call = self.ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls[0].function
        return Weather.model_validate_json(call.arguments).model_dump()

    def structured(self):
        return Pair.model_validate_json(self.ask(response_format=Pair).choices[0].message.content).model_dump()


class LlamaIndex(Framework):
    def connect(self):
        from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
        from llama_index.core.tools import FunctionTool
        from llama_index.llms.openai_like import OpenAILike

        self.model = OpenAILike(
            model="any", api_base=self.base, api_key="any", temperature=0, max_tokens=LONG, timeout=600,
            is_chat_model=True, is_function_calling_model=True,
        )
        self.ask = [ChatMessage(role="user", blocks=[ImageBlock(image=self.picture), TextBlock(text=ASK)])]
        self.tool = FunctionTool.from_defaults(fn=lambda city: "Sun.", name="Weather", description=Weather.__doc__, fn_schema=Weather)

    def picture_and_stream(self):
        whole = self.model.chat(self.ask).message.content
        assert whole and "".join(part.delta or "" for part in self.model.stream_chat(self.ask)) == whole
        return whole

    def tools(self):
        answer = self.model.chat_with_tools([self.tool], chat_history=self.ask, tool_required=True)
        return Weather.model_validate(self.model.get_tool_calls_from_response(answer)[0].tool_kwargs).model_dump()

    def structured(self):
        return self.model.as_structured_llm(Pair).chat(self.ask).raw.model_dump()


class PydanticAi(Framework):
    def connect(self):
        import pydantic_ai
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        self.module = pydantic_ai
        self.model = OpenAIChatModel("any", provider=OpenAIProvider(base_url=self.base, api_key="any"))
        self.settings = {"max_tokens": LONG, "temperature": 0}
        self.ask = [ASK, pydantic_ai.BinaryContent(self.picture, media_type="image/png")]

    def agent(self, **more):
        return self.module.Agent(self.model, model_settings=self.settings, retries=0, **more)

    def picture_and_history(self):
        agent = self.agent(instructions="Be brief.")
        first = agent.run_sync(self.ask)
        assert first.output and first.usage.output_tokens > 0
        agent.run_sync("Sure?", message_history=first.all_messages())
        return first.output

    def stream(self):
        whole = self.agent().run_sync(self.ask).output
        assert self.agent().run_stream_sync(self.ask).get_output() == whole
        return whole

    def tools(self):
        # The output is the arguments of a call that the request demands.
        output = self.agent(output_type=Pair).run_sync(self.ask).output
        streamed = self.agent(output_type=Pair).run_stream_sync(self.ask).get_output()
        assert streamed == output, streamed
        return output.model_dump()

    def structured(self):
        return self.agent(output_type=self.module.NativeOutput(Pair)).run_sync(self.ask).output.model_dump()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="http://127.0.0.1:8080")
    parser.add_argument("picture", type=pathlib.Path, help="a PNG file")
    parser.add_argument("--only", help="one framework")
    given = parser.parse_args()
    tried = failed = 0
    for kind in (Instructor, LangChain, Litellm, LlamaIndex, PydanticAi):
        if given.only and kind.__name__.lower() != given.only.lower():
            continue
        try:
            framework = kind(given.server.rstrip("/"), given.picture.read_bytes())
        except ImportError as error:
            print(f"{kind.__name__}: passed over ({error})")
            continue
        helpers = ("connect", "ask", "agent")
        for name in [name for name in vars(kind) if not name.startswith("_") and name not in helpers]:
            tried += 1
            try:
                print(f"ok    {kind.__name__}.{name}: {json.dumps(getattr(framework, name)())}", flush=True)
            except Exception as error:  # noqa: BLE001: every framework has errors of its own
                failed += 1
                print(f"FAIL  {kind.__name__}.{name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(f"{tried - failed} of {tried} checks passed")
    return 0 if tried and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
