"""Measures large data: Apache ZooKeeper and Zabra with a million znodes, and with thousands of watchers of one znode.

usage: tools/load/large memory|snapshot|fanout [--rounds N] [--znodes N] [--out FILE.json]

memory    makes --znodes znodes (paths of 115 bytes, 47 bytes of data), weighs the server, then restarts it --rounds times,
          each time after 50,000 more writes: from the start of the process to the first getData answered
snapshot  p99.9 of setData over the same znodes while one snapshot after the other is written, beside the same without:
          an open loop at a fixed rate, and 16 connections x 1
fanout    2,000 sessions watch one znode that another one changes; Zabra also with more than one core and shard

Prints Markdown; --out keeps every run. Needs what tools/load/beside needs, and about 6 GB of disk. Ports 24200 and following
of 127.0.0.1; data in target/large (--keep leaves it there, and what is there already is used again).
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import threading
import time

from zabratools import wire
from zabratools.load import servers
from zabratools.load.servers import Server
from zabratools.server import REPO, Trouble

PATH_LENGTH = 115
DATA = 47
ROOT = "/large"
# Paths as zabra-load makes them.
FIRST = f"{ROOT}/k".ljust(PATH_LENGTH - 10, "x") + "0" * 10
# Rate of the open loop of `snapshot`, requests per second.
RATE = 2000


def progress(text):
    print(text, file=sys.stderr, flush=True)


def fill(args, server):
    """Creates the znodes unless they exist."""
    marker = server.data / f"filled-{args.znodes}"
    if marker.exists():
        return
    server.load("get", "-c", "16", "--keys", args.znodes, "--size", DATA, "--path-length", PATH_LENGTH, "--root", ROOT,
         "--stall", "120", seconds=0.2, warm_up=0)
    marker.touch()


# --- memory and restart

def first_answer(port, patience=300):
    """Waits until getData of a znode is answered with its data."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            # Apache accepts connections before it serves, and may leave those unanswered.
            client = wire.Conn(port, timeout=30000, patience=1)
            data, _ = client.get(FIRST)
            client.drop()
        except OSError:
            time.sleep(0.005)
            continue
        except wire.ZkError as e:
            raise Trouble(f"port {port}: a wrong answer to getData: {e}") from None
        if len(data or b"") != DATA:
            raise Trouble(f"port {port}: getData gave {len(data or b'')} bytes, not {DATA}")
        return
    raise Trouble(f"port {port}: no answer within {patience} s")


def memory(args, names):
    results = {}
    running = [Server(args, name, n) for n, name in enumerate(names)]
    for server in running:
        server.start()
        empty = server.memory()
        began = time.monotonic()
        fill(args, server)
        took = time.monotonic() - began
        time.sleep(2)
        full = server.memory()
        results[server.name] = {"empty": empty, "after_load": full, "load_seconds": took, "after_restart": [], "restart": [],
                                 "load_average": []}
        progress(f"{server.name}: {empty / 2**20:.0f} MiB empty, {full / 2**20:.0f} MiB with {args.znodes} znodes ({took:.0f} s)")
        server.stop()
    for n in range(args.rounds):
        for server in running if n % 2 == 0 else running[::-1]:
            server.start()
            # Writes a log after the snapshot, of about the same size for both.
            server.load("set", "-c", "16", "--rate", "25000", "--keys", "1000", "--size", DATA, "--root", "/behind",
                 seconds=2, warm_up=0)
            server.stop()
            began = time.monotonic()
            server.launch()
            first_answer(server.port)
            took = time.monotonic() - began
            time.sleep(2)
            r = results[server.name]
            r["restart"].append(took)
            r["after_restart"].append(server.memory())
            r["load_average"].append(os.getloadavg()[0])
            progress(f"round {n + 1}  {server.name:<7} restart {took:.2f} s, {server.memory() / 2**20:.0f} MiB, "
                     f"load average {r['load_average'][-1]:.1f}")
            server.stop()
    rows = ["| server | bytes/znode after making them | after a restart | restart, median s | each | load averages |",
            "|---|--:|--:|--:|---|---|"]
    for label, r in results.items():
        each = [(m - r["empty"]) / args.znodes for m in [r["after_load"], statistics.median(r["after_restart"])]]
        rows.append(f"| {label} | {each[0]:,.0f} | {each[1]:,.0f} | {statistics.median(r['restart']):.2f} | "
                    f"{', '.join(f'{t:.2f}' for t in r['restart'])} | {spread(r['load_average'])} |")
    return results, "\n".join(rows)


def spread(values):
    return f"{min(values):.1f} to {max(values):.1f}"


# --- snapshots

class Snapshots(threading.Thread):
    """Counts the finished snapshots; on request removes old ones, since a run writes many."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.dir = server.data / "version-2"
        self.seen = set(self.names())
        self.made, self.looks, self.writing, self.stopped = 0, 0, 0, threading.Event()

    def names(self):
        found = [f for f in self.dir.iterdir() if f.name.startswith("snapshot.")]
        return sorted(found, key=lambda f: int(f.name.split(".")[1], 16))

    def run(self):
        while not self.stopped.wait(0.05):
            names = self.names()
            self.made += len(set(names) - self.seen)
            self.seen |= set(names)
            self.looks += 1
            self.writing += self.is_written()

    def is_written(self):
        """Whether a snapshot grew in the last tenth of a second (Zabra's has another name until it is finished)."""
        def age(f):
            try:
                return time.time() - f.stat().st_mtime
            except FileNotFoundError:
                return 1
        return any(age(f) < 0.1 for f in self.dir.iterdir() if f.name.startswith(("snapshot.", "tmp.snapshot.")))

    def end(self):
        """How many were finished, and in which part of the time one was being written."""
        self.stopped.set()
        self.join()
        return self.made, self.writing / max(1, self.looks)

    def remove_old(self):
        """Not during a measurement: if the file system discards freed blocks, removing a large file keeps the disk busy for tens of milliseconds."""
        for old in self.names()[:-4]:
            old.unlink(missing_ok=True)
        os.sync()
        time.sleep(1)


LOADS = {
    f"{RATE}/s offered": (["set", "-c", "16", "--rate", RATE], RATE),
    "16x1": (["set", "-c", "16", "-d", "1"], 20000),
}


def snapshot(args, names):
    results = {name: {what: {"without": [], "while": []} for what in LOADS} for name in names}
    for n, name in enumerate(names):
        server = Server(args, name, n)
        server.start()
        fill(args, server)
        server.stop()
        for round_number in range(args.rounds):
            for what, (arguments, snap_count) in LOADS.items():
                for when, count in (("without", 100_000_000), ("while", snap_count)):
                    server.lines = f"snapCount={count}\n"
                    server.start()
                    watch = Snapshots(server)
                    # A first run lets a JVM compile, and collect garbage with the million znodes loaded.
                    server.load(*arguments, "--root", "/victim", seconds=2, warm_up=0)
                    watch.start()
                    r = server.load(*arguments, "--root", "/victim", seconds=args.seconds, warm_up=1)
                    r["snapshots"], r["writing"] = watch.end()
                    server.stop()
                    watch.remove_old()
                    results[name][what][when].append(r)
                    p = r["latency_us"]
                    progress(f"round {round_number + 1}  {name:<7} {what:<14} {when:<8} {r['ops_per_second']:>8,.0f}/s  p50 {p['p50']:,.0f} "
                             f"p99 {p['p99']:,.0f} p99.9 {p['p99.9']:,.0f} µs  {r['snapshots']} snapshots, "
                             f"{100 * r['writing']:.0f} % of the time  "
                             f"load average {r['load_average']:.1f} steal {100 * r['steal']:.1f} %")
    rows = ["| server | set | p99.9 µs without, each | while a snapshot is written, each | ratio of the medians | p50 without / while "
            "| snapshots in a run | part of the time in which one is written |", "|---|---|---|---|--:|--:|--:|--:|"]
    for name, loads in results.items():
        for what, runs in loads.items():
            tail = {when: [r["latency_us"]["p99.9"] for r in runs[when]] for when in runs}
            half = {when: statistics.median(r["latency_us"]["p50"] for r in runs[when]) for when in runs}
            ratio = statistics.median(tail["while"]) / statistics.median(tail["without"])
            rows.append(f"| {name} | {what} | {', '.join(f'{t:,.0f}' for t in tail['without'])} | "
                        f"{', '.join(f'{t:,.0f}' for t in tail['while'])} | {ratio:.2f} | {half['without']:,.0f} / {half['while']:,.0f} | "
                        f"{', '.join(str(r['snapshots']) for r in runs['while'])} | "
                        f"{', '.join(format(r['writing'], '.2f') for r in runs['while'])} |")
    return results, "\n".join(rows)


# --- fan-out

ZABRAS = {
    "zabra": "",
    "zabra, cores=0,1 (peer, one shard)": "zabra.cores=0,1\n",
    "zabra, cores=0,1, shards=2": "zabra.cores=0,1\nzabra.shards=2\n",
}


def fanout(args, names):
    running = []
    for name in names:
        kinds = ZABRAS if name == "zabra" else {name: ""}
        # All sessions connect at the same time.
        running += [Server(args, name, len(running) + n, lines + "clientPortListenBacklog=4096\n", label)
                    for n, (label, lines) in enumerate(kinds.items())]
    results = {server.name: {"one-shot": [], "persistent": []} for server in running}
    try:
        for server in running:
            server.start()
            server.load("fanout", "-c", "2000", seconds=2, warm_up=0)
        for n in range(args.rounds):
            for watches in ("one-shot", "persistent"):
                for server in running if n % 2 == 0 else running[::-1]:
                    more = ["--persistent"] if watches == "persistent" else []
                    r = server.load("fanout", "-c", "2000", *more, seconds=args.seconds, warm_up=0.5)
                    results[server.name][watches].append(r)
                    progress(f"round {n + 1}  {watches:<10} {server.name:<34} "
                             f"{r['extra']['events_per_second_while_delivering']:>9,.0f} events/s  "
                             f"{r['server_cpu']['us_per_op']:.2f} µs CPU each  generator {100 * r['generator_cpus']:.0f} %  "
                             f"load average {r['load_average']:.1f} steal {100 * r['steal']:.1f} %")
    finally:
        for server in running:
            server.stop()
    rows = ["| watches | server | events/s while delivering, median | each | CPU µs per event | last told, p50 µs | generator, CPUs |",
            "|---|---|--:|---|--:|--:|--:|"]
    for watches in ("one-shot", "persistent"):
        for label, by in results.items():
            runs = by[watches]

            def median(pick):
                return statistics.median(pick(r) for r in runs)

            rates = [r["extra"]["events_per_second_while_delivering"] for r in runs]
            rows.append(f"| {watches} | {label} | {statistics.median(rates):,.0f} | {', '.join(f'{x:,.0f}' for x in rates)} | "
                        f"{median(lambda r: r['server_cpu']['us_per_op']):.2f} | "
                        f"{median(lambda r: r['extra']['p50_of_the_last_session_told']):,.0f} | "
                        f"{median(lambda r: r['generator_cpus']):.2f} |")
    return results, "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(prog="tools/load/large", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "snapshot", "fanout"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="leave the data, for another run to use")
    servers.add_arguments(parser)
    parser.set_defaults(work=REPO / "target/large")
    args = parser.parse_args()
    names = servers.check(args, keep=args.keep)
    results, table = {"memory": memory, "snapshot": snapshot, "fanout": fanout}[args.what](args, names)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))
    if not args.keep:
        shutil.rmtree(args.work)
    print(table)


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"large: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
