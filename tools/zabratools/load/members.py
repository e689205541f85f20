"""Runs the same loads over an ensemble of Apache ZooKeeper and one of Zabra, in turn, on this machine, and prints medians as Markdown.

usage: tools/load/members [--members N] [--rounds N] [--seconds S] [--warm-up S] [--only NAME]... [--kills N] [--out FILE.json]

Every member gets a generator of its own with its share of the connections; they run at the same time. The CPU time is that of all
members that were asked. With --kills N, the leader of each ensemble is ended with SIGKILL N times: the time is that until the first
write is acknowledged by one of the others, and the member that was ended is back before the next time.
Needs Apache's jars and release builds, as tools/load/beside does. Ports from 24300 on; data in target/members unless --work says otherwise.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zabratools.compare.loads import Load
from zabratools.generator import settle
from zabratools.load import servers
from zabratools.server import REPO, Trouble, raise_open_files, word
from zabratools.wire import Conn, ZkError

# Connections are those of all members together.
LOADS = {load.name: load for load in [
    Load("set 63x1", "set", "", connections=63),
    Load("set 15x64", "set", "", connections=15, depth=64),
    Load("set 1x1", "set", "", connections=1),
    Load("get 63x1", "get", "", connections=63),
    Load("mixed 63x4", "mixed", "", ["--reads", "90"], connections=63, depth=4),
]}


def mode(port):
    """What a member says it is; empty while it does not answer or serve."""
    try:
        lines = word(port, "srvr", 5).splitlines()
    except OSError:
        return ""
    return next((line[len("Mode: "):] for line in lines if line.startswith("Mode: ")), "")


class Member(servers.Server):
    """One server of an ensemble."""

    def __init__(self, args, kind, number, first, lines):
        super().__init__(args, kind, first + number - 1, lines, f"{kind}-{number}")
        self.serves = lambda port: mode(port) in ("leader", "follower")
        self.data.mkdir(parents=True)
        (self.data / "myid").write_text(f"{number}\n")


class Ensemble:
    """The members of one kind. Their quorum and election ports lie 100 and 200 above the client ports."""

    def __init__(self, args, kind, first):
        ids = range(1, args.members + 1)
        ports = {sid: args.port + first + sid - 1 for sid in ids}
        lines = "initLimit=10\nsyncLimit=5\n" + "".join(
            f"server.{sid}=127.0.0.1:{port + 100}:{port + 200}\n" for sid, port in ports.items())
        self.kind, self.members = kind, [Member(args, kind, sid, first, lines) for sid in ids]

    def start(self):
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait(120)

    def stop(self):
        for member in self.members:
            member.stop()

    def leader(self):
        for member in self.members:
            if mode(member.port) == "leader":
                return member
        raise Trouble(f"{self.kind}: nobody leads")

    def run(self, args, load):
        """One load over all members at once."""
        asked = self.members if load.connections >= len(self.members) else self.members[:1]

        def one(member):
            command = [load.load, "--connections", load.connections // len(asked), "--depth", load.depth, "--root",
                       f"/members-{member.port}", *load.arguments]
            return member.load(*command, seconds=args.seconds, warm_up=args.warm_up)

        with ThreadPoolExecutor(len(asked)) as pool:
            results = list(pool.map(one, asked))
        ops = sum(r["ops"] for r in results)
        return {
            "ops_per_second": sum(r["ops_per_second"] for r in results),
            "cpu_us_per_op": sum(r["server_cpu"]["us_per_op"] * r["ops"] for r in results) / ops,
            "p50": statistics.median(r["latency_us"]["p50"] for r in results),
            "p99": max(r["latency_us"]["p99"] for r in results),
            "load_average": results[0]["load_average"],
        }

    def fail_over(self):
        """Seconds from the leader's end to the first acknowledged write."""
        leader = self.leader()
        others = [member for member in self.members if member is not leader]
        ended = time.monotonic()
        leader.kill()
        try:
            return written(others, ended + 60) - ended
        finally:
            leader.start()


def written(members, until):
    """The moment at which one of these members has acknowledged a write, each asked in turn."""
    while time.monotonic() < until:
        for member in members:
            try:
                conn = Conn(member.port, timeout=10000, patience=2)
                conn.set("/", b"")
                return time.monotonic()
            except (OSError, ZkError, EOFError):
                time.sleep(0.01)
    raise Trouble("no write was acknowledged in a minute")


def table(results):
    rows = ["| load | Apache ops/s | Zabra ops/s | ratio | Apache CPU µs/op | Zabra CPU µs/op | ratio | Apache p50 / p99 µs "
            "| Zabra p50 / p99 µs |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for load in results["apache"]:
        def of(name, key):
            return statistics.median(r[key] for r in results[name][load])

        rate, cpu = ({n: of(n, key) for n in results} for key in ("ops_per_second", "cpu_us_per_op"))
        late = {n: f"{of(n, 'p50'):,.0f} / {of(n, 'p99'):,.0f}" for n in results}
        rows.append(f"| {load} | {rate['apache']:,.0f} | {rate['zabra']:,.0f} | {rate['zabra'] / rate['apache']:.2f} "
                    f"| {cpu['apache']:.1f} | {cpu['zabra']:.1f} | 1/{cpu['apache'] / cpu['zabra']:.1f} "
                    f"| {late['apache']} | {late['zabra']} |")
    return "\n".join(rows)


def kills_table(kills):
    rows = ["| leader killed | runs | least s | median s | most s |", "|---|--:|--:|--:|--:|"]
    for name, took in kills.items():
        rows.append(f"| {name} | {len(took)} | {min(took):.2f} | {statistics.median(took):.2f} | {max(took):.2f} |")
    return "\n".join(rows)


def arguments():
    parser = argparse.ArgumentParser(prog="tools/load/members", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    servers.add_arguments(parser)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--only", action="append", choices=list(LOADS))
    parser.add_argument("--kills", type=int, default=0)
    parser.set_defaults(port=24300, work=REPO / "target/members")
    args = parser.parse_args()
    args.jars, args.zabra, args.load, args.work = (p.resolve() for p in (args.jars, args.zabra, args.load, args.work))
    if not 1 <= args.members <= 20:
        parser.error("--members: 1 to 20")
    return args


def measure(args, running, results, kills):
    for load in results["apache"]:  # a JVM compiles its hot paths only after a while
        for ensemble in running.values():
            ensemble.run(args, LOADS[load])
    pids = [member.pid for ensemble in running.values() for member in ensemble.members]
    for n in range(args.rounds):
        for load in results["apache"]:
            for name in sorted(running, reverse=n % 2 == 1):
                settle(pids)
                r = running[name].run(args, LOADS[load])
                results[name][load].append(r)
                print(f"round {n + 1}  {load:<12} {name:<7} {r['ops_per_second']:>10,.0f}/s  {r['cpu_us_per_op']:6.1f} µs CPU  "
                      f"p50 {r['p50']:,.0f} µs  load average {r['load_average']:.1f}", file=sys.stderr, flush=True)
    for n in range(args.kills):
        for name in sorted(running, reverse=n % 2 == 1):
            kills[name].append(running[name].fail_over())
            print(f"kill {n + 1}  {name:<7} {kills[name][-1]:.2f} s", file=sys.stderr, flush=True)


def main():
    args = arguments()
    raise_open_files()
    names = servers.check(args)
    if len(names) != 2:
        raise Trouble("both ensembles are needed: leave out --server")
    results = {name: {load: [] for load in args.only or list(LOADS)} for name in names}
    kills = {name: [] for name in names}
    running = {name: Ensemble(args, name, 10 * number) for number, name in enumerate(names)}
    try:
        for ensemble in running.values():
            ensemble.start()
        measure(args, running, results, kills)
    finally:
        for ensemble in running.values():
            ensemble.stop()
        if args.out:
            args.out.write_text(json.dumps({"loads": results, "kills": kills}, indent=1))
    shutil.rmtree(args.work)
    print(table(results), *([kills_table(kills)] if args.kills else []), sep="\n\n")


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"members: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
