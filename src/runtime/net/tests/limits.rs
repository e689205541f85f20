//! The limits that keep clients from using up connections and file descriptors.

use super::*;

#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    in_own_process!("descriptors_run_out");
}

#[test]
#[ignore = "run by without_descriptors_it_waits_and_goes_on_when_there_are_some"]
fn descriptors_run_out() {
    for backend in backends() {
        let mut net = Net::new(backend, &small()).unwrap();
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
}

#[test]
fn beyond_max_conns_clients_are_turned_away_until_one_leaves() {
    for backend in backends() {
        let (mut net, token, _client) = pair(backend, &NetOptions { max_conns: 1, ..small() });
        let at = net.table.listeners[0].as_ref().unwrap().socket.local_addr().unwrap();
        let mut second = TcpStream::connect(at).unwrap();
        assert_eq!(run(&mut net, keep, |_, h| !h.is_empty()), [Heard::Refused]);
        assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
        net.close(token, Close::Abort);
        run(&mut net, keep, |net, _| net.conns() == 0);
        let _third = TcpStream::connect(at).unwrap();
        let heard = run(&mut net, keep, |_, h| !h.is_empty());
        assert!(matches!(heard[..], [Heard::Accepted(t)] if slot(t) == slot(token) && t != token), "{heard:?}");
    }
}

#[test]
fn clients_leave_descriptors_to_files() {
    in_own_process!("few_descriptors");
}

#[test]
#[ignore = "run by clients_leave_descriptors_to_files"]
fn few_descriptors() {
    const LIMIT: u64 = 128;
    for backend in backends() {
        let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid place for the result.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut l) }, 0);
        // The clients are in this process too. They connect while the limit is high, and wait in the backlog.
        let listener = listen(local(), &ListenOptions { backlog: Some(256), ..Default::default() }).unwrap();
        let at = listener.local_addr().unwrap();
        // Their numbers are as high as those that the server will get; lower numbers are the server's own.
        let mut held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(at).unwrap()).collect();
        let mut clients: Vec<std::os::fd::OwnedFd> = Vec::new();
        for stream in held.drain(..) {
            clients.push(above(stream, 1000));
        }
        let low = libc::rlimit { rlim_cur: LIMIT, ..l };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
        let mut net = Net::new(backend, &small()).unwrap();
        net.add_listener(listener).unwrap();
        let heard = run(&mut net, keep, |_, h| h.contains(&Heard::AcceptPaused));
        let until = Instant::now() + Duration::from_millis(600);
        while Instant::now() < until {
            net.park(Some(Duration::from_millis(100))).unwrap();
            net.reap(&mut |e| panic!("{backend}: {e:?}"));
        }
        let taken = net.stats().accepted;
        assert!((50..=96).contains(&taken), "{backend}: {taken} of 200 were accepted");
        let files: Vec<_> =
            (0..16).map(|_| std::fs::File::open("/dev/null").expect("files have their share")).collect();
        drop(files);
        // Other servers are not kept out by clients.
        let reserved = listen(local(), &ListenOptions::default()).unwrap();
        let at = reserved.local_addr().unwrap();
        net.add_reserved_listener(reserved).unwrap();
        let other = TcpStream::connect(at).unwrap();
        let heard_of_other = run(&mut net, keep, |_, h| !h.is_empty());
        assert!(matches!(heard_of_other[..], [Heard::Accepted(_)]), "{backend}: {heard_of_other:?}");
        // Closing half of them makes room: accepting continues without further action.
        let ids: Vec<ConnId> = net.open_conns().take(40).collect();
        ids.iter().for_each(|id| net.close(*id, Close::Abort));
        let more =
            run(&mut net, keep, |net, h| h.contains(&Heard::AcceptResumed) && net.stats().accepted >= taken + 40);
        assert_eq!(more.iter().filter(|h| **h == Heard::AcceptResumed).count(), 1);
        drop((net, clients, heard, other));
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &l) }, 0);
    }
}

/// The same connection with a descriptor number of at least `number`.
fn above(stream: TcpStream, number: libc::c_int) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
    assert!(fd >= number, "{}", io::Error::last_os_error());
    // SAFETY: as above.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
