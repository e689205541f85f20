//! How connections end: a peer that reads gets everything that was queued, and only one that reads nothing is reset.

use super::*;

#[test]
fn graceful_close_delivers_the_queue_abort_resets() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
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

        let (mut net, token, mut client) = pair(backend, &small());
        net.out(token).extend_from_slice(b"lost");
        net.close(token, Close::Abort);
        run(&mut net, keep, |net, _| net.conns() == 0);
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_reader_that_never_reads_is_cut_off_after_the_linger_time() {
    for backend in backends() {
        let (mut net, token, client) = pair(backend, &small());
        net.out(token).extend_from_slice(&pattern(5, 32 << 20));
        net.close(token, Close::Graceful);
        run(&mut net, keep, |net, _| net.conns() == 0);
        drop(client);
    }
}

/// Reads in pieces, with a pause before each of the first 2 MiB; returns the number of bytes and how the connection ended.
fn slowly(mut client: TcpStream, piece: usize, pause: Duration) -> (usize, Option<io::ErrorKind>) {
    let mut bytes = vec![0; piece];
    let mut all = 0;
    loop {
        if all < 2 << 20 {
            thread::sleep(pause);
        }
        match client.read(&mut bytes) {
            Ok(0) => return (all, None),
            Ok(n) => all += n,
            Err(e) => return (all, Some(e.kind())),
        }
    }
}

#[test]
fn a_reader_that_makes_progress_gets_all_of_it_however_long_it_takes() {
    for backend in backends() {
        let (mut net, token, client) = pair(backend, &NetOptions { linger: Duration::from_millis(750), ..small() });
        // A small window, so that acknowledgements show progress soon; the kernel still takes megabytes at once, and takes
        // more only when a third of that is acknowledged, which lasts longer than the linger time.
        let len: libc::c_int = 64 << 10;
        socket::set_option(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &len).unwrap();
        let sent = 6 << 20;
        net.out(token).extend_from_slice(&pattern(5, sent));
        net.close(token, Close::Graceful);
        let began = Instant::now();
        let reader = thread::spawn(move || slowly(client, 64 << 10, Duration::from_millis(100)));
        run(&mut net, keep, |net, _| net.conns() == 0);
        assert!(began.elapsed() > Duration::from_millis(1500), "{backend}: too fast to show anything");
        assert_eq!(reader.join().unwrap(), (sent, None), "{backend}");
    }
}

#[test]
fn a_peer_that_has_everything_and_does_not_close_is_not_reset() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &NetOptions { linger: Duration::from_millis(250), ..small() });
        net.out(token).extend_from_slice(b"goodbye");
        net.close(token, Close::Graceful);
        run(&mut net, keep, |net, _| net.conns() == 0);
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("FIN, no reset");
        assert_eq!(all, b"goodbye");
    }
}

#[test]
fn what_a_client_sends_while_it_is_turned_away_makes_no_reset() {
    for backend in backends() {
        let (mut net, token, mut client) = pair(backend, &small());
        client.write_all(&pattern(1, 2000)).unwrap();
        net.close(token, Close::Graceful);
        let writer = thread::spawn(move || {
            client.write_all(&pattern(2, 100_000)).unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        run(&mut net, keep, |net, _| net.conns() == 0);
        assert_eq!(writer.join().unwrap().expect("FIN, no reset"), 0, "{backend}");
    }
}

#[test]
fn a_reset_while_leaving_frees_the_slot() {
    for backend in backends() {
        let (mut net, token, client) = pair(backend, &NetOptions { linger: PATIENCE, ..small() });
        net.out(token).extend_from_slice(&pattern(5, 16 << 20));
        net.close(token, Close::Graceful);
        net.flush().unwrap();
        reset_on_close(client.as_raw_fd());
        drop(client);
        assert_eq!(run(&mut net, keep, |net, _| net.conns() == 0), []);
    }
}
