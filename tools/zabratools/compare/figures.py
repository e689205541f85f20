"""Medians, ratios and marks: the values in the report that are computed from the measurements."""

import statistics

# A run is marked when its brackets moved by more than this: bare echo's throughput, bare sync's p50.
ECHO_FACTOR = 1.25
DISK_FACTOR = 1.5
# ... or when others kept this many CPUs busy meanwhile, or the host took this share of CPU time.
OTHERS_CPUS = 0.25
STEAL_PERCENT = 2.0
# From this CPU usage on the generator counts as the limit: zabra-load has one thread.
GENERATOR_CPUS = 0.95
# An ensemble's generators have to measure together for this share of their time.
TOGETHER = 0.9
# From this share of all CPUs, used by generator and server together, the machine counts as the limit.
FULL = 0.85

# name, what it is, whether more is better, how to get it from a run's JSON
METRICS = {
    "throughput": ("operations/s", True, lambda r: r["ops_per_second"]),
    "cpu": ("CPU µs/op", False, lambda r: r["server_cpu"]["us_per_op"]),
    "p50": ("p50 µs", False, lambda r: r["latency_us"]["p50"]),
    "p99": ("p99 µs", False, lambda r: r["latency_us"]["p99"]),
    "p99.9": ("p99.9 µs", False, lambda r: r["latency_us"]["p99.9"]),
    "rss": ("resident MiB", False, lambda r: r["server_memory_bytes"]["rss"] / 2**20),
    "anonymous": ("anon. MiB", False, lambda r: r["server_memory_bytes"]["anonymous"] / 2**20),
}


def runs_of(doc, load, server):
    return [r for r in doc["runs"] if r["load"] == load and r["server"] == server]


def median(doc, load, server, metric):
    """Median over the rounds; None when there was no run."""
    values = [METRICS[metric][2](r["result"]) for r in runs_of(doc, load, server)]
    return statistics.median(values) if values else None


def ratio(doc, load, server, base, metric):
    """(median, smallest, largest) of server / base over the rounds that both ran in; None without any."""
    pick = METRICS[metric][2]
    bases = {r["round"]: pick(r["result"]) for r in runs_of(doc, load, base)}
    each = [pick(r["result"]) / bases[r["round"]] for r in runs_of(doc, load, server) if bases.get(r["round"])]
    return (statistics.median(each), min(each), max(each)) if each else None


def spread(a, b):
    """The larger value divided by the smaller; infinite if one is zero."""
    small, large = sorted((a, b))
    return large / small if small > 0 else float("inf")


def echo_rate(bracket):
    return bracket["echo"]["ops_per_second"]


def sync_p50(bracket):
    return bracket["disk"]["latency_us"]["p50"]


def bracket_median(doc, load, pick):
    values = [pick(b) for b in doc["brackets"] if b["load"] == load]
    return statistics.median(values) if values else None


def marks(doc, run):
    """Reasons why a run may not be trusted, as short texts; empty if there are none."""
    before, after = doc["brackets"][run["before"]], doc["brackets"][run["after"]]
    writes = next((l["writes"] for l in doc["loads"] if l["name"] == run["load"]), True)
    found = []

    def moved(pick, factor, what):
        usual = bracket_median(doc, run["load"], pick)
        each = [pick(before), pick(after)]
        worst = max(spread(*each), *(spread(e, usual) for e in each))
        if worst > factor:
            found.append(f"{what} moved ×{worst:.2f}")

    moved(echo_rate, ECHO_FACTOR, "bare echo")
    if writes:
        moved(sync_p50, DISK_FACTOR, "bare sync")
    environment = run["environment"]
    if environment["others_cpus"] > OTHERS_CPUS:
        found.append(f"others used {environment['others_cpus']:.2f} CPUs")
    if environment["steal_percent"] > STEAL_PERCENT:
        found.append(f"steal {environment['steal_percent']:.1f} %")
    together = run["result"].get("together", 1.0)
    if together < TOGETHER:
        found.append(f"generators measured together for {100 * together:.0f} % only")
    return found


def limits(doc, run):
    """Whether the generator or the machine, not the server, was the limit."""
    r, cpus = run["result"], doc["machine"]["CPUs usable"]
    found = []
    # Of an ensemble's generators the one with most to do.
    if run["server"] != "etcd" and r.get("busiest_generator_cpus", r["generator_cpus"]) > GENERATOR_CPUS:
        found.append("generator used a whole CPU")
    used = r["generator_cpus"] + r["server_cpu"]["cpus"]
    if used > FULL * cpus:
        found.append(f"all CPUs busy (generator {r['generator_cpus']:.2f}, server {r['server_cpu']['cpus']:.2f})")
    return found


def bounds(doc, load, server):
    """Compared with the machine's limits, as medians over the rounds: throughput / bare echo's, CPU / bare echo's, p50 / (bare echo's
    p50 + one sync where most operations are writes). The bracket of a run is the mean of the one before and the one after."""
    def mean(run, pick):
        return (pick(doc["brackets"][run["before"]]) + pick(doc["brackets"][run["after"]])) / 2

    runs = runs_of(doc, load["name"], server)
    if not runs:
        return None
    syncs = load["writes"] and load["load"] != "mixed"
    rate = [r["result"]["ops_per_second"] / mean(r, echo_rate) for r in runs]
    # The kernel counts CPU time in ticks: a very short bracket may have none.
    echoes = [mean(r, lambda b: b["echo"]["server_cpu"]["us_per_op"]) for r in runs]
    cpu = [r["result"]["server_cpu"]["us_per_op"] / echo for r, echo in zip(runs, echoes) if echo]
    floor = [mean(r, lambda b: b["echo"]["latency_us"]["p50"]) + (mean(r, sync_p50) if syncs else 0) for r in runs]
    p50 = [r["result"]["latency_us"]["p50"] / f for r, f in zip(runs, floor)]
    return {"throughput": statistics.median(rate), "cpu": statistics.median(cpu) if cpu else None, "p50": statistics.median(p50),
            "floor_us": statistics.median(floor)}


def median_curve(curves):
    """Point by point the median of several percentile curves, at the percentiles of the one with most points."""
    if not curves:
        return []
    longest = max(curves, key=len)
    return [(percent, statistics.median(at(c, percent) for c in curves)) for percent, _ in longest]


def at(curve, percent):
    """A curve's value at a percentile: the first point that reaches it."""
    return next((value for p, value in curve if p >= percent), curve[-1][1])


def sweep(doc, name, server):
    """Points of a throughput-against-latency plot: [(offered, achieved, p50, p99, held)], medians over the rounds."""
    points = []
    for load in doc["loads"]:
        runs = runs_of(doc, load["name"], server) if load["sweep"] == name else []
        if runs:
            value = lambda pick: statistics.median(pick(r["result"]) for r in runs)
            points.append({"offered": load["rate"], "achieved": value(METRICS["throughput"][2]), "p50": value(METRICS["p50"][2]),
                           "p99": value(METRICS["p99"][2]), "held": sum(r["result"]["held"] is not False for r in runs) * 2 > len(runs),
                           "rounds": len(runs)})
    return points


def members(doc):
    """Servers of each kind; version 1 knew standalone servers only."""
    return doc.get("members", 1)


def problems(doc):
    """Why a document cannot be rendered; empty if it can."""
    missing = [k for k in ("version", "machine", "servers", "loads", "runs", "brackets", "options", "commit") if k not in doc]
    if missing:
        return [f"not a result of tools/compare: no {', '.join(missing)}"]
    if doc["version"] not in (1, 2):
        return [f"version {doc['version']} of the results is unknown"]
    for run in doc["runs"]:
        if not (0 <= run["before"] < len(doc["brackets"]) and 0 <= run["after"] < len(doc["brackets"])):
            return ["a run names a bracket that is not there"]
    return []
