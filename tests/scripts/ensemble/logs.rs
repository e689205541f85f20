//! What a server writes to its log, as lines of a script's output.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::show;

/// Keeps the lines of the code that decides.
#[derive(Clone, Default)]
pub struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Logs {
    /// Runs something, and returns its result and what it logged.
    pub fn of<T>(act: impl FnOnce() -> T) -> (T, Vec<String>) {
        let logs = Logs::default();
        let result = tracing::subscriber::with_default(logs.clone(), act);
        let lines = std::mem::take(&mut *logs.lines.lock().expect("nobody panics with it"));
        (result, lines)
    }
}

impl Subscriber for Logs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let module = event.metadata().module_path().unwrap_or_default();
        if !module.starts_with("zabra::peer") && !module.starts_with("zabra::zab") {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let fields = if line.fields.is_empty() { String::new() } else { format!(" ({})", line.fields) };
        let line = show::zxids(&format!("{}{fields}", line.message));
        self.lines.lock().expect("nobody panics with it").push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.message, "{value:?}").expect("a string takes it"),
            // Their numbers say nothing to a reader.
            "conn" | "session" => {}
            name => {
                let between = if self.fields.is_empty() { "" } else { ", " };
                write!(self.fields, "{between}{name}: {value:?}").expect("a string takes it");
            }
        }
    }
}
