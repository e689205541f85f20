"""What a client may do at every member, whatever role that has: watches of every kind, quotas, TTL znodes and containers, multi and
multiRead, lists, sync, ACLs, a session that comes back with its watches."""

from zabratools import wire as zk
from zabratools.interop.ensemble import connect, moved, sync
from zabratools.interop.ensemble_lasting import PATIENCE, SHORT, create_container, create_ttl
from zabratools.interop.suite import Failed, eq, eventually
from zabratools.wire import MULTI_END, boolean, i32, i64, multi_op, ustr

EPHEMERAL, SEQUENTIAL = 1, 2
NO_NODE, NO_AUTH, BAD_VERSION, NODE_EXISTS, NOT_EMPTY, QUOTA_EXCEEDED = -101, -102, -103, -110, -111, -125
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
PERSISTENT, RECURSIVE = 0, 1
DATA_WATCHER = 2


def refused(code, call, what):
    try:
        call()
    except zk.ZkError as error:
        return eq(code, error.code, what)
    raise Failed(f"{what}: not refused")


def events(conn, count):
    """What this client is told next."""
    told = []
    while len(told) < count:
        r = zk.Reader(conn.read_frame())
        eq(zk.NOTIFICATION_XID, r.i32(), f"an event is next, after {told}")
        r.i64(), r.i32()
        kind = r.i32()
        eq(3, r.i32(), "SyncConnected")
        told.append((kind, r.ustr()))
    return told


class Role:
    """Two clients of one member, below a znode of their own. What is written at another member comes from `elsewhere`."""

    def __init__(self, e, sid):
        self.member, self.top = e.member(sid), f"/role-{sid}"
        self.conn, self.seer = connect(self.member), connect(self.member)
        self.elsewhere = connect(e.member(1 if sid != 1 else 2))
        self.conn.create(self.top)

    def at(self, name):
        return f"{self.top}/{name}"

    def watches(self):
        conn, seer, path = self.conn, self.seer, self.at("watched")
        sync(seer)
        refused(NO_NODE, lambda: seer.call("exists", ustr(path) + boolean(True)), "exists")
        seer.call("getChildren", ustr(self.top) + boolean(True))
        seer.call("addWatch", ustr(self.top) + i32(RECURSIVE))
        conn.create(path, b"1")
        # The recursive watch is told of the znode, not of its parent's children; a one-shot watch of the same event is not told again.
        eq(sorted([(CREATED, path), (CHILDREN, self.top)]), sorted(events(seer, 2)), "events of a create")
        seer.call("getData", ustr(path) + boolean(True))
        sync(self.elsewhere)
        self.elsewhere.set(path, b"2")
        eq([(CHANGED, path)], events(seer, 1), "the event of a write at another member")
        eq(b"2", seer.get(path)[0], "the data that it announces")
        conn.create(f"{path}/child")
        conn.delete(f"{path}/child")
        conn.delete(path)
        eq([(CREATED, f"{path}/child"), (DELETED, f"{path}/child"), (DELETED, path)], events(seer, 3), "events below a recursive watch")
        seer.call("removeWatches", ustr(self.top) + i32(3))
        seer.call("addWatch", ustr(path) + i32(PERSISTENT))
        for _ in range(2):
            conn.create(path)
            conn.delete(path)
        eq([(CREATED, path), (DELETED, path)] * 2, events(seer, 4), "events of a persistent watch")
        seer.call("removeWatches", ustr(path) + i32(3))

    def watches_of_a_client_that_comes_back(self):
        path, seen = self.at("missed"), self.conn.create(self.at("missed"))
        sync(self.seer)
        at = self.seer.get(path)[1].mzxid
        self.conn.set(path, b"missed")
        sync(self.seer)
        self.seer = moved(self.seer, self.member)
        empty = zk.vec([])
        self.seer.post("setWatches", i64(at) + zk.vec([seen]) + zk.vec([self.at("never")]) + empty)
        eq([(CHANGED, path)], events(self.seer, 1), "what it has missed")
        eq(0, self.seer.take()[2], "the answer to setWatches")
        self.elsewhere.create(self.at("never"))
        eq([(CREATED, self.at("never"))], events(self.seer, 1), "what it waits for again")

    def quotas(self):
        conn, path = self.conn, self.at("limited")
        conn.create(path)
        for name in (f"/zookeeper/quota{self.top}", f"/zookeeper/quota{path}"):
            conn.create(name)
        conn.create(f"/zookeeper/quota{path}/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3")
        conn.create(f"/zookeeper/quota{path}/zookeeper_stats", b"count=1,bytes=0")
        sync(conn)
        conn.create(f"{path}/a", b"12345")
        sync(conn)
        refused(QUOTA_EXCEEDED, lambda: conn.set(f"{path}/a", b"12345678901"), "more bytes than allowed")
        conn.create(f"{path}/b")
        sync(conn)
        refused(QUOTA_EXCEEDED, lambda: conn.create(f"{path}/c"), "more znodes than allowed")
        sync(self.seer)
        eq(b"count=3,bytes=5", self.seer.get(f"/zookeeper/quota{path}/zookeeper_stats")[0], "the usage as a client of the member sees it")

    def what_lasts(self):
        conn = self.conn
        ttl = create_ttl(conn, self.at("ttl"), SHORT)
        create_container(conn, self.at("box"))
        conn.create(self.at("box/child"))
        conn.delete(self.at("box/child"))
        for path in (ttl, self.at("box")):
            eventually(None, lambda path=path: (sync(self.seer), self.seer.exists(path))[1], PATIENCE, f"{path} is deleted")

    def multis(self):
        conn, path = self.conn, self.at("multi")
        conn.call("multi", multi_op("create", zk.create(path, b"m")) + multi_op("setData", ustr(path) + zk.buf(b"n") + i32(0)) +
                  multi_op("check", ustr(path) + i32(1)) + MULTI_END)
        before = conn.get(path)[1]
        r = conn.call("multi", multi_op("setData", ustr(path) + zk.buf(b"o") + i32(-1)) + multi_op("delete", ustr(self.at("none")) + i32(-1)) +
                      MULTI_END)
        r.i32(), r.boolean(), r.i32()
        eq(0, r.i32(), "the first of a failed multi")
        eq((b"n", before), conn.get(path), "a failed multi changes nothing")
        r = conn.call("multiRead", multi_op("getData", ustr(path) + boolean(False)) + multi_op("getChildren", ustr(path) + boolean(False)) + MULTI_END)
        eq((4, False, 0, b"n"), (r.i32(), r.boolean(), r.i32(), r.buf()), "getData in a multiRead")

    def lists_and_refusals(self):
        conn, path = self.conn, self.at("lists")
        conn.create(path)
        numbered = [conn.create(f"{path}/n-", flags=EPHEMERAL | SEQUENTIAL) for _ in range(3)]
        eq(3, conn.call("getAllChildrenNumber", ustr(path)).i32(), "getAllChildrenNumber")
        r = conn.call("getEphemerals", ustr(path))
        eq(sorted(numbered), sorted(r.vec(r.ustr)), "getEphemerals")
        refused(NODE_EXISTS, lambda: conn.create(path), "created twice")
        refused(NOT_EMPTY, lambda: conn.delete(path), "deleted with children")
        refused(BAD_VERSION, lambda: conn.set(path, b"", 7), "another version")
        conn.auth("digest", b"owner:secret")
        conn.create(f"{path}/mine", b"", acl=((31, "auth", ""),))
        sync(self.seer)
        refused(NO_AUTH, lambda: self.seer.get(f"{path}/mine"), "read by somebody else")
        eq(31, conn.acl(f"{path}/mine")[0][0][0], "the ACL")

    def close(self):
        for conn in (self.conn, self.seer, self.elsewhere):
            conn.close_session()


TESTS = ["watches", "watches_of_a_client_that_comes_back", "quotas", "what_lasts", "multis", "lists_and_refusals"]


def of_role(sid):
    """All of it at one member."""
    def body(e):
        role = Role(e, sid)
        for test in TESTS:
            try:
                getattr(role, test)()
            except Failed as why:
                raise Failed(f"{test}: {why}") from None
        role.close()
    return body
