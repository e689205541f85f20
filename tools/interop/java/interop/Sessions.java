package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.OpCode;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.proto.ConnectResponse;
import org.apache.zookeeper.proto.CreateRequest;
import org.apache.zookeeper.proto.ExistsRequest;
import org.apache.zookeeper.proto.GetDataRequest;

/** Sessions on a server that keeps running: handshake, expiry, resuming, moving to another connection, setWatches. */
final class Sessions {
    private final Harness.Server server;

    Sessions(Harness.Server server) {
        this.server = server;
    }

    private Client open() throws Exception {
        return new Client(server.address());
    }

    void run() {
        test("session.timeout-clamped", this::clamped);
        test("session.ids-and-passwords", this::ids);
        test("session.password-is-apaches-function-of-the-id", this::password);
        test("session.resume-keeps-ephemerals", this::resume);
        test("session.resume-wrong-password-expires", this::wrongPassword);
        test("session.resume-unknown-id-expires", this::unknownId);
        test("session.resume-renegotiates-timeout", this::renegotiate);
        test("session.closed-cannot-resume", this::closed);
        test("session.moves-to-newer-connection", this::moved);
        test("session.wrong-password-closes-the-live-connection", this::moveWithWrongPassword);
        test("session.silence-expires-and-deletes-ephemerals", this::expiry);
        test("session.pings-keep-it", this::pings);
        test("session.requests-keep-it", this::requestsKeep);
        test("session.connection-loss-does-not-end-it", this::lossKeeps);
        test("session.client-ahead-is-refused", this::aheadRefused);
        test("session.close-replies-then-ends", this::closeReplies);
        test("session.requests-after-close-are-dropped", this::afterClose);
        test("session.expired-event-in-the-java-client", this::expiredEvent);
        test("session.read-only-client-on-a-full-server", this::readOnlyClient);
        test("session.rearm-events-missed-while-away", this::rearm);
        test("session.rearm-persistent", this::rearmPersistent);
        test("session.rearm-in-several-batches", this::rearmBatches);
        test("session.ops-outstanding-at-a-cut-fail-and-later-ones-work", this::outstanding);
        test("session.many-at-once", this::many);
        test("session.closing-one-leaves-others", this::closingOne);
        test("session.idle-handshake-is-closed", this::idleHandshake);
    }

    private void clamped() throws Exception {
        int[][] asked = {{1, 1000}, {0, 1000}, {-5, 1000}, {1000, 1000}, {1001, 1001}, {30000, 30000}, {600000, 600000},
            {600001, 600000}, {Integer.MAX_VALUE, 600000}};
        for (int[] k : asked) {
            try (Wire w = Wire.open(server.port, k[0])) {
                eq(k[1], w.session.getTimeOut(), "timeout granted for " + k[0]);
                w.call(OpCode.closeSession, null);
            }
        }
        try (Client c = new Client(server.address(), 123456)) {
            eq(123456, c.zk.getSessionTimeout(), "in the Java client");
        }
    }

    private void ids() throws Exception {
        Set<Long> ids = new HashSet<>();
        long last = 0;
        for (int i = 0; i < 20; i++) {
            try (Wire w = Wire.open(server.port, 10000)) {
                long id = w.session.getSessionId();
                yes(ids.add(id), "a fresh id");
                eq(1L, id >>> 56, "top byte: server id of a standalone server");
                yes(last == 0 || id > last, "ids grow");
                last = id;
                eq(16, w.session.getPasswd().length, "password length");
                yes(!Arrays.equals(new byte[16], w.session.getPasswd()), "password is not zero");
                eq(0, w.session.getProtocolVersion(), "protocol version");
                eq(false, w.session.getReadOnly(), "readOnly");
                w.call(OpCode.closeSession, null);
            }
        }
    }

    private void password() throws Exception {
        try (Wire w = Wire.open(server.port, 10000)) {
            byte[] want = new byte[16];
            new java.util.Random(w.session.getSessionId() ^ 0xB3415C00L).nextBytes(want);
            eq(want, w.session.getPasswd(), "password");
        }
    }

    private void resume() throws Exception {
        ConnectResponse s;
        try (Wire w = Wire.open(server.port, 30000)) {
            s = w.session;
            eq("OK", w.code(OpCode.create, new CreateRequest("/s-res", null, Ids.OPEN_ACL_UNSAFE, 1)), "ephemeral");
        }
        try (Client c = new Client(server.address(), 30000, s.getSessionId(), s.getPasswd())) {
            c.await(KeeperState.SyncConnected);
            eq(s.getSessionId(), c.zk.getSessionId(), "id");
            eq(s.getSessionId(), c.stat("/s-res").getEphemeralOwner(), "owner");
            eq(List.of("/s-res"), c.zk.getEphemerals(), "its ephemerals");
        }
        try (Client c = open()) {
            eq(false, c.has("/s-res"), "ephemeral after the resumed session closed");
        }
    }

    private void refused(ConnectResponse answer, Wire w) throws Exception {
        yes(answer != null, "an answer to the resume");
        eq(0, answer.getTimeOut(), "timeOut");
        eq(0L, answer.getSessionId(), "sessionId");
        eq(new byte[16], answer.getPasswd(), "passwd");
        yes(w.closedWithin(10000), "connection closed after the refusal");
    }

    private void wrongPassword() throws Exception {
        try (Wire owner = Wire.open(server.port, 30000)) {
            for (byte[] pw : List.of(new byte[16], new byte[0], bytes("0123456789abcdef"))) {
                try (Wire w = new Wire(server.port)) {
                    refused(w.connect(30000, owner.session.getSessionId(), pw, 0), w);
                }
            }
            try (Client c = new Client(server.address(), 30000, owner.session.getSessionId(), bytes("0123456789abcdef"))) {
                c.await(KeeperState.Expired);
            }
            // The session itself is untouched.
            try (Wire again = new Wire(server.port)) {
                ConnectResponse r = again.connect(30000, owner.session.getSessionId(), owner.session.getPasswd(), 0);
                eq(owner.session.getSessionId(), r.getSessionId(), "resume with the right password");
            }
        }
    }

    private void unknownId() throws Exception {
        long id = 0x0100000000abcdefL;
        byte[] pw = new byte[16];
        new java.util.Random(id ^ 0xB3415C00L).nextBytes(pw);
        try (Wire w = new Wire(server.port)) {
            refused(w.connect(30000, id, pw, 0), w);
        }
        try (Client c = new Client(server.address(), 30000, id, pw)) {
            c.await(KeeperState.Expired);
        }
    }

    private void renegotiate() throws Exception {
        try (Wire first = Wire.open(server.port, 30000); Wire w = new Wire(server.port)) {
            ConnectResponse r = w.connect(45678, first.session.getSessionId(), first.session.getPasswd(), 0);
            eq(45678, r.getTimeOut(), "timeout of the resumed session");
        }
    }

    private void closed() throws Exception {
        ConnectResponse s;
        try (Wire w = Wire.open(server.port, 30000)) {
            s = w.session;
            eq("OK", w.code(OpCode.closeSession, null), "close");
        }
        try (Wire w = new Wire(server.port)) {
            refused(w.connect(30000, s.getSessionId(), s.getPasswd(), 0), w);
        }
    }

    private void moved() throws Exception {
        try (Wire a = Wire.open(server.port, 30000); Wire b = new Wire(server.port)) {
            eq("OK", a.code(OpCode.create, new CreateRequest("/s-mv", null, Ids.OPEN_ACL_UNSAFE, 1)), "ephemeral");
            eq(a.session.getSessionId(), b.connect(30000, a.session.getSessionId(), a.session.getPasswd(), 0).getSessionId(),
                "second connection");
            yes(a.closedWithin(10000), "the first connection is closed");
            eq("OK", b.code(OpCode.exists, new ExistsRequest("/s-mv", false)), "its ephemeral");
            try (Wire third = new Wire(server.port)) {
                third.connect(30000, a.session.getSessionId(), a.session.getPasswd(), 0);
                yes(b.closedWithin(10000), "and so on");
                eq("OK", third.code(OpCode.closeSession, null), "close");
            }
        }
    }

    private void moveWithWrongPassword() throws Exception {
        try (Wire a = Wire.open(server.port, 30000); Wire b = new Wire(server.port)) {
            refused(b.connect(30000, a.session.getSessionId(), new byte[16], 0), b);
            yes(a.closedWithin(10000), "the live connection is closed before the password is looked at");
        }
    }

    private void expiry() throws Exception {
        try (Client watcher = open(); Wire w = Wire.open(server.port, 1000)) {
            watcher.create("/s-exp");
            Client.Log log = new Client.Log();
            eq("OK", w.code(OpCode.create, new CreateRequest("/s-exp/e", null, Ids.OPEN_ACL_UNSAFE, 1)), "ephemeral");
            watcher.zk.exists("/s-exp/e", log);
            long began = System.nanoTime();
            eventually(List.of("NodeDeleted /s-exp/e"), log::lines, 20, "event of the expiry");
            double seconds = (System.nanoTime() - began) / 1e9;
            yes(seconds > 0.7, "not before its timeout of 1 s (took " + seconds + " s)");
            yes(w.closedWithin(10000), "its connection is closed");
            try (Wire again = new Wire(server.port)) {
                refused(again.connect(1000, w.session.getSessionId(), w.session.getPasswd(), 0), again);
            }
        }
    }

    private void pings() throws Exception {
        try (Wire w = Wire.open(server.port, 1000)) {
            w.code(OpCode.create, new CreateRequest("/s-ping", null, Ids.OPEN_ACL_UNSAFE, 1));
            for (int i = 0; i < 20; i++) {
                Thread.sleep(200);
                w.send(-2, OpCode.ping, null);
                eq(-2, w.reply().header.getXid(), "xid of the ping reply");
            }
            eq("OK", w.code(OpCode.exists, new ExistsRequest("/s-ping", false)), "after four timeouts");
        }
    }

    private void requestsKeep() throws Exception {
        try (Wire w = Wire.open(server.port, 1000)) {
            w.code(OpCode.create, new CreateRequest("/s-req", null, Ids.OPEN_ACL_UNSAFE, 1));
            for (int i = 0; i < 15; i++) {
                Thread.sleep(200);
                eq("OK", w.code(OpCode.exists, new ExistsRequest("/s-req", false)), "read number " + i);
            }
        }
    }

    private void lossKeeps() throws Exception {
        ConnectResponse s;
        try (Wire w = Wire.open(server.port, 8000)) {
            s = w.session;
            w.code(OpCode.create, new CreateRequest("/s-loss", null, Ids.OPEN_ACL_UNSAFE, 1));
        }
        try (Client c = open()) {
            Thread.sleep(2000);
            yes(c.has("/s-loss"), "ephemeral 2 s after its connection went, with a timeout of 8 s");
            eventually(false, () -> c.has("/s-loss"), 30, "ephemeral after the timeout");
        }
    }

    private void aheadRefused() throws Exception {
        try (Wire w = new Wire(server.port)) {
            eq(null, w.connect(30000, 0, new byte[16], Long.MAX_VALUE), "answer to a client from the future");
        }
        try (Wire owner = Wire.open(server.port, 30000); Wire w = new Wire(server.port)) {
            eq(null, w.connect(30000, owner.session.getSessionId(), owner.session.getPasswd(), 1L << 60), "resume from the future");
            eq("OK", owner.code(OpCode.exists, new ExistsRequest("/", false)), "the live connection is not harmed");
        }
        try (Client c = open(); Wire w = new Wire(server.port)) {
            c.create("/s-ahead");
            long now = c.stat("/s-ahead").getCzxid();
            yes(w.connect(30000, 0, new byte[16], now) != null, "a client that has seen the last zxid is welcome");
        }
    }

    private void closeReplies() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            w.code(OpCode.create, new CreateRequest("/s-close", null, Ids.OPEN_ACL_UNSAFE, 1));
            eq("OK", w.code(OpCode.closeSession, null), "reply");
            eq(null, w.read(), "then the end of the connection");
            eq(false, c.has("/s-close"), "ephemeral after the reply");
        }
    }

    private void afterClose() throws Exception {
        try (Wire w = Wire.open(server.port, 30000); Client c = open()) {
            w.send(1, OpCode.closeSession, null);
            try {
                w.send(2, OpCode.create, new CreateRequest("/s-after", null, Ids.OPEN_ACL_UNSAFE, 0));
            } catch (java.io.IOException closedAlready) {
                // The server closed it first, which is right too.
            }
            w.closedWithin(10000);
            Thread.sleep(200);
            eq(false, c.has("/s-after"), "a create sent after closeSession");
        }
    }

    private void expiredEvent() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address(), 2000); Client other = open()) {
            c.create("/s-ev", "", CreateMode.EPHEMERAL);
            Client.Log log = new Client.Log();
            c.zk.exists("/s-ev-other", log);
            proxy.cut();
            c.await(KeeperState.Disconnected);
            eventually(false, () -> other.has("/s-ev"), 30, "ephemeral of the lost client");
            proxy.heal();
            c.await(KeeperState.Expired);
            eq("SESSIONEXPIRED", code(() -> c.zk.exists("/", false)), "a call after expiry");
            eq(ZooKeeper.States.CLOSED, c.zk.getState(), "state");
        }
    }

    private void readOnlyClient() throws Exception {
        List<KeeperState> states = java.util.Collections.synchronizedList(new ArrayList<>());
        try (ZooKeeper zk = new ZooKeeper(server.address(), 30000, e -> states.add(e.getState()), true)) {
            eventually(ZooKeeper.States.CONNECTED, zk::getState, 20, "state of a client that allows read-only");
            zk.create("/s-ro", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            eq(List.of(KeeperState.SyncConnected), new ArrayList<>(states), "states seen");
        }
    }

    private static void cutFor(Harness.Proxy proxy, Client c, Harness.Body meanwhile) throws Exception {
        c.forget();
        proxy.cut();
        c.await(KeeperState.Disconnected);
        meanwhile.run();
        c.forget();
        proxy.heal();
        c.await(KeeperState.SyncConnected);
        c.barrier();
    }

    private void rearm() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address()); Client w = open()) {
            for (String p : List.of("/s-ra", "/s-ra/set", "/s-ra/del", "/s-ra/kids", "/s-ra/same", "/s-ra/del2", "/s-ra/delkids",
                    "/s-ra/touched", "/s-ra/touched/k")) {
                w.create(p);
            }
            Client.Log log = new Client.Log();
            c.zk.getData("/s-ra/set", log, null);
            c.zk.getData("/s-ra/del", log, null);
            c.zk.getChildren("/s-ra/kids", log);
            c.zk.getData("/s-ra/same", log, null);
            c.zk.getChildren("/s-ra/same", log);
            c.zk.exists("/s-ra/new", log);
            c.zk.exists("/s-ra/del2", log);
            c.zk.exists("/s-ra/never", log);
            c.zk.getChildren("/s-ra/delkids", log);
            c.zk.getChildren("/s-ra/touched", log);
            long id = c.zk.getSessionId();
            cutFor(proxy, c, () -> {
                w.zk.setData("/s-ra/set", null, -1);
                w.zk.delete("/s-ra/del", -1);
                w.create("/s-ra/kids/x");
                w.create("/s-ra/new");
                w.zk.delete("/s-ra/del2", -1);
                w.zk.delete("/s-ra/delkids", -1);
                w.zk.setData("/s-ra/touched/k", null, -1); // not a change of the children
            });
            eq(id, c.zk.getSessionId(), "session");
            eq(new TreeSet<>(List.of("NodeDataChanged /s-ra/set", "NodeDeleted /s-ra/del", "NodeChildrenChanged /s-ra/kids",
                "NodeCreated /s-ra/new", "NodeDeleted /s-ra/del2", "NodeDeleted /s-ra/delkids")),
                new TreeSet<>(log.lines()), "events of what was missed");
            eq(6, log.lines().size(), "each once");
            for (org.apache.zookeeper.WatchedEvent e : log.events) {
                eq(-1L, e.getZxid(), "zxid of a replayed event");
            }
            log.clear();
            w.zk.setData("/s-ra/same", null, -1);
            w.create("/s-ra/same/k");
            w.create("/s-ra/never");
            w.create("/s-ra/touched/l");
            c.expect(log, "NodeDataChanged /s-ra/same", "NodeChildrenChanged /s-ra/same", "NodeCreated /s-ra/never",
                "NodeChildrenChanged /s-ra/touched");
        }
    }

    private void rearmPersistent() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address()); Client w = open()) {
            w.create("/s-rp");
            Client.Log per = new Client.Log();
            Client.Log rec = new Client.Log();
            c.zk.addWatch("/s-rp", per, AddWatchMode.PERSISTENT);
            c.zk.addWatch("/s-rp", rec, AddWatchMode.PERSISTENT_RECURSIVE);
            w.create("/s-rp/a");
            // On one connection both modes on one path are one watch: the server sends each
            // change once, and the client passes it to both kinds of watchers.
            c.barrier();
            List<String> perBefore = per.lines();
            yes(perBefore.contains("NodeChildrenChanged /s-rp"), "persistent before the cut: " + perBefore);
            yes(rec.lines().contains("NodeCreated /s-rp/a"), "recursive before the cut: " + rec.lines());
            per.clear();
            rec.clear();
            cutFor(proxy, c, () -> w.create("/s-rp/missed"));
            c.expect(per);
            c.expect(rec);
            w.create("/s-rp/b");
            w.create("/s-rp/b/c");
            w.zk.setData("/s-rp", null, -1);
            c.barrier();
            eq(List.of("NodeCreated /s-rp/b", "NodeCreated /s-rp/b/c", "NodeDataChanged /s-rp"), without(rec.lines()), "recursive");
            eq(List.of("NodeChildrenChanged /s-rp", "NodeDataChanged /s-rp"), per.lines(), "persistent");
        }
    }

    private static List<String> without(List<String> lines) {
        lines.removeIf(l -> l.startsWith("NodeChildrenChanged"));
        return lines;
    }

    private void rearmBatches() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address()); Client w = open()) {
            // One SetWatches contains at most 128 KiB of paths, so this needs several.
            String name = "x".repeat(300);
            int n = 1200;
            w.create("/s-rb");
            Client.Log log = new Client.Log();
            for (int i = 0; i < n; i++) {
                c.zk.exists("/s-rb/" + name + i, log, (rc, p, x, s) -> { }, null);
            }
            c.barrier();
            cutFor(proxy, c, () -> {
                for (int i = 0; i < n; i += 2) {
                    w.zk.create("/s-rb/" + name + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, x, s) -> { }, null);
                }
                w.barrier();
            });
            eventually(n / 2, () -> log.lines().size(), 20, "events of what was missed");
            for (int i = 1; i < n; i += 2) {
                w.zk.create("/s-rb/" + name + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, x, s) -> { }, null);
            }
            w.barrier();
            c.barrier();
            eq(n, new HashSet<>(log.lines()).size(), "distinct events in the end");
            eq(n, log.lines().size(), "events in the end");
        }
    }

    private void outstanding() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address())) {
            c.create("/s-out");
            AtomicInteger ok = new AtomicInteger();
            AtomicInteger lost = new AtomicInteger();
            AtomicInteger odd = new AtomicInteger();
            int n = 3000;
            for (int i = 0; i < n; i++) {
                if (i == n / 2) {
                    proxy.cut();
                    proxy.heal();
                }
                c.zk.create("/s-out/" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, x, name) -> {
                    if (rc == 0) {
                        ok.incrementAndGet();
                    } else if (rc == -4) {
                        lost.incrementAndGet();
                    } else {
                        odd.incrementAndGet();
                    }
                }, null);
            }
            eventually(n, () -> ok.get() + lost.get() + odd.get(), 40, "answers");
            eq(0, odd.get(), "answers that are neither OK nor connection loss");
            eventually("CONNECTED", () -> c.zk.getState().name(), 20, "state");
            int made = c.zk.getChildren("/s-out", false).size();
            yes(made >= ok.get() && made <= ok.get() + lost.get(), "acknowledged " + ok + ", lost " + lost + ", made " + made);
        }
    }

    private void many() throws Exception {
        List<Client> all = new ArrayList<>();
        try {
            for (int i = 0; i < 40; i++) {
                all.add(new Client(server.address()));
                all.get(i).create("/s-many" + i, "", CreateMode.EPHEMERAL);
            }
            eq(40, all.get(0).zk.getChildren("/", false).stream().filter(n -> n.startsWith("s-many")).mapToInt(n -> 1).sum(),
                "ephemerals");
        } finally {
            for (Client c : all) {
                c.close();
            }
        }
        try (Client c = open()) {
            eq(0, c.zk.getChildren("/", false).stream().filter(n -> n.startsWith("s-many")).mapToInt(n -> 1).sum(),
                "ephemerals after closing");
        }
    }

    private void closingOne() throws Exception {
        try (Client a = open(); Client b = open()) {
            a.create("/s-c1");
            a.create("/s-c1/a", "", CreateMode.EPHEMERAL);
            b.create("/s-c1/b", "", CreateMode.EPHEMERAL);
            a.close();
            eq(List.of("b"), b.zk.getChildren("/s-c1", false), "children");
        }
    }

    /** nio.sessionlessCnxnTimeout, set to 3 s by Main. */
    private void idleHandshake() throws Exception {
        try (Wire w = new Wire(server.port)) {
            long began = System.nanoTime();
            yes(w.closedWithin(30000), "a connection that never shakes hands is closed");
            double seconds = (System.nanoTime() - began) / 1e9;
            yes(seconds > 2, "but not at once (after " + seconds + " s)");
        }
    }
}
