//! The bare server: one thread, one io_uring, multishot accept and recv, provided buffers, one send per connection and turn.
//!
//! It has no znodes. The first frame of a connection is answered with a session. Every other one is answered with a
//! frame of the size that stands in place of the opcode, with the request's xid. Anything that a real server costs
//! above this is the server's own work.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use zabra::proto::ConnectResponse;
use zabra::types::SessionId;

use super::ring::{Done, Ring};
use super::sizes::REPLY_HEAD;
use crate::Result;

const ACCEPT: u64 = u64::MAX;
/// Set in the token of a send.
const SEND: u64 = 1 << 32;
/// Longer frames are refused, and so are longer answers.
const MOST: usize = 4 << 20;

struct Peer {
    socket: OwnedFd,
    greeted: bool,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
    /// Answers for the next send.
    out: Vec<u8>,
    /// What is being sent; not changed until that completes.
    sending: Vec<u8>,
    sent: usize,
    send_armed: bool,
    receive_armed: bool,
    /// It is in the list of connections with something to do at the end of the turn.
    touched: bool,
    over: bool,
}

impl Peer {
    fn new(socket: OwnedFd) -> Peer {
        let (partial, out, sending) = (Vec::new(), Vec::new(), Vec::new());
        let (greeted, send_armed, receive_armed, touched, over) = (false, false, false, false, false);
        Peer { socket, greeted, partial, out, sending, sent: 0, send_armed, receive_armed, touched, over }
    }

    /// Answers every complete frame and keeps the rest. Returns `false` if the bytes are not frames.
    fn take(&mut self, bytes: &[u8]) -> bool {
        if self.partial.is_empty() {
            let Some(used) = self.answer(bytes) else { return false };
            self.partial.extend_from_slice(&bytes[used..]);
            return true;
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let Some(used) = self.answer(&all) else { return false };
        all.drain(..used);
        self.partial = all;
        true
    }

    fn answer(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            if !(8..=MOST).contains(&len) {
                return None;
            }
            let Some(frame) = bytes[at + 4..].get(..len) else { break };
            at += 4 + len;
            if !self.greeted {
                self.greeted = true;
                let session = SessionId(self.socket.as_raw_fd().into());
                ConnectResponse { timeout_ms: 30_000, session, passwd: [1; 16], read_only: Some(false) }
                    .put(&mut self.out);
                continue;
            }
            // ping and closeSession have 11 and -11 there.
            let asked = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            let size = usize::try_from(asked).unwrap_or(0).max(REPLY_HEAD);
            if size > MOST {
                return None;
            }
            let start = self.out.len();
            self.out.resize(start + size, 0);
            self.out[start..start + 4].copy_from_slice(&(size as u32 - 4).to_be_bytes());
            self.out[start + 4..start + 8].copy_from_slice(&frame[..4]);
        }
        Some(at)
    }
}

struct Server {
    ring: Ring,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    touched: Vec<usize>,
}

/// Serves on `port` of 127.0.0.1 (0: any) until the process is ended; prints the address on standard output.
pub fn run(port: u16) -> Result<()> {
    crate::poll::die_with_parent();
    crate::poll::raise_open_files().map_err(|e| format!("limit on open files: {e}"))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| format!("echo server, port {port}: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("echo server: {e}"))?;
    println!("{address}");
    std::io::stdout().flush().map_err(|e| format!("echo server: {e}"))?;
    serve(listener)
}

/// Serves on this thread until an error.
pub fn serve(listener: TcpListener) -> Result<()> {
    let ring = Ring::new().map_err(|e| format!("echo server: io_uring (Linux 6.1 or newer, not forbidden): {e}"))?;
    let mut server = Server { ring, listener, peers: Vec::new(), free: Vec::new(), touched: Vec::new() };
    server.serve().map_err(|e| format!("echo server: {e}"))
}

impl Server {
    fn serve(&mut self) -> std::io::Result<()> {
        let mut done = Vec::new();
        self.ring.accept(self.listener.as_raw_fd(), ACCEPT)?;
        loop {
            self.ring.turn(&mut done)?;
            for d in &done {
                match d.token {
                    ACCEPT => self.accepted(d)?,
                    token if token & SEND != 0 => self.was_sent((token & !SEND) as usize, d),
                    token => self.received(token as usize, d),
                }
            }
            self.finish_turn()?;
        }
    }

    fn accepted(&mut self, done: &Done) -> std::io::Result<()> {
        if done.result >= 0 {
            // SAFETY: the kernel has just created it for us.
            let socket = unsafe { OwnedFd::from_raw_fd(done.result) };
            let at = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            crate::poll::no_delay(socket.as_raw_fd())?;
            self.peers[at] = Some(Peer::new(socket));
            self.touch(at);
        }
        if done.more { Ok(()) } else { self.ring.accept(self.listener.as_raw_fd(), ACCEPT) }
    }

    fn received(&mut self, at: usize, done: &Done) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.receive_armed = done.more;
        match (done.result, done.buffer) {
            (1.., Some(id)) => {
                if !peer.take(self.ring.filled(id, done.result as usize)) {
                    peer.over = true;
                }
            }
            (e, _) if e == -libc::ENOBUFS => {}
            _ => peer.over = true,
        }
        if let Some(id) = done.buffer {
            self.ring.give_back(id);
        }
        self.touch(at);
    }

    fn was_sent(&mut self, at: usize, done: &Done) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.send_armed = false;
        match done.result {
            1.. => peer.sent += done.result as usize,
            _ => peer.over = true,
        }
        self.touch(at);
    }

    fn touch(&mut self, at: usize) {
        if let Some(peer) = self.peers[at].as_mut()
            && !peer.touched
        {
            peer.touched = true;
            self.touched.push(at);
        }
    }

    /// One send for everything that a connection was asked in this turn.
    fn finish_turn(&mut self) -> std::io::Result<()> {
        for at in std::mem::take(&mut self.touched) {
            let Some(peer) = self.peers[at].as_mut() else { continue };
            peer.touched = false;
            let fd = peer.socket.as_raw_fd();
            if peer.over {
                crate::poll::shut_down(fd);
                // The kernel may still use the buffers and the slot's number.
                if !peer.send_armed && !peer.receive_armed {
                    self.peers[at] = None;
                    self.free.push(at);
                }
                continue;
            }
            if !peer.receive_armed {
                peer.receive_armed = true;
                self.ring.receive(fd, at as u64)?;
            }
            if peer.send_armed {
                continue;
            }
            if peer.sent == peer.sending.len() {
                peer.sent = 0;
                peer.sending.clear();
                std::mem::swap(&mut peer.sending, &mut peer.out);
            }
            if peer.sent < peer.sending.len() {
                peer.send_armed = true;
                // SAFETY: `sending` is only changed above, while no send is armed, and the slot is kept until then.
                unsafe { self.ring.send(fd, &peer.sending, peer.sent, at as u64 | SEND)? };
            }
        }
        Ok(())
    }
}
