"""The suites of Curator, kazoo, the Go, the C and the Node.js client against an ensemble of three.

clients_suite.py apache|zabra GO C NODE_SCRIPT JAVA...

`zabra` is two Zabra members, one of which leads, and one Apache member. The suites run through the Zabra follower, through the Apache
follower, and with a connect string of all three members. `apache` is the control: three Apache members. JAVA... is the command of
`interop.CuratorMain`.
"""

import os
import re
import subprocess
import sys
import threading
import time

from zabratools import wire as zk
from zabratools.interop import kazoo_suite
from zabratools.interop import suite as interop
from zabratools.interop.ensemble import Ensemble, connect
from zabratools.interop.program_suite import Program, Relay

# Containers and TTL znodes are deleted within a test's time limit.
PROPS = ["-Dznode.container.checkIntervalMs=200"]
LEADER = 3
# Longest time for all of Curator's tests (s).
CURATOR_SECONDS = 600
# A Java process takes the ports of its relays from a part of the suite's own.
JAVA_PORTS = 100
LINE = re.compile(r"(PASS|FAIL) \S+ (\S+) \((\d+\.\d) s\)(?:: (.*))?")

# Tests that are left out everywhere: they stop the one server that they know.
RESTARTS = r"restart\..*"
# Tests that are left out where clients are at different members: one client reads at once what another has written, which ZooKeeper
# promises on one member only, or a word is sent to one server.
ONE_SERVER = {
    "curator": ["cache.curator-cache-equals-tree-under-writers", "cache.tree-cache", "cache.path-children-cache", "shared.barrier",
                "queue.priority", "queue.simple", "node.ttl-kept-alive-then-gone", "node.persistent-node-comes-back",
                "node.persistent-node-after-an-expired-session", "node.protected-create-with-a-lost-answer",
                "watch.persistent-watcher-over-a-cut"],
    "go": ["words.ruok", "basic.sync-and-large-data", "create.ephemeral-and-sequential", "watch.many-clients-one-znode", "acl.digest",
           "session.expires-and-a-new-one-begins", "session.close-ends-ephemerals"],
    "c": ["create.modes", "session.expires"],
    "node": ["create.ephemeral", "acl.digest", "session.expires"],
    "kazoo": [kazoo_suite.ephemerals, kazoo_suite.one_shot_watches, kazoo_suite.children_watch, kazoo_suite.lock_contenders_and_timeout,
              kazoo_suite.semaphore, kazoo_suite.queues, kazoo_suite.barriers, kazoo_suite.parties, kazoo_suite.acls, kazoo_suite.chroot,
              kazoo_suite.expiry],
}


class Way:
    """How clients reach the ensemble: through some of its members."""

    def __init__(self, name, members):
        self.name, self.members = name, members
        self.relays = [Relay(m.port) for m in members]

    def direct(self):
        return ",".join(f"127.0.0.1:{m.port}" for m in self.members)

    def relayed(self):
        return ",".join(f"127.0.0.1:{r.port}" for r in self.relays)

    def verbs(self):
        return {"cut": lambda: [r.cut() for r in self.relays], "heal": lambda: [r.heal() for r in self.relays]}

    def without(self, client):
        """The tests that this client leaves out, as a regular expression."""
        one_server = ONE_SERVER[client] if len(self.members) > 1 else []
        return "|".join([RESTARTS, *map(re.escape, one_server)])


def ways(ensemble):
    first, second = ensemble.members[:2]
    return [Way(f"{first.kind}-follower", [first]), *([Way("apache-follower", [second])] if first.kind == "zabra" else []),
            Way("all-members", ensemble.members)]


def curator(suite, target, java, way, number):
    """Runs Curator's tests below a znode of their own, so that several of these can run at once."""
    prefix = f"curator-{way.name}."
    root = f"/curator-{number}"
    conn = connect(way.members[0])
    conn.create(root)
    conn.close_session()
    base = interop.PORT_BASE + len(interop.PORTS) - JAVA_PORTS * number
    env = {**os.environ, "INTEROP_PORT_BASE": str(base), "INTEROP_PORT_SPAN": str(JAVA_PORTS)}
    with open(os.path.join(interop.DIR, f"{prefix}err"), "w") as err:
        process = subprocess.Popen([*java, target, way.direct() + root, prefix, way.without("curator")], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=err, text=True, env=env)
    timer = threading.Timer(CURATOR_SECONDS, process.kill)
    timer.start()
    ended = False
    for line in process.stdout:
        if found := LINE.match(line):
            verdict, name, seconds, problem = found.groups()
            suite.verdict(name, problem if verdict == "FAIL" else None, time.monotonic() - float(seconds))
        ended = ended or line.startswith("END ")
    timer.cancel()
    if not ended:
        suite.verdict(f"{prefix}ran-to-its-end", f"ended with {process.wait()}")


def clean(way, names):
    """Removes the znodes below the root whose names match, and all below them."""
    conn = connect(way.members[0])
    conn.auth("digest", b"super:interop")

    def remove(path):
        try:
            for name in conn.children(path)[0]:
                remove(f"{path}/{name}")
            conn.delete(path)
        except zk.ZkError as refused:
            interop.eq(-101, refused.code, "refused, but for an ephemeral or a container that is gone")
    for name in conn.children("/")[0]:
        if re.fullmatch(names, name):
            remove("/" + name)
    conn.close_session()


def programs(suite, every, commands_of):
    """The clients whose tests have their own names below the root: one way after the other."""
    for client, (command, names) in commands_of.items():
        for way in every:
            prefix = f"{client}-{way.name}."
            Program(suite, command, way.direct(), way.relayed(), way.verbs(), prefix, way.without(client)).run_to_its_end()
            clean(way, names)


def kazoo(suite, every):
    for way in every:
        # `commands` wants a server alone.
        without = [kazoo_suite.commands, *(ONE_SERVER["kazoo"] if len(way.members) > 1 else [])]
        kazoo_suite.run_against(way.direct(), suite, f"kazoo-{way.name}.", without=without)
        clean(way, "k-.*")


def at_once(suite, *bodies):
    """Runs each in a thread. An error is a failed test."""
    def guarded(name, body):
        try:
            body()
        except Exception as problem:  # noqa: BLE001: a failed test
            suite.verdict(name, f"{type(problem).__name__}: {problem}")
    threads = [threading.Thread(target=guarded, args=named) for named in bodies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def main():
    if len(sys.argv) < 6 or sys.argv[1] not in ("apache", "zabra"):
        sys.exit(__doc__)
    target, go, c, node, *java = sys.argv[1:]
    suite = interop.Suite("clients", target)
    kinds = ["apache"] * 3 if target == "apache" else ["zabra", "apache", "zabra"]
    with Ensemble("clients", kinds, props=PROPS) as ensemble:
        ensemble.start(LEADER)
        every = ways(ensemble)
        at_once(suite,
                *((f"curator-{way.name}", lambda way=way, number=number: curator(suite, target, java, way, number))
                  for number, way in enumerate(every, 1)),
                ("programs", lambda: programs(suite, every, {
                    "go": ([go], "go-.*"), "c": ([c], "c(-.*)?"), "node": (["node", node], "acl|cut|eph|err|expires|n|seq|tx|watch")})),
                ("kazoo", lambda: kazoo(suite, every)))
        suite.test("the-leader-stayed", lambda: interop.eq(LEADER, ensemble.leader().sid, "the leader"))
    suite.end()


if __name__ == "__main__":
    main()
