package interop;

import static interop.Harness.background;
import static interop.Harness.bytes;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/** Recipes in use while the server is stopped or killed and started again. */
final class CuratorRestarts {
    void run() {
        test("restart.recipes-go-on-after-a-clean-stop", () -> recipes(false));
        test("restart.recipes-go-on-after-kill-9", () -> recipes(true));
        test("restart.locked-counter-under-three-kill-9", this::counter);
    }

    private static void restart(Harness.Server server, boolean kill) throws Exception {
        if (kill) {
            server.kill();
        } else {
            server.stop();
        }
        server.start();
    }

    private void recipes(boolean kill) throws Exception {
        String name = "curator-" + (kill ? "kill" : "term");
        try (Harness.Server server = new Harness.Server(name, "").start(); Curators k = new Curators(server)) {
            CuratorFramework a = k.client();
            CuratorFramework b = k.client();
            long session = a.getZookeeperClient().getZooKeeper().getSessionId();
            InterProcessMutex held = new InterProcessMutex(a, "/lock");
            InterProcessMutex wanted = new InterProcessMutex(b, "/lock");
            held.acquire();
            a.create().forPath("/tree", bytes("t"));
            a.create().withMode(CreateMode.EPHEMERAL).forPath("/tree/eph", bytes("e"));
            Future<Boolean> waiting = background(() -> wanted.acquire(60, TimeUnit.SECONDS));
            try (LeaderLatch latchA = new LeaderLatch(a, "/latch", "a"); LeaderLatch latchB = new LeaderLatch(b, "/latch", "b");
                    GroupMember memberA = new GroupMember(a, "/members", "a"); GroupMember memberB = new GroupMember(b, "/members", "b");
                    CuratorCache cache = CuratorCaches.started(b, "/tree", null)) {
                latchA.start();
                yes(latchA.await(20, TimeUnit.SECONDS), "a leads");
                latchB.start();
                memberA.start();
                memberB.start();
                eventually(2, () -> memberA.getCurrentMembers().size(), 20, "members");
                eventually(2, () -> held.getParticipantNodes().size(), 20, "participants of the lock");
                restart(server, kill);
                eq(2, held.getParticipantNodes().size(), "participants after the restart");
                yes(!waiting.isDone(), "the lock is not passed on by the restart");
                eq(session, a.getZookeeperClient().getZooKeeper().getSessionId(), "same session");
                a.create().forPath("/tree/after", bytes("x"));
                eventually(CuratorCaches.tree(a, "/tree"), () -> CuratorCaches.tree(cache), 30, "cache");
                eq(session, a.checkExists().forPath("/tree/eph").getEphemeralOwner(), "owner of the ephemeral");
                eventually(1, () -> (latchA.hasLeadership() ? 1 : 0) + (latchB.hasLeadership() ? 1 : 0), 30, "leaders");
                eventually(2, () -> memberB.getCurrentMembers().size(), 30, "members after the restart");
                held.release();
                yes(Curators.get(waiting), "the lock is passed on at its release");
            }
        }
    }

    /** Increments a counter under a lock and by compare-and-set while the server is killed three times. */
    private void counter() throws Exception {
        try (Harness.Server server = new Harness.Server("curator-counter", "").start(); Curators k = new Curators(server)) {
            AtomicBoolean stop = new AtomicBoolean();
            AtomicInteger acknowledged = new AtomicInteger();
            AtomicInteger unknown = new AtomicInteger();
            List<CuratorFramework> clients = List.of(k.client(), k.client(), k.client());
            clients.get(0).create().forPath("/counter", bytes("0"));
            List<Future<Object>> workers = new java.util.ArrayList<>();
            for (CuratorFramework c : clients) {
                workers.add(background(() -> {
                    InterProcessMutex lock = new InterProcessMutex(c, "/counter-lock");
                    while (!stop.get()) {
                        yes(lock.acquire(60, TimeUnit.SECONDS), "acquired");
                        try {
                            int n = Integer.parseInt(new String(c.getData().forPath("/counter")));
                            // One attempt without Curator's retries, so that a lost reply is counted as lost.
                            c.getZookeeperClient().getZooKeeper().setData("/counter", bytes(Integer.toString(n + 1)), -1);
                            acknowledged.incrementAndGet();
                        } catch (KeeperException.ConnectionLossException e) {
                            unknown.incrementAndGet();
                        } finally {
                            lock.release();
                        }
                    }
                    return null;
                }));
            }
            for (int i = 0; i < 3; i++) {
                int before = acknowledged.get();
                eventually(true, () -> acknowledged.get() > before + 5, 40, "increments go on");
                restart(server, true);
            }
            int before = acknowledged.get();
            eventually(true, () -> acknowledged.get() > before + 5, 40, "increments go on");
            stop.set(true);
            Curators.all(workers);
            int value = Integer.parseInt(new String(clients.get(0).getData().forPath("/counter")));
            int sure = acknowledged.get();
            yes(value >= sure && value <= sure + unknown.get(),
                "counter " + value + " between " + sure + " acknowledged and " + unknown.get() + " more of unknown outcome");
            DistributedAtomicLong n = new DistributedAtomicLong(clients.get(1), "/long", new RetryNTimes(10, 10));
            restart(server, true);
            eq(1L, n.increment().postValue(), "first increment after a restart");
        }
    }
}
