"""Describes the machine, and measures how busy it was."""

import os
import platform
import re
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def first_line(command):
    """The version that a program prints; 'unknown' if it is not installed."""
    try:
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return next((l.strip() for l in done.stdout.splitlines() if l.strip()), "unknown")


def read(path, otherwise="unknown"):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return otherwise


def disk_of(folder):
    """Device, file system, mount options, write cache of the disk that holds `folder`."""
    best = ("", "unknown", "unknown", "unknown")
    for line in read("/proc/self/mounts", "").splitlines():
        device, at, kind, options = line.split()[:4]
        if (str(folder) + "/").startswith(at.rstrip("/") + "/") and len(at) >= len(best[0]):
            best = (at, device, kind, options)
    at, device, kind, options = best
    block = os.path.basename(os.path.realpath(device)) if device.startswith("/dev/") else ""
    queue = Path(f"/sys/class/block/{block}/queue")
    if block and not queue.exists():  # a partition
        queue = Path(f"/sys/class/block/{block}").resolve().parent / "queue"
    return {"mounted at": at, "device": device, "file system": f"{kind} ({options})",
            "write cache": read(queue / "write_cache"), "rotational": {"0": "no", "1": "yes"}.get(read(queue / "rotational"), "unknown"),
            "scheduler": read(queue / "scheduler")}


def describe(folder):
    cpu = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo", ""), re.M)
    virtual = "hypervisor" in read("/proc/cpuinfo", "").split()
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo", ""), re.M)
    return {
        "CPU": cpu.group(1) if cpu else platform.machine(),
        "CPUs usable": len(os.sched_getaffinity(0)),
        "virtual machine": "yes" if virtual else "no",
        "frequency governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none visible"),
        "memory": f"{int(memory.group(1)) / 2**20:.1f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()} {platform.version()}",
        "disk": disk_of(folder),
        "Java": first_line(["java", "-version"]),
        "Go": first_line(["go", "version"]),
        "Rust": first_line(["rustc", "--version"]),
    }


def commit(repo):
    """The commit that was built, and whether files differ from it."""
    def git(*command):
        try:
            return subprocess.run(["git", "-C", str(repo), *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return {"id": git("rev-parse", "HEAD") or "unknown", "date": git("log", "-1", "--format=%cI"), "subject": git("log", "-1", "--format=%s"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no"))}


def process_seconds(pid):
    """CPU seconds of a process since it began; 0 when it is gone."""
    text = read(f"/proc/{pid}/stat", "")
    if not text:
        return 0.0
    fields = text.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Watch:
    """How busy the machine was during a run, and because of which processes."""

    def __init__(self, pids):
        self.pids = pids
        self.before = self.look()

    def look(self):
        fields = [int(f) for f in read("/proc/stat").splitlines()[0].split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields
        own = os.times()
        ours = own.user + own.system + own.children_user + own.children_system
        return {"busy": (user + nice + system + irq + softirq) / TICKS, "steal": steal / TICKS, "all": sum(fields) / TICKS,
                "ours": ours + sum(process_seconds(p) for p in self.pids)}

    def end(self):
        """Steal in per cent of all CPU time; CPUs that processes kept busy which are not part of this comparison."""
        after = self.look()
        took = {k: after[k] - self.before[k] for k in after}
        seconds = max(took["all"] / os.cpu_count(), 0.01)
        # Kernel threads (writeback, interrupts) count as others; a negative value is rounding.
        return {"load_average": os.getloadavg()[0], "steal_percent": 100 * took["steal"] / max(took["all"], 0.01),
                "others_cpus": max(0.0, (took["busy"] - took["ours"]) / seconds)}
