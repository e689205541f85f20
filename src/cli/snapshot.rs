//! `zabra snapshot dump|verify`. Mirrors `SnapshotFormatter`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::date;
use super::log::{Trouble, check_file, open_dir, report};
use crate::config::ExitCode;
use crate::tree::{Tree, TreeLoader, TreeOptions};
use crate::txn::TxnDigest;
use crate::txnlog::disk::Dir;
use crate::txnlog::names::parse_snapshot_name;
use crate::txnlog::snapshot_read::{Node, Sink, Tail, read_file};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Acl, AclId, SessionId, StatPersisted, Zxid};

/// Arguments of `zabra snapshot`.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Print every znode and session
    Dump {
        /// The snapshot file; its name says how it is compressed
        file: PathBuf,
        /// Also print the data, in base64
        #[arg(short, long, conflicts_with = "json")]
        data: bool,
        /// Print names and sizes as JSON, in the form that ncdu reads
        #[arg(long)]
        json: bool,
    },
    /// Check the checksums, that the znodes form a tree, and the digest
    ///
    /// Exit code 0: the snapshot is whole. 21: it is damaged.
    Verify {
        /// The snapshot file; its name says how it is compressed
        file: PathBuf,
    },
}

/// Runs the command.
pub(super) fn run(args: &SnapshotArgs) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let outcome = match &args.command {
        SnapshotCommand::Dump { file, data, json } => load(file).and_then(|s| {
            let dumped = if *json { dump_json(&s, &mut out) } else { dump(&s, *data, &mut out) };
            dumped.map_err(Trouble::Output)
        }),
        SnapshotCommand::Verify { file } => load(file).and_then(|s| verify(&s, file, &mut out)),
    };
    report(outcome.and_then(|()| out.flush().map_err(Trouble::Output)))
}

/// A snapshot in memory.
struct Snapshot {
    tree: Tree,
    sessions: Vec<(SessionId, i32)>,
    tail: Tail,
    /// The zxid in the file's name.
    zxid: Zxid,
}

/// Collects the parts of a snapshot while it is read.
struct Loading {
    tree: TreeLoader,
    sessions: BTreeMap<SessionId, i32>,
}

impl Sink for Loading {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        match self.sessions.insert(id, timeout_ms) {
            Some(_) => Err(format!("session {id} is in the snapshot twice")),
            None => Ok(()),
        }
    }

    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.tree.add_acl(id, list).map_err(|e| e.to_string())
    }

    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.tree.add_node(node.path, node.data, node.acl, node.stat).map_err(|e| e.to_string())
    }
}

fn load(file: &Path) -> Result<Snapshot, Trouble> {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some((zxid, compression)) = parse_snapshot_name(name) else {
        let what = "is not named snapshot.<zxid>, with .gz or .snappy if compressed: name a snapshot file";
        return Err(Trouble::Argument(format!("{}: {what}", file.display())));
    };
    check_file(file, "name a snapshot file")?;
    let dir = open_dir(file.parent().unwrap_or(Path::new(".")))?;
    let reader = dir.open(name).map_err(|e| Trouble::Argument(e.to_string()))?;
    // Tells TTL znodes from ephemerals, whatever the server's settings are.
    let extended = ExtendedTypes { enabled: true, emulate_353: false };
    let tree = TreeLoader::new(TreeOptions { extended, digest_enabled: true });
    let mut loading = Loading { tree, sessions: BTreeMap::new() };
    let damaged = |what: String| Trouble::Damaged(format!("{}: {what}", file.display()));
    let tail = read_file(reader, zxid, compression, &mut loading).map_err(|e| damaged(e.to_string()))?;
    let tree = loading.tree.finish(zxid).map_err(|e| damaged(e.to_string()))?;
    Ok(Snapshot { tree, sessions: loading.sessions.into_iter().collect(), tail, zxid })
}

fn verify(s: &Snapshot, file: &Path, out: &mut impl Write) -> Result<(), Trouble> {
    let digest = s.tree.digest();
    let promised = s.tail.digest.filter(|d| d.version == TxnDigest::VERSION);
    let words = match promised {
        None => "no digest to compare".to_string(),
        Some(p) if p.zxid != s.zxid => {
            format!("digest promised for 0x{:x}, after the last transaction of the log", p.zxid.0)
        }
        Some(p) if p.digest == digest => "digest as promised".to_string(),
        Some(p) => {
            let what = format!("the tree's digest is {digest:#x}, but the snapshot promises {:#x}", p.digest);
            return Err(Trouble::Damaged(format!("{}: {what}: restore it from another server", file.display())));
        }
    };
    writeln!(
        out,
        "OK: {} znodes, {} sessions, {} bytes, {} seals, digest {digest:#x} ({words})",
        s.tree.node_count(),
        s.sessions.len(),
        s.tail.bytes,
        s.tail.seals
    )
    .map_err(Trouble::Output)
}

/// A znode's children, sorted so that two dumps can be compared.
fn children(tree: &Tree, path: &str) -> Vec<String> {
    let Some(node) = tree.get(path) else { return Vec::new() };
    let mut names: Vec<&str> = node.children().collect();
    names.sort_unstable();
    names.into_iter().map(|name| crate::types::path::join(path, name)).collect()
}

/// Prints the snapshot in the format of SnapshotFormatter.
fn dump(s: &Snapshot, with_data: bool, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "ZNode Details (count={}):", s.tree.node_count())?;
    let mut last = s.zxid;
    // A stack of paths instead of recursion: a tree may be deeper than a thread's stack allows.
    let mut open = vec!["/".to_string()];
    while let Some(path) = open.pop() {
        let Some(node) = s.tree.get(&path) else { continue };
        let stat = node.persisted();
        writeln!(out, "----\n{path}")?;
        dump_stat(&stat, out)?;
        let data = node.data().unwrap_or_default();
        if with_data {
            writeln!(out, "  data = {}", STANDARD.encode(data))?;
        } else {
            writeln!(out, "  dataLength = {}", data.len())?;
        }
        last = last.max(stat.mzxid).max(stat.pzxid);
        open.extend(children(&s.tree, &path).into_iter().rev());
    }
    writeln!(out, "----\nSession Details (sid, timeout, ephemeralCount):")?;
    for (id, timeout_ms) in &s.sessions {
        writeln!(out, "{:#016x}, {timeout_ms}, {}", id.0, s.tree.ephemerals_count_of(*id))?;
    }
    // As in Java, only a digest whose transaction is still to be replayed from the log.
    if let Some(d) = s.tail.digest.filter(|d| d.zxid > s.zxid) {
        writeln!(out, "Target zxid digest is: {:x}, {}", d.zxid.0, d.digest as i64)?;
    }
    writeln!(out, "----\nLast zxid: 0x{:x}", last.0)
}

fn dump_stat(stat: &StatPersisted, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  cZxid = {:#016x}", stat.czxid.0)?;
    writeln!(out, "  ctime = {}", date::java(stat.ctime))?;
    writeln!(out, "  mZxid = {:#016x}", stat.mzxid.0)?;
    writeln!(out, "  mtime = {}", date::java(stat.mtime))?;
    writeln!(out, "  pZxid = {:#016x}", stat.pzxid.0)?;
    writeln!(out, "  cversion = {}", stat.cversion)?;
    writeln!(out, "  dataVersion = {}", stat.version)?;
    writeln!(out, "  aclVersion = {}", stat.aversion)?;
    writeln!(out, "  ephemeralOwner = {:#016x}", stat.ephemeral_owner)
}

/// Prints the snapshot in the format of ncdu, as SnapshotFormatter's `-json` does.
fn dump_json(s: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    enum Step {
        Open(String),
        Close,
    }
    write!(out, "[1,0,{{\"progname\":\"zabra\",\"progver\":\"{}\"}}", env!("CARGO_PKG_VERSION"))?;
    let mut inode = 1000;
    let mut steps = vec![Step::Open("/".into())];
    while let Some(step) = steps.pop() {
        let path = match step {
            Step::Open(path) => path,
            Step::Close => {
                out.write_all(b"]")?;
                continue;
            }
        };
        let Some(node) = s.tree.get(&path) else { continue };
        inode += 1;
        let name = if path == "/" { "/" } else { crate::types::path::name(&path) };
        let size = node.data().map_or(0, <[u8]>::len);
        let object = serde_json::json!({"name": name, "asize": size, "dsize": size, "dev": 0, "ino": inode});
        let below = children(&s.tree, &path);
        write!(out, ",{}{object}", if below.is_empty() { "" } else { "[" })?;
        if !below.is_empty() {
            steps.push(Step::Close);
            steps.extend(below.into_iter().rev().map(Step::Open));
        }
    }
    writeln!(out, "]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::{FsDir, SyncMethod};
    use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
    use crate::txnlog::names::Compression;
    use crate::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
    use crate::types::{Cxid, Op};

    const SESSION: SessionId = SessionId(0x1_0000);

    /// Writes a snapshot of a small tree at zxid 2 whose recorded digest is `digest_shift` more than the true one.
    fn written(dir: &Path, compression: Compression, digest_shift: u64) -> PathBuf {
        let mut tree = Tree::new(TreeOptions { extended: ExtendedTypes::default(), digest_enabled: true });
        for (zxid, path, ephemeral) in [(1, "/a", false), (2, "/a/b", true)] {
            let header = TxnHeader { session: SESSION, cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 0, op: Op::CREATE };
            let kind = CreateKind::Plain { ephemeral };
            let data = Some(bytes::Bytes::from_static(b"xy"));
            let txn = Txn::Create(CreateTxn { path: path.into(), data, acl: None, kind, parent_cversion: 1 });
            tree.apply(&header, &txn, &mut |_| {});
        }
        let mut image = Vec::new();
        put_sessions(&mut image, [(SESSION, 6000)].into_iter());
        put_acl_table(&mut image, std::iter::empty());
        let id = tree.begin_image();
        while !tree.image_chunk(id, 1 << 20, &mut image) {}
        let digest = tree.digest().wrapping_add(digest_shift);
        let mut fs = FsDir::open(dir, false, SyncMethod::Fdatasync).expect("opened");
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        let mut writer = SnapshotWriter::begin(&mut fs, Zxid(2), options).expect("begun");
        writer.put(&image).expect("put");
        let promise = ZxidDigest { zxid: Zxid(2), version: TxnDigest::VERSION, digest };
        writer.finish(&mut fs, Some(promise), Zxid(2)).expect("finished");
        dir.join(crate::txnlog::names::snapshot_name(Zxid(2), compression))
    }

    #[test]
    fn a_snapshot_is_dumped_as_by_snapshot_formatter() {
        let dir = tempfile::tempdir().expect("a directory");
        let snapshot = load(&written(dir.path(), Compression::Gzip, 0)).expect("is whole");
        let mut out = Vec::new();
        dump(&snapshot, true, &mut out).expect("written");
        let text = String::from_utf8(out).expect("is text");
        assert!(text.starts_with("ZNode Details (count=7):\n----\n/\n  cZxid = 0x00000000000000\n"), "{text}");
        let node = "----\n/a/b\n  cZxid = 0x00000000000002\n  ctime = Thu Jan 01 00:00:00 UTC 1970\n  \
                    mZxid = 0x00000000000002\n  mtime = Thu Jan 01 00:00:00 UTC 1970\n  pZxid = 0x00000000000002\n  \
                    cversion = 0\n  dataVersion = 0\n  aclVersion = 0\n  ephemeralOwner = 0x00000000010000\n  data = eHk=\n";
        assert!(text.contains(node), "{text}");
        assert!(text.contains("(sid, timeout, ephemeralCount):\n0x00000000010000, 6000, 1\n"), "{text}");
        assert!(text.ends_with("----\nLast zxid: 0x2\n"), "{text}");
    }

    #[test]
    fn json_is_json() {
        let dir = tempfile::tempdir().expect("a directory");
        let snapshot = load(&written(dir.path(), Compression::None, 0)).expect("is whole");
        let mut out = Vec::new();
        dump_json(&snapshot, &mut out).expect("written");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("parses");
        assert_eq!(value[3][0]["name"], "/");
        assert_eq!(value[3][1][0]["name"], "a");
        assert_eq!((&value[3][1][1]["name"], &value[3][1][1]["asize"]), (&"b".into(), &2.into()));
    }

    #[test]
    fn a_snapshot_is_verified() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = written(dir.path(), Compression::Snappy, 0);
        let mut out = Vec::new();
        verify(&load(&file).expect("is whole"), &file, &mut out).expect("is whole");
        let text = String::from_utf8(out).expect("is text");
        assert!(text.starts_with("OK: 7 znodes, 1 sessions, ") && text.ends_with("(digest as promised)\n"), "{text}");
        let wrong = written(dir.path(), Compression::None, 1);
        assert!(matches!(verify(&load(&wrong).expect("is whole"), &wrong, &mut Vec::new()), Err(Trouble::Damaged(_))));
        let mut bytes = std::fs::read(&wrong).expect("read");
        bytes[100] ^= 1;
        std::fs::write(&wrong, &bytes).expect("written");
        assert!(matches!(load(&wrong), Err(Trouble::Damaged(_))));
        assert!(matches!(load(Path::new("/nonexistent/snapshot.1")), Err(Trouble::Argument(_))));
        assert!(matches!(load(Path::new("/nonexistent/file")), Err(Trouble::Argument(_))));
    }
}
