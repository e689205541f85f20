"""Runs the same loads over Apache ZooKeeper and Zabra, in turn, on this machine, and prints medians as Markdown.

usage: tools/load/beside [--rounds N] [--seconds S] [--warm-up S] [--only NAME]... [--nice N] [--out FILE.json]

The short way; tools/compare/run adds etcd, open loops, bare bounds around every run and an HTML report.
Needs Apache's jars (tools/interop/run --install puts them into tools/interop/.work/lib; --jars names another place) and
release builds of zabra and zabra-load (cargo build --release -p zabra -p zabra-load). Each round runs every load on
both servers, one after the other, the first one alternating; only one load runs at a time, both servers stay up. Before each
run the disk is synced and both servers have come to rest.
--nice sets the priority of servers and generator alike (negative, as root, on a machine that others use as well).
Ports 23001 and 23002 of 127.0.0.1; data in target/beside.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

from zabratools.compare import loads, servers
from zabratools.generator import generator, settle
from zabratools.server import JARS, REPO, Trouble, check_measurable, raise_open_files, raise_priority

LOADS = {load.name: load for load in loads.closed()
         if load.name in ("get 64x1", "get 16x16", "set 64x1", "set 16x64", "create 64x8", "set 1x1")}
PORTS = {"apache": 23001, "zabra": 23002}


def run(args, name, pid, load):
    command = [args.load, *LOADS[load].command(name), "--server", f"127.0.0.1:{PORTS[name]}", "--server-pid", pid,
               "--seconds", args.seconds, "--warm-up", args.warm_up, "--json", "--quiet"]
    result = generator(command, f"{load} on {name}", 120 + 3 * (args.seconds + args.warm_up))
    result["load_average"] = os.getloadavg()[0]
    return result


def table(results):
    def of(name, load, pick):
        return statistics.median(pick(r) for r in results[name][load])

    rows = ["| load | Apache ops/s | Zabra ops/s | ratio | Apache CPU µs/op | Zabra CPU µs/op | ratio | Apache p50 / p99 µs "
            "| Zabra p50 / p99 µs |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for load in results["apache"]:
        rate = {n: of(n, load, lambda r: r["ops_per_second"]) for n in PORTS}
        cpu = {n: of(n, load, lambda r: r["server_cpu"]["us_per_op"]) for n in PORTS}
        late = {n: "{:,.0f} / {:,.0f}".format(of(n, load, lambda r: r["latency_us"]["p50"]),
                                              of(n, load, lambda r: r["latency_us"]["p99"])) for n in PORTS}
        rows.append(f"| {load} | {rate['apache']:,.0f} | {rate['zabra']:,.0f} | {rate['zabra'] / rate['apache']:.2f} "
                    f"| {cpu['apache']:.2f} | {cpu['zabra']:.2f} | 1/{cpu['apache'] / cpu['zabra']:.1f} "
                    f"| {late['apache']} | {late['zabra']} |")
    return "\n".join(rows)


def spread(results):
    rows = ["| load | Apache ops/s, each run | Zabra ops/s, each run | load averages |", "|---|---|---|---|"]
    for load in results["apache"]:
        each = {n: ", ".join(f"{r['ops_per_second']:,.0f}" for r in results[n][load]) for n in PORTS}
        averages = [r["load_average"] for n in PORTS for r in results[n][load]]
        rows.append(f"| {load} | {each['apache']} | {each['zabra']} | {min(averages):.1f} to {max(averages):.1f} |")
    return "\n".join(rows)


def arguments():
    parser = argparse.ArgumentParser(prog="tools/load/beside", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--only", action="append", choices=list(LOADS))
    parser.add_argument("--jars", type=Path, default=JARS)
    parser.add_argument("--zabra", type=Path, default=REPO / "target/release/zabra")
    parser.add_argument("--load", type=Path, default=REPO / "target/release/zabra-load")
    parser.add_argument("--out", type=Path, help="all results as JSON")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generator")
    args = parser.parse_args()
    check_measurable(args.jars, args.zabra, args.load)
    args.jars, args.zabra, args.load = (p.resolve() for p in (args.jars, args.zabra, args.load))
    return args


def measure(args, work, results, running):
    running["apache"] = servers.start_zookeeper("apache", work, PORTS["apache"], jars=args.jars)
    running["zabra"] = servers.start_zookeeper("zabra", work, PORTS["zabra"], binary=args.zabra)
    chosen = list(results["apache"])
    # A JVM compiles its hot paths only after a while, so each load is first run once on both and the result discarded.
    for load in chosen:
        for name in PORTS:
            run(args, name, running[name].pid, load)
    for n in range(args.rounds):
        for load in chosen:
            for name in sorted(PORTS, reverse=n % 2 == 1):
                settle([server.pid for server in running.values()])
                r = run(args, name, running[name].pid, load)
                results[name][load].append(r)
                print(f"round {n + 1}  {load:<12} {name:<7} {r['ops_per_second']:>10,.0f}/s  "
                      f"{r['server_cpu']['us_per_op']:6.2f} µs CPU  p50 {r['latency_us']['p50']:,.0f} µs  "
                      f"load average {r['load_average']:.1f}", file=sys.stderr, flush=True)


def main():
    args = arguments()
    raise_open_files()
    raise_priority(args.nice)
    work = servers.fresh(REPO / "target/beside")
    results = {name: {load: [] for load in args.only or list(LOADS)} for name in PORTS}
    running = {}
    try:
        measure(args, work, results, running)
    finally:
        for server in running.values():
            server.stop()
        if args.out:
            args.out.write_text(json.dumps(results, indent=1))
    shutil.rmtree(work)
    print(table(results), spread(results), sep="\n\n")


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"beside: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
