package interop;

import java.io.ByteArrayOutputStream;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import org.apache.jute.BinaryInputArchive;
import org.apache.jute.BinaryOutputArchive;
import org.apache.jute.Record;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.proto.ConnectRequest;
import org.apache.zookeeper.proto.ConnectResponse;
import org.apache.zookeeper.proto.ReplyHeader;
import org.apache.zookeeper.proto.RequestHeader;

/** A connection without a client library: it can send records that the Java client refuses to send, and sees each frame. */
final class Wire implements AutoCloseable {
    /** One frame from the server: the header and the rest. */
    static final class Reply {
        final ReplyHeader header = new ReplyHeader();
        byte[] body;

        String code() {
            KeeperException.Code code = KeeperException.Code.get(header.getErr());
            return code == null ? "code " + header.getErr() : code.name();
        }

        <R extends Record> R read(R record) throws IOException {
            record.deserialize(BinaryInputArchive.getArchive(new ByteArrayInputStream(body)), "body");
            return record;
        }
    }

    private final Socket socket = new Socket();
    private final DataInputStream in;
    private final DataOutputStream out;
    private int xid;
    ConnectResponse session;

    Wire(int port) throws IOException {
        socket.connect(new InetSocketAddress("127.0.0.1", port), 10000);
        socket.setSoTimeout(30000);
        socket.setTcpNoDelay(true);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    /** A new session. */
    static Wire open(int port, int timeoutMs) throws IOException {
        Wire wire = new Wire(port);
        wire.connect(timeoutMs, 0, new byte[16], 0);
        return wire;
    }

    /** Sends a ConnectRequest; returns the answer, or null if the server closed the connection. */
    ConnectResponse connect(int timeoutMs, long sessionId, byte[] password, long lastZxid) throws IOException {
        frame(encode(new ConnectRequest(0, lastZxid, timeoutMs, sessionId, password, false)));
        byte[] answer = read();
        if (answer == null) {
            return null;
        }
        session = new ConnectResponse();
        session.deserialize(BinaryInputArchive.getArchive(new ByteArrayInputStream(answer)), "connect");
        return session;
    }

    static byte[] encode(Record record) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        record.serialize(BinaryOutputArchive.getArchive(bytes), "record");
        return bytes.toByteArray();
    }

    void frame(byte[]... parts) throws IOException {
        int length = 0;
        for (byte[] part : parts) {
            length += part.length;
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream data = new DataOutputStream(bytes);
        data.writeInt(length);
        for (byte[] part : parts) {
            data.write(part);
        }
        out.write(bytes.toByteArray());
        out.flush();
    }

    void send(int xid, int op, Record body) throws IOException {
        frame(encode(new RequestHeader(xid, op)), body == null ? new byte[0] : encode(body));
    }

    /** The next frame's payload, or null at the end of the connection. */
    byte[] read() throws IOException {
        try {
            byte[] payload = new byte[in.readInt()];
            in.readFully(payload);
            return payload;
        } catch (EOFException | SocketException end) {
            return null;
        }
    }

    Reply reply() throws IOException {
        byte[] payload = read();
        if (payload == null) {
            return null;
        }
        Reply reply = new Reply();
        ByteArrayInputStream bytes = new ByteArrayInputStream(payload);
        reply.header.deserialize(BinaryInputArchive.getArchive(bytes), "header");
        reply.body = bytes.readAllBytes();
        return reply;
    }

    /** One request and its reply (null: closed); notifications in between are skipped. */
    Reply call(int op, Record body) throws IOException {
        int mine = ++xid;
        send(mine, op, body);
        Reply reply = reply();
        while (reply != null && reply.header.getXid() == -1) {
            reply = reply();
        }
        if (reply != null && reply.header.getXid() != mine) {
            throw new IOException("expected a reply with xid " + mine + ", actual " + reply.header.getXid());
        }
        return reply;
    }

    /** The code of one request, or "CLOSED". */
    String code(int op, Record body) throws IOException {
        Reply reply = call(op, body);
        return reply == null ? "CLOSED" : reply.code();
    }

    /** True if the server closes the connection within `ms`; frames before that are dropped. */
    boolean closedWithin(int ms) throws IOException {
        long deadline = System.currentTimeMillis() + ms;
        try {
            while (true) {
                int left = (int) (deadline - System.currentTimeMillis());
                if (left <= 0) {
                    return false;
                }
                socket.setSoTimeout(left);
                if (read() == null) {
                    return true;
                }
            }
        } catch (SocketTimeoutException e) {
            return false;
        } finally {
            if (!socket.isClosed()) {
                socket.setSoTimeout(30000);
            }
        }
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
