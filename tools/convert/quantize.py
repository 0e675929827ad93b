"""Mixes of types by llama.cpp's own quantiser, which lives in the native library.

It chooses a type for every tensor and searches for scales; a second implementation here would be slower and not the same.
`illava quantize` calls it: the installed program, or the one that this folder's sources are built to.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .problem import Problem

_ROOT = Path(__file__).resolve().parents[2]


def quantizer(given: Path | None) -> list[str]:
    """The command to call, up to the arguments. Raises Problem without any."""
    if given is not None:
        found = shutil.which(str(given))
        if found is None:
            raise Problem(f"--quantizer {given} is no program that can be started")
        return [found, "quantize"] if Path(found).stem == "illava" else [found]
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    built = target / "release" / "illava"
    for program in (shutil.which("illava"), str(built) if built.is_file() else None):
        if program is not None and _can_quantise(program):
            return [program, "quantize"]
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    if cargo is None:
        raise Problem("mixes of types need `illava quantize`: install illava, or build it with `cargo build --release`, or "
                      "give llama.cpp's llama-quantize with --quantizer")
    command = [cargo, "build", "--quiet", "--release", "--bin", "illava"]
    if subprocess.run(command, cwd=_ROOT, check=False).returncode != 0 or not built.is_file():
        raise Problem("illava could not be built, which quantises: `cargo build --release` says why")
    return [str(built), "quantize"]


def _can_quantise(program: str) -> bool:
    """Whether an installed illava is new enough."""
    done = subprocess.run([program, "quantize", "--help"], capture_output=True, check=False)
    return done.returncode == 0


def quantize(source: Path, target: Path, type_name: str, command: list[str]) -> None:
    """Writes `source` as `target` in the mix `type_name`; `command` takes llama-quantize's arguments."""
    try:
        done = subprocess.run([*command, str(source), str(target), type_name.upper()], capture_output=True, text=True,
                              check=False)
    except OSError as error:
        raise Problem(f"{command[0]} does not start ({error.strerror})") from None
    if done.returncode != 0 or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gives no reason"]
        raise Problem(f"the quantiser failed: {lines[-1]}")
