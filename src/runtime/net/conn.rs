//! The connections of one core: a slab with generations, and the send buffers that they share.

use super::socket::SockAddr;
use crate::limits::KEPT_CAPACITY;
use crate::types::ConnId;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The slot of a connection: a small number below `max_conns`. Slots are reused; the generation distinguishes their
/// users.
pub(super) fn slot(id: ConnId) -> usize {
    id.0 as u32 as usize
}

fn generation(id: ConnId) -> u32 {
    (id.0 >> 32) as u32
}

/// The id of a connection. No id repeats in the life of a process, unless its slot is reused 2^32 times. Generations
/// are never 0.
fn conn_id(slot: u32, generation: u32) -> ConnId {
    ConnId(u64::from(generation) << 32 | u64::from(slot))
}

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The slot is unused.
    Free,
    /// The owner knows it, but it is not established yet.
    Connecting,
    /// The owner uses it.
    Open,
    /// The owner has closed it, but bytes are still to be sent.
    Flushing,
    /// All bytes and our FIN are sent. What the peer still sends is read and dropped; otherwise the kernel would answer
    /// it with a reset.
    Lingering,
    /// Waiting only for the kernel to end the operations in progress.
    Dead,
}

/// One connection.
pub(super) struct Conn {
    pub(super) phase: Phase,
    pub(super) fd: Option<OwnedFd>,
    /// What the owner appended since the last send started.
    pub(super) out: Vec<u8>,
    /// The bytes of the send in progress, which the kernel reads from `sent` on. Not changed meanwhile.
    pub(super) sending: Vec<u8>,
    pub(super) sent: usize,
    pub(super) send_in_flight: bool,
    /// It is in the list of connections that `flush` checks.
    pub(super) dirty: bool,
    pub(super) wants_writable: bool,
    pub(super) recv_armed: bool,
    pub(super) recv_cancelled: bool,
    pub(super) paused: bool,
    /// Bytes that arrived after `paused` was set, kept for `resume_recv`.
    pub(super) held: Vec<u8>,
    /// The peer has closed its sending side.
    pub(super) eof: bool,
    /// `eof` was reached while paused; the owner is told after the kept bytes.
    pub(super) eof_held: bool,
    /// epoll: there may be bytes to read.
    pub(super) readable: bool,
    /// epoll: it is in the queue of connections to read.
    pub(super) in_queue: bool,
    /// epoll: the peer has closed its sending side, and the end of the stream comes after the bytes that the kernel
    /// still has.
    pub(super) hung_up: bool,
    /// epoll: the socket may accept bytes.
    pub(super) writable: bool,
    /// io_uring: the address of the connection attempt in progress, which counts as a send.
    pub(super) dial: Option<Box<SockAddr>>,
    generation: u32,
}

impl Conn {
    fn empty() -> Conn {
        Conn {
            phase: Phase::Free,
            fd: None,
            out: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            send_in_flight: false,
            dirty: false,
            wants_writable: false,
            recv_armed: false,
            recv_cancelled: false,
            paused: false,
            held: Vec::new(),
            eof: false,
            eof_held: false,
            readable: false,
            in_queue: false,
            hung_up: false,
            writable: true,
            dial: None,
            generation: 1,
        }
    }

    /// The descriptor; the slot must be in use.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd()
    }

    /// Number of bytes that the kernel has not taken.
    pub(super) fn queued(&self) -> usize {
        self.out.len() + self.sending.len() - self.sent
    }
}

/// All connections of a core.
pub(super) struct Slab {
    conns: Vec<Conn>,
    free: Vec<u32>,
    max: usize,
}

impl Slab {
    pub(super) fn new(max: usize) -> Slab {
        Slab { conns: Vec::new(), free: Vec::new(), max }
    }

    /// Puts `fd` into a free slot; returns the descriptor if all `max` slots are in use.
    pub(super) fn insert(&mut self, fd: OwnedFd, phase: Phase) -> Result<ConnId, OwnedFd> {
        let index = match self.free.pop() {
            Some(i) => i,
            None if self.conns.len() < self.max => {
                self.conns.push(Conn::empty());
                (self.conns.len() - 1) as u32
            }
            None => return Err(fd),
        };
        let conn = &mut self.conns[index as usize];
        assert_eq!(conn.phase, Phase::Free);
        conn.phase = phase;
        conn.fd = Some(fd);
        Ok(conn_id(index, conn.generation))
    }

    /// The connection with this id, in any state; `None` if its slot was freed.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(slot(id)).filter(|c| c.generation == generation(id) && c.phase != Phase::Free)
    }

    /// The connection, if its owner may send and receive on it.
    pub(super) fn open(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|c| c.phase == Phase::Open)
    }

    /// The connection, if its owner still has it: it is open or being opened.
    pub(super) fn known(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|c| matches!(c.phase, Phase::Connecting | Phase::Open))
    }

    pub(super) fn open_ref(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(slot(id)).filter(|c| c.generation == generation(id) && c.phase == Phase::Open)
    }

    /// The connection of a completion. A slot with operations in progress is never freed, so it is still the same
    /// connection.
    pub(super) fn of_completion(&mut self, user_data: u64) -> (ConnId, &mut Conn) {
        let index = user_data as u32;
        let conn = &mut self.conns[index as usize];
        let generation = conn.generation;
        assert!(
            conn.phase != Phase::Free && (user_data >> 32) as u32 & 0xff_ffff == generation & 0xff_ffff,
            "completion {user_data:#x} outlived its connection (slot is {:?}, generation {generation})",
            conn.phase
        );
        (conn_id(index, generation), conn)
    }

    /// Frees the slot, closes the descriptor, and returns the buffers for reuse.
    pub(super) fn remove(&mut self, id: ConnId) -> [Vec<u8>; 2] {
        let conn = &mut self.conns[slot(id)];
        assert!(conn.generation == generation(id) && conn.phase != Phase::Free);
        assert!(!conn.send_in_flight && !conn.recv_armed, "{id:?} is still known to the kernel");
        let next = conn.generation.wrapping_add(1).max(1);
        let old = std::mem::replace(conn, Conn { generation: next, ..Conn::empty() });
        self.free.push(slot(id) as u32);
        [old.out, old.sending]
    }

    /// Frees the slot of a connection on which nothing was done yet, and returns its descriptor.
    pub(super) fn withdraw(&mut self, id: ConnId) -> Option<OwnedFd> {
        let fd = self.get(id)?.fd.take();
        self.remove(id);
        fd
    }

    /// Number of slots in use, in any state.
    pub(super) fn len(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    pub(super) fn open_ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.conns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.phase == Phase::Open)
            .map(|(i, c)| conn_id(i as u32, c.generation))
    }
}

/// Send buffers that are not in use: a busy connection takes one that already has capacity, an idle one has none.
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// Most buffers that are kept.
    const KEPT: usize = 256;
    const FIRST_CAPACITY: usize = 1024;

    pub(super) fn new() -> Spares {
        Spares(Vec::new())
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(Spares::FIRST_CAPACITY))
    }

    pub(super) fn put(&mut self, mut v: Vec<u8>) {
        if (1..=KEPT_CAPACITY).contains(&v.capacity()) && self.0.len() < Spares::KEPT {
            v.clear();
            self.0.push(v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn fd() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_reused_slot_is_another_connection() {
        let mut s = Slab::new(1);
        let a = s.insert(fd(), Phase::Open).unwrap();
        assert!(s.insert(fd(), Phase::Open).is_err(), "full");
        s.open(a).unwrap().out.extend(b"x");
        s.remove(a);
        let b = s.insert(fd(), Phase::Open).unwrap();
        assert_eq!(slot(a), slot(b));
        assert_ne!(a, b);
        assert!(s.open(a).is_none() && s.open(b).unwrap().out.is_empty());
    }

    #[test]
    fn spares_keep_no_giants() {
        let mut s = Spares::new();
        s.put(Vec::with_capacity(KEPT_CAPACITY + 1));
        assert_eq!(s.take().capacity(), Spares::FIRST_CAPACITY);
        let mut v = Vec::with_capacity(4096);
        v.push(1);
        s.put(v);
        let again = s.take();
        assert!(again.is_empty() && again.capacity() >= 4096);
    }
}
