//! Reports of the last minutes, so that quantiles are those of the last minutes: after a month a median since the start tells
//! nothing about now. Plays the part of the time window of the summaries of the Prometheus client that ZooKeeper uses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::report::Report;

/// How often a report is kept.
pub(super) const SLICE: Duration = Duration::from_secs(120);

/// How many: quantiles are those of the last eight to ten minutes.
const SLICES: usize = 5;

/// The reports that were kept, oldest first.
#[derive(Default)]
pub(super) struct Window(Mutex<VecDeque<Arc<Report>>>);

impl Window {
    /// Keeps a report. To be called every [`SLICE`].
    pub(super) fn keep(&self, report: Report) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SLICES {
            kept.pop_front();
        }
        // Without what was before itself, or all reports of all times would be kept.
        kept.push_back(Arc::new(Report { earlier: None, ..report }));
    }

    /// How it was when the window began. `None`: the server is younger than the window.
    pub(super) fn begin(&self) -> Option<Arc<Report>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SLICES { kept.front().cloned() } else { None }
    }
}
