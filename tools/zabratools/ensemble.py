"""Ensembles on this machine that are measured: members of one kind of server, every one asked by a load generator of its own at the same
time, and the leader killed to see how long writes stop. One member is a standalone server."""

import base64
import json
import queue
import tempfile
import threading
import time
from pathlib import Path

from zabratools.generator import Gate, generators
from zabratools.histogram import Histogram
from zabratools.machine import process_seconds
from zabratools.server import Server, Trouble, ZooKeeper, answer, measured_cfg, word, zookeeper_serves
from zabratools.wire import Conn, ZkError

# An ensemble's ports: from its first one the clients', then as many for two kinds of ports more (quorum and election, or peers and HTTP).
MOST_MEMBERS = 9
KIND_OF_PORT = 10
PORTS = 3 * KIND_OF_PORT

# Seconds for members to serve, and for a write to be acknowledged after the leader's end.
START_PATIENCE = 120
WRITE_PATIENCE = 60
# Seconds for generators to set up. Sessions of those that wait for others time out after 30.
SET_UP_PATIENCE = 60
# After the leader's end a new write is begun on every other member so often, while those before it still wait.
WRITE_EVERY_S = 0.01
SAMPLE_EVERY_S = 0.02


def mode(port):
    """What a ZooKeeper server says it is; empty while it does not answer or serve."""
    try:
        lines = word(port, "srvr", 5).splitlines()
    except OSError:
        return ""
    return next((line[len("Mode: "):] for line in lines if line.startswith("Mode: ")), "")


class ZooKeeperMember(ZooKeeper):
    """A member of an ensemble of Apache ZooKeeper or Zabra servers, or such a server alone."""

    def __init__(self, name, work, first, number, count, command):
        ports = range(first, first + count)
        self.number, alone = number, count == 1
        lines = "" if alone else "initLimit=10\nsyncLimit=5\n" + "".join(
            f"server.{n}=127.0.0.1:{port + KIND_OF_PORT}:{port + 2 * KIND_OF_PORT}\n" for n, port in enumerate(ports, 1))
        super().__init__(name if alone else f"{name}-{number}", work, ports[number - 1], command,
                         lambda data, port: measured_cfg(data, port, lines), cwd=work,
                         serves=zookeeper_serves if alone else lambda port: mode(port) in ("leader", "follower"))

    def spawn(self):
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "myid").write_text(f"{self.number}\n")
        super().spawn()

    def leads(self):
        return mode(self.port) == "leader"

    def write(self):
        """One acknowledged write in a new session."""
        conn = Conn(self.port, timeout=10000, patience=10)
        try:
            conn.set("/", b"")
        finally:
            conn.drop()


class EtcdMember(Server):
    """A member of an etcd cluster. Default settings except: addresses; HTTP on a port of its own, as etcd recommends; room for the history
    of long runs."""

    def __init__(self, name, work, first, number, count, binary):
        port = first + number - 1
        client, peer, self.http = (port + n * KIND_OF_PORT for n in range(3))
        url = lambda p: f"http://127.0.0.1:{p}"  # noqa: E731
        cluster = ",".join(f"m{n}={url(first + n - 1 + KIND_OF_PORT)}" for n in range(1, count + 1))
        label = name if count == 1 else f"{name}-{number}"
        command = [binary, "--name", f"m{number}", "--data-dir", work / label, "--listen-client-urls", url(client),
                   "--advertise-client-urls", url(client), "--listen-client-http-urls", url(self.http), "--listen-peer-urls", url(peer),
                   "--initial-advertise-peer-urls", url(peer), "--initial-cluster", cluster,
                   "--quota-backend-bytes", 8 << 30, "--log-level", "warn"]
        # It is healthy when it knows a leader.
        super().__init__(label, command, client, work / f"{label}.log",
                         lambda _: b'"health":"true"' in answer(self.http, b"GET /health HTTP/1.0\r\n\r\n", 5), work)

    def post(self, path, body, timeout=10):
        """The answer of etcd's JSON gateway; OSError or ValueError when it refuses."""
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        status, _, rest = answer(self.http, head + text, timeout).partition(b"\r\n")
        if b" 200 " not in status + b" ":
            raise ValueError(f"{path}: {status.decode('utf-8', 'replace')}")
        return json.loads(rest.split(b"\r\n\r\n", 1)[1])

    def leads(self):
        try:
            found = self.post("/v3/maintenance/status", {})
        except (OSError, ValueError):
            return False
        return found.get("leader", "0") == found["header"]["member_id"]

    def write(self):
        coded = base64.b64encode(b"/compare-kill").decode()
        self.post("/v3/kv/put", {"key": coded, "value": coded})


def zookeepers(name, work, first, count, command):
    """`count` members of Apache ZooKeeper or Zabra, not started; `command` makes the command of a configuration file."""
    return Ensemble(name, [ZooKeeperMember(name, work, first, n, count, command) for n in range(1, count + 1)])


def etcds(name, work, first, count, binary):
    return Ensemble(name, [EtcdMember(name, work, first, n, count, binary) for n in range(1, count + 1)])


class Spent:
    """The CPU time of processes, sampled so that the time of any window can be told afterwards."""

    def __init__(self, pids):
        self.pids, self.over = pids, threading.Event()
        self.samples = [self.sample()]
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def sample(self):
        return time.time(), [process_seconds(pid) for pid in self.pids]

    def watch(self):
        while not self.over.wait(SAMPLE_EVERY_S):
            self.samples.append(self.sample())

    def __enter__(self):
        if self.pids:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        if self.pids:
            self.thread.join()
        self.samples.append(self.sample())

    def seconds(self, begin, end):
        """CPU seconds of each process between two moments of time.time()."""
        def at(moment):
            return next((spent for when, spent in reversed(self.samples) if when <= moment), self.samples[0][1])
        return [max(b - a, 0.0) for a, b in zip(at(begin), at(end))]


def memory_of(pid):
    """As the generators' `server_memory_bytes`; zeros when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        lines = []
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:", "RssAnon:"))}
    return {"rss": kib.get("VmRSS", 0) << 10, "peak_rss": kib.get("VmHWM", 0) << 10, "anonymous": kib.get("RssAnon", 0) << 10}


class Ensemble:
    """The members of one kind, each a `Server` with `leads()` and `write()` as well."""

    def __init__(self, name, members):
        self.name, self.members = name, members

    def start(self):
        try:
            for member in self.members:
                member.launch()
            for member in self.members:
                member.wait(START_PATIENCE)
        except BaseException:
            for member in self.members:
                member.kill()
            raise
        return self

    def stop(self):
        for member in self.members:
            member.stop()

    def check(self):
        """Trouble if one of its processes has ended."""
        for member in self.members:
            member.check()

    @property
    def pids(self):
        return [member.pid for member in self.members]

    def leader(self, patience=30):
        """The member that leads; waits while nobody does."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for member in self.members:
                if member.leads():
                    return member
            time.sleep(0.05)
        raise Trouble(f"{self.name}: nobody leads after {patience} s")

    def run(self, load, program, seconds, warm_up, options=(), beside=None):
        """Runs a load with generators `program` on all members at once; one result as of a single generator (see `together`). A load with
        fewer connections than members leaves the leader out, then others. `beside` runs meanwhile in a thread of its own, from the moment
        when all generators have set up and begin to warm up."""
        leader = self.leader() if len(self.members) > 1 else None
        order = sorted(self.members, key=lambda member: member is leader)
        parts = load.shares(len(order))
        idle = order[len(parts):]
        with tempfile.TemporaryDirectory(prefix="zabra-hlog-") as folder, Spent([member.pid for member in idle]) as spent:
            commands, gate = [], Gate(folder, len(parts)) if len(order) > 1 else None
            for number, (member, part) in enumerate(zip(order, parts)):
                command = [program, *part.command(self.name), "--server", f"127.0.0.1:{member.port}", "--server-pid", member.pid,
                           "--seconds", f"{seconds:g}", "--warm-up", f"{warm_up:g}", *options]
                if gate:
                    # As long as the generators' own, so that frames are as long as those of the bare echo.
                    command += ["--hlog", gate.pipes[number], "--root", f"/compare-m{member.port % KIND_OF_PORT}"]
                commands.append((command, f"{load.name} on {member.name}"))
            helper = threading.Thread(target=beside or (lambda: None), daemon=True)

            def begin_together(running):
                if gate:
                    gate.open(running, SET_UP_PATIENCE)
                    helper.start()
            results = generators(commands, SET_UP_PATIENCE + 60 + 3 * (seconds + warm_up), begin_together)
            if not gate:
                return results[0]
            helper.join()
            # A generator writes the last piece of its log at the end of the measured time, before it removes anything.
            logs = gate.logs()
            windows = [(end - r["seconds"], end) for r, (end, _) in zip(results, logs)]
            latencies = Histogram()
            for _, text in logs:
                latencies.read_log(text)
            begin, end = min(w[0] for w in windows), max(w[1] for w in windows)
            unasked = [seconds / (end - begin) for seconds in spent.seconds(begin, end)]
        result = together(results, windows, latencies, list(zip(unasked, (memory_of(member.pid) for member in idle))))
        names = [(member.name, "leader" if member is leader else "follower") for member in order]
        for each, (name, role) in zip(result["members"], names):
            each |= {"name": name, "role": role}
        return result

    def fail_over(self):
        """Ends the leader with SIGKILL; the seconds until one of the others has acknowledged a write. The leader is started again."""
        leader = self.leader()
        others = [member for member in self.members if member is not leader]
        for member in others:
            member.write()
        began = time.monotonic()
        leader.process.kill()
        try:
            return first_write(others, began + WRITE_PATIENCE) - began
        finally:
            leader.kill()
            leader.start(START_PATIENCE)


def first_write(members, until):
    """The moment at which one of the members has acknowledged a write. Writes that a member holds back do not hold back later ones."""
    acknowledged = queue.Queue()

    def attempt(member):
        try:
            member.write()
            acknowledged.put(time.monotonic())
        except (OSError, ZkError, EOFError, ValueError, IndexError):
            pass  # it does not serve yet

    while time.monotonic() < until:
        for member in members:
            threading.Thread(target=attempt, args=(member,), daemon=True).start()
        try:
            return acknowledged.get(timeout=WRITE_EVERY_S)
        except queue.Empty:
            pass
    raise Trouble(f"no write was acknowledged within {WRITE_PATIENCE} s after the leader's end")


def together(results, windows, latencies, idle):
    """One result of generators that ran at the same time, each on a member of its own. `windows`: when each measured; `latencies`: of all;
    `idle`: (CPUs used, memory) of each member that was not asked.

    Operations per second are added up: the windows are the same but for the generators' own delays. `together` is the part of the measured
    time during which all measured. CPU per operation is that of all members. An open loop's rate was held if every member held its part."""
    rate = sum(r["ops_per_second"] for r in results)
    seconds = max(r["seconds"] for r in results)
    members = [{"ops_per_second": r["ops_per_second"], "latency_us": r["latency_us"], "cpus": r["server_cpu"]["cpus"],
                "generator_cpus": r["generator_cpus"], "memory_bytes": r["server_memory_bytes"]} for r in results]
    members += [{"ops_per_second": 0.0, "cpus": cpus, "memory_bytes": memory} for cpus, memory in idle]
    cpus = sum(member["cpus"] for member in members)
    begin, end = max(begin for begin, _ in windows), min(end for _, end in windows)
    return {
        "seconds": seconds,
        "ops": sum(r["ops"] for r in results),
        "ops_per_second": rate,
        "held": None if results[0]["held"] is None else all(r["held"] for r in results),
        "latency_us": latencies.latency_us(),
        "latency_curve_us": latencies.curve_us(),
        "server_cpu": {"us_per_op": cpus * 1e6 / rate, "cpus": cpus},
        "server_memory_bytes": {key: sum(member["memory_bytes"][key] for member in members) for key in members[0]["memory_bytes"]},
        "generator_cpus": sum(r["generator_cpus"] for r in results),
        "busiest_generator_cpus": max(r["generator_cpus"] for r in results),
        "together": max(0.0, min(1.0, (end - begin) / seconds)),
        # When all of them measured, in seconds since 1970.
        "measured": [begin, max(begin, end)],
        "members": members,
    }
