//! Validation of writes against the tree plus everything proposed but not applied yet: each write becomes one transaction.
//! Mirrors `PrepRequestProcessor`.
//!
//! A pure machine: the caller gives each write its zxid, a refusal is an error transaction under that zxid. Where this
//! differs from ZooKeeper 3.9 it is on purpose:
//! - an undecodable write gets a zxid of its own (there it reuses the last one);
//! - error transactions carry a digest (the unchanged one);
//! - createTTL with a mode that has no TTL is refused (there a negative TTL reaches the log and stops every server);
//! - deleteContainer is taken from the server itself only, and only for a container or an outlived TTL node;
//! - the paths of a closing session that do not fit a transaction are left out of it: every server deletes the rest of
//!   that session's ephemerals by itself, in any case;
//! - children deleted by an outstanding closeSession no longer count for their parents;
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
use crate::proto::Request;
use crate::tree::digest;
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::stat::owner;
use crate::types::{Cxid, ErrorCode, Id, Namespaces, Now, Origin, SessionId, Zxid, op, path};

/// What an operator can choose about validation.
#[derive(Clone, Debug)]
pub struct PrepOptions {
    /// TTL nodes (`extendedTypesEnabled`, `emulate353TTLNodes`).
    pub extended: owner::ExtendedTypes,
    /// No access checks at all (`skipACL`).
    pub skip_acl: bool,
    /// Hard quotas refuse writes (`enforceQuota`).
    pub enforce_quota: bool,
    /// Transactions carry the tree's digest (`digest.enabled`).
    pub digest_enabled: bool,
    /// closeSession lists the ephemerals to delete (`closeSessionTxn.enabled`). Without it a close carries neither list nor
    /// digest: nothing may stand behind such a record, or a reader takes it for the list.
    pub close_session_txn: bool,
    /// `reconfigEnabled`: decides how a reconfig is refused.
    pub reconfig_enabled: bool,
    /// Most bytes of header, transaction and digest together: what another server still reads
    /// (`jute.maxbuffer` + `jute.maxbuffer.extrasize`).
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
    /// Whose write; [`SessionId::NONE`] for the server's own deleteContainer.
    pub session: SessionId,
    /// The client's number for it (its xid).
    pub cxid: Cxid,
    /// The opcode, and what shape the reply has.
    pub op: i32,
    /// The request record behind the header.
    pub body: Bytes,
    /// The identities of the connection.
    pub auth: Arc<[Id]>,
    /// The session has moved to another server since: refuse with `SESSIONMOVED`.
    pub moved: bool,
    /// Where it came from, and so where the answer goes: not read here.
    pub origin: Origin,
}

/// One transaction, ready to be logged and sent.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its type is -1 for a refused write.
    pub header: TxnHeader,
    /// The decoded body.
    pub txn: Txn,
    /// The tree's digest once this is applied.
    pub digest: Option<TxnDigest>,
    /// Of a create or setData: what [`Tree::apply_known`](crate::tree::Tree::apply_known) need not compute again.
    pub prefix_crc: Option<u32>,
    /// Header, body and digest: a PROPOSAL's data and the head of a log record's payload.
    pub record: Bytes,
    /// The request's opcode: the reply's shape, also when the transaction is an error.
    pub op: i32,
}

impl Proposal {
    /// The encoded body alone.
    pub fn txn_bytes(&self) -> Bytes {
        let tail = if self.digest.is_some() { TxnDigest::LEN } else { 0 };
        self.record.slice(TxnHeader::LEN..self.record.len() - tail)
    }

    /// The refusal, if it is one. A multi that failed is not: its results say so.
    pub fn error(&self) -> Option<i32> {
        match self.txn {
            Txn::Error { err } => Some(err),
            _ => None,
        }
    }
}

/// Figures for the metrics.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PrepStatus {
    pub outstanding_changes: usize,
    pub outstanding_changes_queued: u64,
    pub outstanding_changes_removed: u64,
    /// Of the numbers that sequential znodes got; the highest possible one is 2147483647.
    pub highest_sequence_number: i32,
    /// Sequential creates with one of the last million numbers.
    pub sequential_creates_near_end: u64,
    /// Writes that a hard quota refused, by namespace.
    pub quota_refusals: Namespaces,
}

/// The machine. One per leadership: a new leader starts with nothing outstanding.
#[derive(Debug)]
pub struct Prep {
    options: PrepOptions,
    outstanding: Outstanding,
    counters: SequenceCounters,
    quota_refusals: Namespaces,
    last: Zxid,
}

impl Prep {
    /// Nothing outstanding.
    pub fn new(options: PrepOptions) -> Prep {
        Prep {
            options,
            outstanding: Outstanding::default(),
            counters: SequenceCounters::new(),
            quota_refusals: Namespaces::default(),
            last: Zxid(i64::MIN),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &PrepOptions {
        &self.options
    }

    /// Makes the transaction of one write. `zxid` must be above every one given before.
    ///
    /// # Panics
    /// If `zxid` is not: the zxids are ours.
    pub fn handle(
        &mut self,
        state: &impl State,
        sessions: &impl Sessions,
        now: Now,
        zxid: Zxid,
        request: &WriteRequest,
    ) -> Proposal {
        assert!(zxid > self.last, "{zxid} proposed behind {}", self.last);
        self.last = zxid;
        self.outstanding.begin();
        let header =
            TxnHeader { session: request.session, cxid: request.cxid, zxid, time_ms: now.wall_ms, op: request.op };
        let mut step = Step {
            options: &self.options,
            out: &mut self.outstanding,
            counters: &mut self.counters,
            quota_refusals: &mut self.quota_refusals,
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
                let mut proposal = encode(TxnHeader { op, ..header }, txn, digest, request);
                proposal.prefix_crc = step.prefix_crc;
                // Whatever cannot be read back must not be proposed: it would stop every server for good.
                if proposal.record.len() <= step.options.max_txn_bytes {
                    step.confirm(op);
                    return proposal;
                }
                step.refuse(ErrorCode::MarshallingError)
            }
            Err(code) => step.refuse(code),
        }
    }

    /// Tree and session table show `zxid` and all before it: their changes need not be kept any longer.
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

    /// What the metrics count begins again (`srst`). Sequence numbers stay: they warn of an end that comes nearer.
    pub fn reset_counts(&mut self) {
        self.outstanding.reset_counts();
        self.quota_refusals = self.quota_refusals.emptied();
    }
}

fn encode(header: TxnHeader, txn: Txn, digest: Option<TxnDigest>, request: &WriteRequest) -> Proposal {
    let mut out = Vec::with_capacity(request.body.len() + 96);
    header.put(&mut out);
    txn.put(&mut out);
    if let Some(digest) = digest {
        digest.put(&mut out);
    }
    let record = Bytes::from(out);
    Proposal { header, txn, digest, prefix_crc: None, record, op: request.op }
}

/// What a request's opcode and body turn into, or why not.
type Outcome = Result<(i32, Txn), ErrorCode>;

/// One request on its way through. The operations are in the files beside this one.
struct Step<'a, T: State, S: Sessions> {
    options: &'a PrepOptions,
    out: &'a mut Outstanding,
    counters: &'a mut SequenceCounters,
    quota_refusals: &'a mut Namespaces,
    now: Now,
    state: &'a T,
    sessions: &'a S,
    header: TxnHeader,
    request: &'a WriteRequest,
    /// Of the newest path and data.
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
            // A read, or a check outside a multi.
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn refuse(&mut self, code: ErrorCode) -> Proposal {
        self.out.roll_back();
        let txn = Txn::Error { err: code.code() };
        let digest = self.digest_after(&txn);
        encode(TxnHeader { op: op::ERROR, ..self.header }, txn, digest, self.request)
    }

    fn digest_after(&self, txn: &Txn) -> Option<TxnDigest> {
        let told = self.options.digest_enabled && !matches!(txn, Txn::CloseSession { paths: None });
        told.then(|| TxnDigest { version: TxnDigest::VERSION, digest: self.out.digest(self.state) })
    }

    /// Session changes are made known once the transaction is sure.
    fn confirm(&mut self, op: i32) {
        let change = match op {
            op::CREATE_SESSION => SessionChange::Created,
            op::CLOSE_SESSION => SessionChange::Closing,
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

    /// The node is new, or gets this data.
    fn set(&mut self, path: &str, before: Option<&Record>, mut after: Record, data: Option<&[u8]>) {
        if self.options.digest_enabled {
            let crc = digest::prefix_crc(path, data);
            after.share = digest::share(crc, &after.stat);
            self.prefix_crc = Some(crc);
        }
        self.change(path, before, Some(after));
    }

    /// The node keeps its data.
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

/// The parent's path of a create or delete: all before the last slash. Not validated further, as in ZooKeeper, where a
/// missing parent is found before a malformed path.
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

/// The version a write leaves behind. -1 asks for no check; no node ever has it, else it could not be asked for.
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
        for op in [op::CREATE, op::CREATE2, op::CREATE_TTL, op::DELETE, op::SET_DATA, op::SET_ACL, op::CREATE_SESSION] {
            let sent = f.raw(op, vec![0, 0, 9]);
            assert_eq!((sent.error(), sent.header.op, sent.op), (Some(-5), op::ERROR, op));
            assert_eq!(sent.header.zxid, Zxid(f.zxid));
        }
        let mut body = Vec::new();
        create("/b").put(&mut body);
        for cut in 0..body.len() {
            assert_eq!(f.raw(op::CREATE, body[..cut].to_vec()).error(), Some(-5), "{cut}");
        }
        for read in [op::GET_DATA, op::SYNC, op::PING, 99, -1] {
            assert!(f.raw(read, vec![]).error().is_some(), "{read}");
        }
    }

    #[test]
    fn an_error_transaction_names_the_request() {
        let mut f = Fixture::new();
        let digest = f.send(&create("/a")).digest;
        let sent = f.send(&delete("/none", -1));
        let header =
            TxnHeader { session: SessionId(1), cxid: Cxid(3), zxid: Zxid(2), time_ms: f.wall_ms, op: op::ERROR };
        assert_eq!((sent.header, sent.digest, sent.op), (header, digest, op::DELETE));
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
        // Sent short, but stored long.
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
        assert_eq!(f.raw(op::RECONFIG, body.clone()).error(), Some(-123));
        let mut f = Fixture::with(PrepOptions { reconfig_enabled: true, ..PrepOptions::default() });
        assert_eq!(f.raw(op::RECONFIG, body.clone()).error(), Some(-6));
        f.session = SessionId(9);
        assert_eq!(f.raw(op::RECONFIG, body).error(), Some(-112));
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
    #[should_panic(expected = "proposed behind")]
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
        let second = f.send(&create_flag(op::CREATE, "/a/e", 2, -1));
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
