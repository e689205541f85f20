//! A peer core and its turns: the test is its shards, its log and its snapshot writer.

mod disk;
mod learning;
mod proposals;
mod sessions;
mod snapshots;
mod start;

use std::sync::Arc;

use super::turn::{Bounds, PeerTurn, TreeAccess};
use super::*;
use crate::jute::Reader;
use crate::limits;
use crate::oracle::memory::{Mail, MemoryTree};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::{Entry, Outcome, Service};
use crate::proto::{CreateRequest, ReplyHeader, Request};
use crate::tree::TreeOptions;
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::types::{Acl, ConnId, Cxid, Id, Op};
use crate::watch::Interest;

const TICK: i32 = 2000;

const A: Client = Client { shard: ShardId(0), conn: ConnId(11) };
const B: Client = Client { shard: ShardId(1), conn: ConnId(22) };
const C: Client = Client { shard: ShardId(0), conn: ConnId(12) };

#[derive(Clone, Copy)]
struct Client {
    shard: ShardId,
    conn: ConnId,
}

struct World {
    turn: PeerTurn,
    tree: MemoryTree,
    mail: Mail,
    now: Now,
    interest: Arc<Interest>,
    /// Handed to the log since it was last looked at.
    appends: Vec<Append>,
    /// The newest zxid handed to the log.
    appended: Zxid,
}

fn options() -> PeerOptions {
    PeerOptions {
        me: ServerId(1),
        tick_ms: TICK,
        prep: PrepOptions::default(),
        sweep: SweepOptions { interval_ms: 60_000, max_per_minute: 600, max_never_used_ms: 0 },
        shards: 2,
    }
}

fn plain(path: &str) -> CreateTxn {
    let kind = CreateKind::Plain { ephemeral: false };
    CreateTxn { path: path.into(), data: None, acl: None, kind, parent_cversion: -1 }
}

/// A tree whose history is one transaction.
fn tree_at(zxid: Zxid) -> Tree {
    let mut tree = Tree::new(TreeOptions::default());
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: Op::CREATE };
    tree.apply(&header, &Txn::Create(plain("/x")), &mut |_| ());
    tree
}

impl World {
    fn new() -> World {
        World::on(Tree::new(TreeOptions::default()), &[])
    }

    fn on(tree: Tree, sessions: &[(SessionId, i32)]) -> World {
        let now = Now { mono_ms: 100_000, wall_ms: 1_700_000_000_000, mono_ns: 0 };
        let peer = Peer::new(options(), &tree, sessions, now);
        let (last, interest) = (tree.last_zxid(), Arc::new(Interest::new()));
        World {
            turn: PeerTurn::new(peer, last, Bounds::default()),
            tree: MemoryTree::new(tree, 2, interest.clone()),
            mail: Mail::new(2),
            now,
            interest,
            appends: Vec::new(),
            appended: last,
        }
    }

    fn turn(&mut self) {
        self.turn.turn(self.now, &self.tree, &mut self.mail);
        self.after_step();
    }

    fn after_step(&mut self) {
        self.appends.extend(self.mail.appended.drain(..).flat_map(|burst| burst.appends));
        self.appended = self.appends.last().map_or(self.appended, |last| last.zxid);
        self.turn.check(&self.tree.read());
    }

    /// A turn that hears one thing.
    fn hear(&mut self, input: Input) {
        self.mail.inbox.push_back(input);
        self.turn();
    }

    fn shard(&mut self, message: ToPeer) {
        self.hear(Input::FromShard(message));
    }

    fn sync(&mut self) {
        let (term, zxid) = (self.peer().term(), self.appended);
        self.hear(Input::Synced { term, zxid, sync_ns: 1, records: 1, slow: false });
    }

    fn peer(&self) -> &Peer {
        self.turn.peer()
    }

    fn applied(&self) -> Zxid {
        self.tree.read().last_zxid()
    }

    fn is_there(&self, path: &str) -> bool {
        self.tree.read().get(path).is_some()
    }

    fn sessions(&self) -> usize {
        self.peer().status(&self.tree.read()).global_sessions
    }

    /// A shard has answered everything that was applied.
    fn shard_answers(&mut self, shard: u32) {
        let last = self.applied();
        self.tree.moved_on(ShardId(shard), last);
    }

    /// What the shards were sent since: the first shard's, then the second's.
    fn told(&mut self) -> Vec<(ShardId, ToShard)> {
        let mut told = Vec::new();
        for shard in [ShardId(0), ShardId(1)] {
            told.extend(self.mail.take_stream(shard).into_iter().map(|message| (shard, message)));
        }
        told
    }

    /// Syncs and applies everything; returns what was sent to the shards.
    fn settle(&mut self) -> Vec<(ShardId, ToShard)> {
        self.sync();
        while self.peer().has_work() {
            self.turn();
        }
        self.told()
    }

    /// Transactions proposed since.
    fn proposed(&mut self) -> Vec<(TxnHeader, Txn)> {
        let read = |a: Append| {
            let r = &mut Reader::new(&a.payload);
            let header = TxnHeader::read(r).unwrap();
            assert_eq!(header.zxid, a.zxid);
            (header, Txn::read(header.op, r).unwrap())
        };
        std::mem::take(&mut self.appends).into_iter().map(read).collect()
    }

    /// A handshake without a session.
    fn begin(&mut self, client: Client) {
        let Client { shard, conn } = client;
        self.shard(ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() });
    }

    fn session(&mut self, client: Client) -> SessionId {
        self.begin(client);
        let told = self.settle();
        let [(shard, ToShard::Applied(Entry { outcome: Some((conn, Outcome::SessionCreated { session, .. })), .. }))] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((*shard, *conn), (client.shard, client.conn));
        self.appends.clear();
        *session
    }

    fn write(&mut self, client: Client, session: SessionId, op: Op, request: &Request<'_>, behind_read: bool) {
        let auth = [Id::new("ip", "10.0.0.1")].into();
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let body = request.body(op).into();
        let request = WriteRequest { session, cxid: Cxid(5), op, body, auth, moved: false, origin };
        self.shard(ToPeer::Write { request, behind_read, large: None });
    }

    fn create(&mut self, client: Client, session: SessionId, path: &str, flags: i32) {
        let acl = vec![Acl::world_all()].into();
        let create = CreateRequest { path: path.into(), data: None, acl, flags, ttl_ms: None };
        self.write(client, session, Op::CREATE, &Request::Create(create), false);
    }

    fn close(&mut self, client: Client, session: SessionId) {
        self.write(client, session, Op::CLOSE_SESSION, &Request::CloseSession, false);
    }

    fn resume(&mut self, client: Client, session: SessionId, timeout_ms: i32, passwd_matches: bool) {
        let Client { shard, conn } = client;
        self.shard(ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches });
    }

    fn tick_at(&mut self, mono_ms: i64) {
        self.now.mono_ms = mono_ms;
        self.turn();
    }
}

/// The reply code in an outcome.
fn code(message: &ToShard) -> i32 {
    let ToShard::Applied(Entry { outcome: Some((_, Outcome::Reply(reply) | Outcome::Closed(reply))), .. }) = message
    else {
        panic!("{message:?}")
    };
    ReplyHeader::read(&mut Reader::new(&reply[4..])).unwrap().err
}
