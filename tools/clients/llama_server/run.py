"""Runs llama.cpp's own server tests against `illava serve`, and against llama-server on the same pair.

    python -m venv ENV && ENV/bin/pip install -r tools/clients/llama_server/requirements.txt
    ENV/bin/python tools/clients/llama_server/run.py target/release/illava models/demo/text.gguf models/demo/mmproj.gguf \
        [--peer llama-server] [--only unit/test_basic.py]

The tests come with the source of llama-cpp-python, which pip fetches. No expectation in them is edited: they start a
server by LLAMA_SERVER_BIN_PATH, which is a script here. It puts the pair in the place of the models they would
download, and leaves out the flags that the server does not have. With --peer, a test counts if llama-server passes it
with this pair; each of these passes with illava, too, or stands in `known.txt` with a reason. Without it, the results
are shown and only `known.txt` is held against them.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as tree

HERE = pathlib.Path(__file__).parent
TESTS = "vendor/llama.cpp/tools/server/tests"
# Flags of the tests that choose a model, with the number of their values.
MODEL = {"--hf-repo": 1, "--hf-file": 1, "--model-url": 1, "--model": 1, "--mmproj-url": 1, "--no-mmproj": 0, "--offline": 0}
# Flags of llama-server that `illava serve` does not have.
MISSING = {
    "--cont-batching": 0, "--kv-unified": 0, "--swa-full": 0, "--jinja": 0, "--no-jinja": 0, "--no-ui": 0,
    "--context-shift": 0, "--embedding": 0, "--reranking": 0, "--pooling": 1, "--grp-attn-n": 1, "--grp-attn-w": 1,
    "--cache-ram": 1, "--no-cache-idle-slots": 0,
    "--sleep-idle-seconds": 1, "--backend_sampling": 0,
}
LAUNCHER = """#!{python}
import os, sys
drop, program, own = {drop!r}, {program!r}, {own!r}
given, kept = sys.argv[1:], []
while given:
    flag = given.pop(0)
    if flag in drop:
        del given[:drop[flag]]
    else:
        kept.append(flag)
os.execv(program[0], program + own + kept)
"""


def tests(folder, source):
    """The folder with the tests, unpacked from the source package."""
    if source:
        return source / TESTS
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "llama-cpp-python", "-d", folder]
    subprocess.run(command, check=True)
    (archive,) = pathlib.Path(folder).glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (found,) = pathlib.Path(folder).glob(f"llama_cpp_python-*/{TESTS}")
    return found


def run(name, program, drop, args, where, folder):
    """Outcome of each test: passed, failed or skipped."""
    launcher = pathlib.Path(folder) / f"{name}.py"
    own = ["-m", str(args.text.resolve()), "--mmproj", str(args.projector.resolve())]
    launcher.write_text(LAUNCHER.format(python=sys.executable, drop=drop, program=program, own=own))
    launcher.chmod(0o755)
    report = pathlib.Path(folder) / f"{name}.xml"
    environment = {**os.environ, "LLAMA_SERVER_BIN_PATH": str(launcher)}
    command = [sys.executable, "-m", "pytest", "-q", *([] if args.slow else ["-m", "not slow"]), f"--junitxml={report}", *(args.only or ["unit"])]
    subprocess.run(command, cwd=where, env=environment)
    outcomes = {}
    for case in tree.parse(report).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        outcome = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        outcomes[f"{case.get('classname').split('.')[-1]}::{case.get('name')}"] = outcome
    return outcomes


def known():
    """Tests that may fail, by the beginning of their names, each with its reason."""
    lines = (line.split("#", 1)[0].strip() for line in (HERE / "known.txt").read_text().splitlines())
    return dict(line.split(": ", 1) for line in lines if line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("illava", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("projector", type=pathlib.Path)
    parser.add_argument("--peer", help="llama-server of the same release")
    parser.add_argument("--source", type=pathlib.Path, help="unpacked llama-cpp-python, instead of fetching it")
    parser.add_argument("--slow", action="store_true", help="also the tests that llama.cpp marks as slow")
    parser.add_argument("--only", nargs="+", help="files below the tests' folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = tests(folder, args.source)
        own = run("illava", [str(args.illava.resolve()), "serve"], MODEL | MISSING, args, where, folder)
        peer = run("peer", [args.peer], MODEL, args, where, folder) if args.peer else None
    excused = known()
    reason = lambda name: next((why for start, why in excused.items() if name.startswith(start)), None)
    counted = [name for name, outcome in own.items() if outcome == "failed" and (peer is None or peer.get(name) == "passed")]
    wrong = [name for name in counted if reason(name) is None]
    for name in counted:
        print(f"{name}: {reason(name) or 'NOT EXPLAINED'}")
    print(f"illava passes {sum(outcome == 'passed' for outcome in own.values())} of {len(own)}", end="")
    print("" if peer is None else f", llama-server {sum(outcome == 'passed' for outcome in peer.values())}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
