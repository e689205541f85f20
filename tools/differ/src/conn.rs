//! One connection: complete frames, blocking, with a timeout.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use zabra::proto::connect::{ConnectRequest, ConnectResponse};
use zabra::types::{SessionId, Zxid};

/// Longest frame accepted from a server; a longer one counts as a difference.
const MAX_FRAME: usize = 16 << 20;

/// A frame, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The frame without its length.
    Bytes(Vec<u8>),
    /// The server closed the connection.
    Closed,
    /// Nothing arrived before the timeout.
    Silence,
    /// What arrived is not a frame.
    Garbage(String),
}

/// A connection.
pub struct Conn {
    stream: TcpStream,
}

impl Conn {
    /// Connects; `patience` is the timeout of every read and write.
    pub fn open(addr: SocketAddr, patience: Duration) -> io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&addr, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Conn { stream })
    }

    /// Sends. If the server has closed the connection, the next read will show it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.write_all(bytes) {
            Err(e) if is_closed(e.kind()) => Ok(()),
            other => other,
        }
    }

    /// The next frame.
    pub fn frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 4];
        if let Some(end) = self.fill(&mut head)? {
            return Ok(end);
        }
        let len = i32::from_be_bytes(head);
        let Some(len) = usize::try_from(len).ok().filter(|l| *l <= MAX_FRAME) else {
            return Ok(Frame::Garbage(format!("a frame of length {len}")));
        };
        let mut bytes = vec![0; len];
        Ok(self.fill(&mut bytes)?.unwrap_or(Frame::Bytes(bytes)))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<Option<Frame>> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(None),
            Err(e) if is_closed(e.kind()) => Ok(Some(Frame::Closed)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Some(Frame::Silence)),
            Err(e) => Err(e),
        }
    }

    /// Reads the response to the handshake; `Err` contains what came instead.
    pub fn handshake(&mut self) -> io::Result<Result<ConnectResponse, Frame>> {
        Ok(match self.frame()? {
            Frame::Bytes(b) => ConnectResponse::read(&b).map_err(|e| Frame::Garbage(format!("{e}: {b:02x?}"))),
            other => Err(other),
        })
    }

    /// Closes the connection without closeSession.
    pub fn cut(self) {
        // The server may have closed it already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// The bytes of a handshake; session 0 asks for a new session.
pub fn connect_request(session: i64, passwd: &[u8], seen: i64, timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(seen),
        timeout_ms,
        session: SessionId(session),
        passwd: passwd.to_vec(),
        read_only: Some(false),
    }
    .put(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_closed_a_silent_and_a_mad_server_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut conn = Conn::open(listener.local_addr().unwrap(), Duration::from_millis(50)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[0, 0, 0, 2, 7, 8]).unwrap();
        assert_eq!(conn.frame().unwrap(), Frame::Bytes(vec![7, 8]));
        assert_eq!(conn.frame().unwrap(), Frame::Silence);
        server.write_all(&[0xff; 4]).unwrap();
        assert_eq!(conn.frame().unwrap(), Frame::Garbage("a frame of length -1".to_owned()));
        drop(server);
        assert_eq!(conn.frame().unwrap(), Frame::Closed);
    }
}
