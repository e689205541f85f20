"""The servers that these scripts measure, whose data are kept over restarts, and the options that all of them have."""

import shutil
from pathlib import Path

from zabratools.generator import generator
from zabratools.machine import Watch
from zabratools.server import (
    JARS, REPO, ZooKeeper, check_measurable, measured_cfg, raise_priority, zabra_command, zookeeper_command)


def add_arguments(parser):
    """The options that every script here has."""
    parser.add_argument("--jars", type=Path, default=JARS, help="Apache ZooKeeper's jars")
    parser.add_argument("--zabra", type=Path, default=REPO / "target/release/zabra")
    parser.add_argument("--load", type=Path, default=REPO / "target/release/zabra-load")
    parser.add_argument("--heap", default="1000m", help="Apache's -Xmx; zkServer.sh's is 1000m")
    parser.add_argument("--server", action="append", choices=["apache", "zabra"], help="only this one")
    parser.add_argument("--port", type=int, default=24200, help="the first of the ports")
    parser.add_argument("--work", type=Path, help="where the data goes; emptied first")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generator")
    parser.add_argument("--out", type=Path, help="all results as JSON")


def check(args, keep=False):
    """Checks the options before anything is started; with `keep` the data of an earlier run are not deleted."""
    names = args.server or ["apache", "zabra"]
    check_measurable(args.jars if "apache" in names else None, args.zabra, args.load)
    raise_priority(args.nice)
    if not keep:
        shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True, exist_ok=True)
    return names


def command_of(args, kind):
    """What makes the command of a configuration file for Apache or Zabra."""
    if kind == "apache":
        return lambda config: zookeeper_command(args.jars, config, [f"-Xmx{args.heap}"])
    return lambda config: zabra_command(args.zabra, config)


class Server(ZooKeeper):
    """One server and its data; `lines` are added to zoo.cfg, `label` names it in tables and on the disk."""

    def __init__(self, args, kind, number, lines="", label=None):
        self.args, self.kind, self.lines = args, kind, lines
        super().__init__(label or kind, args.work, args.port + number, command_of(args, kind),
                         lambda data, port: measured_cfg(data, port, self.lines))

    def start(self, patience=120):
        return super().start(patience)

    def load(self, *load, seconds, warm_up):
        """Runs zabra-load over it: its JSON, and what else the machine did."""
        watch = Watch([self.pid])
        command = [self.args.load, *load, "--server", f"127.0.0.1:{self.port}", "--server-pid", self.pid, "--seconds", seconds,
                   "--warm-up", warm_up, "--json", "--quiet"]
        result = generator(command, f"{' '.join(map(str, load))} on {self.name}", 600 + 3 * (seconds + warm_up))
        busy = watch.end()
        return result | {"load_average": busy["load_average"], "steal": busy["steal_percent"] / 100}
