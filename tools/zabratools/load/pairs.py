"""Runs the same loads over two builds of Zabra (or one build with two settings), in turn, and prints medians as Markdown.

usage: tools/load/pairs OLD NEW [--pairs N] [--seconds S] [--warm-up S] [--only NAME]... [--nice N] [--work FOLDER] [--out FILE.json]

OLD and NEW are zabra binaries, each with any properties after it: 'target/release/zabra -Dzabra.io=epoll'. Both servers stay up;
one load runs at a time, first over one, then over the other, and the next pair the other way round. Before each run the disk is
synced and both servers have come to rest. The noise is the middle half of the pairs' ratios. Where others use the machine too,
CPU per operation is the figure to read: it moves least. --work /dev/shm/pairs keeps the disk out of it.

Needs a release build of zabra-load (--load names another one). Ports 23003 and 23004 of 127.0.0.1; data in target/pairs unless --work names another folder, which is emptied first.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import sys
from pathlib import Path

from zabratools.compare import loads
from zabratools.compare.servers import fresh
from zabratools.generator import generator, settle
from zabratools.server import (
    REPO, Trouble, ZooKeeper, check_measurable, raise_open_files, raise_priority, zabra_command)

LOADS = {load.name: load for load in [
    *(load for load in loads.closed() if load.name in ("get 64x1", "get 16x16", "set 64x1", "set 16x64", "create 64x8", "set 1x1")),
    loads.Load("get 1x1", "get", "one connection with one getData in flight", connections=1),
    loads.Load("mixed 16x16", "mixed", "16 connections x 16 in flight, 90 % getData", ["--reads", "90"], connections=16, depth=16),
]}
USUAL = ["set 16x64", "set 64x1", "get 64x1", "get 16x16", "mixed 16x16", "create 64x8"]
PORTS = {"old": 23003, "new": 23004}

FIGURES = {
    "ops/s": (lambda r: r["ops_per_second"], "{:,.0f}"),
    "CPU µs/op": (lambda r: r["server_cpu"]["us_per_op"], "{:.2f}"),
    "p50 µs": (lambda r: r["latency_us"]["p50"], "{:,.0f}"),
    "p99 µs": (lambda r: r["latency_us"]["p99"], "{:,.0f}"),
}


def run(args, name, pid, load):
    command = [args.load, *LOADS[load].command("zabra"), "--server", f"127.0.0.1:{PORTS[name]}", "--server-pid", pid,
               "--seconds", args.seconds, "--warm-up", args.warm_up, "--json", "--quiet"]
    result = generator(command, f"{load} on {name}", 120 + 3 * (args.seconds + args.warm_up))
    return result | {"load_average": os.getloadavg()[0]}


def row(load, old, new):
    cells = [load]
    for pick, form in FIGURES.values():
        ratios = [pick(b) / pick(a) for a, b in zip(old, new)]
        middle = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        cells += [form.format(statistics.median(map(pick, old))), form.format(statistics.median(map(pick, new))),
                  f"{statistics.median(ratios):.3f} ({middle[0]:.2f} to {middle[2]:.2f})"]
    return "| " + " | ".join(cells) + " |"


def table(results):
    heads = ["load", *(cell for figure in FIGURES for cell in (f"old {figure}", f"new {figure}", "ratio"))]
    rows = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    rows += [row(load, results["old"][load], results["new"][load]) for load in results["old"]]
    averages = [r["load_average"] for loads_of in results.values() for runs in loads_of.values() for r in runs]
    if averages:
        rows += ["", f"Load averages {min(averages):.1f} to {max(averages):.1f}; ratios are medians of the pairs' (middle half)."]
    return "\n".join(rows)


def arguments():
    parser = argparse.ArgumentParser(prog="tools/load/pairs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=shlex.split, metavar="OLD")
    parser.add_argument("new", type=shlex.split, metavar="NEW")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--only", action="append", choices=list(LOADS), metavar="NAME", help=", ".join(LOADS))
    parser.add_argument("--load", type=Path, default=REPO / "target/release/zabra-load")
    parser.add_argument("--work", type=Path, default=REPO / "target/pairs", help="where the data goes; emptied first")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generator")
    parser.add_argument("--out", type=Path, help="all results as JSON")
    args = parser.parse_args()
    for build in (args.old, args.new):
        if not build:
            parser.error("OLD and NEW name a binary each")
        build[0] = Path(build[0]).resolve()
        check_measurable(None, build[0], args.load)
    args.load = args.load.resolve()
    return args


def start(name, work, build):
    binary, *properties = build
    command = lambda config: zabra_command(binary, config, properties)  # noqa: E731
    return ZooKeeper(name, work, PORTS[name], command, cwd=work).start()


def measure(args, work, results, running):
    for name in PORTS:
        running[name] = start(name, work, getattr(args, name))
    for load in results["old"]:
        for name in PORTS:
            # Thrown away: the first use of memory and of the log's file.
            run(args, name, running[name].pid, load)
    for n in range(args.pairs):
        for load in results["old"]:
            for name in sorted(PORTS, reverse=n % 2 == 0):
                settle([server.pid for server in running.values()])
                r = run(args, name, running[name].pid, load)
                results[name][load].append(r)
                print(f"pair {n + 1}  {load:<12} {name}  {r['ops_per_second']:>10,.0f}/s  {r['server_cpu']['us_per_op']:6.2f} µs CPU  "
                      f"p50 {r['latency_us']['p50']:,.0f} µs  load average {r['load_average']:.1f}", file=sys.stderr, flush=True)


def main():
    args = arguments()
    raise_open_files()
    raise_priority(args.nice)
    work = fresh(args.work.absolute())
    results = {name: {load: [] for load in args.only or USUAL} for name in PORTS}
    running = {}
    try:
        measure(args, work, results, running)
    finally:
        for server in running.values():
            server.stop()
        if args.out:
            args.out.write_text(json.dumps(results, indent=1))
    shutil.rmtree(work)
    print(table(results))


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"pairs: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
