"""Load generators as processes, and the pause between two runs."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from zabratools import machine
from zabratools.server import Trouble, own_child


class Generator:
    """A load generator that is running; `what` names it in errors."""

    def __init__(self, command, what):
        self.what = what
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=own_child)

    def result(self, limit):
        """Its JSON, waited for so many seconds. Exit code 3 (an open loop's rate was not held) is a result too."""
        try:
            out, err = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{self.what}: no end after {limit:.0f} s") from None
        status = self.process.returncode
        if status not in (0, 3):
            raise Trouble(f"{self.what}: {err.strip() or out.strip() or f'exit status {status}'}")
        try:
            return json.loads(out)
        except json.JSONDecodeError as e:
            raise Trouble(f"{self.what}: its output is no JSON: {e}") from None

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Gate:
    """Lets generators begin their load at the same moment, and keeps what they log.

    The file of --hlog, which a generator opens when it has set up, is a named pipe here: that call waits until somebody reads."""

    # Where the kernel says that a thread waits for the other end of a named pipe.
    WAITS = ("wait_for_partner", "fifo_open")

    def __init__(self, folder, count):
        self.pipes = [Path(folder, f"{n}.hlog") for n in range(count)]
        for pipe in self.pipes:
            os.mkfifo(pipe)
        # Of each generator: the lines of its log, and when each came, in seconds since 1970.
        self.lines = [[] for _ in self.pipes]
        self.readers = []

    def waits(self, generator):
        """Whether a generator waits at the gate."""
        for wchan in Path(f"/proc/{generator.process.pid}/task").glob("*/wchan"):
            try:
                if wchan.read_text() in self.WAITS:
                    return True
            except OSError:
                pass  # the thread has ended
        return False

    def open(self, generators, limit):
        """Opens when all wait; Trouble when that takes longer than `limit` seconds, or one of them ends instead."""
        end = time.monotonic() + limit
        while not all(map(self.waits, generators)):
            for generator in generators:
                if generator.process.poll() is not None:
                    generator.result(10)
                    raise Trouble(f"{generator.what}: it ended before its load began")
            if time.monotonic() > end:
                raise Trouble(f"{generators[0].what}: the generators were not ready within {limit:.0f} s")
            time.sleep(0.002)
        files = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in self.pipes]
        for file, lines in zip(files, self.lines):
            os.set_blocking(file, True)
            self.readers.append(threading.Thread(target=self.read, args=(file, lines), daemon=True))
            self.readers[-1].start()

    def read(self, file, lines):
        with open(file, encoding="utf-8") as text:
            for line in text:
                lines.append((time.time(), line))

    def logs(self):
        """Of each generator (which have ended): when it logged the last time, and the text of its log."""
        for reader in self.readers:
            reader.join()
        return [(lines[-1][0], "".join(line for _, line in lines)) for lines in self.lines]


def generators(commands, limit, started=None):
    """Runs several load generators at the same time; their results. `commands`: (command, what). When one fails the others are ended.
    `started` is called with all of them when they run."""
    running = []
    try:
        for command, what in commands:
            running.append(Generator(command, what))
        end = time.monotonic() + limit
        if started:
            started(running)
        return [one.result(max(end - time.monotonic(), 0.1)) for one in running]
    finally:
        for one in running:
            one.end()


def generator(command, what, limit):
    """Runs one load generator; its result."""
    return generators([(command, what)], limit)[0]


# Longest time to wait for the work that a load has left behind.
LONGEST_REST_S = 10


def settle(pids):
    """Waits until the work that the last load left behind is done, so that it does not count for the next load: its data are on the disk
    and the servers (snapshots, garbage collections) are idle. Returns the seconds waited, at most LONGEST_REST_S; then the run starts."""
    began = time.monotonic()
    os.sync()
    spent = sum(map(machine.process_seconds, pids))
    while (waited := time.monotonic() - began) < LONGEST_REST_S:
        time.sleep(0.25)
        now = sum(map(machine.process_seconds, pids))
        if now - spent <= 0.02:
            return time.monotonic() - began
        spent = now
    return waited
