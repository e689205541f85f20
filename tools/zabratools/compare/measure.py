"""Runs loads and the brackets around them."""

import sys

from zabratools import machine
from zabratools.generator import generator, settle
from zabratools.server import Trouble

# With more failed runs than this the comparison is given up.
MOST_FAILURES = 5


class Measurement:
    """One whole comparison: what was run, in order, and what came out."""

    def __init__(self, options, servers, programs, disk_folder):
        """`servers`: an `Ensemble` by name."""
        self.options, self.servers, self.programs, self.disk_folder = options, servers, programs, disk_folder
        self.runs, self.brackets, self.failures, self.kills, self.too_fast = [], [], [], {}, {}

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def timing(self, seconds, warm_up):
        return ["--seconds", f"{seconds:g}", "--warm-up", f"{warm_up:g}"]

    def bracket(self, load, n):
        """Measures bare echo and bare disk sync; returns the number of this measurement, which the runs around it refer to."""
        s = self.options.bracket_seconds
        time = [*self.timing(s, s / 4), "--json", "--quiet"]
        zabra_load = self.programs["zabra-load"]
        echo = generator([zabra_load, *load.echo(), "--echo-port", self.options.port_base + 90, *time], "bare echo", 60 + 10 * s)
        disk = generator([zabra_load, *load.disk(), "--dir", self.disk_folder, *time], "bare disk sync", 60 + 10 * s)
        for one in (echo, disk):
            del one["latency_curve_us"], one["latency_us_by_kind"], one["service_latency_us"], one["held"], one["extra"]
        self.brackets.append({"load": load.name, "round": n, "echo": echo, "disk": disk})
        return len(self.brackets) - 1

    def pids(self):
        return [pid for server in self.servers.values() for pid in server.pids]

    def rest(self):
        """Waits until the servers have nothing to do; the seconds that took."""
        return settle(self.pids())

    def run(self, load, name, seconds, warm_up):
        """One run; its JSON and how busy the machine was."""
        self.servers[name].check()
        rested = self.rest()
        watch = machine.Watch(self.pids())
        own = [] if name == "etcd" else ["--json", "--quiet"]
        program = self.programs["etcd-load" if name == "etcd" else "zabra-load"]
        try:
            result = self.servers[name].run(load, program, seconds, warm_up, ["--seed", self.options.seed, *own])
        finally:
            # If a server has ended, that is the better explanation.
            self.servers[name].check()
        return result, watch.end() | {"rested_s": round(rested, 2)}

    def attempt(self, load, name, n, seconds, warm_up):
        """As `run`; a run that fails while the server lives is reported and the comparison goes on, without a result."""
        try:
            return self.run(load, name, seconds, warm_up)
        except Trouble as e:
            self.servers[name].check()
            self.failures.append({"load": load.name, "server": name, "round": n, "text": str(e)})
            self.say(f"FAILED: {e}")
            if len(self.failures) > MOST_FAILURES:
                raise
            return None

    def names_for(self, load, n):
        """The servers of a load in this round's order: each goes first in turn."""
        return self.turned([s for s in self.servers if s in load.servers], n)

    def turned(self, names, n):
        turn = n % len(names) if names else 0
        return names[turn:] + names[:turn]

    def warm(self, loads):
        """Runs each closed loop once on all servers and discards the result, because a JVM compiles its hot paths only after a while."""
        seconds = min(3.0, self.options.seconds)
        for load in loads:
            if load.sweep is None:
                for name in self.names_for(load, 0):
                    self.say(f"warming up {name}: {load.name}")
                    self.attempt(load, name, -1, seconds, 0.2)

    def round(self, loads, n):
        self.too_fast = {}
        for load in loads:
            names = [s for s in self.names_for(load, n) if load.sweep not in self.too_fast.get(s, ())]
            if not names:
                continue
            before = self.bracket(load, n)
            for name in names:
                found = self.attempt(load, name, n, self.options.seconds, self.options.warm_up)
                after = self.bracket(load, n)
                if found is None:
                    before = after
                    if load.sweep:
                        self.too_fast.setdefault(name, set()).add(load.sweep)
                    continue
                result, busy = found
                self.runs.append({"load": load.name, "server": name, "round": n, "before": before, "after": after,
                                  "environment": busy, "result": result})
                before = after
                if load.sweep and not result["held"]:
                    self.too_fast.setdefault(name, set()).add(load.sweep)
                self.tell(load, name, n, result, busy)

    def kill_leaders(self, times):
        """Ends every ensemble's leader so many times; {server: seconds to the first acknowledged write}."""
        for n in range(times):
            for name in self.turned(list(self.servers), n):
                self.rest()
                took = self.servers[name].fail_over()
                self.kills.setdefault(name, []).append(took)
                self.say(f"kill {n + 1}   {name:<9} {took:.2f} s from the leader's end to the first acknowledged write")

    def tell(self, load, name, n, r, busy):
        latency, bracket = r["latency_us"], self.brackets[-1]
        held = "  RATE NOT HELD" if r["held"] is False else ""
        self.say(f"round {n + 1}  {load.name:<22} {name:<9} {r['ops_per_second']:>10,.0f}/s  {r['server_cpu']['us_per_op']:7.2f} µs CPU  "
                 f"p50 {latency['p50']:>9,.0f} µs  p99 {latency['p99']:>9,.0f} µs  | echo {bracket['echo']['ops_per_second']:>9,.0f}/s  "
                 f"sync {bracket['disk']['latency_us']['p50']:5,.0f} µs  others {busy['others_cpus']:.2f} CPUs{held}")
