//! Real loopback sockets: std clients connected to a [`Net`]. Every test runs once for each back end.

mod connect;
mod leaving;
mod limits;

use super::conn::slot;
use super::socket::reset_on_close;
use super::*;
use crate::runtime::in_own_process;
use crate::types::ConnId;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// The back ends that work on this host. Prints a line if io_uring is left out; if `ZABRA_TEST_NEEDS_IO_URING` is set,
/// as in CI, that fails.
pub(in crate::runtime) fn backends() -> Vec<Backend> {
    match probe::probe() {
        Ok(()) => Backend::ALL.to_vec(),
        Err(why) => {
            assert!(std::env::var_os("ZABRA_TEST_NEEDS_IO_URING").is_none(), "io_uring cannot be tested: {why}");
            eprintln!("left out, what runs on io_uring: {why}");
            vec![Backend::Epoll]
        }
    }
}

fn small() -> NetOptions {
    NetOptions { entries: 32, buffers: 16, buffer_len: 512, max_conns: 4096, linger: Duration::from_secs(1) }
}

fn local() -> ListenAddr {
    ListenAddr::At(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
}

/// Runs turns until `done` is true; fails the test if that takes longer than `PATIENCE`.
fn run(net: &mut Net, mut on: impl FnMut(&mut Vec<Heard>, Heard), done: impl Fn(&Net, &[Heard]) -> bool) -> Vec<Heard> {
    let until = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    loop {
        net.park(Some(Duration::from_millis(10))).unwrap();
        net.reap(&mut |e| on(&mut heard, Heard::from(e)));
        if done(net, &heard) {
            return heard;
        }
        assert!(Instant::now() < until, "not done: {heard:?}");
    }
}

/// An event in a form that can be kept.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Accepted(ConnId),
    Connected(ConnId),
    ConnectFailed(ConnId, io::ErrorKind),
    Data(ConnId, Vec<u8>),
    Eof(ConnId),
    Closed(ConnId, io::ErrorKind),
    Writable(ConnId),
    Refused,
    AcceptFailed,
    AcceptPaused,
    AcceptResumed,
    Woken,
}

impl From<NetEvent<'_>> for Heard {
    fn from(e: NetEvent<'_>) -> Heard {
        match e {
            NetEvent::Accepted { conn, .. } => Heard::Accepted(conn),
            NetEvent::Connected { conn } => Heard::Connected(conn),
            NetEvent::ConnectFailed { conn, error } => Heard::ConnectFailed(conn, error.kind()),
            NetEvent::Data { conn, bytes } => Heard::Data(conn, bytes.to_vec()),
            NetEvent::Eof { conn } => Heard::Eof(conn),
            NetEvent::Closed { conn, reason } => Heard::Closed(conn, reason.kind()),
            NetEvent::Writable { conn } => Heard::Writable(conn),
            NetEvent::AcceptPaused { .. } => Heard::AcceptPaused,
            NetEvent::AcceptResumed { .. } => Heard::AcceptResumed,
            NetEvent::Refused { .. } => Heard::Refused,
            NetEvent::AcceptFailed { .. } => Heard::AcceptFailed,
            NetEvent::Woken => Heard::Woken,
        }
    }
}

/// One connection: the server's side and the client's.
fn pair(backend: Backend, options: &NetOptions) -> (Net, ConnId, TcpStream) {
    let mut net = Net::new(backend, options).unwrap();
    let l = listen(local(), &ListenOptions::default()).unwrap();
    let at = l.local_addr().unwrap();
    net.add_listener(l).unwrap();
    let client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = run(&mut net, |all, e| all.push(e), |_, h| !h.is_empty());
    let Heard::Accepted(token) = heard[0] else { panic!("{heard:?}") };
    (net, token, client)
}

fn keep(all: &mut Vec<Heard>, e: Heard) {
    all.push(e);
}

/// An echo server on a thread. It ends by a flag and a waker, checks that no connection is left, and returns the
/// counters.
struct Echo {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<thread::JoinHandle<NetStats>>,
}

impl Echo {
    fn start(backend: Backend, options: NetOptions) -> Echo {
        let (tx, rx) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            let mut net = Net::new(backend, &options).unwrap();
            let l = listen(local(), &ListenOptions::default()).unwrap();
            tx.send((l.local_addr().unwrap(), net.waker())).unwrap();
            net.add_listener(l).unwrap();
            let mut turn: HashMap<ConnId, (Vec<u8>, bool)> = HashMap::new();
            while !flag.load(Ordering::SeqCst) || net.conns() > 0 {
                net.park(None).unwrap();
                net.reap(&mut |e| match e {
                    NetEvent::Data { conn, bytes } => turn.entry(conn).or_default().0.extend_from_slice(bytes),
                    NetEvent::Eof { conn } => turn.entry(conn).or_default().1 = true,
                    _ => {}
                });
                for (token, (bytes, eof)) in turn.drain() {
                    net.out(token).extend_from_slice(&bytes);
                    if eof {
                        net.close(token, Close::Graceful);
                    }
                }
            }
            net.stats()
        });
        let (at, waker) = rx.recv().unwrap();
        Echo { at, stop, waker, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let s = TcpStream::connect(self.at).unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        s
    }

    /// All clients must have gone. If a slot stayed in use, this would hang.
    fn finish(mut self) -> NetStats {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed * 7) as u8).collect()
}

#[test]
fn many_clients_get_their_own_bytes_back_though_buffers_are_few() {
    for backend in backends() {
        let echo = Echo::start(backend, small());
        let mut clients: Vec<TcpStream> = (0..200).map(|_| echo.connect()).collect();
        for round in 0..5 {
            for (i, c) in clients.iter_mut().enumerate() {
                c.write_all(&pattern(i + round, 700)).unwrap();
            }
            for (i, c) in clients.iter_mut().enumerate() {
                let mut back = vec![0; 700];
                c.read_exact(&mut back).unwrap();
                assert!(back == pattern(i + round, 700), "client {i} round {round}");
            }
        }
        drop(clients);
        let stats = echo.finish();
        assert_eq!((stats.accepted, stats.bytes_in, stats.bytes_out), (200, 700_000, 700_000));
    }
}

#[test]
fn large_payloads_survive_partial_sends_and_half_close() {
    for backend in backends() {
        let echo = Echo::start(backend, small());
        let sent = pattern(1, 12 << 20);
        let mut writer = echo.connect();
        let mut reader = writer.try_clone().unwrap();
        let expected = sent.clone();
        let check = thread::spawn(move || {
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == expected, "{} bytes came back of {}", back.len(), expected.len());
        });
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        check.join().unwrap();
        drop(writer);
        let stats = echo.finish();
        assert_eq!(stats.bytes_out, 12 << 20);
    }
}

#[test]
fn abrupt_closes_and_garbage_leave_nothing_behind() {
    for backend in backends() {
        let echo = Echo::start(backend, small());
        for round in 0..40 {
            let mut clients: Vec<TcpStream> = (0..10).map(|_| echo.connect()).collect();
            for (i, c) in clients.iter_mut().enumerate() {
                c.write_all(&pattern(round, 1 + i * 300)).unwrap();
                match i % 3 {
                    0 => reset_on_close(c.as_raw_fd()), // reset with the echo unread
                    1 => c.shutdown(Shutdown::Write).unwrap(),
                    _ => {}
                }
            }
        }
        let mut last = echo.connect();
        last.write_all(b"still here").unwrap();
        let mut back = [0; 10];
        last.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still here");
        drop(last);
        // 160 of them are reset, possibly before they are accepted.
        assert!((241..=401).contains(&echo.finish().accepted));
    }
}

#[test]
fn a_slow_reader_keeps_its_backlog_and_hears_writable_once() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        let sent = pattern(3, 24 << 20);
        net.out(token).extend_from_slice(&sent);
        net.want_writable(token);
        run(&mut net, keep, |net, _| net.stats().bytes_out > 0);
        let stuck = net.queued(token);
        assert!(stuck > 0 && stuck < sent.len(), "{stuck}");
        net.out(token).extend_from_slice(b"tail");
        let reader = thread::spawn(move || {
            let mut back = vec![0; (24 << 20) + 4];
            client.read_exact(&mut back).unwrap();
            (client, back)
        });
        let heard = run(&mut net, keep, |net, h| net.queued(token) == 0 && !h.is_empty());
        assert_eq!(heard, [Heard::Writable(token)]);
        let (_client, back) = reader.join().unwrap();
        assert!(back[..sent.len()] == sent && back.ends_with(b"tail"));
    }
}

#[test]
fn the_peer_s_reset_is_told_once_and_its_token_is_dead() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        client.write_all(b"x").unwrap();
        run(&mut net, keep, |_, h| !h.is_empty());
        reset_on_close(client.as_raw_fd());
        drop(client);
        let heard = run(&mut net, keep, |net, _| net.conns() == 0);
        assert_eq!(heard, [Heard::Closed(token, io::ErrorKind::ConnectionReset)]);
        net.out(token).push(1);
        net.pause_recv(token);
        net.resume_recv(token);
        net.close(token, Close::Abort);
        net.flush().unwrap();
        assert_eq!(net.reap(&mut |e| panic!("{e:?}")), 0);
    }
}

#[test]
fn a_paused_connection_hears_nothing_and_then_everything_in_order() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        let sent = pattern(9, 300_000);
        client.write_all(&sent[..1000]).unwrap();
        net.pause_recv(token);
        let bytes = sent.clone();
        let writer = thread::spawn(move || {
            client.write_all(&bytes[1000..]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            net.park(Some(Duration::from_millis(5))).unwrap();
            net.reap(&mut |e| panic!("paused, but {e:?}"));
        }
        // Short pauses must not change the order either.
        let mut got = Vec::new();
        let mut turns = 0;
        while got.len() < sent.len() {
            net.resume_recv(token);
            net.park(Some(PATIENCE)).unwrap();
            net.reap(&mut |e| match e {
                NetEvent::Data { bytes, .. } => got.extend_from_slice(bytes),
                NetEvent::Eof { .. } => {}
                other => panic!("{other:?}"),
            });
            turns += 1;
            assert!(turns < 100_000);
            if turns % 2 == 0 {
                net.pause_recv(token);
            }
        }
        assert!(got == sent);
        drop(writer.join().unwrap());
    }
}

#[test]
fn the_end_of_a_paused_stream_comes_after_its_bytes() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        client.write_all(b"last words").unwrap();
        drop(client);
        thread::sleep(Duration::from_millis(50));
        net.pause_recv(token); // both completions may already be there
        net.park(Some(Duration::from_millis(50))).unwrap();
        net.reap(&mut |e| panic!("paused, but {e:?}"));
        net.resume_recv(token);
        let heard = run(&mut net, keep, |_, h| h.contains(&Heard::Eof(token)));
        assert_eq!(heard, [Heard::Data(token, b"last words".to_vec()), Heard::Eof(token)]);
        net.close(token, Close::Graceful);
        run(&mut net, keep, |net, _| net.conns() == 0);
    }
}

#[test]
fn a_removed_listener_frees_its_port() {
    for backend in backends() {
        let (mut net, _token, _client) = pair(backend, &small());
        let at = net.table.listeners[0].as_ref().unwrap().socket.local_addr().unwrap();
        let mut late = TcpStream::connect(at).unwrap();
        net.flush().unwrap(); // accepted by the kernel, but not reported yet
        net.remove_listener(0);
        assert_eq!(run(&mut net, keep, |net, _| net.table.listeners[0].is_none()), []);
        assert_eq!(late.read(&mut [0]).unwrap_or(0), 0, "turned away");
        assert_eq!(TcpStream::connect(at).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let again = listen(ListenAddr::At(at), &ListenOptions::default()).unwrap();
        assert_eq!(net.add_listener(again).unwrap(), 0);
        let _second = TcpStream::connect(at).unwrap();
        run(&mut net, keep, |_, h| matches!(h, [Heard::Accepted(_)]));
    }
}

#[test]
fn idle_connections_hold_no_buffers() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        net.out(token).extend_from_slice(b"answer");
        run(&mut net, keep, |net, _| net.queued(token) == 0);
        net.out(token); // requested but not used
        net.flush().unwrap();
        let c = net.table.slab.open(token).unwrap();
        assert_eq!((c.out.capacity(), c.sending.capacity(), c.held.capacity()), (0, 0, 0));
        client.read_exact(&mut [0; 6]).unwrap();
    }
}

#[test]
fn dropping_it_with_operations_in_flight_is_safe_and_closes_everything() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        net.out(token).extend_from_slice(&pattern(5, 16 << 20));
        net.flush().unwrap();
        drop(net);
        let mut back = Vec::new();
        // The descriptor is closed, so the stream ends. Whether by FIN or by reset is up to the kernel.
        let _ = client.read_to_end(&mut back);
        assert!(back.len() < 16 << 20 && back[..] == pattern(5, 16 << 20)[..back.len()]);
    }
}

#[test]
fn receives_that_find_no_buffer_go_on_when_there_is_one() {
    for backend in backends() {
        let mut net = Net::new(backend, &NetOptions { buffers: 2, buffer_len: 64, ..small() }).unwrap();
        let l = listen(local(), &ListenOptions::default()).unwrap();
        let at = l.local_addr().unwrap();
        net.add_listener(l).unwrap();
        let mut clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
        run(&mut net, keep, |net, _| net.conns() == 8);
        for (i, c) in clients.iter_mut().enumerate() {
            c.write_all(&pattern(i, 500)).unwrap();
        }
        let got = run(&mut net, keep, |net, _| net.stats().bytes_in == 4000);
        assert!(net.stats().starved > 0, "8 connections had data for 2 buffers");
        let mut per_conn: HashMap<ConnId, Vec<u8>> = HashMap::new();
        for e in got {
            let Heard::Data(t, bytes) = e else { panic!("{e:?}") };
            per_conn.entry(t).or_default().extend(bytes);
        }
        let mut want: Vec<_> = (0..8).map(|i| pattern(i, 500)).collect();
        let mut have: Vec<_> = per_conn.into_values().collect();
        want.sort();
        have.sort();
        assert!(have == want);
    }
}

#[test]
fn clients_of_a_dual_stack_listener_appear_with_their_own_address() {
    for backend in backends() {
        let mut net = Net::new(backend, &small()).unwrap();
        let l = listen(ListenAddr::Any(0), &ListenOptions::default()).unwrap();
        let port = l.local_addr().unwrap().port();
        net.add_listener(l).unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut peers = Vec::new();
        while peers.is_empty() {
            net.park(Some(PATIENCE)).unwrap();
            net.reap(&mut |e| match e {
                NetEvent::Accepted { peer, listener: 0, .. } => peers.push(peer),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(peers, [client.local_addr().unwrap()]);
    }
}

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<conn::Conn>() <= 136, "{}", size_of::<conn::Conn>());
}

#[test]
fn a_dropped_net_frees_its_ports_at_once() {
    for backend in backends() {
        let mut at = local();
        for _ in 0..30 {
            let l = listen::listen_within(at, &ListenOptions::default(), Duration::ZERO).unwrap();
            let here = l.local_addr().unwrap();
            at = ListenAddr::At(here);
            let mut net = Net::new(backend, &small()).unwrap();
            net.add_listener(l).unwrap();
            let _client = TcpStream::connect(here).unwrap();
            run(&mut net, keep, |_, h| !h.is_empty());
        }
    }
}

#[test]
fn a_full_submission_queue_loses_nothing() {
    for backend in backends() {
        let mut net = Net::new(backend, &NetOptions { entries: 1, ..small() }).unwrap();
        let l = listen(local(), &ListenOptions { backlog: Some(128), ..Default::default() }).unwrap();
        let at = l.local_addr().unwrap();
        net.add_listener(l).unwrap();
        let mut clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(at).unwrap()).collect();
        let heard = run(&mut net, keep, |net, _| net.conns() == 50);
        for e in &heard {
            if let Heard::Accepted(t) = e {
                net.out(*t).extend_from_slice(b"hello");
            }
        }
        run(&mut net, keep, |net, _| net.stats().bytes_out == 250);
        for c in &mut clients {
            c.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut b = [0; 5];
            c.read_exact(&mut b).unwrap();
            assert_eq!(&b, b"hello");
        }
    }
}

#[test]
fn a_wake_up_ends_a_park_without_timeout() {
    for backend in backends() {
        let mut net = Net::new(backend, &small()).unwrap();
        let waker = net.waker();
        for _ in 0..200 {
            let w = waker.clone();
            let t = thread::spawn(move || w.wake());
            // Either it was notified before it slept, or the eventfd is reaped.
            while net.park(None).unwrap() != Parked::Notified {
                if net.reap(&mut |e| assert!(matches!(e, NetEvent::Woken))) > 0 {
                    break;
                }
            }
            t.join().unwrap();
            // A wake-up that came late belongs to this round.
            net.park(Some(Duration::from_millis(1))).unwrap();
            net.reap(&mut |_| {});
        }
    }
}
