package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.List;
import java.util.TreeSet;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.OpCode;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.proto.ConnectResponse;
import org.apache.zookeeper.proto.CreateRequest;

/** Tests that stop or kill the server, or configure it differently. */
final class Restarts {
    void run() {
        test("restart.clean-keeps-session-watches-and-nodes", () -> survives(false));
        test("restart.kill-9-keeps-session-watches-and-nodes", () -> survives(true));
        test("restart.session-not-resumed-expires", this::expiresAfterRestart);
        test("restart.sequence-counter-and-zxid-go-on", this::counters);
        test("restart.auth-and-acl", this::auth);
        test("restart.fresh-server-refuses-a-client-from-the-future", this::future);
        test("config.reconfig-enabled-standalone", this::reconfigEnabled);
        test("config.extended-types-off", this::extendedTypesOff);
        test("config.whitelist-default", this::whitelist);
        test("config.max-client-cnxns", this::maxClientCnxns);
        test("config.quota-not-enforced", this::quotaNotEnforced);
        test("config.skip-acl", this::skipAcl);
        test("config.jute-maxbuffer", this::juteMaxbuffer);
    }

    private void survives(boolean kill) throws Exception {
        try (Harness.Server server = new Harness.Server("restart-" + (kill ? "kill" : "term"), "").start();
                Client c = new Client(server.address()); Client w = new Client(server.address())) {
            c.create("/r", "root");
            c.create("/r/eph", "e", CreateMode.EPHEMERAL);
            c.create("/r/seq-", "", CreateMode.PERSISTENT_SEQUENTIAL);
            c.zk.setData("/r", bytes("two"), 0);
            Client.Log log = new Client.Log();
            Client.Log rec = new Client.Log();
            c.zk.getData("/r", log, null);
            c.zk.exists("/r/later", log);
            c.zk.getChildren("/r", log);
            c.zk.addWatch("/r", rec, AddWatchMode.PERSISTENT_RECURSIVE);
            Stat before = c.stat("/r");
            Stat eph = c.stat("/r/eph");
            long id = c.zk.getSessionId();
            c.forget();
            w.forget();
            if (kill) {
                server.kill();
            } else {
                server.stop();
            }
            c.await(KeeperState.Disconnected);
            c.forget();
            server.start();
            c.await(KeeperState.SyncConnected);
            w.await(KeeperState.SyncConnected);
            c.barrier();
            eq(List.of(), log.lines(), "events of a restart without changes");
            eq(id, c.zk.getSessionId(), "session");
            eq(before, c.stat("/r"), "Stat");
            eq(eph, c.stat("/r/eph"), "Stat of the ephemeral");
            eq("two", new String(c.zk.getData("/r", false, null)), "data");
            w.zk.setData("/r", null, 1);
            w.create("/r/later");
            c.expect(log, "NodeDataChanged /r", "NodeCreated /r/later", "NodeChildrenChanged /r");
            c.barrier();
            List<String> recursive = rec.lines();
            recursive.removeIf(l -> l.startsWith("NodeChildrenChanged"));
            eq(List.of("NodeDataChanged /r", "NodeCreated /r/later"), recursive, "events of the recursive watch");
            c.close();
            eq(new TreeSet<>(List.of("later", "seq-0000000001")), new TreeSet<>(w.zk.getChildren("/r", false)),
                "children after its session closed");
        }
    }

    private void expiresAfterRestart() throws Exception {
        try (Harness.Server server = new Harness.Server("restart-expire", "").start()) {
            ConnectResponse s;
            try (Wire w = Wire.open(server.port, 10000)) {
                s = w.session;
                eq("OK", w.code(OpCode.create, new CreateRequest("/gone", null, Ids.OPEN_ACL_UNSAFE, 1)), "ephemeral");
            }
            server.kill();
            server.start();
            try (Client c = new Client(server.address())) {
                yes(c.has("/gone"), "ephemeral right after the restart: its session gets its full timeout again");
                eventually(false, () -> c.has("/gone"), 60, "ephemeral after the timeout");
                try (Wire w = new Wire(server.port)) {
                    eq(0, w.connect(10000, s.getSessionId(), s.getPasswd(), 0).getTimeOut(), "resume after expiry");
                }
            }
        }
    }

    private void counters() throws Exception {
        try (Harness.Server server = new Harness.Server("restart-counters", "").start()) {
            long zxid;
            long session;
            try (Client c = new Client(server.address())) {
                c.create("/n");
                for (int i = 0; i < 5; i++) {
                    c.create("/n/s", "", CreateMode.PERSISTENT_SEQUENTIAL);
                }
                c.zk.delete("/n/s0000000004", -1);
                c.zk.delete("/n/s0000000003", -1);
                zxid = c.stat("/n").getPzxid();
                session = c.zk.getSessionId();
            }
            for (boolean kill : new boolean[] {true, false}) {
                if (kill) {
                    server.kill();
                } else {
                    server.stop();
                }
                server.start();
                try (Client c = new Client(server.address())) {
                    String want = "/n/s000000000" + (kill ? 5 : 6);
                    eq(want, c.create("/n/s", "", CreateMode.EPHEMERAL_SEQUENTIAL), "counter after a restart");
                    yes(c.stat(want).getCzxid() > zxid, "zxid goes on");
                    zxid = c.stat(want).getCzxid();
                    yes(c.zk.getSessionId() != session, "a new session id");
                    session = c.zk.getSessionId();
                }
            }
        }
    }

    private void auth() throws Exception {
        try (Harness.Server server = new Harness.Server("restart-auth", "").start();
                Client c = new Client(server.address())) {
            c.zk.addAuthInfo("digest", bytes("u:p"));
            c.zk.create("/mine", bytes("m"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            c.forget();
            server.kill();
            server.start();
            c.await(KeeperState.SyncConnected);
            eq("m", new String(c.zk.getData("/mine", false, null)), "own data");
            try (Client other = new Client(server.address())) {
                eq("NOAUTH", code(() -> other.zk.getData("/mine", false, null)), "somebody else");
            }
        }
    }

    private void future() throws Exception {
        try (Harness.Server server = new Harness.Server("restart-future", "").start();
                Harness.Server empty = new Harness.Server("restart-empty", "").start()) {
            try (Client c = new Client(server.address())) {
                for (int i = 0; i < 10; i++) {
                    c.create("/f" + i);
                }
                long seen = c.stat("/f9").getCzxid();
                try (Wire w = new Wire(empty.port)) {
                    eq(null, w.connect(30000, 0, new byte[16], seen), "reply of a server that has applied less");
                }
            }
        }
    }

    private void reconfigEnabled() throws Exception {
        try (Harness.Server server = new Harness.Server("reconfig", "reconfigEnabled=true").start();
                ZooKeeperAdmin admin = new ZooKeeperAdmin(server.address(), Client.TIMEOUT_MS, e -> { })) {
            eventually("CONNECTED", () -> admin.getState().name(), 20, "admin client");
            admin.addAuthInfo("digest", bytes("super:interop"));
            eq("UNIMPLEMENTED", code(() -> admin.reconfigure("server.2=127.0.0.1:21990:21991:participant;21992",
                null, null, -1, new Stat())), "reconfig of a standalone server");
        }
    }

    private void extendedTypesOff() throws Exception {
        try (Harness.Server server = new Harness.Server("plain", "extendedTypesEnabled=false").start();
                Client c = new Client(server.address())) {
            eq("UNIMPLEMENTED", code(() -> c.zk.create("/t", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL,
                new Stat(), 1000)), "TTL create");
            eq("OK", code(() -> c.create("/c", "", CreateMode.CONTAINER)), "container create");
        }
    }

    private void whitelist() throws Exception {
        try (Harness.Server server = new Harness.Server("words", "4lw.commands.whitelist=srvr, ruok,isro").start()) {
            eq("imok", Harness.word(server.port, "ruok"), "listed");
            eq("rw", Harness.word(server.port, "isro"), "listed");
            for (String word : List.of("mntr", "conf", "stat", "dump")) {
                eq(word + " is not executed because it is not in the whitelist.\n", Harness.word(server.port, word), word);
            }
        }
    }

    private void maxClientCnxns() throws Exception {
        try (Harness.Server server = new Harness.Server("maxcnxns", "maxClientCnxns=5").start()) {
            Wire[] open = new Wire[5];
            for (int i = 0; i < 5; i++) {
                // The connections that asked whether the server is ready may be counted for a moment.
                int slot = i;
                eventually("session", () -> {
                    try {
                        open[slot] = new Wire(server.port);
                    } catch (java.io.IOException reset) {
                        return "closed";
                    }
                    return tryConnect(open[slot]);
                }, 20, "connection " + i + " of 5");
            }
            String sixth;
            try (Wire w = new Wire(server.port)) {
                sixth = tryConnect(w);
            } catch (java.io.IOException reset) {
                sixth = "closed";
            }
            eq("closed", sixth, "connection beyond the limit");
            eq("OK", open[0].code(OpCode.sync, new org.apache.zookeeper.proto.SyncRequest("/")), "those within are served");
            open[4].close();
            eventually("session", () -> {
                try (Wire again = new Wire(server.port)) {
                    return tryConnect(again);
                } catch (java.io.IOException reset) {
                    return "closed";
                }
            }, 20, "a connection after one left");
            for (Wire w : open) {
                w.close();
            }
        }
    }

    /** "session", or "closed" when the server closes or resets the connection. */
    private static String tryConnect(Wire w) {
        try {
            return w.connect(30000, 0, new byte[16], 0) == null ? "closed" : "session";
        } catch (java.io.IOException reset) {
            return "closed";
        }
    }

    private void quotaNotEnforced() throws Exception {
        try (Harness.Server server = new Harness.Server("noquota", "enforceQuota=false").start();
                Client c = new Client(server.address())) {
            c.create("/q");
            org.apache.zookeeper.StatsTrack limits = new org.apache.zookeeper.StatsTrack();
            limits.setCount(-1);
            limits.setBytes(-1);
            limits.setCountHardLimit(1);
            limits.setByteHardLimit(1);
            org.apache.zookeeper.cli.SetQuotaCommand.createQuota(c.zk, "/q", limits);
            eq("OK", code(() -> c.create("/q/a", "0123456789")), "beyond both hard limits");
            eq("count=2,bytes=10", new String(c.zk.getData("/zookeeper/quota/q/zookeeper_stats", false, null)), "usage");
        }
    }

    private void skipAcl() throws Exception {
        try (Harness.Server server = new Harness.Server("skipacl", "skipACL=yes").start();
                Client owner = new Client(server.address()); Client other = new Client(server.address())) {
            owner.zk.addAuthInfo("digest", bytes("a:b"));
            owner.zk.create("/x", bytes("v"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            eq("OK", code(() -> other.zk.setData("/x", null, -1)), "write by a stranger");
        }
    }

    private void juteMaxbuffer() throws Exception {
        try (Harness.Server server = new Harness.Server("jute", "", "-Djute.maxbuffer=2000").start();
                Client c = new Client(server.address())) {
            c.create("/j");
            eq("OK", code(() -> c.zk.setData("/j", new byte[2000 - 20 - 2], -1)), "2000 bytes");
            eq("CONNECTIONLOSS", code(() -> c.zk.setData("/j", new byte[2000 - 20 - 1], -1)), "2001 bytes");
        }
    }
}
