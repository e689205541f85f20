"""How hostile clients affect others: measures an ordinary load alone, then during each attack, in turn, on Apache ZooKeeper and Zabra.

usage: tools/load/hostile [--rounds N] [--seconds S] [--only ATTACK]... [--server apache|zabra] [--out FILE.json]
       tools/load/hostile --table FILE.json...        (only the tables, of runs made before)

The ordinary load is an open loop: 1,000 requests per second over 8 sessions, half getData, half setData of 100 bytes, latency
from the planned send. Each round measures it alone and with the attack (zabra-load hostile), on one server after the other.
Attackers, victims and server share this machine's CPUs, so what an attack costs the kernel and the generator is in the figures
of both servers alike; its rate is stated. Memory is the server's anonymous resident memory: before, at most during, and after.

Needs what tools/load/beside needs. Ports 24200 and following of 127.0.0.1; data in target/hostile.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from zabratools.load import servers
from zabratools.load.servers import Server
from zabratools.server import REPO, Trouble, own_child

VICTIM = ["mixed", "--reads", "50", "-c", "8", "--rate", "1000", "--keys", "1000"]
# Name: what it is, arguments.
ATTACKS = {
    "idle": ("10,000 sessions that only ping", ["-c", "10000"]),
    "silent": ("5,000 connections without a handshake, or a byte of it a second", ["-c", "5000"]),
    "half": ("2,000 sessions, a 1 MB frame announced and a byte of it sent a second", ["-c", "2000"]),
    "swollen": ("100 sessions that sent all but the last byte of a 1 MB frame", ["-c", "100"]),
    "slow": ("100 sessions that asked for 50 x 1 MB and do not read, or a byte a second", ["-c", "100", "-d", "50"]),
    "slow-mixed": ("100 sessions that asked for 44 x 0.5 MB of children with 6 sets between, and do not read",
                   ["-c", "100", "-d", "50"]),
    "churn": ("500 new sessions per second, closed at once", ["-c", "64", "--rate", "500"]),
    "connects": ("1,000 connections per second, closed before the handshake", ["-c", "64", "--rate", "1000"]),
    "multi": ("2 multis of 1 MB per second, 1,000 setData each", ["-c", "4", "--rate", "2", "--ops", "1000"]),
    "multi-flood": ("8 sessions with 8 multis of 1 MB each in flight, as fast as they are answered",
                    ["-c", "8", "-d", "8", "--ops", "1000"]),
    "children": ("getChildren of 10,000 children (0.5 MB), 50 per second", ["-c", "8", "--rate", "50"]),
    "children-flood": ("the same, 8 sessions x 4 in flight, as fast as they are answered", ["-c", "8", "-d", "4"]),
    "large": ("getData of 1 MB, 50 per second", ["-c", "8", "--rate", "50"]),
    "large-flood": ("the same, 8 sessions x 4 in flight, as fast as they are answered", ["-c", "8", "-d", "4"]),
    "set-watches": ("setWatches of 8,000 paths (0.9 MB), 5 per second", ["-c", "4", "--rate", "5"]),
    "watches": ("400,000 watches on 2 sessions", ["-c", "2", "--watches", "200000"]),
}


def kind(attack):
    return attack.removesuffix("-flood")


class Watch(threading.Thread):
    """Samples the server's memory."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.most, self.stopped = server, server.memory(), threading.Event()

    def run(self):
        while not self.stopped.wait(0.1):
            self.most = max(self.most, self.server.memory())

    def end(self):
        self.stopped.set()
        self.join()
        return self.most


def victim(args, server):
    try:
        r = server.load(*VICTIM, seconds=args.seconds, warm_up=args.warm_up)
    except Trouble as e:
        return {"failed": str(e)}
    return {"latency_us": r["latency_us"], "by_kind": r["latency_us_by_kind"], "ops_per_second": r["ops_per_second"],
            "held": r["held"], "cpus": r["server_cpu"]["cpus"], "load_average": r["load_average"], "steal": r["steal"]}


def attacked(args, server, attack):
    memory_before = server.memory()
    watch = Watch(server)
    watch.start()
    seconds = args.seconds + args.warm_up + 1.5
    command = [str(args.load), "hostile", "--attack", kind(attack), *ATTACKS[attack][1], "--server", f"127.0.0.1:{server.port}",
               "--seconds", str(seconds), "--warm-up", "0", "--root", "/hostile", "--stall", "60"]
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=own_child)
    try:
        if attacker.stdout.readline().strip() != "ready":
            return {"failed": attacker.stderr.read().strip(), "memory_before": memory_before, "memory_most": watch.end()}
        result = victim(args, server)
        done, said = attacker.communicate(timeout=60)
        result["attack"] = json.loads(done) if attacker.returncode == 0 else {"failed": said.strip()}
    finally:
        attacker.kill()
        attacker.wait()
    result |= {"memory_before": memory_before, "memory_most": watch.end()}
    time.sleep(1)
    result["memory_after"] = server.memory()
    return result


def measure(args, names):
    results = {attack: {name: [] for name in names} for attack in args.only or ATTACKS}
    for attack in results:
        both = [Server(args, name, n, label=f"{name}-{attack}") for n, name in enumerate(names)]
        try:
            for server in both:
                server.start()
                # A first run lets a JVM compile, and creates the znodes of the ordinary load.
                victim(args, server)
            for n in range(args.rounds):
                for server in both if n % 2 == 0 else both[::-1]:
                    alone = victim(args, server)
                    with_it = attacked(args, server, attack)
                    results[attack][server.kind].append({"alone": alone, "attacked": with_it})
                    print(f"round {n + 1}  {attack:<15} {server.kind:<7} {line(alone)}  |  {line(with_it)}", file=sys.stderr,
                          flush=True)
        finally:
            for server in both:
                server.stop()
            if args.out:
                args.out.write_text(json.dumps(results, indent=1))
    return results


def line(r):
    if "failed" in r:
        return f"FAILED {r['failed']}"
    p = r["latency_us"]
    memory = f" {r['memory_most'] / 2**20:.0f} MiB" if "memory_most" in r else ""
    return f"p50 {p['p50']:,.0f} p99 {p['p99']:,.0f} p99.9 {p['p99.9']:,.0f} µs{memory} load {r['load_average']:.1f}"


def table(results):
    rows = ["| attack | server | alone p50 / p99 / p99.9 µs | attacked p50 / p99 / p99.9 µs | p99 ratio, each round | median "
            "| memory MiB before / most / after |", "|---|---|--:|--:|---|--:|--:|"]
    for attack, by_server in results.items():
        for name, rounds in by_server.items():
            good = [r for r in rounds if "failed" not in r["alone"] and "failed" not in r["attacked"]]
            lost = len(rounds) - len(good)
            if not good:
                why = next((r[w]["failed"] for r in rounds for w in ("alone", "attacked") if "failed" in r[w]), "nothing measured")
                rows.append(f"| {attack} | {name} | | | FAILED: {why} | | |")
                continue

            def late(when):
                each = [[r[when]["latency_us"][q] for r in good] for q in ("p50", "p99", "p99.9")]
                return " / ".join(f"{statistics.median(values):,.0f}" for values in each)

            ratios = [r["attacked"]["latency_us"]["p99"] / r["alone"]["latency_us"]["p99"] for r in good]
            memory = [max(r["attacked"][m] for r in good) / 2**20 for m in ("memory_before", "memory_most", "memory_after")]
            notes = f" ({lost} rounds FAILED)" if lost else ""
            rows.append(f"| {attack} | {name} | {late('alone')} | {late('attacked')} | "
                        f"{', '.join(f'{x:.2f}' for x in ratios)}{notes} | {statistics.median(ratios):.2f} | "
                        f"{' / '.join(f'{m:,.0f}' for m in memory)} |")
    return "\n".join(rows)


def legend(results):
    return "\n".join(f"- **{attack}**: {ATTACKS[attack][0]}" for attack in results)


def conditions(results):
    runs = [r[w] for by in results.values() for rounds in by.values() for r in rounds for w in ("alone", "attacked")]
    runs = [r for r in runs if "failed" not in r]
    if not runs:
        return ""
    loads, steals = [r["load_average"] for r in runs], [r["steal"] for r in runs]
    return (f"Load averages {min(loads):.1f} to {max(loads):.1f} (this load included), stolen CPU time {100 * min(steals):.1f} to "
            f"{100 * max(steals):.1f} %.")


def main():
    parser = argparse.ArgumentParser(prog="tools/load/hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--only", action="append", choices=list(ATTACKS))
    parser.add_argument("--table", type=Path, nargs="+", help="print the tables of these result files")
    servers.add_arguments(parser)
    parser.set_defaults(work=REPO / "target/hostile")
    args = parser.parse_args()
    results = {}
    if args.table:
        for file in args.table:
            results |= json.loads(file.read_text())
    else:
        results = measure(args, servers.check(args))
    print(legend(results), table(results), conditions(results), sep="\n\n")


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"hostile: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
