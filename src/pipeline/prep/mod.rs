//! Validates each write against the tree and all outstanding changes, and turns it into one transaction. Mirrors
//! `PrepRequestProcessor`.
//!
//! A pure state machine: the caller chooses the zxid of each write, and a refused write becomes an error transaction
//! with that zxid. It differs from ZooKeeper 3.9 on purpose in these points:
//! - a write that cannot be decoded gets a zxid of its own (ZooKeeper reuses the last one);
//! - error transactions carry a digest (the unchanged one);
//! - createTTL with a mode that has no TTL is refused (in ZooKeeper a negative TTL reaches the log and stops every
//!   server), and so is createContainer with a sequential mode;
//! - deleteContainer is accepted only from the server itself, and only for a container or an expired TTL node;
//! - if the paths of a closing session do not fit into one transaction, the rest is left out: every server deletes all
//!   ephemerals of the session in any case;
//! - children that an outstanding closeSession deletes no longer count as children of their parents;
//! - in a failed multi the operations before the failing one are logged as "error 0", not in full.

pub mod acl;
mod create;
mod data;
mod delete;
#[cfg(test)]
mod fixture;
mod multi;
mod outstanding;
mod quota;
mod sequence;
mod session;
pub mod state;

use std::sync::Arc;

use bytes::Bytes;

use self::outstanding::{Outstanding, SessionChange};
use self::sequence::SequenceCounters;
pub use self::state::{QuotaState, Record, Sessions, State};
use crate::auth::Providers;
use crate::jute::Chunk;
use crate::proto::Request;
use crate::tree::digest;
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::stat::owner;
use crate::types::{Cxid, ErrorCode, Id, Namespaces, Now, Op, Origin, SessionId, Zxid, path};

/// The settings of validation.
#[derive(Clone, Debug)]
pub struct PrepOptions {
    /// Settings of TTL nodes (`extendedTypesEnabled`, `emulate353TTLNodes`).
    pub extended: owner::ExtendedTypes,
    /// ACLs are not checked (`skipACL`).
    pub skip_acl: bool,
    /// Writes that exceed a hard quota are refused (`enforceQuota`).
    pub enforce_quota: bool,
    /// Transactions carry the tree's digest (`digest.enabled`).
    pub digest_enabled: bool,
    /// closeSession lists the ephemerals to delete (`closeSessionTxn.enabled`). Without this a closeSession record
    /// carries neither list nor digest, because a reader would take any bytes after the record for the list.
    pub close_session_txn: bool,
    /// `reconfigEnabled`: decides with which error a reconfig is refused.
    pub reconfig_enabled: bool,
    /// Most bytes of header, transaction and digest together that another server can still read (`jute.maxbuffer` +
    /// `jute.maxbuffer.extrasize`).
    pub max_txn_bytes: usize,
    /// The authentication schemes.
    pub providers: Providers,
}

impl Default for PrepOptions {
    fn default() -> PrepOptions {
        PrepOptions {
            extended: owner::ExtendedTypes::default(),
            skip_acl: false,
            enforce_quota: false,
            digest_enabled: true,
            close_session_txn: true,
            reconfig_enabled: false,
            max_txn_bytes: 2 * 0xf_ffff,
            providers: Providers::default(),
        }
    }
}

/// One write as it reaches prep.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The session that writes; [`SessionId::NONE`] for a deleteContainer of the server itself.
    pub session: SessionId,
    /// The number that the client gave to the request (its xid).
    pub cxid: Cxid,
    /// The opcode, which also decides the form of the reply.
    pub op: Op,
    /// The request record, which follows the header.
    pub body: Bytes,
    /// The identities of the connection.
    pub auth: Arc<[Id]>,
    /// The session has moved to another server: the write is refused with `SESSIONMOVED`.
    pub moved: bool,
    /// Where the request came from, which is where its reply goes. Prep only copies it.
    pub origin: Origin,
}

/// One transaction, ready to be logged and proposed.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The header; its opcode is -1 if the write was refused.
    pub header: TxnHeader,
    /// The decoded body.
    pub txn: Txn,
    /// The tree's digest after this transaction.
    pub digest: Option<TxnDigest>,
    /// For a create or setData: a checksum, so that [`Tree::apply_known`](crate::tree::Tree::apply_known) need not
    /// compute it again.
    pub prefix_crc: Option<u32>,
    /// Header, body and digest: the data of a PROPOSAL, and the beginning of a log record.
    pub record: Bytes,
    /// The request's opcode, which decides the form of the reply even if the transaction is an error.
    pub op: Op,
}

impl Proposal {
    /// The encoded body alone.
    pub fn txn_bytes(&self) -> Bytes {
        let tail = if self.digest.is_some() { TxnDigest::LEN } else { 0 };
        self.record.slice(TxnHeader::LEN..self.record.len() - tail)
    }

    /// The error code if the write was refused. A failed multi is not an error here: its results contain the error.
    pub fn error(&self) -> Option<i32> {
        match self.txn {
            Txn::Error { err } => Some(err),
            _ => None,
        }
    }
}

/// Figures for the metrics.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct PrepStatus {
    pub outstanding_changes: usize,
    pub outstanding_changes_queued: u64,
    pub outstanding_changes_removed: u64,
    /// The highest number that a sequential znode got; the maximum is 2147483647.
    pub highest_sequence_number: i32,
    /// Number of sequential creates that got one of the last million numbers.
    pub sequential_creates_near_end: u64,
    /// Number of writes that a hard quota refused, by namespace.
    pub quota_refusals: Namespaces,
}

/// The state machine. Each leader starts with a new one, without outstanding changes.
#[derive(Debug)]
pub struct Prep {
    options: PrepOptions,
    outstanding: Outstanding,
    counters: SequenceCounters,
    quota_refusals: Namespaces,
    records: Records,
    last: Zxid,
}

/// Encodes records and keeps them until they are logged.
#[derive(Debug, Default)]
struct Records {
    scratch: Vec<u8>,
    chunk: Chunk,
}

impl Prep {
    /// A prep without outstanding changes.
    pub fn new(options: PrepOptions) -> Prep {
        Prep {
            options,
            outstanding: Outstanding::default(),
            counters: SequenceCounters::new(),
            quota_refusals: Namespaces::default(),
            records: Records::default(),
            last: Zxid(i64::MIN),
        }
    }

    /// Its settings.
    pub fn options(&self) -> &PrepOptions {
        &self.options
    }

    /// Turns one write into a transaction. `zxid` must be higher than all before it.
    ///
    /// # Panics
    /// If `zxid` is not: the server itself chooses it.
    pub fn handle(
        &mut self,
        state: &impl State,
        sessions: &impl Sessions,
        now: Now,
        zxid: Zxid,
        request: &WriteRequest,
    ) -> Proposal {
        assert!(zxid > self.last, "{zxid} proposed after {}", self.last);
        self.last = zxid;
        self.outstanding.begin();
        let header =
            TxnHeader { session: request.session, cxid: request.cxid, zxid, time_ms: now.wall_ms, op: request.op };
        let mut step = Step {
            options: &self.options,
            out: &mut self.outstanding,
            counters: &mut self.counters,
            quota_refusals: &mut self.quota_refusals,
            records: &mut self.records,
            now,
            state,
            sessions,
            header,
            request,
            prefix_crc: None,
        };
        match step.run() {
            Ok((op, txn)) => {
                let digest = step.digest_after(&txn);
                let header = TxnHeader { op, ..header };
                let record = step.records.encode(&header, &txn, digest, request.body.len());
                // A record that is too long to be read back must not be proposed: every server would stop at it, each
                // time it starts.
                if record.len() > step.options.max_txn_bytes {
                    return step.refuse(ErrorCode::MarshallingError);
                }
                step.confirm(op);
                Proposal { header, txn, digest, prefix_crc: step.prefix_crc, record, op: request.op }
            }
            Err(code) => step.refuse(code),
        }
    }

    /// `zxid` and all transactions before it are applied: their changes are in the tree and the session table and are
    /// dropped here.
    pub fn applied(&mut self, zxid: Zxid) {
        self.outstanding.applied(zxid);
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        self.outstanding.check();
    }

    /// Figures.
    pub fn status(&self) -> PrepStatus {
        PrepStatus {
            outstanding_changes: self.outstanding.len(),
            outstanding_changes_queued: self.outstanding.queued_count,
            outstanding_changes_removed: self.outstanding.removed_count,
            highest_sequence_number: self.counters.highest,
            sequential_creates_near_end: self.counters.near_end,
            quota_refusals: self.quota_refusals.clone(),
        }
    }

    /// Sets the counters of the metrics back to 0 (`srst`). The highest sequence number stays, since it warns of a
    /// limit.
    pub fn reset_counts(&mut self) {
        self.outstanding.reset_counts();
        self.quota_refusals = self.quota_refusals.emptied();
    }
}

impl Records {
    /// `body` is the length of the request; a record is seldom much longer.
    fn encode(&mut self, header: &TxnHeader, txn: &Txn, digest: Option<TxnDigest>, body: usize) -> Bytes {
        let out = &mut self.scratch;
        out.clear();
        out.reserve(body + 96);
        header.put(out);
        txn.put(out);
        if let Some(digest) = digest {
            digest.put(out);
        }
        if out.len() > Chunk::LONG { Bytes::from(std::mem::take(out)) } else { self.chunk.keep(out) }
    }
}

/// The opcode and transaction that a request becomes, or the error.
type Outcome = Result<(Op, Txn), ErrorCode>;

/// One request while it is prepared. The operations are in the other files of this folder.
struct Step<'a, T: State, S: Sessions> {
    options: &'a PrepOptions,
    out: &'a mut Outstanding,
    counters: &'a mut SequenceCounters,
    quota_refusals: &'a mut Namespaces,
    records: &'a mut Records,
    now: Now,
    state: &'a T,
    sessions: &'a S,
    header: TxnHeader,
    request: &'a WriteRequest,
    /// Checksum over the path and data written last.
    prefix_crc: Option<u32>,
}

impl<T: State, S: Sessions> Step<'_, T, S> {
    fn run(&mut self) -> Outcome {
        let op = self.header.op;
        let whole = self.request;
        let request = match Request::read(op, &whole.body) {
            Ok(Some(request)) => request,
            Ok(None) => return Err(ErrorCode::Unimplemented),
            Err(_) => return Err(ErrorCode::MarshallingError),
        };
        match request {
            Request::Create(create) => self.create(op, create),
            Request::Delete { path, version } => self.delete(&path, version),
            Request::DeleteContainer { path } => self.delete_container(&path),
            Request::SetData { path, data, version } => self.set_data(&path, data, version),
            Request::SetAcl { path, acl, version } => self.set_acl(&path, acl, version),
            Request::Multi(ops) => self.multi(ops),
            Request::Reconfig { .. } => self.reconfig(),
            Request::CreateSession { timeout_ms } => Ok((op, Txn::CreateSession { timeout_ms })),
            Request::CloseSession => Ok(self.close_session()),
            // A read, or a check that is not inside a multi.
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn refuse(&mut self, code: ErrorCode) -> Proposal {
        self.out.roll_back();
        let txn = Txn::Error { err: code.code() };
        let digest = self.digest_after(&txn);
        let header = TxnHeader { op: Op::ERROR, ..self.header };
        let record = self.records.encode(&header, &txn, digest, 0);
        Proposal { header, txn, digest, prefix_crc: None, record, op: self.request.op }
    }

    fn digest_after(&self, txn: &Txn) -> Option<TxnDigest> {
        let told = self.options.digest_enabled && !matches!(txn, Txn::CloseSession { paths: None });
        told.then(|| TxnDigest { version: TxnDigest::VERSION, digest: self.out.digest(self.state) })
    }

    /// Records the session changes once the transaction is certain to be proposed.
    fn confirm(&mut self, op: Op) {
        let change = match op {
            Op::CREATE_SESSION => SessionChange::Created,
            Op::CLOSE_SESSION => SessionChange::Closing,
            _ => return,
        };
        self.out.set_session(self.header.zxid, self.header.session, change);
    }

    fn reconfig(&mut self) -> Outcome {
        if !self.options.reconfig_enabled {
            return Err(ErrorCode::ReconfigDisabled);
        }
        self.check_session()?;
        Err(ErrorCode::Unimplemented)
    }

    fn record(&self, path: &str) -> Result<Record, ErrorCode> {
        self.out.get(self.state, path).ok_or(ErrorCode::NoNode)
    }

    /// Records a new node, or new data of an existing one.
    fn set(&mut self, path: &str, before: Option<&Record>, mut after: Record, data: Option<&[u8]>) {
        if self.options.digest_enabled {
            let crc = digest::prefix_crc(path, data);
            after.share = digest::share(crc, &after.stat);
            self.prefix_crc = Some(crc);
        }
        self.change(path, before, Some(after));
    }

    /// Records a change of a node's stat or ACL; its data stay.
    fn restat(&mut self, path: &str, before: &Record, mut after: Record) {
        if self.options.digest_enabled {
            after.share = digest::share_restated(before.share, &before.stat, &after.stat);
        }
        self.change(path, Some(before), Some(after));
    }

    fn unset(&mut self, path: &str, before: &Record) {
        self.change(path, Some(before), None);
    }

    fn change(&mut self, path: &str, before: Option<&Record>, after: Option<Record>) {
        self.out.set(self.state, self.header.zxid, path, before, after, self.options.digest_enabled);
    }

    fn check_acl(&self, record: &Record, wanted: i32) -> Result<(), ErrorCode> {
        acl::check(self.options.skip_acl, &record.acl, &self.request.auth, wanted)
    }

    fn check_quota(&mut self, path: &str, nodes: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.options.enforce_quota {
            return Ok(());
        }
        let Some(quota) = self.state.quota(path) else { return Ok(()) };
        quota::check(&quota, nodes, bytes).inspect_err(|_| self.quota_refusals.record(path, 1))
    }

    fn kind(&self, record: &Record) -> owner::Kind {
        owner::kind(record.stat.ephemeral_owner, self.options.extended)
    }
}

/// The parent's path in a create or delete: everything before the last slash. As in ZooKeeper it is not validated here,
/// so a missing parent is reported before an invalid path.
fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    if memchr::memchr(0, path.as_bytes()).is_some() {
        return Err(ErrorCode::BadArguments);
    }
    match path::last_slash(path) {
        None => Err(ErrorCode::BadArguments),
        Some(0) => Ok(path::ROOT),
        Some(at) => Ok(&path[..at]),
    }
}

fn validate(path: &str) -> Result<(), ErrorCode> {
    path::validate(path).map_err(|_| ErrorCode::BadArguments)
}

/// The version after a write. `expected` -1 means no check. No node ever gets version -1, because it could not be
/// checked for.
fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    Ok(match current.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}

#[cfg(test)]
mod tests {
    use super::fixture::{Fixture, create, create_acl, create_flag, delete, set};
    use super::*;
    use crate::jute::Put;
    use crate::oracle::server_model::ModelOp;
    use crate::types::Acl;

    #[test]
    fn undecodable_writes_are_refused_under_a_zxid_of_their_own() {
        let mut f = Fixture::new();
        f.taken(&create("/a"));
        for op in [Op::CREATE, Op::CREATE2, Op::CREATE_TTL, Op::DELETE, Op::SET_DATA, Op::SET_ACL, Op::CREATE_SESSION] {
            let sent = f.raw(op, vec![0, 0, 9]);
            assert_eq!((sent.error(), sent.header.op, sent.op), (Some(-5), Op::ERROR, op));
            assert_eq!(sent.header.zxid, Zxid(f.zxid));
        }
        let mut body = Vec::new();
        create("/b").put(&mut body);
        for cut in 0..body.len() {
            assert_eq!(f.raw(Op::CREATE, body[..cut].to_vec()).error(), Some(-5), "{cut}");
        }
        for read in [Op::GET_DATA, Op::SYNC, Op::PING, Op(99), Op::ERROR] {
            assert!(f.raw(read, vec![]).error().is_some(), "{read}");
        }
    }

    #[test]
    fn an_error_transaction_names_the_request() {
        let mut f = Fixture::new();
        let digest = f.send(&create("/a")).digest;
        let sent = f.send(&delete("/none", -1));
        let header =
            TxnHeader { session: SessionId(1), cxid: Cxid(3), zxid: Zxid(2), time_ms: f.wall_ms, op: Op::ERROR };
        assert_eq!((sent.header, sent.digest, sent.op), (header, digest, Op::DELETE));
        assert_eq!(&sent.txn_bytes()[..], (-101i32).to_be_bytes());
        assert_eq!(sent.record.len(), TxnHeader::LEN + 4 + TxnDigest::LEN);
    }

    #[test]
    fn what_another_server_could_not_read_is_not_proposed() {
        let max_txn_bytes = 300;
        let mut f = Fixture::with(PrepOptions { max_txn_bytes, ..PrepOptions::default() });
        // Header, path, data, version, digest.
        let room = max_txn_bytes - TxnHeader::LEN - (4 + 2) - 4 - 4 - TxnDigest::LEN;
        f.taken(&create("/a"));
        assert_eq!(f.code(&set("/a", &vec![0; room + 1], 0)), -5);
        assert_eq!(f.code(&set("/a", &vec![0; room - 1], 0)), 0, "the refused one left no trace");
        let fits = f.send(&set("/a", &vec![0; room], 1));
        assert_eq!((fits.error(), fits.record.len()), (None, max_txn_bytes));
        let multi = ModelOp::Multi(vec![create("/x"), create("/y"), create("/z"), create("/v"), create("/w")]);
        assert_eq!(f.code(&multi), -5);
        assert_eq!(f.code(&create("/x")), 0);
        // A short request whose ACL becomes long when `auth` is replaced.
        f.ids = (0..20).map(|i| Id::new("digest", &format!("user{i}:h"))).collect();
        let auth = vec![Acl { perms: 31, id: Id::new("auth", "") }];
        assert_eq!(f.code(&create_acl("/auth", auth)), -5);
    }

    #[test]
    fn reconfig_is_refused_by_its_name() {
        let mut body = Vec::new();
        for _ in 0..3 {
            body.put_buffer(None);
        }
        body.put_i64(-1);
        let mut f = Fixture::new();
        f.session = SessionId(9);
        assert_eq!(f.raw(Op::RECONFIG, body.clone()).error(), Some(-123));
        let mut f = Fixture::with(PrepOptions { reconfig_enabled: true, ..PrepOptions::default() });
        assert_eq!(f.raw(Op::RECONFIG, body.clone()).error(), Some(-6));
        f.session = SessionId(9);
        assert_eq!(f.raw(Op::RECONFIG, body).error(), Some(-112));
    }

    #[test]
    fn without_digests_nothing_carries_one() {
        let mut f = Fixture::with(PrepOptions { digest_enabled: false, ..PrepOptions::default() });
        for request in [create("/a"), set("/a", b"1", 0), delete("/none", -1), ModelOp::Multi(vec![create("/b")])] {
            let sent = f.send(&request);
            assert_eq!(sent.digest, None);
            f.apply(&sent);
        }
        assert_eq!(f.tree.digest(), 0);
    }

    #[test]
    fn the_system_subtree_is_not_digested() {
        let mut f = Fixture::new();
        let before = f.tree.digest();
        let sent = f.send(&create("/zookeeper/quota/a"));
        assert_eq!(sent.digest.map(|d| d.digest), Some(before));
        f.apply(&sent);
        f.applied(&create("/zookeeper/x"));
        assert_ne!(f.tree.digest(), before, "but /zookeeper itself is");
        f.applied(&set("/", b"root", -1));
    }

    #[test]
    #[should_panic(expected = "proposed after")]
    fn zxids_ascend() {
        let mut f = Fixture::new();
        f.taken(&create("/a"));
        f.zxid -= 1;
        f.send(&create("/b"));
    }

    #[test]
    fn outstanding_changes_are_counted_and_dropped() {
        let mut f = Fixture::new();
        let first = f.send(&create("/a"));
        let second = f.send(&create_flag(Op::CREATE, "/a/e", 2, -1));
        let third = f.send(&set("/a", b"1", 0));
        assert_eq!(f.prep.status().outstanding_changes, 5);
        f.apply(&first);
        assert_eq!(f.prep.status().outstanding_changes, 3);
        f.apply(&second);
        f.apply(&third);
        let status = f.prep.status();
        assert_eq!((status.outstanding_changes, status.outstanding_changes_queued), (0, 5));
        assert_eq!(status.outstanding_changes_removed, 5);
        assert_eq!(f.tree.get("/a").unwrap().persisted().version, 1);
    }
}
