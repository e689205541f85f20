package interop;

import java.util.Set;

/** Apache Curator's recipes against one kind of server: `CuratorMain apache|zabra`. */
public final class CuratorMain {
    private CuratorMain() {}

    public static void main(String[] args) throws Exception {
        if (args.length != 1 || !Set.of("apache", "zabra").contains(args[0])) {
            System.err.println("usage: CuratorMain apache|zabra");
            System.exit(2);
        }
        Harness.suite = "curator";
        Harness.kind = args[0];
        // A short interval, so that containers and TTL nodes are deleted within the time limit of a test.
        try (Harness.Server server = new Harness.Server("main", "",
                "-Dznode.container.checkIntervalMs=200").start()) {
            new CuratorLocks(server).run();
            new CuratorLeaders(server).run();
            new CuratorCaches(server).run();
            new CuratorShared(server).run();
            new CuratorNodes(server).run();
        }
        new CuratorRestarts().run();
        System.out.println("END curator-" + Harness.kind + " " + (Harness.passed + Harness.failed));
        System.out.flush();
        // `halt`, because client threads of failed tests would keep the process alive.
        Harness.Server.killAll();
        Runtime.getRuntime().halt(Harness.failed == 0 ? 0 : 1);
    }
}
