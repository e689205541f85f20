//! The state shared by the admin server and the four-letter words, and how they ask the cores.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::four_letter::NOT_SERVING;
use super::report::{Figures, Report, Startup, Wanted};
use super::window::Window;
use super::{four_letter, listener};
use crate::config::{Config, MetricsProvider};
use crate::runtime::shared::{NoAnswer, PeerCommand, ShardCommand, Shared, WordRequest};
use crate::runtime::threads;
use crate::types::CLIENT_LOG;

/// ZooKeeper's trace mask after the start. It is only kept and shown.
const TRACE_MASK: i64 = 0b1_0011_0010;

/// Most threads that wait at the same time: one for each connection that there may be.
const THREADS: usize = 2 * listener::CONNECTIONS;

/// How long a request waits for the requests before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a health check waits for the cores. Orchestrators wait for a second.
const PULSE_PATIENCE: Duration = Duration::from_millis(900);

/// The state that the threads of the admin server and of the words share.
pub(super) struct AdminState {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
    startup: Mutex<Startup>,
    /// Used only for the quantiles of Prometheus.
    pub(super) window: Window,
    pub(super) trace_mask: AtomicI64,
    pub(super) snapshots_limited: AtomicU64,
    pub(super) snapshots_failed: AtomicU64,
    /// When the last `snapshot` command was accepted.
    pub(super) last_snapshot: Mutex<Option<Instant>>,
    /// One HTTP request of each [`Length`] asks the cores at a time, so long lists do not delay short answers.
    asking: [Arc<tokio::sync::Mutex<()>>; 3],
    /// Permits for threads that wait for cores or read a snapshot for HTTP.
    threads: Arc<Semaphore>,
    /// When the cores were last asked whether they make turns, and the result. It answers all requests that wait for it.
    pulse: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

impl AdminState {
    /// The state before the first request.
    pub(super) fn new(config: Arc<Config>, shared: Arc<Shared>, startup: Startup) -> AdminState {
        AdminState {
            shared,
            config,
            startup: Mutex::new(startup),
            window: Window::default(),
            trace_mask: AtomicI64::new(TRACE_MASK),
            snapshots_limited: AtomicU64::new(0),
            snapshots_failed: AtomicU64::new(0),
            last_snapshot: Mutex::default(),
            asking: Default::default(),
            threads: Arc::new(Semaphore::new(THREADS)),
            pulse: tokio::sync::Mutex::default(),
        }
    }

    /// Whether Prometheus is the metrics provider.
    pub(super) fn wants_prometheus(&self) -> bool {
        self.config.metrics.provider == MetricsProvider::Prometheus
    }

    fn report(&self, wanted: Wanted) -> Result<Report, NoAnswer> {
        let figures = Figures {
            trace_mask: self.trace_mask.load(Ordering::Relaxed),
            snapshots_limited: self.snapshots_limited.load(Ordering::Relaxed),
            snapshots_failed: self.snapshots_failed.load(Ordering::Relaxed),
            connections_refused: self.shared.conn_limits.refused(),
            startup: self.startup.lock().expect("nothing panics with it").clone(),
        };
        let report = Report::gather(&self.shared, &self.config, wanted, figures)?;
        Ok(Report { earlier: self.window.begin(), ..report })
    }

    pub(super) fn answer(&self, request: &WordRequest) {
        let text = self.word(request.word, request.argument).unwrap_or_else(|error| {
            tracing::error!(target: CLIENT_LOG, word = request.word, %error, "a four-letter word cannot be answered");
            format!("{NOT_SERVING}\n")
        });
        self.shared.answer_word(request.shard, request.conn, text);
    }

    fn word(&self, word: &str, argument: i64) -> Result<String, NoAnswer> {
        match word {
            "ruok" => return Ok("imok".into()),
            "stmk" => {
                self.trace_mask.store(argument, Ordering::Relaxed);
                return Ok(argument.to_string());
            }
            _ => {}
        }
        let report = self.report(four_letter::wanted(word))?;
        if let Some(refusal) = four_letter::refusal(word).filter(|_| !report.peer.role.serves_clients) {
            return Ok(refusal.into());
        }
        match word {
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
        // Shards pass on words of `proto::four_letter::WORDS` only, and all of these are known.
        Ok(four_letter::text(word, &report).unwrap_or_else(|| format!("{word} is not a command\n")))
    }

    /// Resets what `srst` resets: also the metrics, unless Prometheus reads them, because its counters must not fall.
    pub(super) fn reset_stats(&self) {
        let metrics = !self.wants_prometheus();
        self.shared.command_shards(|| ShardCommand::ResetStats { metrics });
        if metrics {
            self.shared.command_peer(PeerCommand::ResetStats);
            *self.startup.lock().expect("nothing panics with it") = Startup::default();
        }
    }

    pub(super) fn reset_connection_stats(&self) {
        self.shared.command_shards(|| ShardCommand::ResetConnectionStats);
    }

    pub(super) fn reset_observers(&self) {
        self.shared.command_peer(PeerCommand::ResetObservers);
    }

    /// Runs a function that may block on a thread of its own. tokio's pool panics when no thread can be started.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) async fn start_thread(&self, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let place = self.threads.clone().acquire_owned().await.map_err(io::Error::other)?;
        let run = move || {
            run();
            drop(place);
        };
        threads::start("admin-ask", run).map(drop)
    }

    /// The same, and waits for the result.
    async fn on_a_thread<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let (tell, told) = oneshot::channel();
        // The client may be gone.
        self.start_thread(move || drop(tell.send(run()))).await.map_err(|e| e.to_string())?;
        told.await.map_err(|e| format!("the answer could not be made: {e}"))
    }

    /// Asks the cores and makes an answer from their report, on a thread of its own, because that may take long. `Err`:
    /// they did not answer in time.
    pub(super) async fn gather<T: Send + 'static>(
        self: &Arc<AdminState>,
        wanted: Wanted,
        make: impl FnOnce(Report) -> T + Send + 'static,
    ) -> Result<T, String> {
        let queue = &self.asking[wanted.length() as usize];
        let Ok(asking) = timeout(PATIENCE, queue.clone().lock_owned()).await else {
            return Err(format!("others have been waiting for the server for {PATIENCE:?}"));
        };
        let state = self.clone();
        let ask = move || {
            let report = state.report(wanted);
            drop(asking);
            report.map(make).map_err(|e| e.to_string())
        };
        self.on_a_thread(ask).await?
    }

    /// Whether every core makes turns; answers within a second. Requests at the same time ask the cores once.
    pub(super) async fn pulse(&self) -> Result<(), String> {
        let arrived = Instant::now();
        let mut last = self.pulse.lock().await;
        if let Some((at, pulse)) = &*last
            && *at >= arrived
        {
            return pulse.clone();
        }
        let shared = self.shared.clone();
        let asked = self.on_a_thread(move || shared.pulse(PULSE_PATIENCE).map_err(|e| e.to_string()));
        let pulse = asked.await.and_then(|pulse| pulse);
        *last = Some((Instant::now(), pulse.clone()));
        pulse
    }
}
