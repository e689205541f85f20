"""Where the CPU time of an ensemble of Zabra servers goes under one load: for each member, its share by part, by thread and by function.

usage: tools/load/profile [--only LOAD] [--members N] [--seconds S] [--zabra BINARY] ... > profile.md

Starts the members on this machine, runs the load over them as tools/load/members does, and records each member with Linux perf while it runs.
Prints Markdown: per cent of the member's CPU time, and CPU µs of one of the ensemble's operations. The recordings stay in target/profile/*.data
(perf report -i FILE).

A function's row is its own time, without what it calls; code that the compiler inlined counts for the function it is in. A part of the kernel is
found by the calls that led there; the server's by the module in the function's name. Over loopback the sender's time has most of what the
receiver's kernel does with a packet.

Needs perf (Debian: linux-perf), the right to use it (root, or kernel.perf_event_paranoid at most 1 and kernel.kptr_restrict 0) and release builds of
zabra and zabra-load. Ports from 24400 to 24429.
"""

import argparse
import collections
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from zabratools import ensemble, machine
from zabratools.compare import loads
from zabratools.compare.servers import fresh
from zabratools.generator import settle
from zabratools.server import REPO, Trouble, check_measurable, own_child, raise_open_files, raise_priority, zabra_command

LOADS = {load.name: load for load in loads.ensembles() if "zabra" in load.servers}
# So much longer than the recording the load runs, because perf has to start.
MARGIN_S = 3

# What calls into the kernel were for: the innermost one that says so decides.
KERNEL = [(part, re.compile(words)) for part, words in [
    ("kernel: sleep and wake-up", r"^(__)?schedule|futex|try_to_wake_up|wake_up|eventfd|epoll|^ep_|hrtimer|clock_nanosleep|io_cqring_wait|"
                                  r"finish_task_switch|pick_next|dequeue_task|enqueue_task"),
    ("kernel: TCP", r"^(__)?(tcp|inet6?|ip6?|sock|skb|netif|net_rx|dev_queue|dev_hard|loopback|process_backlog|napi|sk|udp|nf|__dev|__netif)_|"
                    r"sendmsg|recvmsg|^sys_accept|^__sys_(send|recv)"),
    ("kernel: disk", r"ext[234]|jbd2|xfs|btrfs|fsync|fdatasync|msync|^(__)?(blk|bio|submit_bio|virtblk|virtqueue|nvme|scsi|iomap|writeback|filemap|"
                     r"folio|mpage|fallocate)|do_writepages|write_cache_pages|vfs_write|vfs_fallocate"),
    ("kernel: memory", r"page_fault|handle_mm|mmap|munmap|madvise|mprotect|alloc_pages|^(__)?brk"),
    ("kernel: io_uring", r"^(__)?io_|io_uring"),
]]

# What a module of the server is for; the first that fits. Of the others the module's own name is shown.
MODULES = [(re.compile(rf"zabra::({words})\b"), part) for words, part in [
    (r"runtime::(peer_net|dialer|resolve)|zab::(packets|connections)", "connections between members"),
    (r"runtime::net", "network"),
    (r"runtime::(log_thread|disk|feeder)|txnlog", "log"),
]]
COPIES = re.compile(r"mem(cpy|move|set|cmp)|malloc|calloc|realloc|\bfree\b|cfree|mi_|je_|_int_|__rust_|tcache|sdallocx", re.IGNORECASE)
HASH = re.compile(r"::h[0-9a-f]{16}$")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*) \((.*)\)$")

Sample = collections.namedtuple("Sample", "thread weight frames")


def in_kernel(library):
    return library.startswith("[k") or library.startswith("[guest.k") or library.endswith(".ko")


def samples(text):
    """The samples in the output of perf script: thread, weight, frames as (function, library), innermost first."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        if not lines:
            continue
        head = lines[0].rsplit(None, 2)
        if len(head) != 3 or not head[2].rstrip(":").isdigit():
            raise Trouble(f"perf script: what is '{lines[0]}'?")
        frames = [m.groups() for m in map(FRAME.match, lines[1:]) if m]
        found.append(Sample(head[0].strip(), int(head[2].rstrip(":")), [(HASH.sub("", name), library) for name, library in frames]))
    return found


def part_of(frames):
    """What a sample's time was spent on."""
    if not frames:
        return "unknown"
    name, library = frames[0]
    if in_kernel(library):
        for name, library in frames:
            if not in_kernel(library):
                break
            for part, words in KERNEL:
                if words.search(name):
                    return part
        return "kernel: other"
    for words, part in MODULES:
        if words.search(name):
            return part
    module = re.search(r"zabra::(\w+(?:::\w+)?)", name)
    if module:
        area = module.group(1).split("::")
        return "::".join(area) if area[0] == "runtime" else area[0]
    if COPIES.search(name):
        return "copies and allocation"
    crate = re.match(r"<?(?:&?(?:mut )?)(\w+)::", name)
    return f"library {crate.group(1)}" if crate else "other libraries"


def totals(taken, key):
    """[(name, share)], the largest first."""
    out = collections.Counter()
    for sample in taken:
        out[key(sample)] += sample.weight
    whole = sum(out.values())
    return [(name, weight / whole) for name, weight in out.most_common()]


def table(head, rows, us_per_op, least=0.005, most=None):
    lines = [f"| {head} | share | µs/op |", "|---|--:|--:|"]
    shown = [(name, share) for name, share in rows[:most] if share >= least]
    lines += [f"| {name.replace('|', chr(92) + '|')} | {100 * share:.1f} % | {share * us_per_op:.2f} |" for name, share in shown]
    rest = 1 - sum(share for _, share in shown)
    if rest >= 0.0005:
        lines.append(f"| others | {100 * rest:.1f} % | {rest * us_per_op:.2f} |")
    return "\n".join(lines)


def event():
    """Cycles where the machine counts them (a virtual machine often does not), else the clock."""
    done = subprocess.run(["perf", "stat", "-e", "cycles", "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "cycles" if done.returncode == 0 and "<not" not in done.stdout else "cpu-clock"


class Recording:
    """Records all members at the same time; `began` and `ended` are moments of time.time()."""

    def __init__(self, args, members, work):
        self.args, self.members, self.event = args, members, event()
        self.files = [work / f"{member.name}.data" for member in members]
        self.began = self.ended = 0.0
        self.trouble = None

    def run(self):
        """Records, after the generators' warm-up."""
        time.sleep(self.args.warm_up + 0.2)
        self.began = time.time()
        running = [subprocess.Popen(["perf", "record", "-q", "-e", self.event, "-F", str(self.args.frequency), "-g", "-p", str(member.pid),
                                     "-o", str(file), "--", "sleep", f"{self.args.seconds:g}"],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=own_child)
                   for member, file in zip(self.members, self.files)]
        for process in running:
            said = process.communicate()[0]
            if process.returncode != 0:
                self.trouble = f"perf record: {said.strip()}"
        self.ended = self.began + self.args.seconds

    def read(self, file):
        done = subprocess.run(["perf", "script", "-i", file, "--no-inline", "-F", "comm,tid,period,ip,sym,dso"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace")
        if done.returncode != 0:
            raise Trouble(f"perf script: {done.stderr.strip()}")
        taken = samples(done.stdout)
        if not taken:
            raise Trouble(f"{file}: no samples: the member was idle, or perf may not record it")
        return taken


def describe(args, load, result, recording):
    """The text before the tables."""
    commit = machine.commit(REPO)
    return (f"# Profile of {args.members} Zabra members: {load.name}\n\n{load.what}. {args.zabra}, this checkout at {commit['id'][:9]}.\n\n"
            f"{result['ops_per_second']:,.0f} operations/s, {result['server_cpu']['us_per_op']:.2f} CPU µs per operation over all members, "
            f"p50 {result['latency_us']['p50']:,.0f} µs, p99 {result['latency_us']['p99']:,.0f} µs. "
            f"Recorded for {args.seconds:g} s by {recording.event} {args.frequency} times a second, after {args.warm_up:g} s of warm-up.")


def function(sample):
    name, library = sample.frames[0] if sample.frames else ("unknown", "")
    return f"`{name}`" + (" (kernel)" if in_kernel(library) else "")


def of_all(members, taken, rate):
    """The parts of all members beside each other, CPU µs of one of the ensemble's operations."""
    columns = []
    for member, its in zip(members, taken):
        columns.append({part: share * member["cpus"] * 1e6 / rate for part, share in totals(its, lambda s: part_of(s.frames))})
    sums = {part: sum(column.get(part, 0) for column in columns) for part in set().union(*columns)}
    heads = [f"{member['name']}, {member['role']}" for member in members]
    lines = ["| CPU µs/op | all members | " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) + 1)]
    for part in sorted(sums, key=sums.get, reverse=True):
        lines.append(f"| {part} | {sums[part]:.2f} | " + " | ".join(f"{column.get(part, 0):.2f}" for column in columns) + " |")
    lines.append(f"| all | {sum(sums.values()):.2f} | " + " | ".join(f"{sum(column.values()):.2f}" for column in columns) + " |")
    return "\n".join(lines)


def of_member(args, member, taken, rate):
    """The tables of one member; `member`: what it did, from the load's result."""
    us_per_op = member["cpus"] * 1e6 / rate
    return "\n\n".join([
        f"## {member['name']}, {member['role']}: {member['cpus']:.2f} CPUs, {us_per_op:.2f} µs for each of the ensemble's operations",
        f"{len(taken)} samples.",
        table("part", totals(taken, lambda s: part_of(s.frames)), us_per_op),
        table("thread", totals(taken, lambda s: s.thread), us_per_op),
        table("function", totals(taken, function), us_per_op, 0.0, args.top),
    ])


def profile(args, work):
    load = LOADS[args.only]
    members = ensemble.zookeepers("zabra", work, args.port, args.members, lambda config: zabra_command(args.zabra, config))
    members.start()
    try:
        settle(members.pids)
        recording = Recording(args, members.members, work)
        result = members.run(load, args.load, args.seconds + MARGIN_S, args.warm_up, ["--json", "--quiet"], recording.run)
        members.check()
    finally:
        members.stop()
    if recording.trouble:
        raise Trouble(recording.trouble)
    begin, end = result["measured"]
    if not (begin <= recording.began and recording.ended <= end):
        raise Trouble("the load did not run all the time that was recorded: the machine is too busy")
    did = {each["name"]: each for each in result["members"]}
    each = [did[member.name] for member in members.members]
    taken = [recording.read(file) for file in recording.files]
    rate = result["ops_per_second"]
    parts = [of_member(args, member, its, rate) for member, its in zip(each, taken)]
    return "\n\n".join([describe(args, load, result, recording), of_all(each, taken, rate), *parts])


def arguments():
    parser = argparse.ArgumentParser(prog="tools/load/profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(LOADS), default="set 63x1", help="the load")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="that are recorded (10)")
    parser.add_argument("--warm-up", type=float, default=2)
    parser.add_argument("--frequency", type=int, default=997, help="samples a second of each thread (997)")
    parser.add_argument("--top", type=int, default=30, help="functions shown of each member (30)")
    parser.add_argument("--zabra", type=Path, default=REPO / "target/release/zabra")
    parser.add_argument("--load", type=Path, default=REPO / "target/release/zabra-load")
    parser.add_argument("--port", type=int, default=24400, help="the first of 30 (24400)")
    parser.add_argument("--work", type=Path, default=REPO / "target/profile", help="where data and recordings go; emptied first")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generators")
    args = parser.parse_args()
    if not 2 <= args.members <= ensemble.MOST_MEMBERS:
        parser.error(f"--members: 2 to {ensemble.MOST_MEMBERS}")
    if args.seconds <= 0 or args.warm_up < 0 or args.frequency < 1:
        parser.error("--seconds, --warm-up, --frequency: positive numbers")
    args.zabra, args.load, args.work = args.zabra.resolve(), args.load.resolve(), args.work.resolve()
    check_measurable(None, args.zabra, args.load)
    if not shutil.which("perf"):
        raise Trouble("perf is not installed (Debian: apt-get install linux-perf)")
    return args


def main():
    args = arguments()
    raise_open_files()
    raise_priority(args.nice)
    work = fresh(args.work)
    text = profile(args, work)
    for data in work.iterdir():
        if data.is_dir():
            shutil.rmtree(data)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except Trouble as e:
        sys.exit(f"profile: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
