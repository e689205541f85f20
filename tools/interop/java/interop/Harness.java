package interop;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.zookeeper.KeeperException;

/** Names of tests, result lines, assertions, and the server processes of the suite. */
final class Harness {
    /** A test: throws to fail. */
    interface Body {
        void run() throws Exception;
    }

    static final class Failed extends Exception {
        Failed(String message) {
            super(message);
        }
    }

    /** The beginning of each result line. */
    static String suite = "java";
    static String kind;
    /** The beginning of each test's name. */
    static String prefix = "";
    /** Tests that are left out, as a regular expression; null for none. */
    static Pattern without;
    static int passed;
    static int failed;
    private static final long TEST_TIMEOUT_S = 90;
    private static final Pattern FILTER = Pattern.compile(
        Objects.requireNonNullElse(System.getenv("INTEROP_FILTER"), ""));

    private Harness() {}

    /** Runs one named test in a thread of its own, so that a test that hangs fails and the suite continues. */
    static void test(String plainName, Body body) {
        String name = prefix + plainName;
        if (!FILTER.matcher(name).find() || without != null && without.matcher(plainName).matches()) {
            return;
        }
        long began = System.nanoTime();
        FutureTask<Void> task = new FutureTask<>(() -> {
            body.run();
            return null;
        });
        Thread thread = new Thread(task, "test-" + name);
        thread.setDaemon(true);
        thread.start();
        String problem = null;
        try {
            task.get(TEST_TIMEOUT_S, TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            problem = "no end after " + TEST_TIMEOUT_S + " s, at " + where(thread.getStackTrace());
            thread.interrupt();
        } catch (ExecutionException e) {
            Throwable cause = e.getCause();
            String kindOf = cause instanceof Failed ? "" : cause.getClass().getSimpleName() + ": ";
            problem = kindOf + cause.getMessage() + " at " + where(cause.getStackTrace());
        } catch (InterruptedException e) {
            problem = "interrupted";
        }
        double seconds = (System.nanoTime() - began) / 1e9;
        String label = suite + "/" + kind + " " + name;
        if (problem == null) {
            passed++;
            System.out.print(String.format("PASS %s (%.1f s)\n", label, seconds)); // one write, one line
        } else {
            failed++;
            System.out.print(String.format("FAIL %s (%.1f s): %s\n", label, seconds, problem.replace("\n", " | ")));
        }
        System.out.flush();
    }

    /** The innermost line of our own code in a stack. */
    private static String where(StackTraceElement[] stack) {
        for (StackTraceElement e : stack) {
            if (e.getClassName().startsWith("interop.") && !e.getClassName().endsWith("Harness")) {
                return e.getFileName() + ":" + e.getLineNumber();
            }
        }
        return "?";
    }

    static void eq(Object expected, Object actual, String what) throws Failed {
        boolean same = expected instanceof byte[] && actual instanceof byte[]
            ? Arrays.equals((byte[]) expected, (byte[]) actual)
            : Objects.equals(expected, actual);
        if (!same) {
            throw new Failed(what + ": expected " + show(expected) + ", actual " + show(actual));
        }
    }

    static void yes(boolean holds, String what) throws Failed {
        if (!holds) {
            throw new Failed("does not hold: " + what);
        }
    }

    private static String show(Object o) {
        if (o instanceof byte[]) {
            byte[] b = (byte[]) o;
            return b.length + " bytes " + Arrays.toString(Arrays.copyOf(b, Math.min(b.length, 16)));
        }
        String s = String.valueOf(o);
        return s.length() > 600 ? s.substring(0, 600) + "…" : s;
    }

    /** The KeeperException code name of a call, "OK" if it returns, or the exception's class name. */
    static String code(Callable<?> call) {
        try {
            call.call();
            return "OK";
        } catch (KeeperException e) {
            return e.code().name();
        } catch (Exception e) {
            return e.getClass().getSimpleName();
        }
    }

    /** Polls until `probe` gives `expected`; fails with the last value seen. */
    static void eventually(Object expected, Callable<?> probe, long seconds, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        Object last;
        do {
            last = probe.call();
            if (Objects.equals(expected, last)) {
                return;
            }
            Thread.sleep(25);
        } while (System.nanoTime() < deadline);
        throw new Failed(what + ": expected " + show(expected) + " within " + seconds + " s, last seen " + show(last));
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    /** Sends a four-letter word and returns the whole answer. */
    static String word(int port, String word) throws IOException {
        try (Socket s = new Socket()) {
            s.connect(new InetSocketAddress("127.0.0.1", port), 5000);
            s.setSoTimeout(10000);
            s.getOutputStream().write(bytes(word));
            s.getOutputStream().flush();
            return new String(s.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    /** What clients connect to: one server, or the members of an ensemble. */
    static class Target {
        final List<Integer> ports;
        private final String root;

        Target(List<Integer> ports, String root) {
            this.ports = ports;
            this.root = root;
        }

        /** Such as `127.0.0.1:2181,127.0.0.1:2182/root`. */
        static Target parse(String address) throws Failed {
            int slash = address.indexOf('/');
            List<Integer> ports = new ArrayList<>();
            for (String member : (slash < 0 ? address : address.substring(0, slash)).split(",")) {
                String[] parts = member.split(":");
                yes(parts.length == 2 && parts[0].equals("127.0.0.1"), "an address of 127.0.0.1: " + member);
                ports.add(Integer.parseInt(parts[1]));
            }
            return new Target(ports, slash < 0 ? "" : address.substring(slash));
        }

        String address() {
            return connectString(ports) + root;
        }

        /** The path that the connect string ends with: clients see what is below it. */
        String root() {
            return root;
        }

        /** A relay in front of each. */
        Proxy proxy() throws IOException {
            return new Proxy(ports, root);
        }

        private static String connectString(List<Integer> ports) {
            return ports.stream().map(p -> "127.0.0.1:" + p).collect(Collectors.joining(","));
        }
    }

    /** One server process with its own data directory. */
    static final class Server extends Target implements AutoCloseable {
        private static final List<Server> ALL = new ArrayList<>();
        private static final int PORT_BASE = Integer.parseInt(
            Objects.requireNonNullElse(System.getenv("INTEROP_PORT_BASE"), "21000"));
        private static final int PORT_END = PORT_BASE + Integer.parseInt(
            Objects.requireNonNullElse(System.getenv("INTEROP_PORT_SPAN"), "500"));
        private static int nextPort = PORT_BASE;

        final int port;
        final Path dir;
        private final List<String> properties;
        private Process process;

        static {
            Runtime.getRuntime().addShutdownHook(new Thread(Server::killAll));
        }

        static void killAll() {
            synchronized (ALL) {
                ALL.forEach(Server::kill);
            }
        }

        Server(String name, String extraConfig, String... properties) throws IOException {
            this(freePort(), name, extraConfig, properties);
        }

        private Server(int port, String name, String extraConfig, String... properties) throws IOException {
            super(List.of(port), "");
            Path home = Path.of(System.getenv("INTEROP_HOME"));
            this.dir = Path.of(System.getenv("INTEROP_DIR")).resolve(name);
            this.port = port;
            this.properties = List.of(properties);
            Files.createDirectories(dir.resolve("data"));
            String config = Files.readString(home.resolve("zoo.cfg.in"))
                .replace("@DATA@", dir.resolve("data").toString())
                .replace("@PORT@", Integer.toString(port));
            Files.writeString(dir.resolve("zoo.cfg"), config + extra() + extraConfig + "\n");
            synchronized (ALL) {
                ALL.add(this);
            }
        }

        /** Lines that are added to the configuration of every server, to run the suites with other settings. */
        private static String extra() {
            String lines = System.getenv("INTEROP_ZOOCFG_EXTRA");
            return lines == null ? "" : lines + "\n";
        }

        private static synchronized int freePort() throws IOException {
            while (nextPort < PORT_END) {
                int candidate = nextPort++;
                try (ServerSocket probe = new ServerSocket()) {
                    probe.setReuseAddress(true);
                    probe.bind(new InetSocketAddress("127.0.0.1", candidate));
                    return candidate;
                } catch (IOException taken) {
                    // next one
                }
            }
            throw new IOException("no free port from " + PORT_BASE + " to " + (PORT_END - 1));
        }

        synchronized Server start() throws Exception {
            Path home = Path.of(System.getenv("INTEROP_HOME"));
            List<String> command = new ArrayList<>(List.of(
                home.resolve("launch").toString(), kind, dir.resolve("zoo.cfg").toString()));
            command.addAll(properties);
            process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(dir.resolve("server.log").toFile()))
                .start();
            Files.createFile(pidFile(process));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (System.nanoTime() < deadline) {
                if (!process.isAlive()) {
                    throw new Failed("server ended with " + process.exitValue() + " while starting: " + logTail());
                }
                try {
                    if (word(port, "ruok").equals("imok") && word(port, "srvr").contains("Mode: ")) {
                        return this;
                    }
                } catch (IOException notYet) {
                    // not listening
                }
                Thread.sleep(50);
            }
            throw new Failed("server not ready after 60 s: " + logTail());
        }

        private static Path pidFile(Process p) {
            return Path.of(System.getenv("INTEROP_RUN"), "pids", Long.toString(p.pid()));
        }

        String logTail() throws IOException {
            Path log = dir.resolve("server.log");
            List<String> lines = Files.exists(log) ? Files.readAllLines(log) : List.of();
            return String.join(" | ", lines.subList(Math.max(0, lines.size() - 5), lines.size()));
        }

        /** Kills the server with SIGKILL. */
        synchronized void kill() {
            if (process != null) {
                process.destroyForcibly();
                reap();
            }
        }

        /** SIGTERM; returns once the process is gone. */
        synchronized void stop() throws Failed {
            if (process != null) {
                process.destroy();
                try {
                    if (!process.waitFor(20, TimeUnit.SECONDS)) {
                        kill();
                        throw new Failed("server still alive 20 s after SIGTERM");
                    }
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
                reap();
            }
        }

        private void reap() {
            try {
                process.waitFor(20, TimeUnit.SECONDS);
                Files.deleteIfExists(pidFile(process));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            } catch (IOException e) {
                System.err.println("interop: cannot remove a pid file: " + e);
            }
            process = null;
        }

        @Override
        public void close() {
            kill();
        }
    }

    /** TCP relays, one for each target, whose connections can be cut and which can refuse new ones, all at once. */
    static final class Proxy implements AutoCloseable {
        private final List<ServerSocket> listeners = new ArrayList<>();
        private final String root;
        private final List<Socket> live = new ArrayList<>();
        private volatile boolean open = true;
        private volatile boolean mute;
        private volatile boolean closed;

        Proxy(int target) throws IOException {
            this(List.of(target), "");
        }

        Proxy(List<Integer> targets, String root) throws IOException {
            this.root = root;
            for (int target : targets) {
                ServerSocket listener = new ServerSocket();
                listener.setReuseAddress(true);
                listener.bind(new InetSocketAddress("127.0.0.1", Server.freePort()));
                listeners.add(listener);
                thread(() -> acceptLoop(listener, target));
            }
        }

        String address() {
            return Target.connectString(listeners.stream().map(ServerSocket::getLocalPort).collect(Collectors.toList())) + root;
        }

        private static void thread(Runnable r) {
            Thread t = new Thread(r, "proxy");
            t.setDaemon(true);
            t.start();
        }

        private void acceptLoop(ServerSocket listener, int target) {
            while (!closed) {
                try {
                    Socket client = listener.accept();
                    if (!open) {
                        client.close();
                        continue;
                    }
                    Socket server = new Socket("127.0.0.1", target);
                    synchronized (live) {
                        live.add(client);
                        live.add(server);
                    }
                    thread(() -> pump(client, server, false));
                    thread(() -> pump(server, client, true));
                } catch (IOException e) {
                    // the listener was closed, or the server is down: the client sees a refusal
                }
            }
        }

        private void pump(Socket from, Socket to, boolean answers) {
            try (from; to) {
                InputStream in = from.getInputStream();
                byte[] buffer = new byte[65536];
                for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                    if (!(answers && mute)) {
                        to.getOutputStream().write(buffer, 0, n);
                    }
                }
            } catch (IOException e) {
                // cut: both sides close
            }
        }

        /** Until `heal` everything that the server sends is lost. Call `cut` before `heal`. */
        void mute() {
            mute = true;
        }

        /** Cuts every connection and refuses new ones until `heal`. */
        void cut() {
            open = false;
            synchronized (live) {
                for (Socket s : live) {
                    try {
                        s.close();
                    } catch (IOException e) {
                        // already closed
                    }
                }
                live.clear();
            }
        }

        void heal() {
            mute = false;
            open = true;
        }

        @Override
        public void close() throws IOException {
            closed = true;
            cut();
            for (ServerSocket listener : listeners) {
                listener.close();
            }
        }
    }

    /** Runs `call` in the background. */
    static <V> Future<V> background(Callable<V> call) {
        FutureTask<V> task = new FutureTask<>(call);
        Thread t = new Thread(task, "background");
        t.setDaemon(true);
        t.start();
        return task;
    }
}
