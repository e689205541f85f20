//! Election connections: who dials, which connection stays, what is said on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::election::{electorate, read};
use bytes::Bytes;
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::Electorate;
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::links::{ElectionWant, Links, Want};
use zabra::zab::notification::Notification;
use zabra::zab::vote::{ServerState, Vote};

const LINES: [&str; 5] = [
    "server.1=h1:2888:3881",
    "server.2=h2:2888:3882",
    "server.3=h3:2888:3883",
    "server.4=h4:2888:3884",
    "server.5=h5:2888:3885",
];

const HELLO_TIMEOUT_MS: i64 = 1000;

fn links(me: i64) -> Links {
    Links::new(ServerId(me), electorate(LINES), false, HELLO_TIMEOUT_MS)
}

/// A message that can be told from others by its number.
fn message(number: i64) -> Bytes {
    let vote = Vote { leader: ServerId(number), zxid: Zxid(0), peer_epoch: Epoch(0) };
    let mut out = Vec::new();
    Notification::put(&mut out, &vote, 1, ServerState::Looking, "version=0");
    out.into()
}

fn number(said: &Notification) -> i64 {
    said.held.vote.leader.0
}

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

fn hello(server: i64, address: &str) -> Vec<u8> {
    let addresses = Addresses::One(ElectionAddress { host: address.to_owned(), port: 3888 });
    let mut bytes = Vec::new();
    Hello { server: ServerId(server), addresses }.put(&mut bytes);
    bytes
}

/// One server, and what it wants.
struct One {
    links: Links,
    wants: Vec<Want>,
}

impl One {
    fn new(me: i64) -> One {
        One { links: links(me), wants: Vec::new() }
    }

    fn accept(&mut self, conn: u64, bytes: &[u8]) -> Vec<Want> {
        self.links.accepted(0, ConnId(conn), SOMEWHERE, &mut self.wants);
        self.links.bytes(ConnId(conn), bytes, &mut self.wants);
        self.links.check();
        std::mem::take(&mut self.wants)
    }

    fn tell(&mut self, to: i64, number: i64) -> Vec<Want> {
        self.links.tell(ServerId(to), message(number), &mut self.wants);
        self.links.check();
        std::mem::take(&mut self.wants)
    }
}

fn dial(to: i64, host: &str, port: u16, only: Option<IpAddr>) -> Want {
    Want::Net(ElectionWant::Dial {
        to: ServerId(to),
        addresses: vec![ElectionAddress { host: host.to_owned(), port }],
        only,
    })
}

fn close(conn: u64) -> Want {
    Want::Net(ElectionWant::Close { conn: ConnId(conn) })
}

#[test]
fn only_the_larger_ids_dial_stays() {
    let mut two = One::new(2);
    assert_eq!(two.tell(3, 7), [dial(3, "h3", 3883, None)]);
    assert_eq!(two.tell(3, 8), [], "it is dialled already");
    two.links.dialed(ServerId(3), ConnId(1), &mut two.wants);
    let mut said = Vec::new();
    Hello { server: ServerId(2), addresses: Addresses::One(ElectionAddress { host: "h2".into(), port: 3882 }) }
        .put(&mut said);
    assert_eq!(
        std::mem::take(&mut two.wants),
        [Want::Net(ElectionWant::Write { conn: ConnId(1), bytes: said.into() }), close(1)]
    );
    // Server 3 dials back: the newest message leaves.
    assert_eq!(two.accept(2, &hello(3, "h3")), [Want::Net(ElectionWant::Write { conn: ConnId(2), bytes: message(8) })]);
    // Server 1 is smaller: it is closed and dialled.
    assert_eq!(two.accept(3, &hello(1, "h1")), [close(3), dial(1, "h1", 3881, None)]);
    two.links.dialed(ServerId(1), ConnId(4), &mut two.wants);
    assert!(
        matches!(two.wants[..], [Want::Net(ElectionWant::Write { conn: ConnId(4), .. })]),
        "a hello, and it stays: {:?}",
        two.wants
    );
    assert_eq!(two.links.server(ConnId(4)), Some(ServerId(1)));
    two.links.check();
}

#[test]
fn one_newest_message_waits_and_the_last_one_is_said_again() {
    let mut two = One::new(2);
    two.tell(3, 1);
    two.links.dial_failed(ServerId(3));
    assert!(!two.links.has_delivered());
    assert_eq!(two.accept(1, &hello(3, "h3")), [Want::Net(ElectionWant::Write { conn: ConnId(1), bytes: message(1) })]);
    assert!(two.links.has_delivered());
    // The socket is full: what comes meanwhile is replaced.
    assert_eq!((two.tell(3, 2), two.tell(3, 3)), (vec![], vec![]));
    two.links.written(ConnId(1), &mut two.wants);
    assert_eq!(std::mem::take(&mut two.wants), [Want::Net(ElectionWant::Write { conn: ConnId(1), bytes: message(3) })]);
    // A new connection replaces the old one and begins with what was said last.
    assert_eq!(
        two.accept(2, &hello(3, "h3")),
        [close(1), Want::Net(ElectionWant::Write { conn: ConnId(2), bytes: message(3) })]
    );
    // A broken one is made again when something is to be said.
    two.links.closed(ConnId(2));
    two.links.connect(&mut two.wants);
    assert_eq!(std::mem::take(&mut two.wants), [dial(3, "h3", 3883, None)]);
    two.links.dial_failed(ServerId(3));
    assert_eq!(two.tell(3, 4), [dial(3, "h3", 3883, None)]);
}

#[test]
fn messages_are_cut_out_of_the_stream() {
    let mut two = One::new(2);
    let stream = [hello(3, "h3"), message(1).to_vec(), vec![0, 0, 0, 2, 9, 9], message(2).to_vec()].concat();
    two.links.accepted(0, ConnId(1), SOMEWHERE, &mut two.wants);
    for byte in &stream {
        two.links.bytes(ConnId(1), std::slice::from_ref(byte), &mut two.wants);
    }
    // The one of two bytes is passed over.
    let heard = two.wants.drain(..).map(|want| match want {
        Want::Heard { from: ServerId(3), said } => number(&said),
        other => panic!("{other:?}"),
    });
    let heard: Vec<_> = heard.collect();
    assert_eq!(heard, [1, 2]);
    // No message has no bytes.
    two.links.bytes(ConnId(1), &[0; 4], &mut two.wants);
    assert_eq!(two.wants, [close(1)]);
    assert_eq!(two.links.server(ConnId(1)), None);
}

#[test]
fn strangers_are_dialled_where_they_came_from_or_not_at_all() {
    let mut five = One::new(5);
    // It is in no configuration and smaller, so it has to be dialled: nowhere but at the address it came from.
    let mut said = five.accept(1, &hello(0, "10.0.0.8"));
    assert_eq!(said.pop(), Some(dial(0, "10.0.0.8", 3888, Some(SOMEWHERE))));
    assert_eq!(said, [close(1)]);
    // A bare id says no address: there is nothing to dial.
    assert_eq!(five.accept(2, &4i64.to_be_bytes()), [close(2), dial(4, "h4", 3884, None)]);
    let mut one = One::new(5);
    assert_eq!(one.accept(1, &(-9i64).to_be_bytes()), [close(1)], "an unknown version");
    assert_eq!(one.accept(2, &hello(5, "h5")), [close(2)], "its own id");
    assert_eq!(one.accept(3, &hello(i64::MAX, "a")), [close(3), dial(-1, "a", 3888, Some(SOMEWHERE))]);
    assert_eq!(one.accept(4, &hello(i64::MAX, "a")), [close(4), dial(-2, "a", 3888, Some(SOMEWHERE))]);
}

#[test]
fn whoever_says_nothing_is_closed() {
    let mut one = One::new(1);
    assert_eq!(one.accept(1, &hello(3, "h3")[..20]), []);
    assert_eq!(one.links.deadline_ms(), Some(HELLO_TIMEOUT_MS));
    one.links.tick(HELLO_TIMEOUT_MS - 1, &mut one.wants);
    assert_eq!(one.wants, []);
    one.links.tick(HELLO_TIMEOUT_MS, &mut one.wants);
    assert_eq!(std::mem::take(&mut one.wants), [close(1)]);
    assert_eq!(one.links.deadline_ms(), None);
    // Many of them: the oldest go, those that said who they are stay.
    assert_eq!(one.accept(2, &hello(3, "h3")), []);
    let closed: Vec<_> = (3..103).flat_map(|conn| one.accept(conn, &[])).collect();
    assert_eq!(closed, (3..39).map(close).collect::<Vec<_>>());
    // Many servers that nobody knows: their number is bounded.
    let mut one = One::new(1);
    let wants: Vec<_> = (0..200).flat_map(|i| one.accept(i, &hello(100 + i as i64, "x"))).collect();
    assert_eq!(wants.iter().filter(|want| matches!(want, Want::Net(ElectionWant::Close { .. }))).count(), 200 - 64);
}

#[test]
fn another_configuration_closes_all_connections_unless_only_its_version_is_new() {
    let mut two = One::new(2);
    two.accept(1, &hello(3, "h3"));
    let members = electorate(LINES).members;
    let newer = (*members).clone().with_version(Zxid(9));
    two.links.set_electorate(Electorate { members: newer.into(), next: None }, &mut two.wants);
    assert_eq!((two.links.server(ConnId(1)), &two.wants[..]), (Some(ServerId(3)), &[][..]));
    // This server is not in the next one. It keeps the address that it had, and still joins the others.
    two.links.set_electorate(electorate([LINES[0], LINES[2]]), &mut two.wants);
    assert_eq!((two.links.server(ConnId(1)), &two.wants[..]), (None, &[close(1)][..]));
    two.wants.clear();
    assert_eq!(two.tell(1, 7), [dial(1, "h1", 3881, None)]);
    two.links.dialed(ServerId(1), ConnId(2), &mut two.wants);
    let Some(Want::Net(ElectionWant::Write { bytes, .. })) = two.wants.first() else { panic!("{:?}", two.wants) };
    let Ok(Some((said, _))) = Hello::read(bytes) else { panic!("{bytes:?}") };
    assert_eq!(said.addresses, Addresses::One(ElectionAddress { host: "h2".into(), port: 3882 }));
}

/// Five servers, connections that break, sockets that are full.
struct Net {
    rng: fastrand::Rng,
    servers: BTreeMap<ServerId, Links>,
    next_conn: u64,
    /// The other end of each connection: a server and its number for it.
    ends: BTreeMap<(ServerId, ConnId), (ServerId, ConnId)>,
    /// What goes from an end to the other, bytes or the close, in order.
    pipes: BTreeMap<(ServerId, ConnId), VecDeque<Option<Bytes>>>,
    wants: VecDeque<(ServerId, Want)>,
    heard: BTreeMap<(ServerId, ServerId), i64>,
    told: BTreeMap<(ServerId, ServerId), i64>,
    healthy: bool,
}

impl Net {
    fn new(seed: u64) -> Net {
        let servers = (1..=5).map(|id| (ServerId(id), links(id))).collect();
        let (ends, pipes, wants) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        let (heard, told) = (BTreeMap::new(), BTreeMap::new());
        let rng = fastrand::Rng::with_seed(seed);
        Net { rng, servers, next_conn: 0, ends, pipes, wants, heard, told, healthy: false }
    }

    fn with(&mut self, id: ServerId, act: impl FnOnce(&mut Links, &mut Vec<Want>)) {
        let mut wants = Vec::new();
        let links = self.servers.get_mut(&id).expect("a server");
        act(links, &mut wants);
        links.check();
        self.wants.extend(wants.into_iter().map(|want| (id, want)));
    }

    fn want(&mut self, id: ServerId, want: Want) {
        match want {
            Want::Net(ElectionWant::Dial { to, addresses, only }) => {
                assert_eq!((&addresses[0].host, only), (&format!("h{}", to.0), None));
                if !self.healthy && self.rng.u8(0..3) == 0 {
                    return self.with(id, |links, _| links.dial_failed(to));
                }
                let (here, there) = (ConnId(self.next_conn), ConnId(self.next_conn + 1));
                self.next_conn += 2;
                self.ends.insert((id, here), (to, there));
                self.ends.insert((to, there), (id, here));
                self.with(to, |links, wants| links.accepted(0, there, SOMEWHERE, wants));
                self.with(id, |links, wants| links.dialed(to, here, wants));
            }
            Want::Net(ElectionWant::Write { conn, bytes }) => {
                self.pipes.entry((id, conn)).or_default().push_back(Some(bytes))
            }
            Want::Net(ElectionWant::Close { conn }) => self.pipes.entry((id, conn)).or_default().push_back(None),
            Want::Heard { from, said } => _ = self.heard.insert((from, id), number(&said)),
        }
    }

    /// Something happens somewhere. False: nothing is left to happen.
    fn step(&mut self) -> bool {
        if let Some((id, want)) = self.wants.pop_front() {
            self.want(id, want);
            return true;
        }
        let full: Vec<_> = self.pipes.iter().filter(|(_, pipe)| !pipe.is_empty()).map(|(end, _)| *end).collect();
        let Some(end) = self.rng.choice(&full).copied() else { return false };
        let (there, there_conn) = self.ends[&end];
        match self.pipes.get_mut(&end).and_then(VecDeque::pop_front).expect("something") {
            Some(bytes) => {
                let cut = self.rng.usize(0..=bytes.len());
                for part in [&bytes[..cut], &bytes[cut..]] {
                    self.with(there, |links, wants| links.bytes(there_conn, part, wants));
                }
                self.with(end.0, |links, wants| links.written(end.1, wants));
            }
            None => self.with(there, |links, _| links.closed(there_conn)),
        }
        true
    }

    fn cut(&mut self) {
        let open: Vec<_> = self.ends.keys().copied().collect();
        if let Some(end) = self.rng.choice(&open).copied() {
            let other = self.ends[&end];
            for (id, conn) in [end, other] {
                self.pipes.remove(&(id, conn));
                self.with(id, |links, _| links.closed(conn));
            }
        }
    }
}

#[test]
fn what_was_said_last_arrives_whatever_breaks() {
    for seed in 0..100 {
        let mut net = Net::new(seed);
        for at in 0..400 {
            let (from, to) = (ServerId(net.rng.i64(1..=5)), ServerId(net.rng.i64(1..=5)));
            match net.rng.u8(0..10) {
                0..3 if from != to => {
                    net.told.insert((from, to), at);
                    net.with(from, |links, wants| links.tell(to, message(at), wants));
                }
                3 => net.cut(),
                4 => net.with(from, |links, wants| links.connect(wants)),
                _ => _ = net.step(),
            }
        }
        net.healthy = true;
        // Two dials that cross may cost both their connection, so it can take more than one attempt, as on Apache.
        for _ in 0..20 {
            for id in (1..=5).map(ServerId) {
                net.with(id, |links, wants| links.connect(wants));
            }
            while net.step() {}
        }
        for (ends, last) in &net.told {
            assert_eq!(net.heard.get(ends), Some(last), "seed {seed}: {ends:?}");
        }
    }
}

/// The bytes that Apache's servers said first on their election connections are those that ours say.
#[test]
fn hellos_are_those_of_apache() {
    use super::recorded::{Kind, walks};
    let walk = walks().into_iter().find(|w| w.name == "election-first-start-of-three").expect("the walk");
    let members = electorate(walk.config.iter().map(String::as_str));
    for recorded in walk.messages.iter().filter(|m| m.kind == Kind::Hello) {
        let (from, to) = (recorded.from.expect("a server"), recorded.to.expect("a server"));
        let mut links = Links::new(from, members.clone(), false, HELLO_TIMEOUT_MS);
        let mut wants = Vec::new();
        links.dialed(to, ConnId(1), &mut wants);
        assert_eq!(wants.len(), if to > from { 2 } else { 1 }, "{}", recorded.place);
        assert_eq!(
            wants[0],
            Want::Net(ElectionWant::Write { conn: ConnId(1), bytes: recorded.bytes.clone().into() }),
            "{}",
            recorded.place
        );
    }
    // What is read back is what was written.
    assert_eq!(number(&read(&message(4))), 4);
}
