//! Records latencies during the run, by kind and by second; prints progress lines; writes the interval log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::Result;
use crate::args::Args;
use crate::poll::now_ns;
use crate::process::{Memory, Usage};

/// The longest latency that is distinguished, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

/// A histogram of nanoseconds with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order")
}

/// One kind of request.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    interval: Histogram<u64>,
    /// The whole measured time; latencies from the planned time of sending.
    pub total: Histogram<u64>,
}

/// The measurements so far.
pub struct Recorder {
    /// In the order of the load's kinds.
    pub kinds: Vec<Kind>,
    /// Open loop: latency from the actual time of sending.
    pub service: Option<Histogram<u64>>,
    measuring: bool,
    began_ns: u64,
    ended_ns: u64,
    interval_ns: u64,
    pid: Option<u32>,
    usage: Option<Usage>,
    own: Usage,
    interval_usage: Option<Usage>,
    quiet: bool,
    log: Option<IntervalLog>,
}

/// CPU time used during the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The server's.
    pub server: Option<Usage>,
    /// This process's.
    pub own: Usage,
}

impl Recorder {
    /// Starts with the warm-up.
    pub fn new(args: &Args, kinds: &[&'static str]) -> Result<Recorder> {
        let kind = |name: &&'static str| Kind { name, interval: histogram(), total: histogram() };
        let now = now_ns();
        Ok(Recorder {
            kinds: kinds.iter().map(kind).collect(),
            service: args.rate.map(|_| histogram()),
            measuring: false,
            began_ns: now,
            ended_ns: now,
            interval_ns: now,
            pid: args.server_pid,
            usage: None,
            own: Usage::default(),
            interval_usage: args.server_pid.map(Usage::read).transpose()?,
            quiet: args.quiet,
            log: args.hlog.as_deref().map(IntervalLog::create).transpose()?,
        })
    }

    /// Records one reply.
    #[inline]
    pub fn reply(&mut self, kind: u8, planned_ns: u64, sent_ns: u64, now_ns: u64) {
        let kind = &mut self.kinds[kind as usize];
        kind.interval.saturating_record(now_ns.saturating_sub(planned_ns).max(1));
        if let Some(service) = &mut self.service
            && self.measuring
        {
            service.saturating_record(now_ns.saturating_sub(sent_ns).max(1));
        }
    }

    /// The measured time begins.
    pub fn begin(&mut self) -> Result<()> {
        for kind in &mut self.kinds {
            kind.interval.reset();
        }
        self.usage = self.pid.map(Usage::read).transpose()?;
        self.interval_usage = self.usage;
        self.own = Usage::read(std::process::id())?;
        self.began_ns = now_ns();
        self.interval_ns = self.began_ns;
        self.measuring = true;
        Ok(())
    }

    /// The measured time ends.
    pub fn end(&mut self) -> Result<Cpu> {
        self.ended_ns = now_ns();
        let cpu = Cpu {
            server: self.usage.map(|before| self.usage_since(before)).transpose()?,
            own: Usage::read(std::process::id())?.since(self.own),
        };
        self.close_interval()?;
        self.measuring = false;
        Ok(cpu)
    }

    fn usage_since(&self, before: Usage) -> Result<Usage> {
        Ok(self.pid.map(Usage::read).transpose()?.unwrap_or_default().since(before))
    }

    /// Whether warm-up is over.
    pub fn is_measuring(&self) -> bool {
        self.measuring
    }

    /// Measured seconds.
    pub fn seconds(&self) -> f64 {
        (self.ended_ns - self.began_ns) as f64 / 1e9
    }

    /// When the next progress line is due.
    pub fn next_line_ns(&self) -> u64 {
        self.interval_ns + 1_000_000_000
    }

    /// Prints a progress line and adds the interval to the total.
    pub fn line(&mut self, in_flight: usize) -> Result<()> {
        let now = now_ns();
        let seconds = (now - self.interval_ns) as f64 / 1e9;
        if !self.quiet {
            let cpu = match self.interval_usage {
                Some(before) => {
                    let after = self.pid.map(Usage::read).transpose()?.unwrap_or_default();
                    let percent = after.since(before).total_ns() as f64 / seconds / 1e7;
                    let memory = self.pid.map(Memory::read).transpose()?.unwrap_or_default();
                    self.interval_usage = Some(after);
                    format!("  server CPU {percent:3.0} %  RSS {:.0} MiB", memory.rss as f64 / 1_048_576.0)
                }
                None => String::new(),
            };
            let what = if self.measuring { "" } else { "warm-up " };
            let mut text = format!("{:5.0} s {what}", (now - self.began_ns) as f64 / 1e9);
            for kind in &self.kinds {
                let h = &kind.interval;
                let rate = h.len() as f64 / seconds;
                let (p50, p99) = (h.value_at_quantile(0.5), h.value_at_quantile(0.99));
                text += &format!(" {} {rate:.0}/s  p50 {}  p99 {}", kind.name, micros(p50), micros(p99));
            }
            eprintln!("{text}  in flight {in_flight}{cpu}");
        }
        self.close_interval()
    }

    fn close_interval(&mut self) -> Result<()> {
        let now = if self.measuring && self.ended_ns > self.began_ns { self.ended_ns } else { now_ns() };
        let since_begin = Duration::from_nanos(self.interval_ns - self.began_ns);
        let length = Duration::from_nanos(now - self.interval_ns);
        for kind in &mut self.kinds {
            if self.measuring {
                kind.total.add(&kind.interval).map_err(|e| format!("histogram: {e}"))?;
                if let Some(log) = &mut self.log {
                    log.write(kind.name, since_begin, length, &kind.interval)?;
                }
            }
            kind.interval.reset();
        }
        self.interval_ns = now;
        Ok(())
    }
}

/// Nanoseconds as text in a suitable unit.
pub fn micros(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000..10_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// HdrHistogram's log format 1.3: tagged, compressed V2 histograms, one per line.
struct IntervalLog {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
    bytes: Vec<u8>,
    name: String,
}

impl IntervalLog {
    fn create(path: &std::path::Path) -> Result<IntervalLog> {
        let name = path.display().to_string();
        let fail = |e| format!("{name}: {e}");
        let mut file = BufWriter::new(File::create(path).map_err(fail)?);
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let head = format!(
            "#[Histogram log format version 1.3]\n#[StartTime: {start:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        );
        file.write_all(head.as_bytes()).map_err(fail)?;
        Ok(IntervalLog { file, serializer: V2DeflateSerializer::new(), bytes: Vec::new(), name })
    }

    fn write(&mut self, tag: &str, start: Duration, length: Duration, h: &Histogram<u64>) -> Result<()> {
        self.bytes.clear();
        self.serializer.serialize(h, &mut self.bytes).map_err(|e| format!("{}: {e}", self.name))?;
        let max_ms = h.max() as f64 / 1e6;
        let coded = STANDARD.encode(&self.bytes);
        writeln!(self.file, "Tag={tag},{:.3},{:.3},{max_ms:.3},{coded}", start.as_secs_f64(), length.as_secs_f64())
            .and_then(|()| self.file.flush())
            .map_err(|e| format!("{}: {e}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_reads_back() {
        let path = std::env::temp_dir().join(format!("zabra-load-test-{}.hlog", std::process::id()));
        let mut log = IntervalLog::create(&path).unwrap();
        let mut h = histogram();
        h.record(1_500_000).unwrap();
        log.write("get", Duration::from_secs(2), Duration::from_secs(1), &h).unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let intervals: Vec<_> = IntervalLogIterator::new(&text)
            .filter_map(|e| match e.unwrap() {
                LogEntry::Interval(i) => Some(i),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1);
        assert_eq!(intervals[0].tag().unwrap().as_str(), "get");
        assert_eq!((intervals[0].start_timestamp(), intervals[0].max()), (Duration::from_secs(2), 1.5));
    }

    #[test]
    fn units() {
        assert_eq!(
            [micros(1_500), micros(150_000), micros(15_000_000), micros(15_000_000_000)],
            ["1.5 µs", "150 µs", "15.0 ms", "15.0 s"]
        );
    }
}
