"""Servers as processes: Apache ZooKeeper and Zabra (and whatever else is compared with them), started, waited for, asked four-letter
words, and ended by their pid. Every script in tools/ that needs a server starts it through here."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
JARS = REPO / "tools/interop/.work/lib"

# The configuration servers are tested with: @DATA@ and @PORT@ are filled in.
TESTED_CFG = REPO / "tools/interop/zoo.cfg.in"

# Differences from the defaults: no limit of 60 connections per address, no admin server, all four-letter words, purge on.
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


def measured_cfg(data, port, lines=""):
    return ZOO_CFG.format(data=data, port=port) + lines


def tested_cfg(data, port, lines=""):
    return TESTED_CFG.read_text().replace("@DATA@", str(data)).replace("@PORT@", str(port)) + lines


class Trouble(RuntimeError):
    """Something is missing or has failed; the text says what to do."""


# --- what servers and generators inherit ---

LIBC = ctypes.CDLL(None)


def own_child():
    """In a child, before exec: the child ends when its parent ends, however that happens, and Ctrl-C goes to the parent only.

    A process group, not a session: the kernel distributes CPU time between sessions (autogroups), and all these processes must be in the same one."""
    pr_set_pdeathsig = 1
    os.setpgid(0, 0)
    LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL)


def raise_open_files():
    """Raises the soft limit on open files to the hard one, for thousands of connections; child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def raise_priority(nice):
    if nice == 0:
        return
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    if group.exists():
        # With autogroups a priority only has an effect inside its session, so create a session of our own and raise its priority.
        try:
            os.setsid()
        except PermissionError:
            pass  # already the leader of one
        group.write_text(str(nice))


# --- commands ---

def has_jars(folder):
    return any(folder.glob("zookeeper-3.*.jar"))


def check_measurable(jars, zabra, load):
    """Checks that everything is there before anything is started; without `jars` Apache is not used."""
    if jars and not has_jars(jars):
        raise Trouble(f"no Apache ZooKeeper in {jars}: run tools/interop/run --install, or name it with --jars")
    for binary in (zabra, load):
        if not binary.exists():
            raise Trouble(f"no {binary}: cargo build --release -p zabra -p zabra-load")


# What is measured: zkServer.sh's heap, the JVM's own choice of collector. What is only tested: quick to start, and small.
MEASURED_JVM = ["-Xmx1000m"]
TESTED_JVM = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def zookeeper_command(jars, config, jvm=MEASURED_JVM, properties=(), log_level="warn"):
    return ["java", *jvm, f"-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}", "-Dorg.slf4j.simpleLogger.showDateTime=true",
            *properties, "-cp", f"{jars}/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]


def zabra_command(binary, config, properties=()):
    # ZABRA_IO=epoll in the environment chooses what its sockets are on.
    io = os.environ.get("ZABRA_IO")
    return [str(binary), "serve", str(config), *([f"-Dzabra.io={io}"] if io else []), *properties]


# --- asking ---

def answer(port, request, timeout=10):
    """All that the server sends to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(request)
        return b"".join(iter(lambda: s.recv(65536), b""))


def word(port, text, timeout=10):
    """The whole answer to a four-letter word."""
    return answer(port, text.encode(), timeout).decode("utf-8", "replace")


def zookeeper_serves(port):
    # Apache answers ruok before it serves.
    return "Mode: standalone" in word(port, "srvr", 5)


# When a process with an io_uring is killed, the kernel closes its sockets only a moment after the process is gone.
PORT_PATIENCE = 2


def is_taken(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


class Server:
    """A server on a port of 127.0.0.1; may be started and ended any number of times. Its output is added to the file `log`."""

    def __init__(self, name, command, port, log, serves=zookeeper_serves, cwd=None, before_exec=own_child):
        self.name, self.command, self.port, self.log = name, [str(c) for c in command], port, Path(log)
        self.serves, self.cwd, self.before_exec = serves, cwd, before_exec
        self.process = None

    def start(self, patience=60):
        """Starts it and waits until it serves, so many seconds at most."""
        self.launch()
        try:
            self.wait(patience)
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self):
        """Starts it and does not wait."""
        end = time.monotonic() + PORT_PATIENCE
        while is_taken(self.port):
            if time.monotonic() > end:
                raise Trouble(f"{self.name}: port {self.port} is taken by somebody else")
            time.sleep(0.02)
        self.spawn()

    def spawn(self):
        """Like `launch`, even if the port is in use."""
        with open(self.log, "ab") as log:
            try:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.cwd,
                                                preexec_fn=self.before_exec)
            except FileNotFoundError:
                raise Trouble(f"{self.name}: '{self.command[0]}' is not there") from None

    def wait(self, patience):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self.check()
            try:
                if self.serves(self.port):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Trouble(f"{self.name} does not serve port {self.port} after {patience} s: see {self.log}")

    def check(self):
        """Whether it is running."""
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise Trouble(f"{self.name} ended with {self.process.returncode}, its log ({self.log}) says:\n" + "\n".join(tail))

    @property
    def pid(self):
        return self.process.pid

    def memory(self):
        """Resident memory that is not backed by a file, in bytes: Zabra's mapped log does not count. 0 if the process has ended."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon:")), 0)

    def stop(self, patience=30):
        """Sends SIGTERM, and SIGKILL if it still runs after this many seconds; then returns False."""
        if self.process is None:
            return True
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.kill()

    def kill(self):
        """Sends SIGKILL if it is running."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.gone()
        self.process = None

    def gone(self):
        """Called when its process has ended; subclasses keep account of pids."""

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


class ZooKeeper(Server):
    """Apache ZooKeeper or Zabra with the configuration file WORK/NAME.cfg, with data in WORK/NAME. `command` makes the command of that
    file, `configuration` its text of data directory and port. Both are written at each start; the data stay."""

    def __init__(self, name, work, port, command, configuration=measured_cfg, **more):
        self.data, self.config, self.configuration = work / name, work / f"{name}.cfg", configuration
        super().__init__(name, command(self.config), port, work / f"{name}.log", **more)

    def spawn(self):
        self.data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.configuration(self.data, self.port))
        super().spawn()
