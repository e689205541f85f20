//! The thread of one connection: it resolves the name, connects, and reads frames until the socket breaks. Also the
//! probe that asks a server whether it accepts writes. Mirrors the socket part of `ClientCnxnSocketNIO`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::hosts::Host;
use super::input::Input;
use crate::config::socket_addresses;
use crate::proto::four_letter;
use crate::runtime::threads;

/// How long the `isro` probe may take.
const PROBE: Duration = Duration::from_secs(1);

/// Starts the thread of connection number `attempt`.
///
/// # Errors
/// No thread can be had.
pub(crate) fn dial(
    host: Host,
    attempt: u64,
    timeout: Duration,
    max_frame: usize,
    tx: SyncSender<Input>,
) -> io::Result<()> {
    let run = move || {
        // Sending fails only when the session has ended; then nobody needs the result.
        let error = match connect(&host, timeout) {
            Err(e) => e,
            Ok(stream) => match stream.try_clone() {
                Err(e) => e,
                Ok(writer) => {
                    if tx.send(Input::Dialed { attempt, stream: writer }).is_err() {
                        return;
                    }
                    read_frames(stream, attempt, max_frame, &tx)
                }
            },
        };
        let _ = tx.send(Input::Broken { attempt, error: format!("{host}: {error}") });
    };
    threads::start("connection", run).map(drop)
}

/// Asks `host` with `isro` whether it accepts writes.
pub(crate) fn probe(host: Host, tx: SyncSender<Input>) {
    let run = move || {
        let answer = connect(&host, PROBE).and_then(|mut stream| {
            stream.set_read_timeout(Some(PROBE))?;
            stream.write_all(four_letter::ISRO.as_bytes())?;
            let mut answer = [0; 3];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        });
        // A server that does not answer is no better than the current one.
        if matches!(answer, Ok(a) if a == *b"rw\n") {
            let _ = tx.send(Input::Writable(host));
        }
    };
    // Without a thread nothing is asked, which is like no answer: the next probe comes.
    let _ = threads::start("probe", run);
}

/// Tries every address of the name; the error is that of the last one.
fn connect(host: &Host, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for addr in socket_addresses(&host.name, host.port)? {
        match TcpStream::connect_timeout(&addr, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn read_frames(mut stream: TcpStream, attempt: u64, max_frame: usize, tx: &SyncSender<Input>) -> io::Error {
    loop {
        match read_frame(&mut stream, max_frame) {
            Ok(bytes) => {
                if tx.send(Input::Frame { attempt, bytes }).is_err() {
                    return io::Error::new(io::ErrorKind::Interrupted, "session over");
                }
            }
            Err(e) => return e,
        }
    }
}

fn read_frame(stream: &mut TcpStream, max_frame: usize) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = i32::from_be_bytes(len);
    let Some(len) = usize::try_from(len).ok().filter(|l| *l <= max_frame) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("Packet len {len} is out of range!")));
    };
    // The buffer grows with the bytes that arrive, so a large length alone allocates nothing.
    let mut bytes = Vec::new();
    let got = stream.take(len as u64).read_to_end(&mut bytes)?;
    if got < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
