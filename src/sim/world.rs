//! The simulated world, and its scheduler: a sequence of seeded choices of what happens next.

use super::client::{Client, Phase, Seen};
use super::clock::Clock;
use super::history::History;
use super::net::{Net, NodeId};
use super::node::{Node, NodeOptions};
use super::process::{Process, Proposed, Reached};
use super::requests::{self, Asked};
use super::trace::Trace;
use crate::oracle::server_model::ModelOp;
use crate::types::{ConnId, SessionId, Zxid};

/// Within this many turns the peer core must have handled everything that has arrived, however small its bursts are.
const MOST_TURNS: usize = 10_000;

/// Options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of random choices before the world is brought to rest.
    pub steps: u64,
    /// Print every event.
    pub verbose: bool,
    /// The log thread reports syncs that it did not do: a test that the simulator notices.
    pub lie_about_syncs: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { steps: 3000, verbose: false, lie_about_syncs: false }
    }
}

/// Counts of what happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Summary {
    /// The hash of all events, in order.
    pub hash: u64,
    pub txns: u64,
    pub replies: u64,
    pub events: u64,
    pub sessions: u64,
    pub expired: u64,
    /// Starts of the server process after the first.
    pub restarts: u64,
    /// Snapshots, then files removed by the purge, faults that occurred, and recoveries from copied disks that were
    /// checked.
    pub snapshots: u64,
    pub purged: u64,
    pub faults: u64,
    pub peeks: u64,
    /// Snapshots that administrators asked for and were told to be durable.
    pub asked: u64,
}

/// The whole world. It is written for several servers; today there is one.
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) clock: Clock,
    pub(super) net: Net,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) summary: Summary,
    /// The last durable zxid of each sync, newest last.
    pub(super) syncs: Vec<Zxid>,
    /// The last zxid of the log while an end mark follows it, else zero.
    pub(super) marked: Zxid,
    /// No more faults occur.
    pub(super) calm: bool,
    /// Some requests carry large values.
    big: bool,
    /// No more clients connect.
    over: bool,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let node = NodeOptions::random(&mut rng);
        let mut trace = Trace::new(options.verbose);
        trace.line(format_args!("seed {seed} {node:?}"));
        let big = rng.u32(..8) == 0;
        let clients = (0..rng.usize(2..6)).map(|i| Client::new(i, &mut rng)).collect();
        let mut history = History::default();
        history.throttled = node.outstanding_limit < 100;
        World {
            rng,
            clock: Clock::default(),
            net: Net::default(),
            nodes: vec![Node::new(NodeId(0), node, options.lie_about_syncs)],
            clients,
            history,
            trace,
            summary: Summary::default(),
            syncs: Vec::new(),
            marked: Zxid::ZERO,
            calm: false,
            over: false,
            big,
        }
    }

    /// Runs the world to the end.
    pub(super) fn run(&mut self, options: Options) -> Result<Summary, String> {
        for _ in 0..options.steps {
            self.step()?;
            self.check();
        }
        self.come_to_rest()?;
        let seen: Seen = self.clients.iter().fold(Seen::default(), |a, c| Seen {
            replies: a.replies + c.counts.replies,
            events: a.events + c.counts.events,
            sessions: a.sessions + c.counts.sessions,
            expired: a.expired + c.counts.expired,
        });
        Ok(Summary {
            hash: self.trace.hash(),
            txns: self.history.count() as u64,
            replies: seen.replies,
            events: seen.events,
            sessions: seen.sessions,
            expired: seen.expired,
            ..self.summary
        })
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let n = self.rng.usize(..self.nodes.len());
        if self.nodes[n].process.is_none() && self.rng.u32(..10) == 0 {
            return self.boot(n);
        }
        match self.rng.u32(..100) {
            0..22 => self.client_step(),
            22..40 => self.shard_step(n),
            40..70 => self.peer_turn(n, Reached::Some),
            70..82 => self.log_step(n),
            82..86 => self.snapshot_step(n),
            86..98 => self.time_step(n),
            _ => self.trouble(n),
        }
    }

    /// A client does something, or receives something.
    fn client_step(&mut self) -> Result<(), String> {
        let c = self.rng.usize(..self.clients.len());
        if self.rng.bool() {
            return self.deliver(c, None);
        }
        let client = &mut self.clients[c];
        match client.phase {
            Phase::Down => {
                if let Some((_, link)) = client.link.take() {
                    self.net.client_closes(link);
                    client.disconnected();
                }
                self.connect(c);
            }
            Phase::Connecting | Phase::Closing => {}
            Phase::Open => match self.rng.u32(..150) {
                0 => self.ask(c, Asked::Write(ModelOp::CloseSession)),
                1 | 2 => self.leave(c),
                3..=8 => self.ask(c, Asked::Ping),
                _ if self.clients[c].pending() < 8 => {
                    for _ in 0..self.rng.u32(1..4) {
                        let asked = requests::random(&mut self.rng, self.big);
                        self.ask(c, asked);
                    }
                }
                _ => {}
            },
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, c: usize) {
        let n = self.rng.usize(..self.nodes.len());
        let Some(process) = &self.nodes[n].process else { return };
        let shard = self.rng.usize(..process.shards());
        let node = self.nodes[n].id;
        let id = self.net.connect(c, node, shard);
        let bytes = self.clients[c].connect(node, id, self.history.boots());
        self.trace.line(format_args!("client {c} opens connection {id:?} with session {}", self.clients[c].session));
        self.send_up(id, &bytes);
    }

    pub(super) fn ask(&mut self, c: usize, asked: Asked) {
        let Some((_, id)) = self.clients[c].link else { return };
        self.trace.line(format_args!("client {c} sends {asked:?}"));
        let bytes = self.clients[c].ask(asked, &mut self.history);
        self.send_up(id, &bytes);
    }

    fn send_up(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(link) = self.net.get(id).filter(|l| l.server_open) {
            link.up.extend_from_slice(bytes);
        }
    }

    /// The client drops its connection. The server may learn of it much later, after everything that was still on its
    /// way.
    pub(super) fn leave(&mut self, c: usize) {
        let Some((_, id)) = self.clients[c].link else { return };
        if let Some(link) = self.net.get(id) {
            let left = self.rng.usize(..=link.up.len());
            link.up.truncate(left);
        }
        self.trace.line(format_args!("client {c} drops connection {id:?}"));
        self.net.client_closes(id);
        self.clients[c].disconnected();
    }

    /// Delivers bytes to a client, at most `most`.
    pub(super) fn deliver(&mut self, c: usize, most: Option<usize>) -> Result<(), String> {
        let Some((_, id)) = self.clients[c].link else { return Ok(()) };
        let Some(link) = self.net.get(id) else { return Ok(()) };
        let len = link.down.len();
        let n = most.unwrap_or_else(|| piece(&mut self.rng, len)).min(len);
        let bytes: Vec<u8> = link.down.drain(..n).collect();
        let ended = link.down.is_empty() && !link.server_open;
        if !bytes.is_empty() {
            self.trace.line(format_args!("client {c} receives {n} bytes"));
            self.trace.bytes(&bytes);
            let before = self.clients[c].session;
            let answer = self.clients[c].receive(&bytes, &mut self.history).map_err(|e| format!("client {c}: {e}"))?;
            let after = self.clients[c].session;
            if after != before && after != SessionId::NONE {
                let now = self.clock.now();
                self.trace.line(format_args!("client {c} has session {after} at {now:?}"));
            }
            self.send_up(id, &answer);
        }
        if ended {
            self.trace.line(format_args!("client {c} finds connection {id:?} closed"));
            self.net.client_closes(id);
            self.clients[c].disconnected();
        }
        Ok(())
    }

    fn shard_step(&mut self, n: usize) -> Result<(), String> {
        let Some(process) = &self.nodes[n].process else { return Ok(()) };
        let shard = self.rng.usize(..process.shards());
        self.shard_turn(n, shard, false)
    }

    /// One turn of a shard with input from its sockets: everything if `all` is set, else some of it.
    pub(super) fn shard_turn(&mut self, n: usize, shard: usize, all: bool) -> Result<(), String> {
        self.arrive(n, shard, all);
        let now = self.clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let turn = process.shard_turn(shard, now);
        for (id, bytes) in turn.sent {
            if let Some(link) = self.net.get(id).filter(|l| l.client_open) {
                link.down.extend_from_slice(&bytes);
            }
            self.trace.line(format_args!("shard {shard} sends {} bytes on {id:?}", bytes.len()));
            self.trace.bytes(&bytes);
        }
        for id in turn.closed {
            self.trace.line(format_args!("shard {shard} closes {id:?}"));
            self.net.server_closes(id);
        }
        Ok(())
    }

    /// What is under way reaches a shard's end of its connections.
    fn arrive(&mut self, n: usize, shard: usize, all: bool) {
        let now = self.clock.now();
        let node = self.nodes[n].id;
        let Some(process) = &mut self.nodes[n].process else { return };
        let sockets = process.sockets(shard);
        for id in self.net.of_shard(node, shard) {
            let Some(link) = self.net.get(id) else { continue };
            if let Some(conn) = sockets.conn(id) {
                conn.untaken = link.down.len();
            }
            if !all && self.rng.u32(..4) == 0 {
                continue;
            }
            if !link.accepted {
                link.accepted = true;
                sockets.accept(id, ([127, 0, 0, 1], 40_000).into());
            }
            if sockets.conn(id).is_some_and(|conn| conn.paused) {
                continue;
            }
            if link.up.is_empty() && !link.client_open {
                // Half of the clients close properly: the shard sees the end of the stream and closes too. The others
                // just vanish.
                if id.0 % 2 == 0 {
                    sockets.eof(id);
                } else {
                    sockets.gone(id);
                    self.net.server_closes(id);
                }
                continue;
            }
            let n = if all { link.up.len() } else { piece(&mut self.rng, link.up.len()) };
            if n > 0 {
                link.received += n as u64;
                let (client, received, open) = (link.client, link.received, link.client_open);
                sockets.data(id, link.up.drain(..n).collect());
                let c = &mut self.clients[client];
                if c.was_heard(received) && open {
                    self.trace.line(format_args!("session {} is touched at {}", c.session, now.mono_ms));
                    self.history.heard(c.session, now);
                }
            }
        }
    }

    /// One turn of the peer core: checks what it proposed, then what it applied.
    pub(super) fn peer_turn(&mut self, n: usize, reached: Reached) -> Result<(), String> {
        let now = self.clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let before = process.tree().last_zxid();
        let proposed = process.peer_turn(now, reached);
        let (last, digest) = (process.tree().last_zxid(), process.tree().digest());
        let told = std::mem::take(&mut process.snapshots_told);
        self.proposed(&proposed)?;
        for answer in told {
            self.snapshot_told(n, &answer)?;
        }
        if last > before {
            self.trace.line(format_args!("applied up to {last}, digest {digest:#x}"));
            if digest != self.history.digest(last) {
                return Err(format!("the tree at {last} has digest {digest:#x}, the naive tree another"));
            }
        }
        Ok(())
    }

    fn check(&self) {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                process.check();
            }
        }
    }

    pub(super) fn proposed(&mut self, proposed: &[Proposed]) -> Result<(), String> {
        let now = self.clock.now();
        for p in proposed {
            self.trace.line(format_args!("the peer proposes {} for {:?}", p.append.zxid, p.cause));
            self.trace.bytes(&p.append.payload);
            self.history.propose(p, now)?;
            if let Ok(e) = self.history.entry(p.append.zxid)
                && matches!(e.txn, crate::txn::Txn::CreateSession { .. })
            {
                let session = e.header.session;
                self.history.heard(session, now);
            }
        }
        Ok(())
    }

    pub(super) fn log_step(&mut self, n: usize) -> Result<(), String> {
        let sync_ms = if self.calm || self.rng.u32(..8) > 0 { 0 } else { self.rng.i64(1..400) };
        let now = self.clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let outcome = process.log_step(now, sync_ms);
        self.syncs.append(&mut process.synced);
        // The next record overwrites the end mark. A crash that tears that record also removes the mark.
        self.marked = match (&outcome, process.marked()) {
            (Ok(()), Some(zxid)) => zxid,
            _ => Zxid::ZERO,
        };
        self.after_disk(n, "log", outcome)
    }

    pub(super) fn snapshot_step(&mut self, n: usize) -> Result<(), String> {
        let now = self.clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let outcome = process.snapshot_step(now);
        if let Ok(true) = outcome {
            self.summary.snapshots += 1;
        }
        self.after_disk(n, "snapshot", outcome.map(drop))
    }

    fn time_step(&mut self, n: usize) -> Result<(), String> {
        let ms = match self.rng.u32(..400) {
            // The process is stopped for a while, or the machine is suspended.
            0 if !self.calm => self.rng.i64(1000..30_000),
            1..=20 => self.rng.i64(20..700),
            21..=60 => {
                let until = self.nodes[n].process.as_ref().and_then(Process::deadline);
                until.map_or(1, |at| (at - self.clock.now().mono_ms).clamp(0, 400))
            }
            _ => self.rng.i64(0..12),
        };
        self.clock.advance(ms);
        if ms > 12 {
            self.trace.line(format_args!("{ms} ms pass"));
        }
        self.clocks(n)
    }

    /// Timers. In a core's loop the peer's timer is handled after everything that has arrived.
    pub(super) fn clocks(&mut self, n: usize) -> Result<(), String> {
        let now = self.clock.now();
        for shard in 0..self.nodes[n].process.as_ref().map_or(0, Process::shards) {
            let due = self.nodes[n].process.as_ref().is_some_and(|p| p.is_due(shard, now));
            if due {
                self.shard_turn(n, shard, false)?;
            }
        }
        for _ in 0..MOST_TURNS {
            if self.nodes[n].process.as_ref().is_none_or(|p| !p.peer_is_due(now)) {
                return Ok(());
            }
            self.peer_turn(n, Reached::All)?;
        }
        Err(format!("the peer core's clock stands still at {now:?}"))
    }

    /// Brings the world to rest: no more faults and no new requests. Every request is answered, every event delivered,
    /// and every session of a client that has left ends.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.calm = true;
        self.trace.line(format_args!("no more faults: everything must be finished now"));
        self.nodes.iter().for_each(|n| {
            n.disks().into_iter().for_each(|d| d.fault_at(u64::MAX, crate::oracle::test_disk::Fault::Crash, 0))
        });
        self.settle("rest")?;
        // A session that expires while the others are answered may add to it.
        let last = self.history.last();
        for c in 0..self.clients.len() {
            self.ask(c, Asked::Sync { path: "/".into() });
        }
        self.settle("last words")?;
        if let Some(c) = self.clients.iter().position(|c| c.phase == Phase::Open && c.at() < last) {
            return Err(format!("client {c} was told up to {}, the history ends at {last}", self.clients[c].at()));
        }
        self.over = true;
        (0..self.clients.len()).for_each(|c| self.leave(c));
        for _ in 0..200 {
            self.clock.advance(200);
            self.everybody()?;
        }
        let (last, open) = (self.history.last(), self.history.sessions(self.history.last()));
        if !open.is_empty() {
            return Err(format!("sessions {open:?} never expire"));
        }
        // The last closeSession may just have been proposed.
        self.settle("expiries")?;
        self.peek(0, last)
    }

    /// Lets everybody work until nothing is left to do.
    fn settle(&mut self, what: &str) -> Result<(), String> {
        for _ in 0..2000 {
            self.clock.advance(1);
            self.everybody()?;
            let served = |c: &Client| self.over || c.phase == Phase::Open && c.pending() == 0;
            let idle = self.nodes.iter().all(|n| n.process.as_ref().is_some_and(Process::is_idle));
            if idle && self.net.is_quiet() && self.clients.iter().all(served) {
                return Ok(());
            }
        }
        let phases: Vec<_> = self.clients.iter().map(|c| (c.phase, c.pending())).collect();
        Err(format!("{what} never comes: clients {phases:?}"))
    }

    fn everybody(&mut self) -> Result<(), String> {
        for n in 0..self.nodes.len() {
            if self.nodes[n].process.is_none() {
                self.boot(n)?;
            }
            let shards = self.nodes[n].process.as_ref().map_or(0, Process::shards);
            for shard in 0..shards {
                self.shard_turn(n, shard, true)?;
            }
            for _ in 0..8 {
                self.peer_turn(n, Reached::All)?;
                self.log_step(n)?;
                self.snapshot_step(n)?;
            }
            self.clocks(n)?;
        }
        for c in 0..self.clients.len() {
            self.deliver(c, Some(usize::MAX))?;
            if self.clients[c].phase == Phase::Down && self.clients[c].link.is_none() && !self.over {
                self.connect(c);
            }
        }
        Ok(())
    }
}

/// How many of `len` bytes arrive: usually all.
fn piece(rng: &mut fastrand::Rng, len: usize) -> usize {
    if rng.u32(..4) == 0 { rng.usize(..=len) } else { len }
}
