"""Data directories written by one server and opened by the other.

datadir_suite.py apache    Apache opens Apache's directories (proves the tests)
datadir_suite.py zabra     Apache opens Zabra's, Zabra opens Apache's, Zabra opens Zabra's
"""

import base64
import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

from zabratools import disk
from zabratools import wire as zk
from zabratools.interop import suite as interop
from zabratools.interop.suite import Failed, Server, eq, eventually, yes
from zabratools.wire import MULTI_END, buf, create, create_ttl, i32, multi_op, ustr

NO_SWEEP = ["-Dznode.container.checkIntervalMs=3600000"]
_serial = 0


def digest_id(user, password):
    sha = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(sha).decode()}"


def new_data():
    global _serial
    _serial += 1
    path = os.path.join(interop.DIR, f"shared-{_serial}")
    os.makedirs(path)
    return path


def open_with(kind, data, extra="", props=()):
    global _serial
    _serial += 1
    return Server(kind, f"datadir-{_serial}", extra=extra, props=[*NO_SWEEP, *props], data=data)


class Live:
    """A session left open without a connection, and what it owns."""

    def __init__(self, conn, paths):
        self.sid, self.passwd, self.timeout, self.paths = conn.sid, conn.passwd, conn.timeout, sorted(paths)

    def resume(self, server):
        c = zk.Conn(server.port, timeout=self.timeout, sid=self.sid, passwd=self.passwd)
        eq(self.sid, c.sid, "id of a resumed session")
        eq(self.timeout, c.timeout, "timeout of a resumed session")
        return c


def code(call):
    try:
        call()
        return 0
    except zk.ZkError as e:
        return e.code


def populate(server, big=True):
    """Every kind of node, transaction and session. Returns the sessions left alive."""
    c = zk.Conn(server.port)
    c.auth("digest", b"owner:pw")
    c.create("/d", b"root of the test")
    for i in range(150):
        c.create(f"/d/n{i:03}", f"value {i}".encode())
    for i in range(0, 150, 3):
        c.set(f"/d/n{i:03}", b"changed" * (i % 7))
    for i in range(0, 150, 10):
        c.delete(f"/d/n{i:03}")
    c.create("/d/null", None)
    c.create("/d/empty", b"")
    c.create("/d/binary", bytes(range(256)) * 8)
    if big:
        c.create("/d/big", b"\xa5" * 900_000)
    c.create("/d/ünï-日本-\u05d0 space", "é".encode())
    path = "/d/deep"
    c.create(path)
    for i in range(40):
        path += f"/level-{i}"
        c.create(path, str(i).encode())
    # ACLs: shared, distinct, expanded, changed, masked to others
    c.create("/d/acl", b"")
    c.create("/d/acl/read-only", b"r", ((1, "world", "anyone"),))
    c.create("/d/acl/owner", b"o", ((31, "auth", ""),))
    c.create("/d/acl/digest", b"x", ((31, "digest", digest_id("other", "pw")), (1, "ip", "10.0.0.0/8")))
    c.create("/d/acl/changed", b"c")
    c.call("setACL", ustr("/d/acl/changed") + zk.acls(((31, "ip", "127.0.0.1"), (1, "world", "anyone"))) + i32(0))
    c.create("/d/acl/twice", b"c")
    for v in range(3):
        c.call("setACL", ustr("/d/acl/twice") + zk.acls(((31 - v, "world", "anyone"),)) + i32(v))
    # containers and TTL nodes
    c.create("/d/container", b"c", flags=4, op="createContainer")
    c.create("/d/container/child")
    c.create("/d/container-empty", b"", flags=4, op="createContainer")
    c.call("createTTL", create_ttl("/d/ttl", 600_000_000, b"t"))
    c.create("/d/ttl/child")
    c.call("createTTL", create_ttl("/d/ttl-seq-", 1099511627775, b"", flags=6))
    # parents of sequential znodes: the counter stays when the znodes are deleted
    c.create("/d/seq")
    for _ in range(7):
        c.create("/d/seq/s-", flags=2)
    c.delete("/d/seq/s-0000000006")
    c.delete("/d/seq/s-0000000005")
    c.create("/d/seq-empty")
    for _ in range(3):
        c.delete(c.create("/d/seq-empty/x", flags=2))
    # multis
    c.call("multi", multi_op("create", create("/d/m1", b"1")) + multi_op("create2", create("/d/m2", b"2"))
           + multi_op("setData", ustr("/d/m1") + buf(b"11") + i32(0)) + multi_op("check", ustr("/d/m2") + i32(0))
           + multi_op("create", create("/d/m-", b"", flags=2)) + multi_op("delete", ustr("/d/m2") + i32(-1)) + MULTI_END)
    c.call("multi", multi_op("create", create("/d/never", b"")) + multi_op("check", ustr("/d/m1") + i32(77)) + MULTI_END)
    c.call("multi", multi_op("createContainer", create("/d/mc", b"", flags=4))
           + multi_op("createTTL", create_ttl("/d/mt", 500_000_000)) + MULTI_END)
    # failed writes use zxids too
    eq(-101, code(lambda: c.create("/none/x")), "create without parent")
    eq(-110, code(lambda: c.create("/d")), "create of an existing node")
    eq(-103, code(lambda: c.set("/d", b"", 99)), "set with a wrong version")
    # a quota
    c.create("/zookeeper/quota/d", None)
    c.create("/zookeeper/quota/d/zookeeper_limits", b"count=100000,bytes=-1")
    c.create("/zookeeper/quota/d/zookeeper_stats", b"count=0,bytes=0")
    c.create("/d/after-quota", b"12345")
    # sessions: live ones with ephemerals, one closed
    live = []
    for n in range(3):
        s = zk.Conn(server.port, timeout=600000 - n * 1000)
        paths = [s.create(f"/d/eph-{n}-{i}", f"{n}".encode(), flags=1) for i in range(n)]
        if n:
            paths.append(s.create("/d/seq/e-", flags=3))
        live.append(Live(s, paths))
        s.drop()
    gone = zk.Conn(server.port)
    gone.create("/d/eph-gone", flags=1)
    gone.close_session()
    c.close_session()
    return live


def tree(server):
    """path → (data, ACL, Stat) of every node, as super; the config node is the server's own."""
    c = zk.Conn(server.port)
    c.auth("digest", b"super:interop")
    out, todo = {}, ["/"]
    while todo:
        path = todo.pop()
        data, stat = c.get(path)
        acl, _ = c.acl(path)
        out[path] = (data, acl, stat)
        names, _ = c.children(path)
        eq(stat.children, len(names), f"numChildren of {path}")
        todo += [(path if path != "/" else "") + "/" + n for n in names]
    c.close_session()
    out.pop("/zookeeper/config")
    return out


def same_tree(want, got, what):
    eq([], sorted(set(want) - set(got)), f"{what}: nodes missing")
    eq([], sorted(set(got) - set(want)), f"{what}: nodes too many")
    for path, (data, acl, stat) in want.items():
        have = got[path]
        eq(data, have[0], f"{what}: data of {path}")
        eq(acl, have[1], f"{what}: ACL of {path}")
        eq(stat, have[2], f"{what}: Stat of {path}")


def hashes(server):
    """zxid → digest from the `hash` word."""
    return dict(re.findall(r"(?m)^([0-9a-f]+): (-?\d+)$", interop.word(server.port, "hash")))


def same_hashes(before, after, what):
    common = set(before) & set(after)
    yes(common, f"{what}: digests of common zxids (before {sorted(before)}, after {sorted(after)})")
    eq({z: before[z] for z in common}, {z: after[z] for z in common}, f"{what}: tree digests by zxid")


def no_digest_complaints(server, what):
    found = [l for l in server.text().splitlines() if re.search(r"(?i)digests? (are not matching|mismatch)", l)]
    eq([], found, f"{what}: digest mismatches in the log of {server.kind}")
    m = re.search(r"(?m)^zk_digest_mismatches_count\t(\d+)$", interop.word(server.port, "mntr"))
    eq("0", m.group(1) if m else "no such metric", f"{what}: zk_digest_mismatches_count")


def check_files(data, what):
    """Checks the files on disk with an independent reader. Returns the last snapshot."""
    records = {r[0]: r[5] for r in disk.all_records(data)}
    snapshots = [disk.Snapshot(p) for p in disk.files(data, "snapshot")]
    for s in snapshots:
        # A snapshot that Apache took while writes ran may contain later changes than its digest covers, and the digest may be
        # of a later zxid than the one in its name, so it cannot be compared. Zabra's snapshots are exact.
        fuzzy = not what.startswith("zabra") and any(zxid > s.zxid for zxid in records)
        if s.digest_zxid and s.digest_zxid == s.zxid and not fuzzy:
            eq(s.digest, s.computed_digest(), f"{what}: digest inside {os.path.basename(s.path)}")
            if records.get(s.zxid) is not None:
                eq(records[s.zxid], s.digest, f"{what}: digest of zxid {s.zxid:x} in log and snapshot")
    yes(snapshots, f"{what}: a snapshot exists")
    return snapshots[-1]


def keep_last_snapshot(data, suffix=""):
    """As PurgeTxnLog would, with one snapshot kept: everything older must then be restored from that snapshot alone."""
    pattern = "snapshot" + suffix
    folder = os.path.join(data, "version-2")
    named = {n: int(n.split(".")[1], 16) for n in os.listdir(folder) if n.startswith("snapshot.") and n.endswith(suffix)}
    yes(named, f"{pattern} files: {os.listdir(folder)}")
    last = max(named, key=named.get)
    yes(named[last] > 0x20, f"a snapshot from the middle of the history: {sorted(named)}")
    for n in os.listdir(folder):
        if n.startswith("snapshot.") and n != last:
            os.remove(os.path.join(folder, n))
    logs = disk.files(data, "log")
    for path, following in zip(logs, logs[1:]):
        if int(following.rsplit(".", 1)[1], 16) <= named[last] + 1:
            os.remove(path)
    yes(len(disk.files(data, "log")) < len(logs), f"logs older than {last} were removed: {logs}")


def ephemerals_of(server, live):
    text = interop.word(server.port, "dump")
    for s in live:
        block = re.search(rf"(?m)^0x{s.sid:x}:\n((?:\t/.*\n)+)", text)
        paths = sorted(re.findall(r"\t(.*)\n", block.group(1))) if block else []
        eq(s.paths, paths, f"ephemerals of session 0x{s.sid:x} in dump")


# --- tests: writer → reader ---

def opens(writer, reader, extra="", props=(), big=True):
    data = new_data()
    with open_with(writer, data, extra, props) as w:
        live = populate(w, big)
        before, zxid, digests = tree(w), w.zxid(), hashes(w)
        ephemerals_of(w, live)
        w.stop()
    with open_with(reader, data, extra, props) as r:
        yes(r.zxid() >= zxid, f"zxid goes on: {r.zxid():x} after {zxid:x}")
        same_tree(before, tree(r), f"{writer}'s directory in {reader}")
        if set(digests) & set(hashes(r)):
            same_hashes(digests, hashes(r), f"{writer}'s directory in {reader}")
        ephemerals_of(r, live)
        no_digest_complaints(r, f"{writer}'s directory in {reader}")
        goes_on(r, live)
        no_digest_complaints(r, f"{writer}'s directory in {reader}, after writes")


def hash_word_goes_on(writer, reader):
    """Replaying the log gives the digests of `hash` again, and they are the same."""
    data = new_data()
    with open_with(writer, data) as w:
        c = zk.Conn(w.port)
        for i in range(300):
            c.create(f"/h{i}", b"x")
        before = hashes(w)
        w.stop()
    with open_with(reader, data) as r:
        same_hashes(before, hashes(r), f"{writer}'s directory in {reader}")


def goes_on(server, live):
    """Sequence counters, permissions, sessions and quotas after opening."""
    c = zk.Conn(server.port)
    eq("/d/seq/s-0000000009", c.create("/d/seq/s-", flags=2), "counter (7 created, 2 more by sessions)")
    eq("/d/seq-empty/x0000000003", c.create("/d/seq-empty/x", flags=2), "counter of an empty parent")
    eq(-102, code(lambda: c.get("/d/acl/owner")), "ACL still denies")
    c.auth("digest", b"owner:pw")
    eq(b"o", c.get("/d/acl/owner")[0], "ACL still allows")
    eq(-108, code(lambda: c.create("/d/eph-1-0/x")), "an ephemeral is still one")
    usage = c.get("/zookeeper/quota/d/zookeeper_stats")[0]
    count = int(re.match(rb"count=(\d+)", usage).group(1))
    c.create("/d/one-more", b"")
    eq(count + 1, int(re.match(rb"count=(\d+)", c.get("/zookeeper/quota/d/zookeeper_stats")[0]).group(1)), "quota usage goes on")
    for i, s in enumerate(live):
        again = s.resume(server)
        eq(s.paths, ephemerals_listed(again), "getEphemerals of a resumed session")
        if i == 1:
            again.close_session()
            for p in s.paths:
                eq(None, c.exists(p), f"{p} after its session closed")
        else:
            again.drop()
    c.close_session()


def ephemerals_listed(conn):
    r = conn.call("getEphemerals", ustr("/"))
    return sorted(r.vec(r.ustr))


def ttl_and_containers_go(writer, reader):
    """The kinds of nodes survive the change of server: containers and TTL znodes are still deleted when due."""
    data = new_data()
    with open_with(writer, data) as w:
        c = zk.Conn(w.port)
        c.call("createTTL", create_ttl("/short", 5000, b""))
        c.call("createTTL", create_ttl("/long", 600_000_000, b""))
        c.create("/used", flags=4, op="createContainer")
        c.create("/used/child")
        c.delete("/used/child")
        c.create("/plain")
        c.close_session()
        w.kill()
    r = Server(reader, f"datadir-sweep-{_serial}", data=data, props=["-Dznode.container.checkIntervalMs=200"])
    with r:
        c = zk.Conn(r.port)
        eventually(None, lambda: c.exists("/short"), 30, "TTL node past its time")
        eventually(None, lambda: c.exists("/used"), 20, "container whose child is gone")
        yes(c.exists("/long") and c.exists("/plain"), "the others stay")


def expired_sessions_clean_up(writer, reader):
    data = new_data()
    with open_with(writer, data) as w:
        s = zk.Conn(w.port, timeout=10000)
        s.create("/e", flags=1)
        w.kill()
    began = time.monotonic()
    with open_with(reader, data) as r:
        c = zk.Conn(r.port)
        # If the machine is so slow that starting takes longer than the session's timeout, the test shows nothing.
        yes(c.exists("/e") or time.monotonic() - began > 9, "ephemeral right after opening")
        eventually(None, lambda: c.exists("/e"), 60, "ephemeral after its session's timeout")


def alternate(first, second):
    """Restarts from one server to the other and back, with writes at each step."""
    data = new_data()
    live, want = None, None
    for step, kind in enumerate((first, second, first, second)):
        with open_with(kind, data) as server:
            if live is None:
                live = populate(server, big=False)
            else:
                same_tree(want, tree(server), f"step {step}: {kind}")
            ephemerals_of(server, live)
            c = zk.Conn(server.port)
            c.auth("digest", b"super:interop")
            eq(f"/d/seq/s-{9 + step:010}", c.create("/d/seq/s-", flags=2), f"counter at step {step}")
            c.set("/d", f"step {step}".encode())
            for i in range(30):
                c.create(f"/d/step{step}-{i}", b"x")
            c.delete(f"/d/step{step}-0")
            c.call("setACL", ustr(f"/d/step{step}-1") + zk.acls(((1 + step, "ip", "10.0.0.1"),)) + i32(-1))
            own = zk.Conn(server.port, timeout=500000)
            live.append(Live(own, [own.create(f"/d/own{step}", flags=1)]))
            own.drop()
            eq(-101, code(lambda c=c: c.delete("/none")), "a failed write")
            c.close_session()
            want = tree(server)
            no_digest_complaints(server, f"step {step}")
            if step % 2:
                server.kill()
            else:
                server.stop()
    check_files(data, "after four steps")


def kill_under_load(writer, reader, rounds=2):
    """Every write acknowledged before a kill -9 is there for the next server."""
    data = new_data()
    acked, expect_versions = [], {}
    kinds = [writer, reader] * rounds
    for step, kind in enumerate(kinds):
        with open_with(kind, data, extra="snapCount=400") as server:
            c = zk.Conn(server.port)
            if step == 0:
                c.create("/load")
                c.create("/counter", b"0")
            have = set(c.children("/load")[0])
            missing = [n for n in acked if n not in have]
            eq([], missing, f"step {step} ({kind}): acknowledged creates missing, of {len(acked)}")
            version = c.get("/counter")[1].version
            yes(version >= expect_versions.get("counter", 0), f"acknowledged sets missing: version {version}, "
                f"acknowledged {expect_versions.get('counter', 0)}")
            stop_at = 1500
            threads = [threading.Thread(target=load, args=(server.port, step, n, acked, expect_versions), daemon=True)
                       for n in range(3)]
            before = len(acked)
            for t in threads:
                t.start()
            end = time.monotonic() + 30
            while len(acked) - before < stop_at and time.monotonic() < end:
                time.sleep(0.002)
            server.kill()
            for t in threads:
                t.join(20)
            yes(len(acked) - before >= stop_at, f"step {step}: {len(acked) - before} writes acknowledged before the kill")
    with open_with(reader, data) as server:
        c = zk.Conn(server.port)
        have = set(c.children("/load")[0])
        eq([], [n for n in acked if n not in have], f"acknowledged creates missing at the end, of {len(acked)}")
        for n in acked[::97]:
            eq(n.encode(), c.get(f"/load/{n}")[0], f"data of {n}")
        no_digest_complaints(server, "after kills under load")


def load(port, step, n, acked, versions):
    """Pipelined creates and sets until the server dies; notes what was acknowledged."""
    try:
        c = zk.Conn(port)
        window, i = {}, 0
        while True:
            while len(window) < 40:
                name = f"s{step}-t{n}-{i}"
                i += 1
                window[c.post("create", create(f"/load/{name}", name.encode()))] = name
            got = c.take()
            if got is None:
                return
            if got[2] != 0:
                return
            acked.append(window.pop(got[0]))
            if i % 50 == 0 and n == 0:
                x = c.post("setData", ustr("/counter") + buf(b"") + i32(-1))
                # Replies come in order: read up to this one.
                while True:
                    got = c.take()
                    if got is None:
                        return
                    if got[0] == x:
                        versions["counter"] = max(versions.get("counter", 0), got[3].stat().version)
                        break
                    acked.append(window.pop(got[0]))
    except (OSError, ConnectionError, zk.ZkError):
        return


def torn_tail(writer, reader):
    """An incomplete record at the end is dropped; everything before it is kept."""
    data = new_data()
    with open_with(writer, data) as w:
        c = zk.Conn(w.port)
        for i in range(50):
            c.create(f"/t{i}", b"data")
        w.kill()
    log = disk.files(data, "log")[-1]
    records = disk.read_log(log)
    end = end_of_records(log)
    os.truncate(log, end - 20)
    with open_with(reader, data) as r:
        c = zk.Conn(r.port)
        for i in range(49):
            yes(c.exists(f"/t{i}"), f"/t{i} before the tear")
        eq(None, c.exists("/t49"), "the torn record")
        yes(r.zxid() >= records[-2][0], "zxid")
        c.create("/after", b"")
        r.kill()
    with open_with(writer, data) as again:
        c = zk.Conn(again.port)
        yes(c.exists("/after") and c.exists("/t48"), "written after the tear, and before")


def end_of_records(path):
    """Offset just after the last record."""
    with open(path, "rb") as f:
        blob = f.read()
    at = 16
    while at + 12 <= len(blob):
        size = struct.unpack_from(">i", blob, at + 8)[0]
        if size == 0:
            break
        at += 13 + size
    return at


def corrupt_middle(writer, reader):
    """A damaged record before the end: no server may start with a shorter history."""
    data = new_data()
    with open_with(writer, data) as w:
        c = zk.Conn(w.port)
        for i in range(200):
            c.create(f"/c{i}", b"0123456789" * 5)
        w.kill()
    log = disk.files(data, "log")[-1]
    with open(log, "r+b") as f:
        f.seek(end_of_records(log) // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 0x40]))
    server = open_with(reader, data)
    try:
        server.start(patience=15)
    except RuntimeError as e:
        yes("ended with" in str(e), f"the server ends by itself with an error: {e}")
        return
    finally:
        server.kill()
    raise Failed("the server serves although a record in the middle of its log is damaged")


def separate_log_dir(writer, reader):
    data = new_data()
    logs = new_data()
    extra = f"dataLogDir={logs}"
    with open_with(writer, data, extra) as w:
        live = populate(w, big=False)
        want = tree(w)
        w.kill()
    yes(disk.files(logs, "log") and not disk.files(data, "log"), "logs are in dataLogDir")
    with open_with(reader, data, extra) as r:
        same_tree(want, tree(r), "with dataLogDir")
        ephemerals_of(r, live)


def from_last_snapshot(writer, reader, method=None):
    """Nodes, ACLs, sessions and counters come from a snapshot, compressed or not."""
    data = new_data()
    extra = "snapCount=60" + (f"\nsnapshot.compression.method={method}" if method else "")
    with open_with(writer, data, extra) as w:
        live = populate(w, big=False)
        want = tree(w)
        time.sleep(0.5)  # lets a snapshot in progress finish
        w.stop()
    keep_last_snapshot(data, {None: "", "gz": ".gz", "snappy": ".snappy"}[method])
    with open_with(reader, data, extra) as r:
        same_tree(want, tree(r), f"from the last snapshot ({method or 'plain'})")
        ephemerals_of(r, live)
        goes_on(r, live)


def fuzzy_snapshots(writer, reader):
    """Snapshots taken while writes run, then kill -9."""
    data = new_data()
    acked, versions = [], {}
    with open_with(writer, data, extra="snapCount=100") as w:
        c = zk.Conn(w.port)
        c.create("/load")
        c.create("/counter")
        threads = [threading.Thread(target=load, args=(w.port, 0, n, acked, versions), daemon=True) for n in range(3)]
        for t in threads:
            t.start()
        end = time.monotonic() + 30
        while len(acked) < 1200 and time.monotonic() < end:
            time.sleep(0.005)
        w.kill()
        for t in threads:
            t.join(20)
    yes(len(disk.files(data, "snapshot")) >= 2, f"several snapshots: {os.listdir(os.path.join(data, 'version-2'))}")
    with open_with(reader, data) as r:
        c = zk.Conn(r.port)
        names, stat = c.children("/load")
        eq([], sorted(set(acked) - set(names)), "acknowledged creates missing")
        eq(len(names), stat.cversion, "cversion counts each create once")
        no_digest_complaints(r, "fuzzy snapshots")
        r.stop()
    disk.all_records(data)


def purge_keeps_what_is_needed(writer, reader):
    """autopurge deletes old files, and what is left still contains everything."""
    data = new_data()
    want = None
    for i in range(6):
        with open_with(writer, data) as w:
            c = zk.Conn(w.port)
            for n in range(20):
                c.create(f"/p{i}-{n}", b"x")
            c.close_session()
            want = tree(w)
            w.stop()
    before = len(disk.files(data, "snapshot"))
    with open_with(writer, data) as w:  # purges at its start
        eventually(True, lambda: len(disk.files(data, "snapshot")) <= 4, 20, f"snapshots purged from {before} to 3 or 4")
        w.stop()
    with open_with(reader, data) as r:
        same_tree(want, tree(r), "after a purge")


def apache_tools(writer):
    """Apache's own offline tools read the files."""
    data = new_data()
    with open_with(writer, data, extra="snapCount=60") as w:
        populate(w, big=False)
        time.sleep(0.5)
        w.stop()
    cp = f"{interop.HOME}/.work/lib/*"
    base = ["java", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", cp]
    for path in disk.files(data, "log"):
        done = subprocess.run(base + ["org.apache.zookeeper.server.persistence.TxnLogToolkit", "-d", path],
                              capture_output=True, text=True, timeout=60)
        eq(0, done.returncode, f"exit code of TxnLogToolkit on {os.path.basename(path)}: {done.stderr[-300:]}")
        shown = len(re.findall(r"(?m) session 0x", done.stdout))
        eq(len(disk.read_log(path)), shown, f"records TxnLogToolkit shows of {os.path.basename(path)}")
        yes("CRC ERROR" not in done.stdout, "no CRC errors")
    path = disk.files(data, "snapshot")[-1]
    done = subprocess.run(base + ["org.apache.zookeeper.server.SnapshotFormatter", path],
                          capture_output=True, text=True, timeout=60)
    eq(0, done.returncode, f"exit code of SnapshotFormatter: {done.stderr[-300:]}")
    yes("\n/d\n" in done.stdout, "nodes in SnapshotFormatter's output")


def log_digests(writer):
    """Tree digests in logs and snapshots equal those of an independent computation."""
    data = new_data()
    with open_with(writer, data, extra="snapCount=2") as w:
        c = zk.Conn(w.port)
        for i in range(12):
            c.create(f"/g{i}", b"x" * i)
            c.set("/g0", str(i).encode())
            time.sleep(0.1)  # quiet while a snapshot is written
        c.close_session()
        time.sleep(0.5)
        w.stop()
    check_files(data, f"{writer}'s files")
    quiet = [s for s in map(disk.Snapshot, disk.files(data, "snapshot")) if s.zxid and s.digest_zxid == s.zxid]
    yes(quiet, "snapshots whose digest can be computed")
    by_zxid = {r[0]: r[5] for r in disk.all_records(data)}
    yes([s for s in quiet if by_zxid.get(s.zxid) is not None], "a snapshot's digest was compared with the log's")
    # Apache reads lastProcessedZxid last, when another write may have been applied meanwhile. Zabra's snapshots are exact.
    yes(all(s.last_zxid >= s.zxid for s in quiet), "no snapshot ends before the zxid of its name")
    exact = [s for s in quiet if s.last_zxid == s.zxid]
    yes(exact, "a snapshot whose lastProcessedZxid is that of its name")
    if writer == "zabra":
        eq(len(quiet), len(exact), "snapshots whose lastProcessedZxid is that of their name")


def single_instance(kind):
    """Two servers must not use the same port; the second one says so and ends."""
    data = new_data()
    with open_with(kind, data) as first:
        second = Server(kind, f"datadir-second-{_serial}", data=new_data())
        second.port = first.port
        with socket.create_connection(("127.0.0.1", first.port)):
            pass
        ended = start_expecting_end(second)
        yes(ended, "the second server on the same port ends")
        zk.Conn(first.port).close_session()  # the first still serves


def start_expecting_end(server):
    server.spawn()
    try:
        return server.process.wait(20) != 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        server.kill()


def main():
    target = sys.argv[1]
    suite = interop.Suite("datadir", target)
    pairs = [("apache", "apache")] if target == "apache" else [("apache", "zabra"), ("zabra", "apache"), ("zabra", "zabra")]
    for w, r in pairs:
        who = f"{w}-to-{r}"
        suite.test(f"opens {who}", lambda w=w, r=r: opens(w, r))
        suite.test(f"hash-word-goes-on {who}", lambda w=w, r=r: hash_word_goes_on(w, r))
        suite.test(f"opens-with-many-snapshots {who}", lambda w=w, r=r: opens(w, r, "snapCount=50", big=False))
        suite.test(f"kill-9-under-load {who}", lambda w=w, r=r: kill_under_load(w, r))
        suite.test(f"torn-tail {who}", lambda w=w, r=r: torn_tail(w, r))
        suite.test(f"corrupt-middle-refused {who}", lambda w=w, r=r: corrupt_middle(w, r))
        suite.test(f"fuzzy-snapshots {who}", lambda w=w, r=r: fuzzy_snapshots(w, r))
        if w == r != "apache":
            continue  # the other tests are about the change from one server to the other
        suite.test(f"ttl-and-containers-go {who}", lambda w=w, r=r: ttl_and_containers_go(w, r))
        suite.test(f"expired-sessions-clean-up {who}", lambda w=w, r=r: expired_sessions_clean_up(w, r))
        suite.test(f"separate-log-dir {who}", lambda w=w, r=r: separate_log_dir(w, r))
        for method in (None, "gz", "snappy"):
            suite.test(f"from-last-snapshot-{method or 'plain'} {who}", lambda w=w, r=r, m=method: from_last_snapshot(w, r, m))
        suite.test(f"alternate {who}", lambda w=w, r=r: alternate(w, r))
        suite.test(f"purge {who}", lambda w=w, r=r: purge_keeps_what_is_needed(w, r))
    suite.test(f"files-read-by-apaches-tools {target}", lambda: apache_tools(target))
    suite.test(f"log-digests {target}", lambda: log_digests(target))
    suite.test(f"port-in-use {target}", lambda: single_instance(target))
    suite.end()


main()
