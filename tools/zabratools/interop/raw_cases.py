"""The raw exchanges: each function drives an Exchange `e` on its own connections.

Every case uses node names of its own, so that the order of cases does not matter.
"""

from zabratools import wire as zk
from zabratools.wire import i32, i64, ustr, buf, boolean, vec, acls, create, create_ttl, multi_op, MULTI_END

CASES = []
# Cases in which zxids of replies are not comparable (see the case's comment).
NO_ZXID = set()


def case(f):
    CASES.append((f.__name__.replace("_", "-"), f))
    return f


def node(e, path, xid=900, **kw):
    e.request(xid, "create", create(path, **kw))
    e.recv("str")


def leave(e):
    """Ends the session, because its expiry would use a zxid in the middle of another case."""
    e.request(999, "closeSession")
    e.recv()


# --- handshake ---

@case
def connect_new(e):
    e.connect()
    e.request(1, "closeSession")
    e.recv()
    e.closed()


@case
def connect_without_read_only_byte(e):
    e.connect(read_only=None)
    e.request(1, "exists", ustr("/") + boolean(False))
    e.recv()
    e.request(2, "closeSession")
    e.recv()
    e.closed()


@case
def connect_read_only_true(e):
    e.connect(read_only=True)


@case
def connect_timeout_too_small(e):
    e.connect(timeout=1)
    leave(e)


@case
def connect_timeout_too_large(e):
    e.connect(timeout=2147483647)
    leave(e)


@case
def connect_timeout_negative(e):
    e.connect(timeout=-1)
    leave(e)


@case
def connect_protocol_version_7(e):
    e.connect(protocol=7)


@case
def connect_null_password(e):
    e.connect(passwd=None)


@case
def connect_short_password(e):
    e.connect(passwd=b"12345678")


@case
def connect_empty_password(e):
    e.connect(passwd=b"")


@case
def connect_long_password(e):
    e.connect(passwd=bytes(200))


@case
def connect_trailing_bytes(e):
    e.use(1)
    e.send(zk.connect_request() + b"\x00\x01\x02\x03")
    e.connected()


@case
def connect_truncated_in_password(e):
    e.use(1)
    e.send(zk.connect_request()[:40])
    e.closed()


@case
def connect_truncated_in_timeout(e):
    e.use(1)
    e.send(zk.connect_request()[:14])
    e.closed()


@case
def connect_negative_password_length(e):
    e.use(1)
    e.send(i32(0) + i64(0) + i32(300000) + i64(0) + i32(-2) + boolean(False))
    e.closed()


@case
def connect_huge_password_length(e):
    e.use(1)
    e.send(i32(0) + i64(0) + i32(300000) + i64(0) + i32(0x7FFFFFFF) + bytes(16) + boolean(False))
    e.closed()


@case
def connect_ahead_of_the_server(e):
    e.use(1)
    e.send(zk.connect_request(last_zxid=0x7FFFFFFFFFFFFFFF))
    e.closed()


@case
def connect_unknown_session(e):
    e.use(1)
    sid = 0x0100000000ABCDEF
    e.send(zk.connect_request(sid=sid, passwd=zk.password_of(sid)))
    e.connected()
    e.closed()


@case
def connect_unknown_session_without_read_only_byte(e):
    e.use(1)
    sid = 0x0100000000ABCDEF
    e.send(zk.connect_request(sid=sid, passwd=zk.password_of(sid), read_only=None))
    e.connected()
    e.closed()


@case
def connect_split_into_bytes(e):
    e.use(1)
    data = zk.frame(zk.connect_request())
    for i in range(len(data)):
        e.sock.sendall(data[i:i + 1])
    e.lines.append("> " + data.hex())
    e.connected()


@case
def connect_and_requests_in_one_write(e):
    e.use(1)
    data = zk.frame(zk.connect_request())
    data += zk.frame(zk.header(zk.AUTH_XID, "auth") + i32(0) + ustr("digest") + buf(b"u:p"))
    data += zk.frame(zk.header(1, "create") + create("/raw-onewrite"))
    data += zk.frame(zk.header(2, "getData") + ustr("/raw-onewrite") + boolean(True))
    data += zk.frame(zk.header(3, "delete") + ustr("/raw-onewrite") + i32(-1))
    e.raw(data)
    e.connected()
    # Auth is answered outside the queue and may come first or later: read it by itself.
    e.recv()
    e.recv("str")
    e.recv("buf stat")
    e.recv("int int str")
    e.recv()


@case
def resume_session(e):
    e.connect(1)
    node(e, "/raw-resume", flags=1)
    e.resume(2, 0)
    e.use(1).closed()
    e.use(2)
    e.request(1, "exists", ustr("/raw-resume") + boolean(False))
    e.recv("stat")


@case
def resume_wrong_password(e):
    e.connect(1)
    e.resume(2, 0, passwd=b"0123456789abcdef")
    e.closed()
    e.use(1).closed()


@case
def resume_ahead_of_the_server(e):
    e.connect(1)
    e.resume(2, 0, last_zxid=1 << 60)
    e.use(1)
    e.request(1, "exists", ustr("/raw-none") + boolean(False))
    e.recv()


@case
def second_connect_request(e):
    e.connect(1)
    e.send(zk.connect_request())
    e.closed()


@case
def second_connect_request_without_read_only_byte(e):
    e.connect(1)
    e.send(zk.connect_request(read_only=None))
    e.closed()


# --- framing ---

@case
def request_before_connect(e):
    e.use(1)
    e.request(1, "getData", ustr("/") + boolean(False))
    e.closed()


@case
def ping_before_connect(e):
    e.use(1)
    e.request(-2, "ping")
    e.closed()


@case
def garbage_http(e):
    e.use(1)
    e.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    e.closed()


@case
def garbage_tls_hello(e):
    e.use(1)
    e.raw(bytes.fromhex("16030100c8010000c40303") + bytes(190))
    e.closed()


@case
def first_length_negative(e):
    e.use(1)
    e.raw(i32(-1))
    e.closed()


@case
def first_length_min(e):
    e.use(1)
    e.raw(i32(-2147483648))
    e.closed()


@case
def first_length_zero(e):
    e.use(1)
    e.raw(i32(0))
    e.closed()


@case
def first_length_too_large(e):
    e.use(1)
    e.raw(i32(1048576))
    e.closed()


@case
def telnet_close(e):
    e.use(1)
    e.raw(bytes.fromhex("fff4fffd"))
    e.closed()


@case
def length_negative(e):
    e.connect()
    e.raw(i32(-1))
    e.closed()


@case
def length_too_large(e):
    e.connect()
    e.raw(i32(1048576))
    e.closed()


@case
def length_max(e):
    e.connect()
    e.raw(i32(0x7FFFFFFF))
    e.closed()


@case
def length_zero(e):
    e.connect()
    e.raw(i32(0))
    e.closed()


@case
def header_truncated(e):
    e.connect()
    e.send(i32(1) + b"\x00\x00")
    e.closed()


@case
def header_only_of_get_data(e):
    e.connect()
    e.request(1, "getData")
    e.recv()
    e.request(2, "exists", ustr("/raw-none") + boolean(False))
    e.recv()


@case
def four_letter_word_after_connect(e):
    e.connect()
    e.raw(b"ruok")
    e.closed()


@case
def ruok(e):
    e.use(1)
    e.raw(b"ruok")
    data = e.sock.recv(100)
    e.lines.append("< " + data.hex())
    e.closed()


@case
def half_a_length_then_close(e):
    e.use(1)
    e.raw(b"\x00\x00")
    e.silent()


# --- plain requests ---

@case
def ping(e):
    e.connect()
    e.request(-2, "ping")
    e.recv()
    e.request(-2, "ping", b"extra bytes")
    e.recv()


@case
def ping_with_a_positive_xid(e):
    e.connect()
    e.request(5, "ping")
    e.recv()


@case
def odd_xids_are_echoed(e):
    e.connect()
    for xid in (0, 2147483647, -100, -2147483648, -1, -2, -4, -8):
        e.request(xid, "exists", ustr("/raw-none") + boolean(False))
        e.recv()


@case
def sync(e):
    e.connect()
    e.request(1, "sync", ustr("/"))
    e.recv("str")
    e.request(2, "sync", ustr("/raw-none"))
    e.recv("str")
    e.request(3, "sync", ustr(""))
    e.recv("str")


@case
def unknown_opcode_10(e):
    e.connect()
    e.request(1, 10)
    e.recv()
    e.closed()


@case
def unknown_opcode_99(e):
    e.connect()
    e.request(1, 99, b"whatever")
    e.recv()
    e.closed()


@case
def unknown_opcode_23(e):
    e.connect()
    e.request(1, 23, ustr("/"))
    e.recv()
    e.closed()


@case
def unknown_opcode_108(e):
    e.connect()
    e.request(1, 108)
    e.recv()
    e.closed()


@case
def unknown_opcode_min(e):
    e.connect()
    e.request(1, -2147483648)
    e.recv()
    e.closed()


@case
def opcode_notification(e):
    e.connect()
    e.request(1, "notification")
    e.recv()
    e.closed()


@case
def opcode_error(e):
    e.connect()
    e.request(1, "error", i32(-101))
    e.recv()
    e.closed()


@case
def standalone_check(e):
    e.connect()
    node(e, "/raw-check")
    e.request(1, "check", ustr("/raw-check") + i32(-1))
    e.recv()
    e.closed()


@case
def unknown_opcode_between_requests(e):
    e.connect()
    e.request(1, "exists", ustr("/raw-none") + boolean(False))
    # Wait for the replies first: the answer to an unknown opcode may overtake those to earlier requests.
    e.recv()
    e.raw(zk.frame(zk.header(2, 77)) + zk.frame(zk.header(3, "exists") + ustr("/raw-none") + boolean(False)))
    e.recv()
    e.closed_after_anything()


@case
def create_get_set_delete(e):
    e.connect()
    e.request(1, "create", create("/raw-cgsd", b"one"))
    e.recv("str")
    e.request(2, "getData", ustr("/raw-cgsd") + boolean(False))
    e.recv("buf stat")
    e.request(3, "setData", ustr("/raw-cgsd") + buf(b"two!") + i32(0))
    e.recv("stat")
    e.request(4, "exists", ustr("/raw-cgsd") + boolean(False))
    e.recv("stat")
    e.request(5, "delete", ustr("/raw-cgsd") + i32(1))
    e.recv()
    e.request(6, "exists", ustr("/raw-cgsd") + boolean(False))
    e.recv("stat")
    e.request(7, "getData", ustr("/raw-cgsd") + boolean(False))
    e.recv("buf stat")


@case
def create2_and_kinds(e):
    e.connect()
    e.request(1, "create2", create("/raw-c2", b"x"))
    e.recv("str stat")
    e.request(2, "create2", create("/raw-c2/e", None, flags=1))
    e.recv("str stat")
    e.request(3, "create2", create("/raw-c2/s-", flags=2))
    e.recv("str stat")
    e.request(4, "create2", create("/raw-c2/es-", flags=3))
    e.recv("str stat")
    e.request(5, "createContainer", create("/raw-c2/c", flags=4))
    e.recv("str stat")
    e.request(6, "createTTL", create_ttl("/raw-c2/t", 600000000))
    e.recv("str stat")
    e.request(7, "createTTL", create_ttl("/raw-c2/ts-", 600000000, flags=6))
    e.recv("str stat")
    e.request(8, "getChildren2", ustr("/raw-c2") + boolean(False))
    e.recv("names stat")
    e.request(9, "getAllChildrenNumber", ustr("/raw-c2"))
    e.recv("int")


@case
def create_errors(e):
    e.connect()
    node(e, "/raw-ce")
    for xid, body in enumerate([
            create("/raw-ce"), create("/raw-none/x"), create("/"), create(""), create("raw"), create("/raw-ce/"),
            create("/raw-ce//x"), create("/raw-ce/\0"), create("/raw-ce/."), create("/raw-ce/x", acl=()),
            create("/raw-ce/x", acl=((31, "auth", ""),)), create("/raw-ce/x", acl=((31, "nosuch", "x"),)),
            create("/raw-ce/x", acl=((31, None, None),)), create("/raw-ce/x", acl=None)], 1):
        e.request(xid, "create", body)
        e.recv("str")


@case
def create_bad_flags(e):
    e.connect()
    for xid, flags in enumerate([7, -1, 100, 2147483647, -2147483648], 1):
        e.request(xid, "create", create("/raw-flags", flags=flags))
        e.recv("str")
    e.request(20, "createTTL", create_ttl("/raw-flags", 1000, flags=99))
    e.recv("str stat")
    e.request(21, "createContainer", create("/raw-flags", flags=50))
    e.recv("str stat")


@case
def create_flags_against_opcode(e):
    e.connect()
    node(e, "/raw-fo")
    e.request(1, "create", create("/raw-fo/c", flags=4))
    e.recv("str")
    e.request(2, "createContainer", create("/raw-fo/p", flags=0))
    e.recv("str stat")
    e.request(3, "createTTL", create_ttl("/raw-fo/t", 600000000, flags=0))
    e.recv("str stat")
    e.request(4, "create2", create("/raw-fo/t2", flags=5))
    e.recv("str stat")
    e.request(5, "create", create("/raw-fo/t3", flags=6))
    e.recv("str")


@case
def ttl_values(e):
    e.connect()
    node(e, "/raw-ttl")
    for xid, ttl in enumerate([0, -1, 1099511627776, 1099511627775, -9223372036854775808], 1):
        e.request(xid, "createTTL", create_ttl(f"/raw-ttl/n{xid}", ttl))
        e.recv("str stat")


@case
def create_null_and_empty_data(e):
    e.connect()
    node(e, "/raw-null", data=None)
    node(e, "/raw-empty", data=b"")
    for xid, path in enumerate(["/raw-null", "/raw-empty"], 1):
        e.request(xid, "getData", ustr(path) + boolean(False))
        e.recv("buf stat")


@case
def create_under_an_ephemeral(e):
    e.connect()
    node(e, "/raw-eph", flags=1)
    e.request(1, "create", create("/raw-eph/x"))
    e.recv("str")
    e.request(2, "create2", create("/raw-eph/x"))
    e.recv("str stat")


@case
def create_trailing_bytes(e):
    e.connect()
    e.request(1, "create", create("/raw-trail") + b"trailing")
    e.recv("str")


@case
def stat_of_parent_after_children(e):
    e.connect()
    node(e, "/raw-par")
    node(e, "/raw-par/a", 1)
    node(e, "/raw-par/b", 2)
    e.request(3, "delete", ustr("/raw-par/a") + i32(-1))
    e.recv()
    e.request(4, "exists", ustr("/raw-par") + boolean(False))
    e.recv("stat")
    node(e, "/raw-par/s-", 5, flags=2)
    e.request(6, "exists", ustr("/raw-par") + boolean(False))
    e.recv("stat")


@case
def delete_errors(e):
    e.connect()
    node(e, "/raw-del")
    node(e, "/raw-del/x", 1)
    for xid, (path, version) in enumerate([
            ("/raw-del", -1), ("/raw-del/x", 5), ("/raw-del/none", -1), ("/raw-none/none", -1), ("/", -1), ("", -1),
            ("raw", -1), ("/zookeeper", -1), ("/zookeeper/config", -1), ("/raw-del/x\0", -1), ("/raw-del//x", -1),
            ("/raw-del/x/", -1)], 2):
        e.request(xid, "delete", ustr(path) + i32(version))
        e.recv()


@case
def set_data_errors(e):
    e.connect()
    node(e, "/raw-set")
    for xid, (path, version) in enumerate([
            ("/raw-set", 5), ("/raw-set", -2), ("/raw-none", -1), ("", -1), ("raw", -1), ("/raw-set/", -1),
            ("/raw-set\0", -1), ("/raw-set/../x", -1)], 1):
        e.request(xid, "setData", ustr(path) + buf(b"d") + i32(version))
        e.recv("stat")
    e.request(20, "setData", ustr("/raw-set") + buf(None) + i32(0))
    e.recv("stat")


@case
def reads_of_invalid_paths(e):
    e.connect()
    for i, path in enumerate(["raw", "/raw/", "//", "/a\0b", "/.", "/raw-none/.."]):
        for j, op in enumerate(["exists", "getData", "getChildren", "getChildren2"]):
            e.request(10 * i + j + 1, op, ustr(path) + boolean(False))
            e.recv()
        e.request(10 * i + 5, "getACL", ustr(path))
        e.recv()
        e.request(10 * i + 6, "getAllChildrenNumber", ustr(path))
        e.recv()


@case
def null_paths(e):
    e.connect()
    for xid, (op, body) in enumerate([
            ("exists", boolean(False)), ("getData", boolean(False)), ("getChildren", boolean(False)),
            ("getChildren2", boolean(False)), ("getACL", b""), ("getAllChildrenNumber", b""), ("sync", b""),
            ("getEphemerals", b""), ("checkWatches", i32(1)), ("removeWatches", i32(1))], 1):
        e.request(xid, op, i32(-1) + body)
        e.recv()


@case
def null_paths_of_writes(e):
    e.connect()
    for xid, (op, body) in enumerate([
            ("create", buf(b"") + acls(zk.OPEN) + i32(0)), ("delete", i32(-1)), ("setData", buf(b"") + i32(-1)),
            ("setACL", acls(zk.OPEN) + i32(-1))], 1):
        e.request(xid, op, i32(-1) + body)
        e.recv()


NO_ZXID.add("null-paths-of-writes")


@case
def acl_round_trip(e):
    e.connect()
    node(e, "/raw-acl", acl=((1, "world", "anyone"), (31, "ip", "127.0.0.1"), (1, "world", "anyone")))
    e.request(1, "getACL", ustr("/raw-acl"))
    e.recv("acls stat")
    e.request(2, "setACL", ustr("/raw-acl") + acls(((31, "world", "anyone"),)) + i32(0))
    e.recv("stat")
    e.request(3, "setACL", ustr("/raw-acl") + acls(((31, "world", "anyone"),)) + i32(0))
    e.recv("stat")
    e.request(4, "getACL", ustr("/raw-acl"))
    e.recv("acls stat")
    e.request(5, "setACL", ustr("/raw-acl") + acls(()) + i32(-1))
    e.recv("stat")
    e.request(6, "setACL", ustr("/raw-acl") + acls(((31, "digest", "nocolon"),)) + i32(-1))
    e.recv("stat")
    e.request(7, "setACL", ustr("/raw-acl") + acls(((0, "world", "anyone"),)) + i32(-1))
    e.recv("stat")
    e.request(8, "getACL", ustr("/raw-acl"))
    e.recv("acls stat")
    e.request(9, "setACL", ustr("/raw-acl") + acls(((-1, "world", "anyone"),)) + i32(-1))
    e.recv("stat")


@case
def get_ephemerals(e):
    e.connect()
    node(e, "/raw-ge")
    node(e, "/raw-ge/e1", 1, flags=1)
    node(e, "/raw-ge/e2", 2, flags=1)
    for xid, prefix in enumerate(["/", "", " ", "/raw-ge/e1", "/raw-x", "e1", None], 3):
        e.request(xid, "getEphemerals", ustr(prefix))
        e.recv("names")


@case
def who_am_i(e):
    e.connect()
    e.request(1, "whoAmI")
    e.recv()
    e.request(zk.AUTH_XID, "auth", i32(0) + ustr("digest") + buf(b"user:password"))
    e.recv()
    e.request(2, "whoAmI")
    e.recv()


@case
def config_node(e):
    e.connect()
    e.request(1, "getACL", ustr("/zookeeper/config"))
    e.recv()
    e.request(2, "setData", ustr("/zookeeper/config") + buf(b"x") + i32(-1))
    e.recv("stat")
    e.request(3, "create", create("/zookeeper/config/x"))
    e.recv("str")


@case
def system_nodes(e):
    e.connect()
    for xid, path in enumerate(["/zookeeper", "/zookeeper/quota"], 1):
        e.request(xid, "getData", ustr(path) + boolean(False))
        e.recv("buf")
    e.request(3, "getACL", ustr("/zookeeper"))
    e.recv()
    e.request(4, "getChildren", ustr("/zookeeper") + boolean(False))
    e.recv("names")


@case
def reconfig_disabled(e):
    e.connect()
    e.request(1, "reconfig", ustr("server.2=127.0.0.1:21990:21991;21992") + ustr(None) + ustr(None) + i64(-1))
    e.recv()
    e.request(2, "exists", ustr("/raw-none") + boolean(False))
    e.recv()


@case
def close_session_then_requests(e):
    e.connect()
    node(e, "/raw-close", flags=1)
    e.raw(zk.frame(zk.header(1, "closeSession")) + zk.frame(zk.header(2, "exists") + ustr("/raw-close") + boolean(False)))
    e.recv()
    # Apache answers the second request with SESSIONEXPIRED or not at all, depending on timing.
    e.closed_after_anything()


@case
def close_session_deletes_ephemerals(e):
    e.connect(1)
    node(e, "/raw-cde", flags=1)
    e.connect(2)
    e.request(1, "exists", ustr("/raw-cde") + boolean(True))
    e.recv("stat")
    e.use(1)
    e.request(1, "closeSession")
    e.recv()
    e.closed()
    e.use(2)
    e.recv("int int str")
    e.request(2, "exists", ustr("/raw-cde") + boolean(False))
    e.recv("stat")


# --- bodies that do not decode ---

def undecodable(op, body, reads=False):
    name = f"truncated-{op}"

    def run(e):
        e.connect()
        e.request(1, op, body)
        e.recv()
        e.request(2, "exists", ustr("/raw-none") + boolean(False))
        e.recv()
    CASES.append((name, run))
    if not reads:
        # Apache logs an undecodable write under the zxid of the previous one; a new zxid is accepted too.
        NO_ZXID.add(name)


undecodable("create", ustr("/raw-t")[:-2])
undecodable("create2", create("/raw-t")[:-3])
undecodable("createTTL", create_ttl("/raw-t", 5)[:-1])
undecodable("createContainer", b"")
undecodable("delete", ustr("/raw-t"))
undecodable("setData", ustr("/raw-t") + i32(100) + b"short")
undecodable("setACL", ustr("/raw-t") + i32(3))
undecodable("exists", i32(50) + b"/x", True)
undecodable("getData", ustr("/raw-t")[:2], True)
undecodable("getACL", b"\x00", True)
undecodable("getChildren", b"", True)
undecodable("getChildren2", b"", True)
undecodable("sync", b"", True)
undecodable("getEphemerals", b"", True)
undecodable("getAllChildrenNumber", b"", True)
undecodable("addWatch", ustr("/raw-t"), True)
undecodable("checkWatches", ustr("/raw-t"), True)
undecodable("removeWatches", ustr("/raw-t"), True)
undecodable("setWatches", i64(0), True)
undecodable("setWatches2", i64(0) + vec([]) * 3, True)
undecodable("reconfig", b"")


@case
def negative_string_length(e):
    e.connect()
    e.request(1, "getData", i32(-5) + b"/x" + boolean(False))
    e.recv()
    e.request(2, "create", i32(-5) + b"/x")
    e.recv()


NO_ZXID.add("negative-string-length")


@case
def huge_string_length(e):
    e.connect()
    e.request(1, "getData", i32(0x7FFFFFFF) + b"/x")
    e.recv()
    e.request(2, "create", ustr("/raw-huge") + i32(0x7FFFFFF0) + b"data")
    e.recv()


NO_ZXID.add("huge-string-length")


@case
def huge_vector_count(e):
    e.connect()
    e.request(1, "create", ustr("/raw-vec") + buf(b"") + i32(0x7FFFFFFF) + i32(31) + ustr("world") + ustr("anyone"))
    e.recv()
    e.request(2, "setWatches", i64(0) + i32(0x7FFFFFFF))
    e.recv()


NO_ZXID.add("huge-vector-count")


@case
def negative_vector_count(e):
    e.connect()
    e.request(1, "create", ustr("/raw-nvec") + buf(b"") + i32(-7) + i32(0))
    e.recv("str")


@case
def path_that_is_not_utf8(e):
    e.connect()
    e.request(1, "getData", i32(4) + b"/\xff\xfe\x80" + boolean(False))
    e.recv()
    e.request(2, "exists", i32(3) + b"/\xc0\x80" + boolean(False))
    e.recv()


# --- multi ---

@case
def multi_success(e):
    e.connect()
    node(e, "/raw-m", data=b"0")
    e.request(1, "multi",
              multi_op("create", create("/raw-m/a")) + multi_op("create2", create("/raw-m/b"))
              + multi_op("setData", ustr("/raw-m") + buf(b"1") + i32(0)) + multi_op("check", ustr("/raw-m") + i32(1))
              + multi_op("delete", ustr("/raw-m/a") + i32(-1)) + MULTI_END)
    e.recv("int bool int str int bool int str stat int bool int stat int bool int int bool int int bool int")


@case
def multi_failure(e):
    e.connect()
    node(e, "/raw-mf")
    e.request(1, "multi",
              multi_op("create", create("/raw-mf/a")) + multi_op("delete", ustr("/raw-mf/none") + i32(-1))
              + multi_op("check", ustr("/raw-mf") + i32(0)) + MULTI_END)
    e.recv()
    e.request(2, "getChildren", ustr("/raw-mf") + boolean(False))
    e.recv("names")


@case
def multi_failure_in_the_first(e):
    e.connect()
    node(e, "/raw-mf1")
    e.request(1, "multi", multi_op("check", ustr("/raw-mf1") + i32(9))
              + multi_op("create", create("/raw-mf1/a")) + MULTI_END)
    e.recv()


@case
def multi_empty(e):
    e.connect()
    e.request(1, "multi", MULTI_END)
    e.recv()
    e.request(2, "multiRead", MULTI_END)
    e.recv()


@case
def multi_container_and_ttl(e):
    e.connect()
    node(e, "/raw-mct")
    e.request(1, "multi", multi_op("createContainer", create("/raw-mct/c", flags=4))
              + multi_op("createTTL", create_ttl("/raw-mct/t", 600000000))
              + multi_op("create", create("/raw-mct/c2", flags=4)) + MULTI_END)
    e.recv("int bool int str stat int bool int str stat int bool int str stat int bool int")


def bad_multi(name, op, body):
    name = "multi-" + name

    def run(e):
        e.connect()
        e.request(1, op, body)
        e.recv()
        e.request(2, "exists", ustr("/raw-none") + boolean(False))
        e.recv()
    CASES.append((name, run))
    NO_ZXID.add(name)


bad_multi("without-body", "multi", b"")
bad_multi("without-end", "multi", multi_op("create", create("/raw-bm")))
bad_multi("truncated-op", "multi", multi_op("create", create("/raw-bm")[:-5]))
bad_multi("unknown-op", "multi", multi_op(99, create("/raw-bm")) + MULTI_END)
bad_multi("of-sync", "multi", multi_op("sync", ustr("/")) + MULTI_END)
bad_multi("of-create-session", "multi", multi_op("createSession", i32(1000)) + MULTI_END)
bad_multi("nested", "multi", multi_op("multi", MULTI_END) + MULTI_END)
bad_multi("mixing-read-and-write", "multi",
          multi_op("create", create("/raw-bm")) + multi_op("getData", ustr("/raw-bm") + boolean(False)) + MULTI_END)
bad_multi("of-garbage", "multi", bytes(range(256)))
bad_multi("read-of-writes", "multiRead", multi_op("create", create("/raw-bm")) + MULTI_END)
bad_multi("read-truncated", "multiRead", multi_op("getData", b"\x00") + MULTI_END)


@case
def multi_with_bad_flag_and_path(e):
    e.connect()
    for xid, body in enumerate([create("/raw-mbad", flags=77), create("raw"), create("/raw-mbad/"), create("/")], 1):
        e.request(xid, "multi", multi_op("create", body) + multi_op("create", create("/raw-mbad")) + MULTI_END)
        e.recv()


@case
def multi_read(e):
    e.connect()
    node(e, "/raw-mr", data=b"d")
    node(e, "/raw-mr/k", 1)
    e.request(2, "multiRead",
              multi_op("getData", ustr("/raw-mr") + boolean(True)) + multi_op("getData", ustr("/raw-none") + boolean(False))
              + multi_op("getChildren", ustr("/raw-mr") + boolean(False)) + MULTI_END)
    e.recv("int bool int buf stat int bool int int int bool int names int bool int")


# --- auth ---

def auth(e, scheme, data, kind=0):
    e.request(zk.AUTH_XID, "auth", i32(kind) + ustr(scheme) + buf(data))


@case
def auth_digest(e):
    e.connect()
    auth(e, "digest", b"user:password")
    e.recv()
    node(e, "/raw-auth", acl=((31, "auth", ""),))
    e.request(1, "getACL", ustr("/raw-auth"))
    e.recv("acls stat")


@case
def auth_unknown_scheme(e):
    e.connect()
    auth(e, "nosuchscheme", b"x")
    e.recv()
    e.closed()


@case
def auth_world(e):
    e.connect()
    auth(e, "world", b"anyone")
    e.recv()
    e.closed()


@case
def auth_ip(e):
    e.connect()
    auth(e, "ip", b"10.0.0.1")
    e.recv()
    e.request(1, "whoAmI")
    e.recv()


@case
def auth_digest_without_colon(e):
    e.connect()
    auth(e, "digest", b"nocolon")
    e.recv()
    e.request(1, "whoAmI")
    e.recv()


@case
def auth_digest_empty(e):
    e.connect()
    auth(e, "digest", b"")
    e.recv()
    e.request(1, "whoAmI")
    e.recv()


@case
def auth_sasl_scheme(e):
    e.connect()
    auth(e, "sasl", b"")
    e.recv()
    e.closed()


@case
def auth_type_is_ignored(e):
    e.connect()
    auth(e, "digest", b"a:b", 17)
    e.recv()


@case
def auth_with_another_xid(e):
    e.connect()
    e.request(12, "auth", i32(0) + ustr("digest") + buf(b"a:b"))
    e.recv()


@case
def auth_twice_the_same(e):
    e.connect()
    auth(e, "digest", b"a:b")
    e.recv()
    auth(e, "digest", b"a:b")
    e.recv()
    e.request(1, "whoAmI")
    e.recv()


@case
def auth_super(e):
    e.connect()
    auth(e, "digest", b"super:interop")
    e.recv()
    node(e, "/raw-super", acl=((31, "digest", "x:y"),))
    e.request(1, "setData", ustr("/raw-super") + buf(b"ok") + i32(-1))
    e.recv("stat")
    e.request(2, "getACL", ustr("/raw-super"))
    e.recv("acls stat")
    e.request(3, "whoAmI")
    e.recv()


@case
def no_auth_on_each_op(e):
    e.connect(1)
    node(e, "/raw-noauth", acl=((31, "digest", "x:y"),))
    for xid, (op, body) in enumerate([
            ("getData", ustr("/raw-noauth") + boolean(False)), ("exists", ustr("/raw-noauth") + boolean(False)),
            ("getChildren", ustr("/raw-noauth") + boolean(False)), ("getChildren2", ustr("/raw-noauth") + boolean(False)),
            ("getACL", ustr("/raw-noauth")), ("getAllChildrenNumber", ustr("/raw-noauth")),
            ("setData", ustr("/raw-noauth") + buf(b"") + i32(-1)), ("setACL", ustr("/raw-noauth") + acls(zk.OPEN) + i32(-1)),
            ("create", create("/raw-noauth/x")), ("delete", ustr("/raw-noauth/x") + i32(-1))], 1):
        e.request(xid, op, body)
        e.recv()


# --- watches ---

@case
def watch_events(e):
    e.connect(1)
    e.connect(2)
    e.use(1)
    e.request(1, "exists", ustr("/raw-w") + boolean(True))
    e.recv("stat")
    e.use(2)
    node(e, "/raw-w", 1)
    e.use(1)
    e.recv("int int str")
    e.request(2, "getData", ustr("/raw-w") + boolean(True))
    e.recv("buf stat")
    e.request(3, "getChildren", ustr("/raw-w") + boolean(True))
    e.recv("names")
    e.use(2)
    e.request(2, "setData", ustr("/raw-w") + buf(b"1") + i32(-1))
    e.recv("stat")
    node(e, "/raw-w/k", 3)
    e.use(1)
    e.recv("int int str")
    e.recv("int int str")
    e.silent()


@case
def watch_own_event_before_reply(e):
    e.connect()
    e.raw(zk.frame(zk.header(1, "exists") + ustr("/raw-wo") + boolean(True))
          + zk.frame(zk.header(2, "create") + create("/raw-wo"))
          + zk.frame(zk.header(3, "getData") + ustr("/raw-wo") + boolean(True))
          + zk.frame(zk.header(4, "delete") + ustr("/raw-wo") + i32(-1))
          + zk.frame(zk.header(5, "exists") + ustr("/raw-wo") + boolean(False)))
    e.recv("stat")
    e.recv("int int str")
    e.recv("str")
    e.recv("buf stat")
    e.recv("int int str")
    e.recv()
    e.recv("stat")


@case
def watch_persistent_and_recursive(e):
    e.connect(1)
    node(e, "/raw-wp")
    node(e, "/raw-wr", 2)
    e.request(3, "addWatch", ustr("/raw-wp") + i32(0))
    e.recv()
    e.request(4, "addWatch", ustr("/raw-wr") + i32(1))
    e.recv()
    for base, xid in (("/raw-wp", 10), ("/raw-wr", 20)):
        e.request(xid, "setData", ustr(base) + buf(b"1") + i32(-1))
        e.recv("int int str")
        e.recv("stat")
        e.request(xid + 1, "create", create(base + "/k"))
        e.recv("int int str")
        e.recv("str")
        e.request(xid + 2, "delete", ustr(base + "/k") + i32(-1))
        e.recv("int int str")
        e.recv()
        e.request(xid + 3, "delete", ustr(base) + i32(-1))
        e.recv("int int str")
        e.recv()


@case
def watch_add_bad_mode(e):
    e.connect()
    for xid, mode in enumerate([2, -1, 99], 1):
        e.request(xid, "addWatch", ustr("/raw-wb") + i32(mode))
        e.recv()


@case
def watch_add_invalid_path(e):
    e.connect()
    for xid, path in enumerate(["", "raw", "/raw//x"], 1):
        e.request(xid, "addWatch", ustr(path) + i32(0))
        e.recv()


@case
def watch_remove_and_check(e):
    e.connect()
    node(e, "/raw-rm")
    xid = 0
    for kind in (1, 2, 3, 4, 5, 0, 9):
        for op in ("checkWatches", "removeWatches"):
            xid += 1
            e.request(xid, op, ustr("/raw-rm") + i32(kind))
            e.recv()
    e.request(50, "getData", ustr("/raw-rm") + boolean(True))
    e.recv("buf stat")
    e.request(51, "checkWatches", ustr("/raw-rm") + i32(2))
    e.recv()
    e.request(52, "checkWatches", ustr("/raw-rm") + i32(1))
    e.recv()
    e.request(53, "removeWatches", ustr("/raw-rm") + i32(2))
    e.recv()
    e.request(54, "setData", ustr("/raw-rm") + buf(b"") + i32(-1))
    e.recv("stat")


@case
def watch_removed_one_shot_does_not_fire(e):
    e.connect()
    node(e, "/raw-rmo")
    e.request(1, "getData", ustr("/raw-rmo") + boolean(True))
    e.recv("buf stat")
    e.request(2, "getChildren", ustr("/raw-rmo") + boolean(True))
    e.recv("names")
    e.request(3, "removeWatches", ustr("/raw-rmo") + i32(3))
    e.recv()
    e.request(4, "setData", ustr("/raw-rmo") + buf(b"1") + i32(-1))
    e.recv("stat")
    e.request(5, "create", create("/raw-rmo/k"))
    e.recv("str")


@case
def watch_removed_recursive_does_not_fire(e):
    e.connect()
    node(e, "/raw-rmr")
    e.request(1, "addWatch", ustr("/raw-rmr") + i32(1))
    e.recv()
    e.request(2, "removeWatches", ustr("/raw-rmr") + i32(5))
    e.recv()
    e.request(3, "create", create("/raw-rmr/k"))
    e.recv("str")
    e.request(4, "checkWatches", ustr("/raw-rmr") + i32(3))
    e.recv()


@case
def watch_removed_persistent(e):
    e.connect()
    node(e, "/raw-rmp")
    e.request(1, "addWatch", ustr("/raw-rmp") + i32(0))
    e.recv()
    e.request(2, "removeWatches", ustr("/raw-rmp") + i32(4))
    e.recv()
    e.request(3, "checkWatches", ustr("/raw-rmp") + i32(3))
    e.recv()
    e.request(4, "setData", ustr("/raw-rmp") + buf(b"1") + i32(-1))
    e.recv("stat")
    e.request(5, "create", create("/raw-rmp/k"))
    e.recv("str")
    e.silent()


def set_watches_setup(e):
    for xid, p in enumerate(["/raw-sw", "/raw-sw/set", "/raw-sw/kids", "/raw-sw/same"], 1):
        node(e, p, xid)
    e.request(10, "setData", ustr("/raw-sw/set") + buf(b"1") + i32(-1))
    e.recv("stat")
    node(e, "/raw-sw/kids/k", 11)


@case
def set_watches_replay(e):
    e.connect(1)
    set_watches_setup(e)
    # Seen so far: the session and four nodes, that is up to 0x1005.
    rel = e.absolute(0x1005)
    for shown, paths in (
            ("data", ([("/raw-sw/set")], [], [])), ("data missing", (["/raw-sw/gone"], [], [])),
            ("data unchanged", (["/raw-sw/same"], [], [])), ("exist present", ([], ["/raw-sw/same"], [])),
            ("exist missing", ([], ["/raw-sw/gone"], [])), ("child changed", ([], [], ["/raw-sw/kids"])),
            ("child missing", ([], [], ["/raw-sw/gone"])), ("child unchanged", ([], [], ["/raw-sw/same"]))):
        e.note(shown)
        body = b"".join(vec(p) for p in paths)
        e.send(zk.header(-8, "setWatches") + i64(rel) + body, zk.header(-8, "setWatches") + i64(0x1005) + body)
        if shown in ("data", "data missing", "exist present", "child changed", "child missing"):
            e.recv("int int str")
        e.recv()
    e.note("those re-armed now fire")
    e.request(20, "setData", ustr("/raw-sw/same") + buf(b"1") + i32(-1))
    e.recv("int int str")
    e.recv("stat")
    e.request(21, "create", create("/raw-sw/same/k"))
    e.recv("int int str")
    e.recv("str")
    e.request(22, "create", create("/raw-sw/gone"))
    e.recv("int int str")
    e.recv("str")


@case
def set_watches2_persistent(e):
    e.connect(1)
    node(e, "/raw-sw2", 1)
    body = vec([]) * 3 + vec(["/raw-sw2"]) + vec(["/raw-sw2r"])
    e.send(zk.header(-8, "setWatches2") + i64(0) + body)
    e.recv()
    e.request(2, "setData", ustr("/raw-sw2") + buf(b"1") + i32(-1))
    e.recv("int int str")
    e.recv("stat")
    e.request(3, "setData", ustr("/raw-sw2") + buf(b"2") + i32(-1))
    e.recv("int int str")
    e.recv("stat")
    e.request(4, "create", create("/raw-sw2r"))
    e.recv("int int str")
    e.recv("str")
    e.request(5, "create", create("/raw-sw2r/deep"))
    e.recv("int int str")
    e.recv("str")


@case
def set_watches_null_vectors(e):
    e.connect(1)
    e.send(zk.header(-8, "setWatches") + i64(0) + vec(None) * 3)
    e.recv()
    e.request(1, "exists", ustr("/raw-none") + boolean(False))
    e.recv()


@case
def set_watches_empty(e):
    e.connect(1)
    e.send(zk.header(-8, "setWatches") + i64(0) + vec([]) * 3)
    e.recv()
    e.send(zk.header(-8, "setWatches2") + i64(0) + vec([]) * 5)
    e.recv()
    e.send(zk.header(33, "setWatches2") + i64(0) + vec([]) * 5)
    e.recv()


# --- order ---

@case
def pipelined_mix(e):
    e.connect()
    data = b""
    for i in range(1, 41):
        data += zk.frame(zk.header(4 * i, "create") + create(f"/raw-pipe{i}"))
        data += zk.frame(zk.header(4 * i + 1, "getData") + ustr(f"/raw-pipe{i}") + boolean(False))
        data += zk.frame(zk.header(4 * i + 2, "setData") + ustr(f"/raw-pipe{i}") + buf(b"x") + i32(7))
        data += zk.frame(zk.header(4 * i + 3, "delete") + ustr(f"/raw-pipe{i}") + i32(0))
    e.raw(data)
    for _ in range(40):
        e.recv("str")
        e.recv("buf stat")
        e.recv("stat")
        e.recv()


@case
def failed_writes_take_zxids(e):
    e.connect()
    for xid in range(1, 6):
        e.request(xid, "create", create("/raw-none/x"))
        e.recv()
    e.request(9, "exists", ustr("/raw-none") + boolean(False))
    e.recv()
