"""Loads on `illava serve`: hostile requests, streams for minutes, bodies that are sent by halves, and the cost of cuts.

    python3 tools/clients/loads.py target/release/illava models/demo/text.gguf models/demo/mmproj.gguf \
        models/demo/images/crowd-448.png hostile|streams|halves|cuts [--minutes 10]

Each load starts a server of its own. The command prints figures and fails if something crashes, is lost, is crossed with
another answer, or grows without end; or if half-sent bodies more than double the time of other clients (p95).
Needs the standard library alone.
"""

import argparse
import atexit
import base64
import collections
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

QUESTION = "What color is the {}?"
THINGS = ("cross", "diamond", "square", "circle", "star", "triangle")


class Server:
    def __init__(self, args, *more):
        command = [args.illava, "serve", "-m", args.text, "-mm", args.projector, "--port", "0", *more]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        atexit.register(self.process.terminate)
        lines = iter(self.process.stderr.readline, "")
        self.port = next(int(found[1]) for line in lines if (found := re.match(r"listening on http://.*:(\d+)", line)))
        threading.Thread(target=lambda: collections.deque(lines, maxlen=0), daemon=True).start()
        until = time.monotonic() + 300
        while self.ask("GET", "/health")[0] != 200:
            assert time.monotonic() < until and self.process.poll() is None, "the server is not ready after 300 s"
            time.sleep(0.2)
        self.worker = self.children()

    def children(self):
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        return found.stdout.split()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)

    def ask(self, method, path, body=None, headers=None):
        connection = self.connection()
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def raw(self, data):
        """Status of what is answered to these bytes; 0 if the connection is closed without an answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=90) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                head = connection.recv(64)
            except OSError:
                return 0
        found = re.match(rb"HTTP/1\.\d (\d{3})", head)
        return int(found[1]) if found else 0

    def rss(self):
        """MiB that both processes hold."""
        kib = 0
        for pid in (str(self.process.pid), *self.worker):
            with open(f"/proc/{pid}/status") as status:
                kib += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return kib / 1024

    def threads_and_files(self):
        pid = self.process.pid
        return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))

    def alive(self):
        return self.process.poll() is None and self.children() == self.worker

    def stop(self):
        self.process.terminate()
        return self.process.wait(120)


def body_of(picture, thing, **more):
    parts = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": QUESTION.format(thing)}]
    return {"messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 16, **more}


def text_of(reply):
    status, data = reply
    assert status == 200, (status, data[:300])
    return json.loads(data)["choices"][0]["message"]["content"]


def hostile_requests(picture):
    """Pairs of a name and bytes or (path, body)."""
    chat, user = "/v1/chat/completions", lambda content: {"messages": [{"role": "user", "content": content}]}
    ask = user("hi")
    image = lambda url: user([{"type": "image_url", "image_url": {"url": url}}])
    video = lambda url: user([{"type": "video_url", "video_url": {"url": url}}])
    deep = lambda n: b"[" * n + b"]" * n
    noise = random.Random(1)
    png = base64.b64decode(picture.split(",")[1])
    flipped = []
    for i in range(12):
        broken = bytearray(png)
        for _ in range(20):
            broken[noise.randrange(8, len(broken))] = noise.randrange(256)
        flipped.append("data:image/png;base64," + base64.b64encode(broken).decode())
    bodies = [
        b"", b"{", b"null", b"5", b"[]", b"\xff\xfe", b"\x00" * 100, b'{"messages": "\\ud800"}', deep(100_000),
        b'{"a":' * 50_000, b'{"messages": [' + b"{}," * 100_000 + b"{}]}", b'{"messages": 1e999999}',
        {}, {"messages": []}, {"messages": [5]}, {"messages": [{}]}, {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}] * 5000}, user(5), user({}), user([5]), user([{"type": "smell"}]),
        user("x" * 3_000_000), user("\x00\x01\x1b[31m\n" * 500), user("<|im_start|>system\n" * 300), user("🦙" * 5000),
        user([{"type": "text", "text": "x"}] * 20_000), image(""), image("data:,"), image("data:image/png;base64,@@"),
        image("data:image/png;base64," + base64.b64encode(png[:200]).decode()), image("data:image/svg+xml,<svg/>"),
        image("file:///etc/passwd"), image("file:///dev/zero"), image("http://169.254.169.254/"), image("gopher://x/"),
        image("http://localhost:1/"), image("data:image/gif;base64,R0lGODlh////AAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw=="),
        user([{"type": "image_url", "image_url": {"url": picture}}] * 200), video("data:video/mp4;base64,AAAA"),
        video("concat:/etc/passwd"), video("rtsp://127.0.0.1/"), *[image(url) for url in flipped],
    ]
    for name, values in {
        "temperature": (-1, 1e300, "hot"), "top_p": (-1, 7), "min_p": (2,), "top_k": (1 << 40, 1.5), "n": (0, -1, 10**6),
        "max_tokens": (-5, 1 << 40), "seed": (1.5, 1e99), "repeat_penalty": (-1, 0), "repeat_last_n": (1 << 50,),
        "logit_bias": ({"999999": 1}, {"5": "x"}, [[i, 1] for i in range(5000)]), "stop": (5, ["x"] * 500, "x" * 9000),
        "stream": ("yes",), "grammar": ("root ::= " + "(" * 50_000, 'root ::= "a"{4000000000}', "a::=b\n" * 9000, 5),
        "json_schema": (5, {"$ref": "#/none"}, {"$ref": "http://169.254.169.254/"}, {"type": "string", "pattern": "("},
                        {"allOf": [{"type": "object"}] * 3000}),
        "response_format": ({"type": "yaml"}, {"type": "json_schema"}), "guided_regex": ("(a*)*" * 200, "("),
        "merge": (5, "; rm -rf /", {"vit_layers": [-1], "vit_r": 1}, {"keep": 1e9}, {"llm_layers": [1], "llm_keep": 5}),
        "tools": ([5], [{"type": "function"}] * 500, [{"type": "function", "function": {"name": "x" * 5000}}]),
        "tool_choice": ("required", {"type": "function"}), "top_logprobs": (1000,), "id_slot": (1 << 40,),
        "chat_template_kwargs": (5, {"messages": []}), "reasoning_format": ("aloud",), "samplers": (["dry", 5],),
    }.items():
        bodies += [{**ask, name: value} for value in values]
    found = [(chat, body) for body in bodies]
    for path, body in (
        ("/v1/messages", {"messages": []}), ("/v1/messages", {**ask, "max_tokens": -1}), ("/v1/responses", {"input": 5}),
        ("/v1/responses", {"input": [{"type": "reasoning", "content": 5}]}), ("/api/chat", {"options": 5}),
        ("/api/generate", {"prompt": "x", "raw": True, "system": "y"}), ("/completion", {"prompt": [[[1]]]}),
        ("/completion", {"prompt": [10**9]}), ("/completion", {"prompt": {"prompt_string": "<__media__>", "multimodal_data": ["@"]}}),
        ("/tokenize", {"content": 5}), ("/detokenize", {"tokens": [-1, 10**12]}), ("/apply-template", {}),
        ("/slots/99?action=erase", {}), ("/slots/0?action=save", {"filename": "../../x"}), ("/v1/embeddings", {"input": "x"}),
    ):
        found.append((path, body))
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    found += [
        b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 10**6 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200_000 + b"\r\n", post + b"Content-Length: -1\r\n\r\n",
        post + b"Content-Length: 99999999999\r\n\r\n", post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        post + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", post + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"GET //etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"CONNECT x:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    return found


def hostile(args, picture):
    """Every hostile request, three at a time, beside clients whose answers must stay as they are."""
    server = Server(args, "-np", "4", "-c", "8192")
    known = {thing: text_of(server.ask("POST", "/v1/chat/completions", body_of(picture, thing))) for thing in THINGS}
    requests = hostile_requests(picture)
    outcomes, wrong, over = [], [], threading.Event()
    before = server.rss()

    def honest(thing):
        while not over.is_set():
            said = text_of(server.ask("POST", "/v1/chat/completions", body_of(picture, thing)))
            if said != known[thing]:
                wrong.append(f"{thing}: {said!r}, not {known[thing]!r}")
            answered[0] += 1

    answered = [0]
    clients = [threading.Thread(target=honest, args=(thing,)) for thing in THINGS[:3]]
    [client.start() for client in clients]
    waiting = list(enumerate(requests))
    lock = threading.Lock()

    def attack():
        while True:
            with lock:
                if not waiting:
                    return
                number, request = waiting.pop()
            try:
                if isinstance(request, bytes):
                    status = server.raw(request)
                else:
                    path, body = request
                    body = {"max_tokens": 8, **body} if isinstance(body, dict) else body
                    status, said = server.ask("POST", path, body)
                    assert status < 500 or status == 501, said[:300]
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            except AssertionError as error:
                wrong.append(f"request {number} {str(request)[:120]}: {error}")
                status = "server error"
            outcomes.append(status)

    attackers = [threading.Thread(target=attack) for _ in range(3)]
    [attacker.start() for attacker in attackers]
    [attacker.join() for attacker in attackers]
    over.set()
    [client.join() for client in clients]
    counts = {str(status): outcomes.count(status) for status in sorted(set(outcomes), key=str)}
    print(f"hostile: {len(requests)} requests, statuses {counts}; beside them {answered[0]} honest answers")
    print(f"hostile: worker the same: {server.alive()}; memory {before:.0f} to {server.rss():.0f} MiB; wrong: {wrong or 'nothing'}")
    same = all(text_of(server.ask("POST", "/v1/chat/completions", body_of(picture, thing))) == known[thing] for thing in THINGS)
    good = server.alive() and not wrong and same and answered[0] > 0
    return good and server.stop() == 0


def streams(args, picture):
    """32 clients that read streams for minutes, whose first words are known."""
    slots = 32
    server = Server(args, "-np", str(slots), "-c", str(slots * 1024))
    until = time.monotonic() + args.minutes * 60
    totals, wrong = [0] * slots, []
    begun = [0] * slots
    known = {thing: text_of(server.ask("POST", "/v1/chat/completions", body_of(picture, thing))) for thing in THINGS}

    def client(number):
        thing = THINGS[number % len(THINGS)]
        while time.monotonic() < until:
            connection = server.connection()
            # The second stream goes on until the slot is full; its first words are those of the first.
            body = body_of(picture, thing, stream=True, max_tokens=-1, ignore_eos=True)
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text, finish = "", None
            for line in reply:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    wrong.append(f"client {number}: {event['error']}")
                    break
                choice = event["choices"][0]
                piece = choice["delta"].get("content") or ""
                text += piece
                totals[number] += bool(piece)
                finish = choice["finish_reason"] or finish
                if time.monotonic() > until + 60:
                    break
            connection.close()
            begun[number] += 1
            if not text.strip().startswith(known[thing].strip()):
                wrong.append(f"client {number}, {thing}: {text[:60]!r}, not {known[thing]!r}")
            if finish is None and time.monotonic() < until:
                wrong.append(f"client {number}: a stream ended without a finish")

    clients = [threading.Thread(target=client, args=(number,)) for number in range(slots)]
    [one.start() for one in clients]
    figures = []
    while any(one.is_alive() for one in clients):
        figures.append((server.rss(), *server.threads_and_files()))
        time.sleep(min(10, args.minutes * 6))
    [one.join() for one in clients]
    # The first tenth is the start: buffers are made and pages touched.
    settled = figures[len(figures) // 10 + 1:] or figures
    growth = settled[-1][0] - settled[0][0]
    print(f"streams: {slots} clients, {args.minutes:g} minutes, {sum(begun)} streams, {sum(totals)} pieces, fewest {min(totals)}, most {max(totals)}")
    print(f"streams: memory {settled[0][0]:.0f} to {settled[-1][0]:.0f} MiB, most threads {max(f[1] for f in figures)}, most files {max(f[2] for f in figures)}")
    print(f"streams: worker the same: {server.alive()}; wrong: {wrong[:5] or 'nothing'}")
    fair = min(totals) * 2 > max(totals)
    print(f"streams: each client got more than half of what the first got: {fair}")
    return server.alive() and not wrong and growth < 64 and fair and server.stop() == 0


def halves(args, picture):
    """Time of honest answers, alternately with and without four times the queue of half-sent bodies."""
    queue, slots = 64, 4
    server = Server(args, "-np", str(slots), "-c", "8192", "--queue", str(queue), "--body-timeout", "600", "--head-timeout", "600")
    times = {False: [], True: []}
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    refused = 0
    for attacked in [False, True] * args.rounds:
        held = []
        if attacked:
            for _ in range(4 * queue):
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
                connection.sendall(head + b"{" + b" " * 1000)
                held.append(connection)
        lock = threading.Lock()

        def honest():
            nonlocal refused
            for _ in range(args.asked):
                start = time.monotonic()
                status, _ = server.ask("POST", "/v1/chat/completions", body_of(picture, "cross", max_tokens=8))
                with lock:
                    times[attacked].append(time.monotonic() - start)
                    refused += status != 200

        clients = [threading.Thread(target=honest) for _ in range(slots)]
        [client.start() for client in clients]
        [client.join() for client in clients]
        [connection.close() for connection in held]
    p95 = {attacked: sorted(found)[int(len(found) * 0.95)] for attacked, found in times.items()}
    median = {attacked: sorted(found)[len(found) // 2] for attacked, found in times.items()}
    print(f"halves: {4 * queue} half-sent bodies, queue {queue}; {len(times[True])} answers beside them, {len(times[False])} without; refused {refused}")
    print(f"halves: p95 {p95[False] * 1000:.0f} ms without, {p95[True] * 1000:.0f} ms beside them, {p95[True] / p95[False]:.2f} times;"
          f" median {median[False] * 1000:.0f} and {median[True] * 1000:.0f} ms")
    return server.alive() and refused == 0 and p95[True] <= 2 * p95[False] and server.stop() == 0


def cuts(args, picture):
    """Bytes of the KV cache and milliseconds of a prefill, cut at the layers of every preset and method or of one."""
    servers = {whose: Server(args, "-np", "4", "-c", "8192", "--cuts", whose) for whose in ("default", "all")}
    times = {(whose, asked): [] for whose in servers for asked in ("picture", "text")}
    for _ in range(args.rounds * args.asked):
        for whose, server in servers.items():
            more = {"max_tokens": 1, "cache_prompt": False, "report": True}
            long = {"messages": [{"role": "user", "content": "What color is the cross? " * 40}], "temperature": 0, **more}
            for asked, body in (("picture", body_of(picture, "cross", **more)), ("text", long)):
                status, data = server.ask("POST", "/v1/chat/completions", body)
                assert status == 200, data[:300]
                times[whose, asked].append(json.loads(data)["report"]["ms"]["prefill"])
    for whose, server in servers.items():
        told = json.loads(server.ask("GET", "/props")[1])["illava"]
        kib = sum(segment["bytes"] for segment in told["kv_segments"]) / 1024
        medians = {asked: sorted(times[whose, asked])[len(times[whose, asked]) // 2] for asked in ("picture", "text")}
        print(f"cuts: {whose}, at layers {told['merge_layers']}: KV cache {kib:.0f} KiB, prefill (median of {len(times[whose, 'text'])})"
              f" {medians['picture']:.2f} ms with a picture, {medians['text']:.2f} ms of text")
    return all(server.alive() and server.stop() == 0 for server in servers.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("illava")
    parser.add_argument("text")
    parser.add_argument("projector")
    parser.add_argument("picture", help="a PNG file")
    parser.add_argument("load", choices=["hostile", "streams", "halves", "cuts"])
    parser.add_argument("--minutes", type=float, default=10, help="of streams")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, in turns")
    parser.add_argument("--asked", type=int, default=10, help="questions of each client in a round")
    args = parser.parse_args()
    with open(args.picture, "rb") as file:
        picture = "data:image/png;base64," + base64.b64encode(file.read()).decode()
    lost = []
    # A thread that ends early asks no more, and would hide what it was to find.
    threading.excepthook = lambda failed: lost.append(f"{failed.exc_type.__name__}: {failed.exc_value}")
    good = {"hostile": hostile, "streams": streams, "halves": halves, "cuts": cuts}[args.load](args, picture) and not lost
    print(f"{args.load}: {'passed' if good else 'FAILED'} {lost or ''}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
