#!/usr/bin/env python3
"""Prints the notices of what a released illava holds. They name each crate that is compiled into it with its licence.
The licence texts that lie in the crates follow (each once), llama.cpp's, and those of the page's scripts. Fails if one
has no licence.

    tools/notices.py > THIRD-PARTY.txt
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("license", "licence", "copying", "notice", "unlicense", "copyright")


def metadata(folder):
    cargo = os.environ.get("CARGO", "cargo")
    host = next(line[6:] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host: "))
    call = [cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.check_output(call, cwd=folder))


def compiled(graph, root):
    """Ids of the packages below `root` by normal dependencies: those of tests and build scripts are in no program."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    found, open_ = set(), [root]
    while open_:
        package = open_.pop()
        if package in found:
            continue
        found.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                open_.append(dependency["pkg"])
    return found


def texts(folder):
    """Contents of the licence files at the top of `folder`."""
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name.lower().startswith(NAMES)]
    return [f.read_text(errors="replace").strip() for f in files]


def main():
    graph = metadata(ROOT)
    packages = {package["id"]: package for package in graph["packages"]}
    root = next(p["id"] for p in graph["packages"] if p["name"] == "illava")
    entries, bodies = [], {}
    for package in sorted((packages[i] for i in compiled(graph, root)), key=lambda p: (p["name"], p["version"])):
        if package["source"] is None:
            continue
        name, folder = f"{package['name']} {package['version']}", Path(package["manifest_path"]).parent
        licence = package["license"] or (package["license_file"] and "see its text")
        if not licence:
            sys.exit(f"notices: {name} names no licence: look at its repository before it is released")
        entries.append(f"{name}: {licence}  {package['repository'] or ''}".rstrip())
        for text in texts(folder):
            bodies.setdefault(text, []).append(name)
    upstream = metadata(ROOT / "vendor" / "upstream")
    native = next(Path(p["manifest_path"]).parent for p in upstream["packages"] if p["name"] == "llama-cpp-sys-2") / "llama.cpp"
    licence = native / "LICENSE"
    if not licence.is_file():
        sys.exit(f"notices: {licence} is missing: where has llama.cpp's licence gone?")
    bodies.setdefault(licence.read_text().strip(), []).append("llama.cpp and ggml")
    rows = (ROOT / "src/server/web/vendor/README.md").read_text().splitlines()
    scripts = [" ".join(cell.strip(" `") for cell in row.split("|")[1:5]) for row in rows if row.startswith("| `")]

    print("illava is under the MIT licence (LICENSE). It holds:\n")
    print("\n".join(["llama.cpp and ggml, with illava's patches: MIT  https://github.com/ggml-org/llama.cpp", *scripts, *entries]))
    for text, names in bodies.items():
        print(f"\n{'=' * 80}\n{', '.join(names)}\n{'-' * 80}\n{text}")


if __name__ == "__main__":
    main()
