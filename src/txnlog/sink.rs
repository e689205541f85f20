//! What the log writes to: [`LogWriter`] on a directory, or a test double.

use std::io;

use super::disk::Dir;
use super::writer::LogWriter;
use crate::types::Zxid;

/// What the log writes to: files, or a test double. All errors are final.
pub trait LogSink: Send + 'static {
    /// The zxid of the last record appended.
    fn last(&self) -> Zxid;
    /// Whether records are kept anywhere: see [`LogOptions::keeps`](super::writer::LogOptions::keeps).
    fn keeps(&self) -> bool {
        true
    }
    /// Copies a record into the log. It is not durable before `sync`.
    fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()>;
    /// Makes everything appended durable; returns the last durable zxid.
    fn sync(&mut self) -> io::Result<Zxid>;
    /// Prepares the memory for the next record; called after a sync, when nobody waits.
    fn expect_write(&mut self);
    /// A `roll` follows soon: prepare the next file.
    fn prepare(&mut self);
    /// Ends the current file.
    fn roll(&mut self) -> io::Result<()>;
    /// Whether [`LogSink::mark`] would do nothing.
    fn is_marked(&self) -> bool;
    /// Writes an end mark after the last record, which must be durable, so that damage to that record can be
    /// recognised.
    fn mark(&mut self) -> io::Result<()>;
    /// The name of what is being written, for messages.
    fn name(&self) -> String;
}

impl<D: Dir + 'static> LogSink for LogWriter<D>
where
    D::Segment: 'static,
{
    fn last(&self) -> Zxid {
        LogWriter::last(self)
    }

    fn keeps(&self) -> bool {
        LogWriter::keeps(self)
    }

    fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        LogWriter::append(self, zxid, payload)
    }

    fn sync(&mut self) -> io::Result<Zxid> {
        LogWriter::sync(self)
    }

    fn expect_write(&mut self) {
        LogWriter::expect_write(self);
    }

    fn prepare(&mut self) {
        LogWriter::prepare(self);
    }

    fn roll(&mut self) -> io::Result<()> {
        LogWriter::roll(self)
    }

    fn is_marked(&self) -> bool {
        LogWriter::is_marked(self)
    }

    fn mark(&mut self) -> io::Result<()> {
        LogWriter::mark(self)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.dir().path(), self.file_name())
    }
}
