//! Shards, a peer and a log that syncs when the scheduler says so.

use super::client::{Client, Op, PATHS};
use super::judge::{History, judge};
use std::collections::VecDeque;
use std::sync::Arc;
use zabra::jute::Reader;
use zabra::peer::apply::Cursors;
use zabra::peer::{self, Peer, PeerOptions};
use zabra::pipeline::messages::{ToPeer, ToShard};
use zabra::pipeline::prep::PrepOptions;
use zabra::shard::gate::{RequestThrottle, Throttles};
use zabra::shard::{self, Input, Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use zabra::types::{ConnId, Cxid, Now, ServerId, SessionId, ShardId, Zxid, op};
use zabra::watch::{Interest, WatchTable};

struct Cursor(Vec<Zxid>);

impl Cursors for Cursor {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.0[shard.index()]
    }
}

pub struct World {
    rng: fastrand::Rng,
    now: Now,
    tree: Tree,
    shards: Vec<Shard>,
    streams: Vec<VecDeque<ToShard>>,
    to_peer: VecDeque<ToPeer>,
    peer: Peer,
    out: peer::Outbox,
    appended: Zxid,
    cursor: Cursor,
    interest: Arc<Interest>,
    clients: Vec<Client>,
    history: History,
    /// Breaks rule S3a, to see the judge notice.
    pub ignore_behind_read: bool,
}

impl World {
    pub fn new(seed: u64, shards: usize) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000, mono_ns: 1_000_000_000 };
        let mut tree = Tree::new(TreeOptions::default());
        for (i, path) in PATHS.iter().enumerate() {
            let zxid = Zxid(i as i64 + 1);
            let h = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: op::CREATE };
            let kind = CreateKind::Plain { ephemeral: false };
            let data = Some(bytes::Bytes::from_static(b"value"));
            let create = CreateTxn { path: (*path).into(), data, acl: None, kind, parent_cversion: i as i32 + 1 };
            assert_eq!(tree.apply(&h, &Txn::Create(create), &mut |_| ()).err, 0);
        }
        let interest = Arc::new(Interest::new());
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: peer::SweepOptions { interval_ms: 0, max_per_minute: 1, max_never_used_ms: 0 },
            shards,
        };
        let peer = Peer::new(options, &tree, &[], now);
        let clients = (0..rng.usize(2..5))
            .map(|i| {
                let script = (0..rng.usize(3..14)).map(|_| random_op(&mut rng)).collect();
                Client::new(ConnId(i as u64 + 1), rng.usize(..shards), script)
            })
            .collect();
        World {
            now,
            shards: (0..shards)
                .map(|i| Shard::new(options_of(i, seed), WatchTable::new(i, interest.clone())))
                .collect(),
            streams: (0..shards).map(|_| VecDeque::new()).collect(),
            to_peer: VecDeque::new(),
            appended: tree.last_zxid(),
            cursor: Cursor(vec![Zxid::ZERO; shards]),
            history: History::from([(tree.last_zxid(), [Zxid(1), Zxid(2)])]),
            rng,
            tree,
            peer,
            out: peer::Outbox::default(),
            interest,
            clients,
            ignore_behind_read: false,
        }
    }

    pub fn run(mut self) {
        if let Err(e) = self.verdict() {
            panic!("{e}");
        }
    }

    /// Runs to the end and judges.
    pub fn verdict(&mut self) -> Result<(), String> {
        for i in 0..self.clients.len() {
            let (conn, shard) = (self.clients[i].conn, self.clients[i].shard);
            let peer = ([127, 0, 0, 1], 1000 + i as u16).into();
            self.shard_input(shard, Input::Accepted { conn, peer });
        }
        for _ in 0..100_000 {
            self.step();
            if self.is_done() {
                return self
                    .clients
                    .iter()
                    .try_for_each(|c| judge(c, &self.history).map_err(|e| format!("{}: {e}", c.conn)));
            }
        }
        Err("it never ends".into())
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|c| c.wire.is_empty() && c.sent == c.script.len())
            && self.to_peer.is_empty()
            && self.streams.iter().all(VecDeque::is_empty)
            && self.peer.is_idle()
            && self.shards.iter().all(|s| !s.has_ready())
    }

    fn step(&mut self) {
        match self.rng.u8(..5) {
            0 => {
                let c = self.rng.usize(..self.clients.len());
                let client = &mut self.clients[c];
                if client.sent < client.script.len() {
                    client.send();
                }
            }
            1 => self.turn(),
            2 => self.prep(),
            3 => {
                if self.appended > self.peer.committed() {
                    let input = peer::Input::Synced { zxid: self.appended, sync_ns: 1, records: 1, slow: false };
                    self.peer.handle(self.now, input, &self.tree, &mut self.out);
                }
            }
            _ => self.apply(),
        }
        if self.rng.u8(..32) == 0 {
            self.peer.check(&self.tree);
            self.shards.iter().for_each(Shard::check);
        }
    }

    fn turn(&mut self) {
        let shard = self.rng.usize(..self.shards.len());
        while let Some(message) = self.streams[shard].pop_front() {
            self.shard_input(shard, Input::Stream(message));
        }
        self.shard_input(shard, Input::Drained);
        for c in 0..self.clients.len() {
            if self.clients[c].shard == shard && !self.clients[c].wire.is_empty() && self.rng.bool() {
                let n = self.rng.usize(1..=self.clients[c].wire.len());
                let bytes: Vec<u8> = self.clients[c].wire.drain(..n).collect();
                let conn = self.clients[c].conn;
                self.shard_input(shard, Input::Data { conn, bytes: &bytes });
            }
        }
        self.cursor.0[shard] = self.tree.last_zxid();
    }

    fn shard_input(&mut self, shard: usize, input: Input<'_>) {
        let mut out = shard::Outbox::default();
        self.shards[shard].handle(self.now, input, &self.tree, &mut out);
        assert!(out.close.is_empty(), "a connection was closed");
        self.to_peer.extend(out.to_peer);
        for conn in out.dirty {
            let client = self.clients.iter_mut().find(|c| c.conn == conn).unwrap();
            self.shards[shard].take_output(conn, &mut client.inbox);
            client.read();
        }
    }

    fn prep(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            let Some(mut message) = self.to_peer.pop_front() else { break };
            if let (true, ToPeer::Write { behind_read, .. }) = (self.ignore_behind_read, &mut message) {
                *behind_read = false;
            }
            self.peer.handle(self.now, peer::Input::FromShard(message), &self.tree, &mut self.out);
        }
        for append in std::mem::take(&mut self.out.append) {
            self.appended = append.zxid;
            self.remember(&append.payload);
        }
        self.publish();
    }

    fn apply(&mut self) {
        if !self.peer.has_work() {
            return;
        }
        self.peer.apply(&mut self.tree, &self.cursor, &self.interest, &mut self.out);
        self.publish();
    }

    fn publish(&mut self) {
        for (shard, message) in self.out.to_shards.drain(..) {
            self.streams[shard.index()].push_back(message);
        }
    }

    /// What a proposal will make of the two znodes.
    fn remember(&mut self, payload: &[u8]) {
        let r = &mut Reader::new(payload);
        let header = TxnHeader::read(r).unwrap();
        let mut state = self.history.values().next_back().copied().unwrap();
        let subs = match Txn::read(header.op, r).unwrap() {
            Txn::Multi(subs) => subs.into_iter().map(|s| s.txn).collect(),
            txn => vec![txn],
        };
        for txn in subs {
            if let Txn::SetData { path, .. } = txn {
                state[PATHS.iter().position(|p| *p == path).unwrap()] = header.zxid;
            }
        }
        self.history.insert(header.zxid, state);
    }
}

fn random_op(rng: &mut fastrand::Rng) -> Op {
    match rng.u8(..7) {
        0 | 1 => Op::Set(rng.usize(..2)),
        2 => Op::SetBoth,
        3 | 4 => Op::Get(rng.usize(..2), true),
        5 => Op::Get(rng.usize(..2), false),
        _ => Op::GetBoth,
    }
}

fn options_of(shard: usize, seed: u64) -> ShardOptions {
    // Every other world has little room in its pipeline.
    let max_requests = if seed.is_multiple_of(2) { usize::MAX } else { 1 + seed as usize / 2 % 3 };
    ShardOptions {
        id: ShardId(shard as u32),
        max_frame: 1 << 20,
        session_timeout_ms: (4000, 2_000_000),
        handshake_timeout_ms: 1_000_000,
        outstanding_limit: 1000,
        touch_interval_ms: 500,
        skip_acl: false,
        words: Vec::new(),
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles: Throttles { requests: RequestThrottle { max_requests, ..Default::default() }, ..Default::default() },
    }
}
