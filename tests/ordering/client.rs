//! A client that follows a script: what it sends and what it receives.

use zabra::jute::Reader;
use zabra::proto::multi::{MultiOp, MultiReadOp, MultiResult};
use zabra::proto::reply::{ReplyHeader, WatcherEvent};
use zabra::proto::request::xid;
use zabra::proto::response::read_data;
use zabra::proto::{ConnectRequest, ConnectResponse, Request};
use zabra::types::{ConnId, EventType, Op, SessionId, Stat, Zxid};

/// The two znodes that all clients write.
pub const PATHS: [&str; 2] = ["/a", "/b"];

/// One request of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// setData of one of [`PATHS`].
    Set(usize),
    /// setData of both.
    SetBoth,
    /// getData of one, with or without a watch.
    Get(usize, bool),
    /// getData of both in one multiRead.
    GetBoth,
    /// sync.
    Sync,
}

/// Something that a client received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    /// A watch event: index of the znode, and zxid.
    Event(usize, Zxid),
    /// The reply to the n-th request, its zxid, and the mzxids that a read showed.
    Reply(usize, Zxid, Vec<Zxid>),
}

impl Got {
    /// The zxid that it named.
    pub fn zxid(&self) -> Zxid {
        match self {
            Got::Event(_, zxid) | Got::Reply(_, zxid, _) => *zxid,
        }
    }
}

/// A client with its script.
pub struct Client {
    /// Connection number.
    pub conn: ConnId,
    /// Its shard.
    pub shard: usize,
    /// The server has accepted the connection.
    pub accepted: bool,
    /// What it will do.
    pub script: Vec<Ask>,
    /// Number of requests sent.
    pub sent: usize,
    /// For each of them, the newest zxid that any client had been told before.
    pub known: Vec<Zxid>,
    /// Bytes sent and not yet received by the server.
    pub wire: Vec<u8>,
    /// Bytes received.
    pub inbox: Vec<u8>,
    /// What was received, decoded.
    pub got: Vec<Got>,
    session: Option<SessionId>,
}

impl Client {
    pub fn new(conn: ConnId, shard: usize, script: Vec<Ask>) -> Client {
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
            known: Vec::new(),
            wire,
            inbox: Vec::new(),
            got: Vec::new(),
            session: None,
        }
    }

    /// Writes the next request of the script.
    /// `known`: the newest zxid that any client has been told.
    pub fn send(&mut self, known: Zxid) {
        let op = self.script[self.sent];
        self.sent += 1;
        self.known.push(known);
        let set = |p: usize| MultiOp::SetData { path: PATHS[p].into(), data: Some(b"value"), version: -1 };
        let (code, request) = match op {
            Ask::Set(p) => {
                (Op::SET_DATA, Request::SetData { path: PATHS[p].into(), data: Some(b"value"), version: -1 })
            }
            Ask::SetBoth => (Op::MULTI, Request::Multi(vec![set(0), set(1)])),
            Ask::Get(p, watch) => (Op::GET_DATA, Request::GetData { path: PATHS[p].into(), watch }),
            Ask::Sync => (Op::SYNC, Request::Sync { path: Some(PATHS[0].into()) }),
            Ask::GetBoth => {
                let reads = PATHS.map(|path| MultiReadOp::GetData { path: path.into() });
                (Op::MULTI_READ, Request::MultiRead(reads.into()))
            }
        };
        request.put_framed(self.sent as i32, code, &mut self.wire);
    }

    /// Decodes all complete frames in the inbox.
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
        let ReplyHeader { xid, zxid, err } = ReplyHeader::read(r).unwrap();
        assert_eq!(err, 0, "xid {xid}");
        if xid == xid::NOTIFICATION {
            let event = WatcherEvent::read(r).unwrap();
            assert_eq!(event.kind, EventType::NodeDataChanged as i32);
            return Got::Event(PATHS.iter().position(|p| *p == event.path).unwrap(), zxid);
        }
        let number = xid as usize - 1;
        let seen = match self.script[number] {
            Ask::Get(..) => {
                let (data, stat) = read_data(r).unwrap();
                vec![mzxid(data, stat)]
            }
            Ask::GetBoth => {
                let results = MultiResult::read_all(r).unwrap().into_iter();
                results
                    .map(|result| match result {
                        MultiResult::GetData { data, stat } => mzxid(data, stat),
                        other => panic!("{other:?}"),
                    })
                    .collect()
            }
            Ask::Sync => {
                assert_eq!(r.string().unwrap(), PATHS[0]);
                Vec::new()
            }
            Ask::Set(_) | Ask::SetBoth => Vec::new(),
        };
        Got::Reply(number, zxid, seen)
    }
}

fn mzxid(data: Option<&[u8]>, stat: Stat) -> Zxid {
    assert_eq!(data, Some(&b"value"[..]));
    stat.mzxid
}
