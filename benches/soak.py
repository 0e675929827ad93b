#!/usr/bin/env python3
"""Streams about pictures for a while, a fifth of the clients leaving midway: none lost, none crossed, no memory kept.

    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf -np 32 -c 32768 --queue 64 --port 8080
    benches/soak.py http://127.0.0.1:8080 models/demo --server PID [--minutes 10] [--clients 32] [--out FILE]

Every client asks questions of the fixed set over and over, greedily, half of the time without the caches. The questions
are chosen while the server has nothing else to do: each has an answer of its own, long enough to be left in the middle,
and the model is sure of every token. The last bits of a sum depend on what else is computed; they cannot change such an
answer. A stream is

- lost, if it ends with an error, without an end, or if its pieces are not the text that its report says;
- crossed, if its text or the size of its prompt is another than when the question was asked alone.

The exit status is 0 if there was neither, the worker is the one that began, and no slot stays busy. The memory of both
processes may grow by less than 50 MB since the end of the warm-up. Only the standard library is used.
"""

import argparse
import base64
import datetime
import json
import random
import sys
import threading
import time
import traceback
from pathlib import Path

from measure import machine, streams

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("caption", "page14_row")
# The least difference in log-probability to the second best token that no rounding makes up for.
SURE = 1.0
LONG = 10
MOST_GROWTH = 50_000_000


def candidates(folder: Path):
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] in KINDS]
    random.Random(5).shuffle(rows)
    for row in rows:
        picture = base64.b64encode((folder / row["image"]).read_bytes()).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            {"type": "text", "text": row["question"]},
        ]
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 48, "report": True}
        # Pages do not survive merging, and requests with and without it run beside each other.
        if row["kind"].startswith("page"):
            body["merge"] = "off"
        yield body


def choose(server: str, folder: Path, count: int) -> list[dict]:
    """Questions with what they are answered alone."""
    chosen: dict[str, dict] = {}
    for body in candidates(folder):
        body_alone = body | {"cache_prompt": False, "logprobs": True, "top_logprobs": 2}
        alone = streams.ask(server, body_alone)
        if len(alone.text) < LONG or alone.text in chosen:
            continue
        # Kept from ending, the model is asked for one token more: so the end is among those it is sure of.
        tokens = len(alone.margins) + 1
        beyond = streams.ask(server, body_alone | {"ignore_eos": True, "max_tokens": tokens})
        if min(beyond.margins) >= SURE:
            chosen[alone.text] = {"body": body, "text": alone.text, "prompt": alone.usage["prompt_tokens"]}
        if len(chosen) == count:
            return list(chosen.values())
    sys.exit(f"only {len(chosen)} questions of {folder} have an answer of their own that the model is sure of; give --questions {len(chosen)}")


class Soak:
    def __init__(self, server: str, asked: list[dict]):
        self.server, self.asked = server, asked
        self.lock = threading.Lock()
        self.first: dict[str, list[float]] = {"encoded": [], "cached": []}
        self.whole, self.left, self.lost, self.crossed = 0, 0, [], []
        self.resident: list[float] = []

    def once(self, chance: random.Random) -> None:
        one = chance.choice(self.asked)
        cached = chance.random() < 0.5
        # After so many letters; below 0 before the answer begins.
        leave = chance.randrange(-2, len(one["text"])) if chance.random() < 0.2 else None
        answer = streams.ask(self.server, one["body"] | {"cache_prompt": cached}, leave)
        # A client that left has a part of it, and no figures.
        wrong = answer.text != one["text"][: len(answer.text)] if answer.left else answer.text != one["text"]
        wrong = wrong or not answer.left and answer.usage["prompt_tokens"] != one["prompt"]
        with self.lock:
            if answer.first is not None:
                self.first["cached" if cached else "encoded"].append(answer.first)
            self.left += answer.left
            self.whole += not answer.left
            if wrong:
                self.crossed.append({"expected": one["text"], "got": answer.text, "usage": answer.usage})

    def client(self, number: int, end: float) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            try:
                self.once(chance)
            except Exception as error:  # whatever it is, an answer was lost
                with self.lock:
                    self.lost.append(f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-2)}")
                time.sleep(0.5)

    def run(self, clients: int, seconds: float, pids: list[int]) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(number, end)) for number in range(clients)]
        for thread in threads:
            thread.start()
        due = time.monotonic()
        while running := [thread for thread in threads if thread.is_alive()]:
            running[0].join(timeout=max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                due += 15
                self.resident.append(round(sum(map(streams.resident, pids)) / 1e6, 1))

    def times(self) -> dict:
        both = self.first["encoded"] + self.first["cached"]
        named = {"all": both, "without_caches": self.first["encoded"], "with_caches": self.first["cached"]}
        return {name: {"p50": share(values, 0.5), "p95": share(values, 0.95)} for name, values in named.items()}


def share(values: list[float], part: float) -> float | None:
    values = sorted(values)
    return round(values[min(len(values) - 1, int(part * len(values)))], 4) if values else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("model", type=Path, help="folder with questions.jsonl and its pictures")
    parser.add_argument("--server", type=int, required=True, help="process id of illava serve")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=1, help="minutes")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    workers = streams.children(given.server)
    if len(workers) != 1:
        parser.error(f"process {given.server} has {len(workers)} children where illava serve has its worker")
    pids = [given.server, *workers]
    load = machine.load()
    asked = choose(given.url, given.model, given.questions)
    print(f"{len(asked)} questions chosen; warming up", file=sys.stderr, flush=True)
    warm = Soak(given.url, asked)
    warm.run(given.clients, given.warm_up * 60, pids)
    busy = streams.wait_idle(given.url)
    before = sum(map(streams.resident, pids))
    files = sum(map(streams.open_files, pids))
    print(f"warm at {before / 1e6:.0f} MB; {given.minutes:g} minutes begin", file=sys.stderr, flush=True)
    soak = Soak(given.url, asked)
    soak.run(given.clients, given.minutes * 60, pids)
    busy += streams.wait_idle(given.url)
    same = streams.children(given.server) == workers
    after = sum(map(streams.resident, pids))
    lost, crossed = warm.lost + soak.lost, warm.crossed + soak.crossed
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "load_before": load,
        "commit": machine.commit(ROOT),
        "clients": given.clients,
        "questions": len(asked),
        "warm_up_minutes": given.warm_up,
        "minutes": given.minutes,
        "answers": soak.whole,
        "left_midway": soak.left,
        "lost": len(lost),
        "crossed": len(crossed),
        "first_token_s": soak.times(),
        "resident_mb": {"after_warm_up": before / 1e6, "after": after / 1e6, "every_15_s": soak.resident},
        "open_files": {"after_warm_up": files, "after": sum(map(streams.open_files, pids))},
        "same_worker": same,
        "slots_still_busy": busy,
        "first_lost": lost[:3],
        "first_crossed": crossed[:3],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.parent.mkdir(exist_ok=True)
        given.out.write_text(text + "\n")
    well = same and soak.whole > 0 and not (lost or crossed or busy) and after - before < MOST_GROWTH
    print("passed" if well else "FAILED", file=sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
