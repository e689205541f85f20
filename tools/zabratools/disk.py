"""Reads ZooKeeper's files independently of both servers: checksums, records, tree digest."""

import os
import re
import struct
import zlib

from zabratools.wire import Reader

LOG_MAGIC, SNAP_MAGIC = b"ZKLG", b"ZKSN"
# The trailer that Zabra writes after a record's digest (magic, previous zxid, unsynced bytes, CRC32C); Apache ignores it.
TRAILER_MAGIC, TRAILER_LEN = 0x5A425231, 20


class Bad(Exception):
    pass


def files(data, prefix):
    """Full paths of log.* or snapshot.* in order of zxid."""
    folder = os.path.join(data, "version-2")
    found = [(int(m.group(1), 16), os.path.join(folder, n)) for n in os.listdir(folder)
             if (m := re.fullmatch(prefix + r"\.([0-9a-f]+)", n))]
    return [p for _, p in sorted(found)]


def txn_body(r, kind):
    """Steps over one transaction; returns its path(s) for messages."""
    if kind in (1, 15):
        path, _, _ = r.ustr(), r.buf(), r.acls()
        r.boolean(), r.i32()
    elif kind == 21:
        path, _, _ = r.ustr(), r.buf(), r.acls()
        r.i32(), r.i64()
    elif kind == 19:
        path, _, _ = r.ustr(), r.buf(), r.acls()
        r.i32()
    elif kind in (2, 20):
        path = r.ustr()
    elif kind in (5, 16):
        path, _, _ = r.ustr(), r.buf(), r.i32()
    elif kind == 7:
        path, _, _ = r.ustr(), r.acls(), r.i32()
    elif kind == 13:
        path, _ = r.ustr(), r.i32()
    elif kind == -10:
        path = f"timeout {r.i32()}"
    elif kind == -11:
        path = f"{r.vec(r.ustr)}"
    elif kind == -1:
        path = f"error {r.i32()}"
    elif kind == 14:
        path = []
        for _ in range(r.i32()):
            sub, data = r.i32(), r.buf()
            inner = Reader(data)
            path.append((sub, txn_body(inner, sub)))
            if inner.at != len(data):
                raise Bad(f"{len(data) - inner.at} bytes too many in a sub-transaction of type {sub}")
    else:
        raise Bad(f"transaction type {kind}")
    return path


def read_log(path):
    """Records as (zxid, session, cxid, time, type, digest or None). Raises Bad on any damage except zeros at the end."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:16] != LOG_MAGIC + struct.pack(">iq", 2, 0):
        raise Bad(f"{path}: header {data[:16].hex()}")
    at, out = 16, []
    while at + 12 <= len(data):
        check, size = struct.unpack_from(">qi", data, at)
        if size == 0:
            break
        payload = data[at + 12:at + 12 + size]
        if size < 0 or len(payload) < size or data[at + 12 + size:at + 13 + size] != b"B":
            raise Bad(f"{path}: torn record at {at}")
        if zlib.adler32(payload) != check:
            raise Bad(f"{path}: checksum of the record at {at}")
        r = Reader(payload)
        session, cxid, zxid, time, kind = r.i64(), r.i32(), r.i64(), r.i64(), r.i32()
        txn_body(r, kind)
        digest = None
        if size - r.at not in (0, TRAILER_LEN):
            version, digest = r.i32(), r.i64()
            if version != 2:
                raise Bad(f"{path}: digest version {version} at {at}")
        if size - r.at == TRAILER_LEN:
            magic, previous, _, _ = struct.unpack(">iqII", r.rest())
            if magic != TRAILER_MAGIC:
                raise Bad(f"{path}: {TRAILER_LEN} bytes after the record at {at} that are no trailer")
            if out and previous != out[-1][0]:
                raise Bad(f"{path}: trailer at {at} names {previous:x} as the zxid before, it is {out[-1][0]:x}")
        if r.at != size:
            raise Bad(f"{path}: {size - r.at} bytes too many in the record at {at} (type {kind})")
        out.append((zxid, session, cxid, time, kind, digest))
        at += 13 + size
    return out


def all_records(data):
    """Records of every log in order; zxids must follow each other without a gap."""
    out = []
    for path in files(data, "log"):
        records = read_log(path)
        if records and int(path.rsplit(".", 1)[1], 16) != records[0][0]:
            raise Bad(f"{path}: its first record has zxid {records[0][0]:x}")
        out += records
    for a, b in zip(out, out[1:]):
        if b[0] != a[0] + 1:
            raise Bad(f"zxid {b[0]:x} follows {a[0]:x}")
    return out


class Snapshot:
    """One uncompressed snapshot file, checked while reading."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        self.path = path
        self.zxid = int(path.rsplit(".", 1)[1], 16)
        r = Reader(data)
        if r.take(4) != SNAP_MAGIC or r.i32() != 2 or r.i64() != -1:
            raise Bad(f"{path}: header {data[:16].hex()}")
        self.sessions = {r.i64(): r.i32() for _ in range(r.i32())}
        acl_count = r.i32()
        self.acls = {r.i64(): r.acls() for _ in range(acl_count)}
        self.nodes = {}
        name = r.ustr()
        while name != "/":
            node, acl = r.buf(), r.i64()
            if acl != -1 and acl not in self.acls:
                raise Bad(f"{path}: node {name} has unknown ACL id {acl}")
            parent = name.rsplit("/", 1)[0]
            if name and parent not in self.nodes:
                raise Bad(f"{path}: node {name} before its parent")
            self.nodes[name] = (node, acl, struct.unpack(">qqqqiiiqq", r.take(60)))
            name = r.ustr()
        self.digest_zxid = self.digest = self.last_zxid = None
        self._seal(r, data)
        if r.at < len(data):
            self.digest_zxid, version, self.digest = r.i64(), r.i32(), r.i64()
            if version != 2:
                raise Bad(f"{path}: digest version {version}")
            self._seal(r, data)
        if r.at < len(data):
            self.last_zxid = r.i64()
            self._seal(r, data)
        if r.at != len(data):
            raise Bad(f"{path}: {len(data) - r.at} bytes after the end")

    def _seal(self, r, data):
        at = r.at
        check, end = r.i64(), r.ustr()
        if check != zlib.adler32(data[:at]) or end != "/":
            raise Bad(f"{self.path}: seal at {at}")

    def computed_digest(self):
        total = 0
        for name, (node, _, s) in self.nodes.items():
            if name.startswith("/zookeeper/"):
                continue
            # czxid mzxid ctime mtime version cversion aversion owner pzxid, in the order of the digest
            fixed = struct.pack(">qqqqqiiiq", s[0], s[1], s[8], s[2], s[3], s[4], s[5], s[6], s[7])
            total += zlib.crc32(name.encode("utf-8") + (node or b"") + fixed)
        total &= (1 << 64) - 1
        return total - (1 << 64) if total >> 63 else total
