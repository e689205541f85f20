"""What operators see of an ensemble: every four-letter word, admin command and metric on leader, follower and observer of the target,
compared with what Apache's ensemble of three voters and an observer shows after the same requests.

Names must be the same, and what has only one right value. Of what is measured it is compared whether it was measured at all.
"""

import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from zabratools import wire as zk
from zabratools.interop import fourlw_suite as texts
from zabratools.interop import suite as interop
from zabratools.interop.ensemble import Ensemble, connect, sync
from zabratools.interop.suite import Failed, eq, eventually, yes
from zabratools.server import word
from zabratools.wire import boolean, i32, ustr

EPHEMERAL = 1
# Seconds. A dozen Java machines with an HTTP server each start at once when both targets are compared.
START_PATIENCE = 240
FOLLOWER, LEADER, OBSERVER = 1, 3, 4
ROLES = {"leader": LEADER, "follower": FOLLOWER, "observer": OBSERVER}
ADMIN = "admin.enableServer=true\nadmin.serverAddress=127.0.0.1\n"
LOCAL = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n"
PROMETHEUS = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n"
# Apache measures one ack in a thousand otherwise.
PROPS = ["-Dzookeeper.leader.ackLoggingFrequency=1"]

# --- what differs, and why ---

# Zabra's own.
MORE = {"highest_sequence_number", "sequential_creates_near_end"}
# Apache counts that a starting server writes its configuration into the tree.
NO_WRITE = re.compile(r"zookeeper_write_per_namespace|write_per_namespace.*key=\"zookeeper\"")
# Apache sends a snapshot to members that start with nothing where Zabra sends what they miss, which is nothing, so that there is none to
# be saved. Apache counts every request there, Zabra those that have waited. A client may have gone in one way or the other.
NOT_COMPARED = {"snap_count", "diff_count", "inflight_snap_count", "inflight_diff_count", "snapshottime", "request_throttle_queue_time_ms",
                "connection_drop_count", "outstanding_requests"}
# What Zabra says of metrics that it does not fill.
NOT_FILLED = re.compile(r"^# HELP (\S+) (?:Always 0|Without observations): for compatibility$", re.MULTILINE)
# With one right value.
EXACT = ["server_state", "peer_state", "observer_master_id", "znode_count", "ephemerals_count", "watch_count", "global_sessions",
         "local_sessions", "num_alive_connections", "approximate_data_size", "learners", "synced_followers", "synced_non_voting_followers",
         "synced_observers", "pending_syncs", "quorum_size", "last_proposal_size", "max_proposal_size", "min_proposal_size"]
COMMANDS = ["configuration", "connections", "dirs", "dump", "environment", "get_trace_mask", "hash", "is_read_only", "last_snapshot",
            "leader", "observers", "ruok", "server_stats", "stats", "voting_view", "watch_summary", "watches", "watches_by_path", "zabstate",
            "initial_configuration", "system_properties", "no_such_command"]
RESETS = ["observer_connection_stat_reset", "connection_stat_reset", "stat_reset"]


class Seen:
    """An ensemble with clients on every member: the first of a member has an ephemeral, both have watches."""

    def __init__(self, name, kind, local):
        extra = ADMIN + (LOCAL + PROMETHEUS if local else "")
        self.ensemble = Ensemble(name, [kind] * 4, observers=[OBSERVER], extra=extra, props=PROPS)
        for m in self.ensemble.members:
            m.admin_port, m.metrics_port = interop.free_port(), interop.free_port()
            m.own_lines = f"admin.serverPort={m.admin_port}\n"
            if local:
                m.own_lines += f"metricsProvider.httpHost=127.0.0.1\nmetricsProvider.httpPort={m.metrics_port}\n"
        self.conns = []

    def start(self):
        self.ensemble.start(LEADER, START_PATIENCE)
        writer = connect(self.member("leader"))
        writer.create("/seen", b"0123456789")
        for i in range(300):
            writer.create(f"/seen/n{i:03}", b"x")
        for role in ROLES:
            owner, reader = connect(self.member(role)), connect(self.member(role))
            sync(owner)
            owner.create(f"/seen/of-{role}", flags=EPHEMERAL)
            sync(reader)
            for conn, path in ((owner, "/seen/n001"), (reader, "/seen/n001"), (reader, "/seen/none"), (reader, "/seen/n002")):
                try:
                    conn.call("exists", ustr(path) + boolean(True))
                except zk.ZkError as refused:
                    eq(-101, refused.code, "NoNode")
            reader.call("addWatch", ustr("/seen/n003") + i32(1))
            self.conns += [owner, reader]
        writer.close_session()
        eventually(1, lambda: len({m.zxid() for m in self.ensemble.members}), 20, "members at the same zxid")
        eventually({2}, lambda: {len(get(self.member(r), "/commands/connections")["connections"]) for r in ROLES}, 20, "connections")
        return self

    def member(self, role):
        return self.ensemble.member(ROLES[role])

    def word(self, role, name):
        text = re.sub(r"127\.0\.0\.1:\d+:\d+:", "PEER:", word(self.member(role).port, name))
        return texts.mask(texts.numbers(text, ["electionPort", "quorumPort"], "="), self.conns)

    def shown(self, role, name):
        """The answer of a command, with the same names for the same things in both ensembles."""
        text = json.dumps(get(self.member(role), f"/commands/{name}"))
        for i, conn in enumerate(self.conns):
            text = text.replace(f'"{conn.sid}"', f'"SID{i}"')
        for i, m in enumerate(self.ensemble.members, 1):
            for label, port in (("CLIENT", m.port), ("QUORUM", m.quorum_port), ("ELECTION", m.election_port)):
                text = re.sub(rf"\b{port}\b", f"{label}{i}", text.replace(f": {port}", f': "{label}{i}"').replace(
                    f"[{port}]", f'["{label}{i}"]'))
        return json.loads(text)


def get(member, path, port=None):
    """The answer to a command, or to a GET of another port as text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port or member.admin_port}{path}", timeout=20) as answer:
        text = answer.read().decode()
        return text if port else json.loads(text)


def shape(value, at=""):
    """The places of a JSON value, each with the type of what is there."""
    if isinstance(value, dict):
        return {line for key, inner in value.items() for line in shape(inner, f"{at}.{key}")} or {f"{at} {{}}"}
    if isinstance(value, list):
        return {line for inner in value for line in shape(inner, f"{at}[]")} or {f"{at} []"}
    kind = "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    return {f"{at} {kind}"}


# Commands whose values, and not only their shape, have to be the same.
SAME = {"leader", "voting_view", "zabstate", "is_read_only", "ruok", "watch_summary", "no_such_command"}


def same_json(name, want, got):
    if name == "initial_configuration":
        # Apache knows it of a standalone server only.
        want, got = (dict(v, initial_configuration=None) for v in (want, got))
    if name == "system_properties":
        yes(got["zookeeper.leader.ackLoggingFrequency"] == "1", "what was set is shown")
        return
    if name in SAME:
        for answer in (want, got):
            answer.pop("last_zxid", None), answer.pop("zab_counter", None)
        eq(want, got, name)
    if name == "dump":
        # Times have no fixed names. Apache shows those of sessions that are not there any more.
        times = [answer.pop("expiry_time_to_session_ids") for answer in (want, got)]
        want_ids, got_ids = ([sid for ids in by_time.values() for sid in ids] for by_time in times)
        eq(len(want_ids), len(got_ids), "sessions with a time of expiry")
        eq({sid: sorted(paths) for sid, paths in want["session_id_to_ephemeral_paths"].items()},
           {sid: sorted(paths) for sid, paths in got["session_id_to_ephemeral_paths"].items()}, "ephemerals")
    missing, more = sorted(shape(want) - shape(got)), sorted(shape(got) - shape(want))
    eq(([], []), (missing, more), f"what is missing in {name}, and what is too much")


def fields(text):
    """The fields of mntr without `zk_`."""
    lines = [line.split("\t", 1) for line in text.rstrip("\n").split("\n")]
    out = {key.removeprefix("zk_"): value for key, value in lines}
    eq(len(lines), len(out), "keys of mntr, each once")
    return {key: value for key, value in out.items() if is_common(key)}


def is_common(sample):
    """Whether both have this metric."""
    return not metrics_of(sample) & MORE and not NO_WRITE.search(sample) and not sample.startswith(("jvm_", "process_"))


def metrics_of(key):
    """The names of which one is the metric that a key of mntr, or a sample of Prometheus, belongs to."""
    key = re.sub(r"\{.*\}$", "", key)
    return {key, re.sub(r"^(?:avg|min|max|cnt|sum|p\d+)_", "", key), re.sub(r"_(?:count|sum)$", "", key)}


def is_measured(value):
    return value not in ("0", "0.0", "NaN")


def same_samples(want, got):
    eq(([], []), (sorted(set(want) - set(got)), sorted(set(got) - set(want))), "what is missing, and what is too much")


def same_metrics(want, got, not_filled):
    same_samples(want, got)
    for key in EXACT:
        eq(want.get(key), got.get(key), key)
    counts = [key for key in want if re.match(r"cnt_", key) or not re.match(r"(?:avg|min|max|sum|p\d+)_|.*\{.*quantile|.*_sum", key)]
    wrong = []
    for key in counts:
        metric = metrics_of(key)
        if metric & NOT_COMPARED or metric & not_filled and not is_measured(got[key]):
            continue
        if is_measured(want[key]) != is_measured(got[key]):
            wrong.append(f"{key}: {want[key]} expected, actual {got[key]}")
    eq([], wrong, "measured by one only")


def samples(text):
    """The samples of Prometheus' format with their values."""
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            out[name.replace(",}", "}")] = value
    return {name: value for name, value in out.items() if is_common(name)}


def compare(suite, target, local):
    what = "local-sessions" if local else "global-sessions"
    names = [n for n, _ in texts.WORDS] + ["mntr", "metrics", "observers-after-reset", *(f"command-{n}" for n in COMMANDS + RESETS)]
    if not any(suite.wants(f"{what}.{role}.{name}") for role in ROLES for name in names):
        return
    reference, tested = Seen(f"operators-{what}-reference", "apache", local), Seen(f"operators-{what}", target, local)
    with reference.ensemble, tested.ensemble:
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(seen.start) for seen in (reference, tested)]:
                started.result()

        def test(role, name, body):
            suite.test(f"{what}.{role}.{name}", body)
        for role in ROLES:
            def metrics(role=role):
                eq(["version", "server_state", "peer_state"], list(fields(tested.word(role, "mntr")))[:3], "the first keys")
                same_metrics(*(fields(seen.word(role, "mntr")) for seen in (reference, tested)), not_filled(target))
            test(role, "mntr", metrics)
            if local:
                test(role, "metrics", lambda role=role: same_samples(*(
                    samples(get(seen.member(role), "/metrics", seen.member(role).metrics_port)) for seen in (reference, tested))))
            for name in COMMANDS:
                test(role, f"command-{name}", lambda role=role, name=name: same_json(name, *(seen.shown(role, name) for seen in (reference, tested))))
            for name, normal in texts.WORDS:
                def same(role=role, name=name, normal=normal):
                    want, got = (normal(seen.word(role, name)) for seen in (reference, tested))
                    if want != got:
                        raise Failed(texts.first_difference(want, got))
                test(role, name, same)
            for name in RESETS:
                test(role, f"command-{name}", lambda role=role, name=name: same_json(name, *(seen.shown(role, name) for seen in (reference, tested))))
        test("leader", "observers-after-reset", lambda: observers_after_reset(tested))


def observers_after_reset(seen):
    """What was counted is counted from now on."""
    before = get(seen.member("leader"), "/commands/observers")["observers"][0]
    yes(before["packets_sent"] < 300, f"packets since the reset: {before}")
    conn = connect(seen.member("observer"))
    for _ in range(20):
        conn.set("/seen", b"again")
    conn.close_session()
    after = get(seen.member("leader"), "/commands/observers")["observers"][0]
    yes(after["requests"] >= before["requests"] + 20 and after["packets_sent"] >= before["packets_sent"] + 20, f"{before}, then {after}")
    eq(seen.member("leader").zxid(), after["last_zxid"], "the last zxid it was sent")


NOT_FILLED_OF = {}


def not_filled(target):
    """The metrics that the target says it does not fill. Apache fills all."""
    if target == "apache":
        return set()
    if target not in NOT_FILLED_OF:
        with interop.Server(target, "operators-help", extra=PROMETHEUS + f"metricsProvider.httpPort={(port := interop.free_port())}\n"):
            NOT_FILLED_OF[target] = set(NOT_FILLED.findall(get(None, "/metrics", port)))
    return NOT_FILLED_OF[target]


def main():
    target = sys.argv[1]
    suite = interop.Suite("operators", target)
    for local in (False, True):
        compare(suite, target, local)
    suite.end()


if __name__ == "__main__":
    main()
