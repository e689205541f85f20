//! The metrics as text: the flat names of `mntr` and `/commands/monitor`, and Prometheus' format. Mirrors
//! `DefaultMetricsProvider.dump` and `PrometheusMetricsProvider`.

use std::fmt::Write;

use super::figures::{Figure, Value, figures, process_figures};
use super::java;
use super::report::Report;
use crate::types::Tally;

/// A number that prints as Java prints it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Number {
    Whole(i64),
    Decimal(f64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Whole(n) => n.fmt(f),
            Number::Decimal(d) => f.write_str(&java::double(*d)),
        }
    }
}

/// The percentiles' names and parts.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Keys and values as `mntr` lists them, without `zk_`.
pub(super) fn flat(r: &Report) -> Vec<(String, Number)> {
    let mut out = Vec::new();
    for Figure { name, value, .. } in figures(r) {
        match value {
            Value::Gauge(n) => out.push((name.to_owned(), Number::Whole(n))),
            Value::Fraction(d) | Value::FractionCounter(d) => {
                out.push((name.to_owned(), Number::Decimal(java::rounded(d))))
            }
            Value::Counter(n) => out.push((name.to_owned(), Number::Whole(n as i64))),
            Value::Gauges(all) => {
                out.extend(all.into_iter().map(|(key, n)| (format!("{key}_{name}"), Number::Whole(n))))
            }
            Value::Counters(all) => {
                out.extend(all.into_iter().map(|(key, n)| (format!("{key}_{name}"), Number::Whole(n as i64))))
            }
            Value::Summary(t) => summary(&mut out, name, &t),
            Value::Summaries(all) => all.iter().for_each(|(key, t)| summary(&mut out, &format!("{key}_{name}"), t)),
            Value::Percentiles(l) => {
                summary(&mut out, name, &tally(&l.all));
                let percentile = |(p, part): (&str, f64)| (format!("{p}_{name}"), Number::Whole(l.percentile_ms(part)));
                out.extend(PERCENTILES.map(percentile));
            }
        }
    }
    out
}

fn summary(out: &mut Vec<(String, Number)>, name: &str, t: &Tally) {
    out.push((format!("avg_{name}"), Number::Decimal(java::rounded(t.average()))));
    for (part, v) in [("min", t.min), ("max", t.max), ("cnt", t.count), ("sum", t.sum)] {
        out.push((format!("{part}_{name}"), Number::Whole(v as i64)));
    }
}

fn tally(l: &crate::shard::status::Latency) -> Tally {
    let whole = |ms: i64| ms.max(0) as u64;
    Tally { min: whole(l.min_ms), max: whole(l.max_ms), sum: whole(l.total_ms), count: l.count }
}

// Writing to a `String` cannot fail.
macro_rules! put {
    ($to:expr, $($arg:tt)*) => {{ let _ = write!($to, $($arg)*); }};
}

/// Prometheus' text format 0.0.4: of the samples in `names` only, if there are any. Counters have no `_total`, summaries have
/// quantiles, namespaces are the label `key`, as ZooKeeper 3.9 exports them.
pub(super) fn prometheus(r: &Report, names: &[String]) -> String {
    let mut text = String::with_capacity(32 << 10);
    for Figure { name, help, value } in figures(r).into_iter().chain(process_figures(r)) {
        let samples = samples(name, &value);
        let wanted: Vec<&str> = samples.lines().filter(|line| is_wanted(line, names)).collect();
        // A metric by namespace has no samples before there is a namespace.
        if names.is_empty() || !wanted.is_empty() {
            put!(text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind(&value));
            wanted.iter().for_each(|line| put!(text, "{line}\n"));
        }
    }
    text
}

/// Whether the sample of a line is asked for.
fn is_wanted(line: &str, names: &[String]) -> bool {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    names.is_empty() || names.iter().any(|n| n == name)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Gauge(_) | Value::Fraction(_) | Value::Gauges(_) => "gauge",
        Value::Counter(_) | Value::FractionCounter(_) | Value::Counters(_) => "counter",
        Value::Summary(_) | Value::Summaries(_) | Value::Percentiles(_) => "summary",
    }
}

/// The samples of a metric, a line each.
fn samples(name: &str, value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Gauge(n) => put!(out, "{name} {}\n", java::double(*n as f64)),
        Value::Fraction(d) | Value::FractionCounter(d) => put!(out, "{name} {}\n", java::double(*d)),
        Value::Counter(n) => put!(out, "{name} {}\n", java::double(*n as f64)),
        Value::Gauges(all) => {
            all.iter().for_each(|(k, n)| put!(out, "{name}{{key=\"{}\"}} {}\n", escape(k), java::double(*n as f64)));
        }
        Value::Counters(all) => {
            all.iter().for_each(|(k, n)| put!(out, "{name}{{key=\"{}\"}} {}\n", escape(k), java::double(*n as f64)));
        }
        Value::Summary(t) => totals(&mut out, name, "", t),
        Value::Summaries(all) => {
            all.iter().for_each(|(key, t)| totals(&mut out, name, &format!("{{key=\"{}\"}}", escape(key)), t));
        }
        Value::Percentiles(l) => {
            for part in [0.5, 0.9, 0.95, 0.99] {
                let ms = if l.all.count == 0 { f64::NAN } else { l.percentile_ms(part) as f64 };
                put!(out, "{name}{{quantile=\"{part}\"}} {}\n", java::double(ms));
            }
            totals(&mut out, name, "", &tally(&l.all));
        }
    }
    out
}

fn totals(out: &mut String, name: &str, labels: &str, t: &Tally) {
    put!(out, "{name}_count{labels} {}\n", java::double(t.count as f64));
    put!(out, "{name}_sum{labels} {}\n", java::double(t.sum as f64));
}

/// A label's value: a namespace may hold any character.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
