//! The connections of one core: a slab with generations, and the send buffers they share.

use crate::limits::KEPT_CAPACITY;
use std::fmt;
use std::os::fd::OwnedFd;

/// A connection of one [`ClientNet`](super::ClientNet). Never used again for another connection while the process lives
/// (a slot has to be reused 2^32 times first).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// Both halves in one number.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`to_u64`](Token::to_u64).
    pub fn from_u64(v: u64) -> Token {
        Token { index: v as u32, generation: (v >> 32) as u32 }
    }

    /// The slot, below `max_conns`: small and dense, to index a vector with. Reused; the generation tells the users apart.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The slot is unused.
    Free,
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
            generation: 1,
        }
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
    pub(super) fn insert(&mut self, fd: OwnedFd) -> Result<Token, OwnedFd> {
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
        conn.phase = Phase::Open;
        conn.fd = Some(fd);
        Ok(Token { index, generation: conn.generation })
    }

    /// The connection `token` stands for, in whatever phase; `None` once its slot was freed.
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Conn> {
        self.conns.get_mut(token.index()).filter(|c| c.generation == token.generation && c.phase != Phase::Free)
    }

    /// The connection if its owner still knows it.
    pub(super) fn open(&mut self, token: Token) -> Option<&mut Conn> {
        self.get(token).filter(|c| c.phase == Phase::Open)
    }

    pub(super) fn open_ref(&self, token: Token) -> Option<&Conn> {
        self.conns.get(token.index()).filter(|c| c.generation == token.generation && c.phase == Phase::Open)
    }

    /// The connection a completion belongs to. A slot with operations in flight is never freed, so its user is the same.
    pub(super) fn of_completion(&mut self, user_data: u64) -> (Token, &mut Conn) {
        let index = user_data as u32;
        let conn = &mut self.conns[index as usize];
        let generation = conn.generation;
        assert!(
            conn.phase != Phase::Free && (user_data >> 32) as u32 & 0xff_ffff == generation & 0xff_ffff,
            "completion {user_data:#x} outlived its connection (slot is {:?}, generation {generation})",
            conn.phase
        );
        (Token { index, generation }, conn)
    }

    /// Frees the slot (closing the descriptor) and returns the buffers for reuse.
    pub(super) fn remove(&mut self, token: Token) -> [Vec<u8>; 2] {
        let conn = &mut self.conns[token.index()];
        assert!(conn.generation == token.generation && conn.phase != Phase::Free);
        assert!(!conn.send_in_flight && !conn.recv_armed, "{token:?} is still known to the kernel");
        let generation = conn.generation.wrapping_add(1);
        let old = std::mem::replace(conn, Conn { generation, ..Conn::empty() });
        self.free.push(token.index);
        [old.out, old.sending]
    }

    /// Slots in use, in any phase.
    pub(super) fn len(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.conns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.phase == Phase::Open)
            .map(|(i, c)| Token { index: i as u32, generation: c.generation })
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
        let a = s.insert(fd()).unwrap();
        assert!(s.insert(fd()).is_err(), "full");
        s.open(a).unwrap().out.extend(b"x");
        s.remove(a);
        let b = s.insert(fd()).unwrap();
        assert_eq!(a.index(), b.index());
        assert_ne!(a, b);
        assert!(s.open(a).is_none() && s.open(b).unwrap().out.is_empty());
        assert_eq!(Token::from_u64(b.to_u64()), b);
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
