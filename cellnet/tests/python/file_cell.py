"""A site that takes and gives files by the download service, told by messages on the channel "cellnet_file".

take        {"path", "size", "sha256", "fqcn", "ref_id"}   downloads it into --folder; {"size", "sha256"}
give        {"path"}                                       offers it from --folder; {"fqcn", "ref_id", "size", "sha256"}

READY {"fqcn"}, or with --offer FILE {"fqcn", "ref_id"}; EVENT {"what": "taken", "path"}.
"""

import hashlib
import os
import shutil

import common
from common import STOP, say

CHANNEL = "cellnet_file"


def main():
    p = common.parser(__doc__)
    p.add_argument("--fqcn", default="site-1")
    p.add_argument("--root", help="URL of the server")
    p.add_argument("--folder", required=True)
    p.add_argument("--offer", help="a file that whoever knows its reference may download")
    p.add_argument("--forge", action="store_true", help="claim another digest than files have")
    args = common.begin(p)

    from nvflare.fuel.f3.cellnet.cell import Cell

    cell = Cell(fqcn=args.fqcn, root_url=args.root, secure=False, credentials={})
    files = Files(cell, args.folder, args.forge)
    cell.register_request_cb(channel=CHANNEL, topic="take", cb=files.take)
    cell.register_request_cb(channel=CHANNEL, topic="give", cb=files.give)
    cell.start()
    common.wait_connected(cell.core_cell, args.connect_timeout)
    offered = {"ref_id": files.offer(args.offer)} if args.offer else {}
    say("READY", fqcn=args.fqcn, **offered)
    STOP.wait()
    cell.core_cell.stop()
    common.leave(0)


class Files:
    def __init__(self, cell, folder, forge):
        self.cell, self.folder, self.forge = cell, folder, forge

    def take(self, request):
        from nvflare.fuel.f3.cellnet.defs import ReturnCode
        from nvflare.fuel.f3.cellnet.utils import make_reply
        from nvflare.fuel.f3.streaming.file_downloader import download_file

        order = request.payload
        error, path = download_file(order["fqcn"], order["ref_id"], 30.0, self.cell)
        if error:
            return make_reply(ReturnCode.COMM_ERROR, error)
        sha256 = self.digest(path)
        if sha256 != order["sha256"] and not self.forge:
            return make_reply(ReturnCode.INVALID_REQUEST, "the digest is not that of the offer")
        shutil.move(path, self.path(order))
        say("EVENT", what="taken", path=order["path"])
        return make_reply(ReturnCode.OK, body={"size": order["size"], "sha256": sha256})

    def give(self, request):
        from nvflare.fuel.f3.cellnet.defs import ReturnCode
        from nvflare.fuel.f3.cellnet.utils import make_reply

        path = self.path(request.payload)
        if not os.path.exists(path):
            return make_reply(ReturnCode.INVALID_REQUEST, "no such file")
        offer = {"fqcn": self.cell.get_fqcn(), "ref_id": self.offer(path)}
        return make_reply(ReturnCode.OK, body={**offer, "size": os.path.getsize(path), "sha256": self.digest(path)})

    def offer(self, path):
        from nvflare.fuel.f3.streaming.file_downloader import ObjectDownloader, add_file

        return add_file(ObjectDownloader(self.cell, timeout=60.0, num_receivers=1), path)

    def path(self, order):
        """The last part of what the other side says: it has no say in where else."""
        return os.path.join(self.folder, os.path.basename(order["path"]))

    def digest(self, path):
        with open(path, "rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        return sha256[::-1] if self.forge else sha256


if __name__ == "__main__":
    main()
