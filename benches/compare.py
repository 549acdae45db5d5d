#!/usr/bin/env python3
"""Measures cellnet next to the reference: the same operations, two processes each, in turn, over loopback.

Usage: benches/compare.py [--runs N]        prints the table of the README; medians of N runs

Needs `cargo build --release` and the Python environment that `cargo test -p cellnet --test interop` makes once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CELLNET = TARGET / "release" / "cellnet"
SCRIPTS = ROOT / "cellnet" / "tests" / "python"
LARGE = 64 << 20

# Operation, bytes, in flight, requests of cellnet, requests of the reference.
REQUESTS = [("64 B, 1 in flight", 64, 1, 20000, 600), ("64 B, 64 in flight", 64, 64, 100000, 1200), ("64 MiB", LARGE, 1, 12, 4)]
PIPE = (64, 10000, 60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    pythons = sorted(TARGET.glob("python/*/bin/python"))
    if not CELLNET.exists() or not pythons:
        sys.exit(f"{__doc__.strip().splitlines()[-1]} Looked for {CELLNET} and {TARGET}/python/*/bin/python.")
    python = str(pythons[-1])
    results = {}
    for _ in range(runs):
        for name, peer in (("cellnet", Cellnet()), ("python", Python(python))):
            for key, figures in peer.measure():
                results.setdefault(key, {}).setdefault(name, []).append(figures)
    show(results)


class Peer:
    """One kind of process: how to start its server and its client."""

    def __init__(self):
        self.processes = []

    def start(self, *command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        for line in process.stdout:
            if line.startswith("READY "):
                return process, json.loads(line[6:])
        raise SystemExit(f"{command} ended before it was ready")

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.processes.clear()

    def measure(self):
        try:
            yield from self.requests()
            yield from self.pipes()
        finally:
            self.stop()


class Cellnet(Peer):
    def requests(self):
        for name, size, inflight, count, _ in REQUESTS:
            server, ready = self.start(CELLNET, "serve", "--name", "server", "--listen", "tcp://127.0.0.1:0", "--echo", "echo")
            with tempfile.NamedTemporaryFile() as payload:
                payload.write(os.urandom(size))
                payload.flush()
                figures = run(CELLNET, "call", "server", "echo", "echo", f"@{payload.name}", "--root", ready["listen"][0],
                              "--count", str(count), "--inflight", str(inflight), "--timeout", "60s", "--json")
            figures["server_mb"] = peak(server)
            yield name, figures
            self.stop()

    def pipes(self):
        size, count, _ = PIPE
        _, ready = self.start(CELLNET, "serve", "--name", "server", "--listen", "tcp://127.0.0.1:0")
        side = ("--site", "site-1", "--token", "t", "--root", ready["listen"][0], "--channel", "task")
        self.start(CELLNET, "pipe", "--mode", "passive", *side, "--echo")
        yield "pipe", run(CELLNET, "pipe", "--mode", "active", *side, "--send", str(count), "--size", str(size), "--json")


class Python(Peer):
    def __init__(self, python):
        super().__init__()
        self.python = python

    def script(self, name):
        return self.python, str(SCRIPTS / f"{name}.py")

    def requests(self):
        for name, size, inflight, _, count in REQUESTS:
            server, ready = self.start(*self.script("root_cell"), "--url", "tcp://127.0.0.1:0")
            figures = run(*self.script("client_cell"), "--root", ready["url"], "--channel", "echo", "--count", str(count),
                          "--inflight", str(inflight), "--size", str(size), "--timeout", "60")
            figures["server_mb"] = peak(server)
            yield name, figures
            self.stop()

    def pipes(self):
        size, _, count = PIPE
        _, ready = self.start(*self.script("root_cell"), "--url", "tcp://127.0.0.1:0")
        side = ("--site", "site-1", "--token", "t", "--url", ready["url"], "--name", "task")
        self.start(*self.script("cell_pipe"), "--mode", "passive", *side, "--role", "echo")
        yield "pipe", run(*self.script("cell_pipe"), "--mode", "active", *side, "--role", "send", "--count", str(count),
                          "--size", str(size))


def run(*command):
    """Runs a client to its end; gives the JSON object that it printed last."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stdout[-500:]}")
    line = done.stdout.strip().splitlines()[-1]
    return json.loads(line[line.index("{"):])


def peak(process):
    """Most memory that a process has had, in MiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def show(results):
    rows = [
        ("64 B request, p50", "64 B, 1 in flight", "p50_us", "{:,.0f} µs", True),
        ("64 B requests per second, 1 in flight", "64 B, 1 in flight", "msgs_s", "{:,.0f}", False),
        ("64 B requests per second, 64 in flight", "64 B, 64 in flight", "msgs_s", "{:,.0f}", False),
        ("64 MiB request and its echo, MB/s of payload", "64 MiB", "MBps", "{:,.0f}", False),
        ("64 B pipe message through a root and its echo, p50", "pipe", "p50_us", "{:,.0f} µs", True),
        ("memory of the asking process, 64 in flight", "64 B, 64 in flight", "rss_mb", "{:.0f} MiB", True),
        ("peak memory of the answering process, 64 in flight", "64 B, 64 in flight", "server_mb", "{:.0f} MiB", True),
        ("memory of the asking process after 64 MiB", "64 MiB", "rss_mb", "{:.0f} MiB", True),
        ("peak memory of the answering process, 64 MiB", "64 MiB", "server_mb", "{:.0f} MiB", True),
    ]
    print("| operation | cellnet ↔ cellnet | Python ↔ Python | ratio |\n| --- | --- | --- | --- |")
    for title, key, field, form, smaller in rows:
        ours, theirs = (statistics.median(f[field] for f in results[key][name]) for name in ("cellnet", "python"))
        ratio = theirs / ours if smaller else ours / theirs
        print(f"| {title} | {form.format(ours)} | {form.format(theirs)} | {ratio:.1f} × |")


if __name__ == "__main__":
    main()
