//! One hostile connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use zabra::proto::request::{Request, put_ping};
use zabra::types::Op;

use super::Tally;
use crate::poll::{Poll, dial_from, reset_on_close};

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Dialling,
    /// Connected; the handshake was not answered, and perhaps not even sent.
    Connected,
    /// It has a session.
    Served,
}

pub(super) struct Socket {
    stream: TcpStream,
    state: State,
    /// It wants to get a session.
    wants_session: bool,
    out: Vec<u8>,
    written: usize,
    wants_room: bool,
    /// It ignores incoming bytes.
    deaf: bool,
    /// Number of withheld bytes of an announced frame that may still be sent one by one.
    withheld: usize,
    next_xid: i32,
    in_flight: usize,
    /// The header of the frame being read, and the number of bytes still missing.
    head: Vec<u8>,
    left: usize,
    has_asked: bool,
}

impl Socket {
    /// Starts connecting. `hello` is what is sent first: a handshake, part of one, or nothing.
    pub(super) fn dial(
        server: SocketAddr,
        from: Option<SocketAddr>,
        poll: &Poll,
        at: usize,
        hello: Hello,
    ) -> io::Result<Socket> {
        let stream = dial_from(server, from)?;
        poll.add(stream.as_raw_fd(), at)?;
        poll.want_write(stream.as_raw_fd(), at, true)?;
        Ok(Socket {
            stream,
            state: State::Dialling,
            wants_session: hello.whole,
            out: hello.bytes,
            written: 0,
            wants_room: true,
            deaf: false,
            withheld: hello.withheld,
            next_xid: 1,
            in_flight: 0,
            head: Vec::new(),
            left: 0,
            has_asked: false,
        })
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether the preparations are done: it has its session, and its first requests were sent or the server accepts no
    /// more.
    pub(super) fn is_settled(&self) -> bool {
        match self.state {
            State::Dialling => false,
            State::Connected => !self.wants_session,
            State::Served => self.has_asked,
        }
    }

    /// Whether it is still connecting or getting its session.
    pub(super) fn is_arriving(&self) -> bool {
        self.state == State::Dialling || (self.state == State::Connected && self.wants_session)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_output(&self) -> bool {
        self.written < self.out.len()
    }

    pub(super) fn is_connected(&mut self) {
        self.state = State::Connected;
    }

    pub(super) fn queue(&mut self, put: impl FnOnce(&mut Vec<u8>, i32)) {
        put(&mut self.out, self.next_xid);
        self.next_xid += 1;
        self.in_flight += 1;
    }

    pub(super) fn queue_ping(&mut self) {
        put_ping(&mut self.out);
    }

    pub(super) fn queue_close(&mut self) {
        Request::CloseSession.put_framed(self.next_xid, Op::CLOSE_SESSION, &mut self.out);
    }

    /// Queues the beginning of a frame whose rest will come byte by byte, or never.
    pub(super) fn queue_unfinished(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.withheld = 1 << 20;
    }

    /// Sends one withheld byte.
    pub(super) fn trickle_out(&mut self) {
        // Never the last one, which would complete the frame.
        if self.withheld > 1 && !self.has_output() && self.state != State::Dialling {
            self.withheld -= 1;
            self.out.push(0);
        }
    }

    /// Reads one byte. An error means that the connection has ended.
    pub(super) fn trickle_in(&mut self, tally: &mut Tally) -> io::Result<()> {
        if self.state != State::Served {
            return Ok(());
        }
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                tally.bytes_received += 1;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Stops reading. An error means that the connection has ended.
    pub(super) fn stop_reading(&mut self, poll: &Poll, at: usize) -> io::Result<()> {
        if std::mem::replace(&mut self.deaf, true) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        poll.want_only(self.stream.as_raw_fd(), at, false, self.wants_room)
    }

    /// Writes until the kernel takes no more.
    pub(super) fn flush(&mut self, poll: &Poll, at: usize, tally: &mut Tally) -> io::Result<()> {
        if self.state == State::Dialling {
            return Ok(());
        }
        while self.has_output() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    tally.bytes_sent += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !self.has_output() {
            self.out.clear();
            self.written = 0;
        }
        self.has_asked |= self.state == State::Served;
        if self.wants_room != self.has_output() {
            self.wants_room = self.has_output();
            poll.want_only(self.stream.as_raw_fd(), at, !self.deaf, self.wants_room)?;
        }
        Ok(())
    }

    /// Reads once and counts the replies. An error means that the connection has ended.
    pub(super) fn read(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        let n = match self.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(e) => return Err(e),
        };
        tally.bytes_received += n as u64;
        self.count(&scratch[..n], tally)
    }

    /// Reads length, xid, zxid and error code of each frame and skips the rest.
    fn count(&mut self, mut bytes: &[u8], tally: &mut Tally) -> io::Result<()> {
        const HEAD: usize = 20;
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let Some(head) = self.head.first_chunk::<HEAD>() {
                let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
                let len = usize::try_from(number(0)).ok().filter(|n| *n >= 16);
                self.left = len.ok_or(io::Error::from(ErrorKind::InvalidData))? - 16;
                let (xid, err) = (number(4), number(16));
                self.head.clear();
                self.took(xid, err, tally)?;
            }
        }
        Ok(())
    }

    fn took(&mut self, xid: i32, err: i32, tally: &mut Tally) -> io::Result<()> {
        if self.state != State::Served {
            // The response to the handshake: protocol version, timeout, session; a timeout of 0 is a refusal.
            self.state = State::Served;
            return Ok(());
        }
        if xid >= 0 {
            self.in_flight = self.in_flight.saturating_sub(1);
            tally.replies += 1;
            tally.errors += u64::from(err != 0);
        }
        Ok(())
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        // If this is refused, it only costs a port for a minute.
        let _ = reset_on_close(self.stream.as_raw_fd());
    }
}

/// What a connection sends first.
pub(super) struct Hello {
    pub(super) bytes: Vec<u8>,
    /// A complete handshake.
    pub(super) whole: bool,
    /// Number of its bytes that may be sent one by one.
    pub(super) withheld: usize,
}
