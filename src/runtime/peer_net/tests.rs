//! Servers' connections over real sockets of the loopback, on both back ends. Clocks are the tests'.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::quorum::{Member, PeerAddress, Role};
use crate::runtime::net::tests::backends;
use crate::runtime::net::{Backend, NetOptions};
use crate::types::Zxid;
use crate::zab::hello::ElectionAddress;

const PATIENCE: Duration = Duration::from_secs(60);
const TERM: Term = Term(3);

/// An address of this process alone (it has its number), and two ports that no other test has and nobody else uses.
fn fresh() -> PeerAddress {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [a, b, c, d] = std::process::id().to_be_bytes();
    assert!(a == 0 && b < 64, "a process with the number {a} {b} {c} {d}");
    let first = 2048 + u16::from(d) * 110;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let port = loop {
        let port = first + NEXT.fetch_add(2, Ordering::Relaxed);
        if is_free(port) && is_free(port + 1) {
            break port;
        }
    };
    PeerAddress { host: Ipv4Addr::new(127, b + 64, c, d).to_string(), quorum_port: port, election_port: port + 1 }
}

fn members(addresses: &[PeerAddress]) -> Arc<Members> {
    let member = |address: &PeerAddress| Member {
        addresses: vec![address.clone()],
        role: Role::Participant,
        client: None,
        secure_client: None,
    };
    let of = |(n, address)| (ServerId(n as i64 + 1), member(address));
    let all: BTreeMap<_, _> = addresses.iter().enumerate().map(of).collect();
    Arc::new(Members::majority(all, Zxid::ZERO).unwrap())
}

/// One server, whose clock the test moves.
struct Server {
    net: Net,
    peers: PeerNet,
    now_ms: i64,
    /// Events that no test has looked at yet.
    events: VecDeque<NetEvent>,
}

fn server_with(
    backend: Backend,
    me: i64,
    addresses: &[PeerAddress],
    change: impl FnOnce(&mut PeerNetOptions),
) -> Server {
    let linger = Duration::from_secs(60);
    let sizes = NetOptions { buffers: 16, max_conns: 64, linger, ..NetOptions::default() };
    let mut net = Net::new(backend, &sizes).unwrap();
    let mut options = PeerNetOptions {
        me: ServerId(me),
        members: members(addresses),
        on_all_ips: false,
        keepalive: true,
        election_tries: 3,
        election_dial_ms: 5000,
        leader_dial_ms: 20_000,
    };
    change(&mut options);
    let mut peers = PeerNet::new(options, Bell::Core(net.waker()));
    peers.start(&mut net, 1000);
    Server { net, peers, now_ms: 1000, events: VecDeque::new() }
}

fn server(backend: Backend, me: i64, addresses: &[PeerAddress]) -> Server {
    server_with(backend, me, addresses, |_| ())
}

impl Server {
    /// One turn of a core; what happened is in `events`.
    fn turn(&mut self) {
        self.peers.flush(&mut self.net);
        self.net.park(Some(Duration::from_millis(2))).unwrap();
        let mut others = 0;
        let peers = &mut self.peers;
        self.net.reap(&mut |event| match peers.hear(event) {
            None | Some(Event::Woken) => {}
            Some(_) => others += 1,
        });
        assert_eq!(others, 0, "events that belong to nobody");
        self.peers.turn(&mut self.net, self.now_ms);
        while let Some(event) = self.peers.next() {
            self.events.push_back(event);
        }
    }

    fn want(&mut self, want: NetWant) {
        self.peers.want(&mut self.net, self.now_ms, want);
    }

    fn election(&mut self, want: ElectionWant) {
        self.want(NetWant::Election(want));
    }

    fn role(&mut self, want: QuorumWant) {
        self.want(NetWant::Quorum { term: TERM, want });
    }

    fn listen(&mut self) {
        self.role(QuorumWant::Listen);
        self.wait_for(Port::Quorum, 10);
    }

    /// Until the port is open. `step_ms`: how fast its clock goes meanwhile.
    fn wait_for(&mut self, port: Port, step_ms: i64) {
        let until = Instant::now() + PATIENCE;
        while !self.peers.ports.is_open(port) {
            self.now_ms += step_ms;
            self.turn();
            assert!(Instant::now() < until, "the port is not open");
        }
    }
}

/// A server whose address is a name. It has been looked up, and the election port is open.
fn server_with_a_name(backend: Backend) -> (PeerAddress, Server) {
    let at = PeerAddress { host: "localhost".into(), ..fresh() };
    let mut server = server(backend, 1, std::slice::from_ref(&at));
    server.wait_for(Port::Election, 0);
    (at, server)
}

/// Turns all servers until the first one has an event.
fn event(servers: &mut [&mut Server]) -> NetEvent {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = servers[0].events.pop_front() {
            return event;
        }
        servers.iter_mut().for_each(|server| server.turn());
        assert!(Instant::now() < until, "no event");
    }
}

fn election(servers: &mut [&mut Server]) -> ElectionEvent {
    match event(servers) {
        NetEvent::Election(event) => event,
        other => panic!("{other:?}"),
    }
}

fn quorum(servers: &mut [&mut Server]) -> QuorumEvent {
    match event(servers) {
        NetEvent::Quorum { term: TERM, event } => event,
        other => panic!("{other:?}"),
    }
}

/// Runs a while, and nothing happens: only for events that would be a mistake.
fn silence(servers: &mut [&mut Server]) {
    for _ in 0..20 {
        servers.iter_mut().for_each(|server| server.turn());
    }
    servers.iter().for_each(|server| assert!(server.events.is_empty(), "{:?}", server.events));
}

fn dial(to: i64, at: &PeerAddress) -> ElectionWant {
    let addresses = vec![ElectionAddress { host: at.host.clone(), port: at.election_port }];
    ElectionWant::Dial { to: ServerId(to), addresses, only: None }
}

/// A server that is the first one's leader, or learner.
fn follow(leader: &mut Server, learner: &mut Server) -> (ConnId, ConnId) {
    leader.listen();
    learner.role(QuorumWant::Dial { leader: ServerId(1) });
    let QuorumEvent::Dialed { conn: ours } = quorum(&mut [learner, leader]) else { panic!("not connected") };
    let QuorumEvent::Accepted { conn: theirs, .. } = quorum(&mut [leader, learner]) else { panic!("not accepted") };
    (theirs, ours)
}

/// The bytes that come on a quorum connection, until they are so many.
fn bytes(servers: &mut [&mut Server], most: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < most {
        match quorum(servers) {
            QuorumEvent::Bytes { bytes, .. } => all.extend_from_slice(&bytes),
            QuorumEvent::Left { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    all
}

/// Clients use the same sockets of the core; what they do is given back for their shard.
#[test]
fn events_of_clients_are_given_back() {
    for backend in backends() {
        let at = [fresh()];
        let mut a = server(backend, 1, &at);
        let clients = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = clients.local_addr().unwrap().port();
        let number = a.net.add_listener(clients).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.write_all(b"c").unwrap();
        let mut other = stranger(&at[0]);
        other.write_all(b"o").unwrap();
        drop((client, other));
        let (mut of_client, mut of_other) = (Vec::new(), Vec::new());
        let until = Instant::now() + PATIENCE;
        while of_client.len() < 3 || of_other.len() < 3 {
            a.net.park(Some(Duration::from_millis(2))).unwrap();
            let peers = &mut a.peers;
            a.net.reap(&mut |event| match peers.hear(event) {
                Some(Event::Accepted { listener, .. }) if listener == number => of_client.push("accepted"),
                Some(Event::Data { bytes: b"c", .. }) => of_client.push("data"),
                Some(Event::Eof { .. }) => of_client.push("end"),
                None | Some(Event::Woken) => {}
                Some(event) => panic!("{event:?}"),
            });
            a.peers.turn(&mut a.net, a.now_ms);
            while let Some(NetEvent::Election(event)) = a.peers.next() {
                of_other.push(match event {
                    ElectionEvent::Accepted { .. } => "accepted",
                    ElectionEvent::Bytes { bytes, .. } if &bytes[..] == b"o" => "data",
                    ElectionEvent::Closed { .. } => "end",
                    event => panic!("{event:?}"),
                });
            }
            assert!(Instant::now() < until, "{of_client:?}, {of_other:?}");
        }
        assert_eq!([of_client, of_other], [["accepted", "data", "end"]; 2]);
    }
}

#[test]
fn two_servers_talk_over_their_election_ports() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        a.election(dial(2, &at[1]));
        let ElectionEvent::Dialed { to: ServerId(2), conn } = election(&mut [&mut a, &mut b]) else { panic!() };
        a.election(ElectionWant::Write { conn, bytes: Bytes::from_static(b"hello") });
        let ElectionEvent::Written { conn: written } = election(&mut [&mut a, &mut b]) else { panic!() };
        assert_eq!(written, conn);
        let ElectionEvent::Accepted { conn: theirs, from } = election(&mut [&mut b, &mut a]) else { panic!() };
        assert!(from.is_loopback());
        let ElectionEvent::Bytes { conn: heard, bytes } = election(&mut [&mut b, &mut a]) else { panic!() };
        assert_eq!((heard, &bytes[..]), (theirs, &b"hello"[..]));
        // Before it closes, everything leaves.
        b.election(ElectionWant::Write { conn: theirs, bytes: Bytes::from_static(b"bye") });
        b.election(ElectionWant::Close { conn: theirs });
        let ElectionEvent::Bytes { bytes, .. } = election(&mut [&mut a, &mut b]) else { panic!() };
        assert_eq!(&bytes[..], b"bye");
        assert!(matches!(election(&mut [&mut a, &mut b]), ElectionEvent::Closed { .. }));
        silence(&mut [&mut a, &mut b]);
        assert!(a.peers.conns.is_empty() && b.peers.conns.is_empty());
    }
}

#[test]
fn a_dial_of_a_server_that_is_down_fails() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let mut a = server(backend, 1, &at);
        a.election(dial(2, &at[1]));
        assert!(matches!(election(&mut [&mut a]), ElectionEvent::DialFailed { to: ServerId(2) }));
        a.role(QuorumWant::Dial { leader: ServerId(2) });
        assert!(matches!(quorum(&mut [&mut a]), QuorumEvent::DialFailed));
        // A server that is in no configuration has no address.
        a.role(QuorumWant::Dial { leader: ServerId(9) });
        assert!(matches!(quorum(&mut [&mut a]), QuorumEvent::DialFailed));
        // Whoever was forgotten is dialled once more, and only that dial is answered.
        a.election(dial(2, &at[1]));
        a.election(dial(2, &at[1]));
        assert!(matches!(election(&mut [&mut a]), ElectionEvent::DialFailed { to: ServerId(2) }));
        silence(&mut [&mut a]);
    }
}

#[test]
fn the_quorum_port_is_open_while_the_server_leads() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        b.role(QuorumWant::Dial { leader: ServerId(1) });
        assert!(matches!(quorum(&mut [&mut b, &mut a]), QuorumEvent::DialFailed), "nobody leads yet");
        let (theirs, ours) = follow(&mut a, &mut b);
        a.role(QuorumWant::Write { conn: theirs, bytes: Bytes::from_static(b"the last word") });
        a.role(QuorumWant::End);
        assert_eq!(bytes(&mut [&mut b, &mut a], 13), b"the last word");
        let QuorumEvent::Closed { conn } = quorum(&mut [&mut b, &mut a]) else { panic!("not closed") };
        assert_eq!(conn, ours);
        b.role(QuorumWant::Dial { leader: ServerId(1) });
        assert!(matches!(quorum(&mut [&mut b, &mut a]), QuorumEvent::DialFailed), "nobody leads any more");
        silence(&mut [&mut a, &mut b]);
        // Once more, although the kernel may not have let go of the port yet.
        follow(&mut a, &mut b);
    }
}

#[test]
fn nothing_is_reported_of_a_term_that_is_over() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        let (_, ours) = follow(&mut a, &mut b);
        // Everything happens before the leader looks: bytes, an end, another learner and a failed dial.
        b.role(QuorumWant::Write { conn: ours, bytes: Bytes::from_static(b"unheard") });
        b.role(QuorumWant::Close { conn: ours });
        b.role(QuorumWant::Dial { leader: ServerId(1) });
        a.role(QuorumWant::Dial { leader: ServerId(9) });
        let QuorumEvent::Dialed { conn } = quorum(&mut [&mut b]) else { panic!() };
        let until = Instant::now() + PATIENCE;
        while a.peers.heard.len() < 4 {
            a.net.park(Some(Duration::from_millis(2))).unwrap();
            a.net.reap(&mut |event| drop(a.peers.hear(event)));
            a.peers.turn(&mut a.net, a.now_ms);
            assert!(Instant::now() < until, "{} events", a.peers.heard.len());
        }
        a.role(QuorumWant::End);
        assert!(matches!(quorum(&mut [&mut b, &mut a]), QuorumEvent::Closed { conn: closed } if closed == conn));
        silence(&mut [&mut a, &mut b]);
        assert!(a.peers.conns.is_empty() && a.peers.is_idle());
        // Elections go on, whatever the role.
        b.election(dial(1, &at[0]));
        assert!(matches!(election(&mut [&mut a, &mut b]), ElectionEvent::Accepted { .. }));
    }
}

/// More than the kernel takes for a peer that does not read.
const MUCH: usize = 32 << 20;

#[test]
fn what_a_slow_peer_does_not_read_has_not_left() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        let (theirs, ours) = follow(&mut a, &mut b);
        b.role(QuorumWant::Read { conn: ours, reads: false });
        let sent: Vec<u8> = (0..MUCH).map(|n| (n / 7) as u8).collect();
        a.role(QuorumWant::Write { conn: theirs, bytes: sent.clone().into() });
        let (mut left, mut quiet) = (0, 0);
        while left == 0 || quiet < 20 {
            a.turn();
            b.turn();
            quiet = if a.events.is_empty() { quiet + 1 } else { 0 };
            for event in a.events.drain(..) {
                let NetEvent::Quorum { event: QuorumEvent::Left { conn, bytes }, .. } = event else {
                    panic!("{event:?}")
                };
                assert_eq!(conn, theirs);
                left += bytes;
            }
        }
        assert!(left > 0 && left < MUCH && left + a.net.queued(theirs) == MUCH, "{left} of {MUCH} bytes left");
        assert!(b.events.is_empty(), "it reads although it was told not to");
        b.role(QuorumWant::Read { conn: ours, reads: true });
        assert!(bytes(&mut [&mut b, &mut a], MUCH) == sent);
        while left < MUCH {
            let QuorumEvent::Left { bytes, .. } = quorum(&mut [&mut a, &mut b]) else { panic!() };
            left += bytes;
        }
        assert_eq!((left, a.peers.sending.len()), (MUCH, 0));
    }
}

/// Connects as a stranger does.
fn stranger(at: &PeerAddress) -> TcpStream {
    let ip: Ipv4Addr = at.host.parse().unwrap();
    let stream = TcpStream::connect(SocketAddr::from((ip, at.election_port))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_peer_that_says_no_more_is_closed_when_all_has_left() {
    for backend in backends() {
        let at = [fresh()];
        let mut a = server(backend, 1, &at);
        let mut other = stranger(&at[0]);
        other.write_all(b"x").unwrap();
        let ElectionEvent::Accepted { conn, .. } = election(&mut [&mut a]) else { panic!() };
        let ElectionEvent::Bytes { .. } = election(&mut [&mut a]) else { panic!() };
        a.election(ElectionWant::Write { conn, bytes: vec![7; 100_000].into() });
        other.shutdown(Shutdown::Write).unwrap();
        loop {
            match election(&mut [&mut a]) {
                ElectionEvent::Closed { conn: closed } => break assert_eq!(closed, conn),
                ElectionEvent::Written { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // What is said of it now is said of nobody.
        a.election(ElectionWant::Write { conn, bytes: Bytes::from_static(b"late") });
        a.election(ElectionWant::Close { conn });
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            other.read_to_end(&mut all).map(|_| all)
        });
        while !reader.is_finished() {
            a.turn();
        }
        assert_eq!(reader.join().unwrap().unwrap(), vec![7; 100_000]);
        silence(&mut [&mut a]);
    }
}

#[test]
fn a_reset_is_an_end() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        let (theirs, ours) = follow(&mut a, &mut b);
        b.net.close(ours, Close::Abort);
        let QuorumEvent::Closed { conn } = quorum(&mut [&mut a, &mut b]) else { panic!() };
        assert_eq!(conn, theirs);
        assert!(a.peers.conns.is_empty());
    }
}

#[test]
fn a_port_that_is_taken_is_opened_when_it_is_free() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        let ip: Ipv4Addr = at[0].host.parse().unwrap();
        let taken = TcpListener::bind((ip, at[0].quorum_port)).unwrap();
        a.role(QuorumWant::Listen);
        for _ in 0..10 {
            a.now_ms = a.peers.deadline_ms().unwrap();
            a.turn();
            assert!(!a.peers.ports.is_open(Port::Quorum));
        }
        assert_eq!(a.peers.deadline_ms(), Some(a.now_ms + 1000), "tried once in a second at last");
        // Elections do not wait for it.
        b.election(dial(1, &at[0]));
        assert!(matches!(election(&mut [&mut a, &mut b]), ElectionEvent::Accepted { .. }));
        drop(taken);
        a.now_ms += 1000;
        a.turn();
        assert!(a.peers.ports.is_open(Port::Quorum));
    }
}

#[test]
fn a_server_whose_election_port_is_taken_for_too_long_says_so() {
    for (tries, hopeless) in [(3, true), (0, false)] {
        let at = fresh();
        let _taken = TcpListener::bind((at.host.parse::<Ipv4Addr>().unwrap(), at.election_port)).unwrap();
        let mut net = Net::new(Backend::Epoll, &NetOptions { buffers: 16, ..NetOptions::default() }).unwrap();
        let options =
            PortOptions { own: vec![at], on_all_ips: false, listen: ListenOptions::default(), election_tries: tries };
        let mut ports = Ports::new(options, Bell::Core(net.waker()));
        ports.open(0, Port::Election);
        assert!((0..=2990).step_by(10).all(|now_ms| ports.turn(&mut net, now_ms).is_ok()));
        let said = ports.turn(&mut net, 3000).err();
        assert_eq!(said.is_some(), hopeless, "{said:?}");
        let names_it = |why: String| why.starts_with("this server cannot listen for elections: cannot listen on 127.");
        assert!(said.is_none_or(names_it));
    }
}

#[test]
fn a_server_with_a_name_listens_on_its_addresses() {
    for backend in backends() {
        let (at, mut a) = server_with_a_name(backend);
        let _other = TcpStream::connect((Ipv4Addr::LOCALHOST, at.election_port)).unwrap();
        let ElectionEvent::Accepted { from, .. } = election(&mut [&mut a]) else { panic!() };
        assert_eq!(from, Ipv4Addr::LOCALHOST);
        // Dialled by name, too.
        a.election(dial(1, &at));
        let mut heard = [election(&mut [&mut a]), election(&mut [&mut a])];
        heard.sort_by_key(|event| matches!(event, ElectionEvent::Accepted { .. }));
        assert!(matches!(heard, [ElectionEvent::Dialed { to: ServerId(1), .. }, ElectionEvent::Accepted { .. }]));
    }
}

/// Else it could be elected, and nobody could follow it.
#[test]
fn a_server_that_cannot_listen_for_elections_dials_nobody() {
    for backend in backends() {
        let at = [fresh(), fresh()];
        let taken = TcpListener::bind((at[0].host.parse::<Ipv4Addr>().unwrap(), at[0].election_port)).unwrap();
        let (mut a, mut b) = (server(backend, 1, &at), server(backend, 2, &at));
        a.election(dial(2, &at[1]));
        silence(&mut [&mut a, &mut b]);
        drop(taken);
        a.now_ms += 1000;
        assert!(matches!(election(&mut [&mut a, &mut b]), ElectionEvent::Dialed { to: ServerId(2), .. }));
    }
}

/// Its name was known when it began to listen for elections, which it was elected with.
#[test]
fn a_leader_needs_no_name_service_to_listen() {
    for backend in backends() {
        let (at, mut a) = server_with_a_name(backend);
        let answer = a.peers.ports.hold_name(Port::Quorum);
        a.role(QuorumWant::Listen);
        a.turn();
        assert!(!a.peers.ports.is_open(Port::Quorum));
        answer(Err(io::Error::other("the name service is down")));
        a.turn();
        assert!(a.peers.ports.is_open(Port::Quorum));
        TcpStream::connect((Ipv4Addr::LOCALHOST, at.quorum_port)).unwrap();
    }
}

#[test]
fn a_server_listens_on_all_addresses_if_it_is_to() {
    for backend in backends() {
        let mut at = [fresh()];
        // A host that this one is not.
        at[0].host = "192.0.2.1".into();
        let mut a = server_with(backend, 1, &at, |options| options.on_all_ips = true);
        let _other = TcpStream::connect((Ipv4Addr::LOCALHOST, at[0].election_port)).unwrap();
        assert!(matches!(election(&mut [&mut a]), ElectionEvent::Accepted { .. }));
    }
}
