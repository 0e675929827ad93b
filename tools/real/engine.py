"""The program that measures on the engine: examples/nearness.rs, one process for each pair of files."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Rows:
    """Rows that one picture brings to the text model: rows [tokens, width] and the patches that each stands for."""

    rows: np.ndarray
    sizes: np.ndarray


class Nearness:
    """A running `nearness` in the mode `rows` or `answers`."""

    def __init__(self, mode: str, text: Path, projector: Path, threads: int = 1, program: Path | None = None):
        program = program or ROOT / "target/release/examples/nearness"
        quiet = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        command = [str(program), mode, str(text), str(projector), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet)

    def _line(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"nearness ended with status {self.process.wait()}; its last words stand above")
        return json.loads(line)

    def _ask(self, image: Path, prompt: str, settings: list[dict]) -> None:
        job = {"image": str(image.resolve()), "prompt": prompt, "settings": settings}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def rows(self, image: Path, settings: list[dict], width: int) -> list[Rows]:
        """The picture's rows by each setting, their first `width` columns."""
        self._ask(image, "?", settings)
        found = []
        for _ in settings:
            head = self._line()
            count = head["tokens"] * head["width"]
            rows = np.frombuffer(self.process.stdout.read(4 * count), np.float32).reshape(head["tokens"], head["width"])
            found.append(Rows(rows[:, :width].copy(), np.array(head["sizes"] or [1.0] * head["tokens"])))
        return found

    def answers(self, image: Path, question: str, settings: list[dict]) -> list[dict]:
        """Tokens, divergence from merging off and agreement by each setting."""
        self._ask(image, question, settings)
        return [self._line() for _ in settings]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
