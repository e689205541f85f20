"""Server processes of the Python suites, test verdict lines, four-letter words."""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback

HOME = os.environ["INTEROP_HOME"] if "INTEROP_HOME" in os.environ else os.path.dirname(
    os.path.dirname(os.path.abspath(__file__)))
# Everything of one run of `tools/interop/run`, and in it the part of this suite against this target.
RUN = os.environ.get("INTEROP_RUN") or os.path.join(HOME, ".work", "run", str(os.getpid()))
DIR = os.environ.get("INTEROP_DIR") or RUN
# Suites against Apache and against Zabra run at the same time: each has its own ports.
PORT_BASE = int(os.environ.get("INTEROP_PORT_BASE", "21000"))
# Lines for every server's configuration, to run the suites with another one.
ZOOCFG_EXTRA = os.environ.get("INTEROP_ZOOCFG_EXTRA", "") + "\n"
PORTS = range(PORT_BASE, PORT_BASE + int(os.environ.get("INTEROP_PORT_SPAN", "500")))
_next_port = 0
_all = []


def free_port():
    global _next_port
    for _ in PORTS:
        port = PORTS[_next_port % len(PORTS)]
        _next_port += 1
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError(f"no free port in {PORTS}")


def word(port, text, timeout=10):
    """The whole answer to a four-letter word (bytes are sent as given)."""
    data = text.encode() if isinstance(text, str) else text
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(data)
        out = b""
        while True:
            part = s.recv(65536)
            if not part:
                return out.decode("utf-8", "replace")
            out += part


class Server:
    """One server process; `data` may be shared by several Server objects, one running at a time."""

    def __init__(self, kind, name, extra="", props=(), data=None):
        self.kind = kind
        self.name = name
        self.dir = os.path.join(DIR, f"{name}-{kind}")
        self.data = data or os.path.join(self.dir, "data")
        self.props = list(props)
        self.extra = extra
        self.port = free_port()
        self.process = None
        os.makedirs(self.dir, exist_ok=True)
        os.makedirs(self.data, exist_ok=True)
        os.makedirs(os.path.join(RUN, "pids"), exist_ok=True)
        _all.append(self)

    @property
    def log_path(self):
        return os.path.join(self.dir, "server.log")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def start(self, wait=60):
        with open(os.path.join(HOME, "zoo.cfg.in")) as f:
            config = f.read().replace("@DATA@", self.data).replace("@PORT@", str(self.port))
        path = os.path.join(self.dir, "zoo.cfg")
        with open(path, "w") as f:
            f.write(config + ZOOCFG_EXTRA + self.extra + "\n")
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                [os.path.join(HOME, "launch"), self.kind, path, *self.props],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        open(self._pid_file(), "w").close()
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if self.process.poll() is not None:
                status = self.process.returncode
                self._reaped()
                raise RuntimeError(f"{self.kind} ended with {status} while starting: {self._tail()}")
            try:
                if word(self.port, "ruok", 5) == "imok" and "Mode: " in word(self.port, "srvr", 5):
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.kind} not ready after {wait} s: {self._tail()}")

    def _tail(self):
        return " | ".join(self.log().splitlines()[-5:])

    def _pid_file(self):
        return os.path.join(RUN, "pids", str(self.process.pid))

    def _reaped(self):
        try:
            os.remove(self._pid_file())
        except FileNotFoundError:
            pass
        self.process = None

    def stop(self):
        """SIGTERM, then wait until it is gone."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.kind} still alive 20 s after SIGTERM") from None
        self._reaped()

    def kill(self):
        """SIGKILL."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(20)
        self._reaped()

    def zxid(self):
        return int(re.search(r"Zxid: 0x([0-9a-f]+)", word(self.port, "srvr")).group(1), 16)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


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
    """Named tests of one suite against one target; prints a line for each and a closing line."""

    def __init__(self, suite, target):
        self.label = f"{suite}/{target}"
        self.closing = f"{suite}-{target}"
        self.passed = 0
        self.failed = 0
        self.filter = re.compile(os.environ.get("INTEROP_FILTER", ""))

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
            frames = [f for f in traceback.extract_tb(e.__traceback__) if HOME in f.filename and "/venv/" not in f.filename]
            place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
            self.verdict(name, f"{type(e).__name__}: {e} at {place}", began)
        else:
            self.verdict(name, None, began)

    def verdict(self, name, problem, began=None):
        took = f" ({time.monotonic() - began:.1f} s)" if began is not None else ""
        if problem is None:
            self.passed += 1
            print(f"PASS {self.label} {name}{took}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL {self.label} {name}{took}: " + problem.replace("\n", " | "), flush=True)

    def end(self):
        print(f"END {self.closing} {self.passed + self.failed}", flush=True)
        sys.exit(1 if self.failed else 0)
