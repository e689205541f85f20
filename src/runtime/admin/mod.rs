//! The answers for operators and their tools: four-letter words, the HTTP admin server, metrics, health checks. Mirrors
//! `FourLetterCommands`, `JettyAdminServer` and the metrics providers.
//!
//! Every answer is made from a [`report::Report`], for which the cores are asked through their mailboxes. Three threads
//! answer words, and one serves HTTP. None of them accesses the state of a core.

mod authorize;
mod commands;
mod ensemble;
mod figures;
mod four_letter;
mod host;
mod http;
mod java;
mod json;
mod listener;
mod metrics;
mod process;
mod query;
mod report;
mod responses;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use crossbeam::channel::{self, Receiver};

pub use report::Startup;

use super::shared::{Shared, WordRequest};
use super::start_error::StartError;
use super::threads;
use crate::config::{Config, ExitCode};
use listener::BoundedListener;
use report::Length;
use state::AdminState;

/// Starts the threads.
///
/// # Errors
/// A thread cannot be started, or a required port cannot be bound.
pub fn start(
    config: Arc<Config>,
    shared: Arc<Shared>,
    words: Receiver<WordRequest>,
    startup: Startup,
) -> Result<(), StartError> {
    let state = Arc::new(AdminState::new(config, shared, startup));
    start_http(&state)?;
    start_words(state, words)
}

/// Starts the threads that answer words. Words with lists have threads of their own, so nobody waits for a list longer
/// than his own.
fn start_words(state: Arc<AdminState>, words: Receiver<WordRequest>) -> Result<(), StartError> {
    let list_thread = |name| {
        let (to, requests) = channel::unbounded::<WordRequest>();
        let state = state.clone();
        spawn(name, move || requests.iter().for_each(|request| state.answer(&request))).map(|()| to)
    };
    let (connections, long) = (list_thread("words-conns")?, list_thread("words-lists")?);
    spawn("words", move || {
        for request in words {
            // The threads for lists run as long as the process.
            match four_letter::wanted(request.word).length() {
                Length::Short => state.answer(&request),
                Length::Connections => drop(connections.send(request)),
                Length::Long => drop(long.send(request)),
            }
        }
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    threads::start(name, run).map(drop).map_err(|e| StartError::new(ExitCode::Unexpected, e))
}

/// Binds the configured ports, and serves them on a thread.
fn start_http(state: &Arc<AdminState>) -> Result<(), StartError> {
    let mut ports: Vec<(std::net::TcpListener, Router)> = Vec::new();
    let admin = &state.config.admin;
    if admin.enabled {
        let address = admin.host.at(admin.port);
        match listener::bind(address) {
            Ok(listener) => {
                tracing::info!(%address, url = admin.command_url, "admin server");
                ports.push((listener, http::admin(state.clone())));
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
    if state.wants_prometheus() {
        let address = state.config.metrics.http_host.at(state.config.metrics.http_port);
        let listener = listener::bind(address).map_err(|e| {
            let what =
                format!("metrics cannot be served on {address}: {e}. Set metricsProvider.httpPort to a free port");
            StartError::new(ExitCode::Bind, what)
        })?;
        tracing::info!(%address, "metrics for Prometheus at /metrics");
        ports.push((listener, http::prometheus(state.clone())));
    }
    if ports.is_empty() {
        return Ok(());
    }
    let idle = Duration::from_millis(admin.idle_timeout_ms.max(1) as u64);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::new(ExitCode::Unexpected, format!("the admin server cannot start: {e}")))?;
    let state = state.clone();
    spawn("admin", move || runtime.block_on(serve(ports, idle, state)))
}

/// Keeps a report from time to time: see [`window`].
async fn keep_reports(state: Arc<AdminState>) {
    loop {
        tokio::time::sleep(window::SLICE).await;
        match state.gather(report::Wanted::default(), |report| report).await {
            Ok(report) => state.window.keep(report),
            Err(why) => tracing::warn!(
                why,
                "the cores do not answer: quantiles of metrics cover a longer time than ten minutes"
            ),
        }
    }
}

async fn serve(ports: Vec<(std::net::TcpListener, Router)>, idle: Duration, state: Arc<AdminState>) {
    if state.wants_prometheus() {
        tokio::spawn(keep_reports(state));
    }
    let mut tasks = Vec::new();
    for (listener, routes) in ports {
        tasks.push(tokio::spawn(async move {
            let listener = BoundedListener::new(listener, idle)?;
            axum::serve(listener, routes.into_make_service_with_connect_info::<listener::From>()).await
        }));
    }
    for task in tasks {
        // A task only ends if the runtime itself fails. It is awaited outside the macro, which evaluates nothing when
        // logging is off.
        let result = task.await;
        tracing::error!(?result, "an HTTP port is no longer served");
    }
}
