//! What Prometheus' provider makes of the report made by hand: `/metrics`, and `mntr` and `monitor` beside it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::super::report::Report;
use super::super::window::Window;
use super::super::{commands, four_letter, metrics};
use super::report;
use crate::config::{Config, MetricsProvider};

/// Name, kind and quantiles of every family that Apache ZooKeeper 3.9.5 shows, as recorded from it.
const APACHE: &str = include_str!("prometheus-3.9.txt");

fn text() -> String {
    metrics::prometheus(&report(), &[])
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
}

#[test]
fn samples_have_the_values_of_the_report() {
    let text = text();
    for line in [
        "# HELP znode_count Znodes\n# TYPE znode_count gauge\nznode_count 312.0\n",
        "# TYPE watch_bytes counter\nwatch_bytes 78.0\n",
        "# TYPE updatelatency summary\nupdatelatency{quantile=\"0.5\"} NaN\n",
        "quota_count_limit_per_namespace{key=\"words\"} 1000.0\n",
        "read_per_namespace_count{key=\"words\"} 4.0\nread_per_namespace_sum{key=\"words\"} 1514.0\n",
        "# TYPE quota_exceeded_error_per_namespace counter\nquota_exceeded_error_per_namespace{key=\"words\"} 2.0\n",
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.88\n",
        "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.7952185765E9\n",
        "# TYPE process_open_fds gauge\nprocess_open_fds 56.0\n",
        "# TYPE process_max_fds gauge\nprocess_max_fds 20000.0\n",
        "# TYPE process_virtual_memory_bytes gauge\nprocess_virtual_memory_bytes 2.935599104E9\n",
        "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 8.3501056E7\n",
        "# TYPE ack_latency summary\n# HELP ",
        "# TYPE learner_handler_qp_size summary\n# HELP ",
        "# TYPE learner_handler_qp_time_ms summary\n# HELP ",
        "dbinittime{quantile=\"0.5\"} 12.0\ndbinittime_count 1.0\ndbinittime_sum 12.0\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn latencies_are_milliseconds_with_fractions() {
    let text = text();
    // Of 0, 180 and 6,001 microseconds; of 250, four times 1,250 and 2,250.
    assert_eq!((value(&text, "fsynctime_count"), value(&text, "fsynctime_sum")), (3.0, 6.181));
    assert_eq!((value(&text, "readlatency_count"), value(&text, "readlatency_sum")), (6.0, 7.5));
    for (sample, exact) in [
        ("fsynctime{quantile=\"0.5\"}", 0.18),
        ("readlatency{quantile=\"0.5\"}", 1.25),
        ("readlatency{quantile=\"0.99\"}", 2.25),
        ("read_per_namespace{key=\"words\",quantile=\"0.5\"}", 80.0),
    ] {
        let got = value(&text, sample);
        assert!((got - exact).abs() <= exact * 0.04, "{sample}: {got}");
    }
}

/// A line of text as (name, its labels' names, value).
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (sample, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.trim_matches('"').to_owned())).unwrap();
    (name.to_owned(), labels.split(',').filter(|l| !l.is_empty()).map(pair).collect(), value.parse().unwrap())
}

#[test]
fn families_kinds_and_quantiles_are_apaches() {
    let text = text();
    let mut families: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
    let mut current = "";
    // What a scraper refuses: a sample without its type, a name twice, anything that is no number.
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name, (kind, Vec::new())).is_none(), "{name} twice");
            current = name;
        } else if !line.starts_with('#') {
            let (name, labels, _) = sample(line);
            assert!(name.starts_with(current), "{line}");
            let quantiles = &mut families.get_mut(current).unwrap().1;
            let new = labels.into_iter().filter(|(k, _)| k == "quantile").map(|(_, v)| v);
            new.for_each(|q| {
                if !quantiles.contains(&q) {
                    quantiles.push(q)
                }
            });
        }
    }
    for line in APACHE.lines() {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let (our_kind, our_quantiles) = families.remove(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(our_kind, kind, "{name}");
        // A namespace's only come with the namespace.
        if !name.ends_with("write_per_namespace") {
            assert!(our_quantiles.iter().eq(words), "{name}: {our_quantiles:?}");
        }
    }
    let ours: Vec<&str> = families.into_keys().collect();
    let process = ["cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds"];
    let more = ["highest_sequence_number", "sequential_creates_near_end"].map(String::from);
    let want: HashSet<String> =
        process.iter().chain(&["virtual_memory_bytes"]).map(|n| format!("process_{n}")).chain(more).collect();
    assert_eq!(ours.iter().map(|n| (*n).to_owned()).collect::<HashSet<_>>(), want);
}

#[test]
fn of_the_names_that_are_asked_for_only_the_samples_come() {
    let names = ["znode_count", "readlatency_count", "nosuch"].map(String::from);
    let text = metrics::prometheus(&report(), &names);
    assert_eq!(
        text,
        "# HELP znode_count Znodes\n# TYPE znode_count gauge\nznode_count 312.0\n\
         # HELP readlatency Milliseconds from a read's arrival to its reply\n# TYPE readlatency summary\n\
         readlatency_count 6.0\n"
    );
    assert_eq!(metrics::prometheus(&report(), &[String::new()]), "");
}

#[test]
fn a_label_is_escaped() {
    let mut r = report();
    r.shards[0].stats.reads.record("/a\"b\\c\nd/x", 1);
    let text = metrics::prometheus(&r, &[]);
    assert!(text.contains("read_per_namespace_count{key=\"a\\\"b\\\\c\\nd\"} 1.0\n"), "{text}");
}

#[test]
fn quantiles_are_those_of_the_last_minutes_and_counters_those_of_all_the_time() {
    let window = Window::default();
    assert!(window.begin().is_none());
    // Older ones drop out, and none keeps those before it.
    for i in 0..12 {
        let before = Report { earlier: window.begin(), ..report() };
        window.keep(before);
        assert_eq!(window.begin().is_some(), i >= 4);
        assert!(window.begin().is_none_or(|r| r.earlier.is_none()));
    }
    let mut r = Report { earlier: window.begin(), ..report() };
    let text = metrics::prometheus(&r, &[]);
    for sample in ["readlatency{quantile=\"0.5\"}", "read_per_namespace{key=\"words\",quantile=\"0.5\"}"] {
        assert!(value(&text, sample).is_nan(), "{sample}");
    }
    assert_eq!(value(&text, "readlatency_count"), 6.0);
    r.shards[0].stats.read_latency.record(2000);
    r.shards[0].stats.reads.record("/new/x", 9);
    r.peer.stats.fsync_us.record(5000);
    let text = metrics::prometheus(&r, &[]);
    for (sample, exact) in [
        ("readlatency{quantile=\"0.5\"}", 2.0),
        ("read_per_namespace{key=\"new\",quantile=\"0.5\"}", 9.0),
        ("fsynctime{quantile=\"0.5\"}", 5.0),
        ("readlatency_count", 7.0),
    ] {
        let got = value(&text, sample);
        assert!((got - exact).abs() <= exact * 0.04, "{sample}: {got}");
    }
}

fn with_provider() -> Report {
    let mut r = report();
    let mut config = Config::clone(&r.config);
    config.metrics.provider = MetricsProvider::Prometheus;
    r.config = Arc::new(config);
    r.shards[0].stats.reads.record("/my \"app/x", 1);
    r
}

/// Apache's `mntr` shows Prometheus' samples when that is the provider; the keys of the other one are gone.
#[test]
fn mntr_and_monitor_show_the_samples_of_metrics() {
    let r = with_provider();
    let mntr = four_letter::text("mntr", &r).unwrap();
    let mut lines = mntr.lines();
    assert!(lines.next().unwrap().starts_with("zk_version\t3.9.5-zabra-"));
    assert_eq!(lines.next(), Some("zk_server_state\tstandalone"));
    let samples: Vec<String> = metrics::prometheus(&r, &[])
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.rsplit_once(' ').map(|(key, v)| format!("zk_{}\t{v}", key.replace(' ', "%20"))).unwrap())
        .collect();
    assert_eq!(lines.collect::<Vec<_>>(), samples);
    for line in [
        "zk_znode_count\t312.0\n",
        "zk_updatelatency{quantile=\"0.9\"}\tNaN\n",
        "zk_read_per_namespace_count{key=\"my%20\\\"app\"}\t1.0\n",
        "zk_process_open_fds\t56.0\n",
    ] {
        assert!(mntr.contains(line), "{line}");
    }
    let monitor = Value::Object(commands::answer("monitor", &r).unwrap());
    assert_eq!(monitor["znode_count"].to_string(), "312.0");
    assert_eq!(monitor["updatelatency{quantile=\"0.9\"}"], "NaN");
    assert_eq!(monitor["read_per_namespace_count{key=\"my \\\"app\"}"], 1.0);
    assert!(monitor.get("p99_readlatency").is_none());
}
