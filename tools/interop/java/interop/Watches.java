package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.OpCode;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.proto.AddWatchRequest;
import org.apache.zookeeper.proto.CheckWatchesRequest;
import org.apache.zookeeper.proto.GetDataRequest;
import org.apache.zookeeper.proto.RemoveWatchesRequest;
import org.apache.zookeeper.proto.SetDataRequest;

/** One-shot, persistent and recursive watches on a connection that is not interrupted. */
final class Watches {
    private final Harness.Server server;

    Watches(Harness.Server server) {
        this.server = server;
    }

    private Client open() throws Exception {
        return new Client(server.address());
    }

    void run() {
        test("watch.exists-triggers", this::exists);
        test("watch.get-data-triggers", this::getData);
        test("watch.get-children-triggers", this::getChildren);
        test("watch.one-shot", this::oneShot);
        test("watch.not-armed-by-failed-reads", this::notArmed);
        test("watch.untriggered-by-failures-and-acl", this::untriggered);
        test("watch.registrations-collapse", this::collapse);
        test("watch.delete-once-with-data-and-child-watch", this::deleteOnce);
        test("watch.event-before-reply", this::eventBeforeReply);
        test("watch.event-before-new-state", this::eventBeforeNewState);
        test("watch.event-zxid", this::eventZxid);
        test("watch.ephemeral-of-closed-session", this::ephemeral);
        test("watch.container-and-ttl-deletion", this::containerDeletion);
        test("watch.two-clients", this::twoClients);
        test("watch.root", this::root);
        test("watch.persistent", this::persistent);
        test("watch.persistent-missing-node", this::persistentMissing);
        test("watch.recursive", this::recursive);
        test("watch.recursive-at-root", this::recursiveRoot);
        test("watch.recursive-prefix-is-whole-names", this::recursivePrefix);
        test("watch.modes-coexist", this::coexist);
        test("watch.denied-without-read", this::denied);
        test("watch.remove-each-type", this::removeTypes);
        test("watch.remove-one-of-two-watchers", this::removeOne);
        test("watch.remove-all", this::removeAll);
        test("watch.remove-persistent", this::removePersistent);
        test("watch.remove-missing", this::removeMissing);
        test("watch.remove-is-quiet-on-the-server", this::removeQuiet);
        test("watch.check-and-remove-raw", this::rawCheck);
        test("watch.add-watch-bad-mode", this::badMode);
        test("watch.remove-bad-type", this::badType);
        test("watch.many-paths", this::manyPaths);
        test("watch.gone-with-the-connection", this::goneWithConnection);
    }

    private void exists() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            c.zk.exists("/w-ex", log);
            w.create("/w-ex");
            c.expect(log, "NodeCreated /w-ex");
            c.zk.exists("/w-ex", log);
            w.zk.setData("/w-ex", null, -1);
            c.expect(log, "NodeDataChanged /w-ex");
            c.zk.exists("/w-ex", log);
            w.create("/w-ex/kid");
            w.zk.delete("/w-ex/kid", -1);
            c.expect(log);
            w.zk.delete("/w-ex", -1);
            c.expect(log, "NodeDeleted /w-ex");
        }
    }

    private void getData() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-gd");
            c.zk.getData("/w-gd", log, null);
            w.create("/w-gd/kid");
            c.expect(log);
            w.zk.setData("/w-gd", bytes("1"), -1);
            c.expect(log, "NodeDataChanged /w-gd");
            c.zk.getData("/w-gd", log, null);
            w.zk.delete("/w-gd/kid", -1);
            w.zk.delete("/w-gd", -1);
            c.expect(log, "NodeDeleted /w-gd");
        }
    }

    private void getChildren() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-gc");
            c.zk.getChildren("/w-gc", log);
            w.zk.setData("/w-gc", bytes("1"), -1);
            c.expect(log);
            w.create("/w-gc/a");
            c.expect(log, "NodeChildrenChanged /w-gc");
            c.zk.getChildren("/w-gc", log, new Stat());
            w.zk.setData("/w-gc/a", bytes("1"), -1);
            w.create("/w-gc/a/deep");
            c.expect(log);
            w.zk.delete("/w-gc/a/deep", -1);
            w.zk.delete("/w-gc/a", -1);
            c.expect(log, "NodeChildrenChanged /w-gc");
            c.zk.getChildren("/w-gc", log);
            w.zk.delete("/w-gc", -1);
            c.expect(log, "NodeDeleted /w-gc");
        }
    }

    private void oneShot() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-1");
            c.zk.getData("/w-1", log, null);
            c.zk.getChildren("/w-1", log);
            for (int i = 0; i < 5; i++) {
                w.zk.setData("/w-1", null, -1);
                w.create("/w-1/" + i);
            }
            c.expect(log, "NodeDataChanged /w-1", "NodeChildrenChanged /w-1");
        }
    }

    private void notArmed() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            eq("NONODE", code(() -> c.zk.getData("/w-na", log, null)), "getData");
            eq("NONODE", code(() -> c.zk.getChildren("/w-na", log)), "getChildren");
            w.create("/w-na");
            w.zk.delete("/w-na", -1);
            c.expect(log);
        }
    }

    private void untriggered() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-un");
            c.zk.getData("/w-un", log, null);
            c.zk.getChildren("/w-un", log);
            eq("BADVERSION", code(() -> w.zk.setData("/w-un", null, 9)), "set");
            eq("NODEEXISTS", code(() -> w.create("/w-un")), "create");
            eq("NONODE", code(Client.call(() -> w.zk.delete("/w-un/x", -1))), "delete");
            w.zk.setACL("/w-un", Ids.OPEN_ACL_UNSAFE, -1);
            c.expect(log);
            w.zk.setData("/w-un", null, -1);
            c.expect(log, "NodeDataChanged /w-un");
        }
    }

    private void collapse() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            c.create("/w-co");
            for (int i = 0; i < 3; i++) {
                eq("OK", w.code(OpCode.getData, new GetDataRequest("/w-co", true)), "getData with watch");
                eq("OK", w.code(OpCode.exists, new GetDataRequest("/w-co", true)), "exists with watch");
            }
            c.zk.setData("/w-co", null, -1);
            w.send(50, OpCode.exists, new GetDataRequest("/", false));
            eq(-1, w.reply().header.getXid(), "one notification");
            eq(50, w.reply().header.getXid(), "then the reply: no second notification");
        }
    }

    private void deleteOnce() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            c.create("/w-do");
            c.create("/w-do/x");
            w.call(OpCode.getData, new GetDataRequest("/w-do/x", true));
            w.call(OpCode.getChildren, new GetDataRequest("/w-do/x", true));
            w.call(OpCode.getChildren, new GetDataRequest("/w-do", true));
            c.zk.delete("/w-do/x", -1);
            w.send(60, OpCode.exists, new GetDataRequest("/", false));
            List<String> got = new ArrayList<>();
            for (Wire.Reply r = w.reply(); r.header.getXid() == -1; r = w.reply()) {
                org.apache.zookeeper.proto.WatcherEvent e = r.read(new org.apache.zookeeper.proto.WatcherEvent());
                got.add(e.getType() + " " + e.getState() + " " + e.getPath());
            }
            eq(List.of("2 3 /w-do/x", "4 3 /w-do"), got, "notifications");
        }
    }

    private void eventBeforeReply() throws Exception {
        try (Client c = open()) {
            Client.Log log = new Client.Log();
            c.zk.exists("/w-ord", log);
            c.zk.create("/w-ord", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                (rc, p, x, n) -> log.note("created " + rc), null);
            c.zk.getData("/w-ord", log, (rc, p, x, d, s) -> log.note("read " + rc), null);
            c.zk.setData("/w-ord", null, -1, (rc, p, x, s) -> log.note("set " + rc), null);
            c.zk.getChildren("/w-ord", log, (rc, p, x, k) -> log.note("listed " + rc), null);
            c.zk.create("/w-ord/kid", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                (rc, p, x, n) -> log.note("kid " + rc), null);
            c.expect(log, "NodeCreated /w-ord", "created 0", "read 0", "NodeDataChanged /w-ord", "set 0", "listed 0",
                "NodeChildrenChanged /w-ord", "kid 0");
        }
    }

    /** A client that reads the new value has got the event before, no matter who wrote. */
    private void eventBeforeNewState() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-new", "0");
            for (int i = 1; i <= 200; i++) {
                Client.Log log = new Client.Log();
                String old = new String(c.zk.getData("/w-new", log, null));
                eq("" + (i - 1), old, "value");
                w.zk.setData("/w-new", bytes("" + i), -1, (rc, p, x, s) -> { }, null);
                boolean[] violated = new boolean[1];
                java.util.concurrent.CountDownLatch seen = new java.util.concurrent.CountDownLatch(1);
                int round = i;
                Runnable[] poll = new Runnable[1];
                poll[0] = () -> c.zk.getData("/w-new", false, (rc, p, x, d, s) -> {
                    if (new String(d).equals("" + round)) {
                        violated[0] = log.lines().isEmpty();
                        seen.countDown();
                    } else {
                        poll[0].run();
                    }
                }, null);
                poll[0].run();
                yes(seen.await(20, java.util.concurrent.TimeUnit.SECONDS), "the new value is seen");
                eq(false, violated[0], "new value read before the event, round " + i);
            }
        }
    }

    private void eventZxid() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            c.zk.addWatch("/w-zx", log, AddWatchMode.PERSISTENT);
            w.create("/w-zx");
            long created = w.stat("/w-zx").getCzxid();
            long set = w.zk.setData("/w-zx", null, -1).getMzxid();
            w.create("/w-zx/kid");
            long kid = w.stat("/w-zx/kid").getCzxid();
            c.barrier();
            eq(3, log.events.size(), "events");
            eq(List.of(created, set, kid), List.of(log.events.get(0).getZxid(), log.events.get(1).getZxid(),
                log.events.get(2).getZxid()), "zxids of the events");
        }
    }

    private void ephemeral() throws Exception {
        try (Client c = open()) {
            c.create("/w-eph");
            Client.Log log = new Client.Log();
            try (Client owner = open()) {
                owner.create("/w-eph/e", "", CreateMode.EPHEMERAL);
                c.zk.exists("/w-eph/e", log);
                c.zk.getChildren("/w-eph", log);
            }
            c.expect(log, "NodeDeleted /w-eph/e", "NodeChildrenChanged /w-eph");
        }
    }

    private void containerDeletion() throws Exception {
        try (Client c = open()) {
            c.create("/w-ct");
            c.create("/w-ct/c", "", CreateMode.CONTAINER);
            c.create("/w-ct/c/x");
            c.zk.create("/w-ct/t", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 500);
            Client.Log container = new Client.Log();
            Client.Log ttl = new Client.Log();
            c.zk.exists("/w-ct/c", container);
            c.zk.exists("/w-ct/t", ttl);
            c.zk.delete("/w-ct/c/x", -1);
            eventually(List.of("NodeDeleted /w-ct/c"), container::lines, 20, "event of the container");
            eventually(List.of("NodeDeleted /w-ct/t"), ttl::lines, 20, "event of the TTL node");
        }
    }

    private void twoClients() throws Exception {
        try (Client a = open(); Client b = open(); Client w = open()) {
            w.create("/w-two");
            Client.Log la = new Client.Log();
            Client.Log lb = new Client.Log();
            a.zk.getData("/w-two", la, null);
            b.zk.getData("/w-two", lb, null);
            w.zk.setData("/w-two", null, -1);
            a.expect(la, "NodeDataChanged /w-two");
            b.expect(lb, "NodeDataChanged /w-two");
        }
    }

    private void root() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            c.zk.getChildren("/", log);
            w.create("/w-root");
            c.expect(log, "NodeChildrenChanged /");
            c.zk.getData("/", log, null);
            w.zk.setData("/", bytes("r"), -1);
            c.expect(log, "NodeDataChanged /");
        }
    }

    private void persistent() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-per");
            c.zk.addWatch("/w-per", log, AddWatchMode.PERSISTENT);
            w.zk.setData("/w-per", null, -1);
            w.zk.setData("/w-per", null, -1);
            w.create("/w-per/a");
            w.zk.setData("/w-per/a", null, -1);
            w.create("/w-per/a/deep");
            w.create("/w-per/b");
            w.zk.delete("/w-per/b", -1);
            w.zk.delete("/w-per/a/deep", -1);
            w.zk.delete("/w-per/a", -1);
            w.zk.delete("/w-per", -1);
            w.create("/w-per");
            c.expect(log, "NodeDataChanged /w-per", "NodeDataChanged /w-per", "NodeChildrenChanged /w-per",
                "NodeChildrenChanged /w-per", "NodeChildrenChanged /w-per", "NodeChildrenChanged /w-per",
                "NodeDeleted /w-per", "NodeCreated /w-per");
        }
    }

    private void persistentMissing() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            c.zk.addWatch("/w-pm/x/y", log, AddWatchMode.PERSISTENT);
            w.create("/w-pm");
            w.create("/w-pm/x");
            w.create("/w-pm/x/y");
            w.create("/w-pm/x/y/z");
            c.expect(log, "NodeCreated /w-pm/x/y", "NodeChildrenChanged /w-pm/x/y");
        }
    }

    private void recursive() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-rec");
            c.zk.addWatch("/w-rec", log, AddWatchMode.PERSISTENT_RECURSIVE);
            w.create("/w-rec/a");
            w.create("/w-rec/a/b");
            w.create("/w-rec/a/b/c");
            w.zk.setData("/w-rec/a/b", null, -1);
            w.zk.setData("/w-rec", null, -1);
            w.zk.delete("/w-rec/a/b/c", -1);
            w.zk.delete("/w-rec/a/b", -1);
            w.zk.delete("/w-rec/a", -1);
            w.zk.delete("/w-rec", -1);
            w.create("/w-rec");
            c.expect(log, "NodeCreated /w-rec/a", "NodeCreated /w-rec/a/b", "NodeCreated /w-rec/a/b/c",
                "NodeDataChanged /w-rec/a/b", "NodeDataChanged /w-rec", "NodeDeleted /w-rec/a/b/c",
                "NodeDeleted /w-rec/a/b", "NodeDeleted /w-rec/a", "NodeDeleted /w-rec", "NodeCreated /w-rec");
        }
    }

    private void recursiveRoot() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            c.zk.addWatch("/", log, AddWatchMode.PERSISTENT_RECURSIVE);
            w.create("/w-rr");
            w.create("/w-rr/x");
            w.zk.setData("/", null, -1);
            c.barrier();
            List<String> mine = log.lines();
            // Containers and TTL nodes of other tests may be deleted meanwhile.
            mine.removeIf(l -> l.startsWith("NodeDeleted "));
            eq(List.of("NodeCreated /w-rr", "NodeCreated /w-rr/x", "NodeDataChanged /"), mine, "events");
        }
    }

    private void recursivePrefix() throws Exception {
        try (Client c = open(); Client w = open()) {
            Client.Log log = new Client.Log();
            w.create("/w-rp");
            c.zk.addWatch("/w-rp", log, AddWatchMode.PERSISTENT_RECURSIVE);
            w.create("/w-rpx");
            w.create("/w-rpx/y");
            w.zk.setData("/w-rpx", null, -1);
            c.expect(log);
        }
    }

    private void coexist() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-cx");
            w.create("/w-cx/a");
            Client.Log once = new Client.Log();
            Client.Log per = new Client.Log();
            Client.Log rec = new Client.Log();
            c.zk.addWatch("/w-cx", rec, AddWatchMode.PERSISTENT_RECURSIVE);
            c.zk.addWatch("/w-cx/a", per, AddWatchMode.PERSISTENT);
            c.zk.getData("/w-cx/a", once, null);
            w.zk.setData("/w-cx/a", null, -1);
            w.zk.setData("/w-cx/a", null, -1);
            c.expect(once, "NodeDataChanged /w-cx/a");
            c.expect(per, "NodeDataChanged /w-cx/a", "NodeDataChanged /w-cx/a");
            c.expect(rec, "NodeDataChanged /w-cx/a", "NodeDataChanged /w-cx/a");
            w.create("/w-cx/a/kid");
            c.expect(per, "NodeChildrenChanged /w-cx/a");
            c.expect(rec, "NodeCreated /w-cx/a/kid");
        }
    }

    private void denied() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.zk.addAuthInfo("digest", bytes("w:pw"));
            Client.Log rec = new Client.Log();
            w.create("/w-den");
            c.zk.addWatch("/w-den", rec, AddWatchMode.PERSISTENT_RECURSIVE);
            w.zk.create("/w-den/secret", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            w.create("/w-den/open");
            w.zk.setData("/w-den/secret", null, -1);
            w.zk.delete("/w-den/secret", -1);
            c.expect(rec, "NodeCreated /w-den/open");
            // An event that is not delivered (no read permission) removes the one-shot watch all the same.
            w.create("/w-den-once");
            Client.Log once = new Client.Log();
            c.zk.getData("/w-den-once", once, null);
            w.zk.setACL("/w-den-once", Ids.CREATOR_ALL_ACL, -1);
            w.zk.setData("/w-den-once", null, -1);
            w.zk.setACL("/w-den-once", Ids.OPEN_ACL_UNSAFE, -1);
            w.zk.setData("/w-den-once", null, -1);
            c.expect(once);
        }
    }

    private void removeTypes() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-rt");
            Client.Log data = new Client.Log();
            Client.Log kids = new Client.Log();
            c.zk.getData("/w-rt", data, null);
            c.zk.getChildren("/w-rt", kids);
            eq("NOWATCHER", code(Client.call(() -> c.zk.removeWatches("/w-rt", kids, WatcherType.Data, false))), "wrong type");
            c.zk.removeWatches("/w-rt", data, WatcherType.Data, false);
            c.expect(data, "DataWatchRemoved /w-rt");
            w.zk.setData("/w-rt", null, -1);
            c.expect(data);
            w.create("/w-rt/a");
            c.expect(kids, "NodeChildrenChanged /w-rt");
            c.zk.getChildren("/w-rt", kids);
            c.zk.removeWatches("/w-rt", kids, WatcherType.Children, false);
            c.expect(kids, "ChildWatchRemoved /w-rt");
            w.create("/w-rt/b");
            c.expect(kids);
            Client.Log both = new Client.Log();
            c.zk.getData("/w-rt", both, null);
            c.zk.getChildren("/w-rt", both);
            c.zk.removeWatches("/w-rt", both, WatcherType.Any, false);
            c.barrier();
            eq(2, both.lines().size(), "removal events");
            both.clear();
            w.zk.setData("/w-rt", null, -1);
            w.create("/w-rt/c");
            c.expect(both);
        }
    }

    private void removeOne() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-ro");
            Client.Log a = new Client.Log();
            Client.Log b = new Client.Log();
            c.zk.getData("/w-ro", a, null);
            c.zk.getData("/w-ro", b, null);
            c.zk.removeWatches("/w-ro", a, WatcherType.Data, false); // asks checkWatches: b stays armed
            c.expect(a, "DataWatchRemoved /w-ro");
            w.zk.setData("/w-ro", null, -1);
            c.expect(b, "NodeDataChanged /w-ro");
            c.expect(a);
        }
    }

    private void removeAll() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-ra");
            Client.Log a = new Client.Log();
            Client.Log b = new Client.Log();
            c.zk.getData("/w-ra", a, null);
            c.zk.getChildren("/w-ra", b);
            c.zk.addWatch("/w-ra", b, AddWatchMode.PERSISTENT_RECURSIVE);
            c.zk.removeAllWatches("/w-ra", WatcherType.Any, false);
            c.barrier();
            a.clear();
            b.clear();
            w.zk.setData("/w-ra", null, -1);
            w.create("/w-ra/a");
            c.expect(a);
            c.expect(b);
            eq(0, watchesOn("/w-ra"), "watches left on the server");
            eq("NOWATCHER", code(Client.call(() -> c.zk.removeAllWatches("/w-ra", WatcherType.Any, false))), "again");
        }
    }

    /** How many sessions have a watch on exactly this path, according to the server. */
    private int watchesOn(String path) throws Exception {
        int sessions = 0;
        boolean in = false;
        for (String line : Harness.word(server.port, "wchp").split("\n")) {
            if (line.startsWith("/")) {
                in = line.equals(path);
            } else if (in && !line.isBlank()) {
                sessions++;
            }
        }
        return sessions;
    }

    private void removePersistent() throws Exception {
        try (Client c = open(); Client w = open()) {
            w.create("/w-rp2");
            Client.Log per = new Client.Log();
            c.zk.addWatch("/w-rp2", per, AddWatchMode.PERSISTENT);
            eq("NOWATCHER", code(Client.call(() ->
                c.zk.removeWatches("/w-rp2", per, WatcherType.PersistentRecursive, false))), "other mode");
            c.zk.removeWatches("/w-rp2", per, WatcherType.Persistent, false);
            c.expect(per, "PersistentWatchRemoved /w-rp2");
            w.zk.setData("/w-rp2", null, -1);
            w.create("/w-rp2/x");
            c.expect(per);
            Client.Log rec = new Client.Log();
            c.zk.addWatch("/w-rp2", rec, AddWatchMode.PERSISTENT_RECURSIVE);
            c.zk.removeWatches("/w-rp2", rec, WatcherType.PersistentRecursive, false);
            c.expect(rec, "PersistentWatchRemoved /w-rp2");
            w.create("/w-rp2/x/y");
            c.expect(rec);
        }
    }

    private void removeMissing() throws Exception {
        try (Client c = open()) {
            Watcher none = e -> { };
            for (WatcherType t : WatcherType.values()) {
                eq("NOWATCHER", code(Client.call(() -> c.zk.removeWatches("/w-rm", none, t, false))), "remove " + t);
                eq("NOWATCHER", code(Client.call(() -> c.zk.removeAllWatches("/w-rm", t, false))), "removeAll " + t);
            }
            c.create("/w-rm");
            Client.Log log = new Client.Log();
            c.zk.getData("/w-rm", log, null);
            c.zk.removeWatches("/w-rm", log, WatcherType.Data, true); // local only
            c.expect(log, "DataWatchRemoved /w-rm");
        }
    }

    private void removeQuiet() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            c.create("/w-rq");
            w.call(OpCode.getData, new GetDataRequest("/w-rq", true));
            w.send(70, OpCode.removeWatches, new RemoveWatchesRequest("/w-rq", WatcherType.Data.getIntValue()));
            w.send(71, OpCode.setData, new SetDataRequest("/w-rq", null, -1));
            eq(70, w.reply().header.getXid(), "first frame");
            eq(71, w.reply().header.getXid(), "second frame: no notification");
        }
    }

    private void rawCheck() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            c.create("/w-rc");
            for (int type = 1; type <= 5; type++) {
                eq("NOWATCHER", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", type)), "check type " + type);
            }
            w.call(OpCode.getData, new GetDataRequest("/w-rc", true));
            eq("OK", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 2)), "data");
            eq("OK", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 3)), "any");
            eq("NOWATCHER", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 1)), "child");
            eq("OK", w.code(OpCode.addWatch, new AddWatchRequest("/w-rc", 0)), "addWatch persistent");
            eq("OK", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 4)), "persistent");
            eq("NOWATCHER", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 5)), "recursive");
            eq("OK", w.code(OpCode.removeWatches, new RemoveWatchesRequest("/w-rc", 2)), "remove data");
            eq("OK", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-rc", 4)), "persistent is left");
            eq("OK", w.code(OpCode.removeWatches, new RemoveWatchesRequest("/w-rc", 3)), "remove any");
            eq("NOWATCHER", w.code(OpCode.removeWatches, new RemoveWatchesRequest("/w-rc", 3)), "again");
            c.barrier();
        }
    }

    private void badMode() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            for (int mode : new int[] {2, -1, 77}) {
                eq("MARSHALLINGERROR", w.code(OpCode.addWatch, new AddWatchRequest("/w-bm", mode)), "mode " + mode);
            }
            eq("OK", w.code(OpCode.exists, new GetDataRequest("/", false)), "still serving");
        }
    }

    private void badType() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            for (int type : new int[] {0, 6, -3}) {
                eq("MARSHALLINGERROR", w.code(OpCode.removeWatches, new RemoveWatchesRequest("/w-bt", type)), "remove " + type);
                eq("MARSHALLINGERROR", w.code(OpCode.checkWatches, new CheckWatchesRequest("/w-bt", type)), "check " + type);
            }
            eq("OK", w.code(OpCode.exists, new GetDataRequest("/", false)), "still serving");
        }
    }

    private void manyPaths() throws Exception {
        try (Client c = open(); Client w = open()) {
            int n = 2000;
            w.create("/w-many");
            Client.Log log = new Client.Log();
            for (int i = 0; i < n; i++) {
                c.zk.exists("/w-many/" + i, log, (rc, p, x, s) -> { }, null);
            }
            c.barrier();
            List<String> want = new ArrayList<>();
            for (int i = 0; i < n; i++) {
                w.zk.create("/w-many/" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, x, s) -> { }, null);
                want.add("NodeCreated /w-many/" + i);
            }
            w.barrier();
            c.barrier();
            eq(want, log.lines(), "events in order of the creates");
        }
    }

    private void goneWithConnection() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            for (int i = 0; i < 20; i++) {
                w.call(OpCode.addWatch, new AddWatchRequest("/w-gone" + i, 1));
            }
            eq(1, watchesOn("/w-gone7"), "watches while connected");
        }
        eventually(0, () -> watchesOn("/w-gone7"), 10, "watches after the connection closed");
    }
}
