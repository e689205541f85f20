//! The client against a scripted server: a listener that sends and expects given bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::event::{EventKind, KeeperState};
use super::hosts::ConnectString;
use super::*;
use crate::jute::{Put, Reader};
use crate::proto::four_letter;
use crate::proto::reply::{put_event, put_reply, put_reply_header};
use crate::proto::request::{RequestHeader, xid};
use crate::proto::{ConnectRequest, ConnectResponse, Request};
use crate::types::{ErrorCode, EventType, SessionId, Zxid};

const SESSION: SessionId = SessionId(0x0100_0000_0000_0001);
const LONG: Duration = Duration::from_secs(10);

/// One accepted connection.
struct Peer(TcpStream);

impl Peer {
    fn accept(listener: &TcpListener) -> Peer {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Peer(stream)
    }

    fn read(&mut self) -> Vec<u8> {
        let mut len = [0; 4];
        self.0.read_exact(&mut len).unwrap();
        let mut frame = vec![0; i32::from_be_bytes(len) as usize];
        self.0.read_exact(&mut frame).unwrap();
        frame
    }

    /// The next request's header and body.
    fn request(&mut self) -> (RequestHeader, Vec<u8>) {
        let frame = self.read();
        (RequestHeader::read(&mut Reader::new(&frame)).unwrap(), frame[8..].to_vec())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn reply(&mut self, xid: i32, zxid: i64, err: ErrorCode) {
        let mut out = Vec::new();
        put_reply(&mut out, xid, Zxid(zxid), err);
        self.write(&out);
    }

    fn reply_with(&mut self, xid: i32, zxid: i64, body: &[u8]) {
        let mut out = Vec::new();
        let f = out.begin_frame();
        put_reply_header(&mut out, xid, Zxid(zxid), ErrorCode::Ok);
        out.extend_from_slice(body);
        out.end_frame(f);
        self.write(&out);
    }

    fn event(&mut self, event: EventType, path: &str, zxid: i64) {
        let mut out = Vec::new();
        put_event(&mut out, Zxid(zxid), event, path);
        self.write(&out);
    }

    /// Reads the handshake and grants a session of `timeout_ms`.
    fn greet(&mut self, timeout_ms: i32) -> ConnectRequest {
        let request = ConnectRequest::read(&self.read()).unwrap();
        let mut out = Vec::new();
        ConnectResponse { timeout_ms, session: SESSION, passwd: SESSION.passwd(), read_only: Some(false) }
            .put(&mut out);
        self.write(&out);
        request
    }
}

struct Setup {
    client: Client,
    events: Receiver<WatchedEvent>,
    server: JoinHandle<()>,
}

fn setup(chroot: &str, server: impl FnOnce(TcpListener) + Send + 'static) -> Setup {
    setup_with(|_| (), chroot, server)
}

fn setup_with(
    adjust: impl FnOnce(&mut Options),
    chroot: &str,
    server: impl FnOnce(TcpListener) + Send + 'static,
) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || server(listener));
    let mut options =
        Options { timeout_ms: 6000, read_only: false, rearm_watches: true, max_frame: 1 << 20, request_timeout: None };
    adjust(&mut options);
    let (tx, events) = channel();
    let watcher = Box::new(move |e: &WatchedEvent| drop(tx.send(e.clone())));
    let connect = ConnectString::parse(&format!("127.0.0.1:{port}{chroot}")).unwrap();
    Setup { client: Client::start(connect, options, watcher).expect("a thread"), events, server }
}

impl Setup {
    fn next_state(&self) -> KeeperState {
        let e = self.events.recv_timeout(LONG).unwrap();
        assert_eq!(e.kind, EventKind::None, "{e}");
        e.state
    }

    fn join(self) {
        self.server.join().unwrap();
    }
}

fn stat_bytes() -> Vec<u8> {
    let mut out = Vec::new();
    crate::jute::stat::put_stat(&mut out, &Stat { czxid: Zxid(3), ..Stat::default() });
    out
}

fn code_of<T: std::fmt::Debug>(r: Result<T, ClientError>) -> i32 {
    match r {
        Err(ClientError::Keeper { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn handshake_and_requests_are_the_recorded_bytes() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        let mut handshake = vec![0; 49];
        p.0.read_exact(&mut handshake).unwrap();
        let mut expected = vec![0, 0, 0, 45];
        expected.extend([0; 14]);
        expected.extend([0x17, 0x70]);
        expected.extend([0; 11]);
        expected.push(16);
        expected.extend([0; 17]);
        assert_eq!(handshake, expected);
        let mut out = Vec::new();
        ConnectResponse { timeout_ms: 6000, session: SESSION, passwd: SESSION.passwd(), read_only: Some(false) }
            .put(&mut out);
        p.write(&out);
        // exists /a with a watch; xid 1.
        assert_eq!(p.read(), [0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, b'/', b'a', 1]);
        p.reply(1, 5, ErrorCode::NoNode);
        assert_eq!(p.read(), [0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 2, b'/', b'a', 0, 0, 0, 1, b'x', 255, 255, 255, 255]);
        // The event of the client's own write comes before its reply.
        p.event(EventType::NodeCreated, "/a", 6);
        p.event(EventType::NodeCreated, "/unasked", 6);
        p.reply_with(2, 6, &stat_bytes());
        assert_eq!(p.read(), [0, 0, 0, 3, 255, 255, 255, 245]);
        p.reply(3, 7, ErrorCode::Ok);
    });
    assert_eq!(s.client.exists("/a", true), Ok(None));
    assert_eq!(s.client.set_data("/a", b"x", -1).unwrap().czxid, Zxid(3));
    // No waiting here: the event must have been there before the reply.
    let events: Vec<_> = s.events.try_iter().map(|e| e.to_string()).collect();
    assert_eq!(
        events,
        [
            "WatchedEvent state:SyncConnected type:None path:null zxid: -1",
            "WatchedEvent state:SyncConnected type:NodeCreated path:/a zxid: 6"
        ]
    );
    s.client.close();
    assert_eq!(s.client.state(), State::Closed);
    assert_eq!(s.next_state(), KeeperState::Closed);
    assert_eq!(code_of(s.client.get_data("/a", false)), code::SESSION_EXPIRED);
    s.join();
}

#[test]
fn an_idle_session_pings_and_a_deaf_server_is_left() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(900);
        let start = Instant::now();
        for _ in 0..3 {
            let (h, body) = p.request();
            assert_eq!((h.xid, h.op, body.len()), (xid::PING, Op::PING, 0));
            p.reply(xid::PING, 9, ErrorCode::Ok);
        }
        // The two pings come a third of the timeout apart.
        assert!((Duration::from_millis(600)..Duration::from_secs(5)).contains(&start.elapsed()));
        // From here on nothing is answered, so after two thirds of the timeout the client must reconnect.
        let mut again = Peer::accept(&listener);
        let resumed = again.greet(900);
        assert_eq!((resumed.session, resumed.passwd.as_slice()), (SESSION, &SESSION.passwd()[..]));
        let (h, _) = again.request();
        assert_eq!(h.op, Op::PING);
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    s.join();
}

#[test]
fn a_new_connection_resumes_the_session_and_its_watches() {
    let s = setup("/root", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, body) = p.request();
        assert_eq!((h.xid, h.op), (xid::AUTH, Op::AUTH));
        assert!(body.ends_with(b"bob:pw"));
        p.reply(xid::AUTH, 0, ErrorCode::Ok);
        let (h, body) = p.request();
        assert_eq!(
            Request::read(h.op, &body).unwrap(),
            Some(Request::GetChildren { path: "/root".into(), watch: true })
        );
        let mut children = Vec::new();
        children.put_strings(&["x"]);
        children.extend(stat_bytes());
        p.reply_with(h.xid, 40, &children);
        let (h, body) = p.request();
        assert_eq!(Request::read(h.op, &body).unwrap(), Some(Request::AddWatch { path: "/root/p".into(), mode: 0 }));
        p.reply_with(h.xid, 41, &[0; 4]);
        // This request is never answered.
        let (h, _) = p.request();
        assert_eq!((h.xid, h.op), (3, Op::DELETE));
        drop(p);

        let mut p = Peer::accept(&listener);
        let resumed = p.greet(6000);
        assert_eq!((resumed.session, resumed.last_zxid_seen), (SESSION, Zxid(41)));
        let (h, _) = p.request();
        assert_eq!(h.op, Op::AUTH);
        let (h, body) = p.request();
        assert_eq!((h.xid, h.op), (xid::SET_WATCHES, Op::SET_WATCHES2));
        let Ok(Some(Request::SetWatches(w))) = Request::read(h.op, &body) else { panic!() };
        assert_eq!((w.relative_zxid, w.child, w.persistent), (Zxid(41), vec!["/root".into()], vec!["/root/p".into()]));
        assert!(w.data.is_empty() && w.exist.is_empty() && w.persistent_recursive.is_empty());
        p.event(EventType::NodeChildrenChanged, "/root", -1);
        p.reply(xid::SET_WATCHES, 50, ErrorCode::Ok);
        let (h, body) = p.request();
        assert_eq!((h.xid, h.op), (4, Op::SYNC));
        assert_eq!(Request::read(h.op, &body).unwrap(), Some(Request::Sync { path: Some("/root/s".into()) }));
        p.reply_with(4, 51, &[0, 0, 0, 0]);
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    s.client.add_auth("digest", Some(b"bob:pw"));
    assert_eq!(s.client.get_children("/", true).unwrap().0, ["x"]);
    s.client.add_watch("/p", false).unwrap();
    assert_eq!(code_of(s.client.delete("/d", -1)), code::CONNECTION_LOSS);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    assert_eq!(s.client.sync("/s"), Ok(()));
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    let e = s.events.recv_timeout(LONG).unwrap();
    assert_eq!((e.kind, e.path.as_deref(), e.zxid), (EventKind::NodeChildrenChanged, Some("/"), -1));
    s.join();
}

#[test]
fn an_expired_session_ends() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        drop(p);
        let mut p = Peer::accept(&listener);
        p.read();
        let mut out = Vec::new();
        ConnectResponse::expired(Some(false)).put(&mut out);
        p.write(&out);
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    assert_eq!(code_of(s.client.get_acl("/a")), code::SESSION_EXPIRED);
    assert_eq!(s.next_state(), KeeperState::Expired);
    assert_eq!(s.client.state(), State::Closed);
    s.join();
}

#[test]
fn a_session_expires_here_when_no_server_answers() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(600);
        // No server is left.
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    let start = Instant::now();
    assert_eq!(s.next_state(), KeeperState::Expired);
    assert!(start.elapsed() < Duration::from_secs(3));
    s.join();
}

#[test]
fn a_reply_out_of_order_costs_the_connection() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, _) = p.request();
        p.reply(h.xid + 1, 5, ErrorCode::Ok);
        assert_eq!(p.0.read(&mut [0; 1]).unwrap(), 0, "the client closes");
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, _) = p.request();
        assert_eq!(h.xid, 2);
        // A reply that is too short for its record is an error for its caller only.
        p.reply_with(h.xid, 6, &[0, 0, 0, 9]);
        let (h, _) = p.request();
        p.reply_with(h.xid, 6, &[0, 0, 0, 7]);
    });
    assert_eq!(code_of(s.client.delete("/a", -1)), code::CONNECTION_LOSS);
    assert!(matches!(s.client.get_data("/a", false), Err(ClientError::Reply(_))));
    assert_eq!(s.client.get_all_children_number("/"), Ok(7));
    s.join();
}

#[test]
fn nonsense_is_survived() {
    let s = setup("", |listener| {
        // A frame that is too long, one with a negative length, an invalid handshake, an event of an unknown type.
        for bytes in [&[0x7f, 0xff, 0xff, 0xff, 0][..], &[0xff; 4], &[0, 0, 0, 2, 1, 2]] {
            let mut p = Peer::accept(&listener);
            p.read();
            p.write(bytes);
            assert_eq!(p.0.read(&mut [0; 1]).unwrap_or(0), 0, "the client closes");
        }
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let mut event = vec![0, 0, 0, 28, 255, 255, 255, 255];
        event.extend([0; 12]);
        event.extend([0, 0, 0, 99, 0, 0, 0, 3, 0, 0, 0, 0]);
        p.write(&event);
        assert_eq!(p.0.read(&mut [0; 1]).unwrap_or(0), 0, "the client closes");
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, _) = p.request();
        p.reply(h.xid, 5, ErrorCode::Ok);
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.client.delete("/a", -1), Ok(()));
    s.join();
}

#[test]
fn a_read_only_session_moves_to_a_server_that_takes_writes() {
    let s = setup_with(
        |o| o.read_only = true,
        "",
        |listener| {
            let mut p = Peer::accept(&listener);
            assert_eq!(ConnectRequest::read(&p.read()).unwrap().read_only, Some(true));
            let mut out = Vec::new();
            ConnectResponse { timeout_ms: 6000, session: SESSION, passwd: SESSION.passwd(), read_only: Some(true) }
                .put(&mut out);
            p.write(&out);
            for answer in ["ro\n", "rw\n"] {
                let mut probe = Peer::accept(&listener);
                let mut word = [0; 4];
                probe.0.read_exact(&mut word).unwrap();
                assert_eq!(word, *four_letter::ISRO.as_bytes());
                probe.write(answer.as_bytes());
            }
            let mut q = Peer::accept(&listener);
            // The second server does not know the session of the first.
            assert_eq!(q.greet(6000).session, SessionId::NONE);
            let (h, _) = q.request();
            q.reply(h.xid, 5, ErrorCode::Ok);
        },
    );
    assert_eq!(s.next_state(), KeeperState::ConnectedReadOnly);
    assert!(!s.client.wait_connected(Duration::from_millis(1)));
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.client.delete("/a", -1), Ok(()));
    s.join();
}

#[test]
fn a_call_may_have_its_own_limit() {
    let s = setup_with(
        |o| o.request_timeout = Some(Duration::from_millis(50)),
        "",
        |listener| {
            let mut p = Peer::accept(&listener);
            p.greet(6000);
            p.request();
            // No answer: the client must close the connection.
            assert_eq!(p.0.read(&mut [0; 1]).unwrap_or(0), 0);
        },
    );
    assert_eq!(code_of(s.client.delete("/a", -1)), code::REQUEST_TIMEOUT);
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(s.next_state(), KeeperState::Disconnected);
    s.join();
}

#[test]
fn refused_credentials_end_the_session() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, _) = p.request();
        assert_eq!(h.op, Op::AUTH);
        p.reply(xid::AUTH, 0, ErrorCode::AuthFailed);
    });
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    s.client.add_auth("nosuch", None);
    assert_eq!(s.next_state(), KeeperState::AuthFailed);
    assert_eq!(code_of(s.client.who_am_i()), code::AUTH_FAILED);
    assert_eq!(s.client.state(), State::AuthFailed);
    s.join();
}

#[test]
fn an_unreachable_server_is_a_lost_connection() {
    let s = setup("", drop);
    // The first attempt may still have reached the listener.
    let code = code_of(s.client.delete("/a", -1));
    assert_eq!(code, code::CONNECTION_LOSS);
    assert_eq!(s.client.state(), State::Connecting);
    assert!(!s.client.wait_connected(Duration::from_millis(10)));
    s.client.close();
    assert_eq!(s.client.state(), State::Closed);
    s.join();
}

#[test]
fn arguments_are_checked_before_anything_is_sent() {
    let s = setup("", drop);
    let bad = |e: Result<(), ClientError>| assert!(matches!(e, Err(ClientError::Argument(_))), "{e:?}");
    bad(s.client.delete("a", -1));
    bad(s.client.get_data("/a/", false).map(drop));
    bad(s.client.sync(""));
    let no_acl = Create { data: None, acl: &[], mode: CreateMode::Persistent, ttl_ms: None };
    assert_eq!(code_of(s.client.create("/a", &no_acl)), code::INVALID_ACL);
    s.join();
}

#[test]
fn watches_are_removed_with_the_servers_consent_or_locally() {
    let s = setup("", |listener| {
        let mut p = Peer::accept(&listener);
        p.greet(6000);
        let (h, _) = p.request();
        let mut data = Vec::new();
        data.put_buffer(None);
        data.extend(stat_bytes());
        p.reply_with(h.xid, 5, &data);
        let (h, body) = p.request();
        assert_eq!(Request::read(h.op, &body).unwrap(), Some(Request::RemoveWatches { path: "/a".into(), kind: 1 }));
        p.reply(h.xid, 5, ErrorCode::NoWatcher);
        let (h, _) = p.request();
        p.reply(h.xid, 5, ErrorCode::SystemError);
        let (h, _) = p.request();
        p.reply(h.xid, 5, ErrorCode::Ok);
    });
    assert_eq!(s.client.get_data("/a", true).unwrap().0, None);
    assert_eq!(s.next_state(), KeeperState::SyncConnected);
    assert_eq!(code_of(s.client.remove_watches("/a", WatcherType::Children, false)), code::NO_WATCHER);
    assert_eq!(code_of(s.client.remove_watches("/a", WatcherType::Data, false)), -1);
    assert_eq!(s.client.remove_watches("/a", WatcherType::Any, false), Ok(()));
    let e = s.events.try_recv().unwrap().to_string();
    assert_eq!(e, "WatchedEvent state:SyncConnected type:DataWatchRemoved path:/a zxid: -1");
    s.join();
}
