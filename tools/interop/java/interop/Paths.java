package interop;

import static interop.Harness.eq;
import static interop.Harness.test;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.jute.Record;
import org.apache.zookeeper.MultiOperationRecord;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.OpCode;
import org.apache.zookeeper.proto.CreateRequest;
import org.apache.zookeeper.proto.DeleteRequest;
import org.apache.zookeeper.proto.ExistsRequest;
import org.apache.zookeeper.proto.GetChildrenRequest;
import org.apache.zookeeper.proto.GetDataRequest;
import org.apache.zookeeper.proto.SetACLRequest;
import org.apache.zookeeper.proto.SetDataRequest;
import org.apache.zookeeper.proto.SyncRequest;

/** Invalid paths, sent raw because the Java client would not send them. */
final class Paths {
    private final Harness.Server server;

    Paths(Harness.Server server) {
        this.server = server;
    }

    void run() {
        Map<String, String> bad = new LinkedHashMap<>();
        bad.put("empty", "");
        bad.put("relative", "relative");
        bad.put("trailing-slash", "/a/");
        bad.put("empty-segment", "/a//b");
        bad.put("dot", "/a/./b");
        bad.put("dot-dot", "/a/../b");
        bad.put("ends-in-dot", "/a/.");
        bad.put("ends-in-dot-dot", "/a/..");
        bad.put("nul", "/a\0b");
        bad.put("control-0001", "/a\u0001b");
        bad.put("control-001f", "/a\u001fb");
        bad.put("delete-007f", "/a\u007fb");
        bad.put("control-009f", "/a\u009fb");
        bad.put("private-e000", "/a\ue000b");
        bad.put("private-f8ff", "/a\uf8ffb");
        bad.put("special-fff0", "/a\ufff0b");
        bad.put("special-ffff", "/a\uffffb");
        bad.put("astral", "/a\ud83d\ude00b");
        bad.put("double-slash-root", "//");
        test("path.parent-for-the-others", () -> {
            try (Wire w = Wire.open(server.port, 30000)) {
                eq("OK", w.code(OpCode.create, new CreateRequest("/a", new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "create /a");
            }
        });
        for (Map.Entry<String, String> e : bad.entrySet()) {
            test("path." + e.getKey(), () -> refused(e.getValue()));
        }
        test("path.odd-but-valid", this::valid);
        test("path.special-nodes-kept", this::special);
        test("path.checked-after-the-parent", this::order);
        test("path.sequential-suffix-makes-a-trailing-slash-valid", this::sequential);
    }

    private void refused(String path) throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            // create looks for the parent (everything before the last slash, as it is) before it validates the path.
            boolean noParent = path.contains("/../") || path.contains("/./") || path.equals("/a//b");
            eq(noParent ? "NONODE" : "BADARGUMENTS",
                w.code(OpCode.create, new CreateRequest(path, new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "create");
            eq("BADARGUMENTS", w.code(OpCode.setData, new SetDataRequest(path, new byte[0], -1)), "setData");
            eq("BADARGUMENTS", w.code(OpCode.setACL, new SetACLRequest(path, Ids.OPEN_ACL_UNSAFE, -1)), "setACL");
            Wire.Reply multi = w.call(OpCode.multi, new MultiOperationRecord(List.of(Op.check(path, -1))));
            eq("OK", multi.code(), "multi's header");
            eq(-8, java.nio.ByteBuffer.wrap(multi.body).getInt(9), "result of check in a multi");
            // For a path that is not validated the reply is NONODE or the like, and the connection stays open.
            for (Record read : List.of(new GetDataRequest(path, false), new GetChildrenRequest(path, false))) {
                int op = read instanceof GetDataRequest ? OpCode.getData : OpCode.getChildren;
                String got = w.code(op, read);
                eq(path.isEmpty() ? "OK" : "NONODE", got, "read");
            }
            eq("OK", w.code(OpCode.sync, new SyncRequest(path)), "sync");
            eq("OK", w.code(OpCode.exists, new ExistsRequest("/", false)), "the connection still serves");
        }
    }

    private void valid() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            for (String p : List.of("/...", "/.a", "/a.", "/ ", "/a b", "/%2F", "/\\", "/\u00a0", "/\ud7ff", "/\uf900",
                    "/\uffef", "/..a", "/-", "/a:b;c,d")) {
                eq("OK", w.code(OpCode.create, new CreateRequest(p, new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "create " + p);
                eq("OK", w.code(OpCode.delete, new DeleteRequest(p, -1)), "delete " + p);
            }
        }
    }

    private void special() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            for (String p : List.of("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")) {
                eq("BADARGUMENTS", w.code(OpCode.delete, new DeleteRequest(p, -1)), "delete " + p);
            }
            eq("BADARGUMENTS", w.code(OpCode.delete, new DeleteRequest("noslash", -1)), "delete without a slash");
            eq("BADARGUMENTS", w.code(OpCode.delete, new DeleteRequest("/a\0b", -1)), "delete with NUL");
            eq("NONODE", w.code(OpCode.delete, new DeleteRequest("/a/../b", -1)), "delete is not validated further");
        }
    }

    /** If the parent is missing and the path invalid, the reply says that the parent is missing. */
    private void order() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            eq("NONODE", w.code(OpCode.create, new CreateRequest("/none//x", new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "create");
            eq("BADARGUMENTS", w.code(OpCode.create, new CreateRequest("/none/\0", new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "NUL");
            eq("BADARGUMENTS", w.code(OpCode.exists, new ExistsRequest("/a\0b", false)), "exists with NUL");
            eq("BADARGUMENTS", w.code(OpCode.setData, new SetDataRequest("/none//x", new byte[0], -1)), "setData");
        }
    }

    private void sequential() throws Exception {
        try (Wire w = Wire.open(server.port, 30000)) {
            eq("OK", w.code(OpCode.create, new CreateRequest("/pathseq", new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "parent");
            eq("OK", w.code(OpCode.create, new CreateRequest("/pathseq/", new byte[0], Ids.OPEN_ACL_UNSAFE, 2)), "empty name");
            eq("OK", w.code(OpCode.create, new CreateRequest("/pathseq/.", new byte[0], Ids.OPEN_ACL_UNSAFE, 2)), "dot");
            eq("BADARGUMENTS", w.code(OpCode.create, new CreateRequest("/pathseq/.", new byte[0], Ids.OPEN_ACL_UNSAFE, 0)), "plain");
        }
    }
}
