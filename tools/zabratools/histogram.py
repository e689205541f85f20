"""Latencies of several generators together: reads HdrHistogram's V2 logs (--hlog), adds them up, and gives percentiles and their curve."""

import base64
import collections
import math
import struct
import zlib

from zabratools.server import Trouble

PLAIN, COMPRESSED = 0x1C849303, 0x1C849304
# Cookie, bytes of counts, normalizing offset, significant digits, lowest and highest value, ratio of integers to doubles.
HEAD = struct.Struct(">iiiiqqd")
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "p99.99": 99.99}
# Points of a curve in each halving of the distance to 100 %, as the generators give it.
TICKS = 5


def numbers(data):
    """The counts of a histogram: ZigZag LEB128 with at most nine bytes; a negative number stands for so many zeros."""
    at = 0
    while at < len(data):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            if shift == 56:
                value |= byte << shift
                break
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield (value >> 1) ^ -(value & 1)


class Histogram:
    """Counts of latencies in nanoseconds, by the range of values (lowest, highest) that are not distinguished."""

    def __init__(self):
        self.counts = collections.Counter()

    def add(self, coded):
        """Adds an encoded histogram: base64 of a compressed V2 one."""
        try:
            outer = base64.b64decode(coded, validate=True)
            cookie, size = struct.unpack_from(">ii", outer)
            if cookie & ~0xF0 != COMPRESSED & ~0xF0:
                raise ValueError(f"cookie {cookie:#x}")
            data = zlib.decompress(outer[8:8 + size])
            cookie, size, offset, digits, lowest, _, _ = HEAD.unpack_from(data)
            if cookie & ~0xF0 != PLAIN & ~0xF0 or offset != 0:
                raise ValueError(f"cookie {cookie:#x}, offset {offset}")
            self.count(numbers(data[HEAD.size:HEAD.size + size]), digits, lowest)
        except (ValueError, IndexError, struct.error, zlib.error) as e:
            raise Trouble(f"a histogram that cannot be read: {e}") from None

    def count(self, counts, digits, lowest):
        half = 1 << (math.ceil(math.log2(2 * 10**digits)) - 1)
        unit = int(math.log2(lowest))
        at = 0
        for n in counts:
            if n < 0:
                at -= n
                continue
            if n:
                bucket = max(at // half - 1, 0)
                low = (at - bucket * half) << (bucket + unit)
                self.counts[low, low + (1 << (bucket + unit)) - 1] += n
            at += 1

    def read_log(self, text):
        """Adds all intervals of a log, whatever their tags."""
        for line in text.splitlines():
            if line and not line.startswith(("#", '"')):
                self.add(line.rsplit(",", 1)[1])
        return self

    def total(self):
        return sum(self.counts.values())

    def at(self, percents):
        """For each of these rising percentages the value that so many do not exceed, nanoseconds."""
        ranges = sorted(self.counts.items())
        total, found, seen, i = self.total(), [], 0, -1
        for percent in percents:
            wanted = max(1, math.ceil(total * percent / 100 - 1e-9))
            while seen < wanted:
                i += 1
                seen += ranges[i][1]
            found.append(ranges[i][0][1])
        return found

    def latency_us(self):
        """As the generators' `latency_us`; Trouble when nothing was counted."""
        if not self.counts:
            raise Trouble("no latency was recorded")
        total = self.total()
        mean = sum((low + high + 1) // 2 * n for (low, high), n in self.counts.items()) / total
        low, high = min(self.counts)[0], max(self.counts)[1]
        values = zip(PERCENTILES, self.at(PERCENTILES.values()))
        return {"count": total, "mean": mean / 1e3, "min": low / 1e3, **{name: ns / 1e3 for name, ns in values}, "max": high / 1e3}

    def curve_us(self):
        """As the generators' `latency_curve_us`."""
        percents, quantile, total = [], 0.0, self.total()
        while (1 - quantile) * total >= 1:
            percents.append(100 * quantile)
            quantile += 1 / (TICKS * 2 ** (math.floor(math.log2(1 / (1 - quantile))) + 1))
        percents += [100 * quantile, 100.0]
        return [[percent, ns / 1e3] for percent, ns in zip(percents, self.at(percents))]
