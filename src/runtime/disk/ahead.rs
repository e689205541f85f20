//! A thread that spares the log thread some waiting when it begins a new segment: the next segment is allocated, begun
//! and mapped under a temporary name before it is needed, and the unused blocks of the closed one are freed afterwards.
//!
//! Correctness does not depend on it. If a segment could not be prepared it is made when it is needed, and the error is
//! reported then. A prepared segment that is not needed, or that a killed process left, is removed. A file that was not
//! shortened has zeros after its last record and end mark, like every ZooKeeper log.

use super::{FsSegment, NEW_SEGMENT, named};
use crate::config::ExitCode;
use crate::runtime::start_error::StartError;
use crate::runtime::{fatal, threads};
use crossbeam::channel::{self, Receiver, Sender};
use std::fs;
use std::io;
use std::path::Path;
use std::thread::JoinHandle;

/// Makes a segment of a given length that begins with the given bytes, under the name [`NEW_SEGMENT`].
pub(super) type Make = Box<dyn FnMut(u64, &[u8]) -> io::Result<FsSegment> + Send>;

enum Job {
    Make { len: u64, head: Vec<u8> },
    Cut { segment: FsSegment, len: u64 },
    Settle(Sender<()>),
}

/// The handle of the thread; the thread ends with it.
pub(super) struct Ahead {
    jobs: Option<Sender<Job>>,
    made: Receiver<io::Result<FsSegment>>,
    /// A segment is being prepared or waits to be taken.
    asked: bool,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts the thread for the directory `dir`. A segment that an earlier process had prepared is removed.
    ///
    /// # Errors
    /// What was left cannot be removed, or no thread can be had.
    pub(super) fn start(dir: &Path, mut make: Make) -> Result<Ahead, StartError> {
        let left = dir.join(NEW_SEGMENT);
        remove(&left).map_err(|e| StartError::new(ExitCode::DataDir, e))?;
        let (jobs, todo) = channel::unbounded::<Job>();
        let (tell, made) = channel::bounded(1);
        let run = move || {
            for job in todo {
                match job {
                    // If nobody listens any more, the segment is removed below.
                    Job::Make { len, head } => drop(tell.send(make(len, &head))),
                    Job::Cut { segment, len } => {
                        if let Err(e) = segment.cut(len) {
                            fatal::fatal(fatal::TXN_LOG, format_args!("giving back a log's unused blocks failed: {e}"));
                        }
                    }
                    Job::Settle(done) => drop(done.send(())),
                }
            }
        };
        let thread = threads::start("segments", run).map_err(|e| StartError::new(ExitCode::Unexpected, e))?;
        Ok(Ahead { jobs: Some(jobs), made, asked: false, thread: Some(thread) })
    }

    /// Starts to prepare a segment, unless one is being prepared already.
    pub(super) fn prepare(&mut self, len: u64, head: &[u8]) {
        if !self.asked {
            self.asked = true;
            self.job(Job::Make { len, head: head.to_vec() });
        }
    }

    /// The prepared segment, if it could be made. Waits for it: making another one would not be faster.
    pub(super) fn take(&mut self) -> Option<FsSegment> {
        if !std::mem::take(&mut self.asked) {
            return None;
        }
        match self.made.recv().ok()? {
            Ok(segment) => Some(segment),
            Err(error) => {
                tracing::warn!(%error, "the next log segment could not be made ahead");
                None
            }
        }
    }

    /// Removes the prepared segment, and waits until closed segments are cut.
    pub(super) fn give_back(&mut self) -> io::Result<()> {
        self.settle();
        match self.take() {
            Some(segment) => remove(&segment.path),
            None => Ok(()),
        }
    }

    /// Unmaps a durable segment and cuts its file to `len` bytes, at some time.
    pub(super) fn cut(&self, segment: FsSegment, len: u64) {
        self.job(Job::Cut { segment, len });
    }

    /// Waits until the thread has nothing to do.
    pub(super) fn settle(&self) {
        let (done, wait) = channel::bounded(0);
        self.job(Job::Settle(done));
        // An error means that the thread has ended, so it has nothing to do.
        let _ = wait.recv();
    }

    fn job(&self, job: Job) {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "the segments' thread is gone");
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            fatal::fatal(fatal::TXN_LOG, "the segments' thread panicked");
        }
        if let Some(segment) = self.take()
            && let Err(error) = remove(&segment.path)
        {
            tracing::warn!(%error, "a log segment that was made ahead is left behind");
        }
    }
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => named(outcome, path, "remove the file"),
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::disk::{FsDir, FsSegment, NEW_SEGMENT, SyncMethod};
    use crate::txnlog::disk::{Dir, Segment};
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn open(at: &Path, sync: SyncMethod) -> FsDir {
        FsDir::open(at, true, sync).unwrap().with_segments_ahead().unwrap()
    }

    fn names(d: &FsDir) -> Vec<String> {
        let mut names: Vec<String> = d.list().unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    /// Writes to the segment and then to its end, and checks the file.
    fn check(mut s: FsSegment, at: &Path, len: u64) {
        assert_eq!((s.len(), fs::metadata(at).unwrap().len()), (len, len));
        s.write(4, b"record");
        s.write(len - 3, b"end");
        s.sync().unwrap();
        let bytes = fs::read(at).unwrap();
        assert!(bytes.starts_with(b"headrecord\0") && bytes.ends_with(b"\0end"));
    }

    #[test]
    fn a_segment_made_ahead_is_the_one_that_is_created() {
        for sync in [SyncMethod::Fdatasync, SyncMethod::Msync, SyncMethod::Dsync] {
            let tmp = tempfile::tempdir().unwrap();
            let mut d = open(tmp.path(), sync);
            d.prepare_segment(1 << 16, b"head");
            d.prepare_segment(1 << 16, b"head");
            d.settle();
            assert_eq!(names(&d), [NEW_SEGMENT], "nothing bears a log's name before it is created");
            let made = fs::metadata(tmp.path().join(NEW_SEGMENT)).unwrap();
            assert!(made.blocks() * 512 >= 1 << 16);
            let s = d.take_prepared("log.1", 1 << 16, b"head").unwrap().unwrap();
            assert_eq!(names(&d), ["log.1"]);
            assert_eq!(fs::metadata(tmp.path().join("log.1")).unwrap().ino(), made.ino());
            check(s, &tmp.path().join("log.1"), 1 << 16);
            // The next one was not prepared; the one after it is too short, and that after it begins otherwise.
            for (i, (name, head)) in
                [("log.2", None), ("log.3", Some(b"head")), ("log.4", Some(b"else"))].iter().enumerate()
            {
                if let Some(head) = head {
                    d.prepare_segment(1 << 16, *head);
                }
                let len = (i as u64 + 1) << 16;
                assert!(d.take_prepared(name, len, b"head").unwrap().is_none());
                check(d.create_segment(name, len, b"head").unwrap(), &tmp.path().join(name), len);
            }
            assert_eq!(names(&d), ["log.1", "log.2", "log.3", "log.4"]);
            d.prepare_segment(1 << 16, b"head");
            assert_eq!(d.take_prepared("log.4", 1 << 16, b"head").err().unwrap().kind(), ErrorKind::AlreadyExists);
        }
    }

    #[test]
    fn what_was_made_ahead_and_not_needed_is_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let left = tmp.path().join(NEW_SEGMENT);
        fs::write(&left, b"of a process that was killed").unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        assert!(!left.exists());
        d.prepare_segment(1 << 16, b"head");
        d.settle();
        assert!(left.exists());
        drop(d);
        assert!(!left.exists());
    }

    #[test]
    fn a_segment_that_cannot_be_made_ahead_is_made_when_it_is_needed() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        // Fails as on a full disk.
        d.prepare_segment(1 << 62, b"head");
        d.settle();
        assert_eq!(names(&d), [""; 0]);
        check(d.create_segment("log.1", 1 << 16, b"head").unwrap(), &tmp.path().join("log.1"), 1 << 16);
        d.prepare_segment(1 << 62, b"head");
        assert!(d.take_prepared("log.2", 1 << 16, b"head").unwrap().is_none());
        let e = d.create_segment("log.2", 1 << 62, b"head").err().unwrap();
        assert!(e.to_string().contains("log.2: cannot allocate"), "{e}");
        // Somebody removes the prepared file.
        d.prepare_segment(1 << 16, b"head");
        d.settle();
        fs::remove_file(tmp.path().join(NEW_SEGMENT)).unwrap();
        assert!(d.take_prepared("log.3", 1 << 16, b"head").unwrap().is_none());
        check(d.create_segment("log.3", 1 << 16, b"head").unwrap(), &tmp.path().join("log.3"), 1 << 16);
        assert_eq!(names(&d), ["log.1", "log.3"]);
    }

    #[test]
    fn what_was_made_ahead_is_given_back_when_space_is_short() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        d.give_back_prepared().unwrap();
        let s = d.create_segment("log.1", 1 << 20, b"head").unwrap();
        d.prepare_segment(1 << 16, b"head");
        d.close_segment(s, 4).unwrap();
        d.give_back_prepared().unwrap();
        assert_eq!(d.list().unwrap(), [("log.1".to_owned(), 4)]);
        // After that it works as before.
        d.prepare_segment(1 << 16, b"head");
        check(d.take_prepared("log.2", 1 << 16, b"head").unwrap().unwrap(), &tmp.path().join("log.2"), 1 << 16);
        assert_eq!(names(&d), ["log.1", "log.2"]);
    }

    #[test]
    fn a_closed_segment_is_cut() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        let mut s = d.create_segment("log.1", 1 << 20, b"head").unwrap();
        s.write(4, b"record");
        s.sync().unwrap();
        d.close_segment(s, 9).unwrap();
        // Other operations on the files come after it.
        d.rename("log.1", "log.2").unwrap();
        assert_eq!(fs::read(tmp.path().join("log.2")).unwrap(), b"headrecor");
        let s = d.create_segment("log.3", 1 << 20, b"head").unwrap();
        d.close_segment(s, 4).unwrap();
        drop(d);
        assert_eq!(fs::read(tmp.path().join("log.3")).unwrap(), b"head");
    }
}
