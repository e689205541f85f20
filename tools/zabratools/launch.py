"""Replaces itself by one server in the foreground: tools/interop/launch apache|zabra ZOO_CFG [-Dkey=value ...]

ZABRA_BIN is Zabra's binary, and ZABRA_IO=epoll chooses its sockets (zabra.io)."""

import os
import sys

from zabratools.server import JARS, TESTED_JVM, zabra_command, zookeeper_command


def command(kind, config, properties):
    if kind == "apache":
        return zookeeper_command(JARS, config, TESTED_JVM, properties, log_level="info")
    if kind != "zabra":
        sys.exit(f"launch: unknown server '{kind}' (apache or zabra)")
    if "ZABRA_BIN" not in os.environ:
        sys.exit("launch: ZABRA_BIN has to be the path of the zabra binary")
    return zabra_command(os.environ["ZABRA_BIN"], config, properties)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kind, config, *properties = sys.argv[1:]
    program = command(kind, config, properties)
    try:
        # The caller's child process is then the server itself.
        os.execvp(program[0], program)
    except OSError as e:
        sys.exit(f"launch: {program[0]}: {e.strerror}")


if __name__ == "__main__":
    main()
