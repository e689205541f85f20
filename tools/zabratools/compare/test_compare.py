"""Tests that need no servers: arithmetic, marks, the page, the command lines. python3 -m unittest discover -s tools"""

import copy
import json
import re
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

from zabratools.compare import figures, loads, measure, page, plot
from zabratools.generator import generator
from zabratools.server import REPO, Server, Trouble


def result(rate, p50, cpu=10.0, held=None, generator=0.5, cpus=0.5):
    latency = {"count": 100, "mean": p50, "min": 1.0, "p50": p50, "p90": p50 * 2, "p99": p50 * 4, "p99.9": p50 * 8, "p99.99": p50 * 9,
               "max": p50 * 10}
    curve = [[0.0, p50 / 2], [50.0, p50], [90.0, p50 * 2], [99.0, p50 * 4], [100.0, p50 * 10]]
    return {"ops_per_second": rate, "latency_us": latency, "latency_curve_us": curve, "held": held, "generator_cpus": generator,
            "server_cpu": {"us_per_op": cpu, "cpus": cpus}, "server_memory_bytes": {"rss": 100 << 20, "peak_rss": 1, "anonymous": 50 << 20}}


def document():
    """Two rounds of two closed loads on three servers and a sweep."""
    chosen = [l for l in loads.chosen(["get 64x1", "set 1x1", "sweep get"], get_rates=(1000, 2000))]
    doc = {"version": 1, "began": "2026-01-02 03:04:05 UTC", "ended": "later", "command": ["run", "<script>alert(1)</script>"],
           "options": {"rounds": 2, "seconds": 5.0, "warm_up": 1.0, "bracket_seconds": 1.0, "only": [], "seed": 1, "nice": 0},
           "machine": {"CPU": "a CPU", "CPUs usable": 4, "disk": {"device": "/dev/x"}},
           "commit": {"id": "abc", "date": "d", "subject": "s", "changed": False}, "loads": [], "runs": [], "brackets": []}
    doc["servers"] = {s: {"version": "1", "command": ["x"], "config": "", "notes": ["n"]} for s in loads.ALL}
    for load in chosen:
        doc["loads"].append({**load.as_json(), "commands": {s: load.command(s) for s in ("zabra", "etcd")}})
        for n in range(2):
            for i, server in enumerate(loads.ALL):
                speed = {"zookeeper": 1, "etcd": 0.5, "zabra": 4}[server] * (1 + n)
                held = None if load.sweep is None else server != "etcd"
                at = len(doc["brackets"])
                doc["brackets"].append({"load": load.name, "round": n, "echo": result(8000, 50), "disk": result(5000, 200)})
                doc["runs"].append({"load": load.name, "server": server, "round": n, "before": at, "after": at + (i < 2),
                                    "environment": {"load_average": 1.0, "others_cpus": 0.1, "steal_percent": 0.0},
                                    "result": result(1000 * speed, 500 / speed, held=held)})
    return doc


class Arithmetic(unittest.TestCase):
    def test_ratios_pair_the_rounds(self):
        doc = document()
        self.assertEqual(figures.ratio(doc, "get 64x1", "zabra", "zookeeper", "throughput"), (4.0, 4.0, 4.0))
        self.assertEqual(figures.ratio(doc, "get 64x1", "etcd", "zookeeper", "p50"), (2.0, 2.0, 2.0))
        # Round 2 of the base is missing: only round 1 counts, although the medians would give another ratio.
        doc["runs"] = [r for r in doc["runs"] if not (r["server"] == "zookeeper" and r["round"] == 1)]
        self.assertEqual(figures.ratio(doc, "get 64x1", "zabra", "zookeeper", "throughput"), (4.0, 4.0, 4.0))
        self.assertEqual(figures.median(doc, "get 64x1", "zabra", "throughput"), 6000)
        self.assertIsNone(figures.ratio(doc, "no such load", "zabra", "zookeeper", "p50"))

    def test_bounds(self):
        doc = document()
        load = {l["name"]: l for l in doc["loads"]}
        found = figures.bounds(doc, load["get 64x1"], "zookeeper")
        self.assertEqual((found["throughput"], found["floor_us"]), (1500 / 8000, 50))
        # A write waits for a sync too.
        self.assertEqual(figures.bounds(doc, load["set 1x1"], "zookeeper")["floor_us"], 250)

    def test_a_bracket_too_short_to_count_its_cpu_has_no_ratio(self):
        doc = document()
        for bracket in doc["brackets"]:
            bracket["echo"]["server_cpu"]["us_per_op"] = 0.0
        self.assertIsNone(figures.bounds(doc, doc["loads"][0], "zabra")["cpu"])
        self.assertIn("<td class=\"\">–</td>", page.render(doc))

    def test_a_clean_run_has_no_marks_and_each_disturbance_one(self):
        doc = document()
        run = next(r for r in doc["runs"] if r["load"] == "set 1x1")
        self.assertEqual(figures.marks(doc, run), [])
        self.assertEqual(figures.limits(doc, run), [])
        for change, words in [
            (lambda d, r: d["brackets"][r["after"]]["echo"].update(ops_per_second=6000), "bare echo moved ×1.33"),
            (lambda d, r: d["brackets"][r["before"]]["disk"]["latency_us"].update(p50=100), "bare sync moved ×2.00"),
            (lambda d, r: r["environment"].update(others_cpus=0.6), "others used 0.60 CPUs"),
            (lambda d, r: r["environment"].update(steal_percent=7), "steal 7.0 %"),
        ]:
            changed = copy.deepcopy(doc)
            changed_run = next(r for r in changed["runs"] if r["load"] == "set 1x1")
            change(changed, changed_run)
            self.assertEqual(figures.marks(changed, changed_run), [words])
        run["result"]["generator_cpus"] = 0.99
        self.assertEqual(figures.limits(doc, run), ["generator used a whole CPU"])
        run["result"]["server_cpu"]["cpus"] = 3.0
        self.assertEqual(len(figures.limits(doc, run)), 2)

    def test_a_bracket_that_moved_between_rounds_is_noticed(self):
        doc = document()
        for bracket in doc["brackets"]:
            if bracket["load"] == "get 64x1" and bracket["round"] == 0:
                bracket["echo"]["ops_per_second"] = 4000
        run = next(r for r in doc["runs"] if r["load"] == "get 64x1" and r["round"] == 0)
        self.assertIn("bare echo moved", figures.marks(doc, run)[0])

    def test_curves(self):
        one, two, three = [(50, 1), (100, 10)], [(50, 3), (90, 4), (100, 20)], [(50, 5), (100, 30)]
        self.assertEqual(figures.median_curve([one, two, three]), [(50, 3), (90, 10), (100, 20)])
        self.assertEqual(figures.median_curve([]), [])

    def test_sweep_points(self):
        points = figures.sweep(document(), "get", "etcd")
        self.assertEqual([(p["offered"], p["achieved"], p["held"]) for p in points], [(1000, 750, False), (2000, 750, False)])


class StandsAlone:
    """Beside a TestCase."""

    def check(self, text):
        """Balanced tags, nothing loaded from anywhere, nothing that the browser would run."""
        opened, problems = [], []

        class Reader(HTMLParser):
            def handle_starttag(self, tag, attributes):
                if tag not in ("meta", "br"):
                    opened.append(tag)
                problems.extend(f"{tag} {k}" for k, _ in attributes if k in ("src", "href", "srcset") or k.startswith("on"))
                problems.extend([tag] if tag in ("script", "link", "iframe") else [])

            def handle_endtag(self, tag):
                if not opened or opened.pop() != tag:
                    problems.append(f"</{tag}>")

        Reader(convert_charrefs=True).feed(re.sub(r"<(polyline|circle|rect)\b([^>]*)/>", r"<\1\2></\1>", text))
        self.assertEqual((problems, opened), ([], []))
        self.assertNotIn("url(", text)
        self.assertNotRegex(text, r"\b(nan|inf|None)\b")


class Page(StandsAlone, unittest.TestCase):
    def test_the_page_stands_alone(self):
        text = page.render(document())
        self.check(text)
        self.assertIn("×4.00", text)
        self.assertIn("&lt;script&gt;", text)
        self.assertIn("not held", text)

    def test_half_a_comparison_can_be_shown(self):
        doc = document()
        for keep in (0, 1, 2, 7):
            half = {**doc, "runs": doc["runs"][:keep], "failed": "etcd ended"}
            self.check(page.render(half))
        self.assertIn("etcd ended", page.render({**doc, "failed": "etcd ended"}))

    def test_a_failed_run_is_said(self):
        text = page.render({**document(), "failures": [{"load": "x", "server": "etcd", "round": 1, "text": "no answer for 20 s"}]})
        self.assertIn("(round 2): no answer for 20 s", text)

    def test_two_servers_are_enough(self):
        doc = document()
        doc["runs"] = [r for r in doc["runs"] if r["server"] != "zookeeper"]
        self.check(page.render(doc))

    def test_axes(self):
        axis = plot.Log(1, 1000, 0, 300)
        self.assertEqual([axis.at(v) for v in (0.1, 1, 10, 1000, 9999)], [0, 0, 100, 300, 300])
        self.assertEqual(plot.Log(5, 5, 0, 10).at(5), 5)
        self.assertEqual([plot.micros(v) for v in (1.5, 150, 1500, 15_000, 1.5e6)], ["1.5 µs", "150 µs", "1.5 ms", "15 ms", "1.5 s"])


class Rounds(unittest.TestCase):
    def measurement(self):
        from types import SimpleNamespace as Some
        alive = Some(check=lambda: None, pids=[1])
        m = measure.Measurement(Some(seconds=1, warm_up=0, bracket_seconds=1, seed=1), {s: alive for s in loads.ALL}, {}, None)
        m.say = lambda _: None
        m.tell = lambda *_: None
        m.bracket = lambda load, n: m.brackets.append((load.name, n)) or len(m.brackets) - 1
        return m

    def test_every_run_is_between_two_brackets_and_the_first_alternates(self):
        m = self.measurement()
        m.run = lambda load, name, *_: (result(1, 1), {})
        for n in range(3):
            m.round(loads.chosen(["set 1x1"]), n)
        self.assertEqual([(r["before"], r["after"]) for r in m.runs], [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11)])
        self.assertEqual([r["server"] for r in m.runs[::3]], ["zookeeper", "etcd", "zabra"])

    def test_a_rate_that_was_not_held_is_the_last_of_its_round(self):
        m = self.measurement()
        m.run = lambda load, name, *_: (result(1, 1, held=name != "etcd" or load.rate < 2000), {})
        for n in range(2):
            m.round(loads.chosen(["sweep get", "sweep set"], get_rates=(1000, 2000, 3000), set_rates=(1000, 1500)), n)
        asked = [(r["load"], r["round"]) for r in m.runs if r["server"] == "etcd"]
        self.assertEqual(asked, [(l, n) for n in (0, 1) for l in ("get at 1,000/s", "get at 2,000/s", "set at 1,000/s", "set at 1,500/s")])

    def test_failed_runs_are_kept_apart_until_they_are_too_many(self):
        m = self.measurement()

        def run(load, name, *_):
            if name == "etcd" and load.load == "get":
                raise Trouble("no answer")
            return result(1, 1), {}
        m.run = run
        chosen = loads.chosen(["get 64x1", "set 1x1"])
        for n in range(measure.MOST_FAILURES):
            m.round(chosen, n)
        self.assertEqual((len(m.failures), len(m.runs)), (measure.MOST_FAILURES, 5 * measure.MOST_FAILURES))
        with self.assertRaisesRegex(Trouble, "no answer"):
            m.round(chosen, 9)


class Program(unittest.TestCase):
    def run_it(self, *arguments):
        return subprocess.run([REPO / "tools/compare/run", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_a_report_is_made_again_from_its_json(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "a.json")
            source.write_text(json.dumps(document()))
            done = self.run_it("--render", source)
            self.assertEqual((done.returncode, Path(folder, "a.html").read_text()), (0, page.render(document())), done.stderr)
            for broken in ("{", "{}", json.dumps({**document(), "version": 9})):
                source.write_text(broken)
                done = self.run_it("--render", source)
                self.assertEqual(done.returncode, 1)
                self.assertIn("compare: ", done.stderr)

    def test_bad_arguments_are_refused(self):
        for bad in (["--rounds", "0"], ["--only", "nothing"], ["--servers", "redis"], ["--get-rates", "5,3"], ["--seconds", "x"]):
            self.assertEqual(self.run_it(*bad).returncode, 2, bad)

    def test_loads(self):
        self.assertEqual([l.name for l in loads.chosen(["get 64x1"])], ["get 64x1"])
        self.assertEqual([l.rate for l in loads.chosen(["sweep set"], set_rates=(5, 6))], [5, 6])
        for load in loads.chosen([]):
            for server in load.servers:
                self.assertEqual(load.command(server)[0], load.load)
            self.assertTrue(set(load.servers) <= set(loads.ALL))

    def test_generators_are_watched(self):
        say = [sys.executable, "-c"]
        self.assertEqual(generator([*say, "print('{\"a\": 1}')"], "x", 20), {"a": 1})
        self.assertEqual(generator([*say, "print('{}'); exit(3)"], "x", 20), {})
        for program, words, limit in [("exit(1)", "exit status 1", 60), ("print('{')", "no JSON", 60),
                                      ("import time; time.sleep(60)", "no end after", 0.1)]:
            with self.assertRaisesRegex(Trouble, words):
                generator([*say, program], "x", limit)

    def test_a_taken_port_and_a_server_that_ends_are_said(self):
        import socket
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
            with self.assertRaisesRegex(Trouble, "is taken"):
                Server("x", ["true"], taken.getsockname()[1], Path(folder, "x.log")).start()
            taken.close()
            with self.assertRaisesRegex(Trouble, "(?s)x ended.*no heap"):
                Server("x", ["sh", "-c", "echo no heap; exit 3"], 1, Path(folder, "x.log")).start()


if __name__ == "__main__":
    unittest.main()
