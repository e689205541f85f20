//! The metrics as text: as keys and values for `mntr` and `/commands/monitor`, and in Prometheus' format. Mirrors
//! `DefaultMetricsProvider.dump` and `PrometheusMetricsProvider`.

use super::figures::{Figure, Value, figures, process_figures};
use super::java;
use super::report::Report;
use crate::config::MetricsProvider;
use crate::types::{Distribution, Latencies, Tally};

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

/// The keys and values of `/commands/monitor`, and of `mntr` after `zk_`. Their form depends on the metrics provider.
pub(super) fn flat(r: &Report) -> Vec<(String, Number)> {
    if r.config.metrics.provider == MetricsProvider::Prometheus {
        let families = families(r);
        let all = families.iter().flat_map(|f| &f.samples);
        return all.map(|s| (s.key(), Number::Decimal(s.value))).collect();
    }
    let mut out = Vec::new();
    for Figure { name, value, .. } in figures(r) {
        put_flat(&mut out, name, value);
    }
    out
}

/// The percentiles of the default provider.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

fn put_flat(out: &mut Vec<(String, Number)>, name: &str, value: Value) {
    match value {
        Value::Gauge(n) => out.push((name.to_owned(), Number::Whole(n))),
        Value::Fraction(d) | Value::FractionCounter(d) => {
            out.push((name.to_owned(), Number::Decimal(java::rounded(d))));
        }
        Value::Counter(n) => out.push((name.to_owned(), Number::Whole(n as i64))),
        Value::Gauges(all) => {
            out.extend(all.into_iter().map(|(key, n)| (format!("{key}_{name}"), Number::Whole(n))));
        }
        Value::Counters(all) => {
            out.extend(all.into_iter().map(|(key, n)| (format!("{key}_{name}"), Number::Whole(n as i64))));
        }
        Value::Summary(values) => summary(out, name, values.tally()),
        Value::Duration(us) => {
            let us = us.tally();
            let ms = Tally { min: us.min / 1000, max: us.max / 1000, sum: us.sum / 1000, count: us.count };
            summary(out, name, ms);
        }
        Value::Summaries(all) => {
            all.iter().for_each(|(key, values)| summary(out, &format!("{key}_{name}"), values.tally()));
        }
        Value::Percentiles(l) => percentiles(out, name, &l),
        Value::PercentilesBy(all) => {
            all.iter().for_each(|(key, l)| percentiles(out, &format!("{key}_{name}"), l));
        }
    }
}

fn percentiles(out: &mut Vec<(String, Number)>, name: &str, l: &Latencies) {
    summary(out, name, l.in_ms());
    let percentile = |(p, part): (&str, f64)| (format!("{p}_{name}"), Number::Whole(l.percentile_ms(part)));
    out.extend(PERCENTILES.map(percentile));
}

fn summary(out: &mut Vec<(String, Number)>, name: &str, t: Tally) {
    out.push((format!("avg_{name}"), Number::Decimal(java::rounded(t.average()))));
    for (part, v) in [("min", t.min), ("max", t.max), ("cnt", t.count), ("sum", t.sum)] {
        out.push((format!("{part}_{name}"), Number::Whole(v as i64)));
    }
}

/// The metrics in Prometheus' text format 0.0.4; only the samples in `names` unless it is empty. As in ZooKeeper 3.9,
/// counters have no `_total`, summaries have quantiles of the last minutes, and the namespace is the label `key`.
pub(super) fn prometheus(r: &Report, names: &[String]) -> String {
    let mut text = String::with_capacity(48 << 10);
    for Family { name, help, kind, samples } in families(r) {
        let is_wanted = |s: &&Sample| names.is_empty() || names.contains(&s.name);
        let wanted: Vec<&Sample> = samples.iter().filter(is_wanted).collect();
        // A metric by namespace may have no samples yet.
        if names.is_empty() || !wanted.is_empty() {
            text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            wanted.iter().for_each(|s| text += &format!("{} {}\n", s.key(), java::double(s.value)));
        }
    }
    text
}

/// A metric with its samples.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Sample {
    fn of(name: &str, value: f64) -> Sample {
        Sample { name: name.to_owned(), labels: Vec::new(), value }
    }

    /// The name with its labels. Characters of a namespace that would end the label are escaped.
    fn key(&self) -> String {
        let Sample { name, labels, .. } = self;
        if labels.is_empty() {
            return name.clone();
        }
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(key, v)| format!("{key}=\"{}\"", escape(v))).collect();
        format!("{name}{{{}}}", labels.join(","))
    }
}

/// All metrics. Quantiles are of the time since the earlier report, if there is one.
fn families(r: &Report) -> Vec<Family> {
    // A server whose role has changed has other metrics than before.
    let earlier = r.earlier.as_deref().map(figures).unwrap_or_default();
    let before = |now: &Figure| earlier.iter().find(|f| f.name == now.name).map(|f| &f.value);
    let mut all: Vec<Family> =
        figures(r).into_iter().map(|now| (before(&now), now)).map(|(b, now)| family(now, b)).collect();
    all.extend(process_figures(r).into_iter().map(|now| family(now, None)));
    all
}

/// The quantiles of ZooKeeper's basic and advanced summaries.
const MEDIAN: &[f64] = &[0.5];
const QUANTILES: &[f64] = &[0.5, 0.9, 0.99];

fn family(Figure { name, help, value }: Figure, earlier: Option<&Value>) -> Family {
    let mut samples = Vec::new();
    let by_namespace = |key: String, n: f64| Sample { labels: vec![("key", key)], ..Sample::of(name, n) };
    let kind = match value {
        Value::Gauge(n) => {
            samples.push(Sample::of(name, n as f64));
            "gauge"
        }
        Value::Fraction(d) => {
            samples.push(Sample::of(name, d));
            "gauge"
        }
        Value::Counter(n) => {
            samples.push(Sample::of(name, n as f64));
            "counter"
        }
        Value::FractionCounter(d) => {
            samples.push(Sample::of(name, d));
            "counter"
        }
        Value::Gauges(all) => {
            samples.extend(all.into_iter().map(|(key, n)| by_namespace(key, n as f64)));
            "gauge"
        }
        Value::Counters(all) => {
            samples.extend(all.into_iter().map(|(key, n)| by_namespace(key, n as f64)));
            "counter"
        }
        Value::Summary(ref now) => {
            let earlier = earlier.and_then(|v| if let Value::Summary(d) = v { Some(d) } else { None });
            Summary { quantiles: MEDIAN, unit: 1.0, now, earlier }.put(&mut samples, name, None);
            "summary"
        }
        Value::Duration(ref now) => {
            let earlier = earlier.and_then(|v| if let Value::Duration(d) = v { Some(d) } else { None });
            Summary { quantiles: MEDIAN, unit: 1000.0, now, earlier }.put(&mut samples, name, None);
            "summary"
        }
        Value::Summaries(ref all) => {
            let before = if let Some(Value::Summaries(before)) = earlier { before.as_slice() } else { &[] };
            for (key, now) in all {
                let earlier = before.iter().find(|(k, _)| k == key).map(|(_, d)| d);
                Summary { quantiles: MEDIAN, unit: 1.0, now, earlier }.put(&mut samples, name, Some(key));
            }
            "summary"
        }
        Value::Percentiles(ref now) => {
            let earlier = earlier.and_then(|v| if let Value::Percentiles(l) = v { Some(l.us()) } else { None });
            let now = now.us();
            Summary { quantiles: QUANTILES, unit: 1000.0, now, earlier }.put(&mut samples, name, None);
            "summary"
        }
        Value::PercentilesBy(ref all) => {
            let before = if let Some(Value::PercentilesBy(before)) = earlier { before.as_slice() } else { &[] };
            for (key, now) in all {
                let earlier = before.iter().find(|(k, _)| k == key).map(|(_, l)| l.us());
                Summary { quantiles: QUANTILES, unit: 1000.0, now: now.us(), earlier }.put(
                    &mut samples,
                    name,
                    Some(key),
                );
            }
            "summary"
        }
    };
    Family { name, help, kind, samples }
}

/// The source of the samples of a summary.
struct Summary<'a> {
    quantiles: &'static [f64],
    /// Values are divided by this number.
    unit: f64,
    now: &'a Distribution,
    earlier: Option<&'a Distribution>,
}

impl Summary<'_> {
    fn put(&self, samples: &mut Vec<Sample>, name: &str, key: Option<&String>) {
        let labels = || key.map(|k| ("key", k.clone())).into_iter();
        for part in self.quantiles {
            let value = self.now.quantile(*part, self.earlier).map_or(f64::NAN, |v| v as f64 / self.unit);
            let labels = labels().chain([("quantile", part.to_string())]).collect();
            samples.push(Sample { name: name.to_owned(), labels, value });
        }
        let t = self.now.tally();
        let totals = [("count", t.count as f64), ("sum", t.sum as f64 / self.unit)];
        samples.extend(totals.map(|(part, value)| Sample {
            name: format!("{name}_{part}"),
            labels: labels().collect(),
            value,
        }));
    }
}
