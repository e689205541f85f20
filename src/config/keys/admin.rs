//! Keys and properties for operators: four-letter words, admin server, metrics, logging; and those of the Java VM.

use super::Scope::{File, Property};
use super::{Key, Set, file, int, meaningless, port, property, refused};
use crate::config::address::HostAddr;
use crate::config::settings::{Config, MetricsProvider};

const ADMIN_TLS: &str = "TLS for the admin server";
const METRICS_TLS: &str = "TLS for metrics";
const METRICS: &str = "metrics are served without a thread pool, in one format";
const HTTP: &str = "HTTP is 1.1";
const JVM: &str = "there is no Java VM";
const LOGGING: &str = "logs go to standard error, filtered by RUST_LOG";

pub(super) const KEYS: &[Key] = &[
    property("4lw.commands.whitelist", "srvr", Set::Text(whitelist)),
    property("admin.enableServer", "true", Set::Bool(|c, v| c.admin.enabled = v)),
    property(
        "admin.serverAddress",
        "0.0.0.0",
        Set::Text(|c, v| {
            c.admin.host = HostAddr::parse(v)?;
            Ok(())
        }),
    ),
    property("admin.serverPort", "8080", port(|c, v| c.admin.port = v as u16)),
    property(
        "admin.commandURL",
        "/commands",
        Set::Text(|c, v| {
            if !v.starts_with('/') || v.contains(['*', '?', '#', '{', '}', ' ']) {
                return Err(format!("{v:?} is not a path: write one such as /commands"));
            }
            c.admin.command_url = v.trim_end_matches('/').to_string();
            Ok(())
        }),
    ),
    property("admin.idleTimeout", "30000", int(0, |c, v| c.admin.idle_timeout_ms = v as i32)),
    meaningless(Property, "admin.httpVersion", "11", HTTP),
    refused(Property, "admin.portUnification", "false", ADMIN_TLS),
    refused(Property, "admin.forceHttps", "false", ADMIN_TLS),
    refused(Property, "admin.needClientAuth", "false", ADMIN_TLS),
    property("admin.snapshot.enabled", "true", Set::Bool(|c, v| c.admin.snapshot = v)),
    meaningless(
        Property,
        "admin.restore.enabled",
        "true",
        "restore is not available in this version: stop the server, put the snapshot into an empty dataDir, start it",
    ),
    property("admin.rateLimiterIntervalInMS", "300000", int(0, |c, v| c.admin.rate_limit_ms = v as i32)),
    meaningless(
        Property,
        "IPAuthenticationProvider.usexforwardedfor",
        "false",
        "the admin server takes the address of the connection itself",
    ),
    meaningless(Property, "audit.enable", "false", "the audit log is not available in this version"),
    meaningless(Property, "audit.impl.class", "", "the audit log is not available in this version"),
    meaningless(Property, "jmx.log4j.disable", "false", JVM),
    meaningless(Property, "jmx.log4j.mbean", "", JVM),
    meaningless(Property, "controllerPort", "", "the fault-injection controller is not available in this version"),
    meaningless(Property, "log.", "", LOGGING),
    meaningless(Property, "root.logger", "", LOGGING),
    meaningless(Property, "console.threshold", "", LOGGING),
    file("metricsProvider.className", "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider", Set::Text(provider)),
    file(
        "metricsProvider.httpHost",
        "0.0.0.0",
        Set::Text(|c, v| {
            c.metrics.http_host = HostAddr::parse(v)?;
            Ok(())
        }),
    ),
    file("metricsProvider.httpPort", "7000", port(|c, v| c.metrics.http_port = v as u16)),
    refused(File, "metricsProvider.httpsPort", "-1", METRICS_TLS),
    refused(File, "metricsProvider.ssl.", "", METRICS_TLS),
    meaningless(File, "metricsProvider.exportJvmInfo", "true", JVM),
    meaningless(File, "metricsProvider.httpVersion", "11", HTTP),
    meaningless(File, "metricsProvider.numWorkerThreads", "10", METRICS),
    meaningless(File, "metricsProvider.maxQueueSize", "1000000", METRICS),
    meaningless(File, "metricsProvider.workerShutdownTimeoutMs", "1000", METRICS),
    meaningless(File, "metricsProvider.prometheusMetricsSummaryRotateIntervalSeconds", "60", METRICS),
    meaningless(File, "metricsProvider.", "", METRICS),
];

/// A `*` anywhere in the list allows all words. `srvr` is always allowed, as in Java, because ZooKeeper's own scripts
/// use it.
fn whitelist(config: &mut Config, text: &str) -> Result<(), String> {
    let mut words: Vec<String> = vec!["srvr".into()];
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        if !words.iter().any(|w| w == word) {
            words.push(word.into());
        }
    }
    if words.iter().any(|w| w == "*") {
        words = vec!["*".into()];
    }
    config.limits.four_letter_words = words;
    Ok(())
}

fn provider(config: &mut Config, class: &str) -> Result<(), String> {
    config.metrics.provider = match class {
        "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider" => MetricsProvider::Default,
        "org.apache.zookeeper.metrics.impl.NullMetricsProvider" => MetricsProvider::Null,
        "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider" => MetricsProvider::Prometheus,
        _ => {
            return Err(format!(
                "metrics provider class {class:?} was not found: write ZooKeeper's DefaultMetricsProvider, \
                 PrometheusMetricsProvider or NullMetricsProvider with its package"
            ));
        }
    };
    Ok(())
}
