package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.data.Stat;

/** multi and multiRead: a result for each operation, all or nothing, later operations see earlier ones. */
final class Multi {
    private final Harness.Server server;

    Multi(Harness.Server server) {
        this.server = server;
    }

    private Client open() throws Exception {
        return new Client(server.address());
    }

    private static Op create(String path, String data, CreateMode mode) {
        return Op.create(path, bytes(data), Ids.OPEN_ACL_UNSAFE, mode);
    }

    private static Op create(String path) {
        return create(path, "", CreateMode.PERSISTENT);
    }

    /** Results in short: "create /p", "set v1", "delete", "check", "error NONODE". */
    private static List<String> show(List<OpResult> results) {
        List<String> out = new ArrayList<>();
        for (OpResult r : results) {
            if (r instanceof OpResult.ErrorResult) {
                out.add("error " + KeeperException.Code.get(((OpResult.ErrorResult) r).getErr()));
            } else if (r instanceof OpResult.CreateResult) {
                Stat stat = ((OpResult.CreateResult) r).getStat();
                out.add("create " + ((OpResult.CreateResult) r).getPath() + (stat == null ? "" : " +stat"));
            } else if (r instanceof OpResult.SetDataResult) {
                out.add("set v" + ((OpResult.SetDataResult) r).getStat().getVersion());
            } else if (r instanceof OpResult.DeleteResult) {
                out.add("delete");
            } else if (r instanceof OpResult.CheckResult) {
                out.add("check");
            } else if (r instanceof OpResult.GetDataResult) {
                out.add("data " + new String(((OpResult.GetDataResult) r).getData()) + " v"
                    + ((OpResult.GetDataResult) r).getStat().getVersion());
            } else if (r instanceof OpResult.GetChildrenResult) {
                out.add("children " + new TreeSet<>(((OpResult.GetChildrenResult) r).getChildren()));
            } else {
                out.add(r.getClass().getSimpleName());
            }
        }
        return out;
    }

    /** The per-operation results of a multi that must fail. */
    private static List<String> failure(Client c, List<Op> ops) throws Exception {
        try {
            return List.of("succeeded", show(c.zk.multi(ops)).toString());
        } catch (KeeperException e) {
            return show(e.getResults());
        }
    }

    void run() {
        test("multi.every-kind-of-op", this::everyKind);
        test("multi.container-ttl-and-modes", this::modes);
        test("multi.failure-codes", this::failureCodes);
        test("multi.fails-for-each-reason", this::reasons);
        test("multi.check-guards", this::check);
        test("multi.sees-its-own-effects", this::ownEffects);
        test("multi.one-zxid", this::oneZxid);
        test("multi.failure-leaves-no-trace", this::noTrace);
        test("multi.sequential-and-ephemeral", this::sequential);
        test("multi.transaction-builder", this::transaction);
        test("multi.async", this::async);
        test("multi.empty", this::empty);
        test("multi.watch-events-in-order", this::events);
        test("multi.large", this::large);
        test("multi.pipelined-with-single-ops", this::pipelined);
        test("multi-read.results-are-independent", this::read);
        test("multi-read.does-not-arm-watches", this::readNoWatch);
    }

    private void everyKind() throws Exception {
        try (Client c = open()) {
            c.create("/m-all", "0");
            c.create("/m-all/old");
            eq(List.of("create /m-all/new", "set v1", "delete", "check", "set v2"), show(c.zk.multi(List.of(
                create("/m-all/new"), Op.setData("/m-all", bytes("1"), 0), Op.delete("/m-all/old", 0),
                Op.check("/m-all/new", 0), Op.setData("/m-all", bytes("2"), 1)))), "results");
            eq("2", new String(c.zk.getData("/m-all", false, null)), "data");
            eq(List.of("new"), c.zk.getChildren("/m-all", false), "children");
        }
    }

    private void modes() throws Exception {
        try (Client c = open()) {
            c.create("/m-modes");
            eq(List.of("create /m-modes/c +stat", "create /m-modes/t +stat", "create /m-modes/s0000000002 +stat"),
                show(c.zk.multi(List.of(create("/m-modes/c", "", CreateMode.CONTAINER),
                    Op.create("/m-modes/t", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 600),
                    Op.create("/m-modes/s", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, 600000)))),
                "results");
            c.create("/m-modes/c/x");
            c.zk.delete("/m-modes/c/x", -1);
            eventually(List.of("s0000000002"), () -> c.zk.getChildren("/m-modes", false), 20,
                "the container and the short TTL node go");
        }
    }

    private void failureCodes() throws Exception {
        try (Client c = open()) {
            c.create("/m-fail");
            eq(List.of("error OK", "error OK", "error NONODE", "error RUNTIMEINCONSISTENCY", "error RUNTIMEINCONSISTENCY"),
                failure(c, List.of(create("/m-fail/a"), Op.setData("/m-fail", null, -1), Op.delete("/m-fail/none", -1),
                    create("/m-fail/b"), Op.check("/m-fail", 77))), "results");
            eq(0, c.stat("/m-fail").getNumChildren(), "children");
            eq(0, c.stat("/m-fail").getVersion(), "version");
        }
    }

    private void reasons() throws Exception {
        try (Client c = open()) {
            c.create("/m-why");
            c.create("/m-why/kid");
            c.create("/m-why/eph", "", CreateMode.EPHEMERAL);
            Object[][] cases = {
                {create("/m-why/kid"), "NODEEXISTS"}, {create("/m-why/no/parent"), "NONODE"},
                {create("/m-why/eph/x"), "NOCHILDRENFOREPHEMERALS"}, {Op.delete("/m-why", -1), "NOTEMPTY"},
                {Op.delete("/m-why/kid", 3), "BADVERSION"}, {Op.setData("/m-why/kid", null, 3), "BADVERSION"},
                {Op.setData("/m-why/none", null, -1), "NONODE"}, {Op.check("/m-why/none", -1), "NONODE"},
                {Op.check("/m-why/kid", 9), "BADVERSION"},
                {Op.create("/m-why/acl", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT), "INVALIDACL"},
            };
            for (Object[] k : cases) {
                eq(List.of("error OK", "error " + k[1], "error RUNTIMEINCONSISTENCY"),
                    failure(c, List.of(create("/m-why/first"), (Op) k[0], create("/m-why/last"))), "op failing with " + k[1]);
            }
            eq(2, c.stat("/m-why").getNumChildren(), "children");
        }
    }

    private void check() throws Exception {
        try (Client c = open()) {
            c.create("/m-chk");
            eq("BADVERSION", code(() -> c.zk.multi(List.of(Op.check("/m-chk", 1), create("/m-chk/a")))), "check fails");
            eq("OK", code(() -> c.zk.multi(List.of(Op.check("/m-chk", 0), create("/m-chk/a")))), "check holds");
            eq("OK", code(() -> c.zk.multi(List.of(Op.check("/m-chk", -1)))), "version -1");
            eq(0, c.stat("/m-chk").getVersion(), "check makes no version");
        }
    }

    private void ownEffects() throws Exception {
        try (Client c = open()) {
            eq(List.of("create /m-own", "create /m-own/a", "set v1", "check", "delete", "delete", "create /m-own", "check"),
                show(c.zk.multi(List.of(create("/m-own"), create("/m-own/a"), Op.setData("/m-own/a", null, 0),
                    Op.check("/m-own/a", 1), Op.delete("/m-own/a", 1), Op.delete("/m-own", 0), create("/m-own"),
                    Op.check("/m-own", 0)))), "results");
            eq(0, c.stat("/m-own").getCversion(), "cversion of the second life");
            eq(List.of("error OK", "error NODEEXISTS"), failure(c, List.of(create("/m-own/x"), create("/m-own/x"))), "twice");
            eq(List.of("error OK", "error NOTEMPTY"), failure(c, List.of(create("/m-own/x"), Op.delete("/m-own", -1))),
                "delete of a node that got a child");
        }
    }

    private void oneZxid() throws Exception {
        try (Client c = open()) {
            c.zk.multi(List.of(create("/m-zx"), create("/m-zx/a"), create("/m-zx/b"), Op.setData("/m-zx", bytes("d"), 0)));
            Stat parent = c.stat("/m-zx");
            long zxid = parent.getCzxid();
            eq(zxid, c.stat("/m-zx/a").getCzxid(), "czxid of a");
            eq(zxid, c.stat("/m-zx/b").getCzxid(), "czxid of b");
            eq(zxid, parent.getMzxid(), "mzxid");
            eq(zxid, parent.getPzxid(), "pzxid");
            eq(2, parent.getCversion(), "cversion");
            eq(parent.getCtime(), c.stat("/m-zx/b").getCtime(), "one time");
        }
    }

    private void noTrace() throws Exception {
        try (Client c = open()) {
            c.create("/m-nt");
            Stat before = c.stat("/m-nt");
            eq(List.of("error OK", "error OK", "error OK", "error BADVERSION"), failure(c, List.of(
                create("/m-nt/s-", "", CreateMode.PERSISTENT_SEQUENTIAL), create("/m-nt/e", "", CreateMode.EPHEMERAL),
                Op.setData("/m-nt", bytes("x"), -1), Op.check("/m-nt", 0))), "results");
            eq(before, c.stat("/m-nt"), "Stat after a failed multi");
            eq(List.of(), c.zk.getEphemerals("/m-nt"), "ephemerals");
            eq("/m-nt/s-0000000000", c.create("/m-nt/s-", "", CreateMode.PERSISTENT_SEQUENTIAL), "counter was rolled back");
        }
    }

    private void sequential() throws Exception {
        try (Client c = open()) {
            c.create("/m-seq");
            eq(List.of("create /m-seq/n0000000000", "create /m-seq/n0000000001", "create /m-seq/n0000000002"),
                show(c.zk.multi(List.of(create("/m-seq/n", "", CreateMode.PERSISTENT_SEQUENTIAL),
                    create("/m-seq/n", "", CreateMode.EPHEMERAL_SEQUENTIAL),
                    create("/m-seq/n", "", CreateMode.PERSISTENT_SEQUENTIAL)))), "results");
            eq(c.zk.getSessionId(), c.stat("/m-seq/n0000000001").getEphemeralOwner(), "owner");
        }
    }

    private void transaction() throws Exception {
        try (Client c = open()) {
            eq(List.of("create /m-tx", "set v1", "check", "delete"), show(c.zk.transaction()
                .create("/m-tx", bytes("1"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                .setData("/m-tx", bytes("2"), 0).check("/m-tx", 1).delete("/m-tx", 1).commit()), "results");
            eq(false, c.has("/m-tx"), "deleted again");
        }
    }

    private void async() throws Exception {
        try (Client c = open()) {
            CountDownLatch done = new CountDownLatch(2);
            List<String> got = new ArrayList<>();
            c.zk.multi(List.of(create("/m-as"), Op.setData("/m-as", bytes("1"), 0)), (rc, path, ctx, results) -> {
                got.add(rc + " " + show(results));
                done.countDown();
            }, null);
            c.zk.multi(List.of(create("/m-as/x"), create("/m-as")), (rc, path, ctx, results) -> {
                got.add(rc + " " + show(results));
                done.countDown();
            }, null);
            yes(done.await(20, TimeUnit.SECONDS), "both answered");
            eq("0 [create /m-as, set v1]", got.get(0), "first");
            eq(KeeperException.Code.NODEEXISTS.intValue() + " [error OK, error NODEEXISTS]", got.get(1), "second");
        }
    }

    private void empty() throws Exception {
        try (Client c = open()) {
            eq(List.of(), c.zk.multi(List.of()), "no ops");
        }
    }

    private void events() throws Exception {
        try (Client c = open(); Client writer = open()) {
            c.create("/m-ev");
            c.create("/m-ev/gone");
            Client.Log log = new Client.Log();
            c.zk.addWatch("/m-ev", log, org.apache.zookeeper.AddWatchMode.PERSISTENT_RECURSIVE);
            writer.zk.multi(List.of(create("/m-ev/a"), create("/m-ev/a/b"), Op.setData("/m-ev", null, -1),
                Op.delete("/m-ev/gone", -1), Op.delete("/m-ev/a/b", -1)));
            c.expect(log, "NodeCreated /m-ev/a", "NodeCreated /m-ev/a/b", "NodeDataChanged /m-ev",
                "NodeDeleted /m-ev/gone", "NodeDeleted /m-ev/a/b");
            eq("NODEEXISTS", code(() -> writer.zk.multi(List.of(create("/m-ev/z"), create("/m-ev/a")))), "failing multi");
            c.expect(log);
        }
    }

    private void large() throws Exception {
        try (Client c = open()) {
            c.create("/m-big");
            List<Op> ops = new ArrayList<>();
            for (int i = 0; i < 5000; i++) {
                ops.add(create("/m-big/n" + i, "data" + i, CreateMode.PERSISTENT));
            }
            eq(5000, c.zk.multi(ops).size(), "results");
            eq(5000, c.zk.getAllChildrenNumber("/m-big"), "nodes");
            ops.clear();
            for (int i = 0; i < 5000; i++) {
                ops.add(Op.delete("/m-big/n" + i, 0));
            }
            c.zk.multi(ops);
            eq(0, c.zk.getAllChildrenNumber("/m-big"), "nodes");
            eq(10000, c.stat("/m-big").getCversion(), "cversion");
        }
    }

    private void pipelined() throws Exception {
        try (Client c = open()) {
            c.create("/m-pl", "0");
            List<Integer> codes = new ArrayList<>();
            int n = 500;
            CountDownLatch done = new CountDownLatch(1);
            for (int i = 0; i < n; i++) {
                // Each operation depends on the one before it, which is not applied yet when this one is checked.
                c.zk.multi(List.of(Op.check("/m-pl", 2 * i), Op.setData("/m-pl", null, 2 * i),
                    create("/m-pl/k" + i)), (rc, p, x, r) -> codes.add(rc), null);
                c.zk.setData("/m-pl", null, 2 * i + 1, (rc, p, x, s) -> codes.add(rc), null);
                c.zk.multi(List.of(Op.delete("/m-pl/k" + i, 0), Op.check("/m-pl", 2 * i + 1)), (rc, p, x, r) -> codes.add(rc), null);
                c.zk.delete("/m-pl/k" + i, 0, (rc, p, x) -> codes.add(rc), null);
            }
            c.zk.exists("/", false, (rc, p, x, s) -> done.countDown(), null);
            yes(done.await(60, TimeUnit.SECONDS), "all answered");
            for (int i = 0; i < n; i++) {
                eq(List.of(0, 0, KeeperException.Code.BADVERSION.intValue(), 0), codes.subList(4 * i, 4 * i + 4), "round " + i);
            }
            eq(2 * n, c.stat("/m-pl").getVersion(), "version");
        }
    }

    private void read() throws Exception {
        try (Client c = open()) {
            c.create("/m-rd", "root");
            c.create("/m-rd/a", "A");
            c.create("/m-rd/b", "B");
            eq(List.of("data A v0", "error NONODE", "children [a, b]", "data B v0", "error NONODE", "children []"),
                show(c.zk.multi(List.of(Op.getData("/m-rd/a"), Op.getData("/m-rd/none"), Op.getChildren("/m-rd"),
                    Op.getData("/m-rd/b"), Op.getChildren("/m-rd/none"), Op.getChildren("/m-rd/a")))), "results");
        }
    }

    private void readNoWatch() throws Exception {
        try (Client c = open()) {
            c.create("/m-rw", "x");
            c.zk.multi(List.of(Op.getData("/m-rw"), Op.getChildren("/m-rw")));
            c.log.clear();
            c.zk.setData("/m-rw", null, -1);
            c.create("/m-rw/a");
            c.expect(c.log);
        }
    }
}
