package interop;

import java.util.Set;

/** Runs every test of the Java client against one kind of server: `Main apache|zabra`. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        if (args.length != 1 || !Set.of("apache", "zabra").contains(args[0])) {
            System.err.println("usage: Main apache|zabra");
            System.exit(2);
        }
        Harness.kind = args[0];
        // One server for all tests that neither restart nor reconfigure it; a short container
        // sweep so that containers and TTL nodes are deleted within the time limit of a test.
        try (Harness.Server server = new Harness.Server("main", "nio.sessionlessCnxnTimeout=3000",
                "-Dznode.container.checkIntervalMs=200").start()) {
            new Ops(server).run();
            new Paths(server).run();
            new Acls(server).run();
            new Quota(server).run();
            new Multi(server).run();
            new Watches(server).run();
            new Sessions(server).run();
        }
        new Restarts().run();
        System.out.println("END java-" + Harness.kind + " " + (Harness.passed + Harness.failed));
        System.out.flush();
        Runtime.getRuntime().halt(finish());
    }

    private static int finish() {
        // `halt`, because shutdown hooks and client threads of failed tests would keep the process alive.
        Harness.Server.killAll();
        return Harness.failed == 0 ? 0 : 1;
    }
}
