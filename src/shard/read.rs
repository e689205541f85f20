//! Reads: look-up, ACL check, setting the watch and encoding are one step at one zxid (rule S5). Mirrors the part of
//! `FinalRequestProcessor` that handles reads.

use super::{CloseHow, Outbox, Shard};
use crate::jute::stat::put_stat;
use crate::jute::{Put, Reader};
use crate::limits;
use crate::pipeline::messages::Service;
use crate::pipeline::prep::acl::masked;
use crate::proto::multi::{MultiHeader, MultiOp, MultiReadOp, MultiResult, put_multi_error, read_multi};
use crate::proto::reply::{put_reply, put_reply_header};
use crate::proto::request::{Request, RequestHeader, is_write, xid};
use crate::proto::response::{put_acl, put_children, put_client_infos, put_data};
use crate::tree::{Tree, Znode};
use crate::types::acl::permits;
use crate::types::{Acl, ConnId, ErrorCode, Id, Now, Op, Zxid, perms};

/// Length of an encoded stat in bytes.
const STAT: usize = 6 * 8 + 5 * 4;

/// Why a read does not succeed.
enum Refusal {
    /// The reply carries this error code.
    Code(ErrorCode),
    /// An operation that clients may not send: the reply is UNIMPLEMENTED, and the connection is closed.
    Unknown,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::Code(code)
    }
}

/// Writes the reply to a read that does not succeed.
fn put_refusal(reply: &mut Vec<u8>, header: RequestHeader, body: &[u8], zxid: Zxid, refusal: &Refusal) {
    match refusal {
        Refusal::Code(code) => {
            let frame = reply.begin_frame();
            put_reply_header(reply, header.xid, zxid, *code);
            if header.op == Op::MULTI_READ
                && read_multi(&mut Reader::new(body)).is_ok_and(|ops| ops.iter().all(MultiOp::is_readable))
            {
                // If a multiRead contains a write, Java notices only after it has begun the list of results;
                // the reply is the same here.
                MultiHeader::END.put(reply);
            }
            reply.end_frame(frame);
        }
        Refusal::Unknown => put_reply(reply, header.xid, Zxid::NONE, ErrorCode::Unimplemented),
    }
}

impl Shard {
    /// Answers one read of connection `conn` as of `tree`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn answer(
        &mut self,
        now: Now,
        conn: ConnId,
        header: RequestHeader,
        body: &[u8],
        arrived_ns: u64,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let zxid = tree.last_zxid();
        // For every read: in debug builds only, as in `fifo`.
        let refused = self.refuses(header.op);
        debug_assert!(
            refused || !is_write(header.op) || is_nobodys(header.op),
            "{} of {conn} is answered as a read",
            header.op
        );
        // The reply to a ping has the special xid of pings, whatever xid the ping had.
        let header = if header.op == Op::PING { RequestHeader { xid: xid::PING, ..header } } else { header };
        let Some(c) = self.conns.get_mut(conn) else { return };
        // The reply is written in place; if the read fails it is removed again. Events that setWatches causes stand
        // before it.
        let mut reply = std::mem::take(&mut c.out);
        let mut start = reply.len();
        let result = match Request::read(header.op, body) {
            _ if refused => Err(Refusal::Code(ErrorCode::NotReadOnly)),
            Err(_) => Err(Refusal::Code(ErrorCode::MarshallingError)),
            Ok(None) => Err(Refusal::Unknown),
            Ok(Some(Request::SetWatches(wanted))) => {
                self.give_back(conn, &mut reply);
                self.set_watches(conn, &wanted, tree);
                if let Some(c) = self.conns.get_mut(conn) {
                    reply = std::mem::take(&mut c.out);
                }
                start = reply.len();
                put_reply(&mut reply, header.xid, zxid, ErrorCode::Ok);
                Ok(())
            }
            Ok(Some(request)) => {
                let frame = reply.begin_frame();
                put_reply_header(&mut reply, header.xid, zxid, ErrorCode::Ok);
                let result = self.read_into(&mut reply, conn, header.op, &request, tree);
                reply.end_frame(frame);
                result
            }
        };
        let close = matches!(result, Err(Refusal::Unknown));
        if let Err(refusal) = result {
            reply.truncate(start);
            put_refusal(&mut reply, header, body, zxid, &refusal);
        }
        debug_assert_eq!(tree.last_zxid(), zxid, "the tree moved under a read");
        debug_assert!(reply.len() >= start + 20, "{} of {conn} is answered without a header", header.op);
        let len = reply.len() - start;
        self.give_back(conn, &mut reply);
        let latency_ms = (now.mono_ns.saturating_sub(arrived_ns) / 1_000_000) as i64;
        if let Some(c) = self.conns.get_mut(conn) {
            assert!(c.last_zxid <= zxid, "{conn} is answered at {zxid} after an answer at {}", c.last_zxid);
            c.last_zxid = zxid;
            c.last_reply = len;
            c.replied(now, header.op, header.xid, latency_ms);
            let timeout_ms = c.timeout_ms;
            self.count_stale_reply(latency_ms, timeout_ms);
        }
        self.turn_replies += len;
        if arrived_ns == now.mono_ns {
            self.reads_at_once += 1;
        } else {
            self.stats.read_latency.record(now.mono_ns.saturating_sub(arrived_ns) / 1000);
        }
        self.stats.replied(latency_ms, len);
        self.mark_dirty(conn, out);
        if close {
            self.end(conn, CloseHow::Flush, out);
        }
    }

    /// Whether this server only serves clients that read.
    pub(super) fn only_reads(&self) -> bool {
        self.service == Some(Service::ReadOnly)
    }

    /// Whether a server that only serves reads refuses this operation, however it goes on (NOTREADONLY). Its clients may close
    /// their sessions. A sync is refused too: it promises what cannot be known here.
    pub(super) fn refuses(&self, op: Op) -> bool {
        self.only_reads() && (op == Op::SYNC || is_write(op) && !matches!(op, Op::CLOSE_SESSION | Op::CREATE_SESSION))
    }

    fn give_back(&mut self, conn: ConnId, reply: &mut Vec<u8>) {
        if let Some(c) = self.conns.get_mut(conn) {
            debug_assert!(c.out.is_empty(), "{conn} was told something while a reply was written");
            c.out = std::mem::take(reply);
        }
    }

    fn read_into(
        &mut self,
        reply: &mut Vec<u8>,
        conn: ConnId,
        op: Op,
        request: &Request<'_>,
        tree: &Tree,
    ) -> Result<(), Refusal> {
        match request {
            Request::Ping => {}
            // Among the reads, only exists checks the path itself.
            Request::Exists { path, .. } if path.contains('\0') => return Err(ErrorCode::BadArguments.into()),
            Request::Exists { path, watch } => {
                let node = tree.get(path);
                if let Some(n) = &node {
                    self.require(conn, n, perms::READ)?;
                }
                if *watch {
                    self.watch_data(conn, path);
                }
                put_stat(reply, &node.ok_or(ErrorCode::NoNode)?.stat());
                self.count_read(path, 0);
            }
            Request::GetData { path, watch } => {
                let node = self.readable(conn, path, tree)?;
                if *watch {
                    self.watch_data(conn, path);
                }
                let len = node.data().map_or(0, <[u8]>::len);
                make_room(reply, 4 + len + STAT);
                put_data(reply, node.data(), &node.stat());
                self.count_read(path, len);
            }
            Request::GetChildren { path, watch } => {
                let node = self.readable(conn, path, tree)?;
                if *watch {
                    self.watch_children(conn, path);
                }
                let before = reply.len();
                children(reply, &node);
                self.count_read(path, reply.len() - before - 4 - 4 * node.num_children() as usize);
                if op == Op::GET_CHILDREN2 {
                    put_stat(reply, &node.stat());
                }
            }
            Request::GetAcl { path } => self.get_acl(reply, conn, path, tree)?,
            Request::Sync { path } => reply.put_buffer(path.as_ref().map(|p| p.as_bytes())),
            Request::GetAllChildrenNumber { path } => {
                self.readable(conn, path, tree)?;
                reply.put_i32(tree.all_children_number(path).ok_or(ErrorCode::NoNode)?);
            }
            Request::GetEphemerals { prefix } => self.get_ephemerals(reply, conn, prefix, tree),
            Request::MultiRead(ops) => self.multi_read(reply, conn, ops, tree)?,
            Request::WhoAmI => self.who_am_i(reply, conn),
            Request::AddWatch { path, mode } => {
                if !self.add_watch(conn, path, *mode) {
                    return Err(ErrorCode::MarshallingError.into());
                }
                reply.put_i32(0);
            }
            Request::CheckWatches { path, kind } => found(self.has_watch(conn, path, *kind))?,
            Request::RemoveWatches { path, kind } => found(self.remove_watch(conn, path, *kind))?,
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }

    /// The approximate size of the reply to a read, without making it. Only the size of large replies matters.
    pub(super) fn reply_size(op: Op, body: &[u8], tree: &Tree) -> usize {
        let path = |body| Reader::new(body).string().ok();
        match op {
            Op::GET_DATA => path(body).and_then(|p| tree.get(&p)?.data().map(<[u8]>::len)).unwrap_or(0),
            Op::GET_CHILDREN | Op::GET_CHILDREN2 => path(body).and_then(|p| tree.get(&p)).map_or(0, |node| {
                // Siblings usually have names of equal length.
                let name = node.children().next().map_or(0, str::len);
                node.num_children().max(0) as usize * (4 + name)
            }),
            // The size is not bounded by one znode.
            Op::MULTI_READ | Op::GET_EPHEMERALS | Op::SET_WATCHES | Op::SET_WATCHES2 => limits::OUT_HIGH_WATER + 1,
            _ => 0,
        }
    }

    /// Counts for `read_per_namespace`: the data read, the path and a stat.
    fn count_read(&mut self, path: &str, len: usize) {
        self.stats.reads.record(path, (path.len() + len + STAT) as u64);
    }

    fn auth_of(&self, conn: ConnId) -> &[Id] {
        self.conns.get(conn).map_or(&[], |c| &c.auth)
    }

    fn allowed(&self, conn: ConnId, acl: Option<&[Acl]>, wanted: i32) -> bool {
        self.options.skip_acl || acl.is_none() || permits(acl, self.auth_of(conn), wanted)
    }

    fn require(&self, conn: ConnId, node: &Znode<'_>, wanted: i32) -> Result<(), ErrorCode> {
        if self.allowed(conn, node.acl(), wanted) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    fn readable<'t>(&self, conn: ConnId, path: &str, tree: &'t Tree) -> Result<Znode<'t>, ErrorCode> {
        let node = tree.get(path).ok_or(ErrorCode::NoNode)?;
        self.require(conn, &node, perms::READ)?;
        Ok(node)
    }

    /// A client without ADMIN permission does not see the hashes of digest ids.
    fn get_acl(&self, reply: &mut Vec<u8>, conn: ConnId, path: &str, tree: &Tree) -> Result<(), ErrorCode> {
        let node = tree.get(path).ok_or(ErrorCode::NoNode)?;
        self.require(conn, &node, perms::READ | perms::ADMIN)?;
        match node.acl() {
            None => put_acl(reply, &[Acl::world_all()], &node.stat()),
            Some(acl) if self.allowed(conn, Some(acl), perms::ADMIN) => put_acl(reply, acl, &node.stat()),
            Some(acl) => put_acl(reply, &masked(acl), &node.stat()),
        }
        Ok(())
    }

    fn get_ephemerals(&self, reply: &mut Vec<u8>, conn: ConnId, prefix: &str, tree: &Tree) {
        let Some(c) = self.conns.get(conn) else { return };
        let all = prefix.trim().is_empty() || prefix == "/";
        let paths: Vec<String> = tree.ephemerals_of(c.session).filter(|p| all || p.starts_with(prefix)).collect();
        reply.put_strings(&paths);
    }

    /// A reply longer than a connection may have unsent is refused before it is made, because a short request can ask
    /// for the same large znode tens of thousands of times.
    fn multi_read(
        &self,
        reply: &mut Vec<u8>,
        conn: ConnId,
        ops: &[MultiReadOp<'_>],
        tree: &Tree,
    ) -> Result<(), ErrorCode> {
        let most = reply.len() + limits::OUT_LIMIT / 2;
        for op in ops {
            if reply.len() > most {
                return Err(ErrorCode::MarshallingError);
            }
            let (code, path) = match op {
                MultiReadOp::GetData { path } => (Op::GET_DATA, path),
                MultiReadOp::GetChildren { path } => (Op::GET_CHILDREN, path),
            };
            match self.readable(conn, path, tree) {
                Err(err) => put_multi_error(reply, err),
                Ok(node) if code == Op::GET_DATA => {
                    MultiResult::GetData { data: node.data(), stat: node.stat() }.put(reply);
                }
                Ok(node) => {
                    MultiHeader::result(code).put(reply);
                    children(reply, &node);
                }
            }
        }
        MultiHeader::END.put(reply);
        Ok(())
    }

    fn who_am_i(&self, reply: &mut Vec<u8>, conn: ConnId) {
        let user = |id| self.options.auth.user_name(id);
        put_client_infos(reply, self.auth_of(conn).iter().map(|id| (&*id.scheme, user(id))));
    }
}

fn children(reply: &mut Vec<u8>, node: &Znode<'_>) {
    // Siblings usually have names of equal length; one that differs may have any length.
    let name = node.children().next().map_or(0, str::len);
    let len = (node.num_children().max(0) as usize).saturating_mul(4 + name);
    make_room(reply, (4 + len + STAT).min(limits::OUT_HIGH_WATER));
    put_children(reply, node.num_children(), node.children());
}

/// Makes room for the next reply at once, since a buffer that grows step by step takes twice its bytes. For a long one it
/// makes no more room than that: otherwise the buffer would double when a long reply follows another.
fn make_room(reply: &mut Vec<u8>, len: usize) {
    if len > limits::BULKY_REPLY { reply.reserve_exact(len) } else { reply.reserve(len) }
}

/// Writes that no client may ask for: they are answered as what nobody knows.
fn is_nobodys(op: Op) -> bool {
    matches!(op, Op::CREATE_SESSION | Op::DELETE_CONTAINER)
}

fn found(answer: Option<bool>) -> Result<(), ErrorCode> {
    match answer {
        Some(true) => Ok(()),
        Some(false) => Err(ErrorCode::NoWatcher),
        None => Err(ErrorCode::MarshallingError),
    }
}
