"""A member without a leader that lets clients read (`readonlymode.enabled`): what it answers, byte for byte where Apache leaves no choice,
and what kazoo's clients see of it."""

import re
import socket

from kazoo.client import KazooClient, KazooState, KeeperState
from kazoo.exceptions import NoNodeError, NotReadOnlyCallError

from zabratools import wire as zk
from zabratools.interop.ensemble import Ensemble, connect, moved, sync
from zabratools.interop.suite import Failed, eq, eventually, yes
from zabratools.server import word
from zabratools.wire import MULTI_END, multi_op, ustr

PROPERTY = "-Dreadonlymode.enabled=true"
NOT_READ_ONLY = -119
EPHEMERAL = 1
# Longer than a slow machine takes to notice that the others are gone, and to look for a leader for two seconds.
PATIENCE = 60


def mode_of(member):
    found = re.search(r"^Mode: (.*)$", word(member.port, "srvr", 5), re.MULTILINE)
    return found and found.group(1)


def handshake(member, **more):
    """A connection, and what came after its handshake: a frame, or None if it was closed. `more` is as for `connect_request`."""
    sock = socket.create_connection(("127.0.0.1", member.port), timeout=20)
    sock.sendall(zk.frame(zk.connect_request(**more)))
    conn = Frames(sock)
    return conn, conn.read_frame()


class Frames(zk.Conn):
    """A connection on which a handshake was sent."""

    def __init__(self, sock):
        self.sock, self.xid, self.pending = sock, 0, b""


class Reader(Frames):
    """A client that is content with a read-only server, and found one."""

    def __init__(self, member, **more):
        conn, answer = handshake(member, read_only=True, **more)
        super().__init__(conn.sock)
        if answer is None:
            raise ConnectionError("closed instead of a ConnectResponse")
        r = zk.Reader(answer)
        r.i32()
        self.timeout, self.sid, self.passwd, self.read_only = r.i32(), r.i64(), r.buf(), r.boolean()
        if self.timeout <= 0:
            raise zk.ZkError(-112)


def reply(xid, zxid, err, body=b""):
    return zk.i32(xid) + zk.i64(zxid) + zk.i32(err) + body


EXPIRED = zk.i32(0) + zk.i32(0) + zk.i64(0) + zk.buf(bytes(16))


def who_is_let_in(member, owner, last):
    """Those who ask for no more than reads, and no session of the ensemble."""
    for what, more in [
        ("a client that writes", dict(read_only=False)),
        ("a client before 3.4", dict(read_only=None)),
        ("one that has seen more", dict(read_only=True, last_zxid=last + 1)),
        ("a session of the ensemble", dict(read_only=True, sid=owner.sid, passwd=owner.passwd)),
        ("the same with a wrong password", dict(read_only=True, sid=owner.sid, passwd=b"x" * 16)),
    ]:
        conn, answer = handshake(member, **more)
        eq(None, answer, f"the answer to {what}")
        conn.drop()
    unknown = (member.sid << 56) + 77
    conn, answer = handshake(member, read_only=True, sid=unknown, passwd=zk.password_of(unknown))
    eq(EXPIRED + b"\x01", answer, "the answer to a session that nobody has")
    conn.drop()


def what_is_answered(member, last):
    client = Reader(member, timeout=600000)
    eq((True, member.sid, zk.password_of(client.sid)), (client.read_only, client.sid >> 56, client.passwd), "the session")
    path = ustr("/kept")
    refused = [
        ("create", zk.create("/x")), ("create", zk.create("/x", flags=EPHEMERAL)), ("create2", zk.create("/x")),
        ("createContainer", zk.create("/x", flags=4)), ("createTTL", zk.create_ttl("/x", 1000)), ("delete", path + zk.i32(-1)),
        ("setData", path + zk.buf(b"") + zk.i32(-1)), ("setACL", path + zk.acls(zk.OPEN) + zk.i32(-1)), ("setData", b"\xff"),
        ("multi", multi_op("create", zk.create("/x")) + MULTI_END), ("multi", MULTI_END), ("sync", path), ("sync", b"\xff"),
        ("reconfig", ustr("") * 3 + zk.i64(-1)), ("deleteContainer", path)]
    for op, body in refused:
        xid = client.post(op, body)
        eq(reply(xid, last, NOT_READ_ONLY), client.read_frame(), f"the answer to {op} {body!r}")
    for op, body, wanted in [
        ("exists", ustr("/nothing") + zk.boolean(True), (-101, b"")),
        ("addWatch", path + zk.i32(0), (0, zk.i32(0))),
        ("removeWatches", path + zk.i32(3), (0, b"")),
        ("getEphemerals", ustr("/"), (0, zk.i32(0))),
        ("whoAmI", b"", (0, zk.vec([("ip", "127.0.0.1")], lambda id: ustr(id[0]) + ustr(id[1])))),
    ]:
        xid = client.post(op, body)
        if op == "addWatch":
            # Its answer is an ErrorResponse without a code of its own.
            frame = client.read_frame()
            eq(reply(xid, last, 0), frame[:16], f"the answer to {op}")
            continue
        eq(reply(xid, last, *wanted), client.read_frame(), f"the answer to {op}")
    eq(b"with three", client.get("/kept")[0], "data")
    client.sock.sendall(zk.frame(zk.header(zk.PING_XID, "ping")))
    eq(reply(zk.PING_XID, last, 0), client.read_frame(), "the answer to a ping")
    # The session moves to another connection of this server, and ends.
    again = Reader(member, timeout=600000, sid=client.sid, passwd=client.passwd)
    eq((client.sid, None), (again.sid, client.read_frame()), "the session on another connection, and on the first one")
    xid = again.post("closeSession")
    eq((reply(xid, last, 0), None), (again.read_frame(), again.read_frame()), "the answer to closeSession, and the end")


def what_words_say(member):
    eq("ro", word(member.port, "isro"), "isro")
    yes("\nREAD-ONLY mode; serving only read-only clients\nLatency" in word(member.port, "srvr"), "srvr says that clients only read")
    yes("\nREAD-ONLY mode; serving only read-only clients\nClients" in word(member.port, "stat"), "stat does")
    fields = dict(line.split("\t", 1) for line in word(member.port, "mntr").splitlines())
    eq(("read-only", False, False), (fields["zk_server_state"], "zk_peer_state" in fields, "zk_quorum_size" in fields), "mntr")
    conf = word(member.port, "conf")
    yes(conf.endswith("peerType=0\n") and f"serverId={member.sid}\n" in conf, f"conf: {conf}")


class Kazoo:
    """kazoo's client with read_only=True, and the states it was in."""

    def __init__(self, hosts):
        self.states = []
        self.client = KazooClient(hosts=hosts, timeout=10, read_only=True)
        self.client.add_listener(self.states.append)

    def __enter__(self):
        self.client.start(timeout=PATIENCE)
        return self

    def __exit__(self, *_):
        self.client.stop()
        self.client.close()

    def reads(self):
        eq(KeeperState.CONNECTED_RO, self.client.client_state, "kazoo's state")
        eq(b"with three", self.client.get("/kept")[0], "data read by kazoo")
        try:
            self.client.get("/nothing")
            raise Failed("kazoo read what is not there")
        except NoNodeError:
            pass
        for write in (lambda: self.client.set("/kept", b"alone"), lambda: self.client.create("/x"), lambda: self.client.sync("/")):
            try:
                write()
                raise Failed("kazoo wrote without a leader")
            except NotReadOnlyCallError:
                pass

    def writes(self):
        """Once it has found a server that takes writes."""
        eventually(KeeperState.CONNECTED, lambda: self.client.client_state, PATIENCE, "kazoo's state with a leader")
        self.client.set("/kept", b"by kazoo")
        yes(self.states[-1] == KazooState.CONNECTED, f"kazoo's states: {self.states}")


def without_a_leader(kinds, left, lines):
    """All members but `left` are killed, and come back."""
    with Ensemble(f"read-only-{''.join(k[0] for k in kinds)}-{left}", kinds, props=[PROPERTY], extra=lines) as e:
        e.start(leader=3)
        member = e.member(left)
        owner = connect(member)
        owner.create("/kept", b"with three")
        # A local session would be the member's own, and end with its leader.
        owner.create("/owned", flags=EPHEMERAL)
        sync(owner)
        others = [m for m in e.members if m is not member]
        for m in others:
            m.kill()
        eq(None, owner.read_frame(), "a client's connection ends with the leader")
        eventually("read-only", lambda: mode_of(member), PATIENCE, f"mode of {member.name}")
        last = member.zxid()
        who_is_let_in(member, owner, last)
        what_is_answered(member, last)
        what_words_say(member)
        reader = Reader(member, timeout=600000)
        with Kazoo(e.hosts()) as kazoo:
            kazoo.reads()
            for m in others:
                m.launch()
            eq(None, reader.read_frame(), "a reader's connection ends when there is a leader")
            e.await_serving(e.members)
            eventually(True, lambda: "read-only" not in [mode_of(m) for m in e.members], PATIENCE, "all have a role")
            kazoo.writes()
        eq("rw", word(member.port, "isro"), "isro with a leader")
        owner = moved(owner, e.member(1))
        sync(owner)
        eq((b"by kazoo", owner.sid), (owner.get("/kept")[0], owner.get("/owned")[1].owner), "the session that was there before, and its znode")
        owner.close_session()


LOCAL = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n"


def read_only(suite, kinds, left, lines=LOCAL):
    """Apache lets nobody read without `localSessionsEnabled`."""
    name = f"read-only-{''.join(k[0] for k in kinds)}-at-{left}{'' if lines else '-without-local-sessions'}"
    suite.test(name, lambda: without_a_leader(kinds, left, lines))
