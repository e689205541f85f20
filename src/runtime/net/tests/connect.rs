//! Outgoing connections, and bytes over them in both directions.

use super::*;

/// Two nets with a connection from the first to the second; each net has its own id for the connection.
fn two(backend: Backend) -> (Net, ConnId, Net, ConnId) {
    let (mut from, mut to) = (Net::new(backend, &small()).unwrap(), Net::new(backend, &small()).unwrap());
    let l = listen(local(), &ListenOptions::default()).unwrap();
    let at = l.local_addr().unwrap();
    to.add_listener(l).unwrap();
    let dialed = from.connect(at).unwrap();
    from.out(dialed).extend_from_slice(b"too early");
    assert_eq!(from.queued(dialed), 0);
    assert_eq!(run(&mut from, keep, |_, h| !h.is_empty()), [Heard::Connected(dialed)]);
    let heard = run(&mut to, keep, |_, h| !h.is_empty());
    let Heard::Accepted(accepted) = heard[0] else { panic!("{heard:?}") };
    (from, dialed, to, accepted)
}

#[test]
fn both_ends_speak_and_end() {
    for backend in backends() {
        let (mut from, dialed, mut to, accepted) = two(backend);
        from.out(dialed).extend_from_slice(b"hello");
        from.flush().unwrap();
        assert_eq!(run(&mut to, keep, |_, h| !h.is_empty()), [Heard::Data(accepted, b"hello".to_vec())]);
        to.out(accepted).extend_from_slice(b"welcome");
        to.close(accepted, Close::Graceful);
        assert_eq!(run(&mut to, keep, |net, _| net.stats().bytes_out == 7), []);
        to.flush().unwrap();
        let heard = run(&mut from, keep, |_, h| h.contains(&Heard::Eof(dialed)));
        assert_eq!(heard, [Heard::Data(dialed, b"welcome".to_vec()), Heard::Eof(dialed)]);
        from.close(dialed, Close::Graceful);
        run(&mut from, keep, |net, _| net.conns() == 0);
        assert_eq!(run(&mut to, keep, |net, _| net.conns() == 0), []);
    }
}

#[test]
fn a_stream_waits_for_its_reader_in_both_directions() {
    for backend in backends() {
        let (mut a, at_a, mut b, at_b) = two(backend);
        let (there, back) = (pattern(1, 9 << 20), pattern(2, 7 << 20));
        a.out(at_a).extend_from_slice(&there);
        b.out(at_b).extend_from_slice(&back);
        a.pause_recv(at_a);
        b.pause_recv(at_b);
        for net in [&mut a, &mut b] {
            for _ in 0..20 {
                net.park(Some(Duration::from_millis(5))).unwrap();
                net.reap(&mut |e| panic!("paused, but {e:?}"));
            }
        }
        assert!(a.queued(at_a) > 0 && b.queued(at_b) > 0, "{backend}: nothing held it back");
        a.resume_recv(at_a);
        b.resume_recv(at_b);
        let (mut got_a, mut got_b) = (Vec::new(), Vec::new());
        let until = Instant::now() + PATIENCE;
        while got_a.len() < back.len() || got_b.len() < there.len() {
            assert!(Instant::now() < until, "{backend}: {} and {}", got_a.len(), got_b.len());
            for (net, got) in [(&mut a, &mut got_a), (&mut b, &mut got_b)] {
                net.park(Some(Duration::from_millis(1))).unwrap();
                net.reap(&mut |e| match e {
                    NetEvent::Data { bytes, .. } => got.extend_from_slice(bytes),
                    other => panic!("{other:?}"),
                });
            }
        }
        assert!(got_a == back && got_b == there);
    }
}

#[test]
fn who_does_not_listen_is_told_by_name() {
    for backend in backends() {
        let mut net = Net::new(backend, &small()).unwrap();
        let nobody = listen(local(), &ListenOptions::default()).unwrap().local_addr().unwrap();
        let id = net.connect(nobody).unwrap();
        let heard = run(&mut net, keep, |_, h| !h.is_empty());
        assert_eq!(heard, [Heard::ConnectFailed(id, io::ErrorKind::ConnectionRefused)]);
        assert_eq!(net.conns(), 0);
        net.close(id, Close::Abort);
    }
}

#[test]
fn an_attempt_is_given_up_by_closing_it() {
    for backend in backends() {
        // If the backlog of a listener is full, further connection attempts are not answered.
        let l = listen(local(), &ListenOptions { backlog: Some(1), ..Default::default() }).unwrap();
        let at = l.local_addr().unwrap();
        let mut net = Net::new(backend, &small()).unwrap();
        let ids: Vec<ConnId> = (0..8).map(|_| net.connect(at).unwrap()).collect();
        let mut made = run(&mut net, keep, |_, h| h.len() >= 2);
        made.sort_by_key(|h| format!("{h:?}"));
        let open: Vec<ConnId> = net.open_conns().collect();
        assert!((2..8).contains(&open.len()), "{backend}: {made:?}");
        ids.iter().for_each(|id| net.close(*id, Close::Graceful));
        drop(l);
        assert_eq!(run(&mut net, keep, |net, _| net.conns() == 0), [], "no event for what was given up");
    }
}

#[test]
fn an_adopted_stream_is_as_good_as_an_accepted_one() {
    for backend in backends() {
        let l = listen(local(), &ListenOptions::default()).unwrap();
        let mut far = TcpStream::connect(l.local_addr().unwrap()).unwrap();
        let (near, _) = l.accept().unwrap();
        let mut net = Net::new(backend, &NetOptions { max_conns: 1, ..small() }).unwrap();
        let id = net.adopt(near).unwrap();
        far.write_all(b"abc").unwrap();
        assert_eq!(run(&mut net, keep, |_, h| !h.is_empty()), [Heard::Data(id, b"abc".to_vec())]);
        net.out(id).extend_from_slice(b"def");
        net.flush().unwrap();
        far.read_exact(&mut [0; 3]).unwrap();
        let another = TcpStream::connect(l.local_addr().unwrap()).unwrap();
        let back = net.adopt(another).expect_err("max_conns is 1");
        assert!(back.peer_addr().is_ok(), "given back whole");
        assert!(net.connect(l.local_addr().unwrap()).is_err());
    }
}
