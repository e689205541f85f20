"""Server processes of the Python suites, test verdict lines, four-letter words."""

import atexit
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback

from zabratools import server as processes
from zabratools.launch import command
from zabratools.server import REPO, tested_cfg, word

HOME = str(REPO / "tools/interop")
PACKAGE = str(REPO / "tools/zabratools")
# The folder of one run of `tools/interop/run`, and in it that of this suite with this target.
RUN = os.environ.get("INTEROP_RUN") or os.path.join(HOME, ".work", "run", str(os.getpid()))
PIDS = os.path.join(RUN, "pids")
DIR = os.environ.get("INTEROP_DIR") or RUN
# Suites against Apache and against Zabra run at the same time: each has its own ports.
PORT_BASE = int(os.environ.get("INTEROP_PORT_BASE", "21000"))
# Additional lines for the configuration of every server, to run the suites with other settings.
ZOOCFG_EXTRA = os.environ.get("INTEROP_ZOOCFG_EXTRA", "") + "\n"
PORTS = range(PORT_BASE, PORT_BASE + int(os.environ.get("INTEROP_PORT_SPAN", "500")))
_next_port = itertools.count()
_all = []


def free_port():
    for _ in PORTS:
        port = PORTS[next(_next_port) % len(PORTS)]
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError(f"no free port in {PORTS}")


class Server(processes.Server):
    """One server process; `data` may be shared by several Server objects, one running at a time."""

    def __init__(self, kind, name, extra="", props=(), data=None):
        self.kind = kind
        self.dir = os.path.join(DIR, f"{name}-{kind}")
        self.data = data or os.path.join(self.dir, "data")
        self.extra = extra
        self.config = os.path.join(self.dir, "zoo.cfg")
        for folder in (self.dir, self.data, PIDS):
            os.makedirs(folder, exist_ok=True)
        # A server may be started by a thread that ends before it: then only the suite can end it, or `run` by its pid.
        super().__init__(f"{kind} ({name})", command(kind, self.config, props), free_port(), os.path.join(self.dir, "server.log"), before_exec=None)
        _all.append(self)

    def text(self):
        """Its output so far."""
        return self.log.read_text(errors="replace")

    def configuration(self):
        """The text of its zoo.cfg."""
        return tested_cfg(self.data, self.port, ZOOCFG_EXTRA + self.extra + "\n")

    def spawn(self):
        with open(self.config, "w") as f:
            f.write(self.configuration())
        super().spawn()
        open(self._pid_file(), "w").close()

    def _pid_file(self):
        return os.path.join(PIDS, str(self.pid))

    def gone(self):
        try:
            os.remove(self._pid_file())
        except FileNotFoundError:
            pass

    def stop(self, patience=20):
        """Sends SIGTERM and waits until it has ended."""
        if not super().stop(patience):
            raise processes.Trouble(f"{self.name} still alive {patience} s after SIGTERM")

    def zxid(self):
        return int(re.search(r"Zxid: 0x([0-9a-f]+)", word(self.port, "srvr")).group(1), 16)


@atexit.register
def _end_all():
    for server in _all:
        server.kill()


def _on_signal(number, _frame):
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, _on_signal)


class Failed(Exception):
    pass


def eq(expected, actual, what):
    if expected != actual:
        raise Failed(f"{what}: expected {short(expected)}, actual {short(actual)}")


def yes(holds, what):
    if not holds:
        raise Failed(f"does not hold: {what}")


def short(value):
    text = repr(value)
    return text if len(text) <= 500 else text[:500] + "…"


def eventually(expected, probe, seconds, what):
    end = time.monotonic() + seconds
    while True:
        last = probe()
        if last == expected:
            return
        if time.monotonic() > end:
            raise Failed(f"{what}: expected {short(expected)} within {seconds} s, last seen {short(last)}")
        time.sleep(0.05)


class Suite:
    """Named tests of one suite against one target; prints a line for each and a closing line. Threads may run tests at once."""

    def __init__(self, suite, target):
        self.label = f"{suite}/{target}"
        self.closing = f"{suite}-{target}"
        self.passed = 0
        self.failed = 0
        self.filter = re.compile(os.environ.get("INTEROP_FILTER", ""))
        self.lock = threading.Lock()

    def wants(self, name):
        return bool(self.filter.search(name))

    def test(self, name, body):
        if not self.wants(name):
            return
        began = time.monotonic()
        try:
            body()
        except Failed as e:
            self.verdict(name, str(e), began)
        except Exception as e:  # noqa: BLE001: any exception is a failed test, with its place
            frames = [f for f in traceback.extract_tb(e.__traceback__) if PACKAGE in f.filename]
            place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
            self.verdict(name, f"{type(e).__name__}: {e} at {place}", began)
        else:
            self.verdict(name, None, began)

    def verdict(self, name, problem, began=None):
        took = f" ({time.monotonic() - began:.1f} s)" if began is not None else ""
        with self.lock:
            if problem is None:
                self.passed += 1
                print(f"PASS {self.label} {name}{took}", flush=True)
            else:
                self.failed += 1
                print(f"FAIL {self.label} {name}{took}: " + problem.replace("\n", " | "), flush=True)

    def end(self):
        print(f"END {self.closing} {self.passed + self.failed}", flush=True)
        sys.exit(1 if self.failed else 0)
