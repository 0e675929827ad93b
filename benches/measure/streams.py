"""One streamed answer as a client sees it, and what the server's processes hold meanwhile."""

import http.client
import json
import os
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 120.0


@dataclass
class Answer:
    text: str = ""
    # Seconds from the request to the first piece of text.
    first: float | None = None
    # The client went before the end.
    left: bool = False
    usage: dict = field(default_factory=dict)
    # Distance of each token's log-probability from the other's, if two were asked for.
    margins: list[float] = field(default_factory=list)


def ask(server: str, body: dict, leave_after: int | None = None) -> Answer:
    """Streams an answer; leaves once it has `leave_after` letters, or before its beginning if that is negative.

    Raises RuntimeError for everything that is no whole answer.
    """
    url = urllib.parse.urlsplit(server)
    # The time limit is that of one read, and the server sends a sign of life more often.
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    answer, start = Answer(), time.monotonic()
    body = body | {"stream": True, "stream_options": {"include_usage": True}}
    response = None
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        if leave_after is not None and leave_after < 0:
            answer.left = True
            return answer
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read().decode()}")
        report = _read(response, answer, start, leave_after)
        if not answer.left and report is not None and report["text"] != answer.text:
            raise RuntimeError(f"the pieces make {answer.text!r}, the report says {report['text']!r}")
        return answer
    finally:
        if response is not None:
            response.close()
        connection.close()


def _read(response: http.client.HTTPResponse, answer: Answer, start: float, leave_after: int | None) -> dict | None:
    identity, finish, report = None, None, None
    for line in response:
        if time.monotonic() - start > PATIENCE:
            raise RuntimeError(f"no end after {PATIENCE:.0f} s, with {answer.text!r}")
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            if finish is None or not answer.usage:
                raise RuntimeError("the stream ended without a reason or without its figures")
            return report
        chunk = json.loads(data)
        if "error" in chunk:
            raise RuntimeError(chunk["error"]["message"])
        if identity not in (None, chunk["id"]):
            raise RuntimeError(f"chunks of {identity} and of {chunk['id']} in one stream")
        identity = chunk["id"]
        answer.usage = chunk.get("usage") or answer.usage
        report = chunk.get("report") or report
        for choice in chunk["choices"]:
            _grow(answer, choice, start)
            finish = choice["finish_reason"] or finish
        if leave_after is not None and len(answer.text) >= leave_after and finish is None:
            answer.left = True
            return None
    raise RuntimeError(f"the stream broke off after {answer.text!r}")


def _grow(answer: Answer, choice: dict, start: float) -> None:
    piece = choice["delta"].get("content") or ""
    if piece and answer.first is None:
        answer.first = time.monotonic() - start
    answer.text += piece
    for token in (choice.get("logprobs") or {}).get("content") or []:
        best, second = (other["logprob"] for other in token["top_logprobs"])
        answer.margins.append(best - second)


def wait_idle(server: str, seconds: float = 10) -> int:
    """Slots that are still at work after some seconds; those of clients that left end within a step."""
    end = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(f"{server}/slots", timeout=PATIENCE) as response:
            busy = sum(slot["is_processing"] for slot in json.load(response))
        if busy == 0 or time.monotonic() > end:
            return busy
        time.sleep(0.5)


def children(parent: int) -> list[int]:
    """Processes under another, without those that have ended. Not every kernel lists them with the parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything; behind it: state, parent.
            state, above = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(above) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 if it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
