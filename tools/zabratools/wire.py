"""ZooKeeper's client protocol: encoding, decoding, and a small client."""

import collections
import socket
import struct

MASK48 = (1 << 48) - 1
NOTIFICATION_XID, PING_XID, AUTH_XID, SET_WATCHES_XID = -1, -2, -4, -8
OP = dict(
    notification=0, create=1, delete=2, exists=3, getData=4, setData=5, getACL=6, setACL=7, getChildren=8,
    sync=9, ping=11, getChildren2=12, check=13, multi=14, create2=15, reconfig=16, checkWatches=17,
    removeWatches=18, createContainer=19, deleteContainer=20, createTTL=21, multiRead=22, auth=100,
    setWatches=101, sasl=102, getEphemerals=103, getAllChildrenNumber=104, setWatches2=105, addWatch=106,
    whoAmI=107, createSession=-10, closeSession=-11, error=-1)
OPEN = ((31, "world", "anyone"),)


def i32(v):
    return struct.pack(">i", v)


def i64(v):
    return struct.pack(">q", v)


def boolean(v):
    return b"\x01" if v else b"\x00"


def buf(v):
    return i32(-1) if v is None else i32(len(v)) + v


def ustr(v):
    return buf(None if v is None else v.encode("utf-8", "surrogatepass"))


def vec(items, encode=ustr):
    return i32(-1) if items is None else i32(len(items)) + b"".join(encode(i) for i in items)


def acls(entries):
    return vec(entries, lambda e: i32(e[0]) + ustr(e[1]) + ustr(e[2]))


def header(xid, op):
    return i32(xid) + i32(OP[op] if isinstance(op, str) else op)


def frame(payload):
    return i32(len(payload)) + payload


def connect_request(timeout=300000, sid=0, passwd=bytes(16), last_zxid=0, read_only=False, protocol=0):
    """`read_only=None` leaves the last byte out, as clients before 3.4 did."""
    out = i32(protocol) + i64(last_zxid) + i32(timeout) + i64(sid) + buf(passwd)
    return out if read_only is None else out + boolean(read_only)


def create(path, data=b"", acl=OPEN, flags=0):
    return ustr(path) + buf(data) + acls(acl) + i32(flags)


def create_ttl(path, ttl, data=b"", acl=OPEN, flags=5):
    return create(path, data, acl, flags) + i64(ttl)


def multi_op(op, body):
    return i32(OP[op] if isinstance(op, str) else op) + boolean(False) + i32(-1) + body


MULTI_END = i32(-1) + boolean(True) + i32(-1)


def password_of(sid):
    """The session password, which every ZooKeeper server derives from the id alone."""
    s = ((sid ^ 0xB3415C00) ^ 0x5DEECE66D) & MASK48
    out = b""
    for _ in range(4):
        s = (s * 0x5DEECE66D + 0xB) & MASK48
        out += struct.pack("<I", (s >> 16) & 0xFFFFFFFF)
    return out


Stat = collections.namedtuple(
    "Stat", "czxid mzxid ctime mtime version cversion aversion owner length children pzxid")
STAT = struct.Struct(">qqqqiiiqiiq")


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise ValueError(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n:self.at]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def boolean(self):
        return self.take(1) != b"\0"

    def buf(self):
        n = self.i32()
        return None if n == -1 else self.take(n)

    def ustr(self):
        b = self.buf()
        return None if b is None else b.decode("utf-8", "surrogatepass")

    def vec(self, item):
        n = self.i32()
        return None if n == -1 else [item() for _ in range(n)]

    def stat(self):
        return Stat(*STAT.unpack(self.take(STAT.size)))

    def acls(self):
        return self.vec(lambda: (self.i32(), self.ustr(), self.ustr()))

    def rest(self):
        return self.take(len(self.data) - self.at)


class ZkError(Exception):
    def __init__(self, code):
        super().__init__(f"error code {code}")
        self.code = code


class Conn:
    """A client with blocking calls and pipelining; it sends no pings by itself. `patience` is the timeout for an answer, in seconds."""

    def __init__(self, port, timeout=600000, sid=0, passwd=bytes(16), last_zxid=0, patience=30):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.pending = b""
        self.sock.sendall(frame(connect_request(timeout, sid, passwd, last_zxid)))
        answer = self.read_frame()
        if answer is None:
            raise ConnectionError("closed instead of a ConnectResponse")
        r = Reader(answer)
        r.i32()
        self.timeout, self.sid, self.passwd = r.i32(), r.i64(), r.buf()
        if self.timeout <= 0:
            raise ZkError(-112)

    def read_frame(self):
        """The next frame, None at the end of the connection."""
        while True:
            if len(self.pending) >= 4:
                n = struct.unpack(">i", self.pending[:4])[0]
                if len(self.pending) >= 4 + n:
                    out, self.pending = self.pending[4:4 + n], self.pending[4 + n:]
                    return out
            try:
                part = self.sock.recv(262144)
            except ConnectionResetError:
                return None
            if not part:
                return None
            self.pending += part

    def post(self, op, body=b""):
        """Sends without waiting; returns the xid."""
        self.xid += 1
        self.sock.sendall(frame(header(self.xid, op) + body))
        return self.xid

    def take(self):
        """The next reply as (xid, zxid, err, Reader); notifications are skipped. None: closed."""
        while True:
            data = self.read_frame()
            if data is None:
                return None
            r = Reader(data)
            xid, zxid, err = r.i32(), r.i64(), r.i32()
            if xid != NOTIFICATION_XID:
                return xid, zxid, err, r

    def call(self, op, body=b""):
        xid = self.post(op, body)
        got = self.take()
        if got is None:
            raise ConnectionError(f"closed instead of a reply to {op}")
        if got[0] != xid:
            raise ValueError(f"expected a reply with xid {xid}, actual {got[0]}")
        self.last_zxid = got[1]
        if got[2] != 0:
            raise ZkError(got[2])
        return got[3]

    def auth(self, scheme, data):
        self.sock.sendall(frame(header(AUTH_XID, "auth") + i32(0) + ustr(scheme) + buf(data)))
        got = self.take()
        if got is None or got[2] != 0:
            raise ZkError(got[2] if got else -4)

    def create(self, path, data=b"", acl=OPEN, flags=0, op="create"):
        return self.call(op, create(path, data, acl, flags)).ustr()

    def get(self, path):
        r = self.call("getData", ustr(path) + boolean(False))
        return r.buf(), r.stat()

    def children(self, path):
        r = self.call("getChildren2", ustr(path) + boolean(False))
        return sorted(r.vec(r.ustr)), r.stat()

    def acl(self, path):
        r = self.call("getACL", ustr(path))
        return r.acls(), r.stat()

    def set(self, path, data, version=-1):
        return self.call("setData", ustr(path) + buf(data) + i32(version)).stat()

    def delete(self, path, version=-1):
        self.call("delete", ustr(path) + i32(version))

    def exists(self, path):
        try:
            return self.call("exists", ustr(path) + boolean(False)).stat()
        except ZkError as e:
            if e.code == -101:
                return None
            raise

    def close_session(self):
        self.call("closeSession")
        self.drop()

    def drop(self):
        """Closes the connection without closing the session."""
        self.sock.close()
