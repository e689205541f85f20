package interop;

import static interop.Harness.bytes;
import static interop.Harness.code;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;

import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.cli.DelQuotaCommand;
import org.apache.zookeeper.cli.SetQuotaCommand;

/** Quotas as zkCli sets them, soft and hard (the servers run with enforceQuota=true). */
final class Quota {
    private final Harness.Server server;

    Quota(Harness.Server server) {
        this.server = server;
    }

    private Client open() throws Exception {
        return new Client(server.address());
    }

    private static StatsTrack limits(long count, long bytes, long countHard, long bytesHard) {
        StatsTrack t = new StatsTrack();
        t.setCount(count);
        t.setBytes(bytes);
        t.setCountHardLimit(countHard);
        t.setByteHardLimit(bytesHard);
        return t;
    }

    private static String usage(Client c, String path) throws Exception {
        return new String(c.zk.getData("/zookeeper/quota" + path + "/zookeeper_stats", false, null));
    }

    void run() {
        test("quota.hard-count", this::hardCount);
        test("quota.hard-bytes", this::hardBytes);
        test("quota.soft-does-not-fail", this::soft);
        test("quota.usage-follows-the-subtree", this::usageFollows);
        test("quota.multi", this::multi);
        test("quota.removed", this::removed);
        test("quota.text", this::text);
        test("quota.not-nested", this::nested);
        test("quota.hard-wins-over-soft", this::hardOverSoft);
    }

    private void hardCount() throws Exception {
        try (Client c = open()) {
            c.create("/q-count");
            SetQuotaCommand.createQuota(c.zk, "/q-count", limits(-1, -1, 3, -1));
            c.create("/q-count/a");
            c.create("/q-count/a/b");
            eq("QUOTAEXCEEDED", code(() -> c.create("/q-count/c")), "fourth node");
            eq("QUOTAEXCEEDED", code(() -> c.create("/q-count/e", "", CreateMode.EPHEMERAL)), "an ephemeral counts");
            eq(false, c.has("/q-count/c"), "nothing was made");
            c.zk.delete("/q-count/a/b", -1);
            eq("OK", code(() -> c.create("/q-count/c")), "after a delete");
            c.create("/q-count-sibling"); // same prefix, other node
            eq("OK", code(() -> c.zk.setData("/q-count", new byte[5000], -1)), "bytes are not limited");
        }
    }

    private void hardBytes() throws Exception {
        try (Client c = open()) {
            c.create("/q-bytes", "1234567890");
            SetQuotaCommand.createQuota(c.zk, "/q-bytes", limits(-1, -1, -1, 20));
            eq("OK", code(() -> c.create("/q-bytes/a", "1234567890")), "up to the limit");
            eq("QUOTAEXCEEDED", code(() -> c.create("/q-bytes/b", "1")), "one more byte");
            eq("OK", code(() -> c.create("/q-bytes/empty")), "no bytes");
            eq("QUOTAEXCEEDED", code(() -> c.zk.setData("/q-bytes/a", bytes("12345678901"), -1)), "a longer value");
            eq("OK", code(() -> c.zk.setData("/q-bytes/a", bytes("12345"), -1)), "a shorter value");
            eq("OK", code(() -> c.create("/q-bytes/b", "12345")), "room again");
            eq("count=4,bytes=20", usage(c, "/q-bytes").replaceAll("=;.*", ""), "usage");
        }
    }

    private void soft() throws Exception {
        try (Client c = open()) {
            c.create("/q-soft");
            SetQuotaCommand.createQuota(c.zk, "/q-soft", limits(1, 1, -1, -1));
            eq("OK", code(() -> c.create("/q-soft/a", "0123456789")), "over both soft limits");
            eq("OK", code(() -> c.zk.setData("/q-soft/a", new byte[100], -1)), "over the soft byte limit");
            eq("count=2,bytes=100", usage(c, "/q-soft").replaceAll("=;.*", ""), "usage");
        }
    }

    private void usageFollows() throws Exception {
        try (Client c = open()) {
            c.create("/q-use", "12");
            c.create("/q-use/before", "345");
            SetQuotaCommand.createQuota(c.zk, "/q-use", limits(1000, 1000, -1, -1));
            eq("count=2,bytes=5", usage(c, "/q-use"), "computed when the quota is set");
            int version = c.stat("/zookeeper/quota/q-use/zookeeper_stats").getVersion();
            c.create("/q-use/a", "6789");
            c.zk.setData("/q-use/a", bytes("6"), -1);
            c.create("/q-use/e", "x", CreateMode.EPHEMERAL);
            eq("count=4,bytes=7", usage(c, "/q-use"), "after two creates and a set");
            c.zk.delete("/q-use/before", -1);
            eq("count=3,bytes=4", usage(c, "/q-use"), "after a delete");
            c.zk.setData("/q-use/a", null, -1);
            eq("count=3,bytes=3", usage(c, "/q-use"), "after a set to null");
            eq(version, c.stat("/zookeeper/quota/q-use/zookeeper_stats").getVersion(), "usage updates make no version");
            try (Client other = open()) {
                other.create("/q-use/other", "yy", CreateMode.EPHEMERAL);
                eq("count=4,bytes=5", usage(c, "/q-use"), "another session's ephemeral");
            }
            eventually("count=3,bytes=3", () -> usage(c, "/q-use"), 10, "usage after that session closed");
        }
    }

    private void multi() throws Exception {
        try (Client c = open()) {
            c.create("/q-multi");
            SetQuotaCommand.createQuota(c.zk, "/q-multi", limits(-1, -1, 2, -1));
            eq("OK", code(() -> c.zk.multi(List.of(
                Op.create("/q-multi/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)))), "within");
            eq("QUOTAEXCEEDED", code(() -> c.zk.multi(List.of(
                Op.setData("/q-multi/a", bytes("1"), -1),
                Op.create("/q-multi/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)))), "beyond");
            eq(0, c.stat("/q-multi/a").getVersion(), "nothing of the failed multi was done");
        }
    }

    private void removed() throws Exception {
        try (Client c = open()) {
            c.create("/q-rm");
            SetQuotaCommand.createQuota(c.zk, "/q-rm", limits(-1, -1, 1, -1));
            eq("QUOTAEXCEEDED", code(() -> c.create("/q-rm/a")), "with the quota");
            DelQuotaCommand.delQuota(c.zk, "/q-rm", null);
            eq("OK", code(() -> c.create("/q-rm/a")), "without the quota");
            eq(false, c.has("/zookeeper/quota/q-rm"), "quota nodes are gone");
        }
    }

    private void text() throws Exception {
        try (Client c = open()) {
            c.create("/q-text", "abc");
            SetQuotaCommand.createQuota(c.zk, "/q-text", limits(5, 500, 7, 700));
            eq("count=5,bytes=500=;byteHardLimit=700;countHardLimit=7",
                new String(c.zk.getData("/zookeeper/quota/q-text/zookeeper_limits", false, null)), "limits");
            eq("count=1,bytes=3", usage(c, "/q-text").replaceAll("=;.*", ""), "usage");
            c.create("/q-text/x", "de");
            eq("count=2,bytes=5", usage(c, "/q-text"), "usage rewritten by the server");
        }
    }

    private void nested() throws Exception {
        try (Client c = open()) {
            c.create("/q-nest");
            c.create("/q-nest/in");
            SetQuotaCommand.createQuota(c.zk, "/q-nest", limits(100, -1, -1, -1));
            eq("IllegalArgumentException", code(() -> SetQuotaCommand.createQuota(c.zk, "/q-nest/in",
                limits(100, -1, -1, -1))), "quota below a quota is refused by the client");
        }
    }

    private void hardOverSoft() throws Exception {
        try (Client c = open()) {
            c.create("/q-both");
            SetQuotaCommand.createQuota(c.zk, "/q-both", limits(1, -1, 3, -1));
            eq("OK", code(() -> c.create("/q-both/a")), "over the soft limit");
            eq("OK", code(() -> c.create("/q-both/b")), "at the hard limit");
            eq("QUOTAEXCEEDED", code(() -> c.create("/q-both/c")), "over the hard limit");
        }
    }
}
