//! Writes the snapshots the peer core makes, beside everything else. A snapshot that cannot be written ends the process, as
//! in ZooKeeper: the disk that fails it will fail the log next. Mirrors `FileTxnSnapLog.save`.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};

use super::clock::Clock;
use super::cores;
use super::fatal::fatal;
use super::shared::{CoreMail, Shared};
use crate::config::ExitCode;
use crate::peer::{Input, SnapshotPart};
use crate::txn::TxnDigest;
use crate::txnlog::disk::{Dir, Writer};
use crate::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
use crate::types::{Acl, AclId, SessionId, Zxid};

/// A snapshot under way.
struct Open<W: Writer> {
    writer: SnapshotWriter<W>,
    zxid: Zxid,
    digest: Option<TxnDigest>,
    began_ms: i64,
}

/// Starts the thread; it ends when every sender is gone, leaving an unfinished snapshot unnamed.
///
/// # Errors
/// No thread can be made.
pub fn start<D>(
    dir: D,
    options: SnapshotOptions,
    shared: Arc<Shared>,
    parts: Receiver<SnapshotPart>,
) -> io::Result<JoinHandle<()>>
where
    D: Dir + 'static,
{
    std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        cores::let_others_go_first();
        if let Err(error) = write_all(dir, options, &shared, &parts) {
            fatal(ExitCode::TxnLog, format!("a snapshot cannot be written: {error}"));
        }
    })
}

/// Where parts go; bounded by the peer's own backlog, not here.
pub fn channel() -> (Sender<SnapshotPart>, Receiver<SnapshotPart>) {
    channel::unbounded()
}

fn write_all<D: Dir>(
    mut dir: D,
    options: SnapshotOptions,
    shared: &Shared,
    parts: &Receiver<SnapshotPart>,
) -> io::Result<()> {
    let mut open: Option<Open<D::Writer>> = None;
    for part in parts {
        match part {
            SnapshotPart::Begin { zxid, digest, sessions, acls } => {
                let mut writer = SnapshotWriter::begin(&mut dir, zxid, options)?;
                writer.put(&head(&sessions, &acls))?;
                open = Some(Open { writer, zxid, digest, began_ms: Clock::now().mono_ms });
            }
            SnapshotPart::Nodes(nodes) => {
                if let Some(o) = &mut open {
                    o.writer.put(&nodes)?;
                }
                shared.to_peer(CoreMail::Peer(Input::SnapshotTook(nodes.len())));
            }
            SnapshotPart::End => {
                let Some(o) = open.take() else { continue };
                finish(o, &mut dir, shared)?;
            }
        }
    }
    Ok(())
}

fn head(sessions: &[(SessionId, i32)], acls: &[(AclId, crate::types::acl::SharedAcl)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_sessions(&mut out, sessions.iter().copied());
    let lists: Vec<(AclId, &[Acl])> = acls.iter().filter_map(|(id, list)| Some((*id, list.as_deref()?))).collect();
    put_acl_table(&mut out, lists.into_iter());
    out
}

fn finish<D: Dir>(o: Open<D::Writer>, dir: &mut D, shared: &Shared) -> io::Result<()> {
    let digest = o.digest.map(|d| ZxidDigest { zxid: o.zxid, version: d.version, digest: d.digest });
    o.writer.finish(dir, digest, o.zxid)?;
    let took_ms = Clock::now().mono_ms - o.began_ms;
    shared.to_peer(CoreMail::Peer(Input::SnapshotDone { zxid: o.zxid, took_ms }));
    Ok(())
}
