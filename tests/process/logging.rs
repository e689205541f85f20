//! The server and the readers of its log: the server survives a reader that ends, stalls or has no room, and clients
//! cannot fill the log.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsRawFd;
use std::process::Stdio;

use super::server::{Home, Server};
use super::wire::{Client, Raw};

/// Number of connections that each cause a line.
const GARBAGE: usize = 300;

/// Sends HTTP instead of a handshake, so the server closes the connection and logs that.
fn send_garbage(server: &Server) {
    for _ in 0..GARBAGE {
        let mut raw = Raw::connect(server.addr());
        raw.send(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        assert_eq!(raw.closed(), b"");
    }
}

/// A pipe that is full.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    let fd = writer.as_raw_fd();
    // SAFETY: plain system calls on our own descriptor; the buffer has the given length.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        assert!(flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) == 0);
        for len in [4096, 1] {
            while libc::write(fd, [b'.'; 4096].as_ptr().cast(), len) > 0 {}
        }
        // The server's end blocks, as the end of a pipe does by default.
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags), 0);
    }
    (reader, writer)
}

/// Checks that the server serves, also requests that it logs, and stops cleanly.
fn serves_and_stops(server: Server) {
    send_garbage(&server);
    let mut client = Client::connect(server.addr());
    client.create("/served", b"x").expect("new");
    assert_eq!(client.get("/served", false).map(|(data, _)| data), Ok(b"x".to_vec()));
    server.stop();
}

#[test]
fn it_serves_on_when_the_reader_of_its_log_is_gone() {
    let (reader, writer) = pipe().expect("a pipe");
    let home = Home::new("");
    let stdout = writer.try_clone().expect("a second end");
    let server = home.start_into(stdout.into(), writer.into());
    drop(reader);
    serves_and_stops(server);
}

#[test]
fn it_starts_and_serves_when_nobody_ever_read_its_log() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let home = Home::new("");
    let server = home.start_into(writer.try_clone().expect("a second end").into(), writer.into());
    serves_and_stops(server);
}

#[test]
fn it_starts_and_serves_when_its_log_has_no_room() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full"));
    let home = Home::new("");
    let server = home.start_into(full(), full());
    serves_and_stops(server);
}

#[test]
fn it_starts_and_serves_when_the_reader_of_its_log_stalls() {
    let (_reader, writer) = full_pipe();
    let home = Home::new("");
    let server = home.start_into(writer.try_clone().expect("a second end").into(), writer.into());
    serves_and_stops(server);
}

#[test]
fn what_was_logged_while_the_reader_stalled_is_read_later() {
    let (mut reader, writer) = full_pipe();
    let home = Home::new("");
    let server = home.start_into(Stdio::null(), writer.into());
    send_garbage(&server);
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    server.stop();
    let text = text.join().expect("no panic").expect("text");
    assert!(text.contains("configuration from ") && text.contains(" stopping"), "{text}");
}

/// The server must end because its log cannot grow, with the documented exit code, even if nobody reads why.
fn ends_with_its_code(stderr: impl Into<Stdio>) {
    let mut home = Home::new("");
    home.limit_file_size(Some(3 << 20));
    let mut server = home.start_into(Stdio::null(), stderr.into());
    let mut client = Client::connect(server.addr());
    for i in 0.. {
        let body = super::wire::create_body(&format!("/n{i}"), &[b'x'; 100_000], 0);
        if client.try_send(zabra::types::Op::CREATE, &body).is_err() || client.raw().frame().is_err() {
            break;
        }
    }
    assert_eq!(server.wait().code(), Some(10));
}

#[test]
fn a_fatal_error_has_its_exit_code_when_nobody_reads() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    ends_with_its_code(writer);
}

#[test]
fn a_fatal_error_has_its_exit_code_when_the_reader_stalls() {
    let (_reader, writer) = full_pipe();
    ends_with_its_code(writer);
}

#[test]
fn a_refused_start_has_its_exit_code_when_the_reader_stalls() {
    let (_reader, writer) = full_pipe();
    let home = Home::new("tickTime=soon");
    assert_eq!(home.start_into_refused(writer.try_clone().expect("a second end").into(), writer.into()), Some(2));
}

#[test]
fn of_what_clients_provoke_a_few_lines_are_written_and_the_others_counted() {
    let home = Home::new("maxClientCnxns=1");
    let server = home.start();
    let _first = Client::connect(server.addr());
    for _ in 0..GARBAGE {
        assert_eq!(Raw::connect(server.addr()).closed(), b"");
    }
    server.signal(libc::SIGTERM);
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0));
    let said = server.stderr();
    let written = said.lines().filter(|l| l.contains("zabra::client: refusing a connection")).count();
    let counted: usize = said
        .lines()
        .filter(|l| l.contains("refusing a connection"))
        .filter_map(|l| l.split_once(" more like this")?.0.rsplit(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(written + counted, GARBAGE, "{said}");
    assert!(written < GARBAGE / 2, "{written} lines");
}
