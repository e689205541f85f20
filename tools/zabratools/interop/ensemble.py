"""Ensembles of Apache and Zabra members on loopback ports, in any mix. A member keeps its data and its ports when it is started
again, also as the other kind of server."""

import os
import re
import shutil
import signal
import time

from zabratools import wire as zk
from zabratools.interop import suite as interop
from zabratools.interop.suite import Failed, eventually
from zabratools.launch import command
from zabratools.server import word

# Generous: two CPUs carry three servers, a load and other suites. With zoo.cfg.in's ticks of 500 ms a follower may be silent for 5 s.
LINES = "initLimit=40\nsyncLimit=10\nstandaloneEnabled=false\n"
PATIENCE = 60
MODE = re.compile(r"^Mode: (\w+)", re.MULTILINE)
ZXID = re.compile(r"^Zxid: 0x([0-9a-f]+)", re.MULTILINE)


def mode_of(port):
    """`leader`, `follower`, `observer`; None while it does not serve."""
    try:
        found = MODE.search(word(port, "srvr", 5))
    except OSError:
        return None
    return found and found.group(1)


def zxid_of(member):
    """The last transaction that this member has applied; 0 while it does not serve."""
    try:
        found = ZXID.search(word(member.port, "srvr", 5))
    except OSError:
        return 0
    return int(found.group(1), 16) if found else 0


def state_of(thread):
    with open(f"/proc/{thread}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


class Member(interop.Server):
    def __init__(self, ensemble, sid, kind, is_observer):
        super().__init__(kind, f"{ensemble.name}-{sid}", props=ensemble.props)
        self.ensemble, self.sid, self.is_observer = ensemble, sid, is_observer
        self.quorum_port, self.election_port = interop.free_port(), interop.free_port()
        self.serves = lambda port: mode_of(port) is not None
        # Lines of its zoo.cfg that no other member has.
        self.own_lines = ""
        self.write_id()

    def write_id(self):
        with open(os.path.join(self.data, "myid"), "w") as f:
            f.write(f"{self.sid}\n")

    def line(self):
        return f"server.{self.sid}=127.0.0.1:{self.quorum_port}:{self.election_port}" + (":observer" if self.is_observer else "")

    def become(self, kind):
        """The kind of server that the next start starts."""
        self.kind = kind
        self.name = f"{kind} ({self.ensemble.name}-{self.sid})"
        self.command = [str(c) for c in command(kind, self.config, self.ensemble.props)]

    def spawn(self):
        peer_type = "peerType=observer\n" if self.is_observer else ""
        self.extra = LINES + peer_type + "".join(m.line() + "\n" for m in self.ensemble.members) + self.ensemble.extra + self.own_lines
        super().spawn()

    def mode(self):
        return mode_of(self.port)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def freeze(self):
        """Stops the process, and returns when no thread of it runs any more: the signal alone says nothing about when."""
        self.process.send_signal(signal.SIGSTOP)
        eventually(set("T"), lambda: set(state_of(thread) for thread in os.listdir(f"/proc/{self.pid}/task")), 20, f"threads of {self.name}")

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def wipe(self):
        """Removes all its data but `myid`."""
        shutil.rmtree(self.data)
        os.makedirs(self.data)
        self.write_id()

    def said_since(self, mark):
        """What it has logged since `mark`, a length of its log."""
        return self.text()[mark:]


class Ensemble:
    """Members 1, 2, … of these kinds. `observers` are ids."""

    def __init__(self, name, kinds, observers=(), extra="", props=()):
        self.name, self.extra, self.props = name, extra, list(props)
        self.members = []
        for sid, kind in enumerate(kinds, 1):
            self.members.append(Member(self, sid, kind, sid in observers))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.kill()

    def member(self, sid):
        return self.members[sid - 1]

    def hosts(self):
        return ",".join(f"127.0.0.1:{m.port}" for m in self.members)

    def start(self, leader=None, patience=PATIENCE):
        """Starts all members and waits until they serve. On empty directories `leader`, which must be the highest voting id, leads:
        it is the first of a quorum."""
        voters = [m for m in self.members if not m.is_observer]
        first = voters[:]
        if leader is not None:
            chosen = self.member(leader)
            others = [m for m in voters if m is not chosen]
            first = [chosen, *others[:len(voters) // 2]]
        for m in first:
            m.launch()
        self.await_serving(first, patience)
        rest = [m for m in self.members if m not in first]
        for m in rest:
            m.launch()
        self.await_serving(self.members, patience)
        if leader is not None and self.leader().sid != leader:
            raise Failed(f"member {leader} was to lead, but {self.leader().sid} does")
        return self

    def await_serving(self, members, patience=PATIENCE):
        """Waits until these members serve and one of the ensemble leads."""
        end = time.monotonic() + patience
        while True:
            for m in members:
                m.check()
            modes = {m.sid: m.mode() for m in members}
            if all(modes.values()) and self.find_leader():
                return
            if time.monotonic() > end:
                raise Failed(f"{self.name}: not all serve after {patience} s: {modes}")
            time.sleep(0.05)

    def find_leader(self):
        """The member that leads, or None."""
        leading = [m for m in self.members if m.runs() and m.mode() == "leader"]
        return leading[0] if len(leading) == 1 else None

    def leader(self, patience=PATIENCE):
        """The member that leads, once there is one."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            found = self.find_leader()
            if found:
                return found
            time.sleep(0.05)
        raise Failed(f"{self.name}: no leader after {patience} s")

    def followers(self):
        leader = self.leader()
        return [m for m in self.members if m is not leader and m.runs() and not m.is_observer]

    def restart(self, member, kind=None):
        """Stops a member, and starts it again, as the other kind if one is named."""
        member.stop()
        if kind:
            member.become(kind)
        member.launch()
        self.await_serving([member])


def connect(member, patience=PATIENCE, **session):
    """A session on this member; waits while it does not serve."""
    end = time.monotonic() + patience
    while True:
        try:
            conn = zk.Conn(member.port, **session)
            conn.member = member
            return conn
        except (OSError, ConnectionError) as e:
            if time.monotonic() > end:
                raise Failed(f"no connection to {member.name} within {patience} s: {e}") from None
            time.sleep(0.05)


def moved(conn, member):
    """The same session, now on this member."""
    conn.drop()
    return connect(member, timeout=conn.timeout, sid=conn.sid, passwd=conn.passwd, last_zxid=getattr(conn, "last_zxid", 0))


def sync(conn):
    """What comes next on this connection sees every write that was acknowledged before. Apache's leader answers the syncs of its own
    clients at once, though it may not have applied yet what a follower has already acknowledged: there the zxids say when."""
    conn.call("sync", zk.ustr("/"))
    member = conn.member
    if member.kind == "apache" and member.mode() == "leader":
        newest = max(zxid_of(m) for m in member.ensemble.members if m.runs())
        eventually(True, lambda: zxid_of(member) >= newest, 20, f"{member.name} has applied {newest:#x}")


def tree_of(member):
    """Every znode with data and stat, as the member has it after a sync."""
    conn = connect(member)
    conn.auth("digest", b"super:interop")
    sync(conn)
    found = {}

    def visit(path):
        data, stat = conn.get(path)
        found[path] = (data, stat)
        for name in conn.children(path)[0]:
            visit(path.rstrip("/") + "/" + name)
    for name in conn.children("/")[0]:
        if name != "zookeeper":
            visit("/" + name)
    conn.close_session()
    return found
