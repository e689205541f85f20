"""One recorded exchange of raw frames, normalised so that two servers can be compared by bytes.

Normal form of what differs from run to run:
  session ids   0x0100000000000000 + n for the n-th session of the exchange
  passwords     the password of that id (only when the server sent the right one for the real id)
  zxids         0x1000 + distance from the server's last zxid before the exchange (0 and -1 stay)
  times         0x0000018000000000 when within ten minutes of now
Children lists are sorted. Everything else is kept to the byte.
"""

import socket
import struct
import time

from zabratools import wire as zk

ZXID_BASE = 0x1000
TIME = 0x0000018000000000
SID_BASE = 0x0100000000000000
QUIET = 0.4


class Exchange:
    def __init__(self, port, base_zxid):
        self.port = port
        self.base = base_zxid
        self.lines = []
        self.socks = {}
        self.pending = {}
        self.current = 0
        self.sessions = []  # real (sid, passwd) by order

    # --- connections ---

    def use(self, n):
        """Continue on connection n, opened when first used."""
        if n not in self.socks:
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socks[n] = s
            self.pending[n] = b""
        if n != self.current:
            self.current = n
            self.lines.append(f"@ {n}")
        return self

    @property
    def sock(self):
        return self.socks[self.current]

    def note(self, text):
        self.lines.append(f"# {text}")

    def end(self):
        for s in self.socks.values():
            s.close()

    # --- sending ---

    def raw(self, data, shown=None):
        """Sends bytes as they are; `shown` is their normal form, when it differs."""
        self.lines.append("> " + (shown if shown is not None else data).hex())
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # closed by the server: the following read will show it

    def send(self, payload, shown=None):
        self.raw(zk.frame(payload), zk.frame(shown) if shown is not None else None)

    def request(self, xid, op, body=b""):
        self.send(zk.header(xid, op) + body)

    # --- receiving ---

    def _read(self, wait):
        """One frame with its length, b"" at the end of the connection, None when nothing came."""
        n = self.current
        end = time.monotonic() + wait
        while True:
            data = self.pending[n]
            if len(data) >= 4:
                size = struct.unpack(">i", data[:4])[0]
                if 0 <= size <= 8 << 20 and len(data) >= 4 + size:
                    self.pending[n] = data[4 + size:]
                    return data[:4 + size]
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                part = self.sock.recv(65536)
            except socket.timeout:
                return None
            except OSError:
                return b""
            if not part:
                return b""
            self.pending[n] += part

    def _line(self, data, parse=None):
        if data is None:
            self.lines.append("# no frame came")
        elif data == b"":
            if self.pending[self.current]:
                self.lines.append("< " + self.pending[self.current].hex())
                self.pending[self.current] = b""
            self.lines.append("x")
        else:
            out, masks = bytearray(data), []
            if parse:
                try:
                    parse(out, masks)
                except (ValueError, struct.error):
                    self.lines.append("# this frame has another layout than expected")
            self.lines.append("< " + bytes(out).hex())
            if masks:
                self.lines.append("# normalised: " + " ".join(f"{kind}@{at}" for at, kind in masks))
        return data

    def _zxid(self, out, masks, at):
        real = struct.unpack_from(">q", out, at)[0]
        if real > 0:
            struct.pack_into(">q", out, at, ZXID_BASE + real - self.base)
            masks.append((at, "zxid"))

    def _time(self, out, masks, at):
        real = struct.unpack_from(">q", out, at)[0]
        if abs(real / 1000 - time.time()) < 600:
            struct.pack_into(">q", out, at, TIME)
            masks.append((at, "time"))

    def _sid(self, out, masks, at):
        real = struct.unpack_from(">q", out, at)[0]
        for i, (sid, _) in enumerate(self.sessions):
            if sid == real:
                struct.pack_into(">q", out, at, SID_BASE + i + 1)
                masks.append((at, "sid"))

    def _body(self, r, out, masks, layout):
        for item in layout.split():
            at = r.at + 4  # positions count the length prefix
            if item == "stat":
                for offset in (0, 8, 60):
                    self._zxid(out, masks, at + offset)
                for offset in (16, 24):
                    self._time(out, masks, at + offset)
                self._sid(out, masks, at + 44)
                r.take(68)
            elif item == "str":
                r.ustr()
            elif item == "buf":
                r.buf()
            elif item == "int":
                r.i32()
            elif item == "bool":
                r.boolean()
            elif item == "acls":
                r.acls()
            elif item == "names":
                names = r.vec(r.buf) or []
                body = b"".join(zk.buf(n) for n in sorted(names))
                out[at + 4:at + 4 + len(body)] = body
            else:
                raise AssertionError(item)

    def recv(self, layout="", wait=20):
        """A reply: header and, when err is 0, the body's layout."""
        def parse(out, masks):
            self._zxid(out, masks, 8)
            r = zk.Reader(bytes(out[4:]))
            r.take(16)
            if struct.unpack_from(">i", out, 16)[0] == 0:
                self._body(r, out, masks, layout)
        return self._line(self._read(wait), parse)

    def recv_any(self, *layouts):
        """The next frame, notification or reply, each with its own layout."""
        for layout in layouts:
            self.recv(layout)

    def closed(self, wait=20):
        """The connection must end here; frames before the end are recorded too."""
        while True:
            data = self._line(self._read(wait))
            if data is None or data == b"":
                return

    def closed_after_anything(self):
        """The connection must end; frames before that depend on timing and are not kept."""
        data = self._read(20)
        while data:
            data = self._read(20)
        self._line(data)

    def silent(self):
        """Nothing arrives and the connection stays open."""
        data = self._read(QUIET)
        if data is None:
            self.note("silence")
        else:
            self._line(data)

    # --- sessions ---

    def connect(self, n=1, **kw):
        """Opens connection n and shakes hands; the answer is normalised."""
        self.use(n)
        self.send(zk.connect_request(**kw))
        return self.connected()

    def resume(self, n, session, **kw):
        """Connection n takes over the session with the given index."""
        self.use(n)
        sid, passwd = self.sessions[session]
        normal = SID_BASE + session + 1
        given = kw.pop("passwd", None)
        last = kw.pop("last_zxid", 0)
        self.send(zk.connect_request(sid=sid, passwd=passwd if given is None else given,
                                     last_zxid=self.absolute(last), **kw),
                  zk.connect_request(sid=normal, passwd=zk.password_of(normal) if given is None else given,
                                     last_zxid=last, **kw))
        return self.connected()

    def absolute(self, normal):
        return 0 if normal == 0 else normal - ZXID_BASE + self.base

    def connected(self):
        def parse(out, masks):
            sid = struct.unpack_from(">q", out, 12)[0]
            if sid == 0:
                return
            passwd = bytes(out[24:40])
            if (sid, passwd) not in self.sessions:
                self.sessions.append((sid, passwd))
            normal = SID_BASE + self.sessions.index((sid, passwd)) + 1
            struct.pack_into(">q", out, 12, normal)
            masks.append((12, "sid"))
            if passwd == zk.password_of(sid):
                out[24:40] = zk.password_of(normal)
                masks.append((24, "passwd"))
        return self._line(self._read(20), parse)
