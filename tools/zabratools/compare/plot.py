"""Plots as inline SVG."""

import math
from html import escape

WIDTH, HEIGHT = 620, 340
LEFT, RIGHT, TOP, BOTTOM = 74, 30, 14, 46
COLOURS = {"zookeeper": "#c4560a", "etcd": "#2f6fd0", "zabra": "#11875a"}
PERCENTILES = (0, 50, 90, 99, 99.9, 99.99, 99.999)


def micros(us):
    """Microseconds as text in a suitable unit."""
    if us < 10:
        return f"{us:.1f} µs"
    if us < 1_000:
        return f"{us:.0f} µs"
    if us < 10_000:
        return f"{us / 1e3:.1f} ms"
    if us < 1_000_000:
        return f"{us / 1e3:.0f} ms"
    return f"{us / 1e6:.1f} s"


def count(n):
    if n >= 1e6:
        return f"{n / 1e6:g} M"
    return f"{n / 1e3:g} k" if n >= 1e3 else f"{n:g}"


class Log:
    """A logarithmic axis from `low` to `high` over the pixels `a` to `b`."""

    def __init__(self, low, high, a, b):
        self.low, self.high = math.log10(low), math.log10(max(high, low))
        if self.high - self.low < 0.5:
            self.low, self.high = self.low - 0.25, self.high + 0.25
        self.a, self.b = a, b

    def at(self, value):
        share = (math.log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return self.a + (self.b - self.a) * min(max(share, 0.0), 1.0)

    def ticks(self):
        """1, 2 and 5 of each decade, or only the decades of a wide axis."""
        steps = (1,) if self.high - self.low > 3 else (1, 2, 5)
        whole = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [s * 10.0**d for d in whole for s in steps]
        return [v for v in values if self.low - 1e-9 <= math.log10(v) <= self.high + 1e-9]


class Canvas:
    def __init__(self, title, height=HEIGHT):
        self.parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']

    def line(self, points, colour, width=1.0, dash=None, opacity=1.0):
        coded = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{coded}" fill="none" stroke="{colour}" stroke-width="{width}" '
                          f'stroke-opacity="{opacity}" stroke-linejoin="round"{dashed}/>')

    def text(self, x, y, text, anchor="middle", turn=None, size=11, colour="#555"):
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn is not None else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{turned}>'
                          f"{escape(text)}</text>")

    def dot(self, x, y, colour, filled, title):
        fill = colour if filled else "#fff"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{fill}" stroke="{colour}" stroke-width="1.5">'
                          f"<title>{escape(title)}</title></circle>")

    def axes(self, x, y, x_ticks, y_ticks, x_name, y_name):
        """`*_ticks`: (value, text)."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value, text in y_ticks:
            at = y.at(value)
            self.line([(LEFT, at), (right, at)], "#e3e3e3")
            self.text(LEFT - 6, at + 4, text, "end")
        for value, text in x_ticks:
            at = x.at(value)
            self.line([(at, TOP), (at, bottom)], "#efefef")
            self.text(at, bottom + 16, text)
        self.line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], "#888")
        self.text((LEFT + right) / 2, HEIGHT - 8, x_name, colour="#333")
        self.text(13, (TOP + bottom) / 2, y_name, turn=-90, colour="#333")

    def svg(self):
        return "".join([*self.parts, "</svg>"])


def percentile_curves(title, series):
    """`series`: [(server, [curve of each round], median curve)]; a curve is [(per cent, µs)]."""
    values = [v for _, rounds, _ in series for curve in rounds for _, v in curve]
    if not values:
        return ""
    # x is 1 / (1 - quantile): each nine takes the same room.
    nines = lambda percent: 1 / max(1 - percent / 100, 1e-5)
    x = Log(1, nines(PERCENTILES[-1]), LEFT, WIDTH - RIGHT)
    y = Log(max(min(values), 0.1) * 0.9, max(values) * 1.1, HEIGHT - BOTTOM, TOP)
    canvas = Canvas(title)
    canvas.axes(x, y, [(nines(p), f"{p:g} %") for p in PERCENTILES], [(v, micros(v)) for v in y.ticks()],
                "per cent of requests that were at least as fast", "latency")
    draw = lambda curve: [(x.at(nines(p)), y.at(v)) for p, v in curve if p <= PERCENTILES[-1]]
    for server, rounds, _ in series:
        for curve in rounds if len(rounds) > 1 else []:
            canvas.line(draw(curve), COLOURS[server], 0.8, opacity=0.35)
    for server, _, middle in series:
        canvas.line(draw(middle), COLOURS[server], 2.2)
    return canvas.svg()


def throughput_against_latency(title, series):
    """`series`: [(server, points of figures.sweep)]: p50 drawn through, p99 dashed; hollow where the rate was not held."""
    points = [p for _, each in series for p in each]
    if not points:
        return ""
    rates = [max(p["achieved"], 1) for p in points]
    x = Log(min(rates) * 0.8, max(rates) * 1.25, LEFT, WIDTH - RIGHT)
    low, high = min(p["p50"] for p in points), max(max(p["p50"], p["p99"]) for p in points)
    y = Log(max(low, 0.1) * 0.8, high * 1.25, HEIGHT - BOTTOM, TOP)
    canvas = Canvas(title)
    canvas.axes(x, y, [(v, count(v)) for v in x.ticks()], [(v, micros(v)) for v in y.ticks()],
                "operations per second that were answered", "latency from the planned send")
    for server, each in series:
        for which, dash in (("p50", None), ("p99", "5 4")):
            canvas.line([(x.at(p["achieved"]), y.at(p[which])) for p in each], COLOURS[server], 1.8, dash)
            for p in each:
                held = "" if p["held"] else ", NOT HELD"
                canvas.dot(x.at(p["achieved"]), y.at(p[which]), COLOURS[server], p["held"],
                           f"{server}: {p['offered']:,.0f}/s offered, {p['achieved']:,.0f}/s answered, {which} {micros(p[which])}{held}")
    return canvas.svg()


def bars(title, rows, unit):
    """`rows`: [(load, [(server, value, text)])]: each load's bars as shares of its longest."""
    each, gap, left, right = 15, 12, 150, 150
    height = sum(each * len(group) + gap for _, group in rows) + 4
    canvas = Canvas(title, height)
    y = 4.0
    for load, group in rows:
        most = max(v for _, v, _ in group)
        canvas.text(left - 8, y + each * len(group) / 2 + 4, load, "end", colour="#222")
        for server, v, text in group:
            width = max((WIDTH - left - right) * v / most, 1.0) if most else 1.0
            canvas.parts.append(f'<rect x="{left}" y="{y:.1f}" width="{width:.1f}" height="{each - 3}" fill="{COLOURS[server]}">'
                                f"<title>{escape(f'{server}: {text} {unit}')}</title></rect>")
            canvas.text(left + width + 5, y + each - 5, text, "start", size=10.5)
            y += each
        y += gap
    return canvas.svg()
