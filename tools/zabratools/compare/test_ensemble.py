"""Tests of ensembles that need no servers: shares, histograms put together, the leader's end, the report. python3 -m unittest discover -s tools"""

import base64
import copy
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib
from pathlib import Path

from zabratools import ensemble
from zabratools.compare import figures, loads, page
from zabratools.compare.test_compare import StandsAlone, document, result
from zabratools.generator import Gate, generators
from zabratools.histogram import COMPRESSED, HEAD, PLAIN, Histogram
from zabratools.server import REPO, Server, Trouble


def zigzag(n):
    """A number of a V2 histogram's counts."""
    value, out = (n << 1) ^ (n >> 63), b""
    for _ in range(8):
        if value < 0x80:
            return out + bytes([value])
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def coded(*numbers, digits=3, lowest=1):
    counts = b"".join(map(zigzag, numbers))
    inner = HEAD.pack(PLAIN | 0x10, len(counts), 0, digits, lowest, 600_000_000_000, 1.0) + counts
    packed = zlib.compress(inner)
    return base64.b64encode(struct.pack(">ii", COMPRESSED | 0x10, len(packed)) + packed).decode()


# What hdrhistogram of Rust and of Go wrote, and count, p50 and maximum as they said themselves. The first is of a run of zabra-load.
WRITTEN = [
    ("HISTFAAAAKd4nC2NMQrCUBBE/38/n49EkZBCBMFKLKytg4VYeAZLC8HCO0QrERGLlDaCiIXgHSxyAq9ha+dg3GF2mVlmt7M+psaYs6nK/acVt49yZbJ3ZeRL"
     "xvTpkhBwYsAIXgho4TCRUXfUxCZzYmGAhJrX8DR+IQdMaNEmkxNLJ6QsuFumsnvcLENOXodGbCxP2KHnL0sZKXGNyescEooGhecTMWPvuAS+zM8XGw==", 77, 69.503, 5791.743),
    ("HISTFAAAADJ42pJpmSzMwMDAzQABzFCakYGBoXvTyQIG+w8Qge3iTFvnM7J8XsbIBAgAAP//p2kIwA==", 4, 1500.159, 2000683.007),
]


class Histograms(unittest.TestCase):
    def test_values_of_places(self):
        # Below 2,048 every nanosecond has its place; then places are twice as wide in each further half.
        h = Histogram()
        h.add(coded(-1500, 1, -(2047 - 1501), 2, 3, 4))
        self.assertEqual(h.counts, {(1500, 1500): 1, (2047, 2047): 2, (2048, 2049): 3, (2050, 2051): 4})
        self.assertEqual(h.at([0, 10, 30, 60, 60.1, 100]), [1500, 1500, 2047, 2049, 2051, 2051])

    def test_several_are_added_up(self):
        h = Histogram()
        h.add(coded(-1000, 99))
        h.add(coded(-2000, 1))
        latency = h.latency_us()
        self.assertEqual((latency["count"], latency["p50"], latency["p99"], latency["p99.9"], latency["max"]), (100, 1.0, 1.0, 2.0, 2.0))
        self.assertAlmostEqual(latency["mean"], 1.01)
        curve = h.curve_us()
        self.assertEqual((curve[0], curve[-1]), ([0.0, 1.0], [100.0, 2.0]))
        self.assertTrue(all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(curve, curve[1:])))

    def test_large_counts(self):
        for n in (1, 63, 64, 127, 128, 10**6, 2**40, 2**62):
            h = Histogram()
            h.add(coded(n, -5, 1))
            self.assertEqual(h.counts, {(0, 0): n, (6, 6): 1})

    def test_what_the_generators_write(self):
        for text, *said in WRITTEN:
            h = Histogram()
            h.add(text)
            found = h.latency_us()
            self.assertEqual([found["count"], found["p50"], found["max"]], said)

    def test_a_log_has_intervals_of_all_kinds(self):
        log = (f'#[Histogram log format version 1.3]\n"StartTimestamp","..."\nTag=get,0.000,1.000,0.1,{coded(-5, 1)}\n'
               f"Tag=set,1.000,1.000,0.1,{coded(-6, 2)}\n")
        self.assertEqual(Histogram().read_log(log).counts, {(5, 5): 1, (6, 6): 2})

    def test_what_is_no_histogram_is_said(self):
        for bad in ("", "%%", "AAAA", base64.b64encode(struct.pack(">ii", COMPRESSED | 0x10, 3) + b"abc").decode(), coded(1)[:-8]):
            with self.assertRaisesRegex(Trouble, "cannot be read"):
                Histogram().add(bad)
        with self.assertRaisesRegex(Trouble, "no latency"):
            Histogram().latency_us()


class Shares(unittest.TestCase):
    def test_connections_and_rates_are_shared(self):
        of = {load.name: load for load in loads.ensembles() + loads.sweeps((1000,), (), 63)}
        self.assertEqual([s.connections for s in of["set 63x1"].shares(3)], [21, 21, 21])
        self.assertEqual([s.connections for s in of["set 15x64"].shares(4)], [4, 4, 4, 3])
        self.assertEqual([s.connections for s in of["set 1x1"].shares(3)], [1])
        self.assertEqual([s.rate for s in of["get at 1,000/s"].shares(3)], [1000 / 3] * 3)
        self.assertEqual(of["set 1x1"].shares(1), [of["set 1x1"]])

    def test_every_server_has_the_same_loads(self):
        for load in loads.chosen([], members=3):
            self.assertTrue(set(load.servers) == set(loads.ALL) or load.name == "get 63x1, linearizable", load.name)
        self.assertEqual([load.name for load in loads.chosen(["set 15x64"], members=3)], ["set 15x64"])
        self.assertEqual(loads.chosen(["set 15x64"]), [])


def generated(rate, cpus, held=None):
    return {**result(rate, 100, held=held, cpus=cpus), "seconds": 2.0, "ops": 2 * rate,
            "server_memory_bytes": {"rss": 10, "peak_rss": 20, "anonymous": 5}}


class Together(unittest.TestCase):
    def setUp(self):
        self.latencies = Histogram()
        self.latencies.add(coded(-1000, 1))

    def test_sums_count_members_that_were_not_asked(self):
        found = ensemble.together([generated(1000, 0.5), generated(3000, 0.1)], [(10, 12), (10.5, 12.5)], self.latencies,
                                  [(0.2, {"rss": 1, "peak_rss": 1, "anonymous": 1})])
        self.assertEqual((found["ops_per_second"], found["ops"], found["held"], found["together"]), (4000, 8000, None, 0.75))
        self.assertAlmostEqual(found["server_cpu"]["cpus"], 0.8)
        self.assertAlmostEqual(found["server_cpu"]["us_per_op"], 200)
        self.assertEqual(found["server_memory_bytes"], {"rss": 21, "peak_rss": 41, "anonymous": 11})
        self.assertEqual((found["generator_cpus"], found["busiest_generator_cpus"], len(found["members"])), (1.0, 0.5, 3))

    def test_every_member_has_to_hold_its_part_of_a_rate(self):
        for second, both in ((True, True), (False, False)):
            found = ensemble.together([generated(1, 1, True), generated(1, 1, second)], [(0, 2), (0, 2)], self.latencies, [])
            self.assertEqual(found["held"], both)

    def test_cpu_time_of_a_window(self):
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                with ensemble.Spent([busy.pid]) as spent:
                    begin = time.time()
                    while spent.seconds(begin, time.time())[0] < 0.1:
                        time.sleep(0.02)
                    end = time.time()
                self.assertEqual(spent.seconds(end, end), [0.0])
                self.assertGreaterEqual(spent.seconds(begin, end)[0], 0.1)
            finally:
                busy.kill()
        self.assertEqual(ensemble.memory_of(busy.pid)["rss"], 0)

    def test_generators_run_at_the_same_time_and_end_together(self):
        # Each waits for a file of the other.
        meet = ("import sys, time, pathlib; mine, other = map(pathlib.Path, sys.argv[1:]); mine.touch()\n"
                "while not other.exists(): time.sleep(0.01)\nprint('{}')")
        with tempfile.TemporaryDirectory() as folder:
            a, b = Path(folder, "a"), Path(folder, "b")
            run = [sys.executable, "-c"]
            self.assertEqual(generators([([*run, meet, a, b], "a"), ([*run, meet, b, a], "b")], 60), [{}, {}])
            # The second never ends by itself, and is ended when the first has failed.
            with self.assertRaisesRegex(Trouble, "first: exit status 1"):
                generators([([*run, "exit(1)"], "first"), ([*run, "import time; time.sleep(600)"], "second")], 60)


# Sets up for so many seconds, logs, and says as its result when it was ready and when it was through the gate.
THROUGH_THE_GATE = """import json, sys, time
time.sleep(float(sys.argv[2]))
ready = time.time()
with open(sys.argv[1], "w") as log:
    began = time.time()
    log.write("first\\nlast\\n")
print(json.dumps([ready, began]))
"""


class Gates(unittest.TestCase):
    def run_them(self, *commands):
        with tempfile.TemporaryDirectory() as folder:
            gate = Gate(folder, len(commands))
            done = generators([([sys.executable, "-c", program, pipe, wait], program) for (program, wait), pipe in zip(commands, gate.pipes)],
                              60, lambda running: gate.open(running, 60))
            return done, gate.logs()

    def test_all_begin_when_the_last_is_ready(self):
        done, logs = self.run_them((THROUGH_THE_GATE, 0), (THROUGH_THE_GATE, 0.5))
        self.assertGreaterEqual(min(began for _, began in done), max(ready for ready, _ in done))
        self.assertEqual([text for _, text in logs], ["first\nlast\n"] * 2)
        for (_, began), (ended, _) in zip(done, logs):
            self.assertGreaterEqual(ended, began)

    def test_one_that_ends_before_is_the_error(self):
        for program, words in (("exit('no server')", "no server"), ("print('{}')", "ended before its load began")):
            with self.assertRaisesRegex(Trouble, words):
                self.run_them((program, 0), (THROUGH_THE_GATE, 0.1))


class Member:
    """A member whose writes are acknowledged from some moment on."""

    def __init__(self, serves):
        self.serves, self.asked = serves, 0

    def write(self):
        self.asked += 1
        if not self.serves.is_set():
            raise ConnectionError("nobody leads")


class Kills(unittest.TestCase):
    def test_the_first_acknowledged_write_counts_though_others_hang(self):
        class Hanging(Member):
            def write(self):
                self.asked += 1
                never.wait(60)
        never, serves = threading.Event(), threading.Event()
        hanging, late = Hanging(serves), Member(serves)
        timer = threading.Timer(0.1, serves.set)
        began = time.monotonic()
        timer.start()
        took = ensemble.first_write([hanging, late], began + 30) - began
        never.set()
        self.assertGreaterEqual(took, 0.1)
        self.assertGreater(hanging.asked, 1)
        self.assertGreater(late.asked, 1)

    def test_no_write_at_all_is_an_error(self):
        with self.assertRaisesRegex(Trouble, "no write was acknowledged"):
            ensemble.first_write([Member(threading.Event())], time.monotonic() + 0.05)

    def test_the_leader_is_killed_and_comes_back(self):
        with tempfile.TemporaryDirectory() as folder:
            class One(Server):
                def __init__(self, name, leads):
                    super().__init__(name, ["sleep", "600"], 1, Path(folder, name), serves=lambda _: True)
                    self.leads, self.wrote = lambda: leads, 0

                def write(self):
                    self.wrote += 1
            members = [One("a", False), One("b", True), One("c", False)]
            both = ensemble.Ensemble("x", members)
            with_pids = both.start().pids
            try:
                self.assertGreater(both.fail_over(), 0)
                both.check()
                self.assertEqual([a == b for a, b in zip(with_pids, both.pids)], [True, False, True])
                self.assertEqual(members[1].wrote, 0)
            finally:
                both.stop()


def three_members():
    """The document of three servers with three members each."""
    doc = document()
    doc |= {"version": 2, "members": 3, "kills": {"zookeeper": [3.0, 1.0, 2.0], "zabra": [0.25]}}
    for run in doc["runs"]:
        each = {"ops_per_second": 500.0, "cpus": 0.25, "memory_bytes": {"rss": 7 << 20}}
        run["result"] |= {"together": 1.0, "busiest_generator_cpus": 0.2,
                          "members": [{**each, "role": role} for role in ("follower", "leader", "follower")]}
    return doc


class Report(StandsAlone, unittest.TestCase):
    def test_members_and_kills_are_in_the_report(self):
        text = page.render(three_members())
        self.check(text)
        for words in ("three members each", "Three members each, all on one machine", "Leader and followers",
                      "3|1.00|2.00|3.00|", "1|0.25|0.25|0.25|"):
            self.assertIn(words, re.sub('<td class="">([^<]*)</td>', r"\1|", text))
        self.assertNotIn("standalone servers,", text)
        self.assertNotIn("One server each", text)

    def test_documents_of_standalone_servers_say_so(self):
        for doc in (document(), {**document(), "version": 2, "members": 1, "kills": {}}):
            self.assertEqual(figures.problems(doc), [])
            text = page.render(doc)
            self.check(text)
            self.assertIn("standalone servers,", text)
            self.assertIn("One server each", text)
            for words in ("Leader and followers", "After the end of the leader", "members each"):
                self.assertNotIn(words, text)

    def test_generators_that_missed_each_other_are_marked(self):
        doc = three_members()
        self.assertEqual([figures.marks(doc, r) for r in doc["runs"]], [[]] * len(doc["runs"]))
        run = copy.deepcopy(doc["runs"][0])
        run["result"]["together"] = 0.5
        self.assertEqual(figures.marks(doc, run), ["generators measured together for 50 % only"])
        # The limit is one generator's CPU, not that of all three.
        run["result"]["generator_cpus"] = 1.5
        self.assertEqual(figures.limits(doc, run), [])
        run["result"]["busiest_generator_cpus"] = 0.97
        self.assertEqual(figures.limits(doc, run), ["generator used a whole CPU"])

    def test_bad_arguments_are_refused(self):
        for bad in (["--members", "0"], ["--members", "10"], ["--kills", "1"], ["--members", "2", "--kills", "1"], ["--kills", "-1"],
                    ["--members", "3", "--only", "set 64x1"], ["--only", "set 63x1"]):
            done = subprocess.run([REPO / "tools/compare/run", *bad], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 2, bad)


if __name__ == "__main__":
    unittest.main()
