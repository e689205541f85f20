"""Four-letter words: each answer of the target is compared with Apache's, values normalised.

Both servers get the same nodes, sessions and watches first. What must be equal is kept (modes, counts,
limits, field names, order of lines, blank lines); what varies by run (times, ports, sizes, ids) is masked.
"""

import re
import socket
import sys
import time

from zabratools import wire as zk
from zabratools.interop import suite as interop
from zabratools.interop.suite import Failed, eq, yes
from zabratools.wire import boolean, i32, ustr

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d{2} \d{2}:\d{2}:\d{2} \S+ \d{4}"
VERSION = r"\d+\.\d+\.\d+-\S+, built on \d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC"


def populate(port):
    """Creates the state that the words report. The connections stay open."""
    a, b = zk.Conn(port), zk.Conn(port)
    a.create("/words", b"0123456789")
    for i in range(300):
        a.create(f"/words/n{i:03}", b"x")
    a.create("/words/e1", flags=1)
    a.create("/words/e2", flags=1)
    b.create("/words/b1", flags=1)
    for conn, op, path in ((a, "getData", "/words/n001"), (b, "getData", "/words/n001"), (b, "exists", "/words/none"),
                           (b, "getData", "/words/n002")):
        try:
            conn.call(op, ustr(path) + boolean(True))
        except zk.ZkError as e:
            eq(-101, e.code, "code of a read of a missing node")
    b.call("getChildren", ustr("/words") + boolean(True))
    b.call("addWatch", ustr("/words/n003") + i32(1))
    return a, b


def mask(text, conns):
    """Masks what every word has in common: client ports, session ids, dates."""
    for i, conn in enumerate(conns):
        text = re.sub(rf"0x{conn.sid:x}\b", f"SID{i}", text)
        text = text.replace(f"127.0.0.1:{conn.sock.getsockname()[1]}", f"127.0.0.1:CLIENT{i}")
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(DATE, "DATE", text)


def numbers(text, keys, separator):
    """Masks the numbers of the named keys."""
    for key in keys:
        text = re.sub(rf"(?m)^({re.escape(key)}{separator})-?\d+(\.\d+)?$", r"\1N", text)
    return text


def conf(text):
    text = re.sub(r"(?m)^(dataDir|dataLogDir)=/.*/version-2$", r"\1=DIR/version-2", text)
    return numbers(text, ["clientPort", "dataDirSize", "dataLogSize"], "=")


def client_lines(text, fields):
    """Sorts the lines of connections; those that are not from this suite vary and are dropped."""
    lines = text.split("\n")
    clients = sorted(l for l in lines if l.startswith(" /") and "CLIENT" in l)
    for i, line in enumerate(clients):
        line = re.sub(r"\[\d+\]", "[OPS]", line)
        for field in fields:
            line = re.sub(rf"\b{field}=-?(0x)?[0-9a-f]+", f"{field}=N", line)
        clients[i] = line
    first = next((i for i, l in enumerate(lines) if l.startswith(" /")), len(lines))
    rest = [l for l in lines[first:] if not l.startswith(" /")]
    return "\n".join(lines[:first] + clients + rest)


def cons(text):
    return client_lines(text, ["est", "lzxid", "lresp", "llat", "minlat", "avglat", "maxlat"])


def srvr(text):
    text = re.sub(rf"(?m)^Zookeeper version: {VERSION}$", "Zookeeper version: V", text)
    text = re.sub(r"(?m)^Latency min/avg/max: \d+/\d+\.\d+/\d+$", "Latency: L", text)
    text = re.sub(r"(?m)^Zxid: 0x[0-9a-f]+$", "Zxid: Z", text)
    return numbers(text, ["Received", "Sent", "Connections"], ": ")


def stat(text):
    return srvr(client_lines(text, []))


def dump(text):
    """Merges the expiry buckets, because a session's bucket depends on timing."""
    out, section = [], None
    for line in text.split("\n"):
        line = re.sub(r"Sets \(\d+\)/\(\d+\):", "Sets (N)/(N):", line)
        if re.fullmatch(r"\d+ expire at DATE:", line):
            line = "N expire at DATE:"
            if section == line:
                continue
        if "sessionId: 0x0" in line:
            continue  # the connection that asks
        section = line if line.startswith("N expire") else section
        out.append(line)
    # Sort runs of indented lines: sets have no order.
    done, run = [], []
    for line in out:
        if line.startswith("\t"):
            run.append(line)
            continue
        done += sorted(run) + [line]
        run = []
    text = "\n".join(done + sorted(run))
    # Sessions with ephemerals, each with its paths, in any order.
    head, sep, tail = re.split(r"(Sessions with Ephemerals \(\d+\):\n)", text)
    body, sep2, rest = tail.partition("Connections dump:")
    blocks = sorted(re.findall(r"SID\d:\n(?:\t.*\n)+", body))
    yes("".join(sorted(body.splitlines())) == "".join(sorted("".join(blocks).splitlines())), f"ephemerals by session: {body!r}")
    return head + sep + "".join(blocks) + sep2 + rest


def envi(text):
    """Names in order; a server that is not Java may have other values."""
    return re.sub(r"(?m)^([a-z.]+)=.*$", r"\1=", text)


def grouped(text):
    """wchc and wchp: groups and their lines have no order; the blank lines at the end do."""
    body = text.rstrip("\n")
    groups = []
    for line in body.split("\n"):
        if line.startswith("\t"):
            groups[-1][1].append(line)
        else:
            groups.append((line, []))
    return "\n".join(h + "\n" + "\n".join(sorted(l)) for h, l in sorted(groups)) + text[len(body):]


def hash_word(text):
    """Times are part of the digests, so only the format can be compared: `hex zxid: decimal digest`."""
    return re.sub(r"(?m)^([0-9a-f]+): \d+$", r"\1: DIGEST", text)


PLAIN = str
WORDS = [
    ("conf", conf), ("cons", cons), ("dirs", lambda t: numbers(t, ["datadir_size", "logdir_size"], ": ")),
    ("dump", dump), ("envi", envi), ("gtmk", PLAIN), ("srvr", srvr), ("stat", stat), ("wchs", PLAIN),
    ("wchc", grouped), ("wchp", grouped), ("isro", PLAIN), ("ruok", PLAIN), ("hash", hash_word),
    ("crst", PLAIN), ("srst", PLAIN),
]


def first_difference(want, got):
    a, b = want.split("\n"), got.split("\n")
    for i in range(max(len(a), len(b))):
        x = a[i] if i < len(a) else "(no line)"
        y = b[i] if i < len(b) else "(no line)"
        if x != y:
            return f"line {i + 1}: expected {x!r}, actual {y!r}"
    return "no difference"


def kind_of(value):
    if re.fullmatch(r"-?\d+", value):
        return "integer"
    if re.fullmatch(r"-?\d+\.\d+(E-?\d+)?", value):
        return "decimal"
    return "text"


def mntr(reference, actual):
    def parse(text):
        out = {}
        for line in text.rstrip("\n").split("\n"):
            key, tab, value = line.partition("\t")
            yes(tab == "\t" and key.startswith("zk_"), f"mntr line `zk_key<TAB>value`: {line!r}")
            yes(key not in out, f"mntr key {key} once")
            out[key] = value
        return out
    want, got = parse(reference), parse(actual)
    missing = [k for k in want if k not in got]
    eq([], missing, "mntr keys missing")
    wrong = [f"{k}: {kind_of(want[k])} expected, actual {got[k]}" for k in want if kind_of(want[k]) != kind_of(got[k])]
    eq([], wrong, "mntr values of another kind")
    eq(["zk_version", "zk_server_state"], list(got)[:2], "first mntr keys")
    for key in ("zk_server_state", "zk_znode_count", "zk_ephemerals_count", "zk_watch_count", "zk_global_sessions",
                "zk_approximate_data_size", "zk_local_sessions", "zk_connection_drop_probability"):
        eq(want[key], got[key], key)


def on_wire(port, data):
    """Sends these bytes as the first packet; returns the answer up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
        s.sendall(data)
        out = b""
        try:
            while True:
                part = s.recv(4096)
                if not part:
                    return out
                out += part
        except ConnectionResetError:
            return out


def main():
    target = sys.argv[1]
    suite = interop.Suite("4lw", target)
    with interop.Server("apache", "4lw-reference") as ref, interop.Server(target, "4lw") as srv:
        ref_conns, srv_conns = populate(ref.port), populate(srv.port)

        for name, normal in WORDS:
            def check(name=name, normal=normal):
                want = normal(mask(interop.word(ref.port, name), ref_conns))
                got = normal(mask(interop.word(srv.port, name), srv_conns))
                if want != got:
                    raise Failed(first_difference(want, got))
            suite.test(name, check)
        suite.test("mntr", lambda: mntr(interop.word(ref.port, "mntr"), interop.word(srv.port, "mntr")))

        def stmk():
            for value in (511, 306):
                data = b"stmk" + value.to_bytes(8, "big")
                eq(on_wire(ref.port, data), on_wire(srv.port, data), f"answer to stmk {value}")
                eq(interop.word(ref.port, "gtmk"), interop.word(srv.port, "gtmk"), "gtmk afterwards")
        suite.test("stmk", stmk)

        def counters():
            # srst and crst were just sent, so the counters have started again.
            for port in (ref.port, srv.port):
                received = int(re.search(r"Received: (\d+)", interop.word(port, "srvr")).group(1))
                yes(received < 50, f"Received after srst: {received}")
                lines = [l for l in interop.word(port, "cons").split("\n") if "sid=" in l]
                eq(2, len(lines), "client connections in cons")
                for line in lines:
                    yes("recved=0,sent=0" in line, f"counters of a connection after crst: {line}")
        suite.test("counters-after-reset", counters)

        for label, data in (("newline", b"ruok\n"), ("crlf", b"ruok\r\n"), ("more-bytes", b"ruokmore"),
                            ("upper-case", b"RUOK"), ("unknown-word", b"abcd"), ("telnet-close", b"\xff\xf4\xff\xfd")):
            suite.test(f"first-bytes-{label}", lambda data=data: eq(
                on_wire(ref.port, data), on_wire(srv.port, data), f"answer to {data!r}"))

        def word_in_pieces():
            def ask(port):
                with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for byte in b"ruok":
                        s.sendall(bytes([byte]))
                        time.sleep(0.02)
                    return s.recv(100)
            eq(b"imok", ask(ref.port), "Apache's answer")
            eq(b"imok", ask(srv.port), "answer")
        suite.test("word-in-pieces", word_in_pieces)

        def many():
            for _ in range(200):
                eq("imok", interop.word(srv.port, "ruok"), "ruok")
        suite.test("two-hundred-in-a-row", many)
    suite.end()


if __name__ == "__main__":
    main()
