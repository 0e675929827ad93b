"""The machine and the tree that figures belong to, without names or paths of either."""

import os
import platform
import subprocess
from pathlib import Path

FEATURES = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimd", "asimddp", "i8mm", "sve")


def _first(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def describe() -> dict:
    info: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "processor": info.get("model name") or _first(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine(),
        "family": info.get("cpu family", ""),
        "model": info.get("model", ""),
        "cores": os.cpu_count(),
        "features": [name for name in FEATURES if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "compiler": _first(["c++", "--version"]),
    }


def load() -> float | None:
    """Load average over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit(root: Path) -> str:
    """The commit measured, with `+` if the tree that is compiled differs from it."""
    name = _first(["git", "rev-parse", "--short=12", "HEAD"], root)
    return name + ("+" if _first(["git", "status", "--porcelain", "patches", "vendor", "benches/native"], root) else "")
