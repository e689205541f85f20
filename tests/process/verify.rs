//! `zabra log verify|dump` and `zabra snapshot verify|dump` on what is no log and no snapshot: a reason, and never success.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use super::server::{Home, is_root};
use super::wire::Client;

const ZABRA: &str = env!("CARGO_BIN_EXE_zabra");

/// A log's first bytes, and a snapshot's.
const LOG: &[u8] = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";
const SNAPSHOT: &[u8] = b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff";

/// Both commands of `kind` must end with `code` and say `why` of `file`, in one line.
fn refused(kind: &str, file: &Path, code: i32, why: &str) {
    for command in ["verify", "dump"] {
        let output = Command::new(ZABRA).args([kind, command]).arg(file).output().expect("the command runs");
        let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let case = format!("{kind} {command} {}: {out}{said}", file.display());
        let ended = output.status.code().unwrap_or_else(|| panic!("signal {:?}: {case}", output.status.signal()));
        assert!(ended == code && said.contains(why), "{code} and {why:?} were expected, not {ended}: {case}");
        assert!(said.starts_with("zabra: ") && said.trim_end().lines().count() == 1, "{case}");
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(said.contains(&*name) && !out.contains("OK"), "{case}");
    }
}

/// A file of these bytes, then a hole up to `len`.
fn file(dir: &Path, name: &str, begin: &[u8], len: u64) {
    fs::write(dir.join(name), begin).expect("written");
    let file = File::options().write(true).open(dir.join(name)).expect("opened");
    file.set_len(len.max(begin.len() as u64)).expect("as long");
}

#[test]
fn what_is_no_file_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    fs::create_dir(dir.join("log.1")).expect("made");
    fs::create_dir(dir.join("snapshot.1")).expect("made");
    refused("log", &dir.join("log.1"), 2, "there are no log files");
    refused("snapshot", &dir.join("snapshot.1"), 2, "it is a directory: name a snapshot file");
    for (kind, name) in [("log", "log.2"), ("snapshot", "snapshot.2"), ("snapshot", "snapshot.2.gz")] {
        let _socket = UnixListener::bind(dir.join(name)).expect("bound");
        refused(kind, &dir.join(name), 2, "not a regular file");
    }
    for (kind, name) in [("log", "log.3"), ("snapshot", "snapshot.3")] {
        refused(kind, &dir.join(name), 2, "there is no such file");
        symlink("nowhere", dir.join(name)).expect("linked");
        refused(kind, &dir.join(name), 2, "there is no such file");
        fs::remove_file(dir.join(name)).expect("removed");
        symlink(name, dir.join(name)).expect("linked");
        refused(kind, &dir.join(name), 2, "symbolic links");
        refused(kind, &dir.join("missing").join(name), 2, "there is no such file");
        refused(kind, &Path::new("/dev/zero").join(name), 2, "Not a directory");
    }
    symlink("/dev/zero", dir.join("log.4")).expect("linked");
    refused("log", &dir.join("log.4"), 2, "not a regular file");
}

#[test]
fn what_is_something_else_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    for (name, bytes) in [("text", &b"root:x:0:0:root:/root\n"[..]), ("empty", b""), ("zeros", &[0; 8192])] {
        file(dir, name, bytes, 0);
        refused("log", &dir.join(name), 2, "this is not a log");
        refused("snapshot", &dir.join(name), 2, "is not named snapshot.<zxid>");
    }
    file(dir, "log.1", SNAPSHOT, 0);
    refused("log", &dir.join("log.1"), 21, "this is not a log");
    refused("snapshot", &dir.join("log.1"), 2, "is not named snapshot.<zxid>");
    file(dir, "snapshot.1", LOG, 0);
    refused("snapshot", &dir.join("snapshot.1"), 21, "not a snapshot");
    // Nothing, or no more than a part of the header.
    for bytes in [&b""[..], &LOG[..4], &LOG[..15], &[0; 4096]] {
        file(dir, "log.2", bytes, 0);
        refused("log", &dir.join("log.2"), 2, "empty: a crash ended its making");
    }
    file(dir, "log.3", b"", 777);
    refused("log", &dir.join("log.3"), 21, "zeros, although the length");
    for bytes in [&b""[..], &SNAPSHOT[..4], SNAPSHOT] {
        file(dir, "snapshot.2", bytes, 0);
        refused("snapshot", &dir.join("snapshot.2"), 21, "too early");
    }
    for (name, begin) in [("snapshot.3.gz", &b"\x1f\x8b\x08\0"[..]), ("snapshot.3.snappy", b"\x82SNAPPY\0")] {
        file(dir, name, begin, 0);
        refused("snapshot", &dir.join(name), 21, "stream ends too early");
        file(dir, name, b"not packed at all, but long enough", 0);
        refused("snapshot", &dir.join(name), 21, "stream is damaged");
    }
}

/// Nobody reads a terabyte of holes, and no length in a file that has one asks for memory.
#[test]
fn huge_files_with_nothing_in_them_are_refused_at_once() {
    const HUGE: u64 = 1 << 40;
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    file(dir, "log.1", b"", HUGE);
    refused("log", &dir.join("log.1"), 2, "empty: a crash ended its making");
    file(dir, "log.2", LOG, HUGE - 1);
    refused("log", &dir.join("log.2"), 21, "zeros, although the length");
    file(dir, "sparse", b"", HUGE);
    refused("log", &dir.join("sparse"), 2, "this is not a log");
    file(dir, "snapshot.1", b"", HUGE);
    refused("snapshot", &dir.join("snapshot.1"), 21, "not a snapshot");
    file(dir, "snapshot.2", SNAPSHOT, HUGE);
    refused("snapshot", &dir.join("snapshot.2"), 21, "is in the snapshot twice");
    // As many sessions, or ACL lists, as can be said.
    for counts in [&b"\x7f\xff\xff\xff"[..], b"\0\0\0\0\x7f\xff\xff\xff"] {
        file(dir, "snapshot.3", &[SNAPSHOT, counts].concat(), HUGE);
        refused("snapshot", &dir.join("snapshot.3"), 21, "0 is in the snapshot twice");
    }
    for packed in ["snapshot.4.gz", "snapshot.4.snappy"] {
        file(dir, packed, b"", HUGE);
        refused("snapshot", &dir.join(packed), 21, "stream is damaged");
    }
}

#[test]
fn what_a_server_wrote_is_refused_once_it_is_cut() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    (0..20).for_each(|n| drop(client.create(&format!("/n{n}"), b"some data").expect("created")));
    server.stop();
    let log = home.logs().pop().expect("a log");
    let whole = fs::read(&log).expect("read");
    let verified = home.run(&["log", "verify", log.to_str().expect("a plain name")]);
    assert!(verified.status.success(), "{verified:?}");
    // Its end is marked, so a bit anywhere before that is damage. A crash may have torn what comes after the mark.
    let mark = whole.windows(8).rposition(|w| w == b"ZBRSYNC1").expect("an end mark");
    for at in (0..mark).step_by(17) {
        let mut hurt = whole.clone();
        hurt[at] ^= 0x10;
        fs::write(&log, &hurt).expect("written");
        let name = log.to_str().expect("a plain name");
        let output = home.run(&["log", "verify", name]);
        // Versions and the database id in the header: nobody looks at them once there is a record.
        let is_ignored = (4..16).contains(&at);
        assert!(is_ignored || output.status.code() == Some(21), "byte {at} of {mark}: {output:?}");
    }
    let snapshot = home.snapshots().pop().expect("a snapshot");
    let whole = fs::read(&snapshot).expect("read");
    for len in (0..whole.len()).step_by(13) {
        fs::write(&snapshot, &whole[..len]).expect("written");
        refused("snapshot", &snapshot, 21, "");
    }
}

/// Root may read everything, so the command is run by somebody else.
#[test]
fn what_may_not_be_read_is_no_damage() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    let binary = dir.join("zabra");
    let copied = Command::new("cp").arg(ZABRA).arg(&binary).status().expect("cp runs");
    assert!(copied.success(), "the binary is copied");
    const NOBODY: u32 = 65534;
    let closed = dir.join("closed");
    fs::create_dir(&closed).expect("made");
    for name in ["log.1", "snapshot.1", "closed/log.2", "closed/snapshot.2"] {
        file(dir, name, b"x", 0);
    }
    for name in ["log.1", "snapshot.1"] {
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o0)).expect("nobody's");
    }
    if is_root() {
        chown(dir, Some(NOBODY), Some(NOBODY)).expect("given to nobody");
    }
    fs::set_permissions(&closed, Permissions::from_mode(0o0)).expect("nobody's");
    for (kind, name) in [
        ("log", "log.1"),
        ("snapshot", "snapshot.1"),
        ("log", "closed/log.2"),
        ("snapshot", "closed/snapshot.2"),
        ("log", "closed"),
    ] {
        let mut command = Command::new(&binary);
        command.args([kind, "verify"]).arg(dir.join(name));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("Permission denied"), "{name}: {output:?}");
    }
    // It is removed with the rest.
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("ours");
}
