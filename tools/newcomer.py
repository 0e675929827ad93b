#!/usr/bin/env python3
"""A newcomer's first hour on the demo pair: ask, chat, caption a folder through a kill, measure, explain.

    tools/newcomer.py [FOLDER]      FOLDER keeps what is written; without it a temporary one is used

Prints a transcript of every command with what a person sees. If something is not as the pages of docs/ say, it ends
with a status that is not 0. The chat runs on a terminal of its own.
"""

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "models/demo"
ILLAVA = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/illava"
PAIR = ["-m", str(DEMO / "text.gguf"), "-mm", str(DEMO / "mmproj.gguf")]
# A bound for what is bound to happen; it ends a run that is stuck, not one on a busy machine.
STUCK = 300
PICTURES = 60


def fail(why):
    sys.exit(f"newcomer.py: {why}")


def show(arguments):
    """The command as a person types it."""
    typed = " ".join(shlex.quote(str(argument)) for argument in arguments)
    print(f"\n$ illava {typed}".replace(f"{DEMO}/", "").replace(f"{ROOT}/", ""), flush=True)


def run(*arguments, status=0):
    show(arguments)
    done = subprocess.run([ILLAVA, *map(str, arguments)], capture_output=True, text=True, timeout=STUCK, stdin=subprocess.DEVNULL)
    print(done.stderr + done.stdout, end="", flush=True)
    if done.returncode != status:
        fail(f"status {done.returncode}, not {status}")
    return done.stdout


def chat(*arguments, lines):
    """Types each line once the prompt before it is there; returns what the terminal showed."""
    show(arguments)
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "dumb", "XDG_STATE_HOME": os.environ["NEWCOMER_STATE"]}
        os.execv(ILLAVA, [str(ILLAVA), *map(str, arguments)])
    seen, typed, ready = b"", 0, 0
    end = time.monotonic() + STUCK
    while True:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            fail(f"the chat is stuck after: {seen.decode(errors='replace')}")
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                piece = b""
            if not piece:
                break
            seen += piece
        # A prompt at the end of all that has come: it waits.
        elif typed < len(lines) and seen[ready:].rstrip(b"\x1b[?2004h").endswith(b"> "):
            ready = len(seen)
            os.write(terminal, lines[typed].encode() + b"\r")
            typed += 1
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = seen.decode(errors="replace").replace("\r\n", "\n")
    print(text, flush=True)
    if status != 0 or typed < len(lines):
        fail(f"the chat ended with status {status} after {typed} of {len(lines)} lines")
    return text


def answered(path):
    return path.read_text().count("\n") if path.exists() else 0


def caption(folder, out):
    """Captions a folder; the first run is killed in the middle."""
    arguments = ["batch", folder, "-p", "What color is the circle?", "-o", out, *PAIR, "-np", "2", "--temp", "0"]
    show(arguments)
    process = subprocess.Popen([ILLAVA, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + STUCK
    while answered(out) < 5 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    print(f"(killed after {answered(out)} of {PICTURES} pictures)", flush=True)
    run(*arguments, "--resume")
    # Another question is another run.
    other = [*arguments[:3], "What shape is it?", *arguments[4:], "--resume"]
    run(*other, status=1)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    names = [line["id"] for line in lines if "id" in line]
    if sorted(names) != sorted(path.name for path in folder.iterdir()):
        fail(f"{len(names)} captions, not one for each of {PICTURES} pictures")
    if not all(line.get("text") for line in lines if "id" in line):
        fail("a caption is empty")
    # The same beside the pictures, half of which somebody has captioned by hand.
    pictures = sorted(folder.iterdir())
    for path in pictures[::2]:
        path.with_suffix(".txt").write_text("by hand\n")
    question = [*arguments[:4], *PAIR, "--captions"]
    run(*question, status=1)
    run(*question, "--skip-done")
    texts = [path.with_suffix(".txt").read_text() for path in pictures]
    if any((text == "by hand\n") != (number % 2 == 0) for number, text in enumerate(texts)):
        fail("a caption was written over, or is missing")


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["NEWCOMER_STATE"] = str(folder / "state")
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    pictures = sorted((DEMO / "images/questions").glob("*.png")) or sorted((DEMO / "images").glob("*.png"))
    for number in range(PICTURES):
        shutil.copy(pictures[number % len(pictures)], photos / f"photo {number:02}.png")

    scene = DEMO / "images/crowd-448.png"
    if "purple" not in run("run", *PAIR, "--image", scene, "-p", "What color is the cross?", "--temp", "0"):
        fail("the cross is purple")
    text = chat(
        "run", *PAIR, "--temp", "0",
        lines=[f"/image {scene}", "What color is the cross?", "/merge off", "/regen", "/quit"],
    )
    if text.count("purple") < 2:
        fail("the chat answers twice that the cross is purple")
    caption(photos, folder / "captions.jsonl")
    table = run("bench", *PAIR, "--image", scene, "-r", "2", "-n", "2")
    if "x as fast" not in table:
        fail("no ratio")
    table = run("eval", *PAIR, "--set", DEMO / "questions.jsonl", "--limit", "10", "--plot", folder / "curve.svg")
    if "all (10)" not in table:
        fail("ten questions have no mark")
    run("explain", *PAIR, "--image", scene, "-p", "What color is the cross?", "--out", folder / "kept")
    if not (folder / "kept/explain.html").exists():
        fail("no page")
    run("run", *PAIR, "--image", "photo-that-is-not-there.jpg", "-p", "What is this?", status=1)
    print("\nnewcomer.py: everything went as the pages say")
    if len(sys.argv) < 2:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
