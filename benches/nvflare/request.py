"""One of the cells of the reference that the bench `peers` measures.

--serve                  listens as `server` and answers. READY {"url"}
--take --root URL        the passive end of a pipe, which takes what comes. READY
--run JOB --root URL     does the job, an object of JSON. WARM when it begins to count, then DONE {"messages", …}
"""

import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "cellnet", "tests", "python"))

import common
from common import say

# Workload: channel. The reference never streams on `task`; on other channels every message is a blob.
CHANNELS = {"rr": "task", "srr": "echo", "blob": "blobs"}
PIPE = {"site_name": "site-1", "token": "bench"}


def main():
    p = common.parser(__doc__)
    p.set_defaults(lifetime=120.0, lifeline=True)
    p.add_argument("--serve", action="store_true")
    p.add_argument("--take", action="store_true")
    p.add_argument("--run", metavar="JOB", type=json.loads)
    p.add_argument("--root", default="tcp://127.0.0.1:0", help="URL of the server")
    args = common.begin(p)
    if args.serve:
        serve(args)
    elif args.take:
        take(args)
    else:
        run(args, args.run)
    common.STOP.wait()
    common.leave(0)


def serve(args):
    from nvflare.fuel.f3.cellnet.cell import Cell
    from nvflare.fuel.f3.cellnet.defs import ReturnCode
    from nvflare.fuel.f3.cellnet.utils import make_reply

    cell = Cell(fqcn="server", root_url=args.root, secure=False, credentials={})
    for workload, channel in CHANNELS.items():
        answer = (lambda request: None) if workload == "blob" else (lambda request: request.payload)
        cell.register_request_cb(
            channel=channel, topic="*", cb=lambda request, answer=answer: make_reply(ReturnCode.OK, body=answer(request)),
        )
    cell.start()
    say("READY", url=common.listening_url(cell.core_cell, args.root, args.connect_timeout))


def take(args):
    pipe = opened_pipe(args, "PASSIVE")
    common.daemon(lambda: drain(pipe))
    say("READY")


def drain(pipe):
    while True:
        pipe.receive(timeout=1.0)


def opened_pipe(args, mode):
    from nvflare.fuel.utils.pipe.cell_pipe import CellPipe

    pipe = CellPipe(mode, root_url=args.root, secure_mode=False, workspace_dir="", **PIPE)
    pipe.open("bench")
    common.wait_connected(pipe.cell.core_cell, args.connect_timeout)
    return pipe


def run(args, job):
    send = piping(args, job) if job["workload"] == "pipe" else asking(args, job)
    tally = Tally(job)
    threads = [threading.Thread(target=tally.repeat, args=(send,), daemon=True) for _ in range(job["inflight"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say("DONE", **tally.figures())


def piping(args, job):
    from nvflare.fuel.utils.pipe.pipe import Message

    pipe, payload = opened_pipe(args, "ACTIVE"), os.urandom(job["size"])

    def send():
        if not pipe.send(Message.new_request("load", payload), timeout=30.0):
            common.fail("a message was not taken")

    return send


def asking(args, job):
    from nvflare.fuel.f3.cellnet.cell import Cell
    from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
    from nvflare.fuel.f3.cellnet.utils import new_cell_message

    cell = Cell(fqcn="site-1", root_url=args.root, secure=False, credentials={})
    cell.start()
    common.wait_connected(cell.core_cell, args.connect_timeout)
    channel, payload = CHANNELS[job["workload"]], os.urandom(job["size"])

    def send():
        reply = cell.send_request(channel, "load", "server", new_cell_message({}, payload), timeout=30.0)
        code = reply.get_header(MessageHeaderKey.RETURN_CODE)
        if code != ReturnCode.OK:
            common.fail(f"return code {code}")

    return send


class Tally:
    """Counts what is answered after the warm-up. The clock runs from the first of these answers to the last."""

    def __init__(self, job):
        self.begins = time.perf_counter() + job["warmup"]
        self.ends = self.begins + job["seconds"]
        self.first, self.last, self.times, self.lock = 0.0, 0.0, [], threading.Lock()

    def repeat(self, send):
        goes_on = True
        while goes_on:
            began = time.perf_counter()
            send()
            with self.lock:
                goes_on = self.note(began, time.perf_counter())

    def note(self, began, now):
        if self.first:
            self.last = now
            self.times.append(now - began)
        elif now >= self.begins:
            self.first = now
            say("WARM")
        return now < self.ends or not self.times

    def figures(self):
        times = sorted(self.times)
        micros = {f"p{part}_us": times[len(times) * part // 100] * 1e6 for part in (50, 99)}
        return {"messages": len(times), "msgs_s": len(times) / (self.last - self.first), **micros}


if __name__ == "__main__":
    main()
