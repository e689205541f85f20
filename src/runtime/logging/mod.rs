//! The server's log on standard error. ZooKeeper leaves this to logback.
//!
//! The server must not depend on the reader of its log. So only one thread writes to standard error: the others put lines
//! into a bounded queue ([`writer`]). If nobody reads, lines are dropped and counted; if the reader is gone or the disk
//! is full, the server continues. Clients cannot fill the log: of the lines that clients can cause, only a few of each
//! kind are written, and the others are counted ([`flood`]).

mod flood;
mod writer;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::threads;
use flood::Flood;
use writer::Queue;

/// How long the end of the process waits for the log to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process, once [`start`] has been called.
static LOG: OnceLock<(Queue, Arc<Flood>)> = OnceLock::new();

/// Why there is no log.
#[derive(Debug, Error)]
pub enum StartLogError {
    /// Its thread cannot be started.
    #[error("{0}")]
    Thread(io::Error),
    /// It was started before, which is a bug.
    #[error("the log was started before")]
    Twice,
}

/// Starts the log. Lines that pass `filter` go to standard error, in colour if `ansi`. Panics are logged there too.
///
/// # Errors
/// The log was started before, or its thread cannot be made.
pub fn start(filter: EnvFilter, ansi: bool) -> Result<(), StartLogError> {
    let flood = Arc::new(Flood::default());
    let queue = writer::start(flood.clone()).map_err(StartLogError::Thread)?;
    let lines = queue.clone();
    // `log_internal_errors(false)`: otherwise the layer reports errors with `eprintln!`, which panics if standard error
    // is broken.
    let format =
        tracing_subscriber::fmt::layer().with_ansi(ansi).log_internal_errors(false).with_writer(move || lines.clone());
    let layers = tracing_subscriber::registry().with(filter).with(format).with(flood::Layer(flood.clone()));
    layers.try_init().map_err(|_| StartLogError::Twice)?;
    LOG.set((queue, flood)).map_err(|_| StartLogError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        say(&format!("zabra: a bug: thread {} {panic}\n", thread.name().unwrap_or("without a name")));
    }));
    Ok(())
}

/// Writes `text` to standard error after the lines logged before. Waits at most a second, and never fails: what the
/// caller does next is more important than this text.
pub fn say(text: &str) {
    let deadline = Instant::now() + PATIENCE;
    match LOG.get() {
        Some((queue, _)) => queue.say(text.as_bytes(), deadline),
        None => writer::write_until(text.as_bytes(), deadline),
    }
}

/// Logs how many lines were left out, and waits until everything is written, at most a second.
pub fn finish() {
    if let Some((queue, flood)) = LOG.get() {
        flood.tell_all();
        // False means that nobody reads, so there is nobody to tell.
        let _ = queue.flush(Instant::now() + PATIENCE);
    }
}

/// Writes one line to standard output, on a thread of its own: a full pipe blocks nothing else, and a closed pipe is no
/// error.
///
/// # Errors
/// No thread can be started.
pub fn announce(line: String) -> io::Result<()> {
    let write = move || {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        // An error means that nobody reads.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    threads::start("announce", write).map(drop)
}
