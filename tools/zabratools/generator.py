"""Load generators as processes, and the pause between two runs."""

import json
import os
import subprocess
import time

from zabratools import machine
from zabratools.server import Trouble, own_child


def generator(command, what, limit):
    """Runs a load generator; its JSON. Exit code 3 (an open loop's rate was not held) is a result too."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=own_child)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{what}: no end after {limit:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode not in (0, 3):
        raise Trouble(f"{what}: {err.strip() or out.strip() or f'exit status {process.returncode}'}")
    try:
        return json.loads(out)
    except json.JSONDecodeError as e:
        raise Trouble(f"{what}: its output is no JSON: {e}") from None


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
