"""Creates whose flags belong to another opcode, which no client library sends, through every member of an ensemble.

An Apache leader predicts the digest by the flags and makes the znode by the opcode, so every member gets another digest than predicted:
Apache's log it, Zabra's would leave and come again for a snapshot. A createTTL with a negative TTL and a mode without one stops every Apache
server, and for good. So Zabra members send an Apache leader the same with the right flags, or something to refuse."""

from zabratools import wire as zk
from zabratools.interop.ensemble import connect, sync
from zabratools.interop.suite import eq, eventually, yes
from zabratools.wire import MULTI_END, multi_op, ustr

OPS = ["create", "create2", "createContainer", "createTTL"]
FLAGS = range(-1, 8)
TTLS = [600_000, 0, -1]
BAD_ARGUMENTS, MARSHALLING_ERROR = -8, -5
EPHEMERAL, SEQUENTIAL = 1, 2
CONTAINER, TTL, SEQUENTIAL_TTL = 4, 5, 6
# What a Zabra member logs when it does not stay with its leader.
LEAVES = ["looking for a leader again", "receiving the leader's snapshot", "tree digest differs"]


class Way:
    """Through one member to the leader."""

    def __init__(self, member, leader):
        self.is_all_apache = (member.kind, leader.kind) == ("apache", "apache")
        self.may_differ = not any(m.kind == "zabra" for m in member.ensemble.members)

    def asks(self, op, flags, ttl, in_multi):
        """Through Apache members an Apache leader gets only what harms nobody: what it predicts wrong if no Zabra member is there."""
        if not self.is_all_apache:
            return True
        stops = op == "createTTL" and ttl < 0 and 0 <= flags <= CONTAINER and not in_multi
        predicts = (op == "createContainer" and 0 <= flags < CONTAINER) or (op in ("create", "create2") and flags == CONTAINER and not in_multi)
        return not stops and (self.may_differ or not predicts)

    def single(self, op, flags, ttl):
        """The error, or whether it is sequential and whether it is ephemeral."""
        if flags not in range(7):
            return BAD_ARGUMENTS
        if op == "createTTL":
            return (flags == SEQUENTIAL_TTL, False) if flags in (TTL, SEQUENTIAL_TTL) and ttl > 0 else BAD_ARGUMENTS
        if flags in (TTL, SEQUENTIAL_TTL):
            return BAD_ARGUMENTS
        if op == "createContainer":
            is_sequential = flags in (SEQUENTIAL, SEQUENTIAL | EPHEMERAL)
            return BAD_ARGUMENTS if is_sequential and not self.is_all_apache else (is_sequential, False)
        return (False, False) if flags == CONTAINER else (bool(flags & SEQUENTIAL), bool(flags & EPHEMERAL))

    def in_multi(self, op, flags, ttl):
        """The same in a multi, where the flags choose the opcode first."""
        if op == "createTTL":
            return self.single("create" if flags in range(TTL) else op, flags, ttl)
        return MARSHALLING_ERROR if flags not in range(TTL) else self.single(op, flags, ttl)


def creates(way, top, in_multi):
    """The path and body of each create, with what was asked."""
    for op in OPS:
        for flags in FLAGS:
            for ttl in TTLS if op == "createTTL" else [None]:
                if way.asks(op, flags, ttl, in_multi):
                    path = f"{top}/{op}-{flags}-{ttl}-{'multi' if in_multi else 'single'}"
                    body = zk.create(path, b"odd", flags=flags) + (zk.i64(ttl) if ttl is not None else b"")
                    yield path, body, (op, flags, ttl)


def is_made(conn, path, wanted, got, what):
    """The path of the answer, and the znode."""
    is_sequential, is_ephemeral = wanted
    eq((path, 10 if is_sequential else 0), (got[:len(path)], len(got) - len(path)), f"path of {what}")
    data, stat = conn.get(got)
    eq((b"odd", conn.sid if is_ephemeral else 0), (data, stat.owner), f"znode of {what}")


def singly(conn, way, top):
    """All at once, in one session."""
    asked = [(conn.post(ask[0], body), path, ask) for path, body, ask in creates(way, top, False)]
    answers = [conn.take() for _ in asked]
    for (xid, path, ask), (answered, _, error, body) in zip(asked, answers):
        wanted, what = way.single(*ask), f"{ask} through {conn.member.name}"
        eq((xid, wanted if isinstance(wanted, int) else 0), (answered, error), f"answer to {what}")
        if not isinstance(wanted, int):
            is_made(conn, path, wanted, body.ustr(), what)


def in_multis(conn, way, top):
    """Each behind a setData and before another one, which the refusal of a create undoes."""
    asked = []
    for path, body, ask in creates(way, top, True):
        around = multi_op("setData", ustr(top) + zk.buf(b"by a multi") + zk.i32(-1))
        asked.append((conn.post("multi", around + multi_op(ask[0], body) + around + MULTI_END), path, ask))
    answers = [conn.take() for _ in asked]
    done = 0
    for (xid, path, ask), (answered, _, error, body) in zip(asked, answers):
        wanted, what = way.in_multi(*ask), f"multi of {ask} through {conn.member.name}"
        eq((xid, wanted if wanted == MARSHALLING_ERROR else 0), (answered, error), f"answer to {what}")
        if wanted == MARSHALLING_ERROR:
            continue
        if isinstance(wanted, int):
            eq([(-1, False, 0), (-1, False, wanted), (-1, False, -2)], refused(body), what)
            continue
        done += 2
        eq(0, header(body)[2], f"setData of {what}")
        body.stat()
        eq(0, header(body)[2], what)
        is_made(conn, path, wanted, body.ustr(), what)
    eq(done, conn.get(top)[1].version, "setData of the multis that were not refused")


def header(body):
    return body.i32(), body.boolean(), body.i32()


def refused(body):
    """The three results of a refused multi, each a header and its code again."""
    return [(*header(body)[:2], body.i32()) for _ in range(3)]


def creates_with_flags_of_another_opcode(e):
    leader = e.leader()
    marks = {m: len(m.text()) for m in e.members}
    seer = connect(leader)
    seer.create("/odd")
    for m in e.members:
        conn = connect(m)
        sync(conn)
        way, top = Way(m, leader), f"/odd/{m.sid}"
        conn.create(top)
        singly(conn, way, top)
        in_multis(conn, way, top)
        # The ephemerals go.
        conn.close_session()
    for m in e.members:
        conn = connect(m)
        sync(conn)
        conn.create(f"/odd/after-{m.sid}")
        conn.close_session()
    yes(e.leader() is leader, "the same member leads")
    for m in e.members:
        said = m.said_since(marks[m])
        eq([], [line for line in LEAVES if m.kind == "zabra" and line in said], f"what {m.name} logged")
    seer.close_session()


def a_create_that_stops_apache_stops_nobody_else(e):
    """A client of an Apache leader sends it. The Zabra members, which are a quorum without the leader, do not acknowledge it, and go on."""
    old = e.leader()
    eq("apache", old.kind, "kind of the leader")
    conn = connect(old)
    conn.create("/kept", b"acknowledged")
    conn.post("createTTL", zk.create_ttl("/kept/never", -1, flags=0))
    eq(None, conn.take(), "answer")
    new = e.leader()
    yes(new is not old, "another member leads")
    e.await_serving([m for m in e.members if m is not old])
    seer = connect(new)
    eq((b"acknowledged", []), (seer.get("/kept")[0], seer.children("/kept")[0]), "what was acknowledged, and what was not")
    seer.create("/kept/after")
    seer.close_session()
    # It has it in its log, so it can serve again only without that.
    eventually(False, old.runs, 60, f"{old.name} runs")
    old.kill()
    old.wipe()
    old.launch()
    e.await_serving([old])
