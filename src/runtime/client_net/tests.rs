//! Real loopback sockets: std clients against a [`ClientNet`] on a thread of its own.

use super::*;
use crate::runtime::in_own_process;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);

fn small() -> NetOptions {
    NetOptions { entries: 32, buffers: 16, buffer_len: 512, max_conns: 4096, linger: Duration::from_secs(1) }
}

fn local() -> ListenAddr {
    ListenAddr::At(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
}

/// Runs turns until `done` says so; fails the test when it does not within `PATIENCE`.
fn run(
    net: &mut ClientNet,
    mut on: impl FnMut(&mut Vec<Heard>, Heard),
    done: impl Fn(&ClientNet, &[Heard]) -> bool,
) -> Vec<Heard> {
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

/// An event that can be kept.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Accepted(Token),
    Data(Token, Vec<u8>),
    Eof(Token),
    Closed(Token, io::ErrorKind),
    Writable(Token),
    Refused,
    AcceptFailed,
    Woken,
}

impl From<NetEvent<'_>> for Heard {
    fn from(e: NetEvent<'_>) -> Heard {
        match e {
            NetEvent::Accepted { token, .. } => Heard::Accepted(token),
            NetEvent::Data { token, bytes } => Heard::Data(token, bytes.to_vec()),
            NetEvent::Eof { token } => Heard::Eof(token),
            NetEvent::Closed { token, reason } => Heard::Closed(token, reason.kind()),
            NetEvent::Writable { token } => Heard::Writable(token),
            NetEvent::Refused { .. } => Heard::Refused,
            NetEvent::AcceptFailed { .. } => Heard::AcceptFailed,
            NetEvent::Woken => Heard::Woken,
        }
    }
}

/// One connection: the server's side and the client's.
fn pair(options: &NetOptions) -> (ClientNet, Token, TcpStream) {
    let mut net = ClientNet::new(options).unwrap();
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

/// An echo server on a thread; ends by flag and waker, checks that nothing is left, returns the counters.
struct Echo {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<thread::JoinHandle<NetStats>>,
}

impl Echo {
    fn start(options: NetOptions) -> Echo {
        let (tx, rx) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            let mut net = ClientNet::new(&options).unwrap();
            let l = listen(local(), &ListenOptions::default()).unwrap();
            tx.send((l.local_addr().unwrap(), net.waker())).unwrap();
            net.add_listener(l).unwrap();
            let mut turn: HashMap<Token, (Vec<u8>, bool)> = HashMap::new();
            while !flag.load(Ordering::SeqCst) || net.conns() > 0 {
                net.park(None).unwrap();
                net.reap(&mut |e| match e {
                    NetEvent::Data { token, bytes } => turn.entry(token).or_default().0.extend_from_slice(bytes),
                    NetEvent::Eof { token } => turn.entry(token).or_default().1 = true,
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

    /// All clients must be gone; a slot that stays in use would hang here.
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
    let echo = Echo::start(small());
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

#[test]
fn large_payloads_survive_partial_sends_and_half_close() {
    let echo = Echo::start(small());
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

#[test]
fn abrupt_closes_and_garbage_leave_nothing_behind() {
    let echo = Echo::start(small());
    for round in 0..40 {
        let mut clients: Vec<TcpStream> = (0..10).map(|_| echo.connect()).collect();
        for (i, c) in clients.iter_mut().enumerate() {
            c.write_all(&pattern(round, 1 + i * 300)).unwrap();
            match i % 3 {
                0 => set_linger_zero(c.as_raw_fd()), // reset with the echo unread
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
    // 160 of them are reset, perhaps before they are accepted.
    assert!((241..=401).contains(&echo.finish().accepted));
}

#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    in_own_process!("descriptors_run_out");
}

#[test]
#[ignore = "run by without_descriptors_it_waits_and_goes_on_when_there_are_some"]
fn descriptors_run_out() {
    let mut net = ClientNet::new(&small()).unwrap();
    let listener = listen(local(), &ListenOptions::default()).unwrap();
    let mut late = TcpStream::connect(listener.local_addr().unwrap()).unwrap(); // waits in the backlog
    let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for the result.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut l) }, 0);
    let low = libc::rlimit { rlim_cur: 3, ..l };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
    net.add_listener(listener).unwrap(); // the limit counts from when the accept is armed
    let enters = net.stats().enters;
    let until = Instant::now() + Duration::from_millis(700);
    let mut failures = 0;
    while Instant::now() < until {
        net.park(Some(Duration::from_millis(700))).unwrap();
        net.reap(&mut |e| match e {
            NetEvent::AcceptFailed { error, .. } if error.raw_os_error() == Some(libc::EMFILE) => failures += 1,
            other => panic!("{other:?}"),
        });
    }
    assert!((1..=4).contains(&failures), "told {failures} times");
    assert!(net.stats().enters - enters < 40, "it spins: {} enters", net.stats().enters - enters);
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &l) }, 0);
    let heard = run(&mut net, keep, |_, h| matches!(h.last(), Some(Heard::Accepted(_))));
    let Some(Heard::Accepted(t)) = heard.last().cloned() else { panic!() };
    net.out(t).push(7);
    net.flush().unwrap();
    late.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_slow_reader_keeps_its_backlog_and_hears_writable_once() {
    let (mut net, token, mut client) = pair(&small());
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

#[test]
fn graceful_close_delivers_the_queue_abort_resets() {
    let (mut net, token, mut client) = pair(&small());
    client.write_all(b"never answered").unwrap();
    net.out(token).extend_from_slice(&pattern(5, 100_000));
    net.close(token, Close::Graceful);
    net.out(token).extend_from_slice(b"after close: nowhere");
    assert_eq!(net.queued(token), 0);
    let reader = thread::spawn(move || {
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == pattern(5, 100_000));
    });
    let heard = run(&mut net, keep, |net, _| net.conns() == 0);
    assert_eq!(heard, [], "no event for a connection its owner closed");
    reader.join().unwrap();

    let (mut net, token, mut client) = pair(&small());
    net.out(token).extend_from_slice(b"lost");
    net.close(token, Close::Abort);
    run(&mut net, keep, |net, _| net.conns() == 0);
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reader_that_never_reads_is_cut_off_after_the_linger_time() {
    let (mut net, token, client) = pair(&small());
    net.out(token).extend_from_slice(&pattern(5, 32 << 20));
    net.close(token, Close::Graceful);
    run(&mut net, keep, |net, _| net.conns() == 0);
    drop(client);
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_cut_off_too() {
    let (mut net, token, mut client) = pair(&NetOptions { linger: Duration::from_millis(500), ..small() });
    net.out(token).extend_from_slice(&pattern(5, 64 << 20));
    let began = Instant::now();
    net.close(token, Close::Graceful);
    let reader = thread::spawn(move || {
        let mut piece = vec![0; 256 << 10];
        let mut all = 0;
        loop {
            match client.read(&mut piece) {
                Ok(0) => return (all, None),
                Ok(n) => all += n,
                Err(e) => return (all, Some(e.kind())),
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    run(&mut net, keep, |net, _| net.conns() == 0);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(5), "it took something in every half second, and was cut off after {took:?}");
    let (all, end) = reader.join().unwrap();
    assert!(all < 64 << 20, "{all} bytes");
    assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
}

#[test]
fn the_peer_s_reset_is_told_once_and_its_token_is_dead() {
    let (mut net, token, mut client) = pair(&small());
    client.write_all(b"x").unwrap();
    run(&mut net, keep, |_, h| !h.is_empty());
    set_linger_zero(client.as_raw_fd());
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

#[test]
fn a_paused_connection_hears_nothing_and_then_everything_in_order() {
    let (mut net, token, mut client) = pair(&small());
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
    // Short pauses in between must not reorder either.
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

#[test]
fn the_end_of_a_paused_stream_comes_after_its_bytes() {
    let (mut net, token, mut client) = pair(&small());
    client.write_all(b"last words").unwrap();
    drop(client);
    thread::sleep(Duration::from_millis(50));
    net.pause_recv(token); // both completions may be there already
    net.park(Some(Duration::from_millis(50))).unwrap();
    net.reap(&mut |e| panic!("paused, but {e:?}"));
    net.resume_recv(token);
    let heard = run(&mut net, keep, |_, h| h.contains(&Heard::Eof(token)));
    assert_eq!(heard, [Heard::Data(token, b"last words".to_vec()), Heard::Eof(token)]);
    net.close(token, Close::Graceful);
    run(&mut net, keep, |net, _| net.conns() == 0);
}

#[test]
fn beyond_max_conns_clients_are_turned_away_until_one_leaves() {
    let (mut net, token, _client) = pair(&NetOptions { max_conns: 1, ..small() });
    let at = net.listeners[0].as_ref().unwrap().socket.local_addr().unwrap();
    let mut second = TcpStream::connect(at).unwrap();
    assert_eq!(run(&mut net, keep, |_, h| !h.is_empty()), [Heard::Refused]);
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    net.close(token, Close::Abort);
    run(&mut net, keep, |net, _| net.conns() == 0);
    let _third = TcpStream::connect(at).unwrap();
    let heard = run(&mut net, keep, |_, h| !h.is_empty());
    assert!(matches!(heard[..], [Heard::Accepted(t)] if t.index() == token.index() && t != token), "{heard:?}");
}

#[test]
fn a_removed_listener_frees_its_port() {
    let (mut net, _token, _client) = pair(&small());
    let at = net.listeners[0].as_ref().unwrap().socket.local_addr().unwrap();
    let mut late = TcpStream::connect(at).unwrap();
    net.flush().unwrap(); // accepted by the kernel, not yet told
    net.remove_listener(0);
    assert_eq!(run(&mut net, keep, |net, _| net.listeners[0].is_none()), []);
    assert_eq!(late.read(&mut [0]).unwrap_or(0), 0, "turned away");
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let again = listen(ListenAddr::At(at), &ListenOptions::default()).unwrap();
    assert_eq!(net.add_listener(again).unwrap(), 0);
    let _second = TcpStream::connect(at).unwrap();
    run(&mut net, keep, |_, h| matches!(h, [Heard::Accepted(_)]));
}

#[test]
fn idle_connections_hold_no_buffers() {
    let (mut net, token, mut client) = pair(&small());
    net.out(token).extend_from_slice(b"answer");
    run(&mut net, keep, |net, _| net.queued(token) == 0);
    net.out(token); // asked for, not used
    net.flush().unwrap();
    let c = net.slab.open(token).unwrap();
    assert_eq!((c.out.capacity(), c.sending.capacity(), c.held.capacity()), (0, 0, 0));
    client.read_exact(&mut [0; 6]).unwrap();
}

#[test]
fn dropping_it_with_operations_in_flight_is_safe_and_closes_everything() {
    let (mut net, token, mut client) = pair(&small());
    net.out(token).extend_from_slice(&pattern(5, 16 << 20));
    net.flush().unwrap();
    drop(net);
    let mut back = Vec::new();
    // The descriptor is closed, so the stream ends; how (FIN or reset) is the kernel's choice.
    let _ = client.read_to_end(&mut back);
    assert!(back.len() < 16 << 20 && back[..] == pattern(5, 16 << 20)[..back.len()]);
}

#[test]
fn receives_that_find_no_buffer_go_on_when_there_is_one() {
    let mut net = ClientNet::new(&NetOptions { buffers: 2, buffer_len: 64, ..small() }).unwrap();
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
    let mut per_conn: HashMap<Token, Vec<u8>> = HashMap::new();
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

#[test]
fn clients_of_a_dual_stack_listener_appear_with_their_own_address() {
    let mut net = ClientNet::new(&small()).unwrap();
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

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<conn::Conn>() <= 128, "{}", size_of::<conn::Conn>());
}

#[test]
fn a_dropped_net_frees_its_ports_at_once() {
    let mut at = local();
    for _ in 0..30 {
        let l = listen::listen_within(at, &ListenOptions::default(), Duration::ZERO).unwrap();
        let here = l.local_addr().unwrap();
        at = ListenAddr::At(here);
        let mut net = ClientNet::new(&small()).unwrap();
        net.add_listener(l).unwrap();
        let _client = TcpStream::connect(here).unwrap();
        run(&mut net, keep, |_, h| !h.is_empty());
    }
}

#[test]
fn a_full_submission_queue_loses_nothing() {
    let mut net = ClientNet::new(&NetOptions { entries: 1, ..small() }).unwrap();
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

#[test]
fn a_wake_up_ends_a_park_without_timeout() {
    let mut net = ClientNet::new(&small()).unwrap();
    let waker = net.waker();
    for _ in 0..200 {
        let w = waker.clone();
        let t = thread::spawn(move || w.wake());
        // Either it was notified before it slept, or the bell is reaped.
        while net.park(None).unwrap() != Parked::Notified {
            if net.reap(&mut |e| assert!(matches!(e, NetEvent::Woken))) > 0 {
                break;
            }
        }
        t.join().unwrap();
        // A bell that rang late belongs to this round.
        net.park(Some(Duration::from_millis(1))).unwrap();
        net.reap(&mut |_| {});
    }
}
