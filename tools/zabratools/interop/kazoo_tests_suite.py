"""kazoo's own tests, which are part of the installed package, against an ensemble of three.

kazoo_tests_suite.py apache|zabra

They make their servers with `kazoo.testing.common.ZookeeperCluster`, which starts Java processes from an unpacked release. Here a
module with a class of that name and with the methods that the tests call takes its place, so that either kind of server runs.
"""

import os
import re
import shutil
import sys
import time
import types

import pytest

from zabratools.interop import suite as interop
from zabratools.interop.ensemble import PATIENCE, mode_of
from zabratools.interop.suite import eventually

VERSION = "3.9.5"
# Longest time for one test (s): some wait for a session of 30 s to end.
LONGEST = 180

# What kazoo's harness writes for its servers, but for TLS, SASL and the admin server.
CONFIGURATION = """tickTime=2000
initLimit=4
syncLimit=2
maxClientCnxns=0
admin.enableServer=false
clientPortAddress=127.0.0.1
dataDir={data}
clientPort={port}
"""

# Left out for both kinds of server, by the beginnings of their names. Each is a subject that Zabra does not have yet or that needs
# a service which is not here. Any other test that is skipped counts as failed.
LEFT_OUT = {
    "build.": "checks the environment of kazoo's own CI",
    "client.TestReconfig.": "reconfiguration",
    "client.TestSSLClient.": "TLS",
    "sasl.": "SASL and Kerberos",
}


class Node(interop.Server):
    """One member of kazoo's cluster. Its data stay until `destroy`."""

    def __init__(self, cluster, sid, target, props):
        super().__init__(target, f"cluster-{cluster.number}-{sid}", props=props)
        self.cluster, self.sid = cluster, sid
        self.peer_ports = interop.free_port(), interop.free_port()
        self.address = f"127.0.0.1:{self.port}"
        # In read-only mode, where a member of these may begin, it serves none of the clients that tests wait for.
        self.serves = lambda port: mode_of(port) in ("leader", "follower")

    def configuration(self):
        servers = (f"server.{n.sid}=127.0.0.1:{n.peer_ports[0]}:{n.peer_ports[1]}" for n in self.cluster.nodes)
        return CONFIGURATION.format(data=self.data, port=self.port) + "\n".join([*self.cluster.lines, *servers, interop.ZOOCFG_EXTRA])

    @property
    def running(self):
        return self.process is not None

    def begin(self):
        if self.running:
            return
        os.makedirs(self.data, exist_ok=True)
        with open(os.path.join(self.data, "myid"), "w") as f:
            f.write(f"{self.sid}\n")
        self.launch()

    def run(self):
        """What tests call to start one again. They give its clients five seconds to come back, which are to be the clients': so this
        returns when it serves, if it can, however long a JVM on a busy machine takes to start."""
        self.begin()
        if self.cluster.has_quorum():
            self.wait(PATIENCE)

    def destroy(self):
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)


class ZookeeperCluster:
    """What the harness makes, with what it passes that matters here."""

    made = 0

    def __init__(self, size=3, configuration_entries=(), java_system_properties=(), **_):
        ZookeeperCluster.made += 1
        self.number = self.made
        # Reconfiguration is left out, and refused where it is not there.
        self.lines = [line for line in configuration_entries if not line.startswith("reconfigEnabled")]
        # Apache decodes digests with the platform's character set, kazoo encodes them as UTF-8.
        props = ["-Dreadonlymode.enabled=true", "-Dfile.encoding=UTF-8", *java_system_properties]
        self.nodes = [Node(self, sid, TARGET, props) for sid in range(1, size + 1)]

    def __getitem__(self, index):
        return self.nodes[index]

    def __iter__(self):
        return iter(self.nodes)

    def start(self):
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.wait(PATIENCE)
        eventually(1, lambda: [mode_of(n.port) for n in self.nodes].count("leader"), PATIENCE, "leaders")

    def has_quorum(self):
        return 2 * sum(node.running for node in self.nodes) > len(self.nodes)

    def terminate(self):
        for node in self.nodes:
            node.destroy()

    def get_logs(self):
        """Nothing: the logs are kept after a failure."""
        return []


def name_of(node_id):
    """`client.TestClient.test_create` of `…/test_client.py::TestClient::test_create`."""
    return re.sub(r"\.py::|::", ".", node_id.rsplit("/test_", 1)[-1].removeprefix("test_"))


class Verdicts:
    """Chooses tests, and turns pytest's reports into the lines of a suite."""

    def __init__(self, suite):
        self.suite, self.problems, self.took = suite, {}, {}

    def pytest_collection_modifyitems(self, items):
        items[:] = [i for i in items if self.suite.wants(name_of(i.nodeid)) and not name_of(i.nodeid).startswith(tuple(LEFT_OUT))]

    def pytest_collectreport(self, report):
        if report.failed:
            self.suite.verdict(f"collect-{report.nodeid}", str(report.longrepr)[-500:])

    def pytest_runtest_logreport(self, report):
        name = name_of(report.nodeid)
        self.took[name] = self.took.get(name, 0) + report.duration
        if report.failed:
            text = str(report.longrepr).strip().splitlines()
            self.problems.setdefault(name, f"{report.when}: " + " | ".join(line for line in text if line.startswith(("E ", "Failed")))[:600])
        elif report.skipped:
            self.problems.setdefault(name, f"skipped: {report.longrepr}")
        if report.when == "teardown":
            self.suite.verdict(name, self.problems.get(name), time.monotonic() - self.took[name])


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("apache", "zabra"):
        sys.exit(__doc__)
    global TARGET
    TARGET = sys.argv[1]
    suite = interop.Suite("kazoo-tests", TARGET)
    common = types.ModuleType("kazoo.testing.common")
    common.ZookeeperCluster = ZookeeperCluster
    sys.modules[common.__name__] = common
    os.environ["ZOOKEEPER_VERSION"] = VERSION
    os.makedirs(interop.DIR, exist_ok=True)
    os.chdir(interop.DIR)
    for reason in LEFT_OUT.items():
        print("left out: {}* ({})".format(*reason), flush=True)
    pytest.main(["--pyargs", "kazoo.tests", "-p", "no:terminal", "-p", "no:cacheprovider", "-W", "ignore", f"--timeout={LONGEST}"],
                plugins=[Verdicts(suite)])
    suite.end()


if __name__ == "__main__":
    main()
