"""Drives a running server with aichat, a client for terminals:

    cargo install aichat --locked
    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
    python3 tools/clients/aichat.py http://127.0.0.1:8080 models/demo/images/crowd-448.png

Needs any model that sees; what it answers is shown, and only its form is judged. aichat's own settings are left alone.
The command fails if a check fails.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

CONFIG = """
model: illava:any
save: false
function_calling: true
clients:
  - type: openai-compatible
    name: illava
    api_base: {server}/v1
    api_key: any
    models:
      - name: any
        supports_vision: true
        supports_function_calling: true
"""
# Demands a call, which a small model would not make by itself.
DEMAND = """    patch:
      chat_completions:
        ".*":
          body: {tool_choice: required, max_tokens: 200}
use_tools: weather
"""
SHORT = """    patch:
      chat_completions:
        ".*":
          body: {temperature: 0, max_tokens: 16}
"""
WEATHER = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
# Prints the arguments that aichat hands over, and gives it no result to go on with.
PROGRAM = """#!/bin/sh
echo "weather $1"
"""


class Aichat:
    def __init__(self, program: str, server: str, picture: pathlib.Path, home: pathlib.Path):
        self.program, self.picture, self.home = program, str(picture.resolve()), home
        self.config = CONFIG.format(server=server)
        programs = home / "functions/bin"
        programs.mkdir(parents=True)
        (programs.parent / "functions.json").write_text(json.dumps([WEATHER]))
        (programs / "weather").write_text(PROGRAM)
        (programs / "weather").chmod(0o755)

    def ask(self, *arguments: str, settings: str = "") -> str:
        (self.home / "config.yaml").write_text(self.config + settings)
        environment = {**os.environ, "AICHAT_CONFIG_DIR": str(self.home)}
        done = subprocess.run(
            [self.program, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr or done.stdout
        assert done.stdout.strip(), "no answer"
        return done.stdout.strip()

    def question(self) -> tuple[str, ...]:
        return ("-f", self.picture, "--", "How many circles are there?")

    def called(self, *arguments: str) -> str:
        said = self.ask(*arguments, "What is the weather?", settings=DEMAND)
        name, _, given = said.partition(" ")
        assert name == "weather" and json.loads(given)["city"] in ("Paris", "Rome"), said
        return said

    def text(self):
        return self.ask("-S", "How many are there?", settings=SHORT)

    def picture_whole(self):
        return self.ask("-S", *self.question(), settings=SHORT)

    def picture_streamed(self):
        streamed, whole = self.ask(*self.question(), settings=SHORT), self.picture_whole()
        assert streamed == whole, (streamed, whole)
        return streamed

    def tools_whole(self):
        return self.called("-S")

    def tools_streamed(self):
        return self.called()

    def models(self):
        listed = self.ask("--list-models")
        assert "illava:any" in listed.splitlines(), listed
        return listed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="http://127.0.0.1:8080")
    parser.add_argument("picture", type=pathlib.Path, help="a PNG file")
    parser.add_argument("--aichat", default="aichat", help="the program")
    given = parser.parse_args()
    failed = 0
    checks = ("text", "picture_whole", "picture_streamed", "tools_whole", "tools_streamed", "models")
    for name in checks:
        with tempfile.TemporaryDirectory() as home:
            aichat = Aichat(given.aichat, given.server.rstrip("/"), given.picture, pathlib.Path(home))
            try:
                print(f"ok    {name}: {json.dumps(getattr(aichat, name)())}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAIL  {name}: {str(error)[:600]}", flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
