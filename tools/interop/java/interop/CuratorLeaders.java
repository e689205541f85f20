package interop;

import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;

/** Leader election. */
final class CuratorLeaders {
    private final Harness.Target target;

    CuratorLeaders(Harness.Target target) {
        this.target = target;
    }

    void run() {
        test("leader.latch-one-leader-passed-on", this::latch);
        test("leader.latch-lost-with-the-connection", this::latchCut);
        test("leader.latch-passes-on-when-the-session-expires", this::latchExpiry);
        test("leader.selector-takes-turns", this::selector);
        test("leader.selector-interrupted-by-a-cut", this::selectorCut);
    }

    private static long leaders(List<LeaderLatch> latches) {
        return latches.stream().filter(LeaderLatch::hasLeadership).count();
    }

    private void latch() throws Exception {
        try (Curators k = new Curators(target)) {
            List<LeaderLatch> latches = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                LeaderLatch l = new LeaderLatch(k.client(), "/leader/latch", "id-" + i);
                latches.add(l);
                l.start();
            }
            for (int left = 4; left > 0; left--) {
                int expected = left;
                eventually(1L, () -> leaders(latches), 30, "leaders among " + left);
                eventually(expected, () -> latches.get(0).getParticipants().size(), 20, "participants");
                LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().get();
                for (LeaderLatch l : latches) {
                    eventually(leader.getId(), () -> l.getLeader().getId(), 20, "leader as seen by " + l.getId());
                }
                latches.remove(leader);
                leader.close();
            }
        }
    }

    private void latchCut() throws Exception {
        try (Curators k = new Curators(target);
                LeaderLatch a = new LeaderLatch(k.relayed(Curators.LONG_SESSION_MS), "/leader/cut", "a");
                LeaderLatch b = new LeaderLatch(k.client(), "/leader/cut", "b")) {
            a.start();
            yes(a.await(20, TimeUnit.SECONDS), "a leads");
            b.start();
            eventually(2, () -> b.getParticipants().size(), 20, "participants");
            k.proxy().cut();
            eventually(false, a::hasLeadership, 20, "a still leads without a connection");
            yes(!b.hasLeadership(), "b does not lead while the session of a lives");
            k.proxy().heal();
            // The session is the same, so a's znode is still the first one; or a joins again and b leads. In any case there is one leader.
            eventually(1L, () -> leaders(List.of(a, b)), 30, "leaders after the cut");
            eventually(2, () -> b.getParticipants().size(), 20, "participants after the cut");
        }
    }

    private void latchExpiry() throws Exception {
        try (Curators k = new Curators(target);
                LeaderLatch a = new LeaderLatch(k.relayed(2000), "/leader/expiry", "a");
                LeaderLatch b = new LeaderLatch(k.client(), "/leader/expiry", "b")) {
            a.start();
            yes(a.await(20, TimeUnit.SECONDS), "a leads");
            b.start();
            eventually(2, () -> b.getParticipants().size(), 20, "participants");
            k.proxy().cut();
            yes(b.await(40, TimeUnit.SECONDS), "b leads within 40 s of the loss of a");
            yes(!a.hasLeadership(), "a does not lead");
            k.proxy().heal();
            eventually(2, () -> b.getParticipants().size(), 30, "a is back with a new session");
            yes(b.hasLeadership() && !a.hasLeadership(), "b goes on leading");
        }
    }

    private void selector() throws Exception {
        try (Curators k = new Curators(target)) {
            AtomicInteger leading = new AtomicInteger();
            AtomicInteger most = new AtomicInteger();
            Set<String> had = ConcurrentHashMap.newKeySet();
            CountDownLatch turns = new CountDownLatch(9);
            List<LeaderSelector> selectors = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                String id = "id-" + i;
                LeaderSelector s = new LeaderSelector(k.client(), "/leader/selector", new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework client) throws Exception {
                        most.accumulateAndGet(leading.incrementAndGet(), Math::max);
                        had.add(id);
                        Thread.sleep(10);
                        leading.decrementAndGet();
                        turns.countDown();
                    }
                });
                s.setId(id);
                s.autoRequeue();
                selectors.add(s);
                s.start();
            }
            yes(turns.await(60, TimeUnit.SECONDS), "nine turns within 60 s");
            selectors.forEach(LeaderSelector::close);
            eq(1, most.get(), "most leaders at once");
            eq(Set.of("id-0", "id-1", "id-2"), had, "who led");
        }
    }

    private void selectorCut() throws Exception {
        try (Curators k = new Curators(target)) {
            CountDownLatch leads = new CountDownLatch(1);
            CountDownLatch interrupted = new CountDownLatch(1);
            CountDownLatch otherLeads = new CountDownLatch(1);
            LeaderSelector a = new LeaderSelector(k.relayed(2000), "/leader/sel-cut", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) {
                    leads.countDown();
                    try {
                        Thread.sleep(60_000);
                    } catch (InterruptedException e) {
                        interrupted.countDown();
                    }
                }
            });
            LeaderSelector b = new LeaderSelector(k.client(), "/leader/sel-cut", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) {
                    otherLeads.countDown();
                }
            });
            try (a; b) {
                a.start();
                yes(leads.await(20, TimeUnit.SECONDS), "a leads");
                b.start();
                k.proxy().cut();
                yes(interrupted.await(20, TimeUnit.SECONDS), "a is interrupted");
                yes(otherLeads.await(40, TimeUnit.SECONDS), "b leads after a's session");
                k.proxy().heal();
            }
        }
    }
}
