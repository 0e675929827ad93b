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
# A function that a prompt may call.
WEATHER = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Aichat:
    def __init__(self, program: str, server: str, picture: pathlib.Path, home: pathlib.Path):
        self.program, self.picture, self.home = program, str(picture.resolve()), home
        (home / "config.yaml").write_text(CONFIG.format(server=server))
        functions = home / "functions"
        functions.mkdir()
        (functions / "functions.json").write_text(json.dumps([WEATHER]))

    def ask(self, *arguments: str, settings: str = "") -> str:
        config = self.home / "config.yaml"
        before = config.read_text()
        config.write_text(before + settings)
        environment = {**os.environ, "AICHAT_CONFIG_DIR": str(self.home)}
        done = subprocess.run(
            [self.program, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        config.write_text(before)
        assert done.returncode == 0, done.stderr or done.stdout
        assert done.stdout.strip(), "no answer"
        return done.stdout.strip()

    def text(self):
        return self.ask("-S", "How many are there?")

    def picture_whole(self):
        return self.ask("-S", "-f", self.picture, "--", "How many circles are there?")

    def picture_streamed(self):
        streamed = self.ask("-f", self.picture, "--", "How many circles are there?", settings="temperature: 0\n")
        whole = self.ask("-S", "-f", self.picture, "--", "How many circles are there?", settings="temperature: 0\n")
        assert streamed == whole, (streamed, whole)
        return streamed

    def tools_offered(self):
        """The function goes with the question; whether it is called is the model's choice."""
        return self.ask("-S", "How many are there?", settings="function_calling: true\nuse_tools: weather\n")

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
    checks = ("text", "picture_whole", "picture_streamed", "tools_offered", "models")
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
