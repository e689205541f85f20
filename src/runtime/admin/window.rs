//! Reports of the last minutes, so that quantiles can be of the last minutes: after a month, a median since the start
//! says nothing about the present. Plays the part of the time window of the summaries of ZooKeeper's Prometheus client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::report::Report;

/// How often a report is kept.
pub(super) const SLICE: Duration = Duration::from_secs(120);

/// The number of reports that are kept: quantiles are of the last eight to ten minutes.
const SLICES: usize = 5;

/// The kept reports, oldest first.
#[derive(Default)]
pub(super) struct Window(Mutex<VecDeque<Arc<Report>>>);

impl Window {
    /// Keeps a report. Call it every [`SLICE`].
    pub(super) fn keep(&self, report: Report) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SLICES {
            kept.pop_front();
        }
        // Without its own earlier report, otherwise a chain of all reports would be kept.
        kept.push_back(Arc::new(Report { earlier: None, ..report }));
    }

    /// The report at the beginning of the window. `None`: the server is younger than the window.
    pub(super) fn begin(&self) -> Option<Arc<Report>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SLICES { kept.front().cloned() } else { None }
    }
}
