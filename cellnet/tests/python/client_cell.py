"""A cell that dials a root, a parent or both, and sends requests or serves.

READY {"fqcn", "ports"} when connected; RESULT with counts, times and the last error at the end. With --serve it stays
until it is stopped. Status 1 if a reply was not as expected, 2 if it could not connect.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import common
from common import STOP, say


def main():
    p = common.parser(__doc__)
    p.add_argument("--fqcn", default="site-1")
    p.add_argument("--root", help="URL of the server")
    p.add_argument("--parent", help="URL where the parent listens")
    p.add_argument("--serve", action="append", default=[], metavar="CHANNEL", help="answer as common.Behaviours says")
    p.add_argument("--target", default="server")
    p.add_argument("--channel", default="echo", help="'task' is plain, most others stream")
    p.add_argument("--topic", default="echo")
    p.add_argument("--count", type=int, default=0)
    p.add_argument("--inflight", type=int, default=1)
    p.add_argument("--payload", choices=common.KINDS, default="bytes")
    p.add_argument("--size", type=int, default=1000)
    p.add_argument("--timeout", type=float, default=30.0)
    p.add_argument("--expect", default="ok", help="the return code to expect")
    p.add_argument("--faf", action="store_true", help="fire and forget")
    p.add_argument("--stay", type=float, default=0.0, help="seconds to stay after the last reply")
    p.add_argument("--no-bye", action="store_true", help="leave without a word")
    common.rejecting(p)
    common.securing(p)
    args = common.begin(p)

    from nvflare.fuel.f3.cellnet.cell import Cell

    cell = Cell(fqcn=args.fqcn, root_url=args.root, parent_url=args.parent, **common.credentials(args))
    core = cell.core_cell
    behaviours = common.Behaviours(cell, args.serve, args.events)
    common.install_rejections(core, args)
    if args.events:
        common.report_neighbours(core)
    cell.start()
    common.wait_connected(core, args.connect_timeout)
    say("READY", fqcn=args.fqcn, ports=common.local_ports(core))

    tally = common.Tally()
    with ThreadPoolExecutor(args.inflight) as pool:
        for number in range(args.count):
            pool.submit(send, cell, args, number, tally)
    if args.serve:
        STOP.wait()
    STOP.wait(args.stay)
    if not args.no_bye:
        core.stop()
    tally.result(args.size, served=behaviours.seen)
    common.leave(1 if tally.bad else 0)


def send(cell, args, number, tally):
    from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
    from nvflare.fuel.f3.cellnet.utils import new_cell_message

    if STOP.is_set():
        return
    sent, code = common.payload(args.payload, args.size, number), None
    message = new_cell_message({}, sent)
    where = {"channel": args.channel, "topic": args.topic}
    began = time.monotonic()
    try:
        if args.faf:
            error = cell.fire_and_forget(targets=[args.target], message=message, **where).get(args.target)
        else:
            reply = cell.send_request(target=args.target, request=message, timeout=args.timeout, **where)
            code = str(reply.get_header(Key.RETURN_CODE))
            error = ""
            if code != args.expect:
                error = f"return code {code}: {reply.get_header(Key.ERROR)}"
    except Exception as e:
        error = repr(e)
    ended = time.monotonic()
    if not error and code == "ok" and args.topic == "echo":
        expected = common.payload(args.payload, args.size, number)
        if not common.same(reply.payload, expected):
            error = f"reply {number} differs: {common.describe(reply.payload)}"
    tally.add(error, began, ended, code)


if __name__ == "__main__":
    main()
