"""Supervises a suite written in another language: `program_suite.py SUITE apache|zabra PROGRAM...`.

Starts a server and a relay in front of it and runs `PROGRAM... DIRECT RELAYED` (two connect strings; `clients_suite` gives ones of
several members). The program writes lines and reads one line for each `TEST` and `DO`:

    TEST name            -> run | skip     a test begins (or not: INTEROP_FILTER)
    PASS                                   it held
    FAIL text                              it did not
    DO cut|heal|kill|stop|start -> done    relay cut and healed; server killed, stopped, started
    DONE                                   all tests were offered
"""

import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time

from zabratools.interop import suite as interop
from zabratools.interop.suite import Failed, Suite

# Longest silence of a program (s): the machine may be busy, and waiting for a session to expire takes time.
PATIENCE = 90


class Relay:
    """A TCP relay whose connections can be cut and which can refuse new ones."""

    def __init__(self, target):
        self.target = target
        self.open = True
        self.live = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", interop.free_port()))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            with self.lock:
                if not self.open:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                except OSError:
                    client.close()  # the server is down: the client sees a refusal
                    continue
                server.settimeout(None)
                self.live += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    @staticmethod
    def _pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass  # cut: both sides close
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already closed

    def cut(self):
        with self.lock:
            self.open = False
            for s in self.live:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # already closed
                s.close()
            self.live = []

    def heal(self):
        self.open = True


class Program:
    """A running program. `verbs` does what it asks for with `DO`; `prefix` comes before the names of its tests; those whose names match
    `without` are left out."""

    def __init__(self, suite, command, direct, relayed, verbs, prefix="", without=None):
        self.suite, self.verbs, self.prefix = suite, verbs, prefix
        self.without = without and re.compile(without)
        self.lines = queue.Queue()
        self.name = None
        self.began = 0.0
        self.err_path = os.path.join(interop.DIR, f"{prefix}program.err")
        with open(self.err_path, "w") as err:
            self.process = subprocess.Popen([*command, direct, relayed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                                            text=True, bufsize=1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _answer(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def run(self):
        """Reads the program's lines to the end; a program that dies or hangs has failed."""
        while True:
            try:
                line = self.lines.get(timeout=PATIENCE)
            except queue.Empty:
                self._broken(f"silent for {PATIENCE} s")
                return
            if line is None:
                self._broken(f"the program ended with {self.process.wait(10)} before its last test: {self._errors()}")
                return
            if line == "DONE":
                return
            self._take(line)

    def _take(self, line):
        verb, _, rest = line.partition(" ")
        if verb == "TEST":
            if self.name is not None:
                raise Failed(f"test {self.name} had no verdict")
            name = self.prefix + rest
            wanted = self.suite.wants(name) and not (self.without and self.without.fullmatch(rest))
            if wanted:
                self.name, self.began = name, time.monotonic()
            self._answer("run" if wanted else "skip")
        elif verb in ("PASS", "FAIL") and self.name is not None:
            self.suite.verdict(self.name, None if verb == "PASS" else rest, self.began)
            self.name = None
        elif verb == "DO":
            self.verbs[rest]()
            self._answer("done")
        else:
            raise Failed(f"a line not understood: {line!r}")

    def _broken(self, problem):
        self.suite.verdict(self.name or f"{self.prefix}program", problem, self.began if self.name else None)

    def _errors(self):
        with open(self.err_path, errors="replace") as f:
            return " | ".join(f.read().splitlines()[-8:])

    def end(self):
        self.process.kill()
        self.process.wait(20)

    def run_to_its_end(self):
        try:
            self.run()
        except (Failed, RuntimeError, OSError, KeyError) as e:
            self.suite.verdict(self.name or f"{self.prefix}program", f"{type(e).__name__}: {e}", None)
        finally:
            self.end()


def main():
    if len(sys.argv) < 4 or sys.argv[2] not in ("apache", "zabra"):
        sys.exit(__doc__)
    name, target = sys.argv[1:3]
    suite = Suite(name, target)
    # A short interval of container checks, so that containers and TTL znodes are deleted within a test's time limit.
    with interop.Server(target, name, props=["-Dznode.container.checkIntervalMs=200"]) as server:
        relay = Relay(server.port)
        verbs = {"cut": relay.cut, "heal": relay.heal, "kill": server.kill, "stop": server.stop, "start": server.start}
        Program(suite, sys.argv[3:], f"127.0.0.1:{server.port}", f"127.0.0.1:{relay.port}", verbs).run_to_its_end()
    suite.end()


if __name__ == "__main__":
    main()
