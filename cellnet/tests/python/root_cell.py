"""The cell `server`, which listens and answers as `common.Behaviours` says.

It serves a stream channel and a plain one; `task` is one of the channels that the reference never streams.
READY {"fqcn", "url", "port"}, with --internal also "internal_url". RESULT {"served", "rss_mb"} at the end.
"""

import common
from common import STOP, say


def main():
    p = common.parser(__doc__)
    p.add_argument("--url", default="tcp://127.0.0.1:0", help="where to listen; port 0 chooses one")
    p.add_argument("--channel", default="echo", help="the stream channel")
    p.add_argument("--plain-channel", default="task")
    p.add_argument("--internal", action="store_true", help="listen for children too")
    common.rejecting(p)
    common.securing(p)
    args = common.begin(p)

    from nvflare.fuel.f3.cellnet.cell import Cell

    cell = Cell(
        fqcn="server", root_url=args.url, **common.credentials(args),
        create_internal_listener=args.internal, internal_listener_host="127.0.0.1",
    )
    core = cell.core_cell
    behaviours = common.Behaviours(cell, [args.channel, args.plain_channel], args.events)
    common.install_rejections(core, args)
    if args.events:
        common.report_neighbours(core)
    cell.start()
    url = common.listening_url(core, args.url, args.connect_timeout)
    more = {"internal_url": core.get_internal_listener_url()} if args.internal else {}
    say("READY", fqcn="server", url=url, port=common.urlsplit(url).port, **more)
    STOP.wait()
    core.stop()
    say("RESULT", served=behaviours.seen, rss_mb=common.rss_mb())
    common.leave(0)


if __name__ == "__main__":
    main()
