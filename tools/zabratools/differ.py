"""Starts Apache ZooKeeper and Zabra with equal zoo.cfg and compares their answers to the same seeded streams.

usage: tools/differ/run [zabra-differ's options, such as --seeds N --ops M --start-seed S]

Starts both servers on 127.0.0.1 with fresh data directories, runs zabra-differ against them, stops them.
Exit code: 0 no difference, 3 at least one, 1 or 2 the run could not be made.

Environment:
  ZABRA_BIN     zabra binary (default: cargo build, then target/debug/zabra: its assertions are on)
  DIFFER_BIN    zabra-differ binary (default: cargo build -p zabra-differ)
  APACHE_JARS   folder with Apache ZooKeeper's jars (default: tools/interop/.work/lib, filled if need be)
  DIFFER_PORTS  first of two ports (default 23600)
  ZABRA_CONFIG  lines to add to Zabra's zoo.cfg, such as zabra.shards=2
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from zabratools.server import JARS, REPO, TESTED_JVM, Trouble, ZooKeeper, has_jars, own_child, tested_cfg, zabra_command, zookeeper_command

# Nothing may be deleted in the background while two servers are compared: that would use zxids.
QUIET = ["-Dznode.container.checkIntervalMs=2000000000"]


def jars():
    given = os.environ.get("APACHE_JARS")
    folder = Path(given) if given else JARS
    if not has_jars(folder):
        if given:
            raise Trouble(f"no zookeeper-3.*.jar in {folder}")
        if subprocess.run([REPO / "tools/interop/run", "--install"]).returncode:
            raise Trouble("installing Apache ZooKeeper failed")
    return folder


def binary(variable, package):
    """The binary that the environment variable names, or else a debug build."""
    if given := os.environ.get(variable):
        return Path(given)
    if subprocess.run(["cargo", "build", "--quiet", "-p", package, "--bin", package], cwd=REPO).returncode:
        raise Trouble(f"{package} does not build")
    return REPO / "target/debug" / package


def servers(work, apache_jars, zabra):
    port = int(os.environ.get("DIFFER_PORTS", "23600"))
    lines = os.environ.get("ZABRA_CONFIG", "") + "\n"
    return [
        ZooKeeper("apache", work, port, lambda config: zookeeper_command(apache_jars, config, TESTED_JVM, QUIET), tested_cfg),
        ZooKeeper("zabra", work, port + 1, lambda config: zabra_command(zabra, config, QUIET),
                  lambda data, port: tested_cfg(data, port, lines)),
    ]


def compare(work, arguments):
    """The exit code of zabra-differ; at least 1 if a server has died."""
    zabra, differ = binary("ZABRA_BIN", "zabra"), binary("DIFFER_BIN", "zabra-differ")
    both = servers(work, jars(), zabra)
    try:
        for server in both:
            server.start()
        command = [differ, *(a for s in both for a in (f"--{s.name}", f"127.0.0.1:{s.port}")), *arguments]
        status = subprocess.run(command, preexec_fn=own_child).returncode
        for server in both:
            try:
                server.check()
            except Trouble as e:
                print(f"differ: {e}", file=sys.stderr)
                status = status or 1
        return status
    finally:
        for server in both:
            server.kill()


def main():
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(__doc__, end="")
        return 0
    if any(a.startswith(("--apache", "--zabra")) for a in arguments):
        print("differ: this script starts the servers itself", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="zabra-differ."))
    status = 2
    try:
        status = compare(work, arguments)
    except (Trouble, OSError) as e:
        print(f"differ: {e}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    finally:
        # After a failure the logs are kept for inspection.
        for data in [work] if status == 0 else [work / "apache", work / "zabra"]:
            shutil.rmtree(data, ignore_errors=True)
        if status:
            print(f"differ: servers' logs are in {work}")
    return status


if __name__ == "__main__":
    sys.exit(main())
