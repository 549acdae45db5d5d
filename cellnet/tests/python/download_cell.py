"""A cell that offers and pulls arrays and files. It listens as `server` with --url, else it dials a root or a parent.

It answers requests on the channel "models":

give        {"sizes": [elements], "dtype"}           arrays by that many elements, which travel as references
take        a map of arrays                          what they look like, once they are pulled
forward     a map, {"to": cell, "model": ...}        passes the model on to `take` of another cell, and its answer back
offer_file  {"size", "chunk"}                        {"ref_id", "sha256"}; EVENT {"what": "file_done", "status"}
fetch_file  {"fqcn", "ref_id", "timeout"}            {"error", "size", "sha256"}
raw         {"fqcn", "ref_id", "state"}              {"code", "status"} of one bare request

READY {"fqcn", "url"}; "url" only if it listens.
"""

import hashlib
import os

import common
from common import STOP, say

CHANNEL = "models"
# Below the folder that the harness starts this in. The same files every time, as nobody removes those of a killed process.
FOLDER = "download_cell"


def main():
    p = common.parser(__doc__)
    p.add_argument("--fqcn", default="site-1")
    p.add_argument("--url", help="where to listen; port 0 chooses one")
    p.add_argument("--root", help="URL of the server")
    p.add_argument("--parent", help="URL where the parent listens")
    p.add_argument("--slow", type=float, default=0.0, help="seconds that every file piece takes to be read")
    args = common.begin(p)

    from nvflare.app_common.decomposers import numpy_decomposers
    from nvflare.fuel.f3.cellnet.cell import Cell

    numpy_decomposers.register()
    cell = Cell(fqcn=args.fqcn, root_url=args.url or args.root, parent_url=args.parent, secure=False, credentials={})
    core = cell.core_cell
    cell.register_request_cb(channel=CHANNEL, topic="*", cb=Models(cell, args.slow).answer)
    cell.start()
    if args.url:
        say("READY", fqcn=args.fqcn, url=common.listening_url(core, args.url, args.connect_timeout))
    else:
        common.wait_connected(core, args.connect_timeout)
        say("READY", fqcn=args.fqcn)
    STOP.wait()
    core.stop()
    common.leave(0)


class Models:
    def __init__(self, cell, slow):
        self.cell, self.slow = cell, slow
        os.makedirs(FOLDER, exist_ok=True)

    def answer(self, request):
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
        from nvflare.fuel.f3.cellnet.defs import ReturnCode
        from nvflare.fuel.f3.cellnet.utils import make_reply

        topic, order = request.get_header(Key.TOPIC), request.payload
        return make_reply(ReturnCode.OK, body=getattr(self, topic)(order))

    def give(self, order):
        return {f"a{n}": array(n, size, order["dtype"]) for n, size in enumerate(order["sizes"])}

    def take(self, order):
        return {name: look(value) for name, value in order.items()}

    def forward(self, order):
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        kinds = sorted({type(value).__name__ for value in order["model"].values()})
        message = new_cell_message({}, order["model"])
        reply = self.cell.send_request(CHANNEL, "take", order["to"], message, timeout=60.0)
        return {"saw": kinds, "code": reply.get_header(Key.RETURN_CODE), "told": reply.payload}

    def offer_file(self, order):
        from nvflare.fuel.f3.streaming.file_downloader import ObjectDownloader, add_file

        path = os.path.join(FOLDER, f"{order['size']}.bin")
        data = common.payload("bytes", order["size"], 3)
        with open(path, "wb") as f:
            f.write(data)
        done = lambda tx, status, objects: say("EVENT", what="file_done", status=status)
        downloader = ObjectDownloader(self.cell, timeout=60.0, num_receivers=1, transaction_done_cb=done)
        ref_id = add_file(downloader, path, chunk_size=order.get("chunk"))
        if self.slow:
            slow_down(ref_id, self.slow)
        return {"ref_id": ref_id, "sha256": digest(data)}

    def fetch_file(self, order):
        from nvflare.fuel.f3.streaming.file_downloader import download_file

        error, path = download_file(order["fqcn"], order["ref_id"], order.get("timeout", 30.0), self.cell)
        say("EVENT", what="fetched", error=error)
        if error:
            return {"error": error}
        with open(path, "rb") as f:
            data = f.read()
        os.remove(path)
        return {"error": error, "size": len(data), "sha256": digest(data)}

    def raw(self, order):
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        body = {"ref_id": order["ref_id"]}
        if order.get("state"):
            body["state"] = order["state"]
        where = ("download_service__", "download_service__download", order["fqcn"])
        reply = self.cell.send_request(*where, new_cell_message({}, body), timeout=30.0)
        status = reply.payload.get("status") if isinstance(reply.payload, dict) else None
        return {"code": reply.get_header(Key.RETURN_CODE), "status": status}


def array(number, size, dtype):
    import numpy as np

    return ((np.arange(size) * 7 + number) % 251).astype(dtype)


def look(value):
    return {"dtype": value.dtype.name, "shape": list(value.shape), "sha256": digest(value.tobytes())}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def slow_down(ref_id, seconds):
    """Every piece of this reference takes a while, so that a test can end the process in between."""
    import time

    from nvflare.fuel.f3.streaming.download_service import DownloadService

    content = DownloadService._ref_table[ref_id].obj
    produce = content.produce

    def slowly(*args):
        time.sleep(seconds)
        return produce(*args)

    content.produce = slowly


if __name__ == "__main__":
    main()
