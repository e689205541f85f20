package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Access control: schemes, which permission each operation needs, masking, errors. */
final class Acls {
    private final Harness.Server server;

    Acls(Harness.Server server) {
        this.server = server;
    }

    private Client open(String... digests) throws Exception {
        Client c = new Client(server.address());
        for (String d : digests) {
            c.zk.addAuthInfo("digest", bytes(d));
        }
        return c;
    }

    private static List<ACL> acl(Object... permsSchemeId) {
        List<ACL> list = new ArrayList<>();
        for (int i = 0; i < permsSchemeId.length; i += 3) {
            list.add(new ACL((Integer) permsSchemeId[i],
                new Id((String) permsSchemeId[i + 1], (String) permsSchemeId[i + 2])));
        }
        return list;
    }

    private static String digest(String userPassword) throws Exception {
        return DigestAuthenticationProvider.generateDigest(userPassword);
    }

    void run() {
        test("acl.noauth-on-each-op", this::noAuthEverywhere);
        test("acl.each-permission-allows-its-ops", this::permissionTable);
        test("acl.auth-expands-to-every-digest", this::authExpansion);
        test("acl.auth-without-identity-is-invalid", this::authWithout);
        test("acl.creator-all", this::creatorAll);
        test("acl.ip", this::ip);
        test("acl.invalid-lists", this::invalid);
        test("acl.super", this::superUser);
        test("acl.get-acl-masks-digests", this::masking);
        test("acl.set-acl-versions-and-stat", this::setAcl);
        test("acl.duplicates-are-dropped", this::duplicates);
        test("acl.wrong-password", this::wrongPassword);
        test("acl.survives-reconnect", this::reconnect);
        test("acl.unknown-scheme-fails-auth", this::unknownScheme);
        test("acl.multi-denied", this::multiDenied);
        test("acl.delete-needs-the-parent", this::deleteNeedsParent);
    }

    private void noAuthEverywhere() throws Exception {
        try (Client owner = open("alice:pw"); Client stranger = open("mallory:pw")) {
            String p = "/acl-no";
            owner.zk.create(p, bytes("secret"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            owner.zk.create(p + "/kid", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            eq("NOAUTH", code(() -> stranger.create(p + "/new")), "create");
            eq("NOAUTH", code(() -> stranger.create(p + "/new-", "", CreateMode.EPHEMERAL_SEQUENTIAL)), "create sequential");
            eq("NOAUTH", code(Client.call(() -> stranger.zk.delete(p + "/kid", -1))), "delete");
            eq("NOAUTH", code(() -> stranger.zk.exists(p, false)), "exists");
            eq("NOAUTH", code(() -> stranger.zk.getData(p, false, null)), "getData");
            eq("NOAUTH", code(() -> stranger.zk.setData(p, null, -1)), "setData");
            eq("NOAUTH", code(() -> stranger.zk.getChildren(p, false)), "getChildren");
            eq("NOAUTH", code(() -> stranger.zk.getChildren(p, false, new Stat())), "getChildren2");
            eq("NOAUTH", code(() -> stranger.zk.getACL(p, new Stat())), "getACL");
            eq("NOAUTH", code(() -> stranger.zk.setACL(p, Ids.OPEN_ACL_UNSAFE, -1)), "setACL");
            eq("NOAUTH", code(() -> stranger.zk.getAllChildrenNumber(p)), "getAllChildrenNumber");
            eq("NOAUTH", code(() -> stranger.zk.multi(List.of(Op.check(p, -1)))), "check");
            eq("NOAUTH", code(() -> stranger.zk.setData(p, null, 77)), "permission comes before version");
            eq("OK", code(Client.call(() -> stranger.zk.addWatch(p, e -> { }, AddWatchMode.PERSISTENT))), "addWatch");
            List<OpResult> reads = stranger.zk.multi(List.of(Op.getData(p), Op.getChildren("/zookeeper")));
            eq(KeeperException.Code.NOAUTH.intValue(), ((OpResult.ErrorResult) reads.get(0)).getErr(), "multiRead");
            yes(reads.get(1) instanceof OpResult.GetChildrenResult, "the other read of the multi");
            stranger.zk.getData(p + "/kid", false, null); // permissions are not inherited
            eq("secret", new String(owner.zk.getData(p, false, null)), "the owner");
        }
    }

    private void permissionTable() throws Exception {
        try (Client admin = open("super:interop"); Client user = open()) {
            int[] perms = {Perms.READ, Perms.WRITE, Perms.CREATE, Perms.DELETE, Perms.ADMIN};
            String[] names = {"READ", "WRITE", "CREATE", "DELETE", "ADMIN"};
            for (int i = 0; i < perms.length; i++) {
                String p = "/acl-perm-" + names[i];
                admin.zk.create(p, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                admin.create(p + "/kid");
                int perm = perms[i];
                admin.zk.setACL(p, acl(perm, "world", "anyone"), -1);
                String with = "with " + names[i] + ": ";
                eq(may(perm, Perms.READ), code(() -> user.zk.getData(p, false, null)), with + "getData");
                eq(may(perm, Perms.READ), code(() -> user.zk.exists(p, false)), with + "exists");
                eq(may(perm, Perms.READ), code(() -> user.zk.getChildren(p, false)), with + "getChildren");
                eq(may(perm, Perms.READ), code(() -> user.zk.getAllChildrenNumber(p)), with + "getAllChildrenNumber");
                eq(may(perm, Perms.READ), code(() -> user.zk.multi(List.of(Op.check(p, -1)))), with + "check");
                eq(may(perm, Perms.READ | Perms.ADMIN), code(() -> user.zk.getACL(p, null)), with + "getACL");
                eq(may(perm, Perms.WRITE), code(() -> user.zk.setData(p, null, -1)), with + "setData");
                eq(may(perm, Perms.CREATE), code(() -> user.create(p + "/new")), with + "create");
                eq(may(perm, Perms.DELETE), code(Client.call(() -> user.zk.delete(p + "/kid", -1))), with + "delete");
                eq(may(perm, Perms.ADMIN), code(() -> user.zk.setACL(p, acl(perm, "world", "anyone"), -1)), with + "setACL");
            }
        }
    }

    private static String may(int has, int needsAny) {
        return (has & needsAny) != 0 ? "OK" : "NOAUTH";
    }

    private void authExpansion() throws Exception {
        try (Client c = open("alice:pw", "bob:pw"); Client bob = open("bob:pw"); Client eve = open("eve:pw")) {
            c.zk.create("/acl-auth", null, acl(Perms.ALL, "auth", "ignored:text"), CreateMode.PERSISTENT);
            List<ACL> got = c.zk.getACL("/acl-auth", null);
            got.sort((a, b) -> a.getId().getId().compareTo(b.getId().getId()));
            eq(acl(Perms.ALL, "digest", digest("alice:pw"), Perms.ALL, "digest", digest("bob:pw")), got, "stored ACL");
            eq("OK", code(() -> bob.zk.setData("/acl-auth", null, -1)), "second identity");
            eq("NOAUTH", code(() -> eve.zk.setData("/acl-auth", null, -1)), "another");
        }
    }

    private void authWithout() throws Exception {
        try (Client c = open()) {
            eq("INVALIDACL", code(() -> c.zk.create("/acl-auth0", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT)), "create");
            c.create("/acl-auth1");
            eq("INVALIDACL", code(() -> c.zk.setACL("/acl-auth1", Ids.CREATOR_ALL_ACL, -1)), "setACL");
            eq(false, c.has("/acl-auth0"), "nothing was made");
        }
    }

    private void creatorAll() throws Exception {
        try (Client c = open("carol:pw"); Client same = open("carol:pw")) {
            c.zk.create("/acl-mine", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            eq(acl(Perms.ALL, "digest", digest("carol:pw")), c.zk.getACL("/acl-mine", null), "ACL");
            eq("OK", code(() -> same.zk.setData("/acl-mine", null, -1)), "same identity, other session");
        }
    }

    private void ip() throws Exception {
        try (Client c = open(); Client admin = open("super:interop")) {
            String[][] cases = {
                {"127.0.0.1", "OK"}, {"127.0.0.0/8", "OK"}, {"127.0.0.1/32", "OK"}, {"0.0.0.0/0", "OK"},
                {"10.0.0.0/8", "NOAUTH"}, {"127.0.0.2", "NOAUTH"}, {"127.0.0.2/32", "NOAUTH"}, {"127.0.0.3/30", "OK"},
                {"::1", "NOAUTH"}, {"fe80::/10", "NOAUTH"},
            };
            int i = 0;
            for (String[] k : cases) {
                String p = "/acl-ip" + i++;
                c.zk.create(p, null, acl(Perms.ALL, "ip", k[0]), CreateMode.PERSISTENT);
                eq(k[1], code(() -> c.zk.getData(p, false, null)), "ip:" + k[0]);
                eq(acl(Perms.ALL, "ip", k[0]), admin.zk.getACL(p, null), "stored");
            }
            for (String bad : List.of("", "localhost", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4/33", "1.2.3.4/-1",
                    "1.2.3.4/x", "1.2.3.4/8/8", ":::1", "::1/129")) {
                eq("INVALIDACL", code(() -> c.zk.create("/acl-ipbad", null, acl(Perms.ALL, "ip", bad),
                    CreateMode.PERSISTENT)), "ip:" + bad);
            }
        }
    }

    private void invalid() throws Exception {
        try (Client c = open()) {
            c.create("/acl-inv");
            Object[][] bad = {
                {"world", "everyone"}, {"world", ""}, {"digest", "nocolon"}, {"digest", "a:b:c"}, {"digest", ""},
                {"nosuchscheme", "x"}, {"", "x"}, {"sasl2", "x"},
            };
            for (Object[] k : bad) {
                List<ACL> list = acl(Perms.ALL, k[0], k[1]);
                String id = k[0] + ":" + k[1];
                eq("INVALIDACL", code(() -> c.zk.create("/acl-inv/x", null, list, CreateMode.PERSISTENT)), "create " + id);
                eq("INVALIDACL", code(() -> c.zk.setACL("/acl-inv", list, -1)), "setACL " + id);
                eq("INVALIDACL", code(() -> c.zk.setACL("/acl-inv",
                    acl(Perms.ALL, "world", "anyone", Perms.ALL, k[0], k[1]), -1)), "after a valid entry " + id);
            }
            eq("INVALIDACL", code(() -> c.zk.setACL("/acl-inv", List.of(), -1)), "empty list");
            eq(0, c.stat("/acl-inv").getAversion(), "aversion after refusals");
        }
    }

    private void superUser() throws Exception {
        try (Client owner = open("dan:pw"); Client root = open("super:interop"); Client fake = open("super:guess")) {
            owner.zk.create("/acl-super", bytes("x"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            eq("OK", code(() -> root.zk.getData("/acl-super", false, null)), "read");
            eq("OK", code(() -> root.zk.setData("/acl-super", null, -1)), "write");
            eq("OK", code(() -> root.create("/acl-super/kid")), "create");
            eq("OK", code(Client.call(() -> root.zk.delete("/acl-super/kid", -1))), "delete");
            eq(acl(Perms.ALL, "digest", digest("dan:pw")), root.zk.getACL("/acl-super", null), "unmasked ACL");
            eq("OK", code(() -> root.zk.setACL("/acl-super", acl(Perms.READ, "ip", "10.1.1.1"), -1)), "setACL");
            eq("OK", code(() -> root.zk.getData("/acl-super", false, null)), "still");
            eq("NOAUTH", code(() -> fake.zk.getData("/acl-super", false, null)), "wrong super password");
        }
    }

    private void masking() throws Exception {
        try (Client owner = open("erin:pw"); Client reader = open()) {
            List<ACL> list = acl(Perms.ALL, "digest", digest("erin:pw"), Perms.READ, "world", "anyone",
                Perms.READ, "ip", "10.0.0.1");
            owner.zk.create("/acl-mask", null, list, CreateMode.PERSISTENT);
            Stat s = new Stat();
            eq(list, owner.zk.getACL("/acl-mask", s), "with ADMIN");
            eq(owner.stat("/acl-mask"), s, "Stat of getACL");
            eq(acl(Perms.ALL, "digest", "erin:x", Perms.READ, "world", "anyone", Perms.READ, "ip", "10.0.0.1"),
                reader.zk.getACL("/acl-mask", null), "with READ only");
        }
    }

    private void setAcl() throws Exception {
        try (Client c = open("fred:pw")) {
            c.create("/acl-set", "d");
            Stat before = c.stat("/acl-set");
            Stat s = c.zk.setACL("/acl-set", acl(Perms.ALL, "auth", ""), 0);
            eq(1, s.getAversion(), "aversion");
            eq(before.getMzxid(), s.getMzxid(), "mzxid");
            eq(before.getVersion(), s.getVersion(), "version");
            eq(before.getPzxid(), s.getPzxid(), "pzxid");
            eq("BADVERSION", code(() -> c.zk.setACL("/acl-set", Ids.OPEN_ACL_UNSAFE, 0)), "old aversion");
            eq(2, c.zk.setACL("/acl-set", Ids.OPEN_ACL_UNSAFE, 1).getAversion(), "aversion");
            eq(Ids.OPEN_ACL_UNSAFE, c.zk.getACL("/acl-set", s), "read back");
            eq(c.stat("/acl-set"), s, "Stat");
        }
    }

    private void duplicates() throws Exception {
        try (Client c = open()) {
            c.zk.create("/acl-dup", null, acl(Perms.READ, "world", "anyone", Perms.ALL, "ip", "127.0.0.1",
                Perms.READ, "world", "anyone", Perms.WRITE, "world", "anyone"), CreateMode.PERSISTENT);
            eq(acl(Perms.READ, "world", "anyone", Perms.ALL, "ip", "127.0.0.1", Perms.WRITE, "world", "anyone"),
                c.zk.getACL("/acl-dup", null), "stored ACL");
        }
    }

    private void wrongPassword() throws Exception {
        try (Client owner = open("gina:right"); Client other = open("gina:wrong")) {
            owner.zk.create("/acl-pw", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            eq("NOAUTH", code(() -> other.zk.getData("/acl-pw", false, null)), "wrong password");
            other.zk.addAuthInfo("digest", bytes("gina:right"));
            eventually("OK", () -> code(() -> other.zk.getData("/acl-pw", false, null)), 10, "after the right one");
        }
    }

    private void reconnect() throws Exception {
        try (Harness.Proxy proxy = new Harness.Proxy(server.port); Client c = new Client(proxy.address())) {
            c.zk.addAuthInfo("digest", bytes("hana:pw"));
            c.zk.create("/acl-re", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            c.forget();
            proxy.cut();
            c.await(KeeperState.Disconnected);
            proxy.heal();
            c.await(KeeperState.SyncConnected);
            eq("OK", code(() -> c.zk.getData("/acl-re", false, null)), "auth is sent again");
        }
    }

    private void unknownScheme() throws Exception {
        try (Client c = open()) {
            c.zk.addAuthInfo("nosuchscheme", bytes("x"));
            c.await(KeeperState.AuthFailed);
            eq("AUTHFAILED", code(() -> c.zk.getData("/", false, null)), "later call");
        }
    }

    private void multiDenied() throws Exception {
        try (Client owner = open("ivan:pw"); Client c = open()) {
            owner.zk.create("/acl-multi", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            Callable<?> multi = () -> c.zk.multi(List.of(
                Op.create("/acl-multi-open", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.setData("/acl-multi", null, -1)));
            eq("NOAUTH", code(multi), "multi");
            eq(false, c.has("/acl-multi-open"), "the allowed part was not done");
        }
    }

    private void deleteNeedsParent() throws Exception {
        try (Client owner = open("jane:pw"); Client c = open()) {
            owner.create("/acl-del");
            owner.zk.create("/acl-del/locked", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            eq("OK", code(Client.call(() -> c.zk.delete("/acl-del/locked", -1))), "the node's own ACL does not matter");
        }
    }
}
