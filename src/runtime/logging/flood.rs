//! Limits floods of log lines. A client can cause any number of lines, with invalid handshakes or with connections above a
//! limit, and so can another server that fails again and again. Of each kind, [`LINES`] are written in a [`WINDOW`]; the others are counted, and one line gives their number.
//!
//! Lines that a client can cause have the target [`CLIENT_LOG`], those that a server can cause [`PEER_LOG`]. All lines of one place in the source are one kind.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use crate::types::{CLIENT_LOG, PEER_LOG};

/// Most lines of a kind in a [`WINDOW`].
const LINES: u64 = 10;

/// The time in which lines of a kind are counted together.
const WINDOW: Duration = Duration::from_secs(10);

/// The counts of a kind since its window began.
struct Kind {
    since: Instant,
    written: u64,
    left_out: u64,
    level: Level,
    message: String,
}

/// A kind of which lines were left out.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    level: Level,
    message: String,
}

/// The kinds with an open window.
#[derive(Default)]
pub(super) struct Flood(Mutex<HashMap<Identifier, Kind>>);

impl Flood {
    /// Whether to write a line of this kind. `message` is called for the first line that is left out.
    fn admit(&self, now: Instant, kind: Identifier, level: Level, message: impl FnOnce() -> String) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Kind { since: now, written: 0, left_out: 0, level, message: String::new() };
        let kind = kinds.entry(kind).or_insert(fresh);
        if kind.written < LINES {
            kind.written += 1;
            return true;
        }
        if kind.left_out == 0 {
            kind.message = message();
        }
        kind.left_out += 1;
        false
    }

    /// Closes the windows that are over, and returns the kinds of which lines were left out.
    fn end_windows(&self, now: Instant) -> Vec<LeftOut> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        kinds.retain(|_, kind| {
            let is_over = now.saturating_duration_since(kind.since) >= WINDOW;
            if is_over && kind.left_out > 0 {
                let message = std::mem::take(&mut kind.message);
                told.push(LeftOut { lines: kind.left_out, level: kind.level, message });
            }
            !is_over
        });
        told
    }

    /// Logs how many lines were left out in the windows that are over. Call it from time to time.
    pub(super) fn tell(&self, now: Instant) {
        for LeftOut { lines, level, message } in self.end_windows(now) {
            let seconds = WINDOW.as_secs();
            // The macros take the level from the place in the source.
            match level {
                Level::ERROR => tracing::error!("{lines} more like this in {seconds} s: {message}"),
                Level::WARN => tracing::warn!("{lines} more like this in {seconds} s: {message}"),
                Level::INFO => tracing::info!("{lines} more like this in {seconds} s: {message}"),
                _ => tracing::debug!("{lines} more like this in {seconds} s: {message}"),
            }
        }
    }

    /// The same for all windows, before the process ends.
    pub(super) fn tell_all(&self) {
        self.tell(Instant::now() + WINDOW);
    }
}

/// Leaves lines out before they are formatted.
pub(super) struct Layer(pub(super) std::sync::Arc<Flood>);

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let meta = event.metadata();
        if ![CLIENT_LOG, PEER_LOG].contains(&meta.target()) {
            return true;
        }
        let message = || {
            let mut message = Message(String::new());
            event.record(&mut message);
            message.0
        };
        self.0.admit(Instant::now(), meta.callsite(), *meta.level(), message)
    }
}

/// The message of a line without its fields.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    /// Lines that are written, each as its message.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> tracing_subscriber::Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap().push(message.0);
        }
    }

    fn refused(peer: u32) {
        tracing::warn!(target: CLIENT_LOG, peer, "refused");
    }

    #[test]
    fn of_a_flood_a_few_lines_of_each_kind_are_written_and_the_others_are_counted() {
        let (flood, written) = (Arc::new(Flood::default()), Written::default());
        let subscriber = tracing_subscriber::registry().with(written.clone()).with(Layer(flood.clone()));
        let begin = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            (0..3000).for_each(refused);
            (0..5).for_each(|_| tracing::info!(target: CLIENT_LOG, "another kind"));
            (0..20).for_each(|_| tracing::info!(target: PEER_LOG, "of a server"));
            (0..50).for_each(|_| tracing::info!("of the server itself"));
            flood.tell(begin);
            let lines = std::mem::take(&mut *written.0.lock().unwrap());
            let count = |message: &str| lines.iter().filter(|l| *l == message).count();
            let counts = ["refused", "another kind", "of a server", "of the server itself"].map(count);
            let most = LINES as usize;
            assert_eq!((counts, lines.len()), ([most, 5, most, 50], 2 * most + 55));
            flood.tell_all();
            written.0.lock().unwrap().sort_unstable();
            let left_out = ["10 more like this in 10 s: of a server", "2990 more like this in 10 s: refused"];
            assert_eq!(*written.0.lock().unwrap(), left_out);
            // In a new window lines are written again, and nothing is logged twice.
            refused(1);
            flood.tell(Instant::now() + WINDOW * 2);
            assert_eq!(written.0.lock().unwrap()[2..], ["refused"]);
        });
    }
}
