"""Load generators as processes, and the pause between two runs."""

import json
import os
import subprocess
import time

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


def generators(commands, limit):
    """Runs several load generators at the same time; their results. `commands`: (command, what). When one fails the others are ended."""
    running = []
    try:
        for command, what in commands:
            running.append(Generator(command, what))
        end = time.monotonic() + limit
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
