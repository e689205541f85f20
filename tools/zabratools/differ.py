"""Starts Apache ZooKeeper and Zabra with equal zoo.cfg and compares their answers to the same seeded streams.

usage: tools/differ/run [--through WAY] [zabra-differ's options, such as --seeds N --ops M --start-seed S]

Starts both servers on 127.0.0.1 with fresh data directories, runs zabra-differ against them, stops them.

  --through WAY  compares members of ensembles of three. One ensemble is Apache's; of the other WAY says what it is made of:
                   followers      a Zabra follower of a Zabra leader, beside an Apache follower of an Apache leader
                   apache-leads   a Zabra follower of an Apache leader, beside the same
                   zabra-leads    an Apache follower of a Zabra leader, beside the same
                   leaders        the leaders of both ensembles

Exit code: 0 no difference, 3 at least one, 1 or 2 the run could not be made.

Environment:
  ZABRA_BIN     zabra binary (default: cargo build, then target/debug/zabra: its assertions are on)
  DIFFER_BIN    zabra-differ binary (default: cargo build -p zabra-differ)
  APACHE_JARS   folder with Apache ZooKeeper's jars (default: tools/interop/.work/lib, filled if need be)
  DIFFER_PORTS  first of two ports, with --through of 18 (default 23600)
  ZABRA_CONFIG  lines to add to Zabra's zoo.cfg, such as zabra.shards=2
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from zabratools.ensemble import mode
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


# The kinds of the members of the second ensemble, and which member is asked in both. The third leads.
WAYS = {"followers": ("zzz", 1), "apache-leads": ("zza", 1), "zabra-leads": ("azz", 1), "leaders": ("zzz", 3)}
MEMBER_LINES = "initLimit=40\nsyncLimit=20\n"
START_PATIENCE = 120


class Member(ZooKeeper):
    def __init__(self, name, work, first, number, command, lines):
        servers = "".join(f"server.{n}=127.0.0.1:{first + n + 2}:{first + n + 5}\n" for n in (1, 2, 3))
        self.number = number
        super().__init__(f"{name}-{number}", work, first + number - 1, command,
                         lambda data, port: tested_cfg(data, port, lines + MEMBER_LINES + servers), serves=lambda port: bool(mode(port)))

    def spawn(self):
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "myid").write_text(f"{self.number}\n")
        super().spawn()


def ensemble(name, kinds, work, first, apache_jars, zabra):
    """Three members on nine ports from `first` on, not started."""
    lines = os.environ.get("ZABRA_CONFIG", "") + "\n"
    commands = {"a": lambda config: zookeeper_command(apache_jars, config, TESTED_JVM, QUIET), "z": lambda config: zabra_command(zabra, config, QUIET)}
    return [Member(name, work, first, n, commands[kind], lines if kind == "z" else "") for n, kind in enumerate(kinds, 1)]


def start_ensemble(members):
    """Starts them so that the third leads: with another one it is the first quorum."""
    for some in (members[1:], members[:1]):
        for m in some:
            m.launch()
        for m in some:
            m.wait(START_PATIENCE)
    if mode(members[2].port) != "leader":
        raise Trouble(f"{members[2].name} does not lead")


def started(work, way, apache_jars, zabra, running):
    """What is asked, as zabra-differ's options. Every server started is added to `running`."""
    if way is None:
        running += servers(work, apache_jars, zabra)
        for server in running:
            server.start()
        return [a for s in running for a in (f"--{s.name}", f"127.0.0.1:{s.port}")]
    kinds, asked = WAYS[way]
    first = int(os.environ.get("DIFFER_PORTS", "23600"))
    options = ["--ensembles"]
    for name, kinds, port in (("apache", "aaa", first), ("zabra", kinds, first + 9)):
        members = ensemble(name, kinds, work, port, apache_jars, zabra)
        running += members
        start_ensemble(members)
        options += [f"--{name}", f"127.0.0.1:{members[asked - 1].port}"]
    return options


def compare(work, way, arguments):
    """The exit code of zabra-differ; at least 1 if a server has died."""
    zabra, differ = binary("ZABRA_BIN", "zabra"), binary("DIFFER_BIN", "zabra-differ")
    running = []
    try:
        options = started(work, way, jars(), zabra, running)
        status = subprocess.run([differ, *options, *arguments], preexec_fn=own_child).returncode
        for server in running:
            try:
                server.check()
            except Trouble as e:
                print(f"differ: {e}", file=sys.stderr)
                status = status or 1
        return status
    finally:
        for server in running:
            server.kill()


def main():
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(__doc__, end="")
        return 0
    if any(a.startswith(("--apache", "--zabra")) for a in arguments):
        print("differ: this script starts the servers itself", file=sys.stderr)
        return 2
    way = None
    if arguments[:1] == ["--through"]:
        if len(arguments) < 2 or arguments[1] not in WAYS:
            print(f"differ: --through {'|'.join(WAYS)}", file=sys.stderr)
            return 2
        way, arguments = arguments[1], arguments[2:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="zabra-differ."))
    status = 2
    try:
        status = compare(work, way, arguments)
    except (Trouble, OSError) as e:
        print(f"differ: {e}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    finally:
        # After a failure the logs are kept for inspection.
        for data in [work] if status == 0 else [d for d in work.iterdir() if d.is_dir()]:
            shutil.rmtree(data, ignore_errors=True)
        if status:
            print(f"differ: servers' logs are in {work}")
    return status


if __name__ == "__main__":
    sys.exit(main())
