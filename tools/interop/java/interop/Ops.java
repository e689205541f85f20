package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.proto.CreateRequest;
import org.apache.zookeeper.proto.CreateTTLRequest;
import org.apache.zookeeper.proto.ExistsRequest;
import org.apache.zookeeper.proto.SetDataRequest;

/** Single operations: modes of create, Stat fields, versions, limits, order, chroot. */
final class Ops {
    private final Harness.Server server;

    Ops(Harness.Server server) {
        this.server = server;
    }

    private Client open() throws Exception {
        return new Client(server.address());
    }

    void run() {
        test("create.persistent", this::createPersistent);
        test("create.with-stat", this::createWithStat);
        test("create.ephemeral", this::createEphemeral);
        test("create.sequential-counter", this::sequentialCounter);
        test("create.ephemeral-sequential", this::ephemeralSequential);
        test("create.sequential-empty-name", this::sequentialEmptyName);
        test("create.errors", this::createErrors);
        test("create.null-and-empty-data", this::nullAndEmptyData);
        test("create.container-goes-after-last-child", this::container);
        test("create.ttl-expires", this::ttlExpires);
        test("create.ttl-kept-by-child-and-by-set", this::ttlKept);
        test("create.ttl-sequential", this::ttlSequential);
        test("create.ttl-range", this::ttlRange);
        test("create.flags-on-the-wire", this::rawFlags);
        test("delete.errors-and-versions", this::deleteErrors);
        test("exists.missing-is-null", this::existsMissing);
        test("set.versions", this::setVersions);
        test("stat.all-fields-over-a-life", this::statLife);
        test("stat.parent-of-children", this::statParent);
        test("stat.zxid-counts-failed-writes", this::zxidCountsFailures);
        test("children.list-and-stat", this::children);
        test("children.ten-thousand", this::manyChildren);
        test("get-all-children-number", this::allChildrenNumber);
        test("get-ephemerals", this::getEphemerals);
        test("who-am-i", this::whoAmI);
        test("sync", this::sync);
        test("get-config.standalone", this::getConfig);
        test("reconfig.refused", this::reconfigRefused);
        test("limits.one-megabyte", this::oneMegabyte);
        test("async.pipelined-order-of-mixed-ops", this::pipeline);
        test("async.read-your-writes", this::readYourWrites);
        test("data.binary-and-unicode", this::binaryAndUnicode);
        test("chroot.paths-are-relative", this::chroot);
        test("chroot.missing-root", this::chrootMissing);
        test("delete-recursive.zkutil", this::deleteRecursive);
        test("system-nodes", this::systemNodes);
    }

    private void createPersistent() throws Exception {
        try (Client c = open()) {
            long before = System.currentTimeMillis();
            eq("/create-p", c.create("/create-p", "abc"), "returned path");
            Stat s = c.stat("/create-p");
            eq(0L, s.getEphemeralOwner(), "ephemeralOwner");
            eq(0, s.getVersion(), "version");
            eq(0, s.getCversion(), "cversion");
            eq(0, s.getAversion(), "aversion");
            eq(3, s.getDataLength(), "dataLength");
            eq(0, s.getNumChildren(), "numChildren");
            eq(s.getCzxid(), s.getMzxid(), "mzxid = czxid");
            eq(s.getCzxid(), s.getPzxid(), "pzxid = czxid");
            eq(s.getCtime(), s.getMtime(), "mtime = ctime");
            long after = System.currentTimeMillis();
            yes(s.getCtime() >= before && s.getCtime() <= after, "ctime is wall-clock ms during the call");
            eq(bytes("abc"), c.zk.getData("/create-p", false, null), "data");
        }
    }

    private void createWithStat() throws Exception {
        try (Client c = open()) {
            Stat s = new Stat();
            String path = c.zk.create("/create2-", bytes("xy"), ZooDefs.Ids.OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_SEQUENTIAL, s);
            yes(path.matches("/create2-\\d{10}"), "sequential path " + path);
            eq(c.stat(path), s, "Stat in the reply");
            Stat e = new Stat();
            c.zk.create("/create2-e", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL, e);
            eq(c.zk.getSessionId(), e.getEphemeralOwner(), "ephemeralOwner in the reply");
            eq(c.stat("/create2-e"), e, "Stat of an ephemeral in the reply");
        }
    }

    private void createEphemeral() throws Exception {
        try (Client c = open(); Client other = open()) {
            c.create("/create-e", "", CreateMode.EPHEMERAL);
            eq(c.zk.getSessionId(), other.stat("/create-e").getEphemeralOwner(), "owner");
            eq("NOCHILDRENFOREPHEMERALS", code(() -> other.create("/create-e/x")), "child of an ephemeral");
            c.close();
            eventually(false, () -> other.has("/create-e"), 10, "node after its session closed");
        }
    }

    private void sequentialCounter() throws Exception {
        try (Client c = open()) {
            c.create("/seq");
            eq("/seq/n-0000000000", c.create("/seq/n-", "", CreateMode.PERSISTENT_SEQUENTIAL), "first");
            eq("/seq/n-0000000001", c.create("/seq/n-", "", CreateMode.PERSISTENT_SEQUENTIAL), "second");
            c.create("/seq/plain");
            eq("/seq/m-0000000003", c.create("/seq/m-", "", CreateMode.PERSISTENT_SEQUENTIAL),
                "a plain sibling counts, the prefix does not matter");
            c.zk.delete("/seq/n-0000000001", -1);
            c.zk.delete("/seq/plain", -1);
            eq("/seq/n-0000000004", c.create("/seq/n-", "", CreateMode.PERSISTENT_SEQUENTIAL), "deletes do not count");
            eq("NODEEXISTS", code(() -> c.create("/seq/n-0000000000")), "plain create of an existing sequential name");
            eq("/seq/n-0000000005", c.create("/seq/n-", "", CreateMode.PERSISTENT_SEQUENTIAL), "failed creates do not count");
            c.create("/seq/n-0000000006");
            eq("/seq/n-0000000007", c.create("/seq/n-", "", CreateMode.PERSISTENT_SEQUENTIAL), "name taken by hand");
        }
    }

    private void ephemeralSequential() throws Exception {
        try (Client c = open()) {
            c.create("/eseq");
            for (int i = 0; i < 12; i++) {
                String p = c.create("/eseq/lock-", "", CreateMode.EPHEMERAL_SEQUENTIAL);
                eq(String.format("/eseq/lock-%010d", i), p, "path");
                eq(c.zk.getSessionId(), c.stat(p).getEphemeralOwner(), "owner");
            }
        }
    }

    private void sequentialEmptyName() throws Exception {
        try (Client c = open()) {
            c.create("/seqe");
            eq("/seqe/0000000000", c.create("/seqe/", "", CreateMode.PERSISTENT_SEQUENTIAL), "empty name");
            eq("/seqe/0000000001", c.create("/seqe/", "", CreateMode.EPHEMERAL_SEQUENTIAL), "empty name");
        }
    }

    private void createErrors() throws Exception {
        try (Client c = open()) {
            c.create("/create-err");
            eq("NODEEXISTS", code(() -> c.create("/create-err")), "again");
            eq("NONODE", code(() -> c.create("/create-err/a/b")), "no parent");
            eq("NODEEXISTS", code(() -> c.create("/")), "the root");
            eq("INVALIDACL", code(() -> c.zk.create("/create-err/x", new byte[0],
                Collections.emptyList(), CreateMode.PERSISTENT)), "empty ACL");
            eq(false, c.has("/create-err/x"), "nothing was made");
        }
    }

    private void nullAndEmptyData() throws Exception {
        try (Client c = open()) {
            c.zk.create("/null", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            c.zk.create("/empty", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            eq(null, c.zk.getData("/null", false, null), "null data");
            eq(new byte[0], c.zk.getData("/empty", false, null), "empty data");
            eq(0, c.stat("/null").getDataLength(), "dataLength of null");
            c.zk.setData("/null", new byte[0], -1);
            eq(new byte[0], c.zk.getData("/null", false, null), "null became empty");
            c.zk.setData("/null", null, -1);
            eq(null, c.zk.getData("/null", false, null), "set to null");
        }
    }

    private void container() throws Exception {
        try (Client c = open()) {
            eq("/cont", c.create("/cont", "c", CreateMode.CONTAINER), "path");
            eq(0L, c.stat("/cont").getEphemeralOwner(), "a container shows owner 0");
            c.create("/cont/a");
            c.create("/cont/b", "", CreateMode.CONTAINER);
            Thread.sleep(1000);
            yes(c.has("/cont/b"), "a container never used is kept (3.9)");
            c.zk.delete("/cont/a", -1);
            Thread.sleep(600);
            yes(c.has("/cont"), "still one child");
            c.zk.delete("/cont/b", -1);
            eventually(false, () -> c.has("/cont"), 20, "container after its last child");
        }
    }

    private String ttl(Client c, String path, CreateMode mode, long ttl) throws Exception {
        return c.zk.create(path, bytes("t"), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, new Stat(), ttl);
    }

    private void ttlExpires() throws Exception {
        try (Client c = open()) {
            ttl(c, "/ttl", CreateMode.PERSISTENT_WITH_TTL, 500);
            ttl(c, "/ttl-long", CreateMode.PERSISTENT_WITH_TTL, 3600_000);
            eq(0L, c.stat("/ttl").getEphemeralOwner(), "a TTL node shows owner 0");
            eventually(false, () -> c.has("/ttl"), 20, "TTL node past its time");
            yes(c.has("/ttl-long"), "a TTL node before its time");
        }
    }

    private void ttlKept() throws Exception {
        try (Client c = open()) {
            ttl(c, "/ttl-kept", CreateMode.PERSISTENT_WITH_TTL, 300);
            c.create("/ttl-kept/child");
            Thread.sleep(1500);
            yes(c.has("/ttl-kept"), "has a child");
            c.zk.delete("/ttl-kept/child", -1);
            eventually(false, () -> c.has("/ttl-kept"), 20, "TTL node without children");
            ttl(c, "/ttl-set", CreateMode.PERSISTENT_WITH_TTL, 3000);
            for (int i = 0; i < 10; i++) {
                Thread.sleep(500);
                c.zk.setData("/ttl-set", bytes("" + i), -1); // fails with NONODE if it went
            }
        }
    }

    private void ttlSequential() throws Exception {
        try (Client c = open()) {
            c.create("/ttls");
            eq("/ttls/t-0000000000", ttl(c, "/ttls/t-", CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, 60000), "path");
            eq("/ttls/t-0000000001", ttl(c, "/ttls/t-", CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, 1), "path");
            eventually(false, () -> c.has("/ttls/t-0000000001"), 20, "short TTL");
            yes(c.has("/ttls/t-0000000000"), "long TTL");
        }
    }

    private void ttlRange() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            long max = 1099511627775L;
            String[][] cases = {
                {"0", "BADARGUMENTS"}, {"-1", "BADARGUMENTS"}, {"" + (max + 1), "BADARGUMENTS"},
                {"" + max, "OK"}, {"1", "OK"},
            };
            for (String[] c : cases) {
                eq(c[1], w.code(ZooDefs.OpCode.createTTL, new CreateTTLRequest("/ttlr" + c[0], new byte[0],
                    ZooDefs.Ids.OPEN_ACL_UNSAFE, 5, Long.parseLong(c[0]))), "ttl " + c[0]);
            }
            eq("BADARGUMENTS", w.code(ZooDefs.OpCode.createTTL, new CreateTTLRequest("/ttlr-flag9", new byte[0],
                ZooDefs.Ids.OPEN_ACL_UNSAFE, 9, 1000)), "createTTL with flag 9");
        }
    }

    private void rawFlags() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            for (int flag : new int[] {-1, 7, 8, 100, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
                eq("BADARGUMENTS", w.code(ZooDefs.OpCode.create, new CreateRequest("/flag", new byte[0],
                    ZooDefs.Ids.OPEN_ACL_UNSAFE, flag)), "create with flag " + flag);
            }
            eq(false, c.has("/flag"), "nothing was made");
            // The opcode decides the type of the znode, not the flag.
            eq("OK", w.code(ZooDefs.OpCode.create, new CreateRequest("/flag4", new byte[0],
                ZooDefs.Ids.OPEN_ACL_UNSAFE, 4)), "create with the container flag");
            c.create("/flag4/x");
            c.zk.delete("/flag4/x", -1);
            Thread.sleep(1000);
            yes(c.has("/flag4"), "opcode 1 with flag 4 makes a plain node");
        }
    }

    private void deleteErrors() throws Exception {
        try (Client c = open()) {
            c.create("/del");
            c.create("/del/a");
            eq("NOTEMPTY", code(Client.call(() -> c.zk.delete("/del", -1))), "with children");
            eq("NONODE", code(Client.call(() -> c.zk.delete("/del/none", -1))), "missing");
            eq("BADVERSION", code(Client.call(() -> c.zk.delete("/del/a", 1))), "wrong version");
            eq("BADARGUMENTS", code(Client.call(() -> c.zk.delete("/", -1))), "the root");
            eq("BADARGUMENTS", code(Client.call(() -> c.zk.delete("/zookeeper", -1))), "/zookeeper");
            eq("BADARGUMENTS", code(Client.call(() -> c.zk.delete("/zookeeper/quota", -1))), "/zookeeper/quota");
            eq("BADARGUMENTS", code(Client.call(() -> c.zk.delete("/zookeeper/config", -1))), "/zookeeper/config");
            c.zk.setData("/del/a", bytes("1"), 0);
            eq("BADVERSION", code(Client.call(() -> c.zk.delete("/del/a", 0))), "old version");
            c.zk.delete("/del/a", 1);
            c.zk.delete("/del", 0);
            eq(false, c.has("/del"), "deleted");
        }
    }

    private void existsMissing() throws Exception {
        try (Client c = open()) {
            eq(null, c.zk.exists("/not/there/at/all", false), "exists");
            eq("NONODE", code(() -> c.zk.getData("/not/there", false, null)), "getData");
            eq("NONODE", code(() -> c.zk.getChildren("/not/there", false)), "getChildren");
            eq("NONODE", code(() -> c.zk.getACL("/not/there", new Stat())), "getACL");
            eq("NONODE", code(() -> c.zk.setData("/not/there", null, -1)), "setData");
            eq("NONODE", code(() -> c.zk.setACL("/not/there", ZooDefs.Ids.OPEN_ACL_UNSAFE, -1)), "setACL");
            eq("NONODE", code(() -> c.zk.getAllChildrenNumber("/not/there")), "getAllChildrenNumber");
        }
    }

    private void setVersions() throws Exception {
        try (Client c = open()) {
            c.create("/set", "0");
            for (int v = 0; v < 5; v++) {
                eq("BADVERSION", code(() -> c.zk.setData("/set", null, 99)), "future version");
                Stat s = c.zk.setData("/set", bytes("v" + v), v);
                eq(v + 1, s.getVersion(), "version after set");
                eq(c.stat("/set"), s, "Stat in the reply");
            }
            eq("BADVERSION", code(() -> c.zk.setData("/set", null, 4)), "past version");
            eq("BADVERSION", code(() -> c.zk.setData("/set", null, -2)), "version -2");
            eq(6, c.zk.setData("/set", null, -1).getVersion(), "version -1 skips the check");
        }
    }

    private void statLife() throws Exception {
        try (Client c = open()) {
            c.create("/life", "a");
            Stat s0 = c.stat("/life");
            Thread.sleep(5);
            Stat s1 = c.zk.setData("/life", bytes("longer"), 0);
            eq(s0.getCzxid(), s1.getCzxid(), "czxid");
            yes(s1.getMzxid() > s0.getMzxid(), "mzxid grows with set");
            eq(s0.getCtime(), s1.getCtime(), "ctime");
            yes(s1.getMtime() > s0.getMtime(), "mtime grows with set");
            eq(6, s1.getDataLength(), "dataLength");
            eq(s0.getPzxid(), s1.getPzxid(), "pzxid is not moved by set");
            Stat s2 = c.zk.setACL("/life", ZooDefs.Ids.OPEN_ACL_UNSAFE, 0);
            eq(1, s2.getAversion(), "aversion");
            eq(s1.getMzxid(), s2.getMzxid(), "mzxid is not moved by setACL");
            eq(s1.getMtime(), s2.getMtime(), "mtime is not moved by setACL");
            eq(s1.getVersion(), s2.getVersion(), "version is not moved by setACL");
            eq("BADVERSION", code(() -> c.zk.setACL("/life", ZooDefs.Ids.OPEN_ACL_UNSAFE, 0)), "old aversion");
            eq(2, c.zk.setACL("/life", ZooDefs.Ids.OPEN_ACL_UNSAFE, -1).getAversion(), "aversion -1 skips the check");
            Stat same = c.zk.setData("/life", bytes("longer"), -1);
            eq(2, same.getVersion(), "identical data still makes a version");
            yes(same.getMzxid() > s1.getMzxid(), "and a zxid");
            c.zk.delete("/life", -1);
            c.create("/life", "b");
            Stat s3 = c.stat("/life");
            yes(s3.getCzxid() > same.getMzxid(), "a new life has a new czxid");
            eq(0, s3.getVersion(), "and version 0");
            eq(0, s3.getAversion(), "and aversion 0");
        }
    }

    private void statParent() throws Exception {
        try (Client c = open()) {
            c.create("/par");
            Stat p0 = c.stat("/par");
            c.create("/par/a");
            Stat a = c.stat("/par/a");
            Stat p1 = c.stat("/par");
            eq(1, p1.getCversion(), "cversion after a create");
            eq(1, p1.getNumChildren(), "numChildren");
            eq(a.getCzxid(), p1.getPzxid(), "pzxid = czxid of the child");
            eq(p0.getMzxid(), p1.getMzxid(), "mzxid of the parent");
            eq(p0.getMtime(), p1.getMtime(), "mtime of the parent");
            eq(0, p1.getVersion(), "version of the parent");
            c.create("/par/b");
            c.create("/par/a/deep");
            Stat p2 = c.stat("/par");
            eq(2, p2.getCversion(), "grandchildren do not count");
            eq(c.stat("/par/b").getCzxid(), p2.getPzxid(), "pzxid");
            c.zk.setData("/par/b", bytes("x"), -1);
            eq(p2, c.stat("/par"), "a child's set leaves the parent's Stat");
            c.zk.delete("/par/b", -1);
            Stat p3 = c.stat("/par");
            eq(3, p3.getCversion(), "cversion counts deletes");
            eq(1, p3.getNumChildren(), "numChildren");
            yes(p3.getPzxid() > p2.getPzxid(), "pzxid moves with a delete");
            eq(4, c.zk.setData("/par", bytes("1234"), -1).getDataLength(), "dataLength");
        }
    }

    private void zxidCountsFailures() throws Exception {
        // Containers and sessions of other tests take zxids too,
        // so compare the smallest step seen over several rounds.
        try (Client c = open()) {
            c.create("/zx");
            long ok = Long.MAX_VALUE;
            long withFailure = Long.MAX_VALUE;
            for (int i = 0; i < 10; i++) {
                long a = c.zk.setData("/zx", null, -1).getMzxid();
                long b = c.zk.setData("/zx", null, -1).getMzxid();
                eq("BADVERSION", code(() -> c.zk.setData("/zx", null, 12345)), "wrong version");
                long d = c.zk.setData("/zx", null, -1).getMzxid();
                ok = Math.min(ok, b - a);
                withFailure = Math.min(withFailure, d - b);
            }
            eq(1L, ok, "zxid step of a write");
            eq(2L, withFailure, "zxid step over a failed write");
        }
    }

    private void children() throws Exception {
        try (Client c = open()) {
            c.create("/kids");
            eq(List.of(), c.zk.getChildren("/kids", false), "none");
            for (String n : List.of("b", "a", "c")) {
                c.create("/kids/" + n);
                c.create("/kids/" + n + "/inner");
            }
            Stat s = new Stat();
            eq(new TreeSet<>(List.of("a", "b", "c")), new TreeSet<>(c.zk.getChildren("/kids", false, s)), "names");
            eq(c.stat("/kids"), s, "Stat of getChildren2");
            eq(new TreeSet<>(List.of("a", "b", "c")), new TreeSet<>(c.zk.getChildren("/kids", false)), "getChildren");
        }
    }

    private void manyChildren() throws Exception {
        try (Client c = open()) {
            c.create("/many");
            int n = 10000;
            CountDownLatch left = new CountDownLatch(n);
            List<Integer> bad = Collections.synchronizedList(new ArrayList<>());
            for (int i = 0; i < n; i++) {
                c.zk.create(String.format("/many/child-%06d", i), null, ZooDefs.Ids.OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT, (rc, path, ctx, name) -> {
                        if (rc != 0) {
                            bad.add(rc);
                        }
                        left.countDown();
                    }, null);
            }
            yes(left.await(60, TimeUnit.SECONDS), "10000 creates answered");
            eq(List.of(), bad, "failures");
            List<String> names = c.zk.getChildren("/many", false);
            Collections.sort(names);
            eq(n, names.size(), "children");
            eq("child-000000", names.get(0), "first");
            eq("child-009999", names.get(n - 1), "last");
            eq(n, c.zk.getAllChildrenNumber("/many"), "getAllChildrenNumber");
            eq(n, c.stat("/many").getNumChildren(), "numChildren");
            ZKUtil.deleteRecursive(c.zk, "/many", 500);
            eq(false, c.has("/many"), "gone");
        }
    }

    private void allChildrenNumber() throws Exception {
        try (Client c = open()) {
            c.create("/acn");
            eq(0, c.zk.getAllChildrenNumber("/acn"), "none");
            for (String p : List.of("/acn/a", "/acn/b", "/acn/a/1", "/acn/a/2", "/acn/a/2/x", "/acn-sibling")) {
                c.create(p);
            }
            eq(5, c.zk.getAllChildrenNumber("/acn"), "descendants, not the sibling with the same prefix");
            eq(3, c.zk.getAllChildrenNumber("/acn/a"), "descendants");
            // Ephemerals of other sessions may be created and deleted between the two reads.
            eventually(0, () -> ZKUtil.listSubTreeBFS(c.zk, "/").size() - 1 - c.zk.getAllChildrenNumber("/"), 10,
                "difference between the walk and the number for the root");
        }
    }

    private void getEphemerals() throws Exception {
        try (Client c = open(); Client other = open()) {
            c.create("/ge");
            for (String p : List.of("/ge/a1", "/ge/a2", "/ge/b1", "/ge-x")) {
                c.create(p, "", CreateMode.EPHEMERAL);
            }
            c.create("/ge/persistent");
            other.create("/ge/other", "", CreateMode.EPHEMERAL);
            eq(new TreeSet<>(List.of("/ge/a1", "/ge/a2", "/ge/b1", "/ge-x")),
                new TreeSet<>(c.zk.getEphemerals()), "all of this session");
            eq(new TreeSet<>(List.of("/ge/a1", "/ge/a2")), new TreeSet<>(c.zk.getEphemerals("/ge/a")), "a plain prefix");
            eq(new TreeSet<>(List.of("/ge/a1", "/ge/a2", "/ge/b1", "/ge-x")),
                new TreeSet<>(c.zk.getEphemerals("/ge")), "prefix crosses names");
            eq(List.of(), c.zk.getEphemerals("/none"), "no match");
            eq(List.of("/ge/other"), other.zk.getEphemerals("/"), "the other session");
        }
    }

    private void whoAmI() throws Exception {
        try (Client c = open()) {
            eq("[ip:127.0.0.1]", who(c), "before auth");
            c.zk.addAuthInfo("digest", bytes("alice:secret"));
            c.zk.addAuthInfo("digest", bytes("bob:hush"));
            eventually("[digest:alice, digest:bob, ip:127.0.0.1]", () -> who(c), 10, "after auth");
            c.zk.addAuthInfo("digest", bytes("super:interop"));
            eventually("[digest:alice, digest:bob, digest:super, ip:127.0.0.1, super:]", () -> who(c), 10, "after super");
        }
    }

    private static String who(Client c) throws Exception {
        List<String> ids = new ArrayList<>();
        c.zk.whoAmI().forEach(i -> ids.add(i.getAuthScheme() + ":" + i.getUser()));
        Collections.sort(ids);
        return ids.toString();
    }

    private void sync() throws Exception {
        try (Client c = open()) {
            for (String p : List.of("/", "/not-there")) {
                CountDownLatch done = new CountDownLatch(1);
                String[] got = new String[1];
                c.zk.sync(p, (rc, path, ctx) -> {
                    got[0] = rc + " " + path;
                    done.countDown();
                }, null);
                yes(done.await(20, TimeUnit.SECONDS), "an answer to sync");
                eq("0 " + p, got[0], "answer to sync");
            }
        }
    }

    private void getConfig() throws Exception {
        try (Client c = open()) {
            Stat s = new Stat();
            byte[] data = c.zk.getConfig(false, s);
            eq("", data == null ? "null" : new String(data), "config of a standalone server");
            eq(0, s.getNumChildren(), "numChildren");
            eq("[31,s{'world,'anyone}\n]".replace("31", "1"), c.zk.getACL("/zookeeper/config", new Stat()).toString(), "ACL");
        }
    }

    private void reconfigRefused() throws Exception {
        try (Client c = open(); ZooKeeperAdmin admin = new ZooKeeperAdmin(server.address(), Client.TIMEOUT_MS, e -> { })) {
            eventually("CONNECTED", () -> admin.getState().name(), 20, "admin client");
            String joining = "server.2=127.0.0.1:21990:21991:participant;21992";
            eq("RECONFIGDISABLED", code(() -> admin.reconfigure(joining, null, null, -1, new Stat())), "reconfig");
            admin.addAuthInfo("digest", bytes("super:interop"));
            eq("RECONFIGDISABLED", code(() -> admin.reconfigure(joining, null, null, -1, new Stat())), "reconfig as super");
            c.create("/after-reconfig"); // still serving
        }
    }

    /** Bytes of a setData frame without its data: header 8, path length 4, data length 4, version 4. */
    private static final int SET_OVERHEAD = 20;

    private void oneMegabyte() throws Exception {
        try (Client c = open()) {
            c.create("/big");
            int most = 1048575 - SET_OVERHEAD - "/big".length();
            eq(1, c.zk.setData("/big", new byte[most], -1).getVersion(), "a request of exactly jute.maxbuffer");
            eq(most, c.stat("/big").getDataLength(), "dataLength");
            try (Wire w = Wire.open(server.port, 30000)) {
                w.send(1, ZooDefs.OpCode.setData, new SetDataRequest("/big", new byte[most + 1], -1));
                eq(null, w.read(), "answer to one byte more");
            }
            eq("CONNECTIONLOSS", code(() -> c.zk.setData("/big", new byte[most + 1], -1)), "one byte more");
            long id = c.zk.getSessionId();
            eventually(1, () -> {
                try {
                    return c.stat("/big").getVersion();
                } catch (KeeperException.ConnectionLossException e) {
                    return "reconnecting";
                }
            }, 30, "version (the oversized write did nothing)");
            eq(id, c.zk.getSessionId(), "the session survives its connection");
        }
    }

    private void pipeline() throws Exception {
        try (Client c = open()) {
            c.create("/pipe");
            int rounds = 700;
            List<String> got = Collections.synchronizedList(new ArrayList<>());
            List<String> want = new ArrayList<>();
            CountDownLatch last = new CountDownLatch(1);
            for (int i = 0; i < rounds; i++) {
                String p = "/pipe/n" + i;
                byte[] v = bytes("v" + i);
                c.zk.create(p, v, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                    (rc, path, ctx, name) -> got.add("create " + rc + " " + name), null);
                want.add("create 0 " + p);
                c.zk.getData(p, false, (rc, path, ctx, data, stat) ->
                    got.add("get " + rc + " " + new String(data) + " v" + stat.getVersion()), null);
                want.add("get 0 v" + i + " v0");
                c.zk.setData(p, bytes("w" + i), 0, (rc, path, ctx, stat) ->
                    got.add("set " + rc + " v" + (stat == null ? "-" : stat.getVersion())), null);
                want.add("set 0 v1");
                c.zk.setData(p, bytes("z"), 0, (rc, path, ctx, stat) -> got.add("set " + rc), null);
                want.add("set " + KeeperException.Code.BADVERSION.intValue());
                c.zk.getData(p, false, (rc, path, ctx, data, stat) ->
                    got.add("get " + rc + " " + new String(data) + " v" + stat.getVersion()), null);
                want.add("get 0 w" + i + " v1");
                c.zk.exists("/pipe", false, (rc, path, ctx, stat) ->
                    got.add("kids " + rc + " " + stat.getNumChildren()), null);
                want.add("kids 0 " + (i % 2 == 0 ? i / 2 + 1 : (i - 1) / 2 + 2));
                c.zk.sync("/pipe", (rc, path, ctx) -> got.add("sync " + rc), null);
                want.add("sync 0");
                int round = i;
                c.zk.multi(List.of(Op.check(p, 1), Op.setData(p, bytes("m"), 1)), (rc, path, ctx, results) ->
                    got.add("multi " + rc + " " + (results == null ? "-" : results.size())), null);
                want.add("multi 0 2");
                if (i % 2 == 1) {
                    c.zk.delete(p, 2, (rc, path, ctx) -> got.add("delete " + rc + " " + round), null);
                    want.add("delete 0 " + i);
                    c.zk.exists(p, false, (rc, path, ctx, stat) -> got.add("exists " + rc), null);
                    want.add("exists " + KeeperException.Code.NONODE.intValue());
                }
            }
            c.zk.exists("/", false, (rc, path, ctx, stat) -> last.countDown(), null);
            yes(last.await(80, TimeUnit.SECONDS), "all answered");
            eq(want.size(), got.size(), "answers");
            for (int i = 0; i < want.size(); i++) {
                eq(want.get(i), got.get(i), "answer " + i);
            }
        }
    }

    private void readYourWrites() throws Exception {
        try (Client writer = open(); Client reader = open()) {
            writer.create("/ryw", "0");
            for (int i = 1; i <= 300; i++) {
                writer.zk.setData("/ryw", bytes("" + i), -1);
                eq("" + i, new String(writer.zk.getData("/ryw", false, null)), "own read");
                // On a standalone server an acknowledged write is visible to every client.
                eq("" + i, new String(reader.zk.getData("/ryw", false, null)), "other's read");
            }
        }
    }

    private void binaryAndUnicode() throws Exception {
        try (Client c = open()) {
            byte[] all = new byte[4096];
            for (int i = 0; i < all.length; i++) {
                all[i] = (byte) i;
            }
            String p = "/ünï-ço∂é-日本-\u05d0 with space";
            eq(p, c.zk.create(p, all, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "path");
            eq(all, c.zk.getData(p, false, null), "data");
            yes(c.zk.getChildren("/", false).contains(p.substring(1)), "listed");
            eq(p + "/é0000000000", c.create(p + "/é", "", CreateMode.PERSISTENT_SEQUENTIAL), "sequential child");
            StringBuilder deep = new StringBuilder("/deep");
            c.create("/deep");
            for (int i = 0; i < 60; i++) {
                deep.append("/d").append(i);
                c.create(deep.toString());
            }
            eq(60, c.zk.getAllChildrenNumber("/deep"), "depth");
        }
    }

    private void chroot() throws Exception {
        try (Client root = open()) {
            root.create("/jail");
            try (Client c = new Client(server.address() + "/jail")) {
                eq("/a", c.create("/a", "x"), "create");
                eq("/s-0000000001", c.create("/s-", "", CreateMode.PERSISTENT_SEQUENTIAL), "sequential create");
                yes(root.has("/jail/a"), "the real path");
                eq(new TreeSet<>(List.of("a", "s-0000000001")), new TreeSet<>(c.zk.getChildren("/", false)), "children of /");
                Client.Log log = new Client.Log();
                c.zk.getData("/a", log, null);
                c.zk.exists("/new", log);
                c.zk.addWatch("/tree", log, AddWatchMode.PERSISTENT_RECURSIVE);
                root.zk.setData("/jail/a", bytes("y"), -1);
                root.create("/jail/new");
                root.create("/jail/tree");
                root.create("/jail/tree/leaf");
                c.expect(log, "NodeDataChanged /a", "NodeCreated /new", "NodeCreated /tree", "NodeCreated /tree/leaf");
                eq("NodeExists /a", nodeExists(c), "path in an exception");
                eq(2, c.zk.multi(List.of(Op.check("/a", 1), Op.create("/m", null, ZooDefs.Ids.OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT))).size(), "multi");
                yes(root.has("/jail/m"), "multi's real path");
                c.create("/eph", "", CreateMode.EPHEMERAL);
                // The client adds its chroot to the prefix, but does not remove it from the paths in the reply of getEphemerals.
                eq(List.of("/jail/eph"), c.zk.getEphemerals("/"), "getEphemerals");
                eq("", new String(c.zk.getConfig(false, null)), "getConfig ignores the chroot");
            }
        }
    }

    private static String nodeExists(Client c) throws Exception {
        try {
            c.create("/a");
            return "no exception";
        } catch (KeeperException.NodeExistsException e) {
            return "NodeExists " + e.getPath();
        }
    }

    private void chrootMissing() throws Exception {
        try (Client c = new Client(server.address() + "/no/such/root")) {
            eq("NONODE", code(() -> c.create("/a")), "create");
            eq("NONODE", code(() -> c.zk.getChildren("/", false)), "getChildren");
            eq(null, c.zk.exists("/", false), "exists");
        }
    }

    private void deleteRecursive() throws Exception {
        try (Client c = open()) {
            c.create("/dr");
            for (int i = 0; i < 20; i++) {
                c.create("/dr/" + i);
                c.create("/dr/" + i + "/x");
            }
            eq(true, ZKUtil.deleteRecursive(c.zk, "/dr", 7), "deleteRecursive");
            eq(false, c.has("/dr"), "gone");
        }
    }

    private void systemNodes() throws Exception {
        try (Client c = open()) {
            eq(new TreeSet<>(List.of("config", "quota")), new TreeSet<>(c.zk.getChildren("/zookeeper", false)), "/zookeeper");
            Stat z = c.stat("/zookeeper");
            eq("0 0 0 0 0 2 0", z.getCzxid() + " " + z.getMzxid() + " " + z.getCtime() + " " + z.getMtime() + " "
                + z.getVersion() + " " + z.getNumChildren() + " " + z.getAversion(), "Stat of /zookeeper");
            eq("NOAUTH", code(() -> c.zk.setData("/zookeeper/config", bytes("x"), -1)), "write to the config node");
            try (Wire w = Wire.open(server.port, 30000)) {
                eq("OK", w.code(ZooDefs.OpCode.exists, new ExistsRequest("", false)), "exists of the empty path is the root");
            }
        }
    }
}
