"""Counts what a picture sends between machines, with merging off and on: layers in `illava rpc` processes, behind
relays that count.

    python3 benches/machines.py -m TEXT.gguf -mm MMPROJ.gguf --image PICTURE --machines 2 [--schedule balanced ...] [flags of illava run]
    nice -n 15 python3 benches/machines.py --large FOLDER --machines 2 3 [--layers 8]

One process of this machine is a machine; their link is the loopback, so bytes are the result and times are not.  --large
writes the 34B's shape in Q2_K with random weights and a tower of 64 tokens to FOLDER, 12 GB, and removes them at the end.
It needs 14 GB of memory beside the system's, since each layer lies in one process. With one schedule beside off it takes a
quarter of an hour of two cores. --layers writes as many of its 60 layers, of the same width: what travels from machine to
machine is as wide.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Relay:
    """A port of this machine before another one; counts the bytes of both directions."""

    def __init__(self, port):
        self.to = ("127.0.0.1", port)
        self.sent = 0
        self.came = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.to)
            for one, other, name in ((client, server, "sent"), (server, client, "came")):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(one, other, name), daemon=True).start()

    def carry(self, one, other, name):
        try:
            while piece := one.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(piece))
                other.sendall(piece)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def start(program, threads, cache):
    """A server and its relay."""
    arguments = [program, "rpc", "--port", "0", "-t", str(threads), *(["--cache", cache] if cache else [])]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.match(r"listening on 127\.0\.0\.1:(\d+);", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, Relay(int(found[1]))
    sys.exit("machines.py: illava rpc ended before it listened")


def run(program, given, extra, relays):
    """The report of one answer with the kept tokens of every step, and the bytes that it sent and got."""
    with tempfile.TemporaryDirectory() as folder:
        report, trace = Path(folder) / "report.json", Path(folder) / "trace.json"
        before = [(relay.sent, relay.came) for relay in relays]
        arguments = [program, "run", *given, *extra, "--report", str(report), "--trace", str(trace)]
        if relays:
            arguments += ["--rpc", ",".join(relay.address for relay in relays)]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        sent = sum(relay.sent - old[0] for relay, old in zip(relays, before))
        came = sum(relay.came - old[1] for relay, old in zip(relays, before))
        steps = [(step["half"], step["layer"], step["kept"]) for step in json.loads(trace.read_text())["steps"]]
        return json.loads(report.read_text()) | {"steps": steps}, sent, came


def large(folder, layers):
    """The files of a pair with the 34B's shape, or with `layers` of its layers."""
    python = ROOT / "target/python/bin/python"
    made = [str(python if python.exists() else sys.executable), str(ROOT / "tools/make_model.py"), "--out", str(folder)]
    fewer = ["--layers", str(layers)] if layers else []
    for what in (["--timing", "yi-34b", "--type", "q2_k", *fewer],
                 ["--timing", "clip-112", "--type", "f16", "--projection", "7168", "--family", "llava_next"]):
        subprocess.run([*made, *what], check=True, stdout=subprocess.DEVNULL)
    (text,), (tower,) = folder.glob("yi-34b*.gguf"), folder.glob("clip-112*.gguf")
    return str(text), str(tower)


def compare(program, count, schedules, threads, text, given, alone, cache):
    """Prints a table for `count` machines. `alone` has each schedule's report on one machine."""
    machines = [start(program, threads, cache) for _ in range(count)]
    relays = [relay for _, relay in machines]
    try:
        # The first load sends the weights, later ones find the large tensors at the servers; what a load and a
        # question without a picture send is taken off every row.
        if cache:
            run(program, text, [], relays)
        _, sent_base, came_base = run(program, text, [], relays)
        print(f"{count} machines; bytes beyond those of the same question without a picture")
        print("| schedule | tokens | sent, KiB | got, KiB | of off | answer as on one machine |")
        print("|---|---|--:|--:|--:|---|")
        whole = None
        for schedule in schedules:
            report, sent, came = run(program, given, ["--merge", schedule], relays)
            sent, came = sent - sent_base, came - came_base
            whole = whole or sent + came
            tokens = report["tokens"]
            counts = [tokens["visual"], *(part["tokens"] for part in tokens["visual_kv"])]
            same = all(report[key] == alone[schedule][key] for key in ("text", "tokens", "steps"))
            print(
                f"| {schedule} | {' > '.join(map(str, counts))} | {sent / 1024:.0f} | {came / 1024:.0f} "
                f"| {(sent + came) / whole:.2f} | {'yes' if same else 'no'} |", flush=True,
            )
    finally:
        for process, _ in machines:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m")
    parser.add_argument("-mm")
    parser.add_argument("--image")
    parser.add_argument("--large", type=Path, metavar="FOLDER", help="the 34B's shape, written to FOLDER and removed")
    parser.add_argument("--layers", type=int, help="of --large, for fewer than the 34B's 60")
    parser.add_argument("--machines", type=int, nargs="+", default=[2])
    parser.add_argument("--schedule", nargs="+", default=["balanced", "paper"], help="presets to compare with off")
    parser.add_argument("-t", type=int, default=1, help="threads of each process")
    parser.add_argument("-n", type=int, default=2, help="tokens to generate")
    args, rest = parser.parse_known_args()
    program = os.environ.get("ILLAVA", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/illava"))
    files = (args.m, args.mm)
    if args.large:
        args.large.mkdir(parents=True, exist_ok=True)
        args.image = args.image or str(ROOT / "models/demo/images/scene-448.png")
        # One view, few tokens.
        rest = ["--image-max-tokens", "64", *rest]
    elif not (args.m and args.mm and args.image):
        parser.error("give -m, -mm and --image, or --large")
    with tempfile.TemporaryDirectory(dir=args.large) as folder:
        if args.large:
            files = large(Path(folder), args.layers)
        given = ["-m", files[0], "-mm", files[1], "--image", args.image, "-p", "What is this?", "--temp", "0", "--no-repack",
                 "-t", str(args.t), "-n", str(args.n), *rest]
        text = [*given[:2], *given[6:]]
        schedules = ["off", *args.schedule]
        alone = {schedule: run(program, given, ["--merge", schedule], [])[0] for schedule in schedules}
        for count in args.machines:
            with tempfile.TemporaryDirectory() as cache:
                # Copies of a large model's tensors would take its size once more.
                compare(program, count, schedules, args.t, text, given, alone, None if args.large else cache)


if __name__ == "__main__":
    main()
