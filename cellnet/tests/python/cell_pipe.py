"""One side of a CellPipe, bare or driven by a PipeHandler.

Without --scope it dials --url as the server. --scope '{"root": P, "cp": P, "relay": P}' with P = {"fqcn", "url",
"connection_security"?} sets the connection properties of the site; then --url chooses one of them, "" means the CP.

READY {"fqcn", "peer", "ports"}; MSG (with --events) for each message; STATUS {"topic", "data"} for END, ABORT and
PEER_GONE; RESULT at the end. A sender verifies the echo of each request. Status 1 if something was not as expected.
"""

import json
import queue
import time

import common
from common import STOP, say


def main():
    p = common.parser(__doc__)
    p.add_argument("--mode", choices=["active", "passive"], required=True)
    p.add_argument("--site", default="site-1")
    p.add_argument("--token", default="tok")
    p.add_argument("--url", default="", help="the root_url of the pipe")
    p.add_argument("--scope", type=json.loads, default={}, metavar="JSON")
    p.add_argument("--auth-token")
    p.add_argument("--auth-signature")
    p.add_argument("--name", default="task", help="the pipe's name; its channel is cell_pipe.NAME")
    p.add_argument("--handler", action="store_true", help="use a PipeHandler")
    p.add_argument("--heartbeat-interval", type=float, default=5.0)
    p.add_argument("--heartbeat-timeout", type=float, default=30.0)
    p.add_argument("--resend-interval", type=float, default=2.0)
    p.add_argument("--max-resends", type=int, default=5)
    p.add_argument("--read-interval", type=float, default=0.1)
    p.add_argument("--role", choices=["echo", "send"], default="echo")
    p.add_argument("--count", type=int, default=3, help="how many requests to send")
    p.add_argument("--payload", choices=common.KINDS, default="bytes")
    p.add_argument("--size", type=int, default=1000)
    p.add_argument("--topic", default="train")
    p.add_argument("--timeout", type=float, default=30.0, help="for a message to be taken, each time it is sent")
    p.add_argument("--answer-timeout", type=float, default=60.0, help="for the answer to a message that was taken")
    p.add_argument("--after", type=int, default=0, help="echo: leave after that many answers, 0 for never")
    p.add_argument("--end", choices=["end", "abort", "none", "vanish"], default="end", help="how to leave")
    p.add_argument("--stay", type=float, default=0.0, help="seconds to stay before leaving")
    p.add_argument("--linger", type=float, default=0.0,
                   help="seconds between END and closing the pipe, unless told to stop: without, the END or its "
                        "acknowledgement may still be in a thread pool when the cell goes")
    common.securing(p)
    args = common.begin(p)
    side = Side(args)
    say("READY", fqcn=side.core.get_fqcn(), peer=side.pipe.peer_fqcn, ports=common.local_ports(side.core))
    status = side.send() if args.role == "send" else side.echo()
    STOP.wait(args.stay)
    if args.end != "vanish":
        side.leave()
    side.tally.result(args.size, status=side.ended)
    common.leave(status)


class Side:
    def __init__(self, args):
        from nvflare.apis.fl_constant import ConnPropKey, FLMetaKey
        from nvflare.fuel.data_event.utils import set_scope_property
        from nvflare.fuel.utils.pipe.cell_pipe import CellPipe
        from nvflare.fuel.utils.pipe.pipe_handler import PipeHandler

        keys = {
            "root": ConnPropKey.ROOT_CONN_PROPS, "cp": ConnPropKey.CP_CONN_PROPS, "relay": ConnPropKey.RELAY_CONN_PROPS,
        }
        for place, known in args.scope.items():
            set_scope_property(args.site, keys[place], known)
        if args.auth_token:
            set_scope_property(args.site, FLMetaKey.AUTH_TOKEN, args.auth_token)
        if args.auth_signature:
            set_scope_property(args.site, FLMetaKey.AUTH_TOKEN_SIGNATURE, args.auth_signature)

        self.args, self.tally = args, common.Tally()
        self.inbox, self.ended = queue.Queue(), []
        self.pipe = CellPipe(
            args.mode.upper(), args.site, args.token, args.url, secure_mode=bool(args.kit), workspace_dir=args.kit,
        )
        self.core = self.pipe.cell.core_cell
        if args.events:
            common.report_neighbours(self.core)
        self.pipe.open(args.name)
        common.wait_connected(self.core, args.connect_timeout)
        self.handler = None
        if args.handler:
            self.handler = PipeHandler(
                self.pipe, args.read_interval, args.heartbeat_interval, args.heartbeat_timeout,
                args.resend_interval, args.max_resends,
            )
            self.handler.set_status_cb(self.take)
            self.handler.set_message_cb(self.take)
            self.handler.start()
        else:
            common.daemon(self.read)

    def read(self):
        while True:
            try:
                message = self.pipe.receive(timeout=0.1)
            except BrokenPipeError:
                return
            if message and message.topic != "_HEARTBEAT_":
                self.take(message)

    def take(self, message):
        if message.topic in ("_END_", "_ABORT_", "_PEER_GONE_"):
            self.ended.append(message.topic)
            say("STATUS", topic=message.topic, data=message.data)
            self.inbox.put(None)
            return
        if self.args.events:
            say("MSG", topic=message.topic, type=message.msg_type, id=message.msg_id, req_id=message.req_id,
                data=common.describe(message.data))
        self.inbox.put(message)

    def next(self, timeout):
        """The next message, or None if the peer ended, we are told to stop or the time is over."""
        deadline = time.monotonic() + timeout
        while not STOP.is_set() and not (self.ended and self.inbox.empty()) and time.monotonic() < deadline:
            try:
                return self.inbox.get(timeout=0.1)
            except queue.Empty:
                pass
        return None

    def post(self, message):
        if self.handler:
            return self.handler.send_to_peer(message, timeout=self.args.timeout)
        return self.pipe.send(message, timeout=self.args.timeout)

    def send(self):
        from nvflare.fuel.utils.pipe.pipe import Message

        args, answered = self.args, set()
        for number in range(args.count):
            if STOP.is_set() or self.ended:
                break
            request = Message.new_request(args.topic, common.payload(args.payload, args.size, number))
            began = time.monotonic()
            reply = self.answer(answered) if self.post(request) else None
            answered.add(request.msg_id)
            ended = time.monotonic()
            self.tally.add(self.check(request, reply, number), began, ended)
        return 0 if self.tally.ok == args.count else 1

    def answer(self, answered):
        """The next answer. The reference takes one that was sent again, because its acknowledgement got lost, for new."""
        reply = self.next(self.args.answer_timeout)
        while reply and reply.req_id in answered:
            reply = self.next(self.args.answer_timeout)
        return reply

    def check(self, request, reply, number):
        if reply is None:
            return f"message {number} was not taken or not answered"
        if (reply.msg_type, reply.topic, reply.req_id) != ("REP", request.topic, request.msg_id):
            return f"not the answer to message {number}: {reply.msg_type} {reply.topic} {reply.req_id}"
        expected = common.payload(self.args.payload, self.args.size, number)
        return "" if common.same(reply.data, expected) else f"answer {number} differs: {common.describe(reply.data)}"

    def echo(self):
        from nvflare.fuel.utils.pipe.pipe import Message

        args = self.args
        while not STOP.is_set() and not self.ended and not (args.after and self.tally.ok >= args.after):
            message = self.next(1.0)
            if message and message.msg_type == Message.REQUEST:
                began = time.monotonic()
                taken = self.post(Message.new_reply(message.topic, message.data, message.msg_id))
                self.tally.add("" if taken else "an answer was not taken", began, time.monotonic())
        return 1 if self.tally.bad or "_PEER_GONE_" in self.ended else 0

    def leave(self):
        """Says END or ABORT unless the peer did, and closes."""
        from nvflare.fuel.utils.pipe.pipe import Message, Topic

        how = "none" if self.ended else self.args.end
        try:
            if how != "none" and self.handler:
                (self.handler.notify_end if how == "end" else self.handler.notify_abort)("bye")
            elif how != "none":
                self.pipe.send(Message.new_request(Topic.END if how == "end" else Topic.ABORT, "bye"), timeout=5.0)
        except BrokenPipeError:
            pass
        STOP.wait(self.args.linger)
        if self.handler:
            self.handler.stop(close_pipe=True)
        else:
            self.pipe.close()


if __name__ == "__main__":
    main()
