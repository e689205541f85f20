//! `zabra log dump|verify`. Mirrors `TxnLogToolkit`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::output::complain;
use super::txn_text;
use crate::config::ExitCode;
use crate::runtime::disk::{FsDir, SyncMethod};
use crate::txnlog::disk::Dir;
use crate::txnlog::names::{list_logs, parse_log_name};
use crate::txnlog::record::Damage;
use crate::txnlog::record::follows;
use crate::txnlog::scan::{End, LogReader};
use crate::types::Zxid;

/// Arguments of `zabra log`.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print every transaction, one per line
    Dump(Where),
    /// Check every checksum, the order of transactions and how each file ends
    ///
    /// Exit code 0: the log is whole, or a crash tore its end and the next start will cut that off. 21: it is damaged,
    /// or transactions are missing. Nothing is changed.
    Verify(Where),
}

#[derive(Debug, Args)]
struct Where {
    /// A log file, or a directory with log files (dataLogDir or its version-2)
    #[arg(value_name = "FILE | DIRECTORY")]
    path: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &LogArgs) -> ExitCode {
    let (place, dump) = match &args.command {
        LogCommand::Dump(place) => (place, true),
        LogCommand::Verify(place) => (place, false),
    };
    let outcome = open(&place.path).and_then(|(dir, names)| {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let outcome = if dump { dump_all(&dir, &names, &mut out) } else { verify_all(&dir, &names, &mut out) };
        out.flush().map_err(Trouble::Output)?;
        outcome
    });
    report(outcome)
}

/// Why a command stopped.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The argument does not name anything that can be read.
    Argument(String),
    /// The files are damaged.
    Damaged(String),
    /// The output could not be written.
    Output(io::Error),
}

/// Prints what was wrong and returns the exit code. If a reader has closed the pipe (`| head`), that is no failure.
pub(super) fn report(outcome: Result<(), Trouble>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::Finished,
        Err(Trouble::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::Finished,
        Err(Trouble::Output(e)) => {
            complain(&format!("standard output: {e}"));
            ExitCode::Unexpected
        }
        Err(Trouble::Argument(what)) => {
            complain(&what);
            ExitCode::InvalidInvocation
        }
        Err(Trouble::Damaged(what)) => {
            complain(&what);
            ExitCode::Corrupt
        }
    }
}

/// Opens the directory of a file; the error says what to do.
pub(super) fn open_dir(path: &Path) -> Result<FsDir, Trouble> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    FsDir::open(path, false, SyncMethod::Fdatasync).map_err(|e| Trouble::Argument(e.to_string()))
}

/// An error unless `path` is a file that has a place on a disk. `hint` says what to name instead.
pub(super) fn check_file(path: &Path, hint: &str) -> Result<(), Trouble> {
    let what = match path.metadata() {
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(meta) if meta.is_dir() => "it is a directory".to_owned(),
        Ok(_) => "it is not a regular file".to_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
        Err(e) => e.to_string(),
    };
    Err(Trouble::Argument(format!("{}: {what}: {hint}", path.display())))
}

/// The directory, and the log files that the argument means, oldest first.
fn open(path: &Path) -> Result<(FsDir, Vec<String>), Trouble> {
    if !path.is_dir() {
        let (Some(name), Some(parent)) = (path.file_name().and_then(|n| n.to_str()), path.parent()) else {
            return Err(Trouble::Argument(format!("{}: name a log file or a directory", path.display())));
        };
        check_file(path, "name a log file or a directory")?;
        return Ok((open_dir(parent)?, vec![name.to_string()]));
    }
    let inner = path.join("version-2");
    let dir = open_dir(if inner.is_dir() { &inner } else { path })?;
    let logs = list_logs(&dir).map_err(|e| Trouble::Argument(e.to_string()))?;
    if logs.is_empty() {
        return Err(Trouble::Argument(format!("{}: there are no log files (log.<zxid>) in it", dir.path())));
    }
    Ok((dir, logs.into_iter().map(|l| l.name).collect()))
}

/// An error for a single file without even the header of a log: there is nothing in it to look at. Among others it is what a
/// crash left.
fn refuse_nothing<D: Dir>(dir: &D, names: &[String]) -> Result<(), Trouble> {
    let [name] = names else { return Ok(()) };
    let log = open_log(dir, name)?;
    match log.end() {
        Some(End::Torn { .. }) => Err(Trouble::Argument(format!("{}/{name}: {}", dir.path(), end_words(log.end())))),
        _ => Ok(()),
    }
}

fn dump_all<D: Dir>(dir: &D, names: &[String], out: &mut impl Write) -> Result<(), Trouble> {
    refuse_nothing(dir, names)?;
    for name in names {
        if names.len() > 1 {
            writeln!(out, "{name}:").map_err(Trouble::Output)?;
        }
        dump(dir, name, out)?;
    }
    Ok(())
}

fn damaged<D: Dir>(dir: &D, name: &str, what: impl std::fmt::Display) -> Trouble {
    Trouble::Damaged(format!("{}/{name}: {what}", dir.path()))
}

/// Opens a log. If a file neither has a log's header nor its name, or this user may not read it, the argument is wrong
/// and the log not damaged.
fn open_log<D: Dir>(dir: &D, name: &str) -> Result<LogReader<D::Reader>, Trouble> {
    let wrong_argument = [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound, io::ErrorKind::InvalidInput];
    let log = LogReader::open(dir, name).map_err(|e| match e.kind() {
        kind if wrong_argument.contains(&kind) => Trouble::Argument(e.to_string()),
        _ => damaged(dir, name, e),
    })?;
    if log.end().is_some() && parse_log_name(name).is_none() {
        return Err(Trouble::Argument(format!("{}/{name}: {}: name a log file", dir.path(), Damage::FileHeader)));
    }
    Ok(log)
}

fn dump<D: Dir>(dir: &D, name: &str, out: &mut impl Write) -> Result<(), Trouble> {
    let mut log = open_log(dir, name)?;
    if log.end().is_none() {
        writeln!(out, "ZooKeeper Transactional Log File with dbid 0 txnlog format version 2")
            .map_err(Trouble::Output)?;
    }
    let mut count: u64 = 0;
    while let Some((at, record)) = log.next_record().map_err(|e| damaged(dir, name, e))? {
        let line = txn_text::line(&record).map_err(|e| damaged(dir, name, format!("at byte {at}: {e}")))?;
        writeln!(out, "{line}").map_err(Trouble::Output)?;
        count += 1;
    }
    writeln!(out, "EOF reached after {count} txns.").map_err(Trouble::Output)?;
    match log.end() {
        Some(End::Corrupt { .. }) | None => Err(damaged(dir, name, end_words(log.end()))),
        Some(End::Torn { .. }) => writeln!(out, "{}", end_words(log.end())).map_err(Trouble::Output),
        Some(End::Clean { .. }) => Ok(()),
    }
}

/// How a file ends, in words.
fn end_words(end: Option<&End>) -> String {
    match end {
        None => "the end was not reached".into(),
        Some(End::Clean { at }) => format!("ends at byte {at}"),
        Some(End::Torn { at: 0, .. }) => "empty: a crash ended its making, and the next start removes it".into(),
        Some(End::Torn { at, damage, until, unsynced_records }) => {
            let lost = match unsynced_records {
                0 => String::new(),
                n => format!(", with {n} records that were never acknowledged"),
            };
            format!(
                "torn by a crash at byte {at} ({damage}){lost}: the next start cuts off {} bytes",
                until.saturating_sub(*at)
            )
        }
        Some(End::Corrupt { at, damage, later }) => {
            let proof = match later {
                Some((offset, zxid)) => format!(" although byte {offset} tells of transaction 0x{:x}", zxid.0),
                None => String::new(),
            };
            format!("damaged at byte {at}: {damage}{proof}. Restore the file from another server or a backup")
        }
    }
}

/// What was read of the log so far.
#[derive(Default)]
struct Seen {
    last: Option<Zxid>,
    files: usize,
    transactions: u64,
}

fn verify_all<D: Dir>(dir: &D, names: &[String], out: &mut impl Write) -> Result<(), Trouble> {
    let mut seen = Seen::default();
    refuse_nothing(dir, names)?;
    for name in names {
        verify(dir, name, &mut seen, out)?;
    }
    let last = seen.last.map_or("nothing".into(), |z| format!("0x{:x}", z.0));
    writeln!(out, "OK: {} transactions in {} files, last {last}", seen.transactions, seen.files)
        .map_err(Trouble::Output)
}

fn verify<D: Dir>(dir: &D, name: &str, seen: &mut Seen, out: &mut impl Write) -> Result<(), Trouble> {
    let bad = |what: String| damaged(dir, name, what);
    let mut log = open_log(dir, name)?;
    let (mut first, mut count): (Option<Zxid>, u64) = (None, 0);
    while let Some((at, record)) = log.next_record().map_err(|e| bad(e.to_string()))? {
        txn_text::line(&record)
            .map_err(|e| bad(format!("damaged at byte {at}: the transaction cannot be read: {e}")))?;
        let zxid = record.header.zxid;
        if first.is_none() && parse_log_name(name).is_some_and(|named| named != zxid) {
            return Err(bad(format!(
                "begins with transaction 0x{:x}: the file was renamed or its beginning is missing",
                zxid.0
            )));
        }
        if let Some(last) = seen.last
            && !follows(&record, last, Some(last))
        {
            let prev = record.trailer.map_or(String::new(), |t| format!(", written after 0x{:x}", t.prev.0));
            return Err(bad(format!(
                "at byte {at}: transaction 0x{:x}{prev} cannot follow 0x{:x}: transactions are missing between them",
                zxid.0, last.0
            )));
        }
        first = first.or(Some(zxid));
        seen.last = Some(zxid);
        count += 1;
    }
    seen.files += 1;
    seen.transactions += count;
    if let Some(End::Corrupt { .. }) | None = log.end() {
        return Err(bad(end_words(log.end())));
    }
    let range = match (first, seen.last) {
        (Some(first), Some(last)) => format!("{count} transactions, 0x{:x} to 0x{:x}", first.0, last.0),
        _ => "no transactions".into(),
    };
    writeln!(out, "{name}: {range}, {}", end_words(log.end())).map_err(Trouble::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{Txn, TxnHeader};
    use crate::txnlog::writer::{LogOptions, LogWriter};
    use crate::types::{Cxid, Op, SessionId};

    fn payload(zxid: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = TxnHeader { session: SessionId(1), cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 0, op: Op::DELETE };
        header.put(&mut bytes);
        Txn::Delete { path: format!("/n{zxid}") }.put(&mut bytes);
        bytes
    }

    /// A directory with transactions 1 to 6 in two files of three each.
    fn logs() -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = FsDir::open(temp.path().join("version-2"), true, SyncMethod::Fdatasync).expect("opened");
        let mut log = LogWriter::new(dir, Zxid(0), LogOptions::default());
        for zxid in 1..=6 {
            if zxid == 4 {
                log.roll().expect("rolled");
            }
            log.append(Zxid(zxid), &payload(zxid)).expect("appended");
            log.sync().expect("synced");
        }
        log.roll().expect("rolled");
        temp
    }

    fn verified(path: &Path) -> Result<String, String> {
        let (dir, names) = open(path).map_err(|t| format!("{t:?}"))?;
        let mut out = Vec::new();
        verify_all(&dir, &names, &mut out).map_err(|t| format!("{t:?}"))?;
        Ok(String::from_utf8(out).expect("is text"))
    }

    #[test]
    fn a_whole_log_is_verified_and_dumped() {
        let temp = logs();
        let text = verified(temp.path()).expect("is whole");
        assert!(text.contains("log.1: 3 transactions, 0x1 to 0x3, ends at byte"), "{text}");
        assert!(text.ends_with("OK: 6 transactions in 2 files, last 0x6\n"), "{text}");
        let file = temp.path().join("version-2/log.4");
        let (dir, names) = open(&file).expect("is there");
        let mut out = Vec::new();
        dump_all(&dir, &names, &mut out).expect("is whole");
        let text = String::from_utf8(out).expect("is text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ZooKeeper Transactional Log File with dbid 0 txnlog format version 2");
        assert_eq!(lines[1], "1970-01-01T00:00:00.000Z session 0x1 cxid 0x1 zxid 0x4 delete '/n4");
        assert_eq!((lines.len(), lines[4]), (5, "EOF reached after 3 txns."));
    }

    #[test]
    fn damage_is_found() {
        let temp = logs();
        let file = temp.path().join("version-2/log.1");
        let whole = std::fs::read(&file).expect("read");
        let mut broken = whole.clone();
        broken[60] ^= 1;
        std::fs::write(&file, &broken).expect("written");
        let error = verified(temp.path()).expect_err("must fail");
        assert!(error.contains("Damaged") && error.contains("log.1: damaged at byte 16"), "{error}");
        let (dir, names) = open(&file).expect("is there");
        assert!(matches!(dump_all(&dir, &names, &mut Vec::new()), Err(Trouble::Damaged(_))));
    }

    #[test]
    fn what_is_no_log_is_said_to_be_none() {
        let temp = tempfile::tempdir().expect("a directory");
        let file = temp.path().join("notes");
        for bytes in [&b"just text, no log at all"[..], b"txt", b"", &[0; 8192]] {
            std::fs::write(&file, bytes).expect("written");
            let (dir, names) = open(&file).expect("is there");
            for outcome in [dump_all(&dir, &names, &mut Vec::new()), verify_all(&dir, &names, &mut Vec::new())] {
                assert!(
                    matches!(&outcome, Err(Trouble::Argument(what)) if what.contains("not a log")),
                    "{bytes:?}: {outcome:?}"
                );
            }
        }
        // A file named like a log must be one.
        let named = temp.path().join("log.1");
        for (bytes, what) in [(&b"just text, no log at all"[..], "not a log"), (&[0; 777], "zeros, although")] {
            std::fs::write(&named, bytes).expect("written");
            let error = verified(&named).expect_err("must fail");
            assert!(error.contains("Damaged") && error.contains(what), "{error}");
        }
        for bytes in [&b""[..], b"ZKLG", &[0; 8192]] {
            std::fs::write(&named, bytes).expect("written");
            let error = verified(&named).expect_err("there is nothing in it");
            assert!(error.contains("Argument") && error.contains("log.1: empty: a crash ended its making"), "{error}");
        }
        // Behind others it is what a crash left, and no fault.
        let temp = logs();
        std::fs::write(temp.path().join("version-2/log.7"), b"").expect("written");
        let text = verified(temp.path()).expect("is whole");
        assert!(text.contains("log.7: no transactions, empty: a crash ended"), "{text}");
    }

    #[test]
    fn a_missing_file_and_a_renamed_one_are_found() {
        let temp = logs();
        let dir = temp.path().join("version-2");
        std::fs::rename(dir.join("log.4"), dir.join("log.5")).expect("renamed");
        assert!(verified(&dir).expect_err("must fail").contains("log.5: begins with transaction 0x4"));
        std::fs::rename(dir.join("log.5"), dir.join("log.4")).expect("renamed");
        std::fs::remove_file(dir.join("log.1")).expect("removed");
        verified(&dir).expect("an older part may be purged");
        std::fs::remove_file(dir.join("log.4")).expect("removed");
        assert!(verified(&dir).expect_err("must fail").contains("there are no log files"));
        assert!(verified(&dir.join("log.4")).expect_err("must fail").contains("there is no such file"));
    }

    #[test]
    fn a_hole_is_found() {
        let temp = tempfile::tempdir().expect("a directory");
        for (previous, zxid) in [(0, 1), (2, 3)] {
            let dir = FsDir::open(temp.path(), false, SyncMethod::Fdatasync).expect("opened");
            let mut log = LogWriter::new(dir, Zxid(previous), LogOptions::default());
            log.append(Zxid(zxid), &payload(zxid)).expect("appended");
            log.sync().expect("synced");
        }
        let error = verified(temp.path()).expect_err("must fail");
        assert!(error.contains("transaction 0x3, written after 0x2 cannot follow 0x1"), "{error}");
    }
}
