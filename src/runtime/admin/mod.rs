//! What operators and their tools ask the server: four-letter words, the HTTP admin server, metrics, health. Mirrors
//! `FourLetterCommands`, `JettyAdminServer` and the metrics providers.
//!
//! Everything is answered from a [`report::Report`], which the cores give over their mailboxes, on two threads of its own:
//! one answers words, one speaks HTTP. Neither touches what a core owns.

mod authorize;
mod commands;
mod door;
mod figures;
mod four_letter;
mod host;
mod http;
mod java;
mod json;
mod metrics;
mod report;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use crossbeam::channel::Receiver;

pub use report::Startup;

use super::boot::StartError;
use super::shared::{CoreMail, NoAnswer, Shared, WordRequest};
use crate::config::{Config, ExitCode};
use crate::types::{CLIENT_LOG, ShardId};
use report::{Figures, Report, Wanted};

/// ZooKeeper's trace mask after the start; kept and shown, and nothing else.
const TRACE_MASK: i64 = 0b1_0011_0010;

/// Threads that wait for cores or read snapshots for HTTP.
const BLOCKING_THREADS: usize = 8;

/// What is said instead of an answer when a core is stuck.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// What both threads share.
struct Desk {
    shared: Arc<Shared>,
    config: Arc<Config>,
    startup: Startup,
    trace_mask: AtomicI64,
    snapshots_limited: AtomicU64,
    snapshots_failed: AtomicU64,
    /// When the last `snapshot` command was taken.
    last_snapshot: Mutex<Option<Instant>>,
    /// HTTP asks the cores one question at a time.
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// Starts both threads.
///
/// # Errors
/// A thread cannot be made, or a port that is required cannot be bound.
pub fn start(
    config: Arc<Config>,
    shared: Arc<Shared>,
    words: Receiver<WordRequest>,
    startup: Startup,
) -> Result<(), StartError> {
    let desk = Arc::new(Desk {
        shared,
        config,
        startup,
        trace_mask: AtomicI64::new(TRACE_MASK),
        snapshots_limited: AtomicU64::new(0),
        snapshots_failed: AtomicU64::new(0),
        last_snapshot: Mutex::default(),
        asking: Arc::default(),
    });
    start_http(&desk)?;
    spawn("words", move || words.iter().for_each(|request| desk.answer(&request)))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
        .map_err(|e| StartError::new(ExitCode::Unexpected, format!("a thread cannot be started: {e}")))
}

/// Binds the ports that are wanted, and serves them on a thread.
fn start_http(desk: &Arc<Desk>) -> Result<(), StartError> {
    let mut ports: Vec<(std::net::TcpListener, Router)> = Vec::new();
    let admin = &desk.config.admin;
    if admin.enabled {
        let address = admin.host.at(admin.port);
        match door::bind(address) {
            Ok(listener) => {
                tracing::info!(%address, url = admin.command_url, "admin server");
                ports.push((listener, http::admin(desk.clone())));
            }
            Err(e) if admin.required => {
                let what = format!(
                    "the admin server cannot listen on {address}: {e}. Set admin.serverPort to a free port, or \
                     admin.enableServer=false"
                );
                return Err(StartError::new(ExitCode::AdminServer, what));
            }
            Err(error) => tracing::warn!(%address, %error, "no admin server: its port cannot be bound"),
        }
    }
    if http::wants_prometheus(desk) {
        let address = desk.config.metrics.http_host.at(desk.config.metrics.http_port);
        let listener = door::bind(address).map_err(|e| {
            let what =
                format!("metrics cannot be served on {address}: {e}. Set metricsProvider.httpPort to a free port");
            StartError::new(ExitCode::Bind, what)
        })?;
        tracing::info!(%address, "metrics for Prometheus at /metrics");
        ports.push((listener, http::prometheus(desk.clone())));
    }
    if ports.is_empty() {
        return Ok(());
    }
    let idle = Duration::from_millis(admin.idle_timeout_ms.max(1) as u64);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("admin-ask")
        .build()
        .map_err(|e| StartError::new(ExitCode::Unexpected, format!("the admin server cannot start: {e}")))?;
    spawn("admin", move || runtime.block_on(serve(ports, idle)))
}

async fn serve(ports: Vec<(std::net::TcpListener, Router)>, idle: Duration) {
    let mut tasks = Vec::new();
    for (listener, routes) in ports {
        tasks.push(tokio::spawn(async move {
            let door = door::Door::new(listener, idle)?;
            axum::serve(door, routes.into_make_service_with_connect_info::<door::From>()).await
        }));
    }
    for task in tasks {
        // They only end when something is wrong with the runtime itself. Awaited outside the macro, which evaluates nothing
        // when logging is off.
        let result = task.await;
        tracing::error!(?result, "an HTTP port is no longer served");
    }
}

impl Desk {
    fn report(&self, wanted: Wanted) -> Result<Report, NoAnswer> {
        let figures = Figures {
            trace_mask: self.trace_mask.load(Ordering::Relaxed),
            snapshots_limited: self.snapshots_limited.load(Ordering::Relaxed),
            snapshots_failed: self.snapshots_failed.load(Ordering::Relaxed),
            connections_refused: self.shared.conn_limits.refused(),
            startup: self.startup,
        };
        Report::gather(&self.shared, &self.config, wanted, figures)
    }

    fn answer(&self, request: &WordRequest) {
        let text = self.word(request.word, request.argument).unwrap_or_else(|error| {
            tracing::error!(target: CLIENT_LOG, word = request.word, %error, "a four-letter word cannot be answered");
            format!("{NOT_SERVING}\n")
        });
        self.shared.to_shard(request.shard, CoreMail::WordAnswer { conn: request.conn, text: text.into_bytes() });
    }

    fn word(&self, word: &str, argument: i64) -> Result<String, NoAnswer> {
        match word {
            "ruok" => return Ok("imok".into()),
            "stmk" => {
                self.trace_mask.store(argument, Ordering::Relaxed);
                return Ok(argument.to_string());
            }
            "srst" => {
                self.reset_stats();
                return Ok(four_letter::RESET_SERVER.into());
            }
            "crst" => {
                self.reset_connection_stats();
                return Ok(four_letter::RESET_CONNECTIONS.into());
            }
            _ => {}
        }
        let report = self.report(four_letter::wanted(word))?;
        // Shards only pass on words of `proto::four_letter::WORDS`; all are here.
        Ok(four_letter::text(word, &report).unwrap_or_else(|| format!("{word} is not a command\n")))
    }

    /// Metrics begin again with `srst`, unless Prometheus reads them: its counters never fall.
    fn reset_stats(&self) {
        let metrics = !http::wants_prometheus(self);
        (0..self.shared.shard_core.len())
            .for_each(|s| self.shared.to_shard(ShardId(s as u32), CoreMail::ResetStats { metrics }));
        if metrics {
            self.shared.to_peer(CoreMail::ResetPeerStats);
        }
    }

    fn reset_connection_stats(&self) {
        (0..self.shared.shard_core.len())
            .for_each(|s| self.shared.to_shard(ShardId(s as u32), CoreMail::ResetConnectionStats));
    }
}
