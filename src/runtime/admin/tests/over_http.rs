//! The HTTP ports over real sockets, before a server made of one thread that answers as cores do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use crossbeam::channel;
use crossbeam::utils::CachePadded;

use super::super::four_letter::NOT_SERVING;
use super::super::listener::CONNECTIONS;
use super::super::state::AdminState;
use super::super::{http, listener};
use crate::config::{Config, MetricsProvider};
use crate::peer::SnapshotRefused;
use crate::peer::status::{Finished, SessionPiece};
use crate::runtime::conn_limits::ConnLimits;
use crate::runtime::mailbox::{Bell, mailbox};
use crate::runtime::shared::{PeerCommand, PeerMail, ShardCommand, ShardMail, Shared, WordRequest};
use crate::runtime::tree_cell::TreeCell;
use crate::shard::status::WatchPiece;
use crate::shard::turn::Letter;
use crate::tree::{EphemeralPiece, Tree, TreeOptions};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{ConnId, SessionId, ShardId};
use crate::watch::Interest;

/// What the thread heard.
#[derive(Default)]
struct Heard {
    resets: AtomicU64,
    snapshots: AtomicU64,
    refuses: AtomicBool,
    deaf: AtomicBool,
    /// The watches are listed when the test says so.
    holds: AtomicBool,
    held: Mutex<Vec<channel::Sender<WatchPiece>>>,
    words: Mutex<Vec<(ConnId, String)>>,
}

struct Site {
    admin: SocketAddr,
    prometheus: SocketAddr,
    words: channel::Sender<WordRequest>,
    heard: Arc<Heard>,
    data: tempfile::TempDir,
}

/// Four watches in pieces of three.
fn watches(from: usize) -> WatchPiece {
    let all = ["/c", "/a", "/d", "/b"].map(|path| (SessionId(1), path.to_owned()));
    let next = from + 3;
    WatchPiece { watches: all.into_iter().skip(from).take(3).collect(), next: (next < 4).then_some(next) }
}

fn answer_shard_mail(letter: ShardMail, heard: &Heard) {
    match letter {
        // Nobody may be waiting any more.
        ShardMail::Command(ShardCommand::Status { reply, .. }) => drop(reply.send(super::shard())),
        ShardMail::Command(ShardCommand::Watches { reply, .. }) if heard.holds.load(Ordering::SeqCst) => {
            heard.held.lock().unwrap().push(reply);
        }
        ShardMail::Command(ShardCommand::Watches { from, reply }) => drop(reply.send(watches(from))),
        ShardMail::Letter(Letter::WordAnswer { conn, text }) => {
            heard.words.lock().unwrap().push((conn, String::from_utf8(text).unwrap()));
        }
        ShardMail::Command(ShardCommand::ResetStats { .. } | ShardCommand::ResetConnectionStats) => {
            heard.resets.fetch_add(1, Ordering::SeqCst);
        }
        _ => panic!("a letter nobody expected"),
    }
}

fn answer_peer_mail(
    letter: PeerMail,
    peer: &Mutex<crate::peer::status::PeerStatus>,
    heard: &Heard,
    data: &std::path::Path,
) {
    match letter {
        // Nobody may be waiting any more.
        PeerMail::Command(PeerCommand::Status { reply, .. }) => drop(reply.send(peer.lock().unwrap().clone())),
        PeerMail::Command(PeerCommand::Sessions { reply, .. }) => {
            drop(reply.send(SessionPiece { sessions: Vec::new(), next: None }));
        }
        PeerMail::Command(PeerCommand::Ephemerals { reply, .. }) => {
            drop(reply.send(EphemeralPiece { ephemerals: Vec::new(), last: None }));
        }
        PeerMail::Command(PeerCommand::ResetStats | PeerCommand::ResetObservers) => {
            heard.resets.fetch_add(1, Ordering::SeqCst);
        }
        PeerMail::Snapshot { reply } => {
            heard.snapshots.fetch_add(1, Ordering::SeqCst);
            if heard.refuses.load(Ordering::SeqCst) {
                return reply.send(Err(SnapshotRefused::TooMany)).unwrap();
            }
            let mut p = peer.lock().unwrap();
            let zxid = p.last_zxid;
            let name = format!("version-2/snapshot.{:x}", zxid.0);
            std::fs::write(data.join(name), vec![1; 200_000]).unwrap();
            p.stats.snapshot_ms.record(1);
            p.last_snapshot = Some(Finished { zxid, took_ms: 1, at_wall_ms: 1_795_218_577_321 });
            reply.send(Ok(zxid)).unwrap();
        }
        _ => panic!("a letter nobody expected"),
    }
}

impl Site {
    fn open(change: impl FnOnce(&mut Config)) -> Site {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("version-2")).unwrap();
        let mut config = Config { data_dir: data.path().into(), data_log_dir: data.path().into(), ..super::config() };
        config.metrics.provider = MetricsProvider::Prometheus;
        config.auth.super_digest = Some("super:/49OUaS/Rm5CIudE7EhYoMwy+PY=".into());
        change(&mut config);
        let heard = Arc::new(Heard::default());
        let (letter, inbox) = channel::unbounded::<()>();
        let bell = Bell::Call(Arc::new(move || letter.send(()).unwrap()));
        let (shard_mail, shard) = mailbox::<ShardMail>(bell.clone());
        let (peer_mail, peer_inbox) = mailbox::<PeerMail>(bell);
        let (listening, path, peer) = (heard.clone(), data.path().to_owned(), Mutex::new(super::peer()));
        std::thread::spawn(move || {
            while inbox.recv().is_ok() {
                let (to_shard, to_peer) = (shard.pop(), peer_inbox.pop());
                if listening.deaf.load(Ordering::SeqCst) {
                    continue;
                }
                if let Some(letter) = to_shard {
                    answer_shard_mail(letter, &listening);
                }
                if let Some(letter) = to_peer {
                    answer_peer_mail(letter, &peer, &listening, &path);
                }
            }
        });
        let extended = ExtendedTypes { enabled: false, emulate_353: false };
        let shared = Shared {
            tree: TreeCell::new(
                Tree::new(TreeOptions { extended, digest_enabled: true }),
                1,
                Arc::new(Interest::new()),
            ),
            turns: vec![CachePadded::new(AtomicU64::new(0))],
            shards: vec![shard_mail],
            peer_core: 0,
            peer: peer_mail,
            conn_limits: ConnLimits::new(0, 0),
            words: channel::unbounded().0,
        };
        let state = Arc::new(AdminState::new(Arc::new(config), Arc::new(shared), Default::default()));
        let idle = Duration::from_millis(state.config.admin.idle_timeout_ms as u64);
        let port = |routes: Router| {
            let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            (listener.local_addr().unwrap(), (listener, routes))
        };
        let (admin, a) = port(http::admin(state.clone()));
        let (prometheus, p) = port(http::prometheus(state.clone()));
        let (words, requests) = channel::unbounded();
        super::super::start_words(state.clone(), requests).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(super::super::serve(vec![a, p], idle, state));
        });
        Site { admin, prometheus, words, heard, data }
    }

    /// Status line, headers in lower case, body.
    fn ask(&self, request: &str) -> (String, String, Vec<u8>) {
        ask(self.admin, request)
    }

    fn get(&self, path: &str) -> (String, String) {
        let (status, _, body) = self.ask(&format!("GET {path} HTTP/1.1\r\n"));
        (status, String::from_utf8(body).unwrap())
    }
}

fn ask(to: SocketAddr, request: &str) -> (String, String, Vec<u8>) {
    let mut s = TcpStream::connect(to).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    s.write_all(format!("{request}Host: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut all = Vec::new();
    s.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    (status.strip_prefix("HTTP/1.1 ").unwrap().to_owned(), headers.to_lowercase(), all[end + 4..].to_vec())
}

fn plain(command: &str, error: &str) -> String {
    format!("{{\n  \"command\" : \"{command}\",\n  \"error\" : {error}\n}}")
}

#[test]
fn commands_answer_as_json() {
    let site = Site::open(|_| ());
    let ok = |body: String| ("200 OK".to_owned(), body);
    assert_eq!(site.get("/commands/ruok"), ok(plain("ruok", "null")));
    assert_eq!(site.get("/commands/nosuch"), ok(plain("nosuch", "\"Unknown command: nosuch\"")));
    assert_eq!(site.get("/commands/ruok/"), ok(plain("ruok/", "\"Unknown command: ruok/\"")));
    let summary = "{\n  \"num_connections\" : 1,\n  \"num_paths\" : 3,\n  \"num_total_watches\" : 3,\n  \"command\" : \"watch_summary\",\n  \"error\" : null\n}";
    assert_eq!(site.get("/commands/wchs"), ok(summary.to_owned()));
    let leader = "{\n  \"error\" : \"server is not initialized\",\n  \"command\" : \"leader\"\n}";
    assert_eq!(site.get("/commands/lead"), ok(leader.to_owned()));
    for (list, length) in [("/commands", 1518), ("/commands/", 1518)] {
        assert_eq!(site.get(list).1.len(), length);
    }
    let (status, headers, body) = site.ask("HEAD /commands/ruok HTTP/1.1\r\n");
    assert!(status == "200 OK" && headers.contains("content-length: 42") && body.is_empty());
    assert!(headers.contains("content-type: application/json"));
    assert_eq!(site.get("/other").0, "404 Not Found");
    assert_eq!(site.get("/commandsx").0, "404 Not Found");
    for request in ["PUT /commands/ruok", "PUT /commands/nosuch", "DELETE /commands", "POST /commands/ruok"] {
        let status = site.ask(&format!("{request} HTTP/1.1\r\nContent-Length: 0\r\n")).0;
        assert_eq!(status, "405 Method Not Allowed", "{request}");
    }
    assert_eq!(site.ask("POST /commands/ HTTP/1.1\r\nContent-Length: 0\r\n").2.len(), 1518);
}

#[test]
fn commands_that_change_something() {
    let site = Site::open(|c| c.admin.command_url = "/zk/admin/".into());
    let alone = Site::open(|c| c.metrics.provider = MetricsProvider::Default);
    assert_eq!(site.get("/zk/admin/stat_reset").1, plain("stat_reset", "null"));
    assert_eq!(site.get("/zk/admin/crst").1, plain("connection_stat_reset", "null"));
    assert!(site.get("/zk/admin/gtmk").1.contains("\"tracemask\" : 306"));
    assert!(site.get("/zk/admin/stmk?traceMask=511").1.contains("\"tracemask\" : 511"));
    assert!(site.get("/zk/admin/get_trace_mask").1.contains("\"tracemask\" : 511"));
    let wrong = "{\n  \"error\" : \"setTraceMask requires long traceMask argument, got abc\",\n  \"command\" : \"set_trace_mask\"\n}";
    assert_eq!(site.get("/zk/admin/stmk?traceMask=abc").1, wrong);
    let none =
        "{\n  \"error\" : \"setTraceMask requires long traceMask argument\",\n  \"command\" : \"set_trace_mask\"\n}";
    assert_eq!(site.get("/zk/admin/stmk").1, none);
    assert_eq!(site.heard.resets.load(Ordering::SeqCst), 2);
    // Without Prometheus the metrics of the peer core begin again too.
    assert_eq!(alone.get("/commands/srst").1, plain("stat_reset", "null"));
    assert_eq!(alone.get("/commands/ruok").0, "200 OK");
    assert_eq!(alone.heard.resets.load(Ordering::SeqCst), 2);
}

#[test]
fn health_and_metrics() {
    let site = Site::open(|_| ());
    assert_eq!(site.get("/livez"), ("200 OK".into(), "ok\n".into()));
    assert_eq!(site.get("/readyz"), ("200 OK".into(), "ok\n".into()));
    let (status, headers, body) = ask(site.prometheus, "GET /metrics HTTP/1.1\r\n");
    assert!(status == "200 OK" && headers.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert!(String::from_utf8(body).unwrap().contains("\nznode_count 312.0\n"));
    assert_eq!(ask(site.prometheus, "GET /commands HTTP/1.1\r\n").0, "404 Not Found");
    // A core that is stuck.
    site.heard.deaf.store(true, Ordering::SeqCst);
    for (path, what) in [("/livez", "not live: "), ("/readyz", "not ready: ")] {
        let (status, body) = site.get(path);
        assert!(status == "503 Service Unavailable" && body.starts_with(what), "{status} {body}");
        assert!(body.ends_with("did not answer within 900ms\n"), "{body}");
    }
    let (status, body) = site.get("/commands/ruok");
    assert_eq!((status.as_str(), body), ("200 OK", plain("ruok", &format!("\"{NOT_SERVING}\""))));
}

/// Waits until `ready` says so.
fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(std::time::Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// While the watches are being listed for some, shorter answers are given to others, over the words as over HTTP.
#[test]
fn nobody_waits_for_a_longer_list_than_his_own() {
    let site = Site::open(|_| ());
    site.heard.holds.store(true, Ordering::SeqCst);
    let ask = |conn, word| {
        let request = WordRequest { shard: ShardId(0), conn: ConnId(conn), word, argument: 0 };
        site.words.send(request).unwrap();
    };
    let answer = |conn| {
        let words = site.heard.words.lock().unwrap();
        words.iter().find(|(c, _)| *c == ConnId(conn)).map(|(_, text)| text.clone())
    };
    (1..=3).for_each(|conn| ask(conn, "wchp"));
    let mut listing = TcpStream::connect(site.admin).unwrap();
    listing.write_all(b"GET /commands/wchp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    wait_until("both ask for the watches", || site.heard.held.lock().unwrap().len() == 2);
    for (conn, word) in [(11, "ruok"), (12, "mntr"), (13, "srvr"), (14, "cons"), (15, "stat")] {
        ask(conn, word);
        wait_until(word, || answer(conn).is_some());
    }
    for command in ["ruok", "monitor", "connections", "stats"] {
        assert_eq!(site.get(&format!("/commands/{command}")).0, "200 OK", "{command}");
    }
    assert_eq!((1..=3).find_map(answer), None);
    site.heard.holds.store(false, Ordering::SeqCst);
    site.heard.held.lock().unwrap().drain(..).for_each(|reply| reply.send(watches(0)).unwrap());
    for conn in 1..=3 {
        wait_until("wchp", || answer(conn).is_some());
        assert_eq!(answer(conn).unwrap(), "/a\n\t0x1\n/b\n\t0x1\n/c\n\t0x1\n/d\n\t0x1\n\n");
    }
    let mut all = String::new();
    listing.read_to_string(&mut all).unwrap();
    assert!(all.contains("\"/b\" : [ 1 ]"), "{all}");
}

#[test]
fn silent_connections_give_way_and_one_that_is_answered_does_not() {
    // Nobody is closed for being idle.
    let site = Site::open(|c| c.admin.idle_timeout_ms = 3_600_000);
    for port in [site.admin, site.prometheus] {
        let silent: Vec<TcpStream> = (0..2 * CONNECTIONS + 1)
            .map(|i| {
                let mut s = TcpStream::connect(port).unwrap();
                if i % 2 == 0 {
                    s.write_all(b"GET /live").unwrap();
                }
                s
            })
            .collect();
        let path = if port == site.admin { "/livez" } else { "/metrics" };
        assert_eq!(ask(port, &format!("GET {path} HTTP/1.1\r\n")).0, "200 OK");
        drop(silent);
    }
    // The cores do not answer, so this one is busy until others have come and gone.
    site.heard.deaf.store(true, Ordering::SeqCst);
    let mut busy = TcpStream::connect(site.admin).unwrap();
    busy.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    busy.write_all(b"GET /commands/srvr HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let silent: Vec<TcpStream> = (0..2 * CONNECTIONS).map(|_| TcpStream::connect(site.admin).unwrap()).collect();
    assert_eq!(site.get("/nosuch").0, "404 Not Found");
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(NOT_SERVING), "{answer}");
    drop(silent);
}

#[test]
fn a_snapshot_is_taken_for_those_who_may_and_sent() {
    let site = Site::open(|c| c.admin.rate_limit_ms = 300_000);
    let missing = plain("snapshot", "\"Auth info is missing for the command\"");
    assert_eq!(site.get("/commands/snapshot"), ("401 Unauthorized".into(), missing));
    let ask = |path: &str, auth: &str| site.ask(&format!("GET {path} HTTP/1.1\r\nAuthorization: {auth}\r\n"));
    let (status, _, body) = ask("/commands/snapshot", "x");
    assert_eq!(
        (status.as_str(), String::from_utf8(body).unwrap()),
        ("401 Unauthorized", plain("snapshot", "\"Not authenticated\""))
    );
    assert_eq!(site.heard.snapshots.load(Ordering::SeqCst), 0);
    let (status, headers, body) = ask("/commands/snap", "digest super:interop");
    assert_eq!(status, "200 OK");
    for header in [
        "last_zxid: 0x136",
        "snapshot_size: 200000",
        "content-length: 200000",
        "content-type: application/octet-stream",
    ] {
        assert!(headers.contains(header), "{headers}");
    }
    assert!(body == vec![1; 200_000], "{} bytes", body.len());
    let (status, _, _) = ask("/commands/snapshot", "digest super:interop");
    assert_eq!(status, "429 Too Many Requests");
    assert!(site.get("/commands/mntr").1.contains("\"snapshot_rate_limited_count\" : 1.0,"));
    let last = site.get("/commands/last_snapshot").1;
    assert!(last.contains("\"zxid\" : \"136\",\n  \"timestamp\" : 1795218577,"), "{last}");
    assert!(site.data.path().join("version-2/snapshot.136").exists());
}

#[test]
fn a_snapshot_without_its_bytes_and_none_at_all() {
    let site = Site::open(|c| c.admin.rate_limit_ms = 0);
    let request = "GET /commands/snapshot?streaming=false HTTP/1.1\r\nAuthorization: digest super:interop\r\n";
    let (status, headers, body) = site.ask(request);
    assert_eq!((status.as_str(), String::from_utf8(body).unwrap()), ("200 OK", plain("snapshot", "null")));
    assert!(headers.contains("last_zxid: 0x136"), "{headers}");
    site.heard.refuses.store(true, Ordering::SeqCst);
    let (status, _, body) = site.ask(request);
    let why = plain("snapshot", "\"64 others already wait for a snapshot: try again later\"");
    assert_eq!((status.as_str(), String::from_utf8(body).unwrap()), ("500 Internal Server Error", why));
    assert!(site.get("/commands/mntr").1.contains("\"snapshot_error_count\" : 1.0,"));
    let site = Site::open(|c| c.admin.snapshot = false);
    assert_eq!(site.ask(request).0, "503 Service Unavailable");
    let site = Site::open(|c| c.storage.serialize_last_processed_zxid = false);
    assert_eq!(site.ask(request).0, "500 Internal Server Error");
    assert_eq!(site.heard.snapshots.load(Ordering::SeqCst), 0);
    let post = "POST /commands/restore HTTP/1.1\r\nContent-Length: 0\r\n";
    assert_eq!(site.ask(post).0, "401 Unauthorized");
    assert_eq!(site.ask(&format!("{post}Authorization: digest super:interop\r\n")).0, "503 Service Unavailable");
}

#[test]
fn a_silent_connection_is_closed() {
    let site = Site::open(|c| c.admin.idle_timeout_ms = 200);
    let mut s = TcpStream::connect(site.admin).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    s.write_all(b"GET /commands/ruok HT").unwrap();
    let mut rest = Vec::new();
    // Closed, with or without a word about it; not a timeout of ours.
    match s.read_to_end(&mut rest) {
        Ok(_) => assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest)),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
}
