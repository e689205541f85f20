"""Hand-written frames; answers are compared byte for byte with Apache's.

raw_suite.py apache|zabra      apache: against the recorded fixtures; zabra: against a live Apache
raw_suite.py --record DIR      writes the fixtures
"""

import os
import sys
import time

from zabratools.interop import suite as interop
from zabratools.interop.exchange import Exchange
from zabratools.interop.raw_cases import CASES, NO_ZXID

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(interop.HOME)), "tests", "golden", "apache-3.9")


def server(kind, name):
    # No container checks: deletions of containers or TTL znodes would use zxids at unpredictable times.
    return interop.Server(kind, name, props=["-Dznode.container.checkIntervalMs=3600000"])


def run_case(srv, name, body):
    """The transcript lines of one case."""
    e = Exchange(srv.port, settled_zxid(srv))
    try:
        body(e)
    finally:
        e.end()
    return e.lines


def settled_zxid(srv):
    """The last zxid when it no longer changes (after a case a closeSession may still follow)."""
    last = srv.zxid()
    while True:
        time.sleep(0.01)
        now = srv.zxid()
        if now == last:
            return now
        last = now


def comparable(name, lines):
    """Removes what is not compared: comments, and in cases with free zxids the header's zxid."""
    out = []
    for line in lines:
        if line.startswith("# normalised"):
            continue
        if name in NO_ZXID and line.startswith("< ") and len(line) >= 2 + 40:
            line = line[:2 + 16] + "*" * 16 + line[2 + 32:]
        out.append(line)
    return out


def difference(expected, actual):
    if expected == actual:
        return None
    for i in range(max(len(expected), len(actual))):
        want = expected[i] if i < len(expected) else "(end)"
        got = actual[i] if i < len(actual) else "(end)"
        if want != got:
            sent = next((l for l in reversed(actual[:i]) if l.startswith("> ")), "> (nothing)")
            return f"line {i + 1}, after {cut(sent)}: expected {cut(want)}, actual {cut(got)}"
    return None


def cut(line):
    return line if len(line) <= 360 else line[:360] + "…"


def golden_path(name):
    return os.path.join(GOLDEN, name + ".hex")


def record(directory):
    os.makedirs(directory, exist_ok=True)
    for old in os.listdir(directory):
        if old.endswith(".hex"):
            os.remove(os.path.join(directory, old))
    with server("apache", "raw-record") as srv:
        for name, body in CASES:
            lines = run_case(srv, name, body)
            with open(os.path.join(directory, name + ".hex"), "w") as f:
                f.write(f"# {name}\n")
                if name in NO_ZXID:
                    f.write("# the zxid in reply headers is not comparable here\n")
                f.write("\n".join(lines) + "\n")
    print(f"recorded {len(CASES)} exchanges in {directory}")


def read_golden(name):
    with open(golden_path(name)) as f:
        lines = f.read().splitlines()
    # The title lines written by `record`.
    return [l for l in lines[1:] if not l.startswith("# the zxid in reply headers")]


def main():
    if sys.argv[1] == "--record":
        record(sys.argv[2])
        return
    target = sys.argv[1]
    suite = interop.Suite("raw", target)
    reference = server("apache", "raw-reference")
    if target != "apache":
        reference.start()
    with server(target, "raw") as srv:
        for name, body in CASES:
            def check(name=name, body=body):
                if target == "apache":
                    expected = read_golden(name)
                else:
                    expected = run_case(reference, name, body)
                actual = run_case(srv, name, body)
                problem = difference(comparable(name, expected), comparable(name, actual))
                if problem:
                    raise interop.Failed(problem)
            suite.test(name, check)
    suite.end()


main()
