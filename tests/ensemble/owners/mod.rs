//! Whole owners of members together: they elect, bring each other up to date, and broadcast. The clients' part and the network
//! are the test's; the simulator does the same with more faults.

mod world;

use world::World;
use zabra::peer::LocalSessionOptions;
use zabra::proto::multi::MultiOp;
use zabra::proto::{CreateRequest, Request};
use zabra::types::{Acl, ConnId, Epoch, Op, SessionId};
use zabra::zab::history::HistoryLimits;

const SEEDS: u64 = 6;

fn create(path: &str, bytes: usize) -> Vec<u8> {
    let data = vec![7; bytes];
    let acl = vec![Acl::world_all()].into();
    let create = CreateRequest { path: path.into(), data: Some(&data), acl, flags: 0, ttl_ms: None };
    Request::Create(create).body(Op::CREATE)
}

/// A client with a session.
struct Client {
    at: usize,
    conn: ConnId,
    session: SessionId,
}

impl Client {
    fn new(w: &mut World, at: usize) -> Client {
        let conn = w.connect_client(at);
        let session = w.session_of(at, conn);
        Client { at, conn, session }
    }

    /// Creates a znode and waits for the answer.
    fn create(&self, w: &mut World, path: &str) {
        let cxid = w.write_as(self.at, self.conn, self.session, Op::CREATE, create(path, 10));
        w.until("an answer", |w| w.answer(self.at, self.conn, cxid).is_some());
        assert_eq!(w.answer(self.at, self.conn, cxid), Some(0), "{path}");
    }
}

/// All members run and serve.
fn started(seed: u64, voters: i64, observers: i64, history: HistoryLimits) -> World {
    let mut w = World::new(seed, voters, observers, history);
    (0..w.nodes.len()).for_each(|n| w.start(n));
    w.until("a leader", World::all_serve);
    w
}

#[test]
fn clients_of_every_member_write_and_everybody_has_it() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 1, HistoryLimits::default());
        assert_eq!(w.leaders().len(), 1);
        for at in 0..4 {
            let client = Client::new(&mut w, at);
            client.create(&mut w, &format!("/by{at}"));
            assert!(w.has(at, &format!("/by{at}")), "who wrote sees it");
        }
        w.until("the same everywhere", World::all_agree);
        assert!((0..4).all(|n| (0..4).all(|at| w.has(n, &format!("/by{at}")))), "seed {seed}");
    }
}

#[test]
fn a_leader_that_dies_is_followed_by_another_and_nothing_acknowledged_is_lost() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 0, HistoryLimits::default());
        let first = w.leaders()[0];
        let client = Client::new(&mut w, (first + 1) % 3);
        client.create(&mut w, "/before");
        w.kill(first, seed % 2 == 0);
        w.until("nobody serves without it", |w| !w.nodes[client.at].serves);
        w.until("another leader", |w| (0..3).filter(|n| *n != first).all(|n| w.nodes[n].serves));
        let conn = w.resume(client.at, client.session);
        w.until("the session goes on", |w| w.nodes[client.at].resumed.contains(&(conn, true)));
        let client = Client { conn, ..client };
        client.create(&mut w, "/after");
        w.start(first);
        w.until("it follows", |w| w.nodes[first].serves && w.all_agree());
        assert!(w.has(first, "/before") && w.has(first, "/after"), "seed {seed}");
        assert_ne!(w.leaders(), [first]);
    }
}

/// Missing a few transactions is made up from memory, more from the log, and everything by a snapshot.
#[test]
fn a_member_that_was_away_is_brought_up_to_date() {
    for (seed, count, wiped) in (0..SEEDS).flat_map(|seed| [(seed, 500, false), (seed, 3, false), (seed, 3, true)]) {
        let mut w = started(seed, 3, 1, HistoryLimits { count, ..HistoryLimits::default() });
        let leader = w.leaders()[0];
        let client = Client::new(&mut w, leader);
        client.create(&mut w, "/one");
        w.until("the same everywhere", World::all_agree);
        let away = if seed % 2 == 0 { 3 } else { (leader + 1) % 3 };
        w.kill(away, true);
        if wiped {
            w.wipe(away);
        }
        (0..20).for_each(|i| client.create(&mut w, &format!("/n{i}")));
        w.start(away);
        w.until("it is up to date", |w| w.nodes[away].serves && w.all_agree());
        client.create(&mut w, "/last");
        w.until("the same everywhere", World::all_agree);
        let (snapshots, reads) = w.fed(leader);
        match (count, wiped) {
            (_, true) => assert!(snapshots > 0, "seed {seed}: a snapshot"),
            (3, false) => assert!(reads > 0 && snapshots == 0, "seed {seed}: from the log"),
            _ => assert_eq!((snapshots, reads), (0, 0), "seed {seed}: from memory"),
        }
        assert!(w.has(away, "/one") && w.has(away, "/n19") && w.has(away, "/last"), "seed {seed}");
    }
}

/// A member promised an epoch to a leader that was never established, and returns to one of an older epoch, which has a quorum.
/// Returns the leader's epochs before and after.
fn returns_with_a_promise(seed: u64, voters: i64, observers: i64, away: impl Fn(&World) -> usize) -> (Epoch, Epoch) {
    let mut w = started(seed, voters, observers, HistoryLimits::default());
    let (leader, away) = (w.leaders()[0], away(&w));
    let (_, before) = w.led().expect("there is a leader");
    Client::new(&mut w, leader).create(&mut w, "/before");
    w.kill(away, true);
    w.accept(away, Epoch(before.0 + 1));
    Client::new(&mut w, leader).create(&mut w, "/meanwhile");
    w.start(away);
    w.until("it is back", |w| w.nodes[away].serves && w.led().is_some() && w.all_agree());
    let (leader, after) = w.led().expect("there is a leader");
    Client::new(&mut w, away).create(&mut w, "/after");
    assert!(["/before", "/meanwhile", "/after"].iter().all(|path| w.has(leader, path)), "seed {seed}");
    (before, after)
}

#[test]
fn a_voter_whose_promised_epoch_was_given_up_comes_back_by_one_election() {
    for seed in 0..SEEDS {
        let follower = |w: &World| (w.leaders()[0] + 1) % 3;
        let (before, after) = returns_with_a_promise(seed, 3, 0, follower);
        // Behind the promised one, if the voter is among those who tell the new leader what they accepted.
        assert!(before < after && after <= Epoch(before.0 + 2), "seed {seed}: {before:?}, then {after:?}");
    }
}

#[test]
fn an_observer_whose_promised_epoch_was_given_up_needs_no_election() {
    for seed in 0..SEEDS {
        let (before, after) = returns_with_a_promise(seed, 3, 1, |_| 3);
        assert_eq!(after, before, "seed {seed}");
    }
}

/// A leader that is cut off goes on proposing; what only it has is forgotten.
#[test]
fn what_was_never_committed_is_gone_after_all() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 0, HistoryLimits::default());
        let old = w.leaders()[0];
        let client = Client::new(&mut w, old);
        client.create(&mut w, "/committed");
        w.isolate(old);
        let cxid = w.write_as(old, client.conn, client.session, Op::CREATE, create("/lost", 10));
        w.until("another leader", |w| {
            (0..3).filter(|n| *n != old).all(|n| w.nodes[n].serves && w.last(n).0 > 0) && {
                w.leaders().iter().any(|n| *n != old)
            }
        });
        assert_eq!(w.answer(old, client.conn, cxid), None, "a minority tells nobody of a write");
        let other = Client::new(&mut w, (old + 1) % 3);
        other.create(&mut w, "/new");
        w.heal();
        w.until("the old leader follows", |w| w.nodes[old].serves && w.all_agree());
        assert!(w.has(old, "/committed") && w.has(old, "/new") && !w.has(old, "/lost"), "seed {seed}");
    }
}

#[test]
fn a_sync_shows_what_was_acknowledged_elsewhere() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 1, HistoryLimits::default());
        let clients: Vec<Client> = (0..4).map(|at| Client::new(&mut w, at)).collect();
        for (writer, reader) in (0..4).flat_map(|writer| (0..4).map(move |reader| (writer, reader))) {
            clients[writer].create(&mut w, &format!("/{writer}-{reader}"));
            let acknowledged = w.last(writer);
            let Client { at, conn, session } = clients[reader];
            let synced = w.sync_as(at, conn, session);
            assert!(synced >= acknowledged, "seed {seed}: {synced} is shown, and {acknowledged} was acknowledged");
            assert!(w.last(at) >= synced);
        }
    }
}

fn ephemeral(path: &str) -> CreateRequest<'_> {
    CreateRequest { path: path.into(), data: None, acl: vec![Acl::world_all()].into(), flags: 1, ttl_ms: None }
}

/// Members with local sessions.
fn with_local_sessions(seed: u64, upgrading: bool) -> World {
    let mut w = World::new(seed, 3, 1, HistoryLimits::default());
    w.local_sessions = Some(LocalSessionOptions { upgrading });
    (0..4).for_each(|n| w.start(n));
    w.until("a leader", World::all_serve);
    w
}

impl Client {
    fn local(w: &mut World, at: usize) -> Client {
        let conn = w.connect_client(at);
        let session = w.local_session_of(at, conn);
        Client { at, conn, session }
    }

    /// The error code of a request.
    fn ask(&self, w: &mut World, op: Op, body: Vec<u8>) -> i32 {
        let cxid = w.write_as(self.at, self.conn, self.session, op, body);
        w.until("an answer", |w| w.answer(self.at, self.conn, cxid).is_some());
        w.answer(self.at, self.conn, cxid).expect("it is there")
    }
}

/// Leader, followers and observer alike: only the first ephemeral makes a local session known to all.
#[test]
fn local_sessions_become_global_ones_for_ephemerals() {
    for seed in 0..SEEDS {
        let mut w = with_local_sessions(seed, true);
        let clients: Vec<Client> = (0..4).map(|at| Client::local(&mut w, at)).collect();
        for (client, by_multi) in clients.iter().zip([false, true, false, true]) {
            let at = client.at;
            client.create(&mut w, &format!("/plain{at}"));
            assert_eq!(
                (0..4).map(|n| w.sessions(n).0).max(),
                Some(at),
                "seed {seed}: a plain znode needs no global session"
            );
            let path = format!("/e{at}");
            let (op, request) = match by_multi {
                false => (Op::CREATE, Request::Create(ephemeral(&path))),
                true => (Op::MULTI, Request::Multi(vec![MultiOp::Create(Op::CREATE, ephemeral(&path))])),
            };
            assert_eq!(client.ask(&mut w, op, request.body(op)), 0);
            assert_eq!(w.sessions(at), (at + 1, 0));
            // Only once.
            let path = format!("/e{at}-2");
            assert_eq!(client.ask(&mut w, Op::CREATE, Request::Create(ephemeral(&path)).body(Op::CREATE)), 0);
        }
        w.until("the same everywhere", World::all_agree);
        assert!((0..4).all(|n| w.sessions(n) == (4, 0)), "seed {seed}");
        // Their ephemerals go with them.
        for client in &clients {
            w.write_as(client.at, client.conn, client.session, Op::CLOSE_SESSION, Vec::new());
        }
        w.until("all are closed", |w| (0..4).all(|n| w.sessions(n) == (0, 0)));
        assert!((0..4).all(|n| (0..4).all(|at| w.has(n, &format!("/plain{at}")) && !w.has(n, &format!("/e{at}")))));
    }
}

#[test]
fn local_sessions_that_may_not_become_global_ones_own_nothing() {
    for seed in 0..SEEDS {
        let mut w = with_local_sessions(seed, false);
        for at in 0..4 {
            let client = Client::local(&mut w, at);
            let create = Request::Create(ephemeral("/e")).body(Op::CREATE);
            assert_eq!(client.ask(&mut w, Op::CREATE, create), -120, "seed {seed}");
            client.create(&mut w, &format!("/plain{at}"));
            // No transaction closes it. Another member knows nothing of it.
            let elsewhere = w.resume((at + 1) % 4, client.session);
            w.until("an answer", |w| w.nodes[(at + 1) % 4].resumed.contains(&(elsewhere, false)));
            let before = w.last(at);
            w.write_as(at, client.conn, client.session, Op::CLOSE_SESSION, Vec::new());
            w.until("it is closed", |w| w.nodes[at].closed.contains(&client.conn));
            assert_eq!((w.sessions(at), w.last(at)), ((0, 0), before));
        }
    }
}

/// A session belongs to the member that its client came to last.
#[test]
fn a_session_moves_between_members() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 0, HistoryLimits::default());
        let client = Client::new(&mut w, 0);
        client.create(&mut w, "/a");
        let conn = w.resume(1, client.session);
        w.until("it is resumed", |w| w.nodes[1].resumed.contains(&(conn, true)));
        let moved = Client { at: 1, conn, session: client.session };
        moved.create(&mut w, "/b");
        let late = w.write_as(0, client.conn, client.session, Op::CREATE, create("/late", 1));
        w.pass(2000);
        assert!(w.answer(0, client.conn, late).is_none_or(|err| err != 0), "seed {seed}: it has moved away");
        assert!(!w.has(0, "/late"));
        let nobody = w.resume(2, SessionId(12345));
        w.until("it is refused", |w| w.nodes[2].resumed.contains(&(nobody, false)));
    }
}

/// A tree that is not the leader's is given up, and replaced by a snapshot.
#[test]
fn a_member_whose_digest_differs_is_sent_a_snapshot() {
    for seed in 0..SEEDS {
        let mut w = started(seed, 3, 0, HistoryLimits::default());
        let leader = w.leaders()[0];
        let client = Client::new(&mut w, leader);
        client.create(&mut w, "/a");
        w.until("the same everywhere", World::all_agree);
        let other = (leader + 1) % 3;
        w.tamper = Some(other);
        client.create(&mut w, "/b");
        w.until("it stops serving", |w| !w.nodes[other].serves);
        client.create(&mut w, "/c");
        w.until("it serves again", |w| w.nodes[other].serves && w.all_agree());
        assert!(w.fed(leader).0 > 0, "seed {seed}");
    }
}
