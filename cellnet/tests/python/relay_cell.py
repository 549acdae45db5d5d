"""A cell between others: it dials a root or a parent and listens for children. It only forwards.

READY {"fqcn", "url", "port"}: where it listens.
"""

import common
from common import STOP, say


def main():
    p = common.parser(__doc__)
    p.add_argument("--fqcn", default="relay-1")
    p.add_argument("--root", help="URL of the server")
    p.add_argument("--parent", help="URL where the parent listens")
    p.add_argument("--scheme", default="tcp", help="of the URL where to listen")
    p.add_argument("--port", type=int, default=0, help="where to listen; 0 chooses one")
    p.add_argument("--serve", action="append", default=[], metavar="CHANNEL", help="answer as common.Behaviours says")
    p.add_argument("--no-wait", action="store_true", help="be ready before the way up is connected")
    common.rejecting(p)
    common.securing(p)
    args = common.begin(p)

    from nvflare.fuel.f3.cellnet.cell import Cell

    cell = Cell(
        fqcn=args.fqcn, root_url=args.root, parent_url=args.parent, **common.credentials(args),
        create_internal_listener=True, internal_listener_host="127.0.0.1",
    )
    core = cell.core_cell
    core.connector_manager.int_scheme = args.scheme
    core.connector_manager.int_resources["port"] = args.port
    if args.security:
        core.connector_manager.int_resources["connection_security"] = args.security
    common.Behaviours(cell, args.serve, args.events)
    common.install_rejections(core, args)
    if args.events:
        common.report_neighbours(core)
    cell.start()
    url = common.listening_url(core, core.get_internal_listener_url(), args.connect_timeout)
    if not args.no_wait:
        common.wait_connected(core, args.connect_timeout)
    say("READY", fqcn=args.fqcn, url=url, port=common.urlsplit(url).port)
    STOP.wait()
    core.stop()
    say("RESULT", rss_mb=common.rss_mb())
    common.leave(0)


if __name__ == "__main__":
    main()
