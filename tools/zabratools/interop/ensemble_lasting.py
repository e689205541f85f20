"""Znodes that a leader deletes by itself: with a time to live, and containers. In an ensemble whose members are exchanged they stay until
they are due, and go then, whatever kind of server leads."""

from zabratools import wire as zk
from zabratools.interop.ensemble import connect, sync
from zabratools.interop.suite import eq, eventually

# The leader looks this often (ms).
PROPS = ["-Dznode.container.checkIntervalMs=200"]
CONTAINER, TTL, TTL_SEQUENTIAL = 4, 5, 6
LONG, SHORT = 36_000_000, 300
PATIENCE = 40


def create_ttl(conn, path, ttl, flags=TTL):
    return conn.call("createTTL", zk.create_ttl(path, ttl, b"lives", flags=flags)).ustr()


def create_container(conn, path):
    conn.create(path, b"holds", flags=CONTAINER, op="createContainer")


class Lasting:
    """`/lasting/…` are znodes that stay; those of `due` are kept by a child only."""

    def __init__(self, ensemble):
        self.ensemble = ensemble
        conn = connect(ensemble.leader())
        conn.create("/lasting")
        create_ttl(conn, "/lasting/hours", LONG)
        numbered = create_ttl(conn, "/lasting/hours-", LONG, TTL_SEQUENTIAL)
        create_ttl(conn, "/lasting/held", SHORT)
        for box in ("box", "never-used"):
            create_container(conn, f"/lasting/{box}")
        self.due = ["/lasting/held", "/lasting/box"]
        for path in self.due:
            conn.create(f"{path}/child")
        paths = ["/lasting/hours", numbered, "/lasting/never-used", *self.due, *(f"{p}/child" for p in self.due)]
        self.kept = {path: conn.get(path) for path in paths}
        conn.close_session()

    def after_step(self, number):
        """Under this leader, what is due goes and everything else stays as it was."""
        conn = connect(self.ensemble.leader())
        due, box = f"/lasting/due-{number}", f"/lasting/box-{number}"
        create_ttl(conn, due, SHORT)
        create_container(conn, box)
        conn.create(f"{box}/child")
        conn.delete(f"{box}/child")
        for path in (due, box):
            eventually(None, lambda path=path: conn.exists(path), PATIENCE, f"{path} under {self.ensemble.leader().name}")
        for path, wanted in self.kept.items():
            eq(wanted, conn.get(path), f"{path} under {self.ensemble.leader().name}")
        conn.close_session()

    def check(self):
        """What was kept by a child goes when that has gone; on every member."""
        conn = connect(self.ensemble.leader())
        for path in self.due:
            conn.delete(f"{path}/child")
        for path in self.due:
            eventually(None, lambda path=path: conn.exists(path), PATIENCE, f"{path} without its child")
        conn.close_session()
        gone = {*self.due, *(f"{p}/child" for p in self.due)}
        for m in self.ensemble.members:
            conn = connect(m)
            sync(conn)
            left = ["/lasting/" + name for name in conn.children("/lasting")[0]]
            eq(sorted(p for p in self.kept if p not in gone), left, f"what stays on {m.name}")
            for path in left:
                eq(self.kept[path], conn.get(path), f"{path} on {m.name}")
            conn.close_session()
