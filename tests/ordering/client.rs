//! A scripted client: what it sends, and what came back.

use zabra::jute::stat::read_stat;
use zabra::jute::{Put, Reader};
use zabra::proto::multi::MultiHeader;
use zabra::proto::request::RequestHeader;
use zabra::proto::{ConnectRequest, ConnectResponse};
use zabra::types::{ConnId, SessionId, Zxid, op};

/// The two znodes everybody writes.
pub const PATHS: [&str; 2] = ["/a", "/b"];

/// One request of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// setData of one of [`PATHS`].
    Set(usize),
    /// setData of both.
    SetBoth,
    /// getData of one, with or without a watch.
    Get(usize, bool),
    /// getData of both in one multiRead.
    GetBoth,
}

/// One thing a client got, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    /// A watch event: which znode, stamped with what.
    Event(usize, Zxid),
    /// The reply to the n-th request, its stamp, and the mzxids that a read showed.
    Reply(usize, Zxid, Vec<Zxid>),
}

/// A client with its script.
pub struct Client {
    /// Connection number.
    pub conn: ConnId,
    /// Its shard.
    pub shard: usize,
    /// The server knows of the connection.
    pub accepted: bool,
    /// What it will do.
    pub script: Vec<Op>,
    /// How much of the script was sent.
    pub sent: usize,
    /// Bytes sent and not yet received by the server.
    pub wire: Vec<u8>,
    /// Bytes received.
    pub inbox: Vec<u8>,
    /// Decoded.
    pub got: Vec<Got>,
    session: Option<SessionId>,
}

impl Client {
    pub fn new(conn: ConnId, shard: usize, script: Vec<Op>) -> Client {
        let mut wire = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 1_000_000,
            session: SessionId::NONE,
            passwd: vec![0; 16],
            read_only: Some(false),
        }
        .put(&mut wire);
        Client {
            conn,
            shard,
            accepted: false,
            script,
            sent: 0,
            wire,
            inbox: Vec::new(),
            got: Vec::new(),
            session: None,
        }
    }

    /// Writes the next request of the script.
    pub fn send(&mut self) {
        let op = self.script[self.sent];
        self.sent += 1;
        let out = &mut self.wire;
        let frame = out.begin_frame();
        let code = match op {
            Op::Set(_) => op::SET_DATA,
            Op::SetBoth => op::MULTI,
            Op::Get(..) => op::GET_DATA,
            Op::GetBoth => op::MULTI_READ,
        };
        RequestHeader { xid: self.sent as i32, op: code }.put(out);
        match op {
            Op::Set(p) => put_set(out, p),
            Op::SetBoth => {
                for p in 0..2 {
                    MultiHeader { op: op::SET_DATA, done: false, err: -1 }.put(out);
                    put_set(out, p);
                }
                MultiHeader::END.put(out);
            }
            Op::Get(p, watch) => {
                out.put_string(PATHS[p]);
                out.put_bool(watch);
            }
            Op::GetBoth => {
                for path in PATHS {
                    MultiHeader { op: op::GET_DATA, done: false, err: -1 }.put(out);
                    out.put_string(path);
                    out.put_bool(false);
                }
                MultiHeader::END.put(out);
            }
        }
        out.end_frame(frame);
    }

    /// Decodes all whole frames of the inbox.
    pub fn read(&mut self) {
        loop {
            let Some(len) = self.inbox.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) else { return };
            if self.inbox.len() < 4 + len {
                return;
            }
            let frame: Vec<u8> = self.inbox.drain(..4 + len).skip(4).collect();
            if self.session.is_none() {
                self.session = Some(ConnectResponse::read(&frame).unwrap().session);
            } else {
                let got = self.decode(&frame);
                self.got.push(got);
            }
        }
    }

    fn decode(&self, frame: &[u8]) -> Got {
        let r = &mut Reader::new(frame);
        let (xid, zxid, err) = (r.i32().unwrap(), Zxid(r.i64().unwrap()), r.i32().unwrap());
        assert_eq!(err, 0, "xid {xid}");
        if xid == -1 {
            let (event, _) = (r.i32().unwrap(), r.i32().unwrap());
            assert_eq!(event, 3);
            let path = r.string().unwrap();
            return Got::Event(PATHS.iter().position(|p| *p == path).unwrap(), zxid);
        }
        let number = xid as usize - 1;
        let seen = match self.script[number] {
            Op::Get(..) => vec![read_data(r)],
            Op::GetBoth => (0..2)
                .map(|_| {
                    assert_eq!(MultiHeader::read(r).unwrap().op, op::GET_DATA);
                    read_data(r)
                })
                .collect(),
            Op::Set(_) | Op::SetBoth => Vec::new(),
        };
        Got::Reply(number, zxid, seen)
    }
}

fn put_set(out: &mut Vec<u8>, p: usize) {
    out.put_string(PATHS[p]);
    out.put_buffer(Some(b"value"));
    out.put_i32(-1);
}

fn read_data(r: &mut Reader<'_>) -> Zxid {
    assert_eq!(r.buffer().unwrap().unwrap().len(), 5);
    read_stat(r).unwrap().mzxid
}
