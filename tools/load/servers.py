"""Servers to measure: Apache ZooKeeper and Zabra as processes with a data directory, restarted as often as a figure needs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools/compare"))

from comparing.servers import ZOO_CFG, raise_priority  # noqa: E402


def add_arguments(parser):
    """Options every script here has."""
    parser.add_argument("--jars", type=Path, default=REPO / "tools/interop/.work/lib", help="Apache ZooKeeper's jars")
    parser.add_argument("--zabra", type=Path, default=REPO / "target/release/zabra")
    parser.add_argument("--load", type=Path, default=REPO / "target/release/zabra-load")
    parser.add_argument("--heap", default="1000m", help="Apache's -Xmx; zkServer.sh's is 1000m")
    parser.add_argument("--server", action="append", choices=["apache", "zabra"], help="only this one")
    parser.add_argument("--port", type=int, default=24200, help="the first of ten")
    parser.add_argument("--work", type=Path, help="where the data goes; emptied first")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generator")
    parser.add_argument("--out", type=Path, help="all results as JSON")


def check(args, keep=False):
    """Refuses what cannot work, before anything is started; `keep` leaves the data of an earlier run there."""
    names = args.server or ["apache", "zabra"]
    if "apache" in names and not list(args.jars.glob("zookeeper-3.*.jar")):
        sys.exit(f"no Apache ZooKeeper in {args.jars}: run tools/interop/run --install, or name it with --jars")
    for binary in (args.zabra, args.load):
        if not binary.exists():
            sys.exit(f"no {binary}: cargo build --release -p zabra -p zabra-load")
    raise_priority(args.nice)
    if not keep:
        shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True, exist_ok=True)
    return names


class Server:
    """One server and its data; `lines` are added to zoo.cfg, `label` names it in tables and on the disk."""

    def __init__(self, args, kind, number, lines="", label=None):
        self.args, self.kind, self.label = args, kind, label or kind
        self.port = args.port + number
        self.lines = lines
        self.data = args.work / self.label
        self.process = None

    def launch(self):
        """Starts it and does not wait."""
        self.data.mkdir(parents=True, exist_ok=True)
        config = self.args.work / f"{self.label}.cfg"
        config.write_text(ZOO_CFG.format(data=self.data, port=self.port) + self.lines)
        if self.kind == "apache":
            command = ["java", f"-Xmx{self.args.heap}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp",
                       f"{self.args.jars}/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]
        else:
            command = [str(self.args.zabra), "serve", str(config)]
        with open(self.args.work / f"{self.label}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start(self, patience=120):
        """Starts it and waits until it serves."""
        self.launch()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                sys.exit(f"{self.label} did not start: see {self.args.work}/{self.label}.log")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(b"srvr")
                    # Apache answers ruok before it serves.
                    if b"Mode: standalone" in b"".join(iter(lambda: s.recv(4096), b"")):
                        return self
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        sys.exit(f"{self.label} does not answer: see {self.args.work}/{self.label}.log")

    @property
    def pid(self):
        return self.process.pid

    def memory(self):
        """Resident and not backed by a file, bytes: Zabra's mapped log does not count."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon:")), 0)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def load_command(self, *load, seconds, warm_up):
        return [str(self.args.load), *map(str, load), "--server", f"127.0.0.1:{self.port}", "--server-pid", str(self.pid),
                "--seconds", str(seconds), "--warm-up", str(warm_up), "--json", "--quiet"]


def machine():
    """What else the machine does: to be written beside every figure."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return {"load_average": os.getloadavg()[0], "steal_ticks": int(fields[7]), "ticks": sum(map(int, fields))}


def steal(before, after):
    """Share of CPU time that the host took away in between."""
    return (after["steal_ticks"] - before["steal_ticks"]) / max(1, after["ticks"] - before["ticks"])
