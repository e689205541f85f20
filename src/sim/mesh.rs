//! Connections between members: each has two byte streams, which are delivered in pieces of any size. Bytes that a member
//! writes first wait in its process, then leave, then arrive; a socket has little room, so they may wait for long. From one
//! member to another the way may be open, or nothing passes it. Then bytes wait, and nobody can be dialled. A process that ends
//! closes its connections. When power fails nobody is told: the other side learns of it when it says something to a machine
//! that has started again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use crate::types::{ConnId, ServerId, Term};
use crate::zab::handler::LearnerRoom;

/// Bytes that have left and not arrived, in each direction of a connection.
const WINDOW: usize = 1000;

/// Bytes of PINGs and answers that may wait for a learner.
const ANSWERS: usize = 4000;

/// Milliseconds until a dial without an answer is given up.
const DIAL_MS: i64 = 500;

/// The first id of a connection between members: those of clients are smaller.
const FIRST: u64 = 1 << 40;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Port {
    Election,
    /// With the term of the role at this end.
    Quorum(Term),
}

/// What an end of a connection is to its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// Closed by the process, or the process was told that it is, or the process has ended.
    Closed,
    /// Its machine lost power, so nobody was told.
    Lost,
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    member: usize,
    port: Port,
    state: State,
    reads: bool,
    /// Written, and still in the process.
    unsent: VecDeque<u8>,
    /// The other end is told that this one is closed, after everything before.
    closing: bool,
    /// Has left, and has not arrived at the other end.
    wire: VecDeque<u8>,
    bytes_sent: u64,
    /// The most that was written at once.
    longest: usize,
    /// Bytes that its machine did not write and that have not left.
    foreign: usize,
}

/// A connection. The end that dialled is the first.
#[derive(Debug)]
struct Link {
    ends: [End; 2],
}

/// An attempt to connect.
#[derive(Debug)]
struct Dial {
    from: usize,
    to: usize,
    port: Port,
    until_ms: i64,
}

/// A machine as others see it.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// It has power.
    is_on: bool,
    /// Its process runs, and listens on the election port.
    is_up: bool,
    /// The term in which it listens on the quorum port.
    listens: Option<Term>,
}

/// All connections between members.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    machines: Vec<Machine>,
    /// Whether something passes from the first member to the second.
    blocked: Vec<Vec<bool>>,
    dials: Vec<Dial>,
    /// By the id that the end which dialled has; the other end's is larger by one.
    links: BTreeMap<ConnId, Link>,
    made: u64,
    /// What members are told, in order.
    pub(super) events: Vec<(usize, NetEvent)>,
}

impl Mesh {
    /// So many members, none of which runs.
    pub(super) fn new(members: usize) -> Mesh {
        let machines = vec![Machine { is_on: true, ..Machine::default() }; members];
        Mesh { machines, blocked: vec![vec![false; members]; members], ..Mesh::default() }
    }

    /// A process starts.
    pub(super) fn up(&mut self, member: usize) {
        self.machines[member] = Machine { is_on: true, is_up: true, listens: None };
    }

    /// A process has ended. `keep` decides how many of the bytes that have left still arrive. With `power`, its machine is off too.
    pub(super) fn down(&mut self, member: usize, power: bool, mut keep: impl FnMut(usize) -> usize) {
        self.machines[member] = Machine { is_on: !power, is_up: false, listens: None };
        self.dials.retain(|dial| dial.from != member);
        for link in self.links.values_mut() {
            for end in link.ends.iter_mut().filter(|end| end.member == member && end.state != State::Lost) {
                if power {
                    end.state = State::Lost;
                } else if end.state == State::Open {
                    end.state = State::Closed;
                }
                end.unsent.clear();
                end.foreign = 0;
                end.wire.truncate(keep(end.wire.len()));
                end.closing = !power;
            }
        }
        self.forget();
    }

    /// Nothing passes from one member to another from now on, or everything does.
    pub(super) fn block(&mut self, from: usize, to: usize, blocked: bool) {
        self.blocked[from][to] = blocked;
    }

    /// Everything passes everywhere.
    pub(super) fn heal(&mut self) {
        self.blocked.iter_mut().flatten().for_each(|blocked| *blocked = false);
    }

    /// Whether both ways are open.
    fn is_open(&self, a: usize, b: usize) -> bool {
        !self.blocked[a][b] && !self.blocked[b][a]
    }

    /// Does what a member wants, or begins to.
    pub(super) fn want(&mut self, member: usize, now_ms: i64, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, only, .. }) => {
                assert_eq!(only, None, "there are no strangers here");
                self.dial(member, to, Port::Election, now_ms);
            }
            NetWant::Election(ElectionWant::Write { conn, bytes }) => self.write(member, conn, &bytes),
            NetWant::Election(ElectionWant::Close { conn }) => self.close(member, conn),
            NetWant::Quorum { term, want } => self.want_quorum(member, now_ms, term, want),
        }
    }

    fn want_quorum(&mut self, member: usize, now_ms: i64, term: Term, want: QuorumWant) {
        match want {
            QuorumWant::Listen => self.machines[member].listens = Some(term),
            QuorumWant::Dial { leader } => self.dial(member, leader, Port::Quorum(term), now_ms),
            QuorumWant::Write { conn, bytes } => self.write(member, conn, &bytes),
            QuorumWant::Read { conn, reads } => {
                if let Some(end) = self.end(member, conn) {
                    end.reads = reads;
                }
            }
            QuorumWant::Close { conn } => self.close(member, conn),
            QuorumWant::End => {
                if self.machines[member].listens == Some(term) {
                    self.machines[member].listens = None;
                }
                self.dials.retain(|dial| (dial.from, dial.port) != (member, Port::Quorum(term)));
                for end in self.links.values_mut().flat_map(|link| &mut link.ends) {
                    if (end.member, end.port, end.state) == (member, Port::Quorum(term), State::Open) {
                        end.state = State::Closed;
                        end.closing = true;
                    }
                }
                self.forget();
            }
        }
    }

    fn dial(&mut self, from: usize, to: ServerId, port: Port, now_ms: i64) {
        let to = to.0 as usize - 1;
        assert!(from != to && to < self.machines.len(), "{from} dials {to}");
        self.dials.push(Dial { from, to, port, until_ms: now_ms + DIAL_MS });
    }

    /// An end that its process has not closed.
    fn end(&mut self, member: usize, conn: ConnId) -> Option<&mut End> {
        let side = conn.0 & 1;
        let end = &mut self.links.get_mut(&ConnId(conn.0 - side))?.ends[side as usize];
        (end.member == member && end.state == State::Open).then_some(end)
    }

    fn write(&mut self, member: usize, conn: ConnId, bytes: &[u8]) {
        // It may have broken meanwhile.
        if let Some(end) = self.end(member, conn) {
            end.unsent.extend(bytes);
            end.bytes_sent += bytes.len() as u64;
            end.longest = end.longest.max(bytes.len());
        }
    }

    /// Bytes of which the machine at this end knows nothing.
    pub(super) fn add(&mut self, member: usize, conn: ConnId, bytes: &[u8]) {
        if let Some(end) = self.end(member, conn) {
            end.unsent.extend(bytes);
            end.foreign += bytes.len();
        }
    }

    /// What a leader has written and what has not left is bounded, whether or not the learner reads.
    pub(super) fn check_waiting(&self, member: usize, room: LearnerRoom) -> Result<(), String> {
        let accepted = self.links.values().map(|link| &link.ends[1]);
        for end in accepted.filter(|end| end.member == member && matches!(end.port, Port::Quorum(_))) {
            let (waits, longest) = (end.unsent.len() - end.foreign, end.longest);
            if waits > room.queue + room.chunk + 2 * longest + ANSWERS {
                return Err(format!(
                    "{waits} bytes wait for a learner of server {member}, {longest} at once, {room:?}"
                ));
            }
        }
        Ok(())
    }

    /// Who is at the other end of a connection that is open here.
    pub(super) fn other(&mut self, member: usize, conn: ConnId) -> Option<usize> {
        self.end(member, conn)?;
        let side = conn.0 & 1;
        Some(self.links.get(&ConnId(conn.0 - side))?.ends[1 - side as usize].member)
    }

    /// Bytes that were written on this connection so far, if it is open.
    pub(super) fn written(&mut self, member: usize, conn: ConnId) -> Option<u64> {
        self.end(member, conn).map(|end| end.bytes_sent)
    }

    /// Whether this end of a connection dialled.
    pub(super) fn dialled(conn: ConnId) -> bool {
        conn.0 & 1 == 0
    }

    fn close(&mut self, member: usize, conn: ConnId) {
        if let Some(end) = self.end(member, conn) {
            end.state = State::Closed;
            end.closing = true;
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.links.retain(|_, link| link.ends.iter().any(|end| end.state == State::Open));
    }

    /// Something happens somewhere. False: nothing can.
    pub(super) fn step(&mut self, rng: &mut fastrand::Rng) -> bool {
        let dials: Vec<usize> = (0..self.dials.len()).filter(|at| self.answers(&self.dials[*at])).collect();
        if let Some(at) = rng.choice(&dials).filter(|_| rng.bool()) {
            self.connect(*at);
            return true;
        }
        let mut ways: Vec<(ConnId, usize)> = self.links.keys().flat_map(|id| [(*id, 0), (*id, 1)]).collect();
        rng.shuffle(&mut ways);
        if ways.into_iter().any(|(id, side)| self.pass(id, side, rng)) {
            return true;
        }
        if let Some(at) = rng.choice(&dials) {
            self.connect(*at);
            return true;
        }
        false
    }

    /// Whether a dial is answered, by a connection or by a refusal.
    fn answers(&self, dial: &Dial) -> bool {
        self.is_open(dial.from, dial.to) && self.machines[dial.to].is_on
    }

    fn connect(&mut self, at: usize) {
        let dial = self.dials.remove(at);
        let Machine { is_up, listens, .. } = self.machines[dial.to];
        let theirs = match dial.port {
            Port::Election => is_up.then_some(Port::Election),
            Port::Quorum(_) => listens.map(Port::Quorum),
        };
        let Some(theirs) = theirs else { return self.dial_failed(&dial) };
        let (ours, conn) = (ConnId(FIRST + 2 * self.made), ConnId(FIRST + 2 * self.made + 1));
        self.made += 1;
        let end = |member, port| End {
            member,
            port,
            state: State::Open,
            reads: true,
            unsent: VecDeque::new(),
            closing: false,
            wire: VecDeque::new(),
            bytes_sent: 0,
            longest: 0,
            foreign: 0,
        };
        self.links.insert(ours, Link { ends: [end(dial.from, dial.port), end(dial.to, theirs)] });
        let to = ServerId(dial.to as i64 + 1);
        let dialled = match dial.port {
            Port::Election => NetEvent::Election(ElectionEvent::Dialed { to, conn: ours }),
            Port::Quorum(term) => NetEvent::Quorum { term, event: QuorumEvent::Dialed { conn: ours } },
        };
        let accepted = match theirs {
            Port::Election => {
                let from = [10, 0, 0, dial.from as u8 + 1].into();
                NetEvent::Election(ElectionEvent::Accepted { conn, from })
            }
            Port::Quorum(term) => {
                let from = ([10, 0, 0, dial.from as u8 + 1], 49152).into();
                NetEvent::Quorum { term, event: QuorumEvent::Accepted { conn, from } }
            }
        };
        self.events.extend([(dial.from, dialled), (dial.to, accepted)]);
    }

    fn dial_failed(&mut self, dial: &Dial) {
        let event = match dial.port {
            Port::Election => NetEvent::Election(ElectionEvent::DialFailed { to: ServerId(dial.to as i64 + 1) }),
            Port::Quorum(term) => NetEvent::Quorum { term, event: QuorumEvent::DialFailed },
        };
        self.events.push((dial.from, event));
    }

    /// Gives up this member's dials that are due.
    pub(super) fn tick(&mut self, member: usize, now_ms: i64) {
        let due: Vec<Dial> = self.dials.extract_if(.., |d| d.from == member && d.until_ms <= now_ms).collect();
        due.iter().for_each(|dial| self.dial_failed(dial));
    }

    /// A connection breaks: both ends are told.
    pub(super) fn break_one(&mut self, rng: &mut fastrand::Rng) {
        let ids: Vec<ConnId> = self.links.keys().copied().collect();
        if let Some(id) = rng.choice(ids) {
            [0, 1].into_iter().for_each(|side| self.told_closed(id, side));
            self.forget();
        }
    }

    /// An end is told that the connection is closed, unless its process does not have it any more.
    fn told_closed(&mut self, id: ConnId, side: usize) {
        let Some(end) = self.links.get_mut(&id).map(|link| &mut link.ends[side]) else { return };
        if end.state != State::Open {
            return;
        }
        end.state = State::Closed;
        let conn = ConnId(id.0 + side as u64);
        let event = match end.port {
            Port::Election => NetEvent::Election(ElectionEvent::Closed { conn }),
            Port::Quorum(term) => NetEvent::Quorum { term, event: QuorumEvent::Closed { conn } },
        };
        self.events.push((end.member, event));
    }

    /// Bytes leave one end of a connection, or arrive at the other. False: none can.
    fn pass(&mut self, id: ConnId, side: usize, rng: &mut fastrand::Rng) -> bool {
        let can_leave = {
            let end = &self.links[&id].ends[side];
            !end.unsent.is_empty() && end.wire.len() < WINDOW
        };
        if can_leave && rng.bool() {
            self.send(id, side, rng);
            return true;
        }
        self.arrive(id, side, rng)
            || can_leave && {
                self.send(id, side, rng);
                true
            }
    }

    fn send(&mut self, id: ConnId, side: usize, rng: &mut fastrand::Rng) {
        let Some(end) = self.links.get_mut(&id).map(|link| &mut link.ends[side]) else { return };
        let most = end.unsent.len().min(WINDOW - end.wire.len());
        let bytes = piece(rng, most);
        end.wire.extend(end.unsent.drain(..bytes));
        // The machine is told of no more bytes than it has written.
        let foreign = end.foreign.min(bytes);
        end.foreign -= foreign;
        let bytes = bytes - foreign;
        let conn = ConnId(id.0 + side as u64);
        let event = match end.port {
            Port::Quorum(term) => NetEvent::Quorum { term, event: QuorumEvent::Left { conn, bytes } },
            Port::Election if end.unsent.is_empty() => NetEvent::Election(ElectionEvent::Written { conn }),
            Port::Election => return,
        };
        if end.state == State::Open {
            self.events.push((end.member, event));
        }
    }

    fn arrive(&mut self, id: ConnId, side: usize, rng: &mut fastrand::Rng) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let [one, two] = &mut link.ends;
        let (end, other) = if side == 0 { (one, two) } else { (two, one) };
        if self.blocked[end.member][other.member] || end.wire.is_empty() && !(end.closing && end.unsent.is_empty()) {
            return false;
        }
        let is_over = end.wire.is_empty();
        match other.state {
            State::Open if is_over => {
                self.told_closed(id, 1 - side);
                self.forget();
                true
            }
            State::Open if other.reads => {
                let bytes = piece(rng, end.wire.len());
                let bytes: Bytes = end.wire.drain(..bytes).collect::<Vec<u8>>().into();
                let conn = ConnId(id.0 + 1 - side as u64);
                let event = match other.port {
                    Port::Election => NetEvent::Election(ElectionEvent::Bytes { conn, bytes }),
                    Port::Quorum(term) => NetEvent::Quorum { term, event: QuorumEvent::Bytes { conn, bytes } },
                };
                self.events.push((other.member, event));
                true
            }
            State::Open => false,
            // Whoever is there does not know the connection, and says so.
            State::Closed | State::Lost => {
                let answers = self.machines[other.member].is_on && !self.blocked[other.member][end.member];
                if !answers || is_over || end.state != State::Open {
                    return false;
                }
                self.told_closed(id, side);
                self.forget();
                true
            }
        }
    }
}

/// How many of `len` bytes pass at once: at least one.
fn piece(rng: &mut fastrand::Rng, len: usize) -> usize {
    if rng.u32(..4) == 0 { rng.usize(1..=len) } else { len }
}
