"""Streams about pictures for a while, a fifth of the clients leaving midway: none lost, none crossed, no memory kept.

    illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf -np 32 -c 32768 --queue 64 --port 8080
    python benches/soak.py http://127.0.0.1:8080 models/demo --server PID [--minutes 10] [--clients 32] [--out FILE]

Every client asks questions of the fixed set over and over, greedily and without a cache, and compares each answer with
the one the server gave when it was asked alone: an answer that belongs to another client shows. Only the standard
library is used.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import random
import threading
import time
import urllib.parse


def ask(server, body, leave_after=None):
    """Text, seconds to the first piece, whether the client left; raises what the server calls an error."""
    url = urllib.parse.urlsplit(server)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=300)
    start, first, text, finished = time.monotonic(), None, "", False
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read().decode()}")
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                finished = True
                break
            chunk = json.loads(data)
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            piece = chunk["choices"][0]["delta"].get("content") or "" if chunk["choices"] else ""
            if piece and first is None:
                first = time.monotonic() - start
            text += piece
            if leave_after is not None and len(text) >= leave_after:
                return text, first, True
        if not finished:
            raise RuntimeError("the stream broke off")
        return text, first, False
    finally:
        connection.close()


def questions(folder, count):
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    chosen = random.Random(5).sample(rows, count)
    for row in chosen:
        picture = base64.b64encode((folder / row["image"]).read_bytes()).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            {"type": "text", "text": row["question"]},
        ]
        messages = [{"role": "user", "content": content}]
        yield {"messages": messages, "stream": True, "temperature": 0, "max_tokens": 48, "cache_prompt": False}


def resident(pid):
    """Bytes of a process and its children, from /proc."""
    total = 0
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    tasks = pathlib.Path(f"/proc/{pid}/task")
    below = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()] if children.exists() else []
    for one in [pid, *below]:
        pages = int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1])
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


class Soak:
    def __init__(self, server, bodies, expected):
        self.server, self.bodies, self.expected = server, bodies, expected
        self.lock = threading.Lock()
        self.first, self.whole, self.left, self.wrong, self.errors = [], 0, 0, [], []

    def client(self, number, end):
        chance = random.Random(number)
        while time.monotonic() < end:
            i = chance.randrange(len(self.bodies))
            leave = chance.randrange(1, 8) if chance.random() < 0.2 else None
            try:
                text, first, left = ask(self.server, self.bodies[i], leave)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                with self.lock:
                    self.errors.append(f"{type(error).__name__}: {error}")
                time.sleep(0.5)
                continue
            with self.lock:
                if first is not None:
                    self.first.append(first)
                self.left += left
                self.whole += not left
                fits = self.expected[i].startswith(text) if left else text == self.expected[i]
                if not fits:
                    self.wrong.append({"question": i, "expected": self.expected[i], "got": text})

    def run(self, clients, seconds):
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(number, end)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def share(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("model", type=pathlib.Path, help="folder with questions.jsonl and its pictures")
    parser.add_argument("--server", type=int, required=True, help="process id of illava serve")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=1, help="minutes")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()

    bodies = list(questions(given.model, given.questions))
    expected = [ask(given.url, body)[0] for body in bodies]
    Soak(given.url, bodies, expected).run(given.clients, given.warm_up * 60)
    before = resident(given.server)
    soak = Soak(given.url, bodies, expected)
    soak.run(given.clients, given.minutes * 60)
    # Cancelled requests end within a step.
    time.sleep(2)
    after = resident(given.server)
    result = {
        "clients": given.clients,
        "minutes": given.minutes,
        "answers": soak.whole,
        "left_midway": soak.left,
        "errors": len(soak.errors),
        "first_errors": soak.errors[:3],
        "differ": len(soak.wrong),
        "first_differences": soak.wrong[:3],
        "crossed": sum(1 for one in soak.wrong if one["got"] in expected),
        "first_token_s": {"p50": share(soak.first, 0.5), "p95": share(soak.first, 0.95)},
        "resident_mib": {"after_warm_up": before >> 20, "after": after >> 20},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    kept = after - before
    return 1 if soak.errors or result["crossed"] or kept > 50 << 20 else 0


if __name__ == "__main__":
    raise SystemExit(main())
