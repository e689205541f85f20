package interop;

import static interop.Harness.background;
import static interop.Harness.bytes;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/** Counters, barriers and queues. */
@SuppressWarnings("deprecation") // the queues are still in use
final class CuratorShared {
    private final Harness.Target target;

    CuratorShared(Harness.Target target) {
        this.target = target;
    }

    void run() {
        test("shared.count-try-set-and-listener", this::count);
        test("shared.count-after-a-cut", this::countCut);
        test("shared.atomic-long-optimistic", () -> atomicLong("/shared/long", false));
        test("shared.atomic-long-promoted-to-lock", () -> atomicLong("/shared/long-lock", true));
        test("shared.barrier", this::barrier);
        test("shared.double-barrier", this::doubleBarrier);
        test("shared.barrier-after-a-cut", this::barrierCut);
        test("queue.each-item-once", this::queue);
        test("queue.priority", this::priority);
        test("queue.delay", this::delay);
        test("queue.simple", this::simple);
        test("queue.consumer-after-a-cut", this::queueCut);
    }

    private void count() throws Exception {
        try (Curators k = new Curators(target);
                SharedCount watched = new SharedCount(k.client(), "/shared/count", 7)) {
            AtomicInteger heard = new AtomicInteger();
            watched.addListener(new SharedCountListener() {
                @Override
                public void countHasChanged(SharedCountReader source, int value) {
                    heard.set(value);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {}
            });
            watched.start();
            eq(7, watched.getCount(), "seed");
            // Every successful trySetCount adds one: none is lost and none is counted twice.
            k.atOnce(3, c -> {
                try (SharedCount mine = new SharedCount(c, "/shared/count", 0)) {
                    mine.start();
                    for (int done = 0; done < 10; ) {
                        var seen = mine.getVersionedValue();
                        if (mine.trySetCount(seen, seen.getValue() + 1)) {
                            done++;
                        }
                    }
                }
                return null;
            });
            eventually(37, watched::getCount, 20, "count");
            eventually(37, heard::get, 20, "last value heard");
        }
    }

    private void countCut() throws Exception {
        try (Curators k = new Curators(target);
                SharedCount a = new SharedCount(k.relayed(Curators.LONG_SESSION_MS), "/shared/count-cut", 1);
                SharedCount b = new SharedCount(k.client(), "/shared/count-cut", 1)) {
            a.start();
            b.start();
            k.proxy().cut();
            b.setCount(5);
            k.proxy().heal();
            eventually(5, a::getCount, 30, "count after the cut");
        }
    }

    private void atomicLong(String path, boolean promoted) throws Exception {
        try (Curators k = new Curators(target)) {
            k.atOnce(4, c -> {
                RetryNTimes retry = new RetryNTimes(100, 5);
                DistributedAtomicLong n = promoted
                    ? new DistributedAtomicLong(c, path, new RetryNTimes(1, 5), PromotedToLock.builder()
                        .lockPath(path + "-lock").retryPolicy(retry).timeout(30, TimeUnit.SECONDS).build())
                    : new DistributedAtomicLong(c, path, retry);
                for (int done = 0; done < 10; ) {
                    AtomicValue<Long> v = n.increment();
                    if (v.succeeded()) {
                        eq(v.preValue() + 1, v.postValue(), "one step");
                        done++;
                    }
                }
                return null;
            });
            DistributedAtomicLong n = new DistributedAtomicLong(k.client(), path, new RetryNTimes(3, 5));
            eventually(40L, () -> n.get().postValue(), 20, "sum");
            eq(false, n.compareAndSet(39L, 0L).succeeded(), "compareAndSet from a wrong value");
            eq(true, n.compareAndSet(40L, -5L).succeeded(), "compareAndSet");
            eq(-15L, n.subtract(10L).postValue(), "subtract");
            eq(false, n.initialize(3L), "initialize what exists");
        }
    }

    private void barrier() throws Exception {
        try (Curators k = new Curators(target)) {
            DistributedBarrier gate = new DistributedBarrier(k.client(), "/shared/barrier");
            gate.setBarrier();
            List<Future<Boolean>> waiting = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                DistributedBarrier mine = new DistributedBarrier(k.client(), "/shared/barrier");
                waiting.add(background(() -> mine.waitOnBarrier(40, TimeUnit.SECONDS)));
            }
            eq(false, new DistributedBarrier(k.client(), "/shared/barrier").waitOnBarrier(300, TimeUnit.MILLISECONDS), "closed");
            yes(waiting.stream().noneMatch(Future::isDone), "all wait");
            gate.removeBarrier();
            eq(List.of(true, true, true), Curators.all(waiting), "all pass");
        }
    }

    private void doubleBarrier() throws Exception {
        try (Curators k = new Curators(target)) {
            AtomicInteger entering = new AtomicInteger();
            AtomicInteger leaving = new AtomicInteger();
            k.atOnce(4, c -> {
                DistributedDoubleBarrier b = new DistributedDoubleBarrier(c, "/shared/double", 4);
                Thread.sleep(20L * entering.get());
                entering.incrementAndGet();
                yes(b.enter(50, TimeUnit.SECONDS), "entered");
                eq(4, entering.get(), "arrived when the first is in");
                leaving.incrementAndGet();
                yes(b.leave(50, TimeUnit.SECONDS), "left");
                eq(4, leaving.get(), "leaving when the first is out");
                return null;
            });
            DistributedDoubleBarrier alone = new DistributedDoubleBarrier(k.client(), "/shared/double-alone", 2);
            eq(false, alone.enter(300, TimeUnit.MILLISECONDS), "one of two");
        }
    }

    private void barrierCut() throws Exception {
        try (Curators k = new Curators(target)) {
            DistributedBarrier gate = new DistributedBarrier(k.client(), "/shared/barrier-cut");
            gate.setBarrier();
            DistributedBarrier mine = new DistributedBarrier(k.relayed(Curators.LONG_SESSION_MS), "/shared/barrier-cut");
            Future<Boolean> waiting = background(() -> mine.waitOnBarrier(40, TimeUnit.SECONDS));
            Thread.sleep(200);
            k.proxy().cut();
            gate.removeBarrier();
            k.proxy().heal();
            eq(true, Curators.get(waiting), "passes, though the barrier went while it was cut");
        }
    }

    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return new String(data);
        }
    };

    private static QueueConsumer<String> into(List<String> items) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                items.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        };
    }

    private void queue() throws Exception {
        try (Curators k = new Curators(target)) {
            List<String> got = Collections.synchronizedList(new ArrayList<>());
            List<DistributedQueue<String>> consumers = new ArrayList<>();
            for (int i = 0; i < 2; i++) {
                DistributedQueue<String> q = QueueBuilder.builder(k.client(), into(got), TEXT, "/queue/q")
                    .lockPath("/queue/q-locks").buildQueue();
                q.start();
                consumers.add(q);
            }
            AtomicInteger producer = new AtomicInteger();
            k.atOnce(2, c -> {
                int me = producer.getAndIncrement();
                try (DistributedQueue<String> q = QueueBuilder.builder(c, null, TEXT, "/queue/q").buildQueue()) {
                    q.start();
                    for (int i = 0; i < 15; i++) {
                        q.put(me + "-" + i);
                    }
                    yes(q.flushPuts(40, TimeUnit.SECONDS), "flushed");
                }
                return null;
            });
            eventually(30, got::size, 40, "items");
            eq(30, new TreeSet<>(got).size(), "different items");
            eventually(List.of(), () -> k.client().getChildren().forPath("/queue/q"), 20, "left in the queue");
            for (DistributedQueue<String> q : consumers) {
                q.close();
            }
        }
    }

    private void priority() throws Exception {
        try (Curators k = new Curators(target)) {
            List<String> got = Collections.synchronizedList(new ArrayList<>());
            try (DistributedPriorityQueue<String> in = QueueBuilder.builder(k.client(), null, TEXT, "/queue/p").buildPriorityQueue(0)) {
                in.start();
                for (int p : new int[] {5, -3, 9, 0}) {
                    in.put("p" + p, p);
                }
                yes(in.flushPuts(20, TimeUnit.SECONDS), "flushed");
            }
            try (DistributedPriorityQueue<String> out = QueueBuilder.builder(k.client(), into(got), TEXT, "/queue/p").buildPriorityQueue(0)) {
                out.start();
                eventually(List.of("p-3", "p0", "p5", "p9"), () -> List.copyOf(got), 20, "order");
            }
        }
    }

    private void delay() throws Exception {
        try (Curators k = new Curators(target)) {
            List<String> got = Collections.synchronizedList(new ArrayList<>());
            try (DistributedDelayQueue<String> q = QueueBuilder.builder(k.client(), into(got), TEXT, "/queue/d").buildDelayQueue()) {
                q.start();
                long now = System.currentTimeMillis();
                q.put("later", now + 700);
                q.put("sooner", now + 100);
                eventually(List.of("sooner", "later"), () -> List.copyOf(got), 20, "order");
                yes(System.currentTimeMillis() >= now + 700, "not before its time");
            }
        }
    }

    private void simple() throws Exception {
        try (Curators k = new Curators(target)) {
            SimpleDistributedQueue in = new SimpleDistributedQueue(k.client(), "/queue/s");
            SimpleDistributedQueue out = new SimpleDistributedQueue(k.client(), "/queue/s");
            Future<byte[]> waiting = background(() -> out.poll(40, TimeUnit.SECONDS));
            Thread.sleep(100);
            yes(!waiting.isDone(), "poll waits");
            in.offer(bytes("one"));
            eq(bytes("one"), Curators.get(waiting), "polled");
            in.offer(bytes("two"));
            in.offer(bytes("three"));
            eq(bytes("two"), out.peek(), "peek");
            eq(bytes("two"), out.take(), "take");
            eq(bytes("three"), out.remove(), "remove");
            eq(null, out.poll(), "empty");
        }
    }

    private void queueCut() throws Exception {
        try (Curators k = new Curators(target)) {
            List<String> got = Collections.synchronizedList(new ArrayList<>());
            try (DistributedQueue<String> out = QueueBuilder.builder(k.relayed(Curators.LONG_SESSION_MS), into(got), TEXT, "/queue/cut").buildQueue();
                    DistributedQueue<String> in = QueueBuilder.builder(k.client(), null, TEXT, "/queue/cut").buildQueue()) {
                out.start();
                in.start();
                in.put("before");
                eventually(List.of("before"), () -> List.copyOf(got), 20, "before the cut");
                k.proxy().cut();
                in.put("while cut");
                yes(in.flushPuts(20, TimeUnit.SECONDS), "flushed");
                k.proxy().heal();
                eventually(List.of("before", "while cut"), () -> List.copyOf(got), 30, "after the cut");
            }
        }
    }
}
