"""Starting and ending the servers; every process started here is ended by its pid."""

import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
COMPARE = REPO / "tools/compare"
INSTALLED = COMPARE / ".work"

ZOO_CFG = """tickTime=2000
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
autopurge.snapRetainCount=3
autopurge.purgeInterval=1
"""


class Trouble(Exception):
    """Something is missing or failed; the text says what to do."""


LIBC = ctypes.CDLL(None)


def own_child():
    """In a child, before exec: it ends when whoever started it is gone, however that happened, and a Ctrl-C is for us alone.

    A process group, not a session: the kernel shares CPUs between sessions (autogroups), and all of this is to be one."""
    pr_set_pdeathsig = 1
    os.setpgid(0, 0)
    LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL)


def raise_open_files():
    """Thousands of connections: the soft limit on open files becomes the hard one, for all children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def raise_priority(nice):
    if nice == 0:
        return
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    if group.exists():
        # With autogroups a priority only counts inside its terminal session: raise a session of our own.
        try:
            os.setsid()
        except PermissionError:
            pass  # already the leader of one
        group.write_text(str(nice))


def run(command, what, **more):
    """Runs a command to its end; its output, or Trouble with it."""
    try:
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    except FileNotFoundError:
        raise Trouble(f"{what}: '{command[0]}' is not on PATH") from None
    if done.returncode != 0:
        raise Trouble(f"{what} failed:\n{done.stdout.strip()}")
    return done.stdout


# --- what is compared, installed once ---

def zookeeper_jars(say, given=None):
    """The folder with Apache ZooKeeper's jars; Maven brings them when no test suite has done so."""
    if given:
        if not list(given.glob("zookeeper-3.*.jar")):
            raise Trouble(f"no zookeeper-3.*.jar in {given}")
        return given
    for folder in (REPO / "tools/interop/.work/lib", INSTALLED / "jars"):
        if list(folder.glob("zookeeper-3.9.*.jar")):
            return folder
    folder = INSTALLED / "jars"
    say("installing Apache ZooKeeper's jars through Maven into tools/compare/.work/jars")
    run(["mvn", "-q", "-B", "-f", REPO / "tools/interop/pom.xml", "dependency:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={folder}"], "installing Apache ZooKeeper (Maven)")
    if not list(folder.glob("zookeeper-3.9.*.jar")):
        raise Trouble(f"Maven left no zookeeper-3.9.*.jar in {folder}")
    return folder


def etcd_programs(say):
    """Builds etcd and etcd-load from the Go module proxy (Go keeps what has not changed)."""
    server, load = INSTALLED / "etcd", INSTALLED / "etcd-load"
    if not server.exists():
        say("building etcd from the Go module proxy into tools/compare/.work (a few minutes the first time)")
    for output, package in ((server, "./server"), (load, "./load")):
        run(["go", "build", "-mod=readonly", "-o", output, package], f"building {output.name} (Go)", cwd=COMPARE / "etcd")
    return server, load


def zabra_programs(say):
    """Builds zabra and zabra-load (cargo keeps what has not changed)."""
    say("building zabra and zabra-load")
    run(["cargo", "build", "--release", "-p", "zabra", "-p", "zabra-load"], "building zabra (cargo)", cwd=REPO)
    return REPO / "target/release/zabra", REPO / "target/release/zabra-load"


# --- commands ---

def zookeeper_command(jars, config):
    # zkServer.sh's heap; the JVM's own choice of collector.
    return ["java", "-Xmx1000m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]


def zabra_command(binary, config):
    return [str(binary), "serve", str(config)]


def etcd_command(binary, data, port):
    """Defaults but for: addresses; gRPC on a port of its own, as etcd recommends; room for the history of long runs."""
    client, peer, http = (f"http://127.0.0.1:{p}" for p in (port, port + 1, port + 2))
    return [str(binary), "--name", "compare", "--data-dir", str(data), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-client-http-urls", http, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"compare={peer}",
            "--quota-backend-bytes", str(8 << 30), "--log-level", "warn"]


def zookeeper_serves(port):
    with socket.create_connection(("127.0.0.1", port), 1) as s:
        s.sendall(b"srvr")
        # Apache answers ruok before it serves.
        return b"Mode: standalone" in b"".join(iter(lambda: s.recv(4096), b""))


def etcd_serves(port):
    with socket.create_connection(("127.0.0.1", port + 2), 1) as s:
        s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        return b'"health":"true"' in b"".join(iter(lambda: s.recv(4096), b""))


class Server:
    """A running server."""

    def __init__(self, name, command, port, work, serves=zookeeper_serves):
        self.name, self.command, self.port, self.log = name, command, port, work / f"{name}.log"
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            pass
        else:
            raise Trouble(f"{name}: port {port} is taken by somebody else")
        with open(self.log, "wb") as log:
            try:
                self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=work,
                                                preexec_fn=own_child)
            except FileNotFoundError:
                raise Trouble(f"{name}: '{command[0]}' is not there") from None
        try:
            self.wait_until(serves)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self):
        return self.process.pid

    def wait_until(self, serves):
        for _ in range(600):
            self.check()
            try:
                if serves(self.port):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise Trouble(f"{self.name} does not answer on port {self.port}: see {self.log}")

    def check(self):
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise Trouble(f"{self.name} ended (status {self.process.returncode}), its log ({self.log}) says:\n" + "\n".join(tail))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def fresh(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def start_zookeeper(name, work, port, jars=None, binary=None):
    """Apache ZooKeeper (from `jars`) or Zabra (`binary`) with the same zoo.cfg."""
    data = work / name
    data.mkdir(parents=True)
    config = work / f"{name}.cfg"
    config.write_text(ZOO_CFG.format(data=data, port=port))
    command = zabra_command(binary, config) if binary else zookeeper_command(jars, config)
    return Server(name, command, port, work)


def start_etcd(work, port, binary):
    return Server("etcd", etcd_command(binary, work / "etcd", port), port, work, etcd_serves)
