//! A client's end of a connection: the requests it sends and what it receives.

use std::collections::VecDeque;

use zabra::jute::stat::read_stat;
use zabra::jute::{JuteError, Reader};
use zabra::proto::multi::MultiResult;
use zabra::proto::request::{Request, xid};
use zabra::proto::response::{read_acl, read_children2, read_client_infos, read_created, read_data};
use zabra::proto::{ConnectRequest, ConnectResponse, ReplyHeader, WatcherEvent};
use zabra::types::{ConnId, Op, SessionId, Zxid};

use super::show;

/// One connection.
pub struct Client {
    /// Its name in the script.
    pub name: String,
    pub member: i64,
    pub shard: usize,
    pub conn: ConnId,
    /// The session and the negotiated timeout.
    pub session: Option<(SessionId, i32)>,
    pub last_zxid: Zxid,
    pub next_xid: i32,
    /// Xid and opcode of the unanswered requests.
    asked: VecDeque<(i32, Op)>,
    /// The beginning of an incomplete frame.
    inbox: Vec<u8>,
}

impl Client {
    pub fn new(name: &str, member: i64, shard: usize, conn: ConnId) -> Client {
        Client {
            name: name.to_owned(),
            member,
            shard,
            conn,
            session: None,
            last_zxid: Zxid::ZERO,
            next_xid: 1,
            asked: VecDeque::new(),
            inbox: Vec::new(),
        }
    }

    /// The handshake's bytes.
    pub fn hello(&self, session: SessionId, passwd: [u8; 16], timeout_ms: i32, seen: Zxid, read_only: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (passwd, read_only) = (passwd.to_vec(), Some(read_only));
        ConnectRequest { protocol_version: 0, last_zxid_seen: seen, timeout_ms, session, passwd, read_only }
            .put(&mut bytes);
        bytes
    }

    /// A request's bytes.
    pub fn ask(&mut self, number: Option<i32>, op: Op, request: &Request<'_>) -> Vec<u8> {
        let number = number.unwrap_or_else(|| {
            self.next_xid += 1;
            self.next_xid - 1
        });
        self.asked.push_back((number, op));
        let mut bytes = Vec::new();
        request.put_framed(number, op, &mut bytes);
        bytes
    }

    /// Receives bytes from the server; returns their content as text, one line per frame.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        self.inbox.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(len) = self.inbox.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) {
            if self.inbox.len() < 4 + len {
                break;
            }
            let frame: Vec<u8> = self.inbox.drain(..4 + len).skip(4).collect();
            let said = if self.session.is_none() { self.greeted(&frame) } else { self.told(&frame) };
            lines.push(format!("{} <- {said}", self.name));
        }
        lines
    }

    fn greeted(&mut self, frame: &[u8]) -> String {
        let answer = ConnectResponse::read(frame).expect("the answer to a handshake");
        if answer.timeout_ms == 0 {
            return "session expired".into();
        }
        assert_eq!(answer.passwd, answer.session.passwd());
        self.session = Some((answer.session, answer.timeout_ms));
        let read_only = if answer.read_only == Some(true) { ", only to read" } else { "" };
        format!("session {}, timeout {} ms{read_only}", answer.session, answer.timeout_ms)
    }

    fn told(&mut self, frame: &[u8]) -> String {
        let r = &mut Reader::new(frame);
        let header = ReplyHeader::read(r).expect("a header");
        if header.xid == xid::NOTIFICATION {
            let event = WatcherEvent::read(r).expect("an event");
            return format!("event at {}: {} {}", show::zxid(header.zxid), show::event(event.kind), event.path);
        }
        let (number, op) = self.asked.pop_front().expect("an answer to what was asked");
        assert_eq!(header.xid, number, "answers come in the order of the requests");
        self.last_zxid = header.zxid.max(self.last_zxid);
        let body = if header.err == 0 || !r.is_empty() { body(op, r).expect("a body") } else { String::new() };
        let colon = if body.is_empty() { "" } else { ": " };
        format!("reply {number} at {}: {op} {}{colon}{body}", show::zxid(header.zxid), show::code(header.err))
    }
}

/// The part of a reply after its header, as text.
fn body(op: Op, r: &mut Reader<'_>) -> Result<String, JuteError> {
    let said = match op {
        Op::CREATE | Op::SYNC => r.string()?.into_owned(),
        Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL => {
            let (path, stat) = read_created(r)?;
            format!("{path}, {}", show::stat(&stat))
        }
        Op::SET_DATA | Op::SET_ACL | Op::EXISTS => show::stat(&read_stat(r)?),
        Op::GET_DATA => {
            let (data, stat) = read_data(r)?;
            format!("{}, {}", show::data(data), show::stat(&stat))
        }
        Op::GET_CHILDREN => format!("[{}]", r.strings()?.join(" ")),
        Op::GET_CHILDREN2 => {
            let (names, stat) = read_children2(r)?;
            format!("[{}], {}", names.join(" "), show::stat(&stat))
        }
        Op::GET_ACL => {
            let (acl, stat) = read_acl(r)?;
            format!("{}, {}", show::acl(&acl), show::stat(&stat))
        }
        Op::WHO_AM_I => {
            let infos = read_client_infos(r)?;
            infos.iter().map(|(scheme, user)| format!("{scheme}:{user}")).collect::<Vec<_>>().join(" ")
        }
        Op::MULTI | Op::MULTI_READ => {
            MultiResult::read_all(r)?.iter().map(show::multi_result).collect::<Vec<_>>().join("; ")
        }
        Op::ADD_WATCH => {
            r.i32()?;
            String::new()
        }
        _ => String::new(),
    };
    assert!(r.is_empty(), "bytes after the answer to {op}");
    Ok(said)
}
