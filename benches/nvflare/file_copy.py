"""One of two cells of the reference that copy a file by its download service, for the bench `cp`.

--offer FILE                 listens as `server`; for each request it offers the file anew. READY {"url"}
--take FOLDER --root URL     for each line on standard input it downloads the file once. TAKEN {"seconds", "bytes"}
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "cellnet", "tests", "python"))

import common
from common import say

CHANNEL = "copies"


def main():
    p = common.parser(__doc__)
    p.add_argument("--offer", metavar="FILE")
    p.add_argument("--take", metavar="FOLDER")
    p.add_argument("--root", default="tcp://127.0.0.1:0", help="URL of the server")
    args = common.begin(p)

    from nvflare.fuel.f3.cellnet.cell import Cell

    name = "server" if args.offer else "site-1"
    cell = Cell(fqcn=name, root_url=args.root, secure=False, credentials={})
    if args.offer:
        cell.register_request_cb(channel=CHANNEL, topic="offer", cb=lambda request: offer(cell, args.offer))
    cell.start()
    if args.offer:
        say("READY", url=common.listening_url(cell.core_cell, args.root, args.connect_timeout))
        common.STOP.wait()
    else:
        common.wait_connected(cell.core_cell, args.connect_timeout)
        say("READY")
        for _ in sys.stdin:
            take(cell, args.take)
    cell.core_cell.stop()
    common.leave(0)


def offer(cell, path):
    from nvflare.fuel.f3.cellnet.defs import ReturnCode
    from nvflare.fuel.f3.cellnet.utils import make_reply
    from nvflare.fuel.f3.streaming.file_downloader import ObjectDownloader, add_file

    return make_reply(ReturnCode.OK, body=add_file(ObjectDownloader(cell, timeout=60.0, num_receivers=1), path))


def take(cell, folder):
    from nvflare.fuel.f3.cellnet.utils import new_cell_message
    from nvflare.fuel.f3.streaming.file_downloader import download_file

    ref_id = cell.send_request(CHANNEL, "offer", "server", new_cell_message({}, None), timeout=30.0).payload
    began = time.perf_counter()
    error, path = download_file("server", ref_id, 30.0, cell, location=folder)
    took = time.perf_counter() - began
    if error:
        common.fail(error)
    say("TAKEN", seconds=took, bytes=os.path.getsize(path))
    os.remove(path)


if __name__ == "__main__":
    main()
