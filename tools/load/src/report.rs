//! The results as text, as JSON, and as a percentile curve.

use std::fs;
use std::io::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Args, Load};
use crate::bare::sizes;
use crate::process::{Memory, Usage};
use crate::record::{Cpu, Recorder, histogram, micros};

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// One finished run.
pub struct Report {
    what: String,
    arguments: Value,
    seconds: f64,
    kinds: Vec<(&'static str, Histogram<u64>)>,
    service: Option<Histogram<u64>>,
    cpu: Cpu,
    memory: Option<Memory>,
    /// Open loop: whether the server held the rate.
    pub held: Option<bool>,
    /// Values that only this load has: name, value, unit.
    pub extra: Vec<(&'static str, f64, &'static str)>,
}

impl Report {
    /// Takes the measurements and reads the server's memory usage.
    pub fn new(args: &Args, record: &mut Recorder, cpu: Cpu) -> Result<Report> {
        Ok(Report {
            what: describe(args),
            arguments: arguments(args),
            seconds: record.seconds(),
            kinds: record.kinds.iter().map(|k| (k.name, k.total.clone())).collect(),
            service: record.service.clone(),
            cpu,
            memory: args.server_pid.map(Memory::read).transpose()?,
            held: None,
            extra: Vec::new(),
        })
    }

    fn ops(&self) -> u64 {
        self.kinds.iter().map(|(_, h)| h.len()).sum()
    }

    /// Operations per second of wall time.
    pub fn rate(&self) -> f64 {
        self.ops() as f64 / self.seconds
    }

    fn all(&self) -> Result<Histogram<u64>> {
        let mut all = histogram();
        for (_, h) in &self.kinds {
            all.add(h).map_err(|e| format!("histogram: {e}"))?;
        }
        Ok(all)
    }

    fn per_op(&self, ns: u64) -> f64 {
        ns as f64 / 1e3 / self.ops().max(1) as f64
    }

    /// The report as text.
    pub fn text(&self) -> Result<String> {
        let mut out = format!("{}\n", self.what);
        let held = match self.held {
            Some(false) => "   FAILED: the rate was not held",
            _ => "",
        };
        out += &format!("{:.0} operations/s   {} in {:.2} s{held}\n", self.rate(), self.ops(), self.seconds);
        for (name, h) in &self.kinds {
            out += &format!("  {name:<8} {}\n", latencies(h));
        }
        if self.kinds.len() > 1 {
            out += &format!("  {:<8} {}\n", "all", latencies(&self.all()?));
        }
        if let Some(service) = &self.service {
            out += &format!("  from the real send: {}\n", latencies(service));
        }
        for (name, value, unit) in &self.extra {
            out += &format!("  {name}: {value:.0} {unit}\n");
        }
        if let Some(cpu) = self.cpu.server {
            let (user, system) = (self.per_op(cpu.user_ns), self.per_op(cpu.system_ns));
            let busy = cpu.total_ns() as f64 / self.seconds / 1e7;
            out += &format!(
                "  server CPU {:.2} µs per operation ({user:.2} user, {system:.2} system), {busy:.0} % of a CPU\n",
                user + system
            );
        }
        if let Some(m) = self.memory {
            let mib = |b: u64| b as f64 / 1_048_576.0;
            let (rss, peak, anonymous) = (mib(m.rss), mib(m.peak_rss), mib(m.anonymous));
            out += &format!("  server RSS {rss:.1} MiB (peak {peak:.1}, anonymous {anonymous:.1})\n");
        }
        let own = self.own_load();
        out += &format!("  generator {:.0} % of a CPU\n", own * 100.0);
        if own > 0.95 {
            out += "  the generator used a whole CPU: the server may be able to do more\n";
        }
        Ok(out)
    }

    fn own_load(&self) -> f64 {
        self.cpu.own.total_ns() as f64 / 1e9 / self.seconds
    }

    /// The report as JSON.
    pub fn json(&self) -> Result<Value> {
        let usage = |u: Usage| {
            json!({
                "user_us_per_op": self.per_op(u.user_ns),
                "system_us_per_op": self.per_op(u.system_ns),
                "us_per_op": self.per_op(u.total_ns()),
                "cpus": u.total_ns() as f64 / 1e9 / self.seconds,
            })
        };
        let memory = |m: Memory| json!({"rss": m.rss, "peak_rss": m.peak_rss, "anonymous": m.anonymous});
        let kinds: serde_json::Map<_, _> = self.kinds.iter().map(|(n, h)| ((*n).to_owned(), numbers(h))).collect();
        let extra: serde_json::Map<_, _> = self.extra.iter().map(|(n, v, _)| (n.replace(' ', "_"), json!(v))).collect();
        Ok(json!({
            "arguments": self.arguments,
            "seconds": self.seconds,
            "ops": self.ops(),
            "ops_per_second": self.rate(),
            "held": self.held,
            "latency_us": numbers(&self.all()?),
            "latency_curve_us": curve(&self.all()?),
            "latency_us_by_kind": kinds,
            "service_latency_us": self.service.as_ref().map(numbers),
            "server_cpu": self.cpu.server.map(usage),
            "server_memory_bytes": self.memory.map(memory),
            "generator_cpus": self.own_load(),
            "extra": extra,
        }))
    }

    /// Writes the percentile curve of all kinds together.
    pub fn write_hgrm(&self, path: &Path) -> Result<()> {
        let h = self.all()?;
        let mut out = Vec::new();
        hgrm(&h, &mut out).and_then(|()| fs::write(path, &out)).map_err(|e| format!("{}: {e}", path.display()))
    }
}

fn describe(args: &Args) -> String {
    match args.load {
        Load::Echo => {
            let (asked, answered) = (sizes::requests(args), sizes::answers(args));
            let how = match args.rate {
                Some(rate) => format!("{} connections, {rate} per second offered", args.connections),
                None => format!("{} connections x {} in flight", args.connections, args.depth),
            };
            return format!("bare io_uring echo: {how}, requests of {asked:?}, replies of {answered:?} bytes");
        }
        Load::Disk => {
            return format!("bare disk sync: records of {} bytes, {}", sizes::record(args), args.dir.display());
        }
        _ => {}
    }
    let load = format!("{:?}", args.load).to_lowercase();
    let how = match args.rate {
        Some(rate) => format!("{} connections, {rate} per second offered", args.connections),
        None => format!("{} connections x {} in flight", args.connections, args.depth),
    };
    let what = match args.load {
        Load::Mixed => format!(", {} % reads, {} keys", args.reads, args.keys),
        Load::Multi => format!(", {} operations each, {} keys", args.ops, args.keys),
        Load::Get | Load::Set => format!(", {} keys", args.keys),
        Load::Fanout if args.persistent => ", persistent watches".to_owned(),
        Load::Storm => format!(", {} watches each", args.watches),
        _ => String::new(),
    };
    let how =
        if matches!(args.load, Load::Fanout | Load::Storm) { format!("{} sessions", args.connections) } else { how };
    format!("{load}: {how}, {} bytes{what}, {}", args.size, args.server)
}

fn arguments(args: &Args) -> Value {
    let bare = matches!(args.load, Load::Echo | Load::Disk);
    json!({
        "load": format!("{:?}", args.load).to_lowercase(),
        "server": args.server.to_string(),
        "connections": args.connections,
        "depth": args.rate.is_none().then_some(args.depth),
        "rate": args.rate,
        "size": args.size,
        "keys": args.keys,
        "nodes": args.nodes,
        "reads": args.reads,
        "ops": args.ops,
        "mode": args.mode,
        "persistent": args.persistent,
        "watches": args.watches,
        "path_length": args.path_length,
        "like": bare.then(|| format!("{:?}", args.like).to_lowercase()),
        "request_bytes": (args.load == Load::Echo).then(|| sizes::requests(args)),
        "reply_bytes": (args.load == Load::Echo).then(|| sizes::answers(args)),
        "record_bytes": (args.load == Load::Disk).then(|| sizes::record(args)),
        "warm_up": args.warm_up,
        "seed": args.seed,
        "pin": args.pin,
    })
}

fn latencies(h: &Histogram<u64>) -> String {
    let each = QUANTILES.iter().map(|(name, q)| format!("{name} {}", micros(h.value_at_quantile(*q))));
    format!("{}  max {}", each.collect::<Vec<_>>().join("  "), micros(h.max()))
}

fn numbers(h: &Histogram<u64>) -> Value {
    let us = |ns: u64| ns as f64 / 1e3;
    let mut all = serde_json::Map::new();
    all.insert("count".to_owned(), json!(h.len()));
    all.insert("mean".to_owned(), json!(h.mean() / 1e3));
    all.insert("min".to_owned(), json!(us(h.min())));
    all.extend(QUANTILES.iter().map(|(name, q)| ((*name).to_owned(), json!(us(h.value_at_quantile(*q))))));
    all.insert("max".to_owned(), json!(us(h.max())));
    Value::Object(all)
}

/// Points of the percentile curve: a percentage of the requests, and the latency (µs) that they do not exceed. Each
/// halving of the distance to 100 % has five points.
fn curve(h: &Histogram<u64>) -> Vec<(f64, f64)> {
    h.iter_quantiles(5).map(|v| (v.quantile_iterated_to() * 100.0, v.value_iterated_to() as f64 / 1e3)).collect()
}

/// The text format of HdrHistogram's plotter; values in milliseconds.
fn hgrm(h: &Histogram<u64>, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for v in h.iter_quantiles(5) {
        count += v.count_since_last_iteration();
        let (value, quantile) = (v.value_iterated_to() as f64 / 1e6, v.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:12.6} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:12.6} {quantile:2.12} {count:10}")?;
        }
    }
    let (mean, deviation) = (h.mean() / 1e6, h.stdev() / 1e6);
    writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    writeln!(out, "#[Max     = {:12.6}, Total count    = {:12}]", h.max() as f64 / 1e6, h.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curve() {
        let mut h = histogram();
        (1..=1000).for_each(|n| h.record(n * 1_000_000).unwrap());
        let mut out = Vec::new();
        hgrm(&h, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|l| !l.starts_with('#') && !l.contains("Value"))
            .map(|l| l.split_whitespace().map(|w| w.parse().unwrap()).collect::<Vec<f64>>())
            .filter(|r: &Vec<f64>| !r.is_empty())
            .collect();
        let median = rows.iter().find(|r| r[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0, "{median:?}");
        assert_eq!(rows.last().unwrap()[2], 1000.0);
        assert!(rows.windows(2).all(|w| w[0][1] <= w[1][1] && w[0][2] <= w[1][2]));
    }
}
