package interop;

import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Apache Curator's recipes. `CuratorMain apache|zabra` starts servers of this kind; `CuratorMain apache|zabra ADDRESS PREFIX WITHOUT` uses
 * the servers at ADDRESS, puts PREFIX before the names of tests, and leaves out those whose names match WITHOUT, and those that restart a
 * server.
 */
public final class CuratorMain {
    private CuratorMain() {}

    public static void main(String[] args) throws Exception {
        if ((args.length != 1 && args.length != 4) || !Set.of("apache", "zabra").contains(args[0])) {
            System.err.println("usage: CuratorMain apache|zabra [ADDRESS PREFIX WITHOUT]");
            System.exit(2);
        }
        Harness.suite = "curator";
        Harness.kind = args[0];
        if (args.length == 4) {
            Harness.prefix = args[2];
            Harness.without = Pattern.compile(args[3]);
            recipes(Harness.Target.parse(args[1]));
        } else {
            // A short interval, so that containers and TTL nodes are deleted within the time limit of a test.
            try (Harness.Server server = new Harness.Server("main", "",
                    "-Dznode.container.checkIntervalMs=200").start()) {
                recipes(server);
            }
            new CuratorRestarts().run();
        }
        System.out.println("END curator-" + Harness.kind + " " + (Harness.passed + Harness.failed));
        System.out.flush();
        // `halt`, because client threads of failed tests would keep the process alive.
        Harness.Server.killAll();
        Runtime.getRuntime().halt(Harness.failed == 0 ? 0 : 1);
    }

    private static void recipes(Harness.Target target) throws Exception {
        // Recipes make their parents as containers, which the server deletes when a test has left them empty. Where that happens between
        // a recipe's look at its parent and its create, Curator gives up: so the parents of all tests stay.
        try (Curators k = new Curators(target)) {
            for (String parent : List.of("/cache", "/leader", "/lock", "/queue", "/shared")) {
                k.client().create().orSetData().forPath(parent);
            }
        }
        new CuratorLocks(target).run();
        new CuratorLeaders(target).run();
        new CuratorCaches(target).run();
        new CuratorShared(target).run();
        new CuratorNodes(target).run();
    }
}
