//! The simulated world, and its scheduler: a sequence of seeded choices of what happens next.

use super::client::{Client, Phase, Seen};
use super::clock::Clock;
use super::history::History;
use super::members::Ensemble;
use super::net::{Net, NodeId};
use super::node::{Node, NodeOptions};
use super::options::{self, Crew, Options, Summary};
use super::process::{Process, Proposed, Reached};
use super::requests::{self, Asked};
use super::swarm::Swarm;
use super::trace::Trace;
use crate::oracle::server_model::ModelOp;
use crate::types::{ConnId, Epoch, SessionId, Zxid, path};

/// Within this many turns the peer core must have handled everything that has arrived, however small its bursts are.
const MOST_TURNS: usize = 10_000;

/// `tickTime` of a server that is alone, in milliseconds.
const TICK_MS: i32 = 1000;

/// Random choices in a world of one server.
const ALONE_STEPS: u64 = 3000;

/// Random choices in a world of members, at most, for each of them.
const MEMBER_STEPS: u64 = 3000;

/// The whole world.
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) net: Net,
    pub(super) nodes: Vec<Node>,
    /// What several servers have with each other.
    pub(super) ensemble: Option<Ensemble>,
    pub(super) swarm: Swarm,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) summary: Summary,
    /// No more faults occur.
    pub(super) calm: bool,
    /// Some requests carry large values.
    big: bool,
    /// No more clients connect.
    pub(super) over: bool,
    /// True time in milliseconds.
    pub(super) now_ms: i64,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut trace = Trace::new(options.verbose);
        let crew = options.crew.unwrap_or_else(|| Crew::random(&mut rng));
        let ensemble = (!crew.is_alone()).then(|| Ensemble::new(crew, &mut rng));
        let swarm = if ensemble.is_some() { Swarm::random(&mut rng) } else { Swarm::alone() };
        let tick_ms = if ensemble.is_some() { options::TICK_MS } else { TICK_MS };
        trace.line(format_args!("seed {seed} {crew:?} {swarm:?}"));
        let count = ensemble.as_ref().map_or(1, |ensemble| ensemble.members.len());
        let nodes: Vec<Node> = (0..count)
            .map(|n| {
                let mut node = NodeOptions::random(tick_ms, &mut rng);
                node.autocreate = ensemble.is_none() || rng.bool();
                trace.line(format_args!("seed {seed} {node:?}"));
                let clock = Clock::new(if ensemble.is_some() { rng.i64(-20..=20) } else { 0 });
                let member = ensemble.as_ref().map(|ensemble| ensemble.options(n));
                let local = ensemble.as_ref().and_then(|ensemble| ensemble.local);
                Node::new(NodeId(n as u32), clock, node, (member, local), options.lie_about_syncs)
            })
            .collect();
        let big = rng.u32(..8) == 0;
        let clients = (0..rng.usize(2..6)).map(|i| Client::new(i, &mut rng)).collect();
        let has_local = ensemble.as_ref().is_some_and(|ensemble| ensemble.local.is_some());
        let mut history = History::new(ensemble.is_some(), has_local, tick_ms);
        history.throttled = nodes.iter().any(|node| node.options.outstanding_limit < 100);
        let (net, summary) = (Net::default(), Summary::default());
        let (calm, over, now_ms) = (false, false, 0);
        World { rng, net, nodes, ensemble, swarm, clients, history, trace, summary, calm, over, big, now_ms }
    }

    /// Runs the world to the end.
    pub(super) fn run(&mut self, options: Options) -> Result<Summary, String> {
        for step in 0..self.steps(options) {
            self.step()?;
            // Members check themselves in their turns too, and this walks through large tables.
            if self.ensemble.is_none() || step % 512 == 0 {
                self.check();
            }
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
            dropped: self.history.dropped() as u64,
            replies: seen.replies,
            events: seen.events,
            sessions: seen.sessions,
            expired: seen.expired,
            ..self.summary
        })
    }

    /// How many random choices this world is given.
    fn steps(&mut self, options: Options) -> u64 {
        let each = match &self.ensemble {
            None => ALONE_STEPS,
            Some(_) => self.rng.u64(400..MEMBER_STEPS),
        };
        options.steps.unwrap_or(each) * self.nodes.len() as u64
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let n = self.rng.usize(..self.nodes.len());
        if self.nodes[n].process.is_none() && self.rng.u32(..10) == 0 {
            return self.boot(n);
        }
        if self.ensemble.is_some() {
            return self.member_step(n);
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
    pub(super) fn client_step(&mut self) -> Result<(), String> {
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
                        // Members fill this znode without a transaction, so the history does not know it.
                        if self.ensemble.is_none() || !asked.names(path::CONFIG) {
                            self.ask(c, asked);
                        }
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
        self.trace.line(format_args!(
            "client {c} opens connection {id:?} to server {n} with session {}",
            self.clients[c].session
        ));
        self.send_up(id, &bytes);
    }

    pub(super) fn ask(&mut self, c: usize, asked: Asked) {
        let Some((_, id)) = self.clients[c].link else { return };
        self.trace.line(format_args!("client {c} sends {asked:?}"));
        let floor = self.floor(&asked, c);
        let bytes = self.clients[c].ask(asked, &mut self.history);
        floor.into_iter().for_each(|(epoch, committed)| self.clients[c].expects(epoch, committed));
        self.send_up(id, &bytes);
    }

    /// What a sync must show: what was committed when it was sent to a member that serves in the newest epoch.
    fn floor(&self, asked: &Asked, c: usize) -> Option<(Epoch, Zxid)> {
        let (ensemble, newest) = self.ensemble.as_ref().zip(self.history.newest_epoch())?;
        let (NodeId(n), _) = self.clients[c].link.filter(|_| matches!(asked, Asked::Sync { .. }))?;
        let member = &ensemble.members[n as usize];
        let is_newest = member.leads.map_or(member.current == newest, |leads| leads == newest);
        let serves = self.nodes[n as usize].process.as_ref().is_some_and(Process::is_serving);
        (is_newest && serves).then(|| (newest, self.history.last()))
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
        // Of a machine without power the client hears nothing. It waits for a while.
        let waits = link.half_open && !self.calm && self.rng.u32(..40) > 0;
        let ended = link.down.is_empty() && !link.server_open && !waits;
        if !bytes.is_empty() {
            self.trace.line(format_args!("client {c} receives {n} bytes"));
            self.trace.bytes(&bytes);
            let before = self.clients[c].session;
            let answer = self.clients[c].receive(&bytes, &mut self.history).map_err(|e| format!("client {c}: {e}"))?;
            let after = self.clients[c].session;
            if after != before && after != SessionId::NONE {
                self.trace.line(format_args!("client {c} has session {after}"));
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

    pub(super) fn shard_step(&mut self, n: usize) -> Result<(), String> {
        let Some(process) = &self.nodes[n].process else { return Ok(()) };
        let shard = self.rng.usize(..process.shards());
        self.shard_turn(n, shard, false)
    }

    /// One turn of a shard with input from its sockets: everything if `all` is set, else some of it.
    pub(super) fn shard_turn(&mut self, n: usize, shard: usize, all: bool) -> Result<(), String> {
        self.arrive(n, shard, all);
        let now = self.nodes[n].clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let turn = process.shard_turn(shard, now);
        for (id, bytes) in turn.sent {
            if let Some(link) = self.net.get(id).filter(|l| l.client_open) {
                link.down.extend_from_slice(&bytes);
            }
            self.trace.line(format_args!("shard {shard} of server {n} sends {} bytes on {id:?}", bytes.len()));
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
        let now = self.nodes[n].clock.now();
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
        let now = self.nodes[n].clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let before = process.tree().last_zxid();
        let proposed = process.peer_turn(now, reached);
        let (last, digest) = (process.tree().last_zxid(), process.tree().digest());
        let told = std::mem::take(&mut process.snapshots_told);
        if self.ensemble.is_some() {
            self.member_did(n, &proposed)?;
        } else {
            self.proposed(n, &proposed)?;
        }
        for answer in told {
            self.snapshot_told(n, &answer)?;
        }
        if last != before {
            self.trace.line(format_args!("server {n} applied up to {last}, digest {digest:#x}"));
            if digest != self.history.digest_after(last)? && !self.history.is_blurred(last) {
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

    fn proposed(&mut self, n: usize, proposed: &[Proposed]) -> Result<(), String> {
        for p in proposed {
            let now = self.nodes[n].clock.now();
            self.history.propose(p, self.history.last(), now)?;
            self.note_proposal(n, p);
        }
        Ok(())
    }

    /// A new proposal is in the history.
    pub(super) fn note_proposal(&mut self, n: usize, p: &Proposed) {
        self.trace.line(format_args!("server {n} proposes {} for {:?}", p.append.zxid, p.cause));
        self.trace.bytes(&p.append.payload);
        if let Some(session) = self.history.creates(p.append.zxid) {
            self.history.heard(session, self.nodes[n].clock.now());
        }
    }

    pub(super) fn log_step(&mut self, n: usize) -> Result<(), String> {
        let sync_ms = if self.calm || self.rng.u32(..8) > 0 { 0 } else { self.rng.i64(1..400) };
        let node = &mut self.nodes[n];
        let now = node.clock.now();
        let Some(process) = &mut node.process else { return Ok(()) };
        let outcome = process.log_step(now, sync_ms);
        node.syncs.append(&mut process.synced);
        if process.replaced.is_some() {
            node.syncs.clear();
        }
        // The next record overwrites the end mark. A crash that tears that record also removes the mark.
        node.marked = match (&outcome, process.marked()) {
            (Ok(()), Some(zxid)) => zxid,
            _ => Zxid::ZERO,
        };
        self.log_did(n, outcome.is_ok());
        self.after_disk(n, "log", outcome)
    }

    pub(super) fn snapshot_step(&mut self, n: usize) -> Result<(), String> {
        let now = self.nodes[n].clock.now();
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let outcome = process.snapshot_step(now);
        if let Ok(Some(zxid)) = outcome {
            self.summary.snapshots += 1;
            self.snapshot_did(n, zxid);
        }
        if let Ok(done) = outcome {
            self.blur(n, done);
        }
        self.after_disk(n, "snapshot", outcome.map(drop))
    }

    pub(super) fn time_step(&mut self, n: usize) -> Result<(), String> {
        let ms = match self.rng.u32(..400) {
            // The process is stopped for a while, or the machine is suspended.
            0 if !self.calm => self.rng.i64(1000..30_000),
            1..=20 => self.rng.i64(20..700),
            21..=60 => {
                let until = self.nodes[n].process.as_ref().and_then(Process::deadline);
                until.map_or(1, |at| (at - self.nodes[n].clock.now().mono_ms).clamp(0, 400))
            }
            _ => self.rng.i64(0..12),
        };
        self.advance(ms);
        if ms > 12 {
            self.trace.line(format_args!("{ms} ms pass"));
        }
        self.clocks(n)
    }

    pub(super) fn advance(&mut self, ms: i64) {
        self.nodes.iter_mut().for_each(|node| node.clock.advance(ms));
        self.now_ms += ms;
    }

    /// Timers. In a core's loop the peer's timer is handled after everything that has arrived.
    pub(super) fn clocks(&mut self, n: usize) -> Result<(), String> {
        let now = self.nodes[n].clock.now();
        self.mesh_tick(n, self.nodes[n].clock);
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
}

/// How many of `len` bytes arrive: usually all.
fn piece(rng: &mut fastrand::Rng, len: usize) -> usize {
    if rng.u32(..4) == 0 { rng.usize(..=len) } else { len }
}
