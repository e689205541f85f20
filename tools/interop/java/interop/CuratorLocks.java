package interop;

import static interop.Harness.background;
import static interop.Harness.bytes;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;

/** Locks and semaphores. */
final class CuratorLocks {
    private static final int SHORT_SESSION_MS = 2000;
    private final Harness.Target target;

    CuratorLocks(Harness.Target target) {
        this.target = target;
    }

    void run() {
        test("lock.mutex-excludes", () -> excludes("/lock/mutex", InterProcessMutex::new));
        test("lock.semaphore-mutex-excludes", () -> excludes("/lock/semaphore-mutex", InterProcessSemaphoreMutex::new));
        test("lock.mutex-reentrant-and-timed", this::reentrant);
        test("lock.mutex-passes-on-in-order", this::order);
        test("lock.mutex-revoked", this::revoked);
        test("lock.mutex-kept-over-a-cut-connection", this::keptOverCut);
        test("lock.mutex-passes-on-when-the-session-expires", this::passesOnExpiry);
        test("lock.read-write", this::readWrite);
        test("lock.write-to-read-downgrade", this::downgrade);
        test("lock.multi-lock", this::multiLock);
        test("lock.semaphore-leases", this::semaphore);
        test("lock.semaphore-many-and-timed", this::semaphoreMany);
        test("lock.semaphore-lease-of-an-expired-session", this::semaphoreExpiry);
    }

    private interface Maker {
        InterProcessLock make(CuratorFramework client, String path);
    }

    /** Four clients read, change and write a counter at the same time; the result is right only if the lock excludes them. */
    private void excludes(String path, Maker maker) throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework checker = k.client();
            String counter = path + "-counter";
            checker.create().creatingParentsIfNeeded().forPath(counter, bytes("0"));
            AtomicInteger inside = new AtomicInteger();
            AtomicInteger most = new AtomicInteger();
            k.atOnce(4, c -> {
                InterProcessLock lock = maker.make(c, path);
                for (int i = 0; i < 8; i++) {
                    yes(lock.acquire(40, TimeUnit.SECONDS), "acquired within 40 s");
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    int n = Integer.parseInt(new String(c.getData().forPath(counter)));
                    c.setData().forPath(counter, bytes(Integer.toString(n + 1)));
                    inside.decrementAndGet();
                    lock.release();
                }
                return null;
            });
            eq(1, most.get(), "most holders at once");
            eventually("32", () -> new String(checker.getData().forPath(counter)), 20, "counter");
        }
    }

    private void reentrant() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessMutex a = new InterProcessMutex(k.client(), "/lock/reentrant");
            InterProcessMutex b = new InterProcessMutex(k.client(), "/lock/reentrant");
            a.acquire();
            a.acquire();
            eq(false, b.acquire(300, TimeUnit.MILLISECONDS), "held by another");
            a.release();
            eq(false, b.acquire(300, TimeUnit.MILLISECONDS), "still held once");
            eventually(1, () -> a.getParticipantNodes().size(), 20, "participants after a timeout");
            a.release();
            yes(b.acquire(20, TimeUnit.SECONDS), "acquired when free");
            b.release();
        }
    }

    private void order() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessMutex first = new InterProcessMutex(k.client(), "/lock/order");
            first.acquire();
            StringBuffer order = new StringBuffer();
            List<Future<Object>> waiting = new java.util.ArrayList<>();
            for (int i = 0; i < 4; i++) {
                String name = Integer.toString(i);
                InterProcessMutex lock = new InterProcessMutex(k.client(), "/lock/order");
                waiting.add(background(() -> {
                    lock.acquire();
                    order.append(name);
                    lock.release();
                    return null;
                }));
                int expected = i + 2;
                eventually(expected, () -> first.getParticipantNodes().size(), 20, "participants");
            }
            first.release();
            Curators.all(waiting);
            eq("0123", order.toString(), "order of holders");
        }
    }

    private void revoked() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessMutex holder = new InterProcessMutex(k.client(), "/lock/revoked");
            CountDownLatch asked = new CountDownLatch(1);
            holder.makeRevocable(lock -> asked.countDown());
            holder.acquire();
            CuratorFramework other = k.client();
            Revoker.attemptRevoke(other, holder.getParticipantNodes().iterator().next());
            yes(asked.await(20, TimeUnit.SECONDS), "the holder was asked");
            holder.release();
        }
    }

    private void keptOverCut() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework cut = k.relayed(Curators.LONG_SESSION_MS);
            long session = cut.getZookeeperClient().getZooKeeper().getSessionId();
            InterProcessMutex holder = new InterProcessMutex(cut, "/lock/cut");
            InterProcessMutex waiter = new InterProcessMutex(k.client(), "/lock/cut");
            holder.acquire();
            Future<Boolean> got = background(() -> waiter.acquire(50, TimeUnit.SECONDS));
            eventually(2, () -> holder.getParticipantNodes().size(), 20, "participants");
            k.proxy().cut();
            Thread.sleep(300);
            yes(!got.isDone(), "not passed on while cut");
            k.proxy().heal();
            eq(2, holder.getParticipantNodes().size(), "participants after the cut");
            yes(!got.isDone(), "not passed on after the cut");
            holder.release();
            yes(Curators.get(got), "passed on at the release");
            eq(session, cut.getZookeeperClient().getZooKeeper().getSessionId(), "same session");
        }
    }

    private void passesOnExpiry() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessMutex holder = new InterProcessMutex(k.relayed(SHORT_SESSION_MS), "/lock/expired");
            InterProcessMutex waiter = new InterProcessMutex(k.client(), "/lock/expired");
            holder.acquire();
            eq(false, waiter.acquire(200, TimeUnit.MILLISECONDS), "held");
            k.proxy().cut();
            yes(waiter.acquire(40, TimeUnit.SECONDS), "passed on within 40 s of the loss of the holder");
            waiter.release();
        }
    }

    private void readWrite() throws Exception {
        try (Curators k = new Curators(target)) {
            AtomicInteger readers = new AtomicInteger();
            AtomicInteger writers = new AtomicInteger();
            AtomicInteger wrong = new AtomicInteger();
            AtomicInteger mostReaders = new AtomicInteger();
            AtomicInteger turn = new AtomicInteger();
            CountDownLatch together = new CountDownLatch(3);
            k.atOnce(5, c -> {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(c, "/lock/rw");
                boolean writer = turn.getAndIncrement() >= 3;
                for (int i = 0; i < 5; i++) {
                    InterProcessMutex side = writer ? lock.writeLock() : lock.readLock();
                    yes(side.acquire(50, TimeUnit.SECONDS), "acquired");
                    if (writer) {
                        if (writers.incrementAndGet() > 1 || readers.get() > 0) {
                            wrong.incrementAndGet();
                        }
                        Thread.sleep(5);
                        writers.decrementAndGet();
                    } else {
                        mostReaders.accumulateAndGet(readers.incrementAndGet(), Math::max);
                        if (writers.get() > 0) {
                            wrong.incrementAndGet();
                        }
                        Thread.sleep(5);
                        readers.decrementAndGet();
                    }
                    side.release();
                }
                return null;
            });
            eq(0, wrong.get(), "times a writer was not alone");
            // Readers share the lock: all three hold it before one releases it.
            k.atOnce(3, c -> {
                InterProcessMutex read = new InterProcessReadWriteLock(c, "/lock/rw").readLock();
                read.acquire();
                together.countDown();
                yes(together.await(40, TimeUnit.SECONDS), "three readers at once");
                read.release();
                return null;
            });
        }
    }

    private void downgrade() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessReadWriteLock a = new InterProcessReadWriteLock(k.client(), "/lock/down");
            InterProcessReadWriteLock b = new InterProcessReadWriteLock(k.client(), "/lock/down");
            a.writeLock().acquire();
            a.readLock().acquire();
            eq(false, b.readLock().acquire(200, TimeUnit.MILLISECONDS), "reader beside a writer");
            a.writeLock().release();
            yes(b.readLock().acquire(20, TimeUnit.SECONDS), "reader beside a reader");
            eq(false, b.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a reader cannot become the writer");
            a.readLock().release();
            b.readLock().release();
            yes(b.writeLock().acquire(20, TimeUnit.SECONDS), "writer alone");
            b.writeLock().release();
        }
    }

    private void multiLock() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessMultiLock both = new InterProcessMultiLock(k.client(), List.of("/lock/m1", "/lock/m2"));
            InterProcessMutex one = new InterProcessMutex(k.client(), "/lock/m2");
            one.acquire();
            eq(false, both.acquire(300, TimeUnit.MILLISECONDS), "one of two is held");
            InterProcessMutex other = new InterProcessMutex(k.client(), "/lock/m1");
            eventually(0, () -> other.getParticipantNodes().size(), 20, "participants of the other one, which was released");
            one.release();
            yes(both.acquire(20, TimeUnit.SECONDS), "both free");
            eq(false, one.acquire(200, TimeUnit.MILLISECONDS), "held by the multi lock");
            both.release();
        }
    }

    private void semaphore() throws Exception {
        try (Curators k = new Curators(target)) {
            AtomicInteger inside = new AtomicInteger();
            AtomicInteger most = new AtomicInteger();
            CountDownLatch full = new CountDownLatch(3);
            k.atOnce(6, c -> {
                InterProcessSemaphoreV2 s = new InterProcessSemaphoreV2(c, "/lock/semaphore", 3);
                for (int i = 0; i < 4; i++) {
                    Lease lease = s.acquire(50, TimeUnit.SECONDS);
                    yes(lease != null, "a lease within 50 s");
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    full.countDown();
                    yes(full.await(40, TimeUnit.SECONDS), "three holders at once");
                    inside.decrementAndGet();
                    s.returnLease(lease);
                }
                return null;
            });
            eq(3, most.get(), "most leases at once");
        }
    }

    private void semaphoreMany() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(k.client(), "/lock/many", 4);
            InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(k.client(), "/lock/many", 4);
            a.setNodeData(bytes("who"));
            var three = a.acquire(3, 20, TimeUnit.SECONDS);
            eq(3, three.size(), "leases");
            eq(bytes("who"), three.iterator().next().getData(), "lease data");
            eq(null, b.acquire(2, 300, TimeUnit.MILLISECONDS), "two where one is left");
            Lease one = b.acquire(20, TimeUnit.SECONDS);
            yes(one != null, "one where one is left");
            a.returnAll(three);
            eq(3, b.acquire(3, 20, TimeUnit.SECONDS).size(), "three after their return");
        }
    }

    private void semaphoreExpiry() throws Exception {
        try (Curators k = new Curators(target)) {
            InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(k.relayed(SHORT_SESSION_MS), "/lock/sem-exp", 1);
            InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(k.client(), "/lock/sem-exp", 1);
            yes(a.acquire(20, TimeUnit.SECONDS) != null, "the only lease");
            k.proxy().cut();
            yes(b.acquire(40, TimeUnit.SECONDS) != null, "the lease within 40 s of the loss of its holder");
        }
    }
}
