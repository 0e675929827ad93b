"""K-quants by llama.cpp's own quantiser, which lives in the native library.

It chooses a type for every tensor and searches for scales; a second implementation here would be
slower and not the same. The program is an example of the Rust package, `quantize`, so that whatever
`cargo build` needs is all that it needs, and the command line of illava stays as it is.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .problem import Problem

_ROOT = Path(__file__).resolve().parents[2]


def _built() -> Path:
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    program = target / "release" / "examples" / "quantize"
    if cargo is not None:
        command = [cargo, "build", "--quiet", "--release", "--example", "quantize"]
        if subprocess.run(command, cwd=_ROOT, check=False).returncode != 0:
            raise Problem("the quantiser could not be built: 'cargo build --release --example quantize' says why")
    if not program.is_file():
        raise Problem("K-quants need the quantiser, and building it needs Rust: install it, or give llama.cpp's own "
                      "with --quantizer")
    return program


def quantize(source: Path, target: Path, type_name: str, program: Path | None) -> None:
    """Writes `source` as `target` in the mix `type_name`; takes llama-quantize as well as our example."""
    program = program or _built()
    command = [str(program), str(source), str(target), type_name.upper()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Problem(f"{program} does not start ({error.strerror})") from None
    if done.returncode != 0 or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gives no reason"]
        raise Problem(f"the quantiser failed: {lines[-1]}")
