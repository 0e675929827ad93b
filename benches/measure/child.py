"""Running programs that hold their models and answer commands."""

import json
import subprocess
from pathlib import Path
from typing import Self


class ChildError(Exception):
    """The program ended, or answered that it cannot do what it was asked."""


class Program:
    """A process that answers each line with one JSON object. `with` ends it."""

    def __init__(self, command: list, **more):
        self._command = [str(word) for word in command]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)

    def ask(self, command: str) -> dict:
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ChildError(f"{Path(self._command[0]).name} ended at `{command}` with status {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise ChildError(f"`{command}`: {reply['error']}")
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Child(Program):
    """One bench-pair process."""

    def __init__(self, program: Path, text: Path, mmproj: Path | None, threads: int, ctx: int = 1024, repack: bool = False, kernels: str = "stock"):
        command = [program, "--text", text, "--threads", threads, "--ctx", ctx]
        if mmproj is not None:
            command += ["--mmproj", mmproj]
        if repack:
            command += ["--repack-tower", 1]
        if kernels != "stock":
            command += ["--kernels", kernels]
        super().__init__(command)
