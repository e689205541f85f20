//! Sends a four-letter word to a server. Mirrors `FourLetterWordMain`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::socket_addresses;

/// Longest answer that is read, in bytes. Only `dump`, `wchc` and `cons` of busy servers have more than a few
/// kilobytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Sends `word` and returns the answer. Every step may take `timeout`; all addresses of the host are tried.
pub(super) fn ask(host: &str, port: u16, word: &str, timeout: Duration) -> io::Result<String> {
    let mut socket = connect(host, port, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    socket.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects to the first address of the host that accepts.
pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in socket_addresses(host, port)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_answer_is_read_to_its_end() {
        for (bound, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]"), ("[::1]:0", "::1%lo")] {
            match TcpListener::bind(bound) {
                Ok(listener) => answers(listener, host),
                Err(e) => assert!(bound.starts_with('['), "only a host without IPv6 is excused: {e}"),
            }
        }
    }

    fn answers(listener: TcpListener, host: &str) {
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("accepted");
            let mut word = [0; 4];
            socket.read_exact(&mut word).expect("read");
            for part in [&word[..], b" one", b" two"] {
                socket.write_all(part).expect("written");
            }
        });
        assert_eq!(ask(host, port, "srvr", SECOND).expect("answered"), "srvr one two");
        server.join().expect("ended");
        assert!(ask(host, port, "srvr", SECOND).is_err());
    }
}
