"""What every peer script needs: lines for the harness, stopping, payloads, behaviours of a serving cell."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from urllib.parse import urlsplit

STOP = threading.Event()
OUT = threading.Lock()


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--log", default=os.environ.get("PEER_LOG", "WARNING"), help="log level, to stderr")
    p.add_argument("--lifetime", type=float, default=300.0, help="leave after that many seconds, 0 for never")
    p.add_argument("--lifeline", action="store_true", help="leave when stdin ends")
    p.add_argument("--events", action="store_true", help="print an EVENT line for what happens")
    p.add_argument("--connect-timeout", type=float, default=30.0)
    return p


def begin(p):
    """Parses the arguments and arranges for a timely end: SIGTERM, lifetime, or the end of stdin."""
    args = p.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=args.log.upper(),
        format="%(asctime)s %(threadName)s %(name)s %(levelname)s %(message)s",
    )
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: STOP.set())
    if args.lifetime > 0:
        daemon(lambda: (time.sleep(args.lifetime), STOP.set()))
    if args.lifeline:
        daemon(lambda: (sys.stdin.buffer.read(), STOP.set()))

    from nvflare.apis.utils.decomposers import flare_decomposers
    from nvflare.app_common.decomposers import common_decomposers

    flare_decomposers.register()
    common_decomposers.register()
    return args


def daemon(work):
    threading.Thread(target=work, daemon=True).start()


def say(kind, **fields):
    """One line for the harness: a word and a JSON object."""
    line = f"{kind} {json.dumps(fields, default=plain)}\n"
    with OUT:
        sys.stdout.write(line)
        sys.stdout.flush()


def plain(value):
    return bytes(value).hex() if is_bytes(value) else repr(value)


def leave(status):
    """Ends the process now; the thread pools of nvflare would hold it back."""
    with OUT:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fail(text):
    say("ERROR", text=text)
    leave(2)


# Cells


def securing(p):
    p.add_argument("--kit", default="", metavar="FOLDER", help="rootCA.pem, client.crt, server.crt and their keys")
    p.add_argument("--security", choices=["clear", "tls", "mtls"], help="with a kit; a secure scheme alone means mtls")


def credentials(args):
    """What a cell gets as `secure` and `credentials`. It finds the other files next to the authority's by itself."""
    if not args.kit:
        return {"secure": False, "credentials": {}}
    known = {"ca_cert": os.path.join(args.kit, "rootCA.pem")}
    if args.security:
        known["connection_security"] = args.security
    return {"secure": True, "credentials": known}


def listening_url(core, url, timeout):
    """Waits until the cell listens and gives its true URL."""
    parts = urlsplit(url)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not STOP.is_set():
        for connector in list(core.communicator.conn_manager.connectors.values()):
            if int(connector.params.get("port") or 0) == parts.port and connector.mode.name == "PASSIVE":
                port = bound_port(connector.driver)
                if port:
                    return parts._replace(netloc=f"{parts.hostname}:{port}").geturl()
        time.sleep(0.01)
    fail(f"nothing listens on {url}")


def bound_port(driver):
    """Where the driver for tcp or for http listens, if it does."""
    if getattr(driver, "server", None):
        return driver.server.server_address[1]
    addresses = driver.runner.addresses if getattr(driver, "runner", None) else []
    return addresses[0][1] if addresses else None


def wait_connected(core, timeout):
    deadline = time.monotonic() + timeout
    while not core.is_backbone_ready():
        if time.monotonic() > deadline or STOP.is_set():
            fail("not connected")
        time.sleep(0.01)


def local_ports(core):
    """Our own ports of the connections, so that a test can find and cut them."""
    addresses = [str(agent.endpoint.conn_props.get("local_addr", "")) for agent in list(core.agents.values())]
    return [int(port) for port in (a.rpartition(":")[2] for a in addresses) if port.isdigit()]


def report_neighbours(core):
    core.set_cell_connected_cb(lambda agent: say("EVENT", what="connected", fqcn=agent.get_fqcn()))
    core.set_cell_disconnected_cb(lambda agent: say("EVENT", what="disconnected", fqcn=agent.get_fqcn()))


def rejecting(p):
    p.add_argument("--drop", action="append", default=[], metavar="CHANNEL:TOPIC",
                   help="an incoming filter that rejects any message, also in transit: the reference drops it silently")
    p.add_argument("--refuse", action="append", default=[], metavar="CHANNEL:TOPIC=CODE",
                   help="an incoming request filter that answers with a return code")


def install_rejections(core, args):
    from nvflare.fuel.f3.cellnet.utils import make_reply

    def reject(message, code, kind):
        say("EVENT", what=kind, **named(message))
        return make_reply(code, error=f"{kind} by a filter")

    for which in args.drop:
        channel, _, topic = which.partition(":")
        core.add_incoming_filter(channel, topic, reject, code="unauthenticated", kind="dropped")
    for which in args.refuse:
        which, _, code = which.partition("=")
        channel, _, topic = which.partition(":")
        core.add_incoming_request_filter(channel, topic, reject, code=code or "unauthenticated", kind="refused")


def named(message):
    from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key

    return {
        "channel": message.get_header(Key.CHANNEL),
        "topic": message.get_header(Key.TOPIC),
        "origin": message.get_header(Key.ORIGIN),
    }


class Behaviours:
    """Answers requests; the topic says how.

    echo      the same payload                  describe  what the payload looks like
    headers   the headers of the request        count     how many requests were seen
    none      no answer from the handler        fail      the handler raises
    svc       raises ServiceUnavailable         badtype   the handler returns text instead of a message
    sleep     waits payload seconds, then echo  rc        the payload is the return code
    later     a deferred reply (plain channels) call_me   calls the origin as the payload says, answers what came
    quit      ok, then the process ends
    """

    def __init__(self, cell, channels, events):
        self.cell, self.events, self.seen = cell, events, 0
        for channel in channels:
            cell.register_request_cb(channel=channel, topic="*", cb=self.answer)

    def answer(self, request):
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
        from nvflare.fuel.f3.cellnet.defs import ReturnCode, ServiceUnavailable
        from nvflare.fuel.f3.cellnet.utils import make_reply

        self.seen += 1
        topic, payload = request.get_header(Key.TOPIC), request.payload
        if self.events:
            say("EVENT", what="request", payload=describe(payload), **named(request))

        def ok(body=None):
            return make_reply(ReturnCode.OK, body=body)

        if topic == "echo":
            return ok(payload)
        if topic == "describe":
            return ok(describe(payload))
        if topic == "headers":
            return ok(dict(request.headers))
        if topic == "count":
            return ok(self.seen)
        if topic == "none":
            return None
        if topic == "fail":
            raise ValueError("told to fail")
        if topic == "svc":
            raise ServiceUnavailable("told to be unavailable")
        if topic == "badtype":
            return "text"
        if topic == "sleep":
            time.sleep(float(payload))
            return ok(payload)
        if topic == "rc":
            return make_reply(payload, error="told to")
        if topic == "later":
            origin, request_id = request.get_header(Key.ORIGIN), request.get_header(Key.REQ_ID)
            daemon(lambda: (time.sleep(0.2), self.cell.core_cell.send_reply(ok(payload), origin, [request_id])))
            return None
        if topic == "call_me":
            return ok(self.call(request.get_header(Key.ORIGIN), payload))
        if topic == "quit":
            daemon(lambda: (time.sleep(0.2), STOP.set()))
            return ok()
        return make_reply(ReturnCode.INVALID_REQUEST, error=f"no behaviour {topic}")

    def call(self, origin, order):
        """`order` has channel, topic and optionally target, payload, timeout and faf."""
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey as Key
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        to = order.get("target", origin)
        message = new_cell_message({}, order.get("payload"))
        where = {"channel": order["channel"], "topic": order["topic"]}
        if order.get("faf"):
            return {"errors": self.cell.fire_and_forget(targets=[to], message=message, **where)}
        reply = self.cell.send_request(target=to, request=message, timeout=order.get("timeout", 30.0), **where)
        return {
            "return_code": reply.get_header(Key.RETURN_CODE),
            "error": reply.get_header(Key.ERROR),
            "payload": reply.payload,
        }


# Payloads


def is_bytes(value):
    return isinstance(value, (bytes, bytearray, memoryview))


PATTERN = bytes(range(251))  # prime, so that lost or swapped chunks show


def payload(kind, size, number):
    """A payload that its receiver can check: it depends on the number of the message."""
    if kind == "none":
        return None
    start = number % len(PATTERN)
    data = (PATTERN * ((size + start) // len(PATTERN) + 1))[start : start + size]
    if kind == "bytes":
        return data
    if kind == "str":
        return data.translate(PRINTABLE).decode()
    if kind == "dict":
        return {
            "number": number, "float": 0.5, "text": "Grüße", "nothing": None, "yes": True,
            "list": [1, -2, 2**40], "map": {"key": "value"}, "data": data,
        }
    raise ValueError(kind)


KINDS = ["none", "bytes", "str", "dict"]
PRINTABLE = bytes(32 + b % 90 for b in range(256))


def same(a, b):
    if is_bytes(a) and is_bytes(b):
        return bytes(a) == bytes(b)
    return type(a) is type(b) and a == b


def describe(value):
    import hashlib

    if is_bytes(value):
        return {"type": "bytes", "size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, str):
        return {"type": "str", "size": len(value.encode()), "sha256": hashlib.sha256(value.encode()).hexdigest()}
    if isinstance(value, dict):
        return {"type": "dict", "items": {str(k): describe(v) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"type": type(value).__name__, "items": [describe(v) for v in value]}
    if value is None or isinstance(value, (bool, int, float)):
        return {"type": type(value).__name__, "value": value}
    return {"type": f"{type(value).__module__}.{type(value).__qualname__}"}


class Tally:
    """Counts what went well and how long it took, and prints the RESULT line."""

    def __init__(self):
        self.ok, self.bad, self.error, self.codes, self.times = 0, 0, "", {}, []
        self.lock, self.began, self.cpu = threading.Lock(), None, time.process_time()

    def add(self, error, began, ended, code=None):
        with self.lock:
            self.ended = ended
            self.began = min(began, self.began or began)
            if error:
                self.bad, self.error = self.bad + 1, error
            else:
                self.ok += 1
            if code is not None:
                self.codes[code] = self.codes.get(code, 0) + 1
            self.times.append(ended - began)

    def result(self, size=0, **more):
        fields = {"ok": self.ok, "bad": self.bad, "error": self.error, "return_codes": self.codes, "rss_mb": rss_mb()}
        if self.times:
            took, times = self.ended - self.began, sorted(self.times)
            fields.update(
                seconds=took, msgs_s=len(times) / took, MBps=size * len(times) / took / 1e6,
                p50_us=times[len(times) // 2] * 1e6, p99_us=times[len(times) * 99 // 100] * 1e6,
                cpu_s=time.process_time() - self.cpu,
            )
        say("RESULT", **fields, **more)


def rss_mb():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
