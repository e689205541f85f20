"""Ensembles of Apache and Zabra members together.

ensemble_suite.py apache   all members are Apache's (proves the tests)
ensemble_suite.py zabra    every pairing of roles, every way to catch up in both directions, the move of a running ensemble from
                           Apache to Zabra and back
"""

import glob
import os
import sys
import time

from zabratools import wire as zk
from zabratools.interop import suite as interop
from zabratools.interop.ensemble import Ensemble, connect, moved, sync, tree_of, zxid_of
from zabratools.interop.ensemble_lasting import PROPS as LASTING_PROPS, Lasting
from zabratools.interop.ensemble_load import Load
from zabratools.interop.ensemble_roles import of_role
from zabratools.interop.kazoo_suite import commands, run_against
from zabratools.interop.odd_creates import a_create_that_stops_apache_stops_nobody_else, creates_with_flags_of_another_opcode
from zabratools.interop.read_only_suite import read_only
from zabratools.interop.suite import Failed, eq, eventually, yes
from zabratools.wire import MULTI_END, multi_op, ustr

EPHEMERAL, SEQUENTIAL = 1, 2
LETTER = {"apache": "a", "zabra": "z"}


def letters(kinds):
    """Such as `aaz`: the kinds of the members in the order of their ids."""
    return "".join(LETTER[k] for k in kinds)


# --- what every mix has to do ---

def writes_through_every_member(e):
    conns = [connect(m) for m in e.members]
    conns[0].create("/w")
    for i, conn in enumerate(conns):
        sync(conn)
        conn.create(f"/w/plain-{i}", b"x" * 1000)
        conn.set(f"/w/plain-{i}", f"set through {i}".encode())
        # The number counts every child that was created before.
        eq(f"/w/seq-{3 * i + 1:010}", conn.create("/w/seq-", flags=SEQUENTIAL), "the sequence goes on over the members")
        sync(conn)
        conn.call("multi", multi_op("create", zk.create(f"/w/multi-{i}", b"m")) +
                  multi_op("setData", ustr("/w") + zk.buf(str(i).encode()) + zk.i32(i)) + MULTI_END)
        try:
            conn.create("/w")
            raise Failed("created twice")
        except zk.ZkError as refused:
            eq(-110, refused.code, "NodeExists through this member")
    for i, conn in enumerate(conns):
        sync(conn)
        eq(sorted([f"{n}-{k}" for n in ("plain", "multi") for k in range(len(conns))]
                  + [f"seq-{3 * k + 1:010}" for k in range(len(conns))]), conn.children("/w")[0], f"children on member {i + 1}")
        eq(3 * len(conns), conn.get("/w")[1].cversion, "child changes")
        conn.close_session()
    same_everywhere(e)


def same_everywhere(e):
    """Trees, stats and zxids are alike on all members."""
    wanted = tree_of(e.leader())
    for m in e.members:
        eq(wanted, tree_of(m), f"tree of {m.name}")
    eventually(1, lambda: len({zxid_of(m) for m in e.members}), 20, "members at the same zxid")


def events_cross_members(e):
    writer = connect(e.member(1))
    writer.create("/events")
    watchers = [connect(m) for m in e.members]
    for conn in watchers:
        sync(conn)
        conn.call("getData", ustr("/events") + zk.boolean(True))
    writer.set("/events", b"new")
    for conn in watchers:
        frame = zk.Reader(conn.read_frame())
        eq(zk.NOTIFICATION_XID, frame.i32(), "a watch event is next")
        frame.i64(), frame.i32()
        eq((3, 3, "/events"), (frame.i32(), frame.i32(), frame.ustr()), "NodeDataChanged")
        eq(b"new", conn.get("/events")[0], "the data that the event announces")
        conn.close_session()
    writer.delete("/events")
    writer.close_session()


def ephemerals_of_every_member(e):
    owners = [connect(m) for m in e.members]
    seer = connect(e.leader())
    seer.create("/eph")
    for i, conn in enumerate(owners):
        sync(conn)
        conn.create(f"/eph/{i}", flags=EPHEMERAL)
        sync(seer)
        eq(conn.sid, seer.get(f"/eph/{i}")[1].owner, "owner")
    for conn in owners:
        conn.close_session()
    sync(seer)
    eq([], seer.children("/eph")[0], "gone with their sessions")
    # One that is not closed, and not heard any more.
    silent = connect(e.members[0], timeout=1500)
    silent.create("/eph/silent", flags=EPHEMERAL)
    eventually([], lambda: (sync(seer), seer.children("/eph")[0])[1], 30, "children when the session has expired")
    try:
        moved(silent, e.members[-1])
        raise Failed("an expired session was resumed")
    except zk.ZkError as refused:
        eq(-112, refused.code, "SessionExpired")
    seer.delete("/eph")
    seer.close_session()


def a_session_moves_over_all_members(e):
    conn = connect(e.member(1))
    sid = conn.sid
    conn.create("/moves", flags=EPHEMERAL)
    for m in [*e.members, *reversed(e.members)]:
        left, conn = conn, moved(conn, m)
        eq(sid, conn.sid, f"the session on {m.name}")
        eq(sid, conn.get("/moves")[1].owner, "its ephemeral")
        conn.set("/moves", m.name.encode())
        eq(m.name.encode(), conn.get("/moves")[0], "its own write")
    eq(2 * len(e.members), conn.get("/moves")[1].version, "every write once")
    left.drop()
    conn.close_session()
    seer = connect(e.leader())
    sync(seer)
    eq(None, seer.exists("/moves"), "the ephemeral of the closed session")
    seer.close_session()


def a_sync_makes_a_read_fresh(e):
    """A read behind a sync sees every write that was acknowledged before the sync was sent, through any two members. The two are sent
    together, but for clients of an Apache leader, which answers them too early."""
    conns = [connect(m) for m in e.members]
    conns[0].create("/fresh")
    for reader in conns:
        for n, writer in enumerate(c for c in conns * 5 if c is not reader):
            sync(writer)
            stat = writer.set("/fresh", f"{n}".encode())
            if reader.member.kind == "apache" and reader.member.mode() == "leader":
                sync(reader)
            else:
                reader.post("sync", ustr("/"))
            asked = reader.post("getData", ustr("/fresh") + zk.boolean(False))
            xid, zxid, error, body = next(got for got in iter(reader.take, None) if got[0] == asked)
            eq((0, f"{n}".encode(), stat.mzxid), (error, body.buf(), body.stat().mzxid), f"read through {reader.member.name}")
            yes(zxid >= stat.mzxid, f"zxid {zxid:#x} of the answer is not before the write's, {stat.mzxid:#x}")
    conns[0].delete("/fresh")
    for conn in conns:
        conn.close_session()


def a_write_that_cannot_be_decoded_stops_nothing(e):
    """It is refused in its place. Left out through Apache members of an Apache leader, which would commit nothing more after it."""
    seer = connect(e.leader())
    seer.create("/cut")
    for m in e.members:
        if (m.kind, e.leader().kind) == ("apache", "apache"):
            continue
        conn = connect(m)
        whole = {"create": zk.create("/cut/never", b"never"), "setData": ustr("/cut") + zk.buf(b"never") + zk.i32(-1),
                 "multi": multi_op("create", zk.create("/cut/never")) + MULTI_END}
        for op, body in whole.items():
            before = conn.set("/cut", m.name.encode())
            posted = [conn.post(op, body[:-2]), conn.post("setData", ustr("/cut") + zk.buf(b"after") + zk.i32(-1))]
            answers = [conn.take() for _ in posted]
            eq([(posted[0], -5), (posted[1], 0)], [(xid, error) for xid, _, error, _ in answers], f"{op} through {m.name}")
            yes(before.mzxid < answers[0][1] < answers[1][1], "each answer has a zxid of its own")
        eq([], conn.children("/cut")[0], "what was refused")
        conn.close_session()
    seer.delete("/cut")
    seer.close_session()


def the_leader_is_killed(e):
    seer = connect(e.followers()[0])
    seer.create("/kept", b"acknowledged")
    seer.create("/kept/owned", flags=EPHEMERAL)
    old = e.leader()
    old.kill()
    new = e.leader()
    yes(new is not old, "another member leads")
    e.await_serving([m for m in e.members if m is not old])
    seer = moved(seer, e.followers()[0])
    sync(seer)
    eq(b"acknowledged", seer.get("/kept")[0], "an acknowledged write")
    eq(seer.sid, seer.get("/kept/owned")[1].owner, "the ephemeral of a living session")
    seer.create("/kept/after", b"the change")
    old.launch()
    e.await_serving([old])
    seer = moved(seer, old)
    sync(seer)
    eq(["after", "owned"], seer.children("/kept")[0], "on the member that came back")
    seer.close_session()
    same_everywhere(e)


EXERCISES = [writes_through_every_member, a_sync_makes_a_read_fresh, events_cross_members, ephemerals_of_every_member,
             a_session_moves_over_all_members, a_write_that_cannot_be_decoded_stops_nothing, creates_with_flags_of_another_opcode]


def company(suite, kinds, observers=(), leader=None):
    """An ensemble in this mix does all that an ensemble does. Member `leader` leads at first."""
    voters = [i for i in range(1, len(kinds) + 1) if i not in observers]
    leader = leader or voters[-1]
    watching = "".join(f"-{LETTER[kinds[o - 1]]}-observes" for o in observers)
    name = f"{letters(kinds[v - 1] for v in voters)}-led-by-{LETTER[kinds[leader - 1]]}{watching}"
    exercises = EXERCISES if observers else [*EXERCISES, the_leader_is_killed]
    in_ensemble(suite, name, kinds, [(f.__name__, f) for f in exercises], observers, leader)


def in_ensemble(suite, name, kinds, tests, observers=(), leader=None, extra="", props=()):
    """Runs tests one after the other in one ensemble."""
    tests = [(f"{name}.{test.replace('_', '-')}", body) for test, body in tests]
    if not any(suite.wants(test) for test, _ in tests):
        return
    with Ensemble(name, kinds, observers, extra, props) as e:
        try:
            e.start(leader)
        except Exception as problem:  # noqa: BLE001: a failed test
            suite.verdict(f"{name}.start", f"{type(problem).__name__}: {problem}")
            return
        for test, body in tests:
            suite.test(test, lambda body=body: body(e))


# --- an observer without a log ---

NO_LOG = "syncEnabled=false\n"


def has_log(member):
    return bool(glob.glob(os.path.join(member.data, "version-2", "log.*")))


class WithoutLog:
    """Member 4 observes with `syncEnabled=false`, to which the others, who vote, do not listen."""

    def __init__(self, e):
        self.e, self.observer, self.others = e, e.member(4), e.members[:3]

    def some_writes(self, name):
        conn = connect(self.e.leader())
        conn.create(f"/{name}")
        for i in range(20):
            conn.create(f"/{name}/{i}", str(i).encode())
        conn.delete(f"/{name}/7")
        conn.close_session()
        same_everywhere(self.e)

    def writes_nothing(self):
        self.some_writes("first")
        eq([True, True, True, False], [has_log(m) for m in self.e.members], "whether it has a log")

    def comes_back(self):
        """Stopped, and killed; with what was missed or without."""
        owner = connect(self.observer)
        owner.create("/owned", flags=EPHEMERAL)
        for end in (self.observer.stop, self.observer.kill):
            for missed in (True, False):
                end()
                if missed:
                    conn = connect(self.e.leader())
                    conn.set("/owned", end.__name__.encode())
                    conn.close_session()
                self.observer.launch()
                self.e.await_serving([self.observer])
                owner = moved(owner, self.observer)
                eq((end.__name__.encode(), owner.sid), (lambda node: (node[0], node[1].owner))(owner.get("/owned")), "its ephemeral")
                same_everywhere(self.e)
        owner.close_session()
        eq(False, has_log(self.observer), "whether it has a log")

    def its_leader_changes(self):
        old = self.e.leader()
        old.kill()
        self.e.await_serving([m for m in self.e.members if m is not old])
        conn = connect(self.observer)
        conn.create("/through-the-observer", b"under another leader")
        conn.close_session()
        old.launch()
        self.e.await_serving([old])
        same_everywhere(self.e)

    def gets_a_log_and_loses_it(self):
        """As either kind of server on the same directory."""
        ours = self.observer.kind
        other = "zabra" if ours == "apache" else "apache"
        for step, (kind, extra) in enumerate([(other, ""), (ours, NO_LOG), (ours, ""), (other, NO_LOG), (ours, NO_LOG)]):
            self.e.extra = extra
            self.e.restart(self.observer, kind)
            self.some_writes(f"step-{step}")
            yes(extra or has_log(self.observer), "it has a log")
            self.observer.kill()
            self.observer.launch()
            self.e.await_serving([self.observer])
            same_everywhere(self.e)


def without_log(suite, kinds):
    tests = [(test, lambda e, test=test: getattr(WithoutLog(e), test)())
             for test in ("writes_nothing", "comes_back", "its_leader_changes", "gets_a_log_and_loses_it")]
    name = f"{LETTER[kinds[3]]}-observes-without-a-log-led-by-{LETTER[kinds[2]]}"
    in_ensemble(suite, name, kinds, tests, observers=[4], leader=3, extra=NO_LOG)


# --- catching up ---

# What Apache's leader and learner log. Of a TRUNC to one that has more than itself the leader says nothing but that it begins.
APACHE_SAYS = {
    "leader": {"DIFF": "Sending DIFF zxid", "SNAP": "Sending snapshot last zxid"},
    "learner": {"DIFF": "Getting a diff from the leader", "TRUNC": "Truncating log to get in sync", "SNAP": "Getting a snapshot from leader"},
}


class Learner:
    """Member 3 goes away and comes back to members 1 and 2, one of which leads. At least one side is Apache, which logs how."""

    def __init__(self, e):
        self.e, self.learner, self.others = e, e.member(3), [e.member(1), e.member(2)]

    def comes_back(self, way):
        leader = self.e.leader()
        witness, side = (self.learner, "learner") if self.learner.kind == "apache" else (leader, "leader")
        eq("apache", witness.kind, "the one whose log says how")
        mark = len(witness.text()) if witness.log.exists() else 0
        self.learner.launch()
        self.e.await_serving([self.learner])
        said = witness.said_since(mark)
        used = [w for w, text in APACHE_SAYS[side].items() if text in said]
        if side == "leader" and not used and "Synchronizing with Learner sid: 3" in said:
            used = ["TRUNC"]
        eq([way], used, f"how {self.learner.name} caught up")
        same_everywhere(self.e)

    def trunc(self):
        """It led, and logged a proposal that nobody else has."""
        eq(3, self.e.leader().sid, "leader at first")
        conn = connect(self.learner)
        conn.create("/trunc", b"committed")
        for m in self.others:
            m.freeze()
        conn.post("create", zk.create("/trunc/never", b"proposed only"))
        eventually(True, lambda: in_logs(self.learner, b"/trunc/never"), 20, "the proposal is in the leader's log")
        for m in self.others:
            m.kill()
        self.learner.kill()
        conn.drop()
        for m in self.others:
            m.launch()
        self.e.await_serving(self.others)
        # No transaction of the new epoch is there yet, not even a session's: with one, Apache sends a snapshot instead.
        self.comes_back("TRUNC")
        for m in self.e.members:
            conn = connect(m)
            sync(conn)
            eq([], conn.children("/trunc")[0], f"the proposal that was never committed, on {m.name}")
            conn.close_session()

    def diff(self):
        """It missed a little."""
        self.learner.stop()
        conn = connect(self.e.leader())
        conn.create("/diff")
        for i in range(20):
            conn.create(f"/diff/{i}", str(i).encode())
        conn.delete("/diff/7")
        conn.close_session()
        self.comes_back("DIFF")

    def snap(self):
        """Its directory is empty."""
        self.learner.stop()
        self.learner.wipe()
        conn = connect(self.e.leader())
        conn.create("/snap", b"in the snapshot")
        conn.create("/snap/owned", flags=EPHEMERAL)
        self.comes_back("SNAP")
        conn = moved(conn, self.learner)
        eq(conn.sid, conn.get("/snap/owned")[1].owner, "the ephemeral on the member with the snapshot")
        conn.close_session()

    def diff_after_snap(self):
        """What it got as a snapshot it has on its disk."""
        self.learner.kill()
        conn = connect(self.e.leader())
        conn.create("/snap/later")
        conn.close_session()
        self.comes_back("DIFF")


def in_logs(member, text):
    for file in glob.glob(os.path.join(member.data, "version-2", "log.*")):
        with open(file, "rb") as f:
            if text in f.read():
                return True
    return False


def catching_up(suite, learner, others):
    tests = [(test, lambda e, test=test: getattr(Learner(e), test)()) for test in ("trunc", "diff", "snap", "diff_after_snap")]
    in_ensemble(suite, f"{LETTER[learner]}-catches-up-with-{LETTER[others]}", [others, others, learner], tests, leader=3)


# --- moving a running ensemble ---

def in_order(e):
    """The members in the order in which they are exchanged."""
    return [*e.followers(), e.leader()]


def live_move(suite, there, back):
    """README's recipe: one member at a time is stopped and started as the other kind with the same configuration and data, the leader
    last, under load; then all go back. Nothing acknowledged is lost, and nothing is deleted before it is due."""
    def move():
        with Ensemble(f"move-{LETTER[back]}-{LETTER[there]}", [back] * 3, props=LASTING_PROPS) as e:
            e.start()
            lasting = Lasting(e)
            with Load(e) as load:
                load.goes_on()
                for step, (kind, m) in enumerate((kind, m) for kind in (there, back) for m in in_order(e)):
                    e.restart(m, kind)
                    load.goes_on()
                    lasting.after_step(step)
                eq([back] * 3, [m.kind for m in e.members], "all moved back")
            load.check()
            lasting.check()
            same_everywhere(e)
    suite.test(f"move-{LETTER[back]}{LETTER[there]}{LETTER[back]}.under-load", move)


def kills_under_load(suite, kinds):
    """The leader, then a follower, is killed or stopped for longer than the others wait for it."""
    def body(e):
        with Load(e) as load:
            load.goes_on()
            for pick in (lambda: e.leader(), lambda: e.followers()[0]):
                victim = pick()
                victim.kill()
                load.goes_on()
                victim.launch()
                e.await_serving([victim])
                victim = pick()
                victim.freeze()
                load.goes_on(some=True)
                time.sleep(6)  # longer than syncLimit
                victim.thaw()
                e.await_serving(e.members)
                load.goes_on()
        load.check()
        same_everywhere(e)
    in_ensemble(suite, f"{letters(kinds)}", kinds, [("kills-and-pauses-under-load", body)])


def every_role(suite, kind):
    """A leader, a follower and an observer of one kind let their clients do the same."""
    tests = [(role, of_role(sid)) for role, sid in (("leader", 3), ("follower", 1), ("observer", 4))]
    in_ensemble(suite, f"roles-{LETTER[kind]}", [kind] * 4, tests, observers=[4], leader=3, props=LASTING_PROPS)


def kazoo(suite, kinds, at):
    """kazoo's tests through one member, but for the one that wants a standalone server."""
    in_ensemble(suite, f"kazoo-{letters(kinds)}-at-{at}", kinds,
                [("ran", lambda e: run_against(f"127.0.0.1:{e.member(at).port}", suite, f"kazoo-{letters(kinds)}-at-{at}.", without=[commands]))])


def main():
    target = sys.argv[1]
    suite = interop.Suite("ensemble", target)
    if target == "apache":
        company(suite, ["apache"] * 3)
        company(suite, ["apache"] * 3, observers=[3])
        without_log(suite, ["apache"] * 4)
        every_role(suite, "apache")
        catching_up(suite, "apache", "apache")
        live_move(suite, "apache", "apache")
        kills_under_load(suite, ["apache"] * 3)
        read_only(suite, ["apache"] * 3, left=1)
    else:
        every_role(suite, "zabra")
        company(suite, ["zabra", "zabra", "apache"])
        company(suite, ["apache", "apache", "zabra"])
        company(suite, ["zabra", "apache", "zabra"])
        company(suite, ["apache", "zabra", "apache"])
        # A leader of either kind with a follower of the other kind and an observer of each.
        company(suite, ["apache", "zabra", "apache", "zabra"], observers=[3, 4])
        company(suite, ["zabra", "apache", "zabra", "apache"], observers=[3, 4])
        tests = [a_create_that_stops_apache_stops_nobody_else, same_everywhere]
        in_ensemble(suite, "zza-with-a-create-that-stops-a", ["zabra", "zabra", "apache"], [(f.__name__, f) for f in tests], leader=3)
        without_log(suite, ["zabra", "apache", "zabra", "zabra"])
        without_log(suite, ["zabra", "apache", "apache", "zabra"])
        catching_up(suite, "zabra", "apache")
        catching_up(suite, "apache", "zabra")
        live_move(suite, "zabra", "apache")
        kills_under_load(suite, ["zabra", "apache", "zabra"])
        read_only(suite, ["zabra", "apache", "zabra"], left=1)
        read_only(suite, ["apache", "apache", "zabra"], left=3)
        read_only(suite, ["zabra"] * 3, left=2, lines="")
        kazoo(suite, ["zabra", "zabra", "apache"], at=2)
    suite.end()


if __name__ == "__main__":
    main()
