package interop;

import static interop.Harness.yes;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryForever;

/** The Curator clients of one test, which are closed together, and a relay for those that the test disconnects. */
final class Curators implements AutoCloseable {
    /** Longer than any pause of a busy machine (ms). */
    static final int LONG_SESSION_MS = 60_000;
    private final Harness.Target target;
    private final List<CuratorFramework> clients = new ArrayList<>();
    private Harness.Proxy proxy;

    Curators(Harness.Target target) {
        this.target = target;
    }

    CuratorFramework client() throws Exception {
        return connect(target.address(), LONG_SESSION_MS);
    }

    /** A client whose connection goes through `proxy()`, which can cut it. */
    CuratorFramework relayed(int sessionMs) throws Exception {
        return connect(proxy().address(), sessionMs);
    }

    Harness.Proxy proxy() throws IOException {
        if (proxy == null) {
            proxy = target.proxy();
        }
        return proxy;
    }

    private CuratorFramework connect(String address, int sessionMs) throws Exception {
        CuratorFramework c = CuratorFrameworkFactory.builder()
            .connectString(address)
            .sessionTimeoutMs(sessionMs)
            .connectionTimeoutMs(15_000)
            .retryPolicy(new RetryForever(100))
            .build();
        clients.add(c);
        c.start();
        yes(c.blockUntilConnected(30, TimeUnit.SECONDS), "connected within 30 s");
        return c;
    }

    /** Waits until every call has returned or failed. */
    static <V> List<V> all(List<Future<V>> futures) throws Exception {
        List<V> results = new ArrayList<>();
        for (Future<V> f : futures) {
            results.add(get(f));
        }
        return results;
    }

    static <V> V get(Future<V> f) throws Exception {
        try {
            return f.get(60, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
        }
    }

    /** Makes the same call `count` times at the same time, each on a client of its own. */
    <V> List<V> atOnce(int count, OnClient<V> call) throws Exception {
        List<Future<V>> running = new ArrayList<>();
        List<CuratorFramework> own = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            own.add(client());
        }
        for (CuratorFramework c : own) {
            Callable<V> body = () -> call.call(c);
            running.add(Harness.background(body));
        }
        return all(running);
    }

    interface OnClient<V> {
        V call(CuratorFramework client) throws Exception;
    }

    @Override
    public void close() throws IOException {
        for (CuratorFramework c : clients) {
            c.close();
        }
        if (proxy != null) {
            proxy.close();
        }
    }
}
