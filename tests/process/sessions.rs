//! Sessions: their ephemerals are deleted with them, and they outlive connections and servers.

use std::thread;
use std::time::{Duration, Instant};

use zabra::types::Op;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, EventType, SessionState};

use super::clients::{connect, connect_for, run, within};
use super::server::{Home, Server, wait_until};
use super::wire::{self, text};

const PERSISTENT: &CreateOptions<'static> = &CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: &CreateOptions<'static> = &CreateMode::Ephemeral.with_acls(Acls::anyone_all());

#[test]
fn ephemerals_go_when_their_session_is_closed() {
    let home = Home::new("zabra.shards=2");
    let server = home.start();
    run(async {
        let (owner, other) = (connect(&server).await, connect(&server).await);
        owner.create("/e", b"", EPHEMERAL).await.expect("new");
        let (stat, gone) = other.check_and_watch_stat("/e").await.expect("served");
        assert!(stat.is_some());
        drop(owner);
        assert_eq!(within(gone.changed()).await.event_type, EventType::NodeDeleted);
        assert_eq!(other.check_stat("/e").await, Ok(None));
    });
    server.stop();
}

#[test]
fn ephemerals_go_when_their_session_expires_and_not_before() {
    let home = Home::new("tickTime=100");
    let server = home.start();
    let mut watcher = wire::Client::connect(server.addr());
    let mut silent = wire::Client::with_timeout(server.addr(), 500);
    assert_eq!(silent.timeout_ms, 500);
    silent.create_mode("/e", b"", 1).expect("new");
    let resumption = silent.resumption();
    watcher.exists("/e", true).expect("there");
    // Pings alone keep a session alive, far longer than its timeout.
    let mut heard = Instant::now();
    let mut longest = Duration::ZERO;
    for _ in 0..15 {
        if silent.raw().send(&wire::framed(-2, Op::PING, &[])).is_err() || silent.try_reply().is_err() {
            break;
        }
        longest = longest.max(heard.elapsed());
        heard = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
    }
    let lives = watcher.exists("/e", false).is_ok();
    longest = longest.max(heard.elapsed());
    // If the machine was so busy that pings came late, the test shows nothing.
    assert!(lives || longest >= Duration::from_millis(500), "it was heard of every {longest:?}");
    wait_until("the session expires", || {
        watcher.ping();
        !watcher.events.is_empty()
    });
    let event = watcher.events.pop_front().expect("an event");
    assert_eq!((event.kind, event.path.as_str()), (2, "/e"));
    assert_eq!(watcher.exists("/e", false), Err(-101));
    // Its connection is closed, and the session cannot be resumed.
    assert_eq!(silent.raw().closed(), b"");
    assert!(wire::Client::handshake(server.addr(), &resumption).expect("an answer").is_none());
    server.stop();
}

/// When the whole process (or its machine) was paused, no session expires whose ping arrived meanwhile.
#[test]
fn who_pings_while_the_server_stands_still_lives() {
    let home = Home::new("tickTime=100\nzabra.shards=2");
    let server = home.start();
    let mut clients: Vec<_> = (0..20).map(|_| wire::Client::with_timeout(server.addr(), 600)).collect();
    let heard = Instant::now();
    clients.iter_mut().for_each(|c| drop(c.ping()));
    let late = heard.elapsed();
    thread::scope(|scope| {
        scope.spawn(|| server.pause(Duration::from_millis(2000)));
        thread::sleep(Duration::from_millis(1000));
        // Not waited for: they are answered when the server continues.
        for client in &mut clients {
            client.raw().send(&wire::framed(-2, Op::PING, &[])).expect("sent");
        }
    });
    let lost = clients.iter_mut().filter_map(|c| c.try_reply().err()).count();
    // If this test was delayed before the pause, sessions may rightly have expired.
    assert!(lost == 0 || late >= Duration::from_millis(500), "{lost} sessions expired");
    server.stop();
}

#[test]
fn timeouts_are_clamped() {
    let home = Home::new("minSessionTimeout=1000\nmaxSessionTimeout=20000");
    let server = home.start();
    for (asked, given) in [(0, 1000), (-5, 1000), (1, 1000), (5000, 5000), (i32::MAX, 20_000)] {
        assert_eq!(wire::Client::with_timeout(server.addr(), asked).timeout_ms, given, "asked for {asked}");
    }
    server.stop();
}

/// Waits until the client has reconnected; returns the state.
async fn reconnected(client: &Client) {
    let mut states = client.state_watcher();
    within(async { while states.changed().await != SessionState::SyncConnected {} }).await;
}

/// A client with one-shot watches is disconnected by `restart`; the znodes change meanwhile, and it must get an event
/// for each.
fn watches_survive(restart: impl FnOnce(&Home, Server) -> Server) {
    let home = Home::new("zabra.shards=2");
    let server = home.start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (client, session, watches) = runtime.block_on(async {
        let client = connect(&server).await;
        for path in ["/data", "/children", "/deleted", "/same"] {
            client.create(path, b"", PERSISTENT).await.expect("new");
        }
        client.create("/mine", b"", EPHEMERAL).await.expect("new");
        let (_, _, data) = client.get_and_watch_data("/data").await.expect("there");
        let (_, children) = client.list_and_watch_children("/children").await.expect("there");
        let (_, _, deleted) = client.get_and_watch_data("/deleted").await.expect("there");
        let (_, _, same) = client.get_and_watch_data("/same").await.expect("there");
        let (_, created) = client.check_and_watch_stat("/created").await.expect("served");
        let (_, later) = client.check_and_watch_stat("/later").await.expect("served");
        let session = client.session_id();
        (client, session, (data, children, deleted, same, created, later))
    });
    let server = restart(&home, server);
    runtime.block_on(async {
        let (data, children, deleted, same, created, later) = watches;
        assert_eq!(within(data.changed()).await.event_type, EventType::NodeDataChanged);
        assert_eq!(within(children.changed()).await.event_type, EventType::NodeChildrenChanged);
        assert_eq!(within(deleted.changed()).await.event_type, EventType::NodeDeleted);
        assert_eq!(within(created.changed()).await.event_type, EventType::NodeCreated);
        assert_eq!(client.session_id(), session);
        assert!(
            client.check_stat("/mine").await.expect("served").is_some(),
            "the session lives, so its ephemeral does"
        );
        // What did not change is still watched.
        let other = connect(&server).await;
        other.create("/later", b"", PERSISTENT).await.expect("new");
        other.set_data("/same", b"", None).await.expect("there");
        assert_eq!(within(later.changed()).await.event_type, EventType::NodeCreated);
        assert_eq!(within(same.changed()).await.event_type, EventType::NodeDataChanged);
        drop(client);
        drop(other);
    });
    server.stop();
}

/// Changes what the watcher watches, while the watcher cannot reach the server.
fn change(server: &Server) {
    let mut client = wire::Client::connect(server.addr());
    client.set("/data", b"new", -1).expect("there");
    client.create("/children/c", b"").expect("new");
    client.delete("/deleted", -1).expect("there");
    client.create("/created", b"").expect("new");
    client.close();
}

/// Starts the server on another port, changes znodes there, and starts it again on the port that the client knows.
fn changed_elsewhere(home: &Home) -> Server {
    let elsewhere = Home::new("").data_in(home.data().to_owned());
    let server = elsewhere.start();
    change(&server);
    server.stop();
    home.start()
}

#[test]
fn watches_are_armed_again_after_a_restart() {
    watches_survive(|home, server| {
        server.stop();
        changed_elsewhere(home)
    });
}

#[test]
fn watches_are_armed_again_after_kill_9() {
    watches_survive(|home, server| {
        server.kill();
        changed_elsewhere(home)
    });
}

/// Uses our own client: version 0.11 of the library does not set its persistent watches again after a reconnect.
#[test]
fn persistent_watches_are_armed_again_after_kill_9() {
    let home = Home::new("zabra.shards=2");
    let server = home.start();
    let mut client = wire::Client::connect(server.addr());
    for path in ["/persistent", "/recursive"] {
        client.create(path, b"").expect("new");
    }
    let (persistent, recursive) = (0i32.to_be_bytes(), 1i32.to_be_bytes());
    assert_eq!(client.call(Op::ADD_WATCH, &[&text("/persistent")[..], &persistent].concat()).err, 0);
    assert_eq!(client.call(Op::ADD_WATCH, &[&text("/recursive")[..], &recursive].concat()).err, 0);
    let resumption = client.resumption();
    server.kill();
    drop(client);
    let server = home.start();
    let mut client = wire::Client::handshake(server.addr(), &resumption).expect("an answer").expect("it lives");
    let mut body = resumption.last_zxid_seen.0.to_be_bytes().to_vec();
    let one = 1i32.to_be_bytes();
    for list in [&0i32.to_be_bytes()[..]; 3] {
        body.extend(list);
    }
    body.extend([&one[..], &text("/persistent"), &one, &text("/recursive")].concat());
    assert_eq!(client.call(Op::SET_WATCHES2, &body).err, 0);
    assert_eq!(client.events.len(), 0, "nothing happened meanwhile");
    let mut other = wire::Client::connect(server.addr());
    for _ in 0..2 {
        other.set("/persistent", b"", -1).expect("there");
    }
    other.create("/recursive/a", b"").expect("new");
    other.create("/recursive/a/b", b"").expect("new");
    wait_until("the events come", || {
        client.ping();
        client.events.len() >= 4
    });
    let events: Vec<(i32, String)> = client.events.drain(..).map(|e| (e.kind, e.path)).collect();
    let expected = [(3, "/persistent"), (3, "/persistent"), (1, "/recursive/a"), (1, "/recursive/a/b")];
    assert_eq!(events, expected.map(|(k, p)| (k, p.to_string())));
    server.stop();
}

#[test]
fn a_client_works_on_across_restarts() {
    let home = Home::new("");
    let mut server = home.start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client = runtime.block_on(connect(&server));
    let session = client.session_id();
    runtime.block_on(client.create("/e", b"", EPHEMERAL)).expect("new");
    for round in 0..3 {
        if round % 2 == 0 {
            server.kill();
        } else {
            server.stop();
        }
        let again = reconnected(&client);
        server = home.start();
        runtime.block_on(again);
        assert_eq!(client.session_id(), session);
        let value = round.to_string();
        let stat = runtime.block_on(client.set_data("/e", value.as_bytes(), None)).expect("its ephemeral is there");
        assert_eq!((stat.version, stat.ephemeral_owner), (round + 1, session.0));
    }
    runtime.block_on(async {
        let other = connect(&server).await;
        let (_, gone) = other.check_and_watch_stat("/e").await.expect("served");
        drop(client);
        assert_eq!(within(gone.changed()).await.event_type, EventType::NodeDeleted);
    });
    server.stop();
}

#[test]
fn a_session_whose_client_never_comes_back_expires_after_a_restart() {
    let home = Home::new("tickTime=100");
    let server = home.start();
    let mut owner = wire::Client::with_timeout(server.addr(), 1500);
    owner.create_mode("/e", b"", 1).expect("new");
    let resumption = owner.resumption();
    server.kill();
    drop(owner);
    // The server is down for longer than the timeout. That alone expires no session: after the start each has its full
    // timeout again.
    std::thread::sleep(Duration::from_millis(1700));
    let began = Instant::now();
    let server = home.start();
    let mut watcher = wire::Client::connect(server.addr());
    let there = watcher.exists("/e", true);
    assert!(there.is_ok() || began.elapsed() >= Duration::from_millis(1500), "the session still had time: {there:?}");
    wait_until("the session expires", || watcher.exists("/e", false) == Err(-101));
    assert!(wire::Client::handshake(server.addr(), &resumption).expect("an answer").is_none());
    server.kill();
    // The expiry was logged, so nothing of the session comes back.
    let server = home.start();
    let mut client = wire::Client::connect(server.addr());
    assert_eq!(client.exists("/e", false), Err(-101));
    assert!(wire::Client::handshake(server.addr(), &resumption).expect("an answer").is_none());
    server.stop();
}

#[test]
fn a_client_library_is_told_that_its_session_expired() {
    let home = Home::new("tickTime=100");
    let server = home.start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client = runtime.block_on(connect_for(&server, Duration::from_secs(600)));
    let session = wire::new_session(600_000);
    let takeover = zabra::proto::connect::ConnectRequest {
        session: zabra::types::SessionId(client.session_id().0),
        passwd: zabra::types::SessionId(client.session_id().0).passwd().to_vec(),
        ..session
    };
    // Another client closes the session, with its id and password.
    // The library may take the session back first; then try again.
    while !wire::Client::handshake(server.addr(), &takeover).expect("an answer").expect("it lives").close_if_alive() {}
    let mut states = client.state_watcher();
    runtime.block_on(within(async {
        let mut state = states.peek_state();
        while state != SessionState::Expired {
            state = states.changed().await;
        }
    }));
    server.stop();
}

#[test]
fn watches_set_again_by_hand_are_answered_by_what_changed() {
    let home = Home::new("");
    let server = home.start();
    let mut client = wire::Client::connect(server.addr());
    for path in ["/a", "/b", "/c"] {
        client.create(path, b"").expect("new");
    }
    let seen = client.zxid;
    client.set("/b", b"new", -1).expect("there");
    client.delete("/c", -1).expect("there");
    let mut body = seen.to_be_bytes().to_vec();
    let list = |paths: &[&str]| {
        let mut out = (paths.len() as i32).to_be_bytes().to_vec();
        paths.iter().for_each(|p| out.extend(text(p)));
        out
    };
    body.extend(list(&["/a", "/b", "/c"]));
    body.extend(list(&["/none", "/a"]));
    body.extend(list(&["/", "/a"]));
    body.extend(list(&["/a"]));
    body.extend(list(&["/a"]));
    let reply = client.call(Op::SET_WATCHES2, &body);
    assert_eq!(reply.err, 0);
    let events: Vec<(i32, String)> = client.events.drain(..).map(|e| (e.kind, e.path)).collect();
    let expected = [(3, "/b"), (2, "/c"), (1, "/a"), (4, "/")].map(|(k, p)| (k, p.to_string()));
    assert_eq!(events, expected);
    // The watches on data and on existence of /a were set again, and the persistent ones too; there is one event for
    // all of them.
    client.set("/a", b"", -1).expect("there");
    assert_eq!(client.events.drain(..).map(|e| (e.kind, e.path)).collect::<Vec<_>>(), [(3, "/a".to_string())]);
    client.set("/a", b"", -1).expect("there");
    assert_eq!(client.events.drain(..).count(), 1, "the persistent ones stay");
    client.create("/none", b"").expect("new");
    assert_eq!(client.events.drain(..).map(|e| (e.kind, e.path)).collect::<Vec<_>>(), [(1, "/none".to_string())]);
    server.stop();
}
