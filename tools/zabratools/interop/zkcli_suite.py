"""zkCli's words against the target, compared with what they print against Apache's server.

zkcli_suite.py apache|zabra            Apache's zkCli both times
zkcli_suite.py --shell zabra           Apache's zkCli on Apache against `zabra shell` on Zabra
"""

import base64
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from zabratools.interop import suite as interop
from zabratools.interop.suite import Failed

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d{2} \d{2}:\d{2}:\d{2} \S+ \d{4}"

# One-shot commands, in this order, each a run of its own.
ONE_SHOT = """
ls /
create /c hello
create /c again
create /none/x y
create /c/empty
create -s /c/seq- data
create -s /c/seq- data
create /e ephemerals
create -e /e/eph data
create -s -e /e/es- data
create -c /c/cont
create -c /c/cont2 data
create -t 600000 /c/ttl data
create -s -t 600000 /c/ttls- data
create -t 0 /c/ttl0 data
create -t abc /c/ttlx data
create -e -c /c/both
create -e -t 1000 /c/both2 d
create /c/acl data world:anyone:r
create /c/acl2 data ip:127.0.0.1:cdrwa
create /c/acl3 data world:anyone:xyz
create /c/acl4 data nosuch:x:r
create /c/acl5 data digest:u:p:r
create relative d
create /c/ d
create
ls /c
ls -s /c
ls -R /c
ls -w /c
ls /none
ls -R /none
ls relative
get /c
get -s /c
get -w /c
get -b /c
get -x /c
get /c/empty
get /none
get
set /c world
set -s /c world2
set -v 1 /c world3
set -v 2 /c world3
set -b /c aGVsbG8=
set -b /c notbase64!
get /c
set /none x
set /c
stat /c
stat -w /c
stat /none
stat
getAcl /c
getAcl -s /c
getAcl /c/acl
getAcl /none
setAcl /c/acl2 world:anyone:cdrwa
setAcl -s /c/acl2 world:anyone:cdrwa
setAcl -v 99 /c/acl2 world:anyone:cdrwa
setAcl -R /c world:anyone:cdrwa
setAcl /c bad
setAcl /none world:anyone:r
setAcl /c
getAllChildrenNumber /c
getAllChildrenNumber /none
getAllChildrenNumber
getEphemerals
getEphemerals /c
sync /
sync /none
sync
listquota /c
listquota /none
create /q data
setquota -n 10 /q
listquota /q
setquota -b 1000 /q
setquota -N 20 /q
setquota -B 2000 /q
listquota /q
setquota -n 1 -b 1 /q
setquota -n x /q
setquota /q
create /q/child data
setquota -n 5 /q/child
setquota -n 5 /none
listquota /q
delquota -n /q
listquota /q
delquota -b /q
delquota -N /q
delquota -B /q
listquota /q
delquota /q
delquota /q
delquota /none
setquota -N 3 /q
create /q/two data
create /q/three data
delquota /q
delete /c/empty
delete /none
delete -v 5 /c/seq-0000000001
delete -v 0 /c/seq-0000000001
delete /c
delete /
delete /zookeeper
delete
deleteall /none
deleteall /q
deleteall -b 2 /c
deleteall
ls /
config
config -c
config -s
reconfig -add server.2=127.0.0.1:21990:21991;21992
reconfig -remove 3
reconfig
removewatches /c -d
removewatches /none -a
removewatches
addWatch /w
addWatch -m PERSISTENT /w
addWatch -m NOPE /w
addWatch
addauth digest u:p
addauth nosuch x
addauth
whoami
version
history
redo 1
printwatches
printwatches off
printwatches maybe
connect
close
quit
help
nosuchcommand
ls -z /
get -z /c
create -z /c
"""

# Nothing zkCli means to say: it dies of an exception with a stack trace, prints `null`, or does not know its own `help`.
NOT_FOR_SHELL = {"set -b /c notbase64!", "history", "help"}

# Lines typed into one session each.
SESSIONS = {
    "auth-and-acl": """
addauth digest alice:secret
whoami
create /s1 data auth:alice:secret:cdrwa
getAcl /s1
setAcl /s1 auth:alice:secret:r
set /s1 denied
get /s1
addauth digest super:interop
set /s1 allowed
deleteall /s1
""",
    "watches": """
create /s2 data
get -w /s2
set /s2 new
set /s2 newer
ls -w /s2
create /s2/kid
stat -w /s2/kid
delete /s2/kid
addWatch -m PERSISTENT /s2
set /s2 a
set /s2 b
create /s2/k2
removewatches /s2 -a
set /s2 c
addWatch /s2
create /s2/deep
create /s2/deep/er
set /s2/deep/er x
deleteall /s2
""",
    "remove-watches": """
create /s3 d
get -w /s3
removewatches /s3 -d
removewatches /s3 -d
ls -w /s3
removewatches /s3 -c
get -w /s3
removewatches /s3 -c
removewatches /s3 -a
get -w /s3
removewatches /s3 -d -l
deleteall /s3
""",
    "ephemerals": """
create -e /s4 d
getEphemerals
getEphemerals /s
getEphemerals /zzz
stat /s4
create /s4/child
delete /s4
getEphemerals
""",
    "history": """
create /s5 d
ls /
history
redo 1
delete /s5
printwatches
printwatches off
printwatches
""",
    "stat-over-a-life": """
create /s6 one
stat /s6
set /s6 two
create /s6/a
create /s6/b
delete /s6/a
setAcl /s6 world:anyone:cdrwa
stat /s6
ls -s /s6
get -s /s6
deleteall /s6
""",
    "quotes": """
create /s7 "two words"
get /s7
set /s7 'single quoted words'
get /s7
create "/s7/with space" x
ls /s7
deleteall /s7
""",
}


def java():
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Dfile.encoding=UTF-8",
            "-cp", f"{os.environ['INTEROP_CLASSES']}:{interop.HOME}/.work/lib/*", "interop.ZkCli"]


def steps(shell):
    """(name, script line) of every step."""
    out = []
    for i, line in enumerate(ONE_SHOT.strip().split("\n"), 1):
        if not (shell and line in NOT_FOR_SHELL):
            out.append((f"{i:03} {line}", "\t".join(["one"] + line.split(" "))))
    if not shell:
        for name, text in SESSIONS.items():
            out.append((f"{name}: open", "open"))
            out += [(f"{name} {i:02}: {line}", f"line\t{line}") for i, line in enumerate(text.strip().split("\n"), 1)]
            out.append((f"{name}: close", "close"))
    return out


def run_zkcli(server, script):
    """exit code, stdout, stderr of each step, by Apache's zkCli."""
    path = os.path.join(server.dir, "zkcli.script")
    with open(path, "w") as f:
        f.write("\n".join(script) + "\n")
    done = subprocess.run(java() + [f"127.0.0.1:{server.port}", path], capture_output=True, text=True, timeout=240)
    lines = done.stdout.split("\n")[:-1]
    if len(lines) != len(script):
        raise Failed(f"zkCli stopped after {len(lines)} of {len(script)} steps: {done.stderr[-500:]}")
    return [(e, base64.b64decode(o).decode(), base64.b64decode(r).decode()) for e, o, r in (l.split(" ") for l in lines)]


def run_shell(server, script):
    """The same for `zabra shell`, one process per one-shot command."""
    out = []
    for line in script:
        args = line.split("\t")[1:]
        done = subprocess.run([os.environ["ZABRA_BIN"], "shell", "-server", f"127.0.0.1:{server.port}", *args],
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        out.append((str(done.returncode), done.stdout, done.stderr))
    return out


def normal(text):
    # Connection events come when they come.
    text = re.sub(r"\n?WATCHER::\n\nWatchedEvent state:\w+ type:None path:null zxid: -1\n", "", text)
    text = re.sub(r"(?m)^Connecting to .*\n", "", text)
    text = re.sub(DATE, "DATE", text)
    text = re.sub(r"(?m)^((?:cZxid|mZxid|pZxid) = )0x[0-9a-f]+$", r"\1ZXID", text)
    text = re.sub(r"(?m)^(ephemeralOwner = )0x1[0-9a-f]{10,}$", r"\1SESSION", text)
    text = re.sub(r"(type:Node\w+ path:\S+ zxid: )\d+", r"\1ZXID", text)
    text = re.sub(r"\d+\.\d+\.\d+-[^\s,]+(, built on .*)?", "VERSION", text)
    text = re.sub(r"127\.0\.0\.1:2\d{4}", "ADDRESS", text)
    return text


def problem_of(want, got):
    for what, a, b in zip(("exit code", "stdout", "stderr"), want, got):
        if what != "exit code":
            a, b = normal(a), normal(b)
        if a != b:
            return f"{what}: expected {a!r}, actual {b!r}"
    return None


def main():
    shell = sys.argv[1] == "--shell"
    target = sys.argv[-1]
    suite = interop.Suite("shell" if shell else "zkcli", target)
    plan = steps(shell)
    script = [line for _, line in plan]
    quiet = ["-Dznode.container.checkIntervalMs=3600000"]
    began = time.monotonic()
    with interop.Server("apache", "zkcli-reference", props=quiet) as ref, interop.Server(target, "zkcli", props=quiet) as srv:
        with ThreadPoolExecutor(2) as pool:
            reference = pool.submit(run_zkcli, ref, script)
            tested = pool.submit(run_shell if shell else run_zkcli, srv, script)
            want, got = reference.result(), tested.result()
    if os.environ.get("INTEROP_SHOW"):
        for (name, _), (code, out, err) in zip(plan, want):
            print(f"$ {name} -> {code}\n{normal(out)}{normal(err)}", file=sys.stderr)
    for i, (name, _) in enumerate(plan):
        suite.verdict(name, problem_of(want[i], got[i]))
    print(f"({time.monotonic() - began:.0f} s)", flush=True)
    suite.end()


main()
