//! Many random terms of several leaders at a time, under the eyes of a judge.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::election::electorate;
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::Electorate;
use zabra::zab::leader::{History, Introduction, Leader, LeaderOptions, Want};

/// A transaction: its zxid, and the leader's term that proposed it, which stands for its content.
type Txn = (Zxid, u32);

/// What a leader's side sends to a learner.
enum Down {
    LeaderInfo(Epoch),
    /// The history that the learner's is replaced by.
    History(Vec<Txn>),
    Proposal(Txn),
    NewLeader(Epoch),
    UpToDate,
}

/// What a learner sends.
enum Up {
    Info(Epoch),
    EpochAck(Option<Epoch>, Zxid),
    Ack(Zxid),
    Sync,
    Closed,
}

/// A connection, which may be closed at one end only.
struct Link {
    leader: usize,
    learner: usize,
    down: VecDeque<Down>,
    up: VecDeque<Up>,
    /// Gets every proposal.
    joined: bool,
}

/// A learner's state.
struct Learning {
    conn: u64,
    /// The history that is replaced at NEWLEADER.
    coming: Option<Vec<Txn>>,
    epoch: Epoch,
    up_to_date: bool,
    /// The acknowledged length of its log.
    acked: usize,
}

/// A leader's state.
struct Leading {
    machine: Leader,
    term: u32,
    saves: VecDeque<Want>,
    /// The wanted SyncDones that are still to come, by connection.
    syncs: BTreeMap<u64, u32>,
}

enum Job {
    Idle,
    Leads(Box<Leading>),
    Learns(Learning),
}

/// A server; what is in it but not in `job` survives a crash, except for the end of the log that is not durable.
struct Node {
    accepted: Epoch,
    current: Epoch,
    log: Vec<Txn>,
    durable: usize,
    job: Job,
}

/// What must never change.
#[derive(Default)]
struct Judge {
    /// Committed by anybody.
    committed: BTreeMap<Zxid, u32>,
    /// The leader of each epoch, and its history at the beginning.
    established: BTreeMap<Epoch, (usize, BTreeSet<Txn>)>,
    commits: u64,
    step_downs: u64,
    syncs: u64,
}

struct World {
    rng: fastrand::Rng,
    electorate: Electorate,
    voters: usize,
    nodes: Vec<Node>,
    links: BTreeMap<u64, Link>,
    next_conn: u64,
    terms: u32,
    now_ms: i64,
    judge: Judge,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let voters = if rng.bool() { 3 } else { 5 };
        let lines: Vec<_> = (1..=voters).map(|id| format!("server.{id}=h{id}:1:2")).collect();
        let node = || Node { accepted: Epoch(0), current: Epoch(0), log: vec![], durable: 0, job: Job::Idle };
        // One more is an observer, though no configuration has it.
        World {
            electorate: electorate(lines.iter().map(String::as_str)),
            voters,
            nodes: (0..=voters).map(|_| node()).collect(),
            links: BTreeMap::new(),
            next_conn: 0,
            terms: 0,
            now_ms: 0,
            judge: Judge::default(),
            rng,
        }
    }

    /// Calls the machine of a leader and does what it wants.
    fn lead(&mut self, at: usize, call: impl FnOnce(&mut Leader, &mut Vec<Want>)) {
        let Job::Leads(leading) = &mut self.nodes[at].job else { return };
        let (mut wants, before) = (Vec::new(), leading.machine.last_committed());
        call(&mut leading.machine, &mut wants);
        leading.machine.check();
        let mut committed = before;
        for want in wants {
            if let Want::Commit { upto } = &want {
                assert!(*upto > committed, "{upto} is committed behind {committed}");
                committed = *upto;
            }
            self.wanted(at, want);
        }
    }

    fn wanted(&mut self, at: usize, want: Want) {
        let Job::Leads(leading) = &mut self.nodes[at].job else { return };
        match want {
            Want::SaveAccepted(_) | Want::SaveCurrent(_) => leading.saves.push_back(want),
            Want::LeaderInfo { conn, epoch } => self.send(conn, Down::LeaderInfo(epoch)),
            Want::Synchronise { conn, observer, .. } => self.synchronise(at, conn, observer),
            Want::UpToDate { conn } => self.send(conn, Down::UpToDate),
            Want::Established(epoch) => self.established(at, epoch),
            Want::Commit { upto } => self.committed(at, upto),
            Want::SyncDone { conn, behind } => {
                let waiting = leading.syncs.get_mut(&conn.0).expect("a sync was asked for");
                *waiting = waiting.checked_sub(1).expect("a sync is answered twice");
                assert!(behind <= leading.machine.last_committed(), "a sync overtakes {behind}");
                self.judge.syncs += 1;
            }
            Want::Drop { conn, .. } => self.unlink(conn.0),
            Want::StepDown(_) => {
                self.judge.step_downs += 1;
                self.stop(at);
            }
            Want::Ping { .. } => {}
            Want::Activate { zxid, .. } => panic!("{zxid} is activated"),
        }
    }

    fn send(&mut self, conn: ConnId, down: Down) {
        if let Some(link) = self.links.get_mut(&conn.0) {
            link.down.push_back(down);
        }
    }

    /// The work of a handler, all in one step.
    fn synchronise(&mut self, at: usize, conn: ConnId, observer: bool) {
        let Job::Leads(leading) = &self.nodes[at].job else { return };
        let (committed, established) = (leading.machine.last_committed(), leading.machine.is_established());
        let epoch = leading.machine.epoch();
        let log = &self.nodes[at].log;
        let whole = log.iter().filter(|(zxid, _)| !established || *zxid <= committed).copied().collect::<Vec<_>>();
        let outstanding: Vec<_> = log[whole.len()..].iter().filter(|_| !observer).copied().collect();
        // What is outstanding may go before NEWLEADER or behind it.
        let before = self.rng.usize(..=outstanding.len());
        self.send(conn, Down::History(whole));
        outstanding[..before].iter().for_each(|txn| self.send(conn, Down::Proposal(*txn)));
        self.send(conn, Down::NewLeader(epoch));
        outstanding[before..].iter().for_each(|txn| self.send(conn, Down::Proposal(*txn)));
        if let Some(link) = self.links.get_mut(&conn.0) {
            link.joined = !observer;
        }
        self.lead(at, |machine, _| machine.new_leader_sent(conn));
    }

    /// A quorum of voters for which `has` is true.
    fn is_quorum(&self, has: impl Fn(&Node) -> bool) -> bool {
        let voters = self.electorate.members.voters();
        let having: BTreeSet<_> =
            (0..self.voters).filter(|n| has(&self.nodes[*n])).map(|n| ServerId(n as i64 + 1)).collect();
        assert_eq!(voters.len(), self.voters);
        self.electorate.members.contains_quorum(&having)
    }

    fn established(&mut self, at: usize, epoch: Epoch) {
        let history: BTreeSet<Txn> = self.nodes[at].log.iter().copied().collect();
        let before = self.judge.established.insert(epoch, (at, history.clone()));
        assert!(before.is_none(), "{epoch:?} is established twice, by {before:?} and {at}");
        // Who has gone on to a newer epoch had this one before.
        let has = |node: &Node| {
            let durable: BTreeSet<_> = node.log[..node.durable].iter().copied().collect();
            node.current > epoch || (node.current == epoch && durable.is_superset(&history))
        };
        assert!(self.is_quorum(has), "{epoch:?} is established without a quorum");
        for (zxid, term) in &self.judge.committed {
            assert!(zxid.epoch() >= epoch || history.contains(&(*zxid, *term)), "{epoch:?} lacks {zxid} of {term}");
        }
        // All of the history is committed now.
        history.iter().for_each(|txn| self.commit_one(epoch, *txn));
    }

    fn commit_one(&mut self, epoch: Epoch, txn: Txn) {
        let before = self.judge.committed.insert(txn.0, txn.1);
        assert!(
            before.is_none_or(|term| term == txn.1),
            "{} is committed with the content of {before:?} and {txn:?}",
            txn.0
        );
        for (later, (_, history)) in self.judge.established.range(Epoch(epoch.0 + 1)..) {
            assert!(history.contains(&txn), "{txn:?} is committed in {epoch:?}, but {later:?} began without it");
        }
    }

    fn committed(&mut self, at: usize, upto: Zxid) {
        let txns: Vec<Txn> = self.nodes[at].log.iter().filter(|(zxid, _)| *zxid <= upto).copied().collect();
        let last = *txns.last().expect("something is committed");
        assert_eq!(last.0, upto, "{upto} was never proposed");
        let has = |node: &Node| node.log[..node.durable].contains(&last);
        assert!(self.is_quorum(has), "{upto} is committed, but no quorum has it on its disk");
        txns.iter().for_each(|txn| self.commit_one(upto.epoch(), *txn));
        self.judge.commits += 1;
    }

    /// The leader's end of a connection goes.
    fn unlink(&mut self, conn: u64) {
        let Some(link) = self.links.remove(&conn) else { return };
        let node = &mut self.nodes[link.learner];
        if matches!(&node.job, Job::Learns(learning) if learning.conn == conn) {
            // Leaving a role waits for the log.
            node.durable = node.log.len();
            node.job = Job::Idle;
        }
        if let Job::Leads(leading) = &mut self.nodes[link.leader].job {
            leading.syncs.remove(&conn);
        }
    }

    /// A server stops what it does, without a loss.
    fn stop(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.durable = node.log.len();
        match std::mem::replace(&mut node.job, Job::Idle) {
            Job::Idle => {}
            Job::Leads(_) => {
                let conns: Vec<_> = self.links.iter().filter(|(_, l)| l.leader == at).map(|(conn, _)| *conn).collect();
                conns.into_iter().for_each(|conn| self.unlink(conn));
            }
            Job::Learns(learning) => {
                // The leader may learn of it late.
                if self.rng.bool()
                    && let Some(link) = self.links.get_mut(&learning.conn)
                {
                    link.up.push_back(Up::Closed);
                }
            }
        }
    }

    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.log.truncate(node.durable);
        self.stop(at);
    }

    /// A server begins to lead, whether it was elected or not.
    fn begin(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let last = node.log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        let history = History { accepted: node.accepted, current: node.current, last };
        let options = LeaderOptions {
            tick_ms: 2,
            init_limit: 20,
            sync_limit: 10,
            max_snaps: 1,
            max_diffs: 1,
            ..LeaderOptions::default()
        };
        let mut wants = Vec::new();
        let id = ServerId(at as i64 + 1);
        let machine = Leader::new(self.now_ms, id, options, &self.electorate, history, &mut wants);
        self.terms += 1;
        let leading = Leading { machine, term: self.terms, saves: VecDeque::new(), syncs: BTreeMap::new() };
        node.job = Job::Leads(Box::new(leading));
        wants.into_iter().for_each(|want| self.wanted(at, want));
    }

    fn join(&mut self, at: usize, leader: usize) {
        self.next_conn += 1;
        let (conn, node) = (self.next_conn, &mut self.nodes[at]);
        let learning = Learning { conn, coming: None, epoch: Epoch(-1), up_to_date: false, acked: 0 };
        node.job = Job::Learns(learning);
        let up = [Up::Info(node.accepted)].into();
        self.links.insert(conn, Link { leader, learner: at, down: VecDeque::new(), up, joined: false });
        self.lead(leader, |machine, wants| machine.connected(ConnId(conn), wants));
    }

    /// A message of a learner arrives.
    fn up(&mut self, conn: u64) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let (leader, learner) = (link.leader, link.learner);
        let Some(message) = link.up.pop_front() else { return };
        let (observer, id) = (learner == self.voters, ConnId(conn));
        match message {
            Up::Info(accepted) => {
                let server = Some(ServerId(learner as i64 + 1));
                let said = Introduction { server, observer, accepted, config_version: None };
                self.lead(leader, |machine, wants| _ = machine.info(id, said, wants));
            }
            Up::EpochAck(current, last) => {
                self.lead(leader, |machine, wants| machine.epoch_ack(id, current, last, wants))
            }
            Up::Ack(zxid) => self.lead(leader, |machine, wants| machine.ack(id, zxid, wants)),
            Up::Sync => {
                if let Job::Leads(leading) = &mut self.nodes[leader].job {
                    *leading.syncs.entry(conn).or_default() += 1;
                }
                self.lead(leader, |machine, wants| machine.sync_asked(id, wants));
            }
            Up::Closed => {
                self.unlink(conn);
                self.lead(leader, |machine, _| machine.closed(id));
            }
        }
    }

    /// A message of a leader arrives.
    fn down(&mut self, conn: u64) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let learner = link.learner;
        let node = &mut self.nodes[learner];
        let Job::Learns(learning) = &mut node.job else { return };
        if learning.conn != conn {
            return;
        }
        let Some(message) = link.down.pop_front() else { return };
        match message {
            Down::LeaderInfo(epoch) if epoch < node.accepted => self.stop(learner),
            Down::LeaderInfo(epoch) => {
                learning.epoch = epoch;
                let current = (epoch > node.accepted).then_some(node.current);
                node.accepted = epoch;
                let last = node.log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
                link.up.push_back(Up::EpochAck(current, last));
            }
            Down::History(history) => learning.coming = Some(history),
            Down::Proposal(txn) => match &mut learning.coming {
                Some(coming) => coming.push(txn),
                None => node.log.push(txn),
            },
            Down::NewLeader(epoch) => {
                assert_eq!(epoch, learning.epoch, "NEWLEADER of another epoch");
                node.log = learning.coming.take().expect("a history came before NEWLEADER");
                (node.durable, learning.acked) = (node.log.len(), node.log.len());
                if self.rng.u8(..) < 10 {
                    return self.crash(learner);
                }
                // It may acknowledge once more what was outstanding; some do so before NEWLEADER's.
                let last = node.log.last().map(|(zxid, _)| *zxid).filter(|zxid| zxid.epoch() == epoch);
                node.current = epoch;
                let mut acks: Vec<_> = [Some(Zxid::new(epoch, 0)), last].into_iter().flatten().collect();
                if self.rng.bool() {
                    acks.reverse();
                }
                link.up.extend(acks.into_iter().map(Up::Ack));
            }
            Down::UpToDate => {
                learning.up_to_date = true;
                link.up.push_back(Up::Ack(Zxid::new(learning.epoch, 0)));
            }
        }
    }

    /// A server's log is synced, a part of it or all.
    fn sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.durable = self.rng.usize(node.durable..=node.log.len());
        match &mut node.job {
            Job::Leads(leading) if leading.machine.is_established() && node.durable > 0 => {
                let (zxid, _) = node.log[node.durable - 1];
                self.lead(at, |machine, wants| machine.synced(zxid, wants));
            }
            Job::Learns(learning) if learning.up_to_date => {
                let Some(link) = self.links.get_mut(&learning.conn) else { return };
                while learning.acked < node.durable {
                    link.up.push_back(Up::Ack(node.log[learning.acked].0));
                    learning.acked += 1;
                }
            }
            _ => {}
        }
    }

    /// A leader's epoch is on its disk.
    fn save(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Job::Leads(leading) = &mut node.job else { return };
        match leading.saves.pop_front() {
            Some(Want::SaveAccepted(epoch)) => {
                assert!(epoch > node.accepted, "the accepted epoch falls");
                node.accepted = epoch;
                self.lead(at, |machine, wants| machine.accepted_saved(epoch, wants));
            }
            Some(Want::SaveCurrent(epoch)) => {
                assert!(epoch > node.current && epoch == node.accepted, "{epoch:?} becomes the current epoch");
                node.current = epoch;
                self.lead(at, |machine, wants| machine.current_saved(epoch, wants));
            }
            _ => {}
        }
    }

    fn propose(&mut self, at: usize) {
        let Job::Leads(leading) = &mut self.nodes[at].job else { return };
        if !leading.machine.is_established() {
            return;
        }
        let term = leading.term;
        let zxid = leading.machine.propose(&mut Vec::new()).expect("zxids are left");
        self.nodes[at].log.push((zxid, term));
        for link in self.links.values_mut().filter(|link| link.leader == at && link.joined) {
            link.down.push_back(Down::Proposal((zxid, term)));
        }
    }

    fn step(&mut self) {
        let at = self.rng.usize(..self.nodes.len());
        let voter = at < self.voters;
        let is_idle = matches!(self.nodes[at].job, Job::Idle);
        let conns: Vec<_> = self.links.keys().copied().collect();
        let conn = self.rng.choice(conns).unwrap_or(0);
        match self.rng.u32(..1000) {
            0..10 if is_idle && voter => self.begin(at),
            10..200 if is_idle => {
                let leads = |n: &usize| matches!(self.nodes[*n].job, Job::Leads(_));
                let leaders: Vec<_> = (0..self.voters).filter(leads).collect();
                if let Some(leader) = self.rng.choice(leaders) {
                    self.join(at, leader);
                }
            }
            200..450 => self.up(conn),
            450..700 => self.down(conn),
            700..780 => self.propose(at),
            780..880 => self.sync(at),
            880..960 => self.save(at),
            960..975 => {
                if let Job::Learns(Learning { conn, up_to_date: true, .. }) = &self.nodes[at].job
                    && let Some(link) = self.links.get_mut(conn)
                {
                    link.up.push_back(Up::Sync);
                }
            }
            975..976 => self.crash(at),
            976..978 => self.stop(at),
            978..985 => {
                self.now_ms += 1;
                let now_ms = self.now_ms;
                self.lead(at, |machine, wants| machine.tick(now_ms, wants));
            }
            _ => {}
        }
    }
}

/// Any server may think that it leads, also several at a time; messages, syncs, crashes and half-open connections in any
/// order. Nothing is ever committed that no quorum has on its disk, nothing that a newer leader lacks.
#[test]
fn whatever_happens_only_what_quorums_hold_is_committed() {
    let (mut established, mut commits, mut step_downs, mut syncs) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..4000).for_each(|_| world.step());
        }));
        assert!(result.is_ok(), "seed {seed}");
        established += world.judge.established.len();
        commits += world.judge.commits;
        step_downs += world.judge.step_downs;
        syncs += world.judge.syncs;
    }
    println!("{established} epochs, {commits} commits, {step_downs} times stepped down, {syncs} syncs");
    assert!(established > 300 && commits > 4000 && step_downs > 100 && syncs > 2000, "nothing much happened");
}
