"""The report: one self-contained HTML file."""

import shlex
import statistics
from html import escape

from zabratools.compare import figures, plot
from zabratools.compare.plot import COLOURS
from zabratools.ensemble import WRITE_EVERY_S

NAMES = {"zookeeper": "Apache ZooKeeper", "etcd": "etcd", "zabra": "Zabra"}
BASE = "zookeeper"

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 1400px; padding: 1.5rem 2rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; } h3 { font-size: 1rem; margin: 0 0 .2rem; }
p, ul { max-width: 62rem; } .sub, .note, caption { color: #555; font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; vertical-align: top; }
th { background: #f5f5f5; font-weight: 600; } th.l, td.l { text-align: left; } td.w { white-space: normal; min-width: 14rem; }
tr.first td { border-top: 2px solid #bbb; } caption { caption-side: bottom; text-align: left; padding-top: .3rem; }
.better { color: #0a6b43; font-weight: 600; } .worse { color: #a5330a; font-weight: 600; } .range { color: #777; font-size: .8em; font-weight: 400; }
.mark { color: #9a3c00; } .warn { background: #fff6e5; border-left: 4px solid #e09a1a; padding: .5rem .9rem; margin: .7rem 0; max-width: 62rem; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.2rem 1.6rem; }
figure { margin: 0; } svg { width: 100%; height: auto; font-family: inherit; } figcaption { font-size: .85rem; color: #555; }
.key { display: inline-block; width: 1.6em; height: .28em; vertical-align: middle; margin: 0 .35em 0 .9em; }
pre { background: #f6f6f6; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem; } code { font-size: .9em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; } dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 900px) { .plots { grid-template-columns: 1fr; } body { padding: 1rem; } }
"""

NOT_COMPARABLE = [
    "etcd is another kind of store: flat keys with a history of revisions (MVCC) kept until it is compacted, leases, ranges and "
    "transactions with conditions. ZooKeeper's are a tree with parents, sessions, ephemerals, ACLs and one-shot watches. A put is "
    "not a setData; it is what an etcd user would call instead.",
    "etcd's reads are linearizable unless asked otherwise. ZooKeeper's getData, and so Zabra's, answers from the server's own state. "
    "The get and mixed loads therefore use etcd's serializable reads; “{linearizable}” shows what etcd's default costs here{with_one}.",
    "etcd is asked through its own Go client over gRPC (HTTP/2, protobuf), by a generator of its own that takes several CPUs where "
    "zabra-load takes one. On a small machine that leaves etcd less: see the CPU that the generator used, and CPU per operation, "
    "which does not depend on it. Latency of etcd includes its client's, that of the others includes zabra-load's (a few µs).",
    "create is a put of a new key for etcd: no parent is checked, and nothing refuses a key that exists. multi is a txn of puts without "
    "conditions; its keys are all different, as etcd demands.",
    "etcd's history is compacted before each run, outside the measured time; its default (never) would let it grow over the runs.",
    "Memory is what the process had at the end of a run, after all runs before it: a JVM keeps the heap it once took (-Xmx1000m, the "
    "default of zkServer.sh). Resident memory counts mapped files too, which the kernel can take back: etcd maps its database, Zabra its log. "
    "Anonymous memory does not count them.",
]
CLOSED_OR_OPEN = ("In a closed loop throughput and latency are one number (rate = connections × depth / latency); the open loops offer all "
                  "servers the same.")
ALONE = ["One server each, all on one machine with the generators, over loopback: no network, no replication. " + CLOSED_OR_OPEN]
TOGETHER = [
    "{Three} members each, all on one machine with {three} generators, over loopback: the members share its CPUs and its disk, which servers of a "
    "real ensemble do not, and no message takes the time of a network. So throughput of writes is far from that of {three} machines, and CPU "
    "per operation, over all members, is the figure that says most. " + CLOSED_OR_OPEN,
    "A follower of ZooKeeper or Zabra answers reads itself and sends writes on to the leader, as etcd's does; etcd's linearizable reads ask the "
    "leader as well. Connections are spread evenly over the members, whoever leads; “set 1x1” asks a member that does not lead.",
    "Every member has a generator of its own with 1,000 keys of its own; they begin together when all have set up, and their throughputs are added up. "
    "A run is marked when they measured together for less than {together} % of their time. Percentiles are those of all "
    "latencies together: the generators' histograms are added up. CPU and memory are sums over all members, also those that nobody asked.",
    "The bare echo is one process with one generator, whatever the number of members, and the bare sync is one sync: a write of an ensemble "
    "waits for the syncs of a quorum, and for a round trip between members. Its floor is higher than the one named here.",
    "The time after a leader's end is the ensemble's alone: on every other member a write of its own is begun every {every} ms until one is acknowledged; a real "
    "client also needs its time to find another member. For ZooKeeper and Zabra each begins with a new session, for etcd with a request to its "
    "JSON gateway. It depends on the defaults of each (ZooKeeper's: the leader's closed connections; etcd's: an election timeout of 1 s).",
]
WORDS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def members_word(doc):
    n = figures.members(doc)
    return WORDS[n] if n < len(WORDS) else str(n)


def not_comparable(doc):
    """What cannot be compared, as texts."""
    word, alone = members_word(doc), figures.members(doc) == 1
    linearizable = next((l["name"] for l in doc["loads"] if l["name"].endswith("linearizable")), f"get {64 if alone else 63}x1, linearizable")
    every = f"{1000 * WRITE_EVERY_S:g}"
    return [text.format(Three=word.capitalize(), three=word, linearizable=linearizable, together=f"{100 * figures.TOGETHER:g}", every=every,
                        with_one=", with one server" if alone else "")
            for text in NOT_COMPARABLE + (ALONE if alone else TOGETHER)]


def name(server):
    return NAMES.get(server, server)


def key(server):
    return f'<span class="key" style="background:{COLOURS[server]}"></span>{escape(name(server))}'


def present(doc):
    return [s for s in ("zookeeper", "etcd", "zabra") if any(r["server"] == s for r in doc["runs"])]


def value(metric, v):
    if v is None:
        return "–"
    if metric in ("throughput",) or v >= 100:
        return f"{v:,.0f}"
    return f"{v:.2f}" if v < 10 else f"{v:.1f}"


def factor(r):
    """A ratio as text, readable also if it is small."""
    if r >= 100:
        return f"×{r:,.0f}"
    return f"×{r:.2f}" if r >= 0.1 else f"×{r:.3f}"


def ratio_cell(doc, load, server, metric):
    found = figures.ratio(doc, load, server, BASE, metric)
    if server == BASE or found is None:
        return ""
    middle, low, high = found
    more_is_better = figures.METRICS[metric][1]
    kind = "" if 0.95 <= middle <= 1.05 else "better" if (middle > 1) == more_is_better else "worse"
    span = f' <span class="range">{factor(low)[1:]}–{factor(high)[1:]}</span>' if low != high else ""
    return f'<br><span class="{kind}">{factor(middle)}</span>{span}'


def table(heads, rows, caption=""):
    """`heads`: (text, left?); `rows`: (class, cells), a cell is ready HTML."""
    head = "".join(f'<th class="{"l" if left else ""}">{escape(text)}</th>' for text, left in heads)
    body = ""
    for kind, cells in rows:
        coded = "".join(f'<td class="{"l" if heads[i][1] else ""}">{c}</td>' for i, c in enumerate(cells))
        body += f'<tr class="{kind}">{coded}</tr>'
    note = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def closed_loads(doc):
    return [l for l in doc["loads"] if not l["sweep"] and any(r["load"] == l["name"] for r in doc["runs"])]


def ratios(doc):
    metrics = list(figures.METRICS)
    heads = [("load", True), ("server", True)] + [(figures.METRICS[m][0], False) for m in metrics] + [("runs", False), ("of these", True)]
    rows = []
    for load in closed_loads(doc):
        first = True
        for server in present(doc):
            runs = figures.runs_of(doc, load["name"], server)
            if not runs:
                continue
            marked = sum(bool(figures.marks(doc, r)) for r in runs)
            limited = sum(bool(figures.limits(doc, r)) for r in runs)
            notes = [f"{marked} noisy"] * bool(marked) + [f"{limited} at the limit"] * bool(limited)
            cells = [f"<b>{escape(load['name'])}</b>" if first else "", escape(name(server))]
            cells += [value(m, figures.median(doc, load["name"], server, m)) + ratio_cell(doc, load["name"], server, m) for m in metrics]
            cells += [str(len(runs)), f'<span class="mark">{"; ".join(notes)}</span>']
            rows.append(("first" if first else "", cells))
            first = False
    return table(heads, rows, "Values are medians over the rounds. ×: the median of what each round's value was of Apache ZooKeeper's in the same "
                 "round, after it the smallest and the largest. Throughput: more is better; all others: less is better (×0.25 is a quarter). Noisy, at the limit (of the generator or the machine): see the remarks at each run.")


def bound_rows(doc):
    heads = [("load", True), ("server", True), ("throughput / bare echo's", False), ("CPU per operation / bare echo's", False),
             ("p50 / floor", False), ("floor µs", False), ("bare echo/s", False), ("bare sync p50 µs", False)]
    rows = []
    for load in closed_loads(doc):
        if load["load"] == "fanout":
            continue
        first = True
        for server in present(doc):
            found = figures.bounds(doc, load, server)
            if found is None:
                continue
            cells = [f"<b>{escape(load['name'])}</b>" if first else "", escape(name(server)), f"{found['throughput']:.2f}",
                     f"{found['cpu']:.1f}" if found["cpu"] is not None else "–",
                     f"{found['p50']:.2f}", f"{found['floor_us']:,.0f}",
                     f"{figures.bracket_median(doc, load['name'], figures.echo_rate):,.0f}" if first else "",
                     f"{figures.bracket_median(doc, load['name'], figures.sync_p50):,.0f}" if first else ""]
            rows.append(("first" if first else "", cells))
            first = False
    return table(heads, rows, "Medians over the rounds of each run against the mean of its two brackets. The floor is the bare echo's p50 with the same "
                 "connections and depth, plus, where most operations are writes, one bare sync of one record. With many connections several writes share a sync.")


def overview(doc):
    """Throughput and CPU per operation as bars, with the ratio to the base after each value."""
    out = ""
    for metric, head in (("throughput", "Operations per second (longer is better)"), ("cpu", "CPU µs per operation (shorter is better)")):
        rows = []
        for load in closed_loads(doc):
            group = []
            for server in present(doc):
                v = figures.median(doc, load["name"], server, metric)
                if v is not None:
                    r = figures.ratio(doc, load["name"], server, BASE, metric) if server != BASE else None
                    group.append((server, v, value(metric, v) + (f"  {factor(r[0])}" if r else "")))
            if group:
                rows.append((load["name"], group))
        if rows:
            out += f"<figure><h3>{head}</h3>{plot.bars(head, rows, figures.METRICS[metric][0])}</figure>"
    return f'<div class="plots">{out}</div><p class="note">{"".join(key(s) for s in present(doc))}</p>'


def curves(doc):
    out = ""
    for load in closed_loads(doc):
        series = []
        for server in present(doc):
            each = [[tuple(p) for p in r["result"]["latency_curve_us"]] for r in figures.runs_of(doc, load["name"], server)]
            if each:
                series.append((server, each, figures.median_curve(each)))
        if series:
            keys = "".join(key(s) for s, _, _ in series)
            out += (f"<figure><h3>{escape(load['name'])} {keys}</h3>{plot.percentile_curves(load['name'], series)}"
                    f"<figcaption>{escape(load['what'])}.</figcaption></figure>")
    return f'<div class="plots">{out}</div>'


def sweeps(doc):
    out = ""
    for which in dict.fromkeys(l["sweep"] for l in doc["loads"] if l["sweep"]):
        series = [(s, figures.sweep(doc, which, s)) for s in present(doc)]
        series = [(s, points) for s, points in series if points]
        if series:
            keys = "".join(key(s) for s, _ in series)
            out += f"<figure><h3>{escape(which)} {keys}</h3>{plot.throughput_against_latency(which, series)}</figure>"
    return f'<div class="plots">{out}</div>' if out else ""


def sweep_table(doc):
    heads = [("offered", True)] + [(f"{name(s).removeprefix('Apache ')} {m}", False) for s in present(doc) for m in ("answered/s", "p50 µs", "p99 µs")]
    rows = []
    for which in dict.fromkeys(l["sweep"] for l in doc["loads"] if l["sweep"]):
        points = {s: {p["offered"]: p for p in figures.sweep(doc, which, s)} for s in present(doc)}
        first = True
        for rate in sorted({r for each in points.values() for r in each}):
            cells = [f"{escape(which)}, {rate:,.0f}/s"]
            for s in present(doc):
                p = points[s].get(rate)
                lost = ' <span class="mark">not held</span>' if p and not p["held"] else ""
                cells += [f"{p['achieved']:,.0f}{lost}", f"{p['p50']:,.0f}", f"{p['p99']:,.0f}"] if p else ["–"] * 3
            rows.append(("first" if first else "", cells))
            first = False
    return table(heads, rows, "Medians over the rounds that asked for the rate. –: not asked, because a lower rate was not held, or failed. etcd refuses requests when too many wait (“too many requests”): such a rate was not held.") if rows else ""


def members_table(doc):
    """What each member did: medians over the rounds, of an ensemble's closed loops."""
    heads = [("load", True), ("server", True), ("leader: operations/s", False), ("CPUs", False), ("MiB resident", False),
             ("each follower: operations/s", False), ("CPUs", False), ("MiB resident", False)]
    rows = []
    for load in closed_loads(doc):
        first = True
        for server in present(doc):
            cells = [f"<b>{escape(load['name'])}</b>" if first else "", escape(name(server))]
            for role in ("leader", "follower"):
                found = [m for r in figures.runs_of(doc, load["name"], server) for m in r["result"]["members"] if m["role"] == role]
                for pick in (lambda m: m["ops_per_second"], lambda m: m["cpus"], lambda m: m["memory_bytes"]["rss"] / 2**20):
                    cells.append(value("", statistics.median(map(pick, found))) if found else "–")
            if any(cell != "–" for cell in cells[2:]):
                rows.append(("first" if first else "", cells))
                first = False
    return table(heads, rows, "Medians over the rounds, and over the followers.")


def kills_table(doc):
    heads = [("leader killed", True), ("runs", False), ("least s", False), ("median s", False), ("most s", False)]
    rows = [("", [escape(name(server)), str(len(took)), f"{min(took):.2f}", f"{statistics.median(took):.2f}", f"{max(took):.2f}"])
            for server, took in doc.get("kills", {}).items() if took]
    return table(heads, rows, "From kill -9 of the leader to the first write that another member acknowledges, without other load. "
                 "The member that was killed is back before the next time.") if rows else ""


def run_rows(doc):
    heads = [("load", True), ("round", False), ("server", True), ("operations/s", False), ("CPU µs/op", False), ("p50 µs", False), ("p99 µs", False),
             ("p99.9 µs", False), ("max µs", False), ("RSS MiB", False), ("server CPUs", False), ("generator CPUs", False),
             ("others CPUs", False), ("steal %", False), ("load avg", False), ("bare echo/s before → after", False),
             ("bare sync p50 / p99 µs before → after", False), ("remarks", True)]
    rows = []
    for load in doc["loads"]:
        runs = [r for r in doc["runs"] if r["load"] == load["name"]]
        for i, run in enumerate(sorted(runs, key=lambda r: (r["round"], r["server"]))):
            r, e = run["result"], run["environment"]
            brackets = [doc["brackets"][run[w]] for w in ("before", "after")]
            late = r["latency_us"]
            held = ["rate not held"] if r["held"] is False else []
            remarks = "; ".join([*held, *figures.marks(doc, run), *figures.limits(doc, run)])
            sync = " → ".join(f"{b['disk']['latency_us']['p50']:,.0f} / {b['disk']['latency_us']['p99']:,.0f}" for b in brackets)
            rows.append(("first" if i == 0 else "", [
                f"<b>{escape(load['name'])}</b>" if i == 0 else "", str(run["round"] + 1), escape(name(run["server"])), f"{r['ops_per_second']:,.0f}",
                f"{r['server_cpu']['us_per_op']:.2f}", f"{late['p50']:,.0f}", f"{late['p99']:,.0f}", f"{late['p99.9']:,.0f}", f"{late['max']:,.0f}",
                f"{r['server_memory_bytes']['rss'] / 2**20:,.0f}", f"{r['server_cpu']['cpus']:.2f}", f"{r['generator_cpus']:.2f}",
                f"{e['others_cpus']:.2f}", f"{e['steal_percent']:.1f}", f"{e['load_average']:.1f}",
                " → ".join(f"{figures.echo_rate(b):,.0f}" for b in brackets), sync, f'<span class="mark">{escape(remarks)}</span>']))
    return table(heads, rows)


def definitions(pairs):
    return "<dl>" + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in pairs) + "</dl>"


def how(doc):
    machine = [(k, ", ".join(f"{a}: {b}" for a, b in v.items()) if isinstance(v, dict) else v) for k, v in doc["machine"].items()]
    options, commit = doc["options"], doc["commit"]
    changed = " with uncommitted changes" if commit["changed"] else ""
    measured = [("began", doc["began"]), ("ended", doc.get("ended", "–")), ("command", shlex.join(doc["command"])),
                *([("members", doc["members"])] if "members" in doc else []), ("rounds", options["rounds"]), ("seconds of a run", f"{options['seconds']:g} measured after {options['warm_up']:g} of warm-up"),
                ("seconds of a bracket", f"{options['bracket_seconds']:g} each for echo and disk"),
                ("seed", options["seed"]), ("priority", f"nice {options['nice']}" if options["nice"] else "normal"),
                ("this checkout", f"commit {commit['id']}{changed} ({commit['date']}: {commit['subject']})"),
                ("load averages while it ran", averages(doc))]
    out = "<h3>Machine</h3>" + definitions(machine) + "<h3>Run</h3>" + definitions(measured)
    for s in present(doc):
        server = doc["servers"][s]
        which = "" if figures.members(doc) == 1 else " (the first member)"
        out += f"<h3>{escape(name(s))} {escape(server['version'])}{which}</h3><pre>{escape(shlex.join(server['command']))}</pre>"
        if server.get("config"):
            out += f"<pre>{escape(server['config'])}</pre>"
        out += "<ul>" + "".join(f"<li>{escape(n)}</li>" for n in server["notes"]) + "</ul>"
    rows = [("", [escape(l["name"]), escape(l["what"]), *(f"<code>{escape(' '.join(l['commands'][s]))}</code>" if s in l["commands"] else "–"
            for s in ("zabra", "etcd"))]) for l in doc["loads"]]
    heads = [("load", True), ("what", True), ("zabra-load's arguments", True), ("etcd-load's", True)]
    return out + "<h3>Loads</h3>" + table(heads, rows).replace('<td class="l">', '<td class="l w">')


def averages(doc):
    each = [r["environment"] for r in doc["runs"]]
    if not each:
        return "–"
    low, high = min(e["load_average"] for e in each), max(e["load_average"] for e in each)
    return (f"{low:.1f} to {high:.1f}; others kept up to {max(e['others_cpus'] for e in each):.2f} CPUs busy; "
            f"steal up to {max(e['steal_percent'] for e in each):.1f} %")


def warnings(doc):
    runs = doc["runs"]
    out = []
    if doc.get("failed"):
        out.append(f"This comparison ended early: {doc['failed']}")
    for f in doc.get("failures", []):
        when = f"round {f['round'] + 1}" if f["round"] >= 0 else "warming up"
        out.append(f"A run failed and has no result ({when}): {f['text']}")
    marked = sum(bool(figures.marks(doc, r)) for r in runs)
    if marked:
        out.append(f"{marked} of {len(runs)} runs are marked as noisy: the bare echo around them moved by more than ×{figures.ECHO_FACTOR}, the bare sync "
                   f"by more than ×{figures.DISK_FACTOR}, others kept more than {figures.OTHERS_CPUS} CPUs busy, or steal was above "
                   f"{figures.STEAL_PERCENT:g} %. They are counted like the others; the table of all runs says which they are.")
    for s in present(doc):
        limited = sorted({r["load"] for r in runs if r["server"] == s and figures.limits(doc, r)}, key=[l["name"] for l in doc["loads"]].index)
        if limited:
            out.append(f"{name(s)}: the generator used a whole CPU, or generator and server {100 * figures.FULL:.0f} % of the machine, in some runs of "
                       f"{', '.join(limited)}. There the server may be able to do more; compare CPU per operation.")
    rounds = {len(figures.runs_of(doc, l["name"], s)) for l in closed_loads(doc) for s in present(doc)} - {0}
    if rounds and min(rounds) < 3:  # of a comparison that ended early, the last round's count as well
        out.append("Fewer than three rounds: medians and ranges say little.")
    return "".join(f'<p class="warn">{escape(w)}</p>' for w in out)


def render(doc):
    """The whole page."""
    servers = ", ".join(f"{name(s)} {doc['servers'][s]['version']}" for s in present(doc))
    sweep_part, kills, alone = sweeps(doc), kills_table(doc), figures.members(doc) == 1
    of_ensembles = "" if alone else f"<h2>Leader and followers</h2>\n{members_table(doc)}\n"
    of_ensembles += f"<h2>After the end of the leader</h2>\n{kills}\n" if kills else ""
    standing = "standalone servers" if alone else f"{members_word(doc)} members each"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Zabra beside Apache ZooKeeper and etcd</title><style>{STYLE}</style></head><body>
<h1>Zabra beside Apache ZooKeeper and etcd</h1>
<p class="sub">{escape(servers)} · {escape(doc["began"])} · {escape(str(doc["machine"]["CPU"]))}, {doc["machine"]["CPUs usable"]} CPUs ·
{standing}, every write synced to disk before it is acknowledged, 100-byte values, all on one machine</p>
{warnings(doc)}
<h2>Overview</h2>
{overview(doc)}
<h2>Ratios against Apache ZooKeeper</h2>
{ratios(doc)}
<h2>Latency</h2>
<p class="note">Thick: median over the rounds; thin: each round. Both axes are logarithmic.</p>
{curves(doc)}
{'<h2>Throughput against latency</h2><p class="note">Open loop: requests are sent at a fixed rate whatever the server does, and latency counts from the planned '
 'send. Drawn through: p50; dashed: p99; hollow: the rate was not held.</p>' + sweep_part + sweep_table(doc) if sweep_part else ''}
{of_ensembles}<h2>Against the machine's own bounds</h2>
<p>Before and after every run the same generator drives a bare io_uring server (one thread, multishot accept and receive, provided buffers, one send per
connection and turn; it knows no znodes) with frames of the load's sizes, connections and depth (fan-out and open loops: 64 × 1); and records of the size that one write logs are appended
to a mapped, fallocated file, each synced with fdatasync before the next. What a server costs above these is its own doing, and when these move, the
machine did.</p>
{bound_rows(doc)}
<h2>What is not comparable</h2>
<ul>{"".join(f"<li>{escape(n)}</li>" for n in not_comparable(doc))}</ul>
<h2>How it was measured</h2>
<p>All servers run at the same time, and only one load at a time: every round runs each load on every server, one after the other, the first one
alternating. Before the first round each closed loop is run once on each server and thrown away.
Before each run the disk is synced and all servers have come to rest, 10 s at most. Every reply is checked. CPU is user and system time of the
server's process{"" if alone else "es, all members together"}; CPUs of others are all that no process of this comparison used. Percentiles come from HdrHistograms of three digits.</p>
{how(doc)}
<h2>Every run</h2>
{run_rows(doc)}
</body></html>
"""
