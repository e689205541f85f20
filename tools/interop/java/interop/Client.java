package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** A Java client that records its session states, with short helpers for tests. */
final class Client implements Watcher, AutoCloseable {
    static final int TIMEOUT_MS = 60000;

    /** Collects events as "Type path" in delivery order. */
    static final class Log implements Watcher {
        private final List<String> lines = new ArrayList<>();
        final List<WatchedEvent> events = new ArrayList<>();

        @Override
        public synchronized void process(WatchedEvent e) {
            if (e.getType() == Event.EventType.None) {
                return; // connection states go to every watcher; the client's own log has them
            }
            lines.add(e.getType() + " " + e.getPath());
            events.add(e);
        }

        synchronized void note(String line) {
            lines.add(line);
        }

        synchronized List<String> lines() {
            return new ArrayList<>(lines);
        }

        synchronized void clear() {
            lines.clear();
            events.clear();
        }
    }

    final ZooKeeper zk;
    private final List<Watcher.Event.KeeperState> states = new ArrayList<>();
    /** Events of watches set with `true` (the default watcher). */
    final Log log = new Log();

    Client(String connect) throws Exception {
        this(connect, TIMEOUT_MS);
    }

    Client(String connect, int timeoutMs) throws Exception {
        zk = new ZooKeeper(connect, timeoutMs, this);
        await(Event.KeeperState.SyncConnected);
    }

    Client(String connect, int timeoutMs, long sessionId, byte[] password) throws Exception {
        zk = new ZooKeeper(connect, timeoutMs, this, sessionId, password);
    }

    @Override
    public void process(WatchedEvent e) {
        if (e.getType() == Event.EventType.None) {
            synchronized (states) {
                states.add(e.getState());
                states.notifyAll();
            }
        }
        log.process(e);
    }

    /** Waits until `state` has been reported (since the last `forget`). */
    void await(Event.KeeperState state) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
        synchronized (states) {
            while (!states.contains(state)) {
                long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
                if (left <= 0) {
                    throw new Harness.Failed("expected session state " + state + " within 40 s, seen " + states);
                }
                states.wait(left);
            }
        }
    }

    List<Event.KeeperState> states() {
        synchronized (states) {
            return new ArrayList<>(states);
        }
    }

    void forget() {
        synchronized (states) {
            states.clear();
        }
    }

    String create(String path) throws Exception {
        return create(path, "", CreateMode.PERSISTENT);
    }

    String create(String path, String data) throws Exception {
        return create(path, data, CreateMode.PERSISTENT);
    }

    String create(String path, String data, CreateMode mode) throws Exception {
        return zk.create(path, Harness.bytes(data), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode);
    }

    Stat stat(String path) throws Exception {
        Stat stat = zk.exists(path, false);
        if (stat == null) {
            throw new Harness.Failed("node " + path + " is missing");
        }
        return stat;
    }

    boolean has(String path) throws Exception {
        return zk.exists(path, false) != null;
    }

    /** Everything the server sent before answering this call has been delivered when it returns. */
    void barrier() throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        zk.exists("/", false, (rc, path, ctx, stat) -> done.countDown(), null);
        if (!done.await(40, TimeUnit.SECONDS)) {
            throw new Harness.Failed("no answer to a barrier read within 40 s");
        }
    }

    /** The events of `log` after a barrier must be exactly `expected`, in order. */
    void expect(Log log, String... expected) throws Exception {
        barrier();
        Harness.eq(List.of(expected), log.lines(), "events");
        log.clear();
    }

    static Callable<Object> call(Harness.Body body) {
        return () -> {
            body.run();
            return null;
        };
    }

    @Override
    public void close() throws InterruptedException {
        zk.close(20000);
    }
}
