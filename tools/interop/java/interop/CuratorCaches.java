package interop;

import static interop.Harness.bytes;
import static interop.Harness.eq;
import static interop.Harness.eventually;
import static interop.Harness.test;
import static interop.Harness.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;

/** The caches: copies of a part of the tree, kept up to date by watches. */
@SuppressWarnings("deprecation") // the older caches are still in wide use
final class CuratorCaches {
    private final Harness.Target target;

    CuratorCaches(Harness.Target target) {
        this.target = target;
    }

    void run() {
        test("cache.curator-cache-events", this::curatorEvents);
        test("cache.curator-cache-equals-tree-under-writers", this::curatorWriters);
        test("cache.curator-cache-single-node", this::curatorSingle);
        test("cache.curator-cache-after-a-cut", this::curatorCut);
        test("cache.curator-cache-after-an-expired-session", this::curatorExpiry);
        test("cache.tree-cache", this::tree);
        test("cache.tree-cache-after-a-cut", this::treeCut);
        test("cache.path-children-cache", this::children);
        test("cache.path-children-cache-after-a-cut", this::childrenCut);
        test("cache.node-cache", this::node);
        test("cache.node-cache-after-a-cut", this::nodeCut);
    }

    /** What the server has at and below `path`: path to data. */
    static Map<String, String> tree(CuratorFramework c, String path) throws Exception {
        Map<String, String> all = new TreeMap<>();
        all.put(path, new String(c.getData().forPath(path)));
        for (String child : c.getChildren().forPath(path)) {
            all.putAll(tree(c, path + "/" + child));
        }
        return all;
    }

    static Map<String, String> tree(CuratorCache cache) {
        Map<String, String> all = new TreeMap<>();
        cache.stream().forEach(d -> all.put(d.getPath(), new String(d.getData())));
        return all;
    }

    /** A started cache that has read everything once. */
    static CuratorCache started(CuratorFramework c, String path, CuratorCacheListener listener) throws Exception {
        CuratorCache cache = CuratorCache.build(c, path);
        CountDownLatch read = new CountDownLatch(1);
        if (listener != null) {
            cache.listenable().addListener(listener);
        }
        cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(read::countDown).build());
        cache.start();
        yes(read.await(30, TimeUnit.SECONDS), "initialized within 30 s");
        return cache;
    }

    private void curatorEvents() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/ev", bytes("0"));
            List<String> events = Collections.synchronizedList(new ArrayList<>());
            CuratorCacheListener log = (type, old, now) -> {
                ChildData d = now != null ? now : old;
                events.add(type + " " + d.getPath() + " " + new String(d.getData()));
            };
            try (CuratorCache cache = started(k.client(), "/cache/ev", log)) {
                List<String> expected = new ArrayList<>(List.of("NODE_CREATED /cache/ev 0"));
                // One at a time: two quick changes of one node may be seen as one.
                String[][] steps = {
                    {"NODE_CREATED", "/cache/ev/a", "1"}, {"NODE_CREATED", "/cache/ev/a/b", "2"},
                    {"NODE_CHANGED", "/cache/ev/a/b", "3"}, {"NODE_DELETED", "/cache/ev/a/b", "3"},
                    {"NODE_CHANGED", "/cache/ev", "4"}, {"NODE_DELETED", "/cache/ev/a", "1"}};
                for (String[] s : steps) {
                    switch (s[0]) {
                        case "NODE_CREATED": writer.create().forPath(s[1], bytes(s[2])); break;
                        case "NODE_CHANGED": writer.setData().forPath(s[1], bytes(s[2])); break;
                        default: writer.delete().forPath(s[1]);
                    }
                    expected.add(String.join(" ", s));
                    eventually(expected, () -> List.copyOf(events), 20, "events");
                }
                eq(Map.of("/cache/ev", "4"), tree(cache), "content");
            }
        }
    }

    private void curatorWriters() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework reader = k.client();
            reader.create().creatingParentsIfNeeded().forPath("/cache/busy", bytes(""));
            AtomicInteger number = new AtomicInteger();
            try (CuratorCache cache = started(k.client(), "/cache/busy", null)) {
                k.atOnce(3, c -> {
                    String mine = "/cache/busy/w" + number.getAndIncrement();
                    c.create().forPath(mine, bytes(""));
                    for (int i = 0; i < 30; i++) {
                        String n = mine + "/n" + i % 10;
                        if (i < 10) {
                            c.create().forPath(n, bytes("new"));
                        } else if (i % 3 == 0) {
                            c.delete().forPath(n);
                            c.create().forPath(n, bytes("again" + i));
                        } else {
                            c.setData().forPath(n, bytes("v" + i));
                        }
                    }
                    return null;
                });
                Map<String, String> real = tree(reader, "/cache/busy");
                eq(34, real.size(), "znodes");
                eventually(real, () -> tree(cache), 30, "content");
            }
        }
    }

    private void curatorSingle() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework c = k.client();
            c.create().creatingParentsIfNeeded().forPath("/cache/single/x/y", bytes(""));
            try (CuratorCache cache = CuratorCache.build(k.client(), "/cache/single/x", CuratorCache.Options.SINGLE_NODE_CACHE)) {
                cache.start();
                c.setData().forPath("/cache/single/x", bytes("v"));
                eventually(Map.of("/cache/single/x", "v"), () -> tree(cache), 20, "content");
            }
        }
    }

    private void curatorCut() throws Exception {
        curatorAway("/cache/cut", Curators.LONG_SESSION_MS, false);
    }

    private void curatorExpiry() throws Exception {
        curatorAway("/cache/expired", 2000, true);
    }

    private void curatorAway(String path, int sessionMs, boolean expire) throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            CuratorFramework away = k.relayed(sessionMs);
            writer.create().creatingParentsIfNeeded().forPath(path, bytes("0"));
            writer.create().forPath(path + "/goes", bytes("x"));
            writer.create().forPath(path + "/changes", bytes("x"));
            // When this znode is deleted, the session of the disconnected client has ended.
            away.create().withMode(org.apache.zookeeper.CreateMode.EPHEMERAL).forPath(path + "/eph", bytes("e"));
            try (CuratorCache cache = started(away, path, null)) {
                k.proxy().cut();
                if (expire) {
                    eventually(null, () -> writer.checkExists().forPath(path + "/eph"), 40, "ephemeral of the cut client");
                }
                writer.delete().forPath(path + "/goes");
                writer.setData().forPath(path + "/changes", bytes("y"));
                writer.create().forPath(path + "/comes", bytes("z"));
                k.proxy().heal();
                eventually(tree(writer, path), () -> tree(cache), 30, "content after the cut");
                writer.create().forPath(path + "/later", bytes("l"));
                eventually(tree(writer, path), () -> tree(cache), 30, "content later");
            }
        }
    }

    private void tree() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/tree/a/b", bytes("1"));
            CountDownLatch read = new CountDownLatch(1);
            List<String> events = Collections.synchronizedList(new ArrayList<>());
            try (TreeCache cache = new TreeCache(k.client(), "/cache/tree")) {
                cache.getListenable().addListener((client, event) -> {
                    if (event.getData() != null) {
                        events.add(event.getType() + " " + event.getData().getPath());
                    } else {
                        read.countDown();
                    }
                });
                cache.start();
                yes(read.await(30, TimeUnit.SECONDS), "initialized");
                eq(List.of("NODE_ADDED /cache/tree", "NODE_ADDED /cache/tree/a", "NODE_ADDED /cache/tree/a/b"),
                    List.copyOf(events), "first events");
                events.clear();
                writer.setData().forPath("/cache/tree/a/b", bytes("2"));
                eventually(List.of("NODE_UPDATED /cache/tree/a/b"), () -> List.copyOf(events), 20, "update");
                eq("2", new String(cache.getCurrentData("/cache/tree/a/b").getData()), "data");
                events.clear();
                writer.delete().deletingChildrenIfNeeded().forPath("/cache/tree/a");
                eventually(List.of("NODE_REMOVED /cache/tree/a/b", "NODE_REMOVED /cache/tree/a"),
                    () -> List.copyOf(events), 20, "removals");
            }
        }
    }

    private void treeCut() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/tree-cut/a/b", bytes("1"));
            try (TreeCache cache = new TreeCache(k.relayed(Curators.LONG_SESSION_MS), "/cache/tree-cut")) {
                cache.start();
                eventually(true, () -> cache.getCurrentData("/cache/tree-cut/a/b") != null, 20, "read");
                k.proxy().cut();
                writer.delete().forPath("/cache/tree-cut/a/b");
                writer.create().forPath("/cache/tree-cut/a/c", bytes("3"));
                k.proxy().heal();
                eventually("[c]", () -> String.valueOf(cache.getCurrentChildren("/cache/tree-cut/a").keySet()), 30, "children");
            }
        }
    }

    private static Map<String, String> content(PathChildrenCache cache) {
        Map<String, String> all = new TreeMap<>();
        cache.getCurrentData().forEach(d -> all.put(d.getPath(), new String(d.getData())));
        return all;
    }

    private void children() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/kids/a", bytes("1"));
            List<String> events = Collections.synchronizedList(new ArrayList<>());
            try (PathChildrenCache cache = new PathChildrenCache(k.client(), "/cache/kids", true)) {
                cache.getListenable().addListener((client, event) -> {
                    if (event.getData() != null) {
                        events.add(event.getType() + " " + event.getData().getPath());
                    }
                });
                cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
                eq(Map.of("/cache/kids/a", "1"), content(cache), "first content");
                writer.create().forPath("/cache/kids/b", bytes("2"));
                eventually(true, () -> events.contains("CHILD_ADDED /cache/kids/b"), 20, "event of the new child");
                writer.setData().forPath("/cache/kids/a", bytes("3"));
                writer.delete().forPath("/cache/kids/b");
                eventually(Map.of("/cache/kids/a", "3"), () -> content(cache), 20, "content");
            }
        }
    }

    private void childrenCut() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/kids-cut/a", bytes("1"));
            try (PathChildrenCache cache = new PathChildrenCache(k.relayed(Curators.LONG_SESSION_MS), "/cache/kids-cut", true)) {
                cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
                k.proxy().cut();
                writer.setData().forPath("/cache/kids-cut/a", bytes("2"));
                writer.create().forPath("/cache/kids-cut/b", bytes("3"));
                k.proxy().heal();
                eventually(Map.of("/cache/kids-cut/a", "2", "/cache/kids-cut/b", "3"), () -> content(cache), 30, "content");
            }
        }
    }

    private static String data(NodeCache cache) {
        ChildData d = cache.getCurrentData();
        return d == null ? null : new String(d.getData());
    }

    private void node() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            try (NodeCache cache = new NodeCache(k.client(), "/cache/node/x")) {
                cache.start(true);
                eq(null, data(cache), "before the create");
                writer.create().creatingParentsIfNeeded().forPath("/cache/node/x", bytes("1"));
                eventually("1", () -> data(cache), 20, "created");
                writer.setData().forPath("/cache/node/x", bytes("2"));
                eventually("2", () -> data(cache), 20, "changed");
                writer.delete().forPath("/cache/node/x");
                eventually(null, () -> data(cache), 20, "deleted");
                // The cache made the parent a container, which the server may have deleted meanwhile.
                writer.create().creatingParentsIfNeeded().forPath("/cache/node/x", bytes("3"));
                eventually("3", () -> data(cache), 20, "created again");
            }
        }
    }

    private void nodeCut() throws Exception {
        try (Curators k = new Curators(target)) {
            CuratorFramework writer = k.client();
            writer.create().creatingParentsIfNeeded().forPath("/cache/node-cut", bytes("1"));
            try (NodeCache cache = new NodeCache(k.relayed(Curators.LONG_SESSION_MS), "/cache/node-cut")) {
                cache.start(true);
                k.proxy().cut();
                writer.setData().forPath("/cache/node-cut", bytes("2"));
                k.proxy().heal();
                eventually("2", () -> data(cache), 30, "after the cut");
            }
        }
    }
}
