"""Puts up the peers: their own virtual environment, and the shapes as OpenVINO takes them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "peers"


def environment() -> dict[str, str]:
    paths = [str(ROOT / "benches"), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_WAIT_POLICY": "passive"}


def python() -> Path:
    """The Python that has the peers; made on the first call, and again if the requirements change."""
    found, stamp = FOLDER / "python" / "bin" / "python", FOLDER / "python" / "requirements.txt"
    wanted = (Path(__file__).parent / "requirements.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing the peers", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", FOLDER / "python"], check=True)
        install = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "/dev/stdin"]
        subprocess.run(install, input=wanted, text=True, check=True)
        stamp.write_text(wanted)
    return found


def exported(shape: str, weights: str, projection: int) -> Path:
    """The file of a shape for OpenVINO; written if it is missing."""
    path = FOLDER / "models" / f"{shape}-{projection}-{weights}.xml"
    if not path.exists():
        print(f"exporting {path.stem}", file=sys.stderr)
        command = [python(), "-m", "peers.export", shape, "--weights", weights, "--projection", str(projection), "--out", path]
        subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path
