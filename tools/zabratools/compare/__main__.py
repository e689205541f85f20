"""Apache ZooKeeper, etcd and Zabra beside one another on this machine: measures all three, writes one HTML report and its JSON.
With --members 3 each of them is an ensemble of three.

Needs a JDK with Maven (ZooKeeper), Go (etcd), cargo (Zabra), Linux 6.1 or newer. What it installs goes to tools/compare/.work,
data to target/compare-data, the report to --out. Ports 24100 to 24190 of 127.0.0.1.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from zabratools import machine
from zabratools.compare import figures, loads, measure, page, servers
from zabratools.ensemble import MOST_MEMBERS, PORTS
from zabratools.server import REPO, Trouble, raise_open_files, raise_priority


def say(text):
    print(text, file=sys.stderr, flush=True)


def rates(text):
    try:
        found = [float(t) for t in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' are no rates, such as 1000,5000,20000") from None
    if not all(0 < r <= 10_000_000 for r in found) or sorted(set(found)) != found:
        raise argparse.ArgumentTypeError("rates must rise")
    return tuple(int(r) for r in found)


def positive(kind):
    def parse(text):
        value = kind(text)
        if value <= 0:
            raise ValueError(text)
        return value
    parse.__name__ = "positive number"
    return parse


def arguments():
    parser = argparse.ArgumentParser(prog="tools/compare/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=positive(int), default=1, help=f"servers of each kind, as one ensemble (1: standalone; at most {MOST_MEMBERS})")
    parser.add_argument("--kills", type=int, default=0, metavar="N",
                        help="end each ensemble's leader with SIGKILL so many times, until the first acknowledged write (0)")
    parser.add_argument("--rounds", type=positive(int), default=5, help="times that every load is run on every server (5)")
    parser.add_argument("--seconds", type=positive(float), default=5, help="measured seconds of a run (5)")
    parser.add_argument("--warm-up", type=positive(float), default=1, help="seconds of each run before that (1)")
    parser.add_argument("--bracket-seconds", type=positive(float), default=1, help="seconds of each bare echo and bare disk sync (1)")
    parser.add_argument("--only", action="append", default=[], metavar="LOAD",
                        help=f"only this load; may be repeated: {', '.join(loads.names())}; of ensembles: {', '.join(loads.names(3))}")
    parser.add_argument("--servers", default="zookeeper,etcd,zabra", help="which to run (zookeeper,etcd,zabra)")
    parser.add_argument("--get-rates", type=rates, default=loads.GET_RATES, metavar="RATES", help="of sweep get, per second, with commas")
    parser.add_argument("--set-rates", type=rates, default=loads.SET_RATES, metavar="RATES", help="of sweep set")
    parser.add_argument("--seed", type=int, default=1, help="of the generators' random choices (1)")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generators alike (negative: as root)")
    parser.add_argument("--jars", type=Path, help="folder with Apache ZooKeeper's jars (else Maven brings them)")
    parser.add_argument("--zabra", type=Path, help="zabra's binary (else it is built)")
    parser.add_argument("--load", type=Path, help="zabra-load's binary (else it is built)")
    parser.add_argument("--work", type=Path, default=REPO / "target", help="folder on the disk that is measured; data goes to compare-data in it (target)")
    parser.add_argument("--port-base", type=positive(int), default=24100, help="first of 100 ports (24100)")
    parser.add_argument("--out", type=Path, help="report's name; the JSON stands beside it (target/compare-DATE.html)")
    parser.add_argument("--render", type=Path, metavar="FILE.json", help="make the report of an earlier run again, and nothing else")
    args = parser.parse_args()
    args.servers = args.servers.split(",")
    if not args.servers or not set(args.servers) <= set(loads.ALL):
        parser.error("--servers: some of zookeeper,etcd,zabra")
    if args.members > MOST_MEMBERS:
        parser.error(f"--members: 1 to {MOST_MEMBERS}")
    if args.kills < 0 or (args.kills and args.members < 3):
        parser.error("--kills: 0 or more, and only with three members or more: with fewer the others have no quorum")
    for load in args.only:
        if load not in loads.names(args.members):
            parser.error(f"--only: with --members {args.members} the loads are {', '.join(loads.names(args.members))}, not '{load}'")
    return args


def write(path, text):
    """Writes a file; after a failure there is either the complete file or none."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def render(source, out):
    try:
        doc = json.loads(source.read_text())
    except (OSError, json.JSONDecodeError) as e:
        raise Trouble(f"{source}: {e}") from None
    trouble = figures.problems(doc)
    if trouble:
        raise Trouble(f"{source}: {trouble[0]}")
    write(out, page.render(doc))
    say(f"wrote {out}")


def programs(args):
    """The programs to run; those that were not given are built or installed."""
    found = {}
    if args.zabra and args.load:
        found["zabra"], found["zabra-load"] = args.zabra.resolve(), args.load.resolve()
    else:
        built, load = servers.zabra_programs(say)
        found["zabra"], found["zabra-load"] = args.zabra or built, args.load or load
    for program in found.values():
        if not os.access(program, os.X_OK):
            raise Trouble(f"{program} is no program")
    if "zookeeper" in args.servers:
        found["jars"] = servers.zookeeper_jars(say, args.jars)
        if not shutil.which("java"):
            raise Trouble("Apache ZooKeeper needs 'java' on PATH")
    if "etcd" in args.servers:
        found["etcd"], found["etcd-load"] = servers.etcd_programs(say)
    return found


def start(args, found, work, running):
    """Starts the servers into `running`, one kind after the other."""
    for name in args.servers:
        first = args.port_base + PORTS * loads.ALL.index(name)
        running[name] = servers.ensemble(name, found, work, first, args.members).start()


def about(args, found, running):
    """What the report says of each server."""
    shared = ["zoo.cfg differs from the defaults in: no limit of 60 connections per address, no admin server, all four-letter words, purge on",
              "forceSync is on, as it is by default"]
    said = {}
    for name in args.servers:
        if name == "etcd":
            version = machine.first_line([found["etcd"], "--version"]).removeprefix("etcd Version: ")
            notes = ["defaults, fsync included, but for: HTTP on a port of its own, as etcd's log recommends; an 8 GiB quota instead of 2 GiB for the "
                     "history of long runs; log level warn",
                     "built from its published Go module by tools/compare/etcd with this machine's Go"]
            said[name] = {"version": version, "notes": notes, "config": ""}
            continue
        config = running[name].members[0].config.read_text()
        if name == "zookeeper":
            jar = next(found["jars"].glob("zookeeper-3.*.jar")).name
            version = re.sub(r"^zookeeper-|\.jar$", "", jar)
            notes = [*shared, "heap as zkServer.sh gives it (-Xmx1000m), the JVM's own choice of collector, log level warn"]
        else:
            version = machine.first_line([found["zabra"], "version"]).removeprefix("Zabra version: ").split(",")[0]
            digest = hashlib.sha256(found["zabra"].read_bytes()).hexdigest()
            origin = (f"a binary that was given (--zabra {args.zabra}): this checkout's commit need not be its own" if args.zabra
                      else "release build of this checkout")
            notes = [*shared, f"{origin}; SHA-256 {digest}", "no other options"]
        said[name] = {"version": version, "notes": notes, "config": config}
    for name, ensemble in running.items():
        said[name]["command"] = [str(c).replace(f"{REPO}/", "") for c in ensemble.members[0].command]
    return said


def document(args, chosen, work):
    options = {k: getattr(args, k) for k in ("rounds", "seconds", "warm_up", "bracket_seconds", "only", "seed", "kills")}
    options["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    described = []
    for load in chosen:
        part = load.shares(args.members)[0]
        commands = {s: part.command(s) for s in args.servers if s in load.servers and s != "zookeeper"}
        described.append({**load.as_json(), "commands": commands})
    return {"version": 2, "members": args.members, "began": now(), "command": ["tools/compare/run", *sys.argv[1:]], "options": options,
            "machine": machine.describe(work), "commit": machine.commit(REPO), "servers": {}, "loads": described, "runs": [], "brackets": [], "failures": [],
            "kills": {}}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def estimate(args, chosen):
    bracket = 2 * (args.bracket_seconds * 1.25 + 0.3)
    one = args.seconds + args.warm_up + bracket + 0.7
    each = sum(len(set(l.servers) & set(args.servers)) * one + bracket for l in chosen)
    kill = 6 * args.kills * len(args.servers)
    return (args.rounds * each + kill) / 60


def compare(args, out):
    chosen = [l for l in loads.chosen(args.only, args.get_rates, args.set_rates, args.members) if set(l.servers) & set(args.servers)]
    if not chosen:
        raise Trouble("--only names no load that one of --servers can run")
    found = programs(args)
    raise_open_files()
    raise_priority(args.nice)
    # A folder of our own in it, because other files there must not be removed.
    work = servers.fresh(args.work.resolve() / "compare-data")
    free = shutil.disk_usage(work).free >> 30
    if free < 4 * args.members:
        raise Trouble(f"{work}: {free} GiB free; logs and etcd's history need up to {4 * args.members}")
    doc = document(args, chosen, work)
    running = {}
    json_file = out.with_suffix(".json")
    try:
        start(args, found, work, running)
        doc["servers"] = about(args, found, running)
        m = measure.Measurement(args, running, found, work)
        doc["runs"], doc["brackets"], doc["failures"], doc["kills"] = m.runs, m.brackets, m.failures, m.kills
        say(f"about {estimate(args, chosen):.0f} minutes (less when rates are not held)")
        m.warm(chosen)
        for n in range(args.rounds):
            m.round(chosen, n)
            write(json_file, json.dumps(doc))
        m.kill_leaders(args.kills)
    except (Trouble, KeyboardInterrupt) as e:
        doc["failed"] = str(e) or "it was interrupted"
        raise
    finally:
        for server in running.values():
            server.stop()
        doc["ended"] = now()
        if doc["runs"]:
            write(json_file, json.dumps(doc))
            write(out, page.render(doc))
            say(f"wrote {out} and {json_file}")
    # After a failure the logs are kept for inspection; after a success nothing is left.
    shutil.rmtree(work)


def main():
    args = arguments()
    # SIGTERM ends the processes that were started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt("ended by SIGTERM")))
    try:
        if args.render:
            render(args.render, args.out or args.render.with_suffix(".html"))
        else:
            date = datetime.datetime.now().strftime("%Y-%m-%d-%H%M")
            out = (args.out or REPO / f"target/compare-{date}.html").resolve()
            out.parent.mkdir(parents=True, exist_ok=True)
            compare(args, out)
    except Trouble as e:
        sys.exit(f"compare: {e}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
