"""Clients that write to an ensemble while its members come and go, and know what was acknowledged to them."""

import logging
import threading
import time

from kazoo import exceptions as ke
from kazoo.client import KazooClient, KazooState
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.security import make_digest_acl

from zabratools import wire as zk
from zabratools.interop.ensemble import connect, sync
from zabratools.interop.suite import Failed, eq, yes

logging.getLogger("kazoo").setLevel(logging.CRITICAL)

CLIENTS = 3
# No session may expire, however long a change takes on a busy machine. A client on a frozen member leaves it after two thirds of this.
SESSION_SECONDS = 20
PATIENCE = 60
# Errors after which nobody knows whether the write was done.
UNKNOWN = (ke.ConnectionLoss, ke.OperationTimeoutError, ke.SessionMovedError, KazooTimeoutError)


class Writer:
    """A client that creates znodes, counts up, and creates what the watcher waits for."""

    def __init__(self, number, hosts, watcher):
        self.number, self.watcher = number, watcher
        self.root = f"/load/{number}"
        self.created, self.unknown = [], set()
        self.counted, self.rounds = 0, 0
        self.lost, self.problem = False, None
        self.client = KazooClient(hosts=hosts, timeout=SESSION_SECONDS, randomize_hosts=False,
                                  connection_retry={"max_tries": -1, "max_delay": 0.5})
        self.client.add_listener(self.on_state)
        self.client.start(timeout=PATIENCE)
        self.session = self.client.client_id[0]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.stopping = False

    def on_state(self, state):
        # Called when the client is stopped, too.
        if state == KazooState.LOST and not self.stopping:
            self.lost = True

    def retry(self, call):
        """Repeats what may be repeated."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except UNKNOWN:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def begin(self):
        c = self.client
        for path in (self.root, f"{self.root}/counter"):
            self.retry(lambda path=path: c.ensure_path(path))
        c.create(f"{self.root}/owned", b"", ephemeral=True)
        c.create(f"{self.root}/private", b"", acl=[make_digest_acl("load", "pw", all=True)])
        self.thread.start()

    def run(self):
        try:
            while not self.stopping:
                self.one_round()
                self.rounds += 1
        except Exception as e:  # noqa: BLE001: the test looks at it
            if not self.stopping:
                self.problem = f"writer {self.number}: {type(e).__name__}: {e}"

    def one_round(self):
        path = f"{self.root}/n{self.rounds}"
        try:
            self.client.create(path, str(self.rounds).encode())
            self.created.append(path)
        except UNKNOWN:
            self.unknown.add(path)
        self.count_up()
        awaited = self.watcher.awaited
        if awaited is not None:
            try:
                self.client.create(awaited)
            except (ke.NodeExistsError, *UNKNOWN):
                pass  # another writer was faster, or a later round tries again

    def count_up(self):
        """Sets the counter to the next number, against its version: a lost or a repeated write would show."""
        path = f"{self.root}/counter"
        wanted = self.counted + 1
        while True:
            try:
                self.client.set(path, str(wanted).encode(), version=self.counted)
                break
            except UNKNOWN:
                continue
            except ke.BadVersionError:
                # An attempt whose answer was lost was done.
                data, stat = self.retry(lambda: self.client.get(path))
                if (data, stat.version) != (str(wanted).encode(), wanted):
                    raise Failed(f"counter {self.number}: {data} with version {stat.version}, {wanted} was set") from None
                break
        self.counted = wanted

    def end(self):
        self.stopping = True
        self.thread.join(PATIENCE)
        self.client.stop()
        self.client.close()


class Watcher:
    """A session that waits for one znode after the other to appear. When its connection is lost it goes to the next member and sets
    its watch again, as clients do. The event has to come, whatever has happened meanwhile."""

    def __init__(self, members):
        self.members, self.at = members, 0
        self.rounds, self.awaited, self.problem, self.stopping = 0, None, None, False
        self.conn = connect(members[0], timeout=SESSION_SECONDS * 1000)
        self.session, self.seen_zxid = self.conn.sid, 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.stopping:
                self.one_event(f"/load/watched-{self.rounds}")
                self.rounds += 1
        except Exception as e:  # noqa: BLE001: the test looks at it
            if not self.stopping:
                self.problem = f"watcher: {type(e).__name__}: {e}"

    def one_event(self, path):
        asked = None
        while not self.stopping:
            try:
                if asked is None:
                    # If the answer is lost, the next connection sets the watch.
                    asked = self.conn.xid + 1
                    self.conn.post("exists", zk.ustr(path) + zk.boolean(True))
                xid, event = self.next_frame()
                if xid == asked:
                    self.awaited = path
                if event == path:
                    self.awaited = None
                    return
            except (OSError, ConnectionError):
                self.move_on(path)
                asked, self.awaited = -1, path

    def next_frame(self):
        """The xid of what came next, and the path if that is an event. Pings while nothing comes."""
        self.conn.sock.settimeout(2)
        try:
            frame = self.conn.read_frame()
        except TimeoutError:
            self.conn.sock.sendall(zk.frame(zk.header(zk.PING_XID, "ping")))
            self.conn.sock.settimeout(SESSION_SECONDS / 2)
            frame = self.conn.read_frame()
        if frame is None:
            raise ConnectionError("closed")
        r = zk.Reader(frame)
        xid, zxid, _ = r.i32(), r.i64(), r.i32()
        self.seen_zxid = max(self.seen_zxid, zxid)
        if xid != zk.NOTIFICATION_XID:
            return xid, None
        kind, _, path = r.i32(), r.i32(), r.ustr()
        eq(1, kind, f"NodeCreated {path}")
        return xid, path

    def move_on(self, path):
        """The same session on the next member that takes it."""
        self.conn.drop()
        end = time.monotonic() + PATIENCE
        while not self.stopping:
            self.at = (self.at + 1) % len(self.members)
            try:
                self.conn = zk.Conn(self.members[self.at].port, timeout=SESSION_SECONDS * 1000, sid=self.session,
                                    passwd=zk.password_of(self.session), last_zxid=self.seen_zxid, patience=SESSION_SECONDS / 2)
                self.conn.sock.sendall(zk.frame(zk.header(zk.SET_WATCHES_XID, "setWatches") + zk.i64(self.seen_zxid)
                                                + zk.vec([]) + zk.vec([path]) + zk.vec([])))
                return
            except (OSError, ConnectionError) as e:
                if time.monotonic() > end:
                    raise Failed(f"no member takes the session within {PATIENCE} s: {e}") from None
                time.sleep(0.05)


class Load:
    def __init__(self, ensemble):
        self.ensemble = ensemble
        self.watcher, self.writers = None, []

    def __enter__(self):
        try:
            self.watcher = Watcher(self.ensemble.members)
            hosts = self.ensemble.hosts().split(",")
            for number in range(CLIENTS):
                # Each begins with another member.
                turned = ",".join(hosts[number:] + hosts[:number])
                self.writers.append(Writer(number, turned, self.watcher))
            for w in self.writers:
                w.begin()
            self.watcher.thread.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind, *_):
        # Sessions end in `check`, which looks at what they own.
        if kind is not None:
            self.end()

    def end(self):
        for w in self.writers:
            w.end()
        if self.watcher:
            self.watcher.stopping = True
            self.watcher.conn.drop()

    def goes_on(self, rounds=20, some=False):
        """Waits until every client (or `some`, one at least) has made so many rounds more; the watcher makes one if all do."""
        of = [*self.writers, self.watcher]
        began = [c.rounds for c in of]
        wanted = [n + rounds for n in began[:-1]] + [began[-1] + 1]
        end = time.monotonic() + PATIENCE
        while True:
            done = [c.rounds >= n for c, n in zip(of, wanted)]
            if (any(done[:-1]) if some else all(done)):
                return
            for c in of:
                if c.problem:
                    raise Failed(c.problem)
            if time.monotonic() > end:
                raise Failed(f"no progress within {PATIENCE} s: rounds {[c.rounds for c in of]}, wanted {wanted}")
            time.sleep(0.02)

    def check(self):
        """Nothing acknowledged is lost and no session has ended; on every member."""
        self.watcher.stopping = True
        for w in self.writers:
            w.stopping = True
        for w in self.writers:
            w.thread.join(PATIENCE)
            yes(not w.thread.is_alive(), f"writer {w.number} has stopped")
            eq(None, w.problem, f"writer {w.number}")
            eq((False, w.session), (w.lost, w.client.client_id[0]), f"session of writer {w.number}")
        self.watcher.thread.join(PATIENCE)
        eq((None, False), (self.watcher.problem, self.watcher.thread.is_alive()), "watcher")
        try:
            for m in self.ensemble.members:
                conn = connect(m)
                sync(conn)
                for w in self.writers:
                    self.check_writer(conn, w, m.name)
                conn.close_session()
        finally:
            self.end()

    @staticmethod
    def check_writer(conn, w, where):
        names = set(conn.children(w.root)[0])
        missing = [p for p in w.created if p.rsplit("/", 1)[1] not in names]
        eq([], missing, f"acknowledged and lost on {where}")
        extra = {f"{w.root}/{n}" for n in names if n.startswith("n")} - set(w.created) - w.unknown
        eq(set(), extra, f"never written, but on {where}")
        data, stat = conn.get(f"{w.root}/counter")
        yes(stat.version == w.counted and data == str(w.counted).encode(), f"counter on {where}: {data}, {stat.version}, not {w.counted}")
        eq(w.session, conn.get(f"{w.root}/owned")[1].owner, f"ephemeral of writer {w.number} on {where}")
        try:
            conn.get(f"{w.root}/private")
            raise Failed(f"an ACL is lost on {where}")
        except zk.ZkError as refused:
            eq(-102, refused.code, f"NoAuth on {where}")
