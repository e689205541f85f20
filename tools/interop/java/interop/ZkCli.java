package interop;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.ZooKeeperMain;
import org.apache.zookeeper.util.ServiceUtils;

/**
 * Runs zkCli commands in one JVM: `ZkCli HOST:PORT SCRIPT`. Each line of SCRIPT is tab-separated:
 * `one ARG...` is a one-shot run with those arguments; `open` starts an interactive session, `line TEXT`
 * types a line into it, `close` ends it. For each line one line of output: exit code (or -), and what was
 * printed on stdout and stderr, both in base64.
 */
public final class ZkCli {
    private ZkCli() {}

    /** Thrown by our exit procedure to stop a command where the process would have ended. */
    private static final class Exit extends RuntimeException {
        final int code;

        Exit(int code) {
            super(null, null, false, false);
            this.code = code;
        }
    }

    private static final PrintStream REAL_OUT = System.out;
    private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream ERR = new ByteArrayOutputStream();

    public static void main(String[] args) throws Exception {
        List<String> script = Files.readAllLines(Path.of(args[1]));
        System.setOut(new PrintStream(OUT, true, "UTF-8"));
        System.setErr(new PrintStream(ERR, true, "UTF-8"));
        ServiceUtils.setSystemExitProcedure(code -> {
            throw new Exit(code);
        });
        ZooKeeperMain session = null;
        for (String step : script) {
            String[] parts = step.split("\t", -1);
            String exit = "-";
            switch (parts[0]) {
                case "one":
                    exit = Integer.toString(oneShot(args[0], Arrays.copyOfRange(parts, 1, parts.length)));
                    break;
                case "open":
                    session = new ZooKeeperMain(new String[] {"-server", args[0], "-waitforconnection"});
                    break;
                case "line":
                    try {
                        session.executeLine(parts[1]);
                    } catch (Exit e) {
                        exit = Integer.toString(e.code);
                    }
                    Thread.sleep(150); // events of the line are printed by another thread
                    break;
                case "close":
                    end(session);
                    break;
                default:
                    throw new IllegalArgumentException("script step " + parts[0]);
            }
            Thread.sleep(20);
            report(exit);
        }
        Runtime.getRuntime().halt(0);
    }

    private static int oneShot(String address, String[] command) throws Exception {
        // Wait, so that the event of the connection is not printed in the middle of the command's output.
        String[] args = new String[command.length + 3];
        args[0] = "-server";
        args[1] = address;
        args[2] = "-waitforconnection";
        System.arraycopy(command, 0, args, 3, command.length);
        ZooKeeperMain main = new ZooKeeperMain(args);
        try {
            java.lang.reflect.Method run = ZooKeeperMain.class.getDeclaredMethod("run");
            run.setAccessible(true);
            run.invoke(main);
            return 0;
        } catch (java.lang.reflect.InvocationTargetException e) {
            if (e.getCause() instanceof Exit) {
                return ((Exit) e.getCause()).code;
            }
            // The JVM does this with an exception that nobody catches.
            System.err.println("Exception in thread \"main\" " + e.getCause());
            return 1;
        } finally {
            end(main);
        }
    }

    /** zkCli would end with its process; here its session has to be closed. */
    private static void end(ZooKeeperMain main) throws Exception {
        Field field = ZooKeeperMain.class.getDeclaredField("zk");
        field.setAccessible(true);
        ZooKeeper zk = (ZooKeeper) field.get(main);
        if (zk != null) {
            zk.close();
        }
    }

    private static void report(String exit) {
        System.out.flush();
        System.err.flush();
        Base64.Encoder b64 = Base64.getEncoder();
        REAL_OUT.println(exit + " " + b64.encodeToString(OUT.toByteArray()) + " " + b64.encodeToString(ERR.toByteArray()));
        REAL_OUT.flush();
        OUT.reset();
        ERR.reset();
    }
}
