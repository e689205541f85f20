"""Runs the same loads over an ensemble of Apache ZooKeeper and one of Zabra, in turn, on this machine, and prints medians as Markdown.

usage: tools/load/members [--members N] [--rounds N] [--seconds S] [--warm-up S] [--only NAME]... [--kills N] [--out FILE.json]

The short way; tools/compare/run --members 3 adds etcd, open loops, bare bounds around every run and an HTML report, with the same code.
Every member gets a generator of its own with its share of the connections; they run at the same time, and their latencies are put together.
With fewer connections than members the leader is not asked. The CPU time is that of all members. With --kills N, the leader of each ensemble
is ended with SIGKILL N times: the time is that until the first write is acknowledged by one of the others, and the member that was ended is
back before the next time.
Needs Apache's jars and release builds, as tools/load/beside does. Ports from 24300 to 24359; data in target/members unless --work says
otherwise.
"""

import argparse
import json
import shutil
import statistics
import sys

from zabratools import ensemble
from zabratools.compare import loads
from zabratools.generator import settle
from zabratools.load import servers
from zabratools.machine import Watch
from zabratools.server import REPO, Trouble, raise_open_files

# Connections are those of all members together.
LOADS = {load.name: load for load in loads.ensembles() if set(load.servers) == set(loads.ALL)}


def ensembles(args, names):
    """An ensemble of each kind, not started."""
    def made(number, name):
        return ensemble.zookeepers(name, args.work, args.port + number * ensemble.PORTS, args.members, servers.command_of(args, name))
    return {name: made(number, name) for number, name in enumerate(names)}


def run(args, running, name, load):
    """One load over the members of one kind, when all members are at rest."""
    pids = [pid for each in running.values() for pid in each.pids]
    settle(pids)
    watch = Watch(pids)
    try:
        r = running[name].run(LOADS[load], args.load, args.seconds, args.warm_up, ["--json", "--quiet"])
    finally:
        # If a member has ended, that is the better explanation.
        running[name].check()
    return r | {"load_average": watch.end()["load_average"]}


def table(results):
    rows = ["| load | Apache ops/s | Zabra ops/s | ratio | Apache CPU µs/op | Zabra CPU µs/op | ratio | Apache p50 / p99 µs "
            "| Zabra p50 / p99 µs |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for load in results["apache"]:
        def of(name, pick):
            return statistics.median(map(pick, results[name][load]))

        rate = {n: of(n, lambda r: r["ops_per_second"]) for n in results}
        cpu = {n: of(n, lambda r: r["server_cpu"]["us_per_op"]) for n in results}
        late = {n: "{:,.0f} / {:,.0f}".format(*(of(n, lambda r: r["latency_us"][p]) for p in ("p50", "p99"))) for n in results}
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
    if not 1 <= args.members <= ensemble.MOST_MEMBERS:
        parser.error(f"--members: 1 to {ensemble.MOST_MEMBERS}")
    if args.kills and args.members < 3:
        parser.error("--kills: only with three members or more")
    return args


def measure(args, running, results, kills):
    for load in results["apache"]:  # a JVM compiles its hot paths only after a while
        for name in running:
            run(args, running, name, load)
    for n in range(args.rounds):
        for load in results["apache"]:
            for name in sorted(running, reverse=n % 2 == 1):
                r = run(args, running, name, load)
                results[name][load].append(r)
                print(f"round {n + 1}  {load:<12} {name:<7} {r['ops_per_second']:>10,.0f}/s  {r['server_cpu']['us_per_op']:6.1f} µs CPU  "
                      f"p50 {r['latency_us']['p50']:,.0f} µs  together {100 * r.get('together', 1):.0f} %  "
                      f"load average {r['load_average']:.1f}", file=sys.stderr, flush=True)
    for n in range(args.kills):
        for name in sorted(running, reverse=n % 2 == 1):
            settle([pid for each in running.values() for pid in each.pids])
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
    running = ensembles(args, names)
    try:
        for each in running.values():
            each.start()
        measure(args, running, results, kills)
    finally:
        for each in running.values():
            each.stop()
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
