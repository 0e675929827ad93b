"""Models of the benchmark: their paths, and the writing of a missing one."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Models:
    """Files of one run. The large text model is only ever given random rows, so it needs no tower."""

    tower: Path
    tower_q4: Path
    tower_q8: Path
    small: Path
    small_k: Path
    large: Path
    names: dict[str, str]


# File name -> what tools/make_model.py is asked for.
TIMING = {
    "siglip-so400m-f16.gguf": ["--timing", "siglip-so400m", "--type", "f16"],
    "siglip-so400m-q4_0.gguf": ["--timing", "siglip-so400m", "--type", "q4_0"],
    "siglip-so400m-q8_0.gguf": ["--timing", "siglip-so400m", "--type", "q8_0"],
    "qwen2-0.5b-q4_0.gguf": ["--timing", "qwen2-0.5b", "--type", "q4_0"],
    "qwen2-0.5b-q4_k.gguf": ["--timing", "qwen2-0.5b", "--type", "q4_k"],
    "qwen2-7b-q4_0.gguf": ["--timing", "qwen2-7b", "--type", "q4_0"],
}


def _generator() -> str:
    """The Python that tools/test-models.sh prepares, if it is there."""
    prepared = ROOT / "target" / "python" / "bin" / "python"
    return str(prepared) if prepared.exists() else sys.executable


def written(folder: Path, name: str, arguments: list[str]) -> Path:
    """A file of tools/make_model.py; written if it is missing."""
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"writing {name}", file=sys.stderr)
        command = [_generator(), str(ROOT / "tools" / "make_model.py"), "--out", str(folder), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / name


def timing(folder: Path, needed: set[str]) -> Models:
    """True shapes with random weights. Only those in `needed` are written if they are missing."""
    for name, arguments in TIMING.items():
        if name in needed:
            written(folder, name, arguments)
    return Models(
        tower=folder / "siglip-so400m-f16.gguf",
        tower_q4=folder / "siglip-so400m-q4_0.gguf",
        tower_q8=folder / "siglip-so400m-q8_0.gguf",
        small=folder / "qwen2-0.5b-q4_0.gguf",
        small_k=folder / "qwen2-0.5b-q4_k.gguf",
        large=folder / "qwen2-7b-q4_0.gguf",
        names={
            "tower": "SigLIP-so400m F16",
            "tower_q4": "SigLIP-so400m Q4_0",
            "tower_q8": "SigLIP-so400m Q8_0",
            "small": "0.5B Q4_0",
            "small_k": "0.5B Q4_K",
            "large": "7B Q4_0",
        },
    )


def tiny(folder: Path) -> Models:
    """The small pair of the tests in every role: shows that all of it runs, measures nothing."""
    pair = folder / "siglip-qwen2-f16"
    if not (pair / "text.gguf").exists():
        subprocess.run([str(ROOT / "tools" / "test-models.sh"), str(folder)], check=True, stdout=sys.stderr)
    text, quantised = pair / "text.gguf", folder / "siglip-qwen2-q8_0"
    return Models(
        tower=pair / "mmproj.gguf",
        tower_q4=folder / "siglip-qwen2-q4_0" / "mmproj.gguf",
        tower_q8=quantised / "mmproj.gguf",
        small=text,
        small_k=quantised / "text.gguf",
        large=text,
        names={
            "tower": "tiny F16",
            "tower_q4": "tiny Q4_0",
            "tower_q8": "tiny Q8_0",
            "small": "tiny F16",
            "small_k": "tiny Q8_0",
            "large": "large tiny F16",
        },
    )
