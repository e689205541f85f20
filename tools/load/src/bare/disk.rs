//! Appends one record after another to a mapped, fallocated file, each synced before the next: the cost of a durable
//! write on this machine when writes share no sync.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use memmap2::{Advice, MmapMut, MmapOptions};

use super::sizes;
use crate::Result;
use crate::args::Args;
use crate::poll::{allocate, now_ns};
use crate::record::Recorder;
use crate::report::Report;

/// Length of the file, like that of a log segment.
const LENGTH: u64 = 64 << 20;

/// The file; removed when this is dropped.
struct Segment {
    path: PathBuf,
    file: File,
    map: MmapMut,
    at: usize,
}

impl Segment {
    fn new(args: &Args) -> Result<Segment> {
        let path = args.dir.join(format!("zabra-load-disk.{}", std::process::id()));
        let fail = |what: &str, e: std::io::Error| format!("{}: {what}: {e}", path.display());
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(true).open(&path).map_err(|e| fail("open", e))?;
        let made = allocate(file.as_raw_fd(), LENGTH).map_err(|e| fail("fallocate", e)).and_then(|()| {
            file.sync_all().map_err(|e| fail("fsync", e))?;
            // SAFETY: only this process uses the file, which keeps its length as long as the mapping lives.
            unsafe { MmapOptions::new().map_mut(&file) }.map_err(|e| fail("mmap", e))
        });
        let map = match made {
            Ok(map) => map,
            Err(e) => {
                // The incomplete file is useless. The error that matters is the one above.
                let _ = fs::remove_file(&path);
                return Err(e);
            }
        };
        // Without this the kernel reads ahead into large folios and writes each back whole.
        map.advise(Advice::Random).map_err(|e| fail("madvise", e))?;
        Ok(Segment { path, file, map, at: 0 })
    }

    /// Appends `record` and waits until it is on the disk.
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let end = self.at + record.len();
        self.map[self.at..end].copy_from_slice(record);
        self.at = end;
        self.file.sync_data().map_err(|e| format!("{}: fdatasync: {e}", self.path.display()))
    }

    fn has_room(&self, record: &[u8]) -> bool {
        self.at + record.len() <= self.map.len()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.path) {
            eprintln!("zabra-load: {}: {e}", self.path.display());
        }
    }
}

/// Runs the load. The CPU time in the report is that of this process.
pub fn run(args: &Args) -> Result<Report> {
    let args = &Args { server_pid: Some(std::process::id()), ..args.clone() };
    let record = vec![0xa5; sizes::record(args)];
    if record.len() as u64 > LENGTH {
        return Err(format!("a record of {} bytes does not fit into a file of {LENGTH}", record.len()));
    }
    let mut segment = Segment::new(args)?;
    let mut recorder = Recorder::new(args, &["sync"])?;
    let warm_end = now_ns() + (args.warm_up * 1e9) as u64;
    let mut end = u64::MAX;
    loop {
        let now = now_ns();
        if !recorder.is_measuring() && now >= warm_end {
            recorder.begin()?;
            end = now + (args.seconds * 1e9) as u64;
        }
        if now >= end {
            break;
        }
        if now >= recorder.next_line_ns() {
            recorder.line(1)?;
        }
        if !segment.has_room(&record) {
            drop(segment);
            segment = Segment::new(args)?;
        }
        let began = now_ns();
        segment.append(&record)?;
        recorder.reply(0, began, began, now_ns());
    }
    let cpu = recorder.end()?;
    Report::new(args, &mut recorder, cpu)
}
