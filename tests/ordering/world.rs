//! The shipped turns of shards and a peer, and a log that syncs when the scheduler chooses.

use super::client::{Ask, Client, PATHS};
use super::judge::{History, judge};
use std::collections::VecDeque;
use std::sync::Arc;
use zabra::jute::Reader;
use zabra::oracle::memory::{Mail, MemorySockets, MemoryTree};
use zabra::peer::turn::{Bounds, PeerTurn, Streams, TreeAccess};
use zabra::peer::{self, Peer, PeerOptions};
use zabra::pipeline::messages::{Service, ToPeer, ToShard};
use zabra::pipeline::prep::PrepOptions;
use zabra::shard::Throttles;
use zabra::shard::request_throttler::RequestThrottle;
use zabra::shard::turn::{Letter, ShardTurn};
use zabra::shard::{Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use zabra::types::{ConnId, Cxid, Now, Op, ServerId, SessionId, ShardId, Term, Zxid};
use zabra::watch::{Interest, WatchTable};

pub struct World {
    rng: fastrand::Rng,
    now: Now,
    tree: MemoryTree,
    mail: Mail,
    shards: Vec<ShardTurn>,
    sockets: Vec<MemorySockets>,
    peer: PeerTurn,
    bounds: Bounds,
    /// The newest zxid in the log, and whether its sync is still to be reported.
    appended: Zxid,
    synced: bool,
    clients: Vec<Client>,
    /// The newest zxid that any client has been told.
    known: Zxid,
    history: History,
    /// Breaks rule S3a, to show that the judge notices.
    pub ignore_behind_read: bool,
}

impl World {
    pub fn new(seed: u64, shards: usize) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bounds = bounds(&mut rng);
        let clients = (0..rng.usize(2..5))
            .map(|i| {
                let script = (0..rng.usize(3..14)).map(|_| random_op(&mut rng)).collect();
                Client::new(ConnId(i as u64 + 1), rng.usize(..shards), script)
            })
            .collect();
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000, mono_ns: 1_000_000_000 };
        let mut tree = Tree::new(TreeOptions::default());
        for (i, path) in PATHS.iter().enumerate() {
            let zxid = Zxid(i as i64 + 1);
            let h = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: Op::CREATE };
            let kind = CreateKind::Plain { ephemeral: false };
            let data = Some(bytes::Bytes::from_static(b"value"));
            let create = CreateTxn { path: (*path).into(), data, acl: None, kind, parent_cversion: i as i32 + 1 };
            assert_eq!(tree.apply(&h, &Txn::Create(create), &mut |_| ()).err, 0);
        }
        let last = tree.last_zxid();
        let interest = Arc::new(Interest::new());
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: peer::SweepOptions { interval_ms: 0, max_per_minute: 1, max_never_used_ms: 0 },
            shards,
        };
        let peer = PeerTurn::new(Peer::new(options, &tree, &[], now), last, bounds);
        let table = |i| WatchTable::new(ShardId(i as u32), interest.clone());
        let shard = |i| ShardTurn::new(Shard::new(options_of(i, seed), table(i)));
        let mut mail = Mail::new(shards);
        if seed.is_multiple_of(3) {
            // As at the leader of an ensemble: syncs go through the peer core.
            (0..shards as u32).for_each(|i| mail.push(ShardId(i), ToShard::Serve(Service::Ensemble)));
        }
        World {
            now,
            shards: (0..shards).map(shard).collect(),
            sockets: (0..shards).map(|_| MemorySockets::default()).collect(),
            mail,
            known: last,
            appended: last,
            synced: false,
            history: History::from([(last, [Zxid(1), Zxid(2)])]),
            rng,
            tree: MemoryTree::new(tree, shards, interest.clone()),
            peer,
            bounds,
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
        for _ in 0..100_000 {
            self.step();
            if self.is_done() {
                return self
                    .clients
                    .iter()
                    .try_for_each(|c| judge(c, &self.history).map_err(|e| format!("{:?}: {e}", c.conn)));
            }
        }
        Err("it never ends".into())
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|c| c.accepted && c.wire.is_empty() && c.sent == c.script.len())
            && !self.mail.is_for_peer()
            && self.mail.shards.iter().all(|mail| mail.letters.is_empty())
            && self.peer.peer().is_idle()
            && self.shards.iter().all(|s| !s.shard().has_ready())
    }

    fn step(&mut self) {
        match self.rng.u8(..4) {
            0 => {
                let c = self.rng.usize(..self.clients.len());
                let client = &mut self.clients[c];
                if client.sent < client.script.len() {
                    client.send(self.known);
                }
            }
            1 => self.shard_turn(),
            2 => self.peer_turn(),
            _ => self.synced = true,
        }
        self.peer.check(&self.tree.read());
        self.shards.iter().for_each(ShardTurn::check);
    }

    fn shard_turn(&mut self) {
        let number = self.rng.usize(..self.shards.len());
        self.arrive(number);
        let World { shards, sockets, mail, tree, clients, now, known, .. } = self;
        let sockets = &mut sockets[number];
        shards[number].turn(*now, tree.read(), sockets, &mut mail.of_shard(ShardId(number as u32), tree));
        assert!(sockets.take_ended().is_empty(), "a connection was ended");
        for conn in sockets.conns() {
            assert!(!conn.paused && !conn.wants_writable, "{:?} has nothing queued", conn.id);
            let client = clients.iter_mut().find(|c| c.conn == conn.id).expect("every connection is a client's");
            client.inbox.append(&mut conn.out);
            client.read();
            let stamps = client.got.iter().map(|got| got.zxid());
            *known = stamps.fold(*known, Zxid::max);
        }
    }

    /// Some of what the clients of a shard have sent arrives.
    fn arrive(&mut self, shard: usize) {
        let World { sockets, clients, rng, .. } = self;
        for client in clients.iter_mut().filter(|c| c.shard == shard) {
            if !std::mem::replace(&mut client.accepted, true) {
                sockets[shard].accept(client.conn, ([127, 0, 0, 1], 1000).into());
            }
            if !client.wire.is_empty() && rng.bool() {
                let n = rng.usize(1..=client.wire.len());
                sockets[shard].data(client.conn, client.wire.drain(..n).collect());
            }
        }
    }

    fn peer_turn(&mut self) {
        self.reach();
        let World { peer, bounds, tree, mail, appended, history, now, .. } = self;
        peer.turn(*now, tree, mail);
        for append in mail.appended.drain(..).flat_map(|burst| burst.appends) {
            *appended = append.zxid;
            remember(history, &append.payload);
        }
        let room = bounds.stream_high_water - 1 + bounds.apply_burst;
        let entries = |letters: &VecDeque<Letter>| {
            letters.iter().filter(|letter| matches!(letter, Letter::Stream(ToShard::Applied(_)))).count()
        };
        assert!(mail.shards.iter().all(|shard| entries(&shard.letters) <= room), "a stream holds more than {room}");
        assert!(mail.snapshot.is_empty() && mail.snapshot_answers.is_empty(), "nobody asked for a snapshot");
    }

    /// Some messages reach the peer, and the log reports its sync.
    fn reach(&mut self) {
        let World { mail, rng, .. } = self;
        if std::mem::take(&mut self.synced) {
            let zxid = self.appended;
            mail.told.push_back(peer::Input::Synced {
                term: Term::default(),
                zxid,
                sync_ns: 1,
                records: 1,
                slow: false,
            });
        }
        for _ in 0..rng.usize(0..5) {
            let shard = rng.usize(..mail.shards.len());
            let Some(mut message) = mail.shards[shard].submitted.pop_front() else { continue };
            if let peer::Input::FromShard(ToPeer::Write { behind_read, .. }) = &mut message {
                *behind_read &= !self.ignore_behind_read;
            }
            mail.inbox.push_back(message);
        }
    }
}

/// Records what a proposal will make of the two znodes.
fn remember(history: &mut History, payload: &[u8]) {
    let r = &mut Reader::new(payload);
    let header = TxnHeader::read(r).unwrap();
    let mut state = history.values().next_back().copied().unwrap();
    let subs = match Txn::read(header.op, r).unwrap() {
        Txn::Multi(subs) => subs.into_iter().map(|s| s.txn).collect(),
        txn => vec![txn],
    };
    for txn in subs {
        if let Txn::SetData { path, .. } = txn {
            state[PATHS.iter().position(|p| *p == path).unwrap()] = header.zxid;
        }
    }
    history.insert(header.zxid, state);
}

/// Small limits in half of the worlds.
fn bounds(rng: &mut fastrand::Rng) -> Bounds {
    if rng.bool() {
        return Bounds::default();
    }
    Bounds {
        submit_burst: rng.usize(1..4),
        append_burst: rng.usize(1..4),
        apply_burst: rng.usize(1..4),
        stream_high_water: rng.usize(1..4),
    }
}

fn random_op(rng: &mut fastrand::Rng) -> Ask {
    match rng.u8(..8) {
        0 | 1 => Ask::Set(rng.usize(..2)),
        2 => Ask::SetBoth,
        3 | 4 => Ask::Get(rng.usize(..2), true),
        5 => Ask::Get(rng.usize(..2), false),
        6 => Ask::Sync,
        _ => Ask::GetBoth,
    }
}

fn options_of(shard: usize, seed: u64) -> ShardOptions {
    // In every second world there is little room in the pipeline.
    let max_requests = if seed.is_multiple_of(2) { usize::MAX } else { 1 + seed as usize / 2 % 3 };
    ShardOptions {
        id: ShardId(shard as u32),
        max_frame: 1 << 20,
        session_timeout_ms: (4000, 2_000_000),
        handshake_timeout_ms: 1_000_000,
        outstanding_limit: 1000,
        touch_interval_ms: 500,
        bounds: Default::default(),
        skip_acl: false,
        words: Vec::new(),
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles: Throttles { requests: RequestThrottle { max_requests, ..Default::default() }, ..Default::default() },
    }
}
