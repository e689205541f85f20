"""The servers that are compared: installed or built once, and started."""

import shutil
import subprocess

from zabratools.ensemble import etcds, zookeepers
from zabratools.server import JARS, REPO, Trouble, ZooKeeper, has_jars, zabra_command, zookeeper_command

COMPARE = REPO / "tools/compare"
INSTALLED = COMPARE / ".work"


def run(command, what, **more):
    """Runs a command to its end; returns its output, or raises Trouble with it."""
    try:
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    except FileNotFoundError:
        raise Trouble(f"{what}: '{command[0]}' is not on PATH") from None
    if done.returncode != 0:
        raise Trouble(f"{what} failed:\n{done.stdout.strip()}")
    return done.stdout


# --- what is compared, installed once ---

def zookeeper_jars(say, given=None):
    """The folder with Apache ZooKeeper's jars; Maven downloads them if no test suite has done so."""
    if given:
        if not has_jars(given):
            raise Trouble(f"no zookeeper-3.*.jar in {given}")
        return given
    for folder in (JARS, INSTALLED / "jars"):
        if list(folder.glob("zookeeper-3.9.*.jar")):
            return folder
    folder = INSTALLED / "jars"
    say("installing Apache ZooKeeper's jars through Maven into tools/compare/.work/jars")
    run(["mvn", "-q", "-B", "-f", REPO / "tools/interop/pom.xml", "dependency:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={folder}"], "installing Apache ZooKeeper (Maven)")
    if not list(folder.glob("zookeeper-3.9.*.jar")):
        raise Trouble(f"Maven left no zookeeper-3.9.*.jar in {folder}")
    return folder


def etcd_programs(say):
    """Builds etcd and etcd-load from the Go module proxy (Go keeps what has not changed)."""
    server, load = INSTALLED / "etcd", INSTALLED / "etcd-load"
    if not server.exists():
        say("building etcd from the Go module proxy into tools/compare/.work (a few minutes the first time)")
    for output, package in ((server, "./server"), (load, "./load")):
        run(["go", "build", "-mod=readonly", "-o", output, package], f"building {output.name} (Go)", cwd=COMPARE / "etcd")
    return server, load


def zabra_programs(say):
    """Builds zabra and zabra-load (cargo keeps what has not changed)."""
    say("building zabra and zabra-load")
    run(["cargo", "build", "--release", "-p", "zabra", "-p", "zabra-load"], "building zabra (cargo)", cwd=REPO)
    return REPO / "target/release/zabra", REPO / "target/release/zabra-load"


# --- servers ---

def fresh(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def ensemble(name, found, work, first, members):
    """So many members of a kind, not started; `found`: the programs by name. They take `PORTS` ports from `first` on."""
    if name == "etcd":
        return etcds(name, work, first, members, found["etcd"])
    command = {"zookeeper": lambda config: zookeeper_command(found["jars"], config),
               "zabra": lambda config: zabra_command(found["zabra"], config)}[name]
    return zookeepers(name, work, first, members, command)


def start_zookeeper(name, work, port, jars=None, binary=None):
    """Apache ZooKeeper (from `jars`) or Zabra (`binary`), one server alone."""
    def command(config):
        return zabra_command(binary, config) if binary else zookeeper_command(jars, config)

    return ZooKeeper(name, work, port, command, cwd=work).start()
