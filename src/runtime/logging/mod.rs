//! The server's log on standard error. ZooKeeper leaves this to logback.
//!
//! A server must outlive whoever reads its log. So no thread but one ever writes to standard error: the others put their
//! lines into a bounded queue ([`writer`]). When nobody reads, lines are dropped and counted; when the reader is gone or the disk
//! is full, the server serves on. And no client can fill the log: of the lines that clients provoke only a few of each kind are
//! written, the others are counted ([`flood`]).

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

/// How long the end of the process waits for the log.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process, once [`start`] has been called.
static LOG: OnceLock<(Queue, Arc<Flood>)> = OnceLock::new();

/// Why there is no log.
#[derive(Debug, Error)]
pub enum StartLogError {
    /// Its thread cannot be had.
    #[error("{0}")]
    Thread(io::Error),
    /// It was started before: a bug of ours.
    #[error("the log was started before")]
    Twice,
}

/// Starts the log: what `filter` lets through goes to standard error, coloured if `ansi`. A panic is told there too.
///
/// # Errors
/// The log was started before, or its thread cannot be made.
pub fn start(filter: EnvFilter, ansi: bool) -> Result<(), StartLogError> {
    let flood = Arc::new(Flood::default());
    let queue = writer::start(flood.clone()).map_err(StartLogError::Thread)?;
    let lines = queue.clone();
    // Without `log_internal_errors(false)` an error would be told on standard error, which panics when that is broken.
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

/// Writes `text` to standard error behind what was logged before. Waits a second at most, and never fails: nobody may be
/// reading, and whoever calls this has something more important to do than to be heard.
pub fn say(text: &str) {
    let deadline = Instant::now() + PATIENCE;
    match LOG.get() {
        Some((queue, _)) => queue.say(text.as_bytes(), deadline),
        None => writer::write_until(text.as_bytes(), deadline),
    }
}

/// Tells how many lines were left out so far, and waits until all is written, a second at most.
pub fn finish() {
    if let Some((queue, flood)) = LOG.get() {
        flood.tell_all();
        // False: nobody reads, and there is nobody to be told.
        let _ = queue.flush(Instant::now() + PATIENCE);
    }
}

/// Writes one line to standard output. A thread of its own does it: a full pipe stops nobody else, a closed one is no error.
///
/// # Errors
/// No thread can be had.
pub fn announce(line: String) -> io::Result<()> {
    let write = move || {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        // Nobody may be listening.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    threads::start("announce", write).map(drop)
}
