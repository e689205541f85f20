package interop;

import static interop.Harness.background;
import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.data.Stat;

/** Kinds of znodes, protected creates, transactions, watchers, group membership. */
final class CuratorNodes {
    private final Harness.Target target;

    CuratorNodes(Harness.Target target) {
        this.target = target;
    }

    void run() {
        test("node.ttl-kept-alive-then-gone", this::ttl);
        test("node.ttl-create", this::ttlCreate);
        test("node.container-parents-go-when-empty", this::containers);
        test("node.persistent-node-comes-back", this::persistentNode);
        test("node.persistent-node-after-an-expired-session", this::persistentNodeExpiry);
        test("node.protected-create-with-a-lost-answer", this::protectedLost);
        test("node.protected-create-concurrent", this::protectedMany);
        test("node.idempotent-writes-with-a-lost-answer", this::idempotent);
        test("node.or-set-data-stat-compression", this::builders);
        test("node.guaranteed-delete-over-a-cut", this::guaranteed);
        test("node.background-calls-in-order", this::backgroundOrder);
        test("watch.persistent-watcher", () -> watcher(false));
        test("watch.persistent-watcher-recursive", () -> watcher(true));
        test("watch.persistent-watcher-over-a-cut", this::watcherCut);
        test("watch.removed", this::watchRemoved);
        test("transaction.applied", this::transaction);
        test("transaction.nothing-applied-after-an-error", this::transactionFails);
        test("group.members-come-and-go", this::group);
        test("group.member-of-an-expired-session", this::groupExpiry);
    }

    private void ttl() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            CuratorFramework other = k.client();
            PersistentTtlNode node = new PersistentTtlNode(c, "/ttl/node", 1500, bytes("v"));
            node.start();
            yes(node.waitForInitialCreate(20, TimeUnit.SECONDS), "created");
            Stat first = other.checkExists().forPath("/ttl/node");
            eq(0L, first.getEphemeralOwner(), "a container, not ephemeral");
            eventually(true, () -> other.checkExists().forPath("/ttl/node/touch") != null, 20, "touch node");
            Thread.sleep(3200);
            eq(first.getCzxid(), other.checkExists().forPath("/ttl/node").getCzxid(), "the same znode after 2 TTLs");
            node.close();
            eventually(null, () -> other.checkExists().forPath("/ttl/node"), 20, "gone when nobody touches it");
        }
    }

    private void ttlCreate() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            String path = c.create().withTtl(400).creatingParentsIfNeeded()
                .withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL).forPath("/ttl/seq-", bytes("x"));
            yes(path.matches("/ttl/seq-\\d{10}"), path);
            eventually(null, () -> c.checkExists().forPath(path), 20, "gone after its TTL");
        }
    }

    private void containers() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            c.create().creatingParentContainersIfNeeded().withMode(CreateMode.EPHEMERAL).forPath("/box/inner/e");
            c.createContainers("/box/never-used");
            Thread.sleep(600); // two sweeps
            yes(c.checkExists().forPath("/box/never-used") != null, "one that never had a child stays");
            yes(c.checkExists().forPath("/box/inner/e") != null, "a child stays");
            c.delete().forPath("/box/inner/e");
            eventually(null, () -> c.checkExists().forPath("/box/inner"), 20, "the emptied container");
            yes(c.checkExists().forPath("/box") != null, "its parent has a child left");
        }
    }

    private void persistentNode() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework other = k.client();
            try (PersistentNode node = new PersistentNode(k.client(), CreateMode.EPHEMERAL, false, "/pn/e", bytes("1"))) {
                node.start();
                yes(node.waitForInitialCreate(20, TimeUnit.SECONDS), "created");
                for (int i = 0; i < 3; i++) {
                    long was = other.checkExists().forPath("/pn/e").getCzxid();
                    other.delete().forPath("/pn/e");
                    eventually(true, () -> {
                        Stat s = other.checkExists().forPath("/pn/e");
                        return s != null && s.getCzxid() > was;
                    }, 20, "created again");
                }
                node.setData(bytes("2"));
                eventually("2", () -> new String(other.getData().forPath("/pn/e")), 20, "data");
            }
            eventually(null, () -> other.checkExists().forPath("/pn/e"), 20, "gone after close");
        }
    }

    private void persistentNodeExpiry() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework other = k.client();
            try (PersistentNode node = new PersistentNode(k.relayed(2000), CreateMode.EPHEMERAL, false, "/pn/x", bytes("1"))) {
                node.start();
                yes(node.waitForInitialCreate(20, TimeUnit.SECONDS), "created");
                long owner = other.checkExists().forPath("/pn/x").getEphemeralOwner();
                k.proxy().cut();
                eventually(null, () -> other.checkExists().forPath("/pn/x"), 40, "gone with the session");
                k.proxy().heal();
                eventually(true, () -> {
                    Stat s = other.checkExists().forPath("/pn/x");
                    return s != null && s.getEphemeralOwner() != owner;
                }, 40, "created again by the next session");
            }
        }
    }

    private void protectedLost() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework other = k.client();
            other.create().forPath("/protected");
            CuratorFramework c = k.relayed(Curators.LONG_SESSION_MS);
            k.proxy().mute();
            Future<String> path = background(() -> c.create().withProtection()
                .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/protected/n-", bytes("x")));
            eventually(1, () -> other.getChildren().forPath("/protected").size(), 20, "created on the server");
            yes(!path.isDone(), "the answer is lost");
            k.proxy().cut();
            k.proxy().heal();
            eq("/protected/" + other.getChildren().forPath("/protected").get(0), Curators.get(path), "the one znode is found again");
            eq(1, other.getChildren().forPath("/protected").size(), "znodes");
        }
    }

    private void protectedMany() throws Exception {
        try (Curators k = new Curators(target)) {
            List<List<String>> made = k.atOnce(4, c -> {
                List<String> mine = new ArrayList<>();
                for (int i = 0; i < 10; i++) {
                    mine.add(c.create().creatingParentsIfNeeded().withProtection()
                        .withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/protected-many/n-"));
                }
                return mine;
            });
            Set<String> numbers = made.stream().flatMap(List::stream)
                .map(p -> p.substring(p.length() - 10)).collect(Collectors.toSet());
            eq(40, numbers.size(), "different sequence numbers");
            CuratorFramework reader = k.client();
            eventually(40, () -> reader.getChildren().forPath("/protected-many").size(), 20, "znodes");
        }
    }

    private void idempotent() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework other = k.client();
            CuratorFramework c = k.relayed(Curators.LONG_SESSION_MS);
            k.proxy().mute();
            Future<String> made = background(() -> c.create().idempotent().forPath("/idempotent", bytes("1")));
            eventually(true, () -> other.checkExists().forPath("/idempotent") != null, 20, "created on the server");
            k.proxy().cut();
            k.proxy().heal();
            eq("/idempotent", Curators.get(made), "create");
            k.proxy().mute();
            Future<Stat> set = background(() -> c.setData().idempotent().withVersion(0).forPath("/idempotent", bytes("2")));
            eventually(1, () -> other.checkExists().forPath("/idempotent").getVersion(), 20, "set on the server");
            k.proxy().cut();
            k.proxy().heal();
            eq(1, Curators.get(set).getVersion(), "setData's version");
            eq(1, other.checkExists().forPath("/idempotent").getVersion(), "set once");
        }
    }

    private void builders() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            Stat stat = new Stat();
            c.create().storingStatIn(stat).forPath("/builders", bytes("abc"));
            eq(List.of(0, 3), List.of(stat.getVersion(), stat.getDataLength()), "stat of the create");
            c.create().orSetData().forPath("/builders", bytes("defg"));
            eq("defg", new String(c.getData().storingStatIn(stat).forPath("/builders")), "orSetData");
            eq(List.of(1, 4), List.of(stat.getVersion(), stat.getDataLength()), "stat");
            c.setData().compressed().forPath("/builders", new byte[20_000]);
            eq(20_000, c.getData().decompressed().forPath("/builders").length, "decompressed");
            yes(c.checkExists().forPath("/builders").getDataLength() < 1000, "compressed on the server");
            eq("BADVERSION", code(() -> c.setData().withVersion(9).forPath("/builders", bytes(""))), "wrong version");
            eq("NONODE", code(() -> c.getData().forPath("/builders/none")), "no such znode");
            CuratorFramework inside = c.usingNamespace("name-space");
            inside.create().forPath("/x", bytes("n"));
            eq("n", new String(c.getData().forPath("/name-space/x")), "namespace");
        }
    }

    private void guaranteed() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework other = k.client();
            CuratorFramework c = k.relayed(Curators.LONG_SESSION_MS);
            other.create().forPath("/guaranteed");
            k.proxy().cut();
            Future<Void> deleted = background(() -> c.delete().guaranteed().forPath("/guaranteed"));
            Thread.sleep(300);
            yes(other.checkExists().forPath("/guaranteed") != null, "still there while cut");
            k.proxy().heal();
            Curators.get(deleted);
            eventually(null, () -> other.checkExists().forPath("/guaranteed"), 20, "deleted");
        }
    }

    private void backgroundOrder() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            c.create().forPath("/bg", bytes(""));
            List<Integer> versions = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(200);
            for (int i = 0; i < 200; i++) {
                c.setData().inBackground((client, event) -> {
                    versions.add(event.getStat().getVersion());
                    done.countDown();
                }).forPath("/bg", bytes("v" + i));
            }
            yes(done.await(40, TimeUnit.SECONDS), "200 answers");
            List<Integer> expected = new ArrayList<>();
            for (int i = 1; i <= 200; i++) {
                expected.add(i);
            }
            eq(expected, versions, "versions in the order of the answers");
        }
    }

    private static List<String> log(PersistentWatcher watcher) {
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        watcher.getListenable().addListener(e -> {
            if (e.getType() != Watcher.Event.EventType.None) {
                events.add(e.getType() + " " + e.getPath());
            }
        });
        return events;
    }

    private static void start(PersistentWatcher watcher) throws Exception {
        CountDownLatch set = new CountDownLatch(1);
        watcher.getResetListenable().addListener(set::countDown);
        watcher.start();
        yes(set.await(20, TimeUnit.SECONDS), "the watch is set");
    }

    private void watcher(boolean recursive) throws Exception {
        String base = recursive ? "/pw-recursive" : "/pw";
        try (Curators k = new Curators(target);
                PersistentWatcher watcher = new PersistentWatcher(k.client(), base, recursive)) {
            List<String> events = log(watcher);
            start(watcher);
            CuratorFramework c = k.client();
            c.create().forPath(base);
            c.create().forPath(base + "/a");
            c.create().forPath(base + "/a/b");
            c.setData().forPath(base + "/a/b", bytes("1"));
            c.setData().forPath(base, bytes("1"));
            c.setData().forPath(base, bytes("2"));
            c.delete().forPath(base + "/a/b");
            c.delete().forPath(base + "/a");
            c.delete().forPath(base);
            List<String> expected = recursive
                ? List.of("NodeCreated " + base, "NodeCreated " + base + "/a", "NodeCreated " + base + "/a/b",
                    "NodeDataChanged " + base + "/a/b", "NodeDataChanged " + base, "NodeDataChanged " + base,
                    "NodeDeleted " + base + "/a/b", "NodeDeleted " + base + "/a", "NodeDeleted " + base)
                : List.of("NodeCreated " + base, "NodeChildrenChanged " + base, "NodeDataChanged " + base,
                    "NodeDataChanged " + base, "NodeChildrenChanged " + base, "NodeDeleted " + base);
            eventually(expected, () -> List.copyOf(events), 20, "events");
        }
    }

    private void watcherCut() throws Exception {
        try (Curators k = new Curators(target);
                PersistentWatcher watcher = new PersistentWatcher(k.relayed(Curators.LONG_SESSION_MS), "/pw-cut", true)) {
            CuratorFramework c = k.client();
            List<String> events = log(watcher);
            start(watcher);
            c.create().forPath("/pw-cut");
            eventually(List.of("NodeCreated /pw-cut"), () -> List.copyOf(events), 20, "before");
            CountDownLatch again = new CountDownLatch(1);
            watcher.getResetListenable().addListener(again::countDown);
            k.proxy().cut();
            c.create().forPath("/pw-cut/unseen");
            k.proxy().heal();
            yes(again.await(30, TimeUnit.SECONDS), "told that the watch was set again");
            events.clear();
            c.create().forPath("/pw-cut/seen");
            eventually(List.of("NodeCreated /pw-cut/seen"), () -> List.copyOf(events), 20, "after");
        }
    }

    private void watchRemoved() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            c.create().forPath("/removed");
            List<String> kept = Collections.synchronizedList(new ArrayList<>());
            List<String> dropped = Collections.synchronizedList(new ArrayList<>());
            Watcher w1 = e -> kept.add(e.getType().name());
            Watcher w2 = e -> dropped.add(e.getType().name());
            c.getData().usingWatcher(w1).forPath("/removed");
            c.getData().usingWatcher(w2).forPath("/removed");
            c.watchers().remove(w2).ofType(Watcher.WatcherType.Data).forPath("/removed");
            c.setData().forPath("/removed", bytes("x"));
            eventually(List.of("NodeDataChanged"), () -> List.copyOf(kept), 20, "the watch that was kept");
            eventually(List.of("DataWatchRemoved"), () -> List.copyOf(dropped), 20, "the watch that was removed");
            eq("NOWATCHER", code(() -> c.watchers().removeAll().ofType(Watcher.WatcherType.Children).forPath("/removed")), "none left");
        }
    }

    private void transaction() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            CuratorOp create = c.transactionOp().create().forPath("/tx", bytes("1"));
            CuratorOp seq = c.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/tx/s-", bytes("2"));
            CuratorOp check = c.transactionOp().check().withVersion(0).forPath("/tx");
            CuratorOp set = c.transactionOp().setData().withVersion(0).forPath("/tx", bytes("3"));
            CuratorOp eph = c.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath("/tx/e");
            CuratorOp delete = c.transactionOp().delete().forPath("/tx/e");
            List<CuratorTransactionResult> r = c.transaction().forOperations(create, seq, check, set, eph, delete);
            // In the results of a multi, Apache's client leaves the root of the connect string in the paths.
            String tx = target.root() + "/tx";
            eq(List.of("CREATE " + tx, "CREATE " + tx + "/s-0000000000", "CHECK null", "SET_DATA null", "CREATE " + tx + "/e", "DELETE null"),
                r.stream().map(x -> x.getType() + " " + x.getResultPath()).collect(Collectors.toList()), "results");
            eq(1, r.get(3).getResultStat().getVersion(), "version");
            Stat stat = c.checkExists().forPath("/tx");
            eq(List.of(stat.getCzxid(), stat.getCzxid()), List.of(stat.getMzxid(), stat.getPzxid()), "one zxid for all");
            eq(List.of("s-0000000000"), c.getChildren().forPath("/tx"), "children");
        }
    }

    private void transactionFails() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            c.create().forPath("/tx-fails", bytes("1"));
            eq("BADVERSION", code(() -> c.transaction().forOperations(
                c.transactionOp().create().forPath("/tx-fails/a"),
                c.transactionOp().setData().withVersion(0).forPath("/tx-fails", bytes("2")),
                c.transactionOp().check().withVersion(7).forPath("/tx-fails"))), "the failing op's code");
            eq("1", new String(c.getData().forPath("/tx-fails")), "data");
            eq(List.of(), c.getChildren().forPath("/tx-fails"), "children");
            // Many clients set with the same version at the same time: in each round exactly one succeeds.
            List<Integer> wins = k.atOnce(4, mine -> {
                int won = 0;
                for (int version = 0; version < 10; version++) {
                    int v = version;
                    if (code(() -> mine.transaction().forOperations(
                            mine.transactionOp().check().withVersion(v).forPath("/tx-fails"),
                            mine.transactionOp().setData().forPath("/tx-fails", bytes("w")),
                            mine.transactionOp().create().forPath("/tx-fails/" + v))).equals("OK")) {
                        won++;
                    }
                    // Wait until one of them has succeeded.
                    eventually(true, () -> mine.checkExists().forPath("/tx-fails").getVersion() > v, 20, "a winner");
                }
                return won;
            });
            eq(10, wins.stream().mapToInt(Integer::intValue).sum(), "rounds won");
            eventually(10, () -> c.checkExists().forPath("/tx-fails").getVersion(), 20, "version");
        }
    }

    private void group() throws Exception {
        try (Curators k = new Curators(target)) {
            List<GroupMember> members = new ArrayList<>();
            for (String id : List.of("a", "b", "c")) {
                GroupMember m = new GroupMember(k.client(), "/group", id, bytes("data-" + id));
                members.add(m);
                m.start();
            }
            for (GroupMember m : members) {
                eventually(Set.of("a", "b", "c"), () -> m.getCurrentMembers().keySet(), 20, "members");
            }
            members.get(0).setThisData(bytes("new"));
            eventually("new", () -> new String(members.get(2).getCurrentMembers().get("a")), 20, "a's data seen by c");
            members.get(1).close();
            eventually(Set.of("a", "c"), () -> members.get(0).getCurrentMembers().keySet(), 20, "after b left");
            members.get(0).close();
            members.get(2).close();
        }
    }

    private void groupExpiry() throws Exception {
        try (Curators k = new Curators(target);
                GroupMember a = new GroupMember(k.relayed(2000), "/group-x", "a");
                GroupMember b = new GroupMember(k.client(), "/group-x", "b")) {
            a.start();
            b.start();
            eventually(Set.of("a", "b"), () -> b.getCurrentMembers().keySet(), 20, "members");
            k.proxy().cut();
            eventually(Set.of("b"), () -> b.getCurrentMembers().keySet(), 40, "after the loss of a");
            k.proxy().heal();
            eventually(Set.of("a", "b"), () -> b.getCurrentMembers().keySet(), 40, "a comes back");
        }
    }
}
