//! Where output goes: to the process's streams, to the line editor while it waits for input, or into memory in tests.

use std::io::{self, Write};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The output and the error stream; clones write to the same ones.
#[derive(Clone)]
pub(crate) struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    /// The first error of the output stream: it takes nothing any more.
    lost: Mutex<Option<io::Error>>,
    /// Passes text to the line editor while it controls the terminal.
    editor: Mutex<Option<SyncSender<String>>>,
}

impl Console {
    /// A console on the process's own streams.
    pub(crate) fn process() -> Console {
        Console::new(Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Console {
        let shared =
            Shared { out: Mutex::new(out), err: Mutex::new(err), lost: Mutex::new(None), editor: Mutex::new(None) };
        Console { shared: Arc::new(shared) }
    }

    /// Writes text without a line break.
    pub(crate) fn out(&self, text: &str) {
        let mut stream = lock(&self.shared.out);
        if let Err(e) = stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
            lock(&self.shared.lost).get_or_insert(e);
        }
    }

    /// Writes a line to the output stream.
    pub(crate) fn out_line(&self, text: &str) {
        self.out(&format!("{text}\n"));
    }

    /// Writes a line to the error stream; an error of that stream is ignored.
    pub(crate) fn err_line(&self, text: &str) {
        let mut stream = lock(&self.shared.err);
        let _ = stream.write_all(format!("{text}\n").as_bytes()).and_then(|()| stream.flush());
    }

    /// Writes text that the user did not ask for, such as an event; while the user is typing it appears above the
    /// prompt. Never waits for the editor, which may itself wait for the thread that calls this.
    pub(crate) fn interject(&self, text: &str) {
        let editor = lock(&self.shared.editor).clone();
        let printed = editor.is_some_and(|e| e.try_send(text.trim_end_matches('\n').to_owned()).is_ok());
        if !printed {
            self.out(text);
        }
    }

    /// Says that a line editor controls the terminal from now on and prints through `printer`; `None`: no longer.
    pub(crate) fn edit(&self, printer: Option<SyncSender<String>>) {
        *lock(&self.shared.editor) = printer;
    }

    /// Whether a write to the output stream failed, so that more output is useless.
    pub(crate) fn is_broken(&self) -> bool {
        lock(&self.shared.lost).is_some()
    }

    /// The error that lost output. `None` also if the reader closed its end: it has read enough.
    pub(crate) fn lost(&self) -> Option<io::Error> {
        lock(&self.shared.lost).take().filter(|e| e.kind() != io::ErrorKind::BrokenPipe)
    }
}

/// Locks a mutex. A panic in another thread leaves a stream usable, so poisoning is ignored.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod captured {
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What was written to a [`Console::captured`].
    pub(crate) struct Captured {
        out: Memory,
        err: Memory,
    }

    impl Captured {
        pub(crate) fn out(&self) -> String {
            String::from_utf8(lock(&self.out.0).clone()).unwrap()
        }
        pub(crate) fn err(&self) -> String {
            String::from_utf8(lock(&self.err.0).clone()).unwrap()
        }
    }

    impl Console {
        /// A console that writes into memory.
        pub(crate) fn captured() -> (Console, Captured) {
            let seen = Captured { out: Memory::default(), err: Memory::default() };
            (Console::new(Box::new(seen.out.clone()), Box::new(seen.err.clone())), seen)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_lost_reader_is_noticed() {
        for (kind, is_lost) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let c = Console::new(Box::new(Fails(kind)), Box::new(Fails(kind)));
            c.err_line("nobody can be told");
            assert!(!c.is_broken());
            c.out("lost");
            assert!(c.is_broken());
            assert_eq!(c.lost().is_some(), is_lost, "{kind}");
        }
    }

    #[test]
    fn streams_are_apart() {
        let (c, seen) = Console::captured();
        c.out("a");
        c.err_line("b");
        c.interject("c\n");
        assert_eq!((seen.out().as_str(), seen.err().as_str()), ("ac\n", "b\n"));
    }
}
