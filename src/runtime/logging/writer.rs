//! The thread that writes the log, and its bounded queue.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::flood::Flood;
use crate::runtime::{signal_mask, threads};

/// Most lines that wait for the writer. With [`LINE_BYTES`] this bounds the memory of a log that nobody reads to 16 MiB.
const QUEUE_LINES: usize = 4096;

/// Most bytes of a line; longer lines are cut.
const LINE_BYTES: usize = 4096;

/// The end of a line that was cut.
const CUT: &[u8] = b"... (cut)\n";

/// How often the writer checks whether lines were left out.
const LOOK: Duration = Duration::from_secs(1);

const STDERR: libc::c_int = 2;

enum Item {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// The queue of lines. Clones share it.
#[derive(Clone)]
pub(super) struct Queue {
    items: Sender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn new() -> (Queue, Receiver<Item>) {
        let (items, waiting) = channel::bounded(QUEUE_LINES);
        (Queue { items, dropped: Arc::default() }, waiting)
    }

    /// Adds a line, or counts it as dropped. Never waits.
    fn put(&self, line: &[u8]) {
        if self.items.try_send(Item::Line(cut(line))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a text that is not cut, and waits until it is written, at most until `deadline`.
    pub(super) fn say(&self, text: &[u8], deadline: Instant) {
        if self.items.send_deadline(Item::Line(text.to_vec()), deadline).is_ok() {
            self.flush(deadline);
        }
    }

    /// Waits until all lines before are written, at most until `deadline`. Returns whether they are.
    pub(super) fn flush(&self, deadline: Instant) -> bool {
        let (done, wait) = channel::bounded(1);
        self.items.send_deadline(Item::Flush(done), deadline).is_ok() && wait.recv_deadline(deadline).is_ok()
    }
}

/// tracing writes each line in one call.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cut(line: &[u8]) -> Vec<u8> {
    if line.len() <= LINE_BYTES {
        return line.to_vec();
    }
    // Never in the middle of a character.
    let mut end = LINE_BYTES - CUT.len();
    while line[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    [&line[..end], CUT].concat()
}

/// Starts the thread.
pub(super) fn start(flood: Arc<Flood>) -> io::Result<Queue> {
    let (queue, waiting) = Queue::new();
    let dropped = queue.dropped.clone();
    signal_mask::without_signals(|| threads::start("logging", move || run(&waiting, &dropped, &flood, stderr())))?;
    Ok(queue)
}

/// Standard error without the standard library's lock, which must not be held while waiting for a reader.
fn stderr() -> impl Write {
    // SAFETY: the descriptor is standard error's for as long as the process lives, and is never closed here.
    BlockingStderr(ManuallyDrop::new(unsafe { File::from_raw_fd(STDERR) }))
}

/// Waits for room even if the parent process made its end of the pipe non-blocking.
struct BlockingStderr(ManuallyDrop<File>);

impl Write for BlockingStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => await_room(-1),
                other => return other,
            };
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(waiting: &Receiver<Item>, dropped: &AtomicU64, flood: &Flood, mut out: impl Write) {
    let mut unwritten = 0;
    let mut look = Instant::now() + LOOK;
    loop {
        match waiting.recv_deadline(look) {
            Ok(Item::Line(line)) => {
                tell_lost(&mut out, &mut unwritten, dropped);
                unwritten += u64::from(out.write_all(&line).is_err());
            }
            Ok(Item::Flush(done)) => {
                tell_lost(&mut out, &mut unwritten, dropped);
                // The other side may have given up.
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= look {
            tell_lost(&mut out, &mut unwritten, dropped);
            // These lines go through the queue like others. This thread never waits for the queue.
            flood.tell(Instant::now());
            look = Instant::now() + LOOK;
        }
    }
}

/// Writes how many lines were lost since the last such message, if it can be written.
fn tell_lost(out: &mut impl Write, unwritten: &mut u64, dropped: &AtomicU64) {
    *unwritten += dropped.swap(0, Ordering::Relaxed);
    if *unwritten > 0 {
        let line = format!("zabra: {unwritten} lines of the log are lost: standard error did not take them\n");
        if out.write_all(line.as_bytes()).is_ok() {
            *unwritten = 0;
        }
    }
}

/// Waits until standard error has room or its reader is gone; -1 ms means no limit.
fn await_room(timeout_ms: libc::c_int) -> bool {
    let mut fd = libc::pollfd { fd: STDERR, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid record.
    unsafe { libc::poll(&mut fd, 1, timeout_ms) > 0 }
}

/// Writes as much as possible until `deadline` without the thread, for use before it is started.
pub(super) fn write_until(text: &[u8], deadline: Instant) {
    /// A pipe that is ready has room for this many bytes (`PIPE_BUF`).
    const PIECE: usize = 4096;
    for piece in text.chunks(PIECE) {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() as libc::c_int;
        if !await_room(left) || stderr().write_all(piece).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Behaves like a pipe: each write waits until the test permits it.
    #[derive(Clone)]
    struct Reader {
        leave: Receiver<io::Result<()>>,
        taken: Arc<Mutex<String>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.leave.recv().unwrap_or(Ok(()))?;
            self.taken.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn running() -> (Queue, Sender<io::Result<()>>, Arc<Mutex<String>>) {
        let (queue, waiting) = Queue::new();
        let (leave, given) = channel::unbounded();
        let reader = Reader { leave: given, taken: Arc::default() };
        let (dropped, taken) = (queue.dropped.clone(), reader.taken.clone());
        std::thread::spawn(move || run(&waiting, &dropped, &Flood::default(), reader));
        (queue, leave, taken)
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_and_nobody_waits() {
        let (queue, leave, taken) = running();
        // One line may already be taken from the queue.
        (0..QUEUE_LINES + 101).for_each(|i| queue.put(format!("line {i}\n").as_bytes()));
        assert!(!queue.flush(Instant::now() + Duration::from_millis(20)), "a stalled reader is not waited for");
        drop(leave);
        assert!(queue.flush(far()));
        let taken = taken.lock().unwrap();
        let lost: u64 = taken
            .lines()
            .filter_map(|l| l.strip_prefix("zabra: ")?.split_once(" lines of the log are lost")?.0.parse::<u64>().ok())
            .sum();
        let written = taken.lines().filter(|l| l.starts_with("line ")).count();
        assert!((100..=101).contains(&lost), "{lost}");
        assert_eq!(written + lost as usize, QUEUE_LINES + 101);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can() {
        let (queue, leave, taken) = running();
        let gone = || Err(io::ErrorKind::StorageFull.into());
        // The line; the report before the second line and that line; then there is room again.
        (0..3).for_each(|_| leave.send(gone()).unwrap());
        queue.put(b"one\n");
        queue.put(b"two\n");
        queue.put(b"three\n");
        drop(leave);
        assert!(queue.flush(far()));
        assert_eq!(
            *taken.lock().unwrap(),
            "zabra: 2 lines of the log are lost: standard error did not take them\nthree\n"
        );
    }

    #[test]
    fn last_words_come_after_what_was_logged() {
        let (mut queue, leave, taken) = running();
        drop(leave);
        queue.write_all(b"logged\n").unwrap();
        queue.say(b"last words\n", far());
        assert_eq!(*taken.lock().unwrap(), "logged\nlast words\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "é".repeat(LINE_BYTES);
        let line = String::from_utf8(cut(long.as_bytes())).expect("whole characters");
        assert!(line.len() <= LINE_BYTES && line.ends_with("é... (cut)\n"), "{}", line.len());
        assert_eq!(cut(b"short\n"), b"short\n");
    }
}
