//! The connections of one core: a slab with generations, and the send buffers they share.

use super::socket::SockAddr;
use crate::limits::KEPT_CAPACITY;
use crate::types::ConnId;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The slot of a connection, below `max_conns`: small and dense. Reused; the generation tells the users apart.
pub(super) fn slot(id: ConnId) -> usize {
    id.0 as u32 as usize
}

fn generation(id: ConnId) -> u32 {
    (id.0 >> 32) as u32
}

/// An id is used once in the life of a process: its slot would have to be reused 2^32 times before. No generation is 0.
fn conn_id(slot: u32, generation: u32) -> ConnId {
    ConnId(u64::from(generation) << 32 | u64::from(slot))
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The slot is unused.
    Free,
    /// Known to the owner, not established yet.
    Connecting,
    /// Known to the owner.
    Open,
    /// Closed by the owner, bytes still to be sent.
    Flushing,
    /// All sent, our FIN too; what the peer still sends is dropped, so that the kernel does not answer it with a reset.
    Lingering,
    /// Waits only for the kernel to end the operations in flight.
    Dead,
}

/// One connection.
pub(super) struct Conn {
    pub(super) phase: Phase,
    pub(super) fd: Option<OwnedFd>,
    /// What the owner appended since the last send began.
    pub(super) out: Vec<u8>,
    /// What the kernel reads while a send is in flight, from `sent` on. Not touched meanwhile.
    pub(super) sending: Vec<u8>,
    pub(super) sent: usize,
    pub(super) send_in_flight: bool,
    /// In the list of connections that `flush` looks at.
    pub(super) dirty: bool,
    pub(super) wants_writable: bool,
    pub(super) recv_armed: bool,
    pub(super) recv_cancelled: bool,
    pub(super) paused: bool,
    /// Bytes that were under way when `paused` was set, for `resume_recv`.
    pub(super) held: Vec<u8>,
    /// The peer sends no more.
    pub(super) eof: bool,
    /// `eof` was reached while paused; the owner hears of it after `held`.
    pub(super) eof_held: bool,
    /// epoll: the kernel may have bytes for us.
    pub(super) readable: bool,
    /// epoll: in the queue of connections to read.
    pub(super) in_queue: bool,
    /// epoll: the end of the stream is behind the bytes that the kernel has.
    pub(super) hung_up: bool,
    /// epoll: the kernel may have room.
    pub(super) writable: bool,
    /// io_uring: the address of the connect in flight (which counts as a send).
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

    /// The descriptor of a slot in use.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd()
    }

    /// Bytes that the kernel has not taken.
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

    /// A slot for `fd`, or the descriptor back when all `max` are taken.
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

    /// The connection `id` stands for, in whatever phase; `None` once its slot was freed.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(slot(id)).filter(|c| c.generation == generation(id) && c.phase != Phase::Free)
    }

    /// The connection if its owner may use it.
    pub(super) fn open(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|c| c.phase == Phase::Open)
    }

    /// The connection if its owner knows it: it is open, or will be.
    pub(super) fn known(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|c| matches!(c.phase, Phase::Connecting | Phase::Open))
    }

    pub(super) fn open_ref(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(slot(id)).filter(|c| c.generation == generation(id) && c.phase == Phase::Open)
    }

    /// The connection a completion belongs to. A slot with operations in flight is never freed, so its user is the same.
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

    /// Frees the slot (closing the descriptor) and returns the buffers for reuse.
    pub(super) fn remove(&mut self, id: ConnId) -> [Vec<u8>; 2] {
        let conn = &mut self.conns[slot(id)];
        assert!(conn.generation == generation(id) && conn.phase != Phase::Free);
        assert!(!conn.send_in_flight && !conn.recv_armed, "{id:?} is still known to the kernel");
        let next = conn.generation.wrapping_add(1).max(1);
        let old = std::mem::replace(conn, Conn { generation: next, ..Conn::empty() });
        self.free.push(slot(id) as u32);
        [old.out, old.sending]
    }

    /// Frees the slot of a connection that nothing was done with yet, and returns its descriptor.
    pub(super) fn withdraw(&mut self, id: ConnId) -> Option<OwnedFd> {
        let fd = self.get(id)?.fd.take();
        self.remove(id);
        fd
    }

    /// Slots in use, in any phase.
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

/// Send buffers between connections: a busy connection finds one with capacity, an idle one holds none.
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// How many are kept.
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
